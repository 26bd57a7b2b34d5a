//! Hosts as real processes that die or stop at any moment, on a real etcd: nothing is lost, nothing given twice, and
//! nobody waits for the dead.

mod load;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use libcalico_ipam::{AssignRequest, Owner};
use libcalico_testing::RealEtcd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::seed;

/// This test again, as a worker.
fn worker() -> Command {
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.args(["--exact", "a_worker_of_the_other_tests", "--nocapture", "--quiet"]);
    c
}

#[test]
fn a_worker_of_the_other_tests() {
    load::serve_as_worker();
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn killed_processes_neither_lose_nor_double_an_address() {
    const HOSTS: usize = 8;
    const EACH: usize = 24;
    let Some(etcd) = RealEtcd::start() else { return };
    let names = load::host_names(HOSTS);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // 256 addresses for 192: hosts claim, take blocks from each other, and borrow.
    run(seed(&*load::connect(&etcd.endpoint()), &names, &[("10.9.0.0/24", 28)]));
    let queues = tempfile::tempdir().unwrap();
    let worker = || {
        let mut c = worker();
        c.env(load::QUEUES, queues.path());
        c
    };
    let outcome = load::by_processes(&etcd.endpoint(), HOSTS, EACH, 6, &worker);
    eprintln!(
        "{} addresses, {} kills, {} given to the dead, {} conflicts, at most {} in one",
        outcome.given.len(),
        outcome.kills,
        outcome.unheard,
        outcome.conflicts(),
        outcome.worst()
    );
    assert_eq!(outcome.given.len(), HOSTS * EACH);
    assert!(outcome.kills > HOSTS, "{}", outcome.kills);
    run(load::verify(&etcd.endpoint(), &outcome));
}

#[test]
fn a_process_that_stops_holds_nobody_up() {
    let Some(etcd) = RealEtcd::start() else { return };
    let endpoint = etcd.endpoint();
    // Blocks of four: nearly every assignment is the claim of a new block, with its several writes.
    run(seed(&*load::connect(&endpoint), &["node-a", "node-b"], &[("10.9.0.0/20", 30)]));
    let queues = tempfile::tempdir().unwrap();
    let worker = || {
        let mut c = worker();
        c.env(load::QUEUES, queues.path());
        c
    };
    let mut worst = Duration::ZERO;
    let mut stopped = Vec::new();
    for i in 0..12_u64 {
        let child = load::spawn(&worker, &endpoint, "node-a", 0, 1_000, i as usize);
        std::thread::sleep(Duration::from_millis(30) + Duration::from_micros(i * 1_700));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).unwrap();
        // It may have stopped between any two of its calls. The same host and another one go on.
        for host in ["node-a", "node-b"] {
            let client = load::queued(&endpoint, host, queues.path());
            let begun = Instant::now();
            let request = AssignRequest {
                num_v4: 5,
                handle_id: Some(format!("beside-{host}-{i}")),
                ..AssignRequest::workload(Owner::host(host))
            };
            let got = run(client.assign(&request)).unwrap();
            assert_eq!(got.addresses.len(), 5);
            worst = worst.max(begun.elapsed());
        }
        stopped.push(child);
    }
    eprintln!("beside stopped processes: at most {worst:?}");
    // Nobody waits for one that stands still: that would be for ever.
    assert!(worst < Duration::from_secs(60), "{worst:?}");
    for mut child in stopped {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(async { support::State::read(&*load::connect(&endpoint)).await.check_at_rest() });
}
