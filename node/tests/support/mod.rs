//! Real parts for tests: network namespaces, programs that fake a daemon.
#![allow(dead_code)] // each test file uses some of it

use std::process::Command;
use std::sync::Arc;

use libcalico_datastore::{ClientConfig, Datastore, connect};
use libcalico_testing::RealEtcd;

/// True where the test may make namespaces. Otherwise it says so; in CI that is a failure.
pub fn root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    missing("root")
}

/// True where a program is installed. Otherwise as [`root`].
pub fn has(program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() { true } else { missing(program) }
}

fn missing(what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI must have it");
    eprintln!("skipped: needs {what}");
    false
}

/// Runs a test in a network namespace of its own, which is gone with the thread.
pub fn in_namespace(commands: &[&str], test: impl FnOnce() + Send + 'static) {
    let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let done = Command::new("ip").args(&words).output().unwrap();
            assert!(done.status.success(), "ip {command}: {}", String::from_utf8_lossy(&done.stderr));
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A client of an etcd.
pub async fn store(etcd: &RealEtcd) -> Arc<dyn Datastore> {
    let endpoint = etcd.endpoint();
    let config = ClientConfig::from_lookup(|name| match name {
        "ETCD_ENDPOINTS" => Some(endpoint.clone()),
        _ => None,
    });
    connect(&config.unwrap()).await.unwrap()
}

/// True where a process runs: not gone, and no zombie.
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| {
        !matches!(s.rsplit(") ").next().and_then(|r| r.chars().next()), None | Some('Z' | 'X'))
    })
}
