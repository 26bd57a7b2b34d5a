//! Directories that stand for a host's and an image's, the installer as a process, and a Felix that only says whether
//! it is ready.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub struct Host {
    pub dir: tempfile::TempDir,
}

impl Host {
    /// An image with our programs and one of others, and an empty host.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for d in ["image", "bin", "net.d"] {
            fs::create_dir(dir.path().join(d)).unwrap();
        }
        let host = Self { dir };
        fs::copy(env!("CARGO_BIN_EXE_calico"), host.path("image/calico")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_calico-ipam"), host.path("image/calico-ipam")).unwrap();
        for small in ["portmap", "install"] {
            fs::write(host.path("image").join(small), "#!/bin/sh\n").unwrap();
            fs::set_permissions(host.path("image").join(small), fs::Permissions::from_mode(0o755)).unwrap();
        }
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.path("bin").join(name)
    }

    pub fn net(&self, name: &str) -> PathBuf {
        self.path("net.d").join(name)
    }

    pub fn mode(&self, path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    /// What a runtime would read.
    pub fn configurations(&self) -> Vec<String> {
        let mut names = self.all_below("net.d");
        names.retain(|n| !n.contains('/') && (n.ends_with(".conflist") || n.ends_with(".conf")));
        names
    }

    /// Every file below one of the host's directories.
    pub fn all_below(&self, name: &str) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, all: &mut Vec<String>) {
            for e in fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
                let name = format!("{prefix}{}", e.file_name().to_string_lossy());
                match e.path().is_dir() {
                    true => walk(&e.path(), &format!("{name}/"), all),
                    false => all.push(name),
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.path(name), "", &mut all);
        all.sort();
        all
    }

    pub fn command(&self) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_install"));
        c.env_clear().arg("--from").arg(self.path("image"));
        c.arg("--host-bin-dir").arg(self.path("bin")).arg("--host-net-dir").arg(self.path("net.d"));
        c
    }

    /// Runs the installer to its end: its log, as an error where it failed.
    pub fn run(&self, set: &[(&str, &str)]) -> Result<String, String> {
        self.run_with(&[], set)
    }

    pub fn run_with(&self, arguments: &[&str], set: &[(&str, &str)]) -> Result<String, String> {
        finish(self.command().args(arguments).envs(set.iter().copied()))
    }

    /// Starts an installer that stays.
    pub fn start(&self, set: &[(&str, &str)]) -> Running {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut c = self.command();
        c.envs(set.iter().copied()).stdout(log.try_clone().unwrap()).stderr(log);
        Running(c.spawn().unwrap())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

pub fn finish(command: &mut Command) -> Result<String, String> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    let log = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() { Ok(log) } else { Err(log) }
}

/// A process that is killed when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Answers 503, then 200.
pub struct Felix {
    port: u16,
    ready: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Felix {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ready, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (r, a) = (Arc::clone(&ready), Arc::clone(&asked));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 512];
                let _ = stream.read(&mut request);
                a.fetch_add(1, Ordering::Relaxed);
                let status = if r.load(Ordering::Relaxed) { "200 OK" } else { "503 Service Unavailable" };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            }
        });
        Self { port, ready, asked }
    }

    pub fn port(&self) -> String {
        self.port.to_string()
    }

    pub fn be_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}
