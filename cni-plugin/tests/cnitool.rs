//! `cnitool`, the CNI project's own driver, calls the plugin as a runtime does: every command in every version.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use support::{Machine, NetNs, can_run};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

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

struct Driver {
    program: PathBuf,
    machine: Machine,
}

impl Driver {
    fn new() -> Option<Self> {
        let program = cnitool()?;
        let machine = Machine::new();
        machine.seed(&[("10.65.0.0/26", 29)]);
        std::fs::create_dir(machine.dir.path().join("net.d")).unwrap();
        // What libcni remembers of attachments.
        std::fs::create_dir(machine.dir.path().join("cache")).unwrap();
        Some(Self { program, machine })
    }

    fn configure(&self, version: &str) {
        let mut plugin = self.machine.conf(version, |_| {});
        plugin.as_object_mut().unwrap().retain(|k, _| k != "cniVersion" && k != "name");
        let list = json!({ "cniVersion": version, "name": "peernet", "plugins": [plugin] });
        let path = self.machine.dir.path().join("net.d/10-calico.conflist");
        std::fs::write(&path, list.to_string()).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Standard output, or what cnitool complains of. It keeps what it remembers in /var/lib/cni, which is replaced for
    /// this one call.
    fn call(&self, command: &str, pod: &str) -> Result<String, String> {
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
                .env("CNI_PATH", Path::new(env!("CARGO_BIN_EXE_calico")).parent().unwrap())
                .stdin(Stdio::null())
                .output()
                .unwrap()
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}

#[test]
fn every_command_works_in_every_version() {
    let Some(d) = Driver::new() else { return };
    for version in VERSIONS {
        d.configure(version);
        let pods = [NetNs::new(), NetNs::new()];
        let paths = [pods[0].path(), pods[1].path()];
        let say = |what: &str, e: String| -> ! { panic!("{version} {what}: {e}") };
        d.call("status", &paths[0]).unwrap_or_else(|e| say("STATUS", e));

        let mut addresses = Vec::new();
        for path in &paths {
            let result = d.call("add", path).unwrap_or_else(|e| say("ADD", e));
            let result: Value = serde_json::from_str(&result).unwrap();
            assert_eq!(result["cniVersion"], version);
            addresses.push(result["ips"][0]["address"].as_str().unwrap().to_owned());
        }
        assert_ne!(addresses[0], addresses[1]);
        assert!(pods[0].exec("ip -4 address show eth0").contains(&addresses[0]), "{version}: {addresses:?}");

        // Before 0.4.0 there is no CHECK, and libcni says so by itself.
        match d.call("check", &paths[0]) {
            Ok(_) => assert!(version >= "0.4.0"),
            Err(e) => {
                assert!(version < "0.4.0" && e.contains("does not support the CHECK"), "{version}: {e}");
            }
        }
        if version >= "0.4.0" {
            support::run("ip", &["-n", &pods[0].name, "address", "flush", "dev", "eth0"]);
            let e = d.call("check", &paths[0]).unwrap_err();
            assert!(e.contains(addresses[0].trim_end_matches("/32")), "{version}: {e}");
        }

        for _ in 0..2 {
            d.call("del", &paths[0]).unwrap_or_else(|e| say("DEL", e));
        }
        assert_eq!(d.machine.allocated().len(), 1, "{version}");
        assert_eq!(pods[0].exec("ip -o link show eth0"), "");

        // cnitool names no valid attachment: everything of this network is to go.
        d.call("gc", &paths[1]).unwrap_or_else(|e| say("GC", e));
        d.machine.assert_clean();
    }
}

#[test]
fn errors_reach_the_runtime_with_what_to_do() {
    let Some(mut d) = Driver::new() else { return };
    d.configure("1.1.0");
    let pod = NetNs::new();
    let missing = d.call("add", "/run/netns/cnit-nothing").unwrap_err();
    assert!(missing.contains("cnit-nothing"), "{missing}");
    d.machine.stop_etcd();
    let begun = std::time::Instant::now();
    for command in ["add", "status"] {
        let e = d.call(command, &pod.path()).unwrap_err();
        assert!(e.contains("127.0.0.1:2379") && e.contains("check that it runs"), "{command}: {e}");
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    d.machine.start_etcd();
    d.call("add", &pod.path()).unwrap();
    d.call("del", &pod.path()).unwrap();
    d.machine.assert_clean();
}
