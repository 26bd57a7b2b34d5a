//! A real etcd: one server, or a cluster of three.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pki::Pki;
use crate::{Need, can_run, free_port, within};

/// How long a server may take until it listens, on a loaded machine.
const START: Duration = Duration::from_secs(300);

/// How a server is started. The default is one server without encryption or users that does not wait for its disk.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// Certificate, key and authority: clients need a certificate that the authority signed.
    pub tls: Option<[PathBuf; 3]>,
    /// Instead of a free one.
    pub client_port: Option<u16>,
    /// Wait for the disk on every write, as in production. Benchmarks do.
    pub durable: bool,
    /// Kept after the value is dropped, and read again by the next server that is given it.
    pub data: Option<PathBuf>,
    /// Further arguments.
    pub extra: Vec<String>,
    /// Instead of `etcd` of the path.
    pub program: Option<PathBuf>,
}

/// An etcd server of one test.
pub struct RealEtcd {
    child: Option<Child>,
    program: PathBuf,
    arguments: Vec<String>,
    scheme: &'static str,
    port: u16,
    /// For [`RealEtcd::etcdctl`].
    client_tls: Option<[PathBuf; 3]>,
    user: Option<String>,
    directory: tempfile::TempDir,
}

impl RealEtcd {
    /// A server without encryption or users. `None` where etcd is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::launch(EtcdOptions::default())
    }

    /// A server that talks to clients with a certificate of `ca` alone. Its own certificate is `server`.
    #[must_use]
    pub fn start_tls(pki: &Pki) -> Option<Self> {
        let tls = Some([pki.cert("server"), pki.key("server"), pki.cert("ca")]);
        let mut etcd = Self::launch(EtcdOptions { tls, ..EtcdOptions::default() })?;
        etcd.client_tls = Some([pki.cert("client"), pki.key("client"), pki.cert("ca")]);
        Some(etcd)
    }

    /// A server that asks for a user: `root` with this password.
    #[must_use]
    pub fn start_auth(password: &str) -> Option<Self> {
        if !can_run(&[Need::Etcd, Need::Etcdctl]) {
            return None;
        }
        let mut etcd = Self::start()?;
        etcd.etcdctl(&["user", "add", &format!("root:{password}")]);
        etcd.etcdctl(&["user", "grant-role", "root", "root"]);
        etcd.etcdctl(&["auth", "enable"]);
        etcd.user = Some(format!("root:{password}"));
        Some(etcd)
    }

    /// A server with options. Where it is called in a network namespace, the server is inside too.
    #[must_use]
    pub fn launch(options: EtcdOptions) -> Option<Self> {
        if options.program.is_none() && !can_run(&[Need::Etcd]) {
            return None;
        }
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut etcd = Self::prepare(options, "etcd", &peer, &format!("etcd={peer}"));
        etcd.run();
        Some(etcd)
    }

    fn prepare(options: EtcdOptions, name: &str, peer: &str, cluster: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory for etcd");
        let port = options.client_port.unwrap_or_else(free_port);
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{port}");
        let data = options.data.unwrap_or_else(|| directory.path().join("data"));
        let mut arguments = vec![
            format!("--name={name}"),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
        ];
        if !options.durable {
            arguments.push("--unsafe-no-fsync".to_owned());
        }
        if let Some([cert, key, ca]) = &options.tls {
            arguments.extend([
                format!("--cert-file={}", cert.display()),
                format!("--key-file={}", key.display()),
                format!("--trusted-ca-file={}", ca.display()),
                "--client-cert-auth".to_owned(),
            ]);
        }
        arguments.extend(options.extra);
        let program = options.program.unwrap_or_else(|| "etcd".into());
        Self { child: None, program, arguments, scheme, port, client_tls: None, user: None, directory }
    }

    /// Starts the process (again) over the same data and ports, and waits until it listens.
    pub fn run(&mut self) {
        self.spawn();
        self.listens();
    }

    fn spawn(&mut self) {
        let log = std::fs::File::create(self.log()).expect("etcd's log");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_remove("ETCDCTL_API")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("etcd starts"));
    }

    fn listens(&mut self) {
        let (port, log) = (self.port, self.log());
        let Some(child) = &mut self.child else { return };
        within(START, "etcd listens", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("etcd ended, {status}:\n{}", tail(&log));
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the process without ending it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Ends [`RealEtcd::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(|c| i32::try_from(c.id()).ok()).expect("a running etcd");
        kill(Pid::from_raw(id), signal).expect("a signal to etcd");
    }

    /// The process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `http://127.0.0.1:PORT` or `https://…`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs etcdctl against this server, with what it asks for. What it printed and complained of.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &self.endpoint(),
            "--dial-timeout",
            "30s",
            "--command-timeout",
            "60s",
        ]);
        if let Some([cert, key, ca]) = &self.client_tls {
            command.arg("--cert").arg(cert).arg("--key").arg(key).arg("--cacert").arg(ca);
        }
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        let out = command.args(arguments).output().expect("etcdctl (apt install etcd-client)");
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that are one store.
pub struct EtcdCluster {
    pub members: Vec<RealEtcd>,
}

impl EtcdCluster {
    /// `None` where etcd is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        if !can_run(&[Need::Etcd]) {
            return None;
        }
        let peers: Vec<(String, String)> =
            (0..3).map(|i| (format!("etcd{i}"), format!("http://127.0.0.1:{}", free_port()))).collect();
        let all = peers.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let mut members: Vec<RealEtcd> = peers
            .iter()
            .map(|(name, url)| {
                // Patient with each other: on a busy machine they would choose a new leader now and then.
                let extra =
                    ["--heartbeat-interval=300", "--election-timeout=3000"].map(str::to_owned).to_vec();
                RealEtcd::prepare(EtcdOptions { extra, ..EtcdOptions::default() }, name, url, &all)
            })
            .collect();
        // None of them listens before most of them run.
        members.iter_mut().for_each(RealEtcd::spawn);
        members.iter_mut().for_each(RealEtcd::listens);
        Some(Self { members })
    }

    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(RealEtcd::endpoint).collect()
    }
}

/// The end of a log, for a panic.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
