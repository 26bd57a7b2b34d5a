//! Checks on a real Kubernetes cluster: API server, kubelets, containerd, and our Calico as their network.
//!
//! `cargo test -p e2e --test k8s -- [--long] [WORDS]`: brings a cluster up (or uses the one that stands), runs every
//! check whose name has one of the words, and takes it down. `--long` adds the checks that take minutes. Each check has
//! a namespace of its own and leaves the cluster as it was; the last one looks whether that is true.

mod latency;
mod pods;
mod restart;
mod scale;
mod support;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use e2e::k8s::{self, Cluster};

/// A check: a sentence, whether it takes minutes, and what to do.
type Check = (&'static str, bool, fn(&Cluster));

const CHECKS: [Check; 13] = [
    ("a node has its address in annotations and is ready", false, pods::nodes),
    ("pods reach each other by address on one node and across nodes", false, pods::by_address),
    ("pods reach a Service by its address and a node's port", false, pods::by_service),
    ("a Service has only pods whose readiness probe succeeds", false, pods::readiness),
    ("exec, logs and port-forward work", false, pods::exec_logs_forward),
    ("a host port leads to its pod", false, pods::host_port),
    ("a NetworkPolicy cuts and opens what it says", false, pods::policy),
    ("a NetworkPolicy acts soon after it is written", true, latency::policy),
    ("a Deployment of 40 pods comes and goes", false, scale::once),
    ("a Deployment of 40 pods comes and goes ten times", true, scale::ten_times),
    ("pods keep their traffic while calico-node is killed and started", false, restart::calico_node),
    ("a node whose kubelet and containerd are killed loses nothing and keeps nothing", true, restart::node),
    ("nothing is left of deleted pods", false, scale::nothing_left),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let long = arguments.iter().any(|a| a == "--long");
    // What cargo passes to every test program (`--test-threads=1`, `--quiet`) has no meaning here.
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    if arguments.iter().any(|a| a == "--list") {
        CHECKS.iter().for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(missing) = k8s::missing() {
        if std::env::var("CI").as_deref() == Ok("true") {
            eprintln!("a Kubernetes cluster needs {missing}, and in CI nothing may be skipped");
            return ExitCode::FAILURE;
        }
        eprintln!("skipped: needs {missing}");
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let cluster = match Cluster::up(&bin_dir()) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("cluster up: {:.1} s", start.elapsed().as_secs_f32());
    let mut failed = 0;
    for (name, takes_minutes, check) in CHECKS {
        if (takes_minutes && !long) || !(words.is_empty() || words.iter().any(|w| name.contains(w.as_str())))
        {
            continue;
        }
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(&cluster)));
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("ok      {seconds:6.1} s  {name}"),
            Err(panic) => {
                failed += 1;
                println!("FAILED  {seconds:6.1} s  {name}\n        {}", said(panic.as_ref()));
            }
        }
    }
    drop(cluster);
    println!("{failed} failed, {:.1} s", start.elapsed().as_secs_f32());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked")
}

/// The folder of the binaries under test: `LAB_BIN_DIR`, else where cargo puts them.
fn bin_dir() -> PathBuf {
    match std::env::var_os("LAB_BIN_DIR") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_BIN_EXE_lab")).parent().map(PathBuf::from).unwrap_or_default(),
    }
}
