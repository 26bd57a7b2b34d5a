//! `cnitool`, the CNI project's own driver of plugins, on a [`Machine`].

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::kube::cni_path;
use super::{Machine, can_run};

/// The program, which is built where it is not there yet.
fn cnitool() -> Option<PathBuf> {
    if !can_run() {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/build-cnitool");
    let out = Command::new(&script).stdin(Stdio::null()).output().unwrap();
    if out.status.success() {
        return Some(PathBuf::from(String::from_utf8(out.stdout).unwrap().trim()));
    }
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs cnitool: {why}");
    eprintln!("skipped: needs cnitool (tools/build-cnitool): {why}");
    None
}

pub struct Driver {
    program: PathBuf,
    pub machine: Machine,
}

impl Driver {
    /// A machine with a pool of 64 addresses in blocks of eight.
    pub fn new() -> Option<Self> {
        let program = cnitool()?;
        let machine = Machine::new();
        machine.seed(&[("10.65.0.0/26", 29)]);
        std::fs::create_dir(machine.dir.path().join("net.d")).unwrap();
        // What libcni remembers of attachments.
        std::fs::create_dir(machine.dir.path().join("cache")).unwrap();
        Some(Self { program, machine })
    }

    /// The network's list of plugins: ours, and those that the version's list has after it.
    pub fn configure(&self, version: &str, chained: &[Value]) {
        let mut plugin = self.machine.conf(version, |_| {});
        plugin.as_object_mut().unwrap().retain(|k, _| k != "cniVersion" && k != "name");
        let plugins: Vec<Value> = std::iter::once(plugin).chain(chained.iter().cloned()).collect();
        let list = json!({ "cniVersion": version, "name": "peernet", "plugins": plugins });
        let path = self.machine.dir.path().join("net.d/10-calico.conflist");
        std::fs::write(&path, list.to_string()).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn call(&self, command: &str, pod: &str) -> Result<String, String> {
        self.call_with(command, pod, &Value::Null)
    }

    /// Standard output, or what cnitool complains of. `capabilities` become the plugins' `runtimeConfig`. cnitool keeps
    /// what it remembers in /var/lib/cni, which is replaced for this one call.
    pub fn call_with(&self, command: &str, pod: &str, capabilities: &Value) -> Result<String, String> {
        let own = Path::new(env!("CARGO_BIN_EXE_calico")).parent().unwrap();
        let cache = self.machine.dir.path().join("cache");
        let out = self.machine.ns.enter(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).unwrap();
            mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            std::fs::create_dir("/var/lib/cni").unwrap();
            mount(Some(&cache), "/var/lib/cni", none, MsFlags::MS_BIND, none).unwrap();
            Command::new(&self.program)
                .args([command, "peernet", pod])
                .env_clear()
                .env("NETCONFPATH", self.machine.dir.path().join("net.d"))
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("CNI_PATH", format!("{}:{}", own.display(), cni_path()))
                .env(
                    "CAP_ARGS",
                    if capabilities.is_null() { String::new() } else { capabilities.to_string() },
                )
                .stdin(Stdio::null())
                .output()
                .unwrap()
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}
