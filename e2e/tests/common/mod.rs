//! What every test of the lab needs: the check for root, and labs that take themselves down.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use e2e::probe::Protocol;
use e2e::{Expect, Lab, LabConfig, Place, Pod, PodSpec, Target};

/// Whether labs can be made here. In CI (`CI=true`) a missing privilege or tool is a failure, elsewhere a visible
/// skip.
pub fn can_run(tools: &[&str]) -> bool {
    let missing = if nix::unistd::geteuid().is_root() {
        tools.iter().find(|tool| !PathBuf::from(tool).is_file()).map(|tool| format!("needs {tool}"))
    } else {
        Some("needs root".to_owned())
    };
    let Some(missing) = missing else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}, and in CI nothing may be skipped");
    eprintln!("skipped: {missing}");
    false
}

/// The folder of the binaries under test: `LAB_BIN_DIR`, else where cargo puts them.
pub fn bin_dir() -> PathBuf {
    match std::env::var_os("LAB_BIN_DIR") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env!("CARGO_BIN_EXE_lab")).parent().map(PathBuf::from).unwrap_or_default(),
    }
}

/// A lab's configuration with the binaries under test. A lab of that name left by an earlier, killed run of the
/// test is removed first.
pub fn config(name: &str) -> LabConfig {
    let _ = Lab::down(name);
    LabConfig { bin_dir: Some(bin_dir()), ..LabConfig::named(name) }
}

/// A whole lab, ready.
pub fn up(config: LabConfig) -> Lab {
    let name = config.name.clone();
    match Lab::up_or_down(config, &|line| eprintln!("[{name}] {line}")) {
        Ok(lab) => lab,
        Err(e) => panic!("{e}"),
    }
}

/// One lab at a time in a test binary: two cores do not carry more without disturbing what is measured.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Debian's programs that a whole lab needs.
pub const ETCD: &str = "/usr/bin/etcd";

pub fn machine(name: &str) -> Place {
    Place::Machine(name.to_owned())
}

/// Makes a pod in namespace `default` with a server at port 80.
pub fn pod(lab: &Lab, name: &str, node: &str, labels: &[(&str, &str)]) -> Pod {
    let mut spec = PodSpec::new("default", name, node).unwrap().serve(80);
    for (key, value) in labels {
        spec = spec.label(key, value);
    }
    lab.pod_run(spec).unwrap_or_else(|e| panic!("{e}"))
}

/// The place of a pod.
pub fn inside(pod: &Pod) -> Place {
    Place::Pod(pod.name.clone())
}

/// Asks by TCP from one pod to another and insists on the result.
pub fn expect(lab: &Lab, from: &Pod, to: &Pod, expect: Expect) {
    let target = Target { host: to.name.to_string(), port: None };
    let report = lab.probe(&inside(from), &target, Protocol::Tcp, Some(expect)).unwrap();
    assert!(report.matches(expect), "{} → {}: {report}, expected {expect}", from.name, to.name);
}

/// Waits until it is so: a policy acts when every daemon on its way has come to it.
pub fn becomes(lab: &Lab, from: &Pod, to: &Pod, expect: Expect) {
    let target = Target { host: to.name.to_string(), port: None };
    eventually(&format!("{} → {}: {expect}", from.name, to.name), Duration::from_secs(120), || {
        let report = lab.probe(&inside(from), &target, Protocol::Tcp, Some(expect)).unwrap();
        if report.matches(expect) { Ok(()) } else { Err(report.to_string()) }
    });
}

/// Waits until a condition holds; panics with what was seen instead.
pub fn eventually(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<(), String>) -> Duration {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(()) => return start.elapsed(),
            Err(seen) => assert!(start.elapsed() < limit, "waited {limit:?} for {what}; last seen: {seen}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A policy in namespace `default` that lets nothing in to pods with `app == 'NAME'`.
pub fn deny_ingress_to(app: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: deny-{app}\n  \
         namespace: default\nspec:\n  selector: app == '{app}'\n  types: [Ingress]\n"
    )
}
