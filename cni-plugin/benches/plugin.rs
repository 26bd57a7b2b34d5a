//! ADD and DEL beside a peer in the same run: `calls_one_at_a_time` and `calls_16_at_once`, on a real etcd.
//!
//! `PEER=DIR` names a directory with another `calico` binary, called with the same configuration. `FSYNC=1` lets etcd
//! write to the disk as in production. Prints median and p99 of the time of a call, its CPU time and its peak memory.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use support::{Machine, NetNs, can_run, environment};

const CALLS: usize = 100;

fn main() {
    if !can_run() {
        return;
    }
    let mut plugins = vec![("ours", PathBuf::from(env!("CARGO_BIN_EXE_calico")))];
    if let Some(dir) = std::env::var_os("PEER") {
        plugins.push(("peer", PathBuf::from(dir).join("calico")));
    }
    println!("{:<6} {:<28} {:>10} {:>10} {:>10}", "plugin", "workload", "median", "p99", "cpu/call");
    for (name, program) in &plugins {
        let m = Machine::new();
        m.seed(&[("10.65.0.0/16", 26)]);
        let conf = m.conf("0.3.1", |c| c["log_level"] = "info".into());
        for width in [1, 16] {
            let pods: Vec<NetNs> = (0..width).map(|_| NetNs::new()).collect();
            for command in ["ADD", "DEL"] {
                let _ = m.call_program(program, &conf, &environment("VERSION", "x", ""));
                let mut rounds = Vec::new();
                let mut cpu = Duration::ZERO;
                for round in 0..CALLS.div_ceil(width) {
                    if command == "DEL" {
                        each(&m, program, &conf, "ADD", &pods, round);
                    }
                    let before = children_cpu();
                    rounds.extend(each(&m, program, &conf, command, &pods, round));
                    cpu += children_cpu() - before;
                    if command == "ADD" {
                        each(&m, program, &conf, "DEL", &pods, round);
                    }
                }
                rounds.sort_unstable();
                let at = |q: f64| rounds[((rounds.len() - 1) as f64 * q) as usize];
                println!(
                    "{name:<6} {:<28} {:>10.1?} {:>10.1?} {:>10.1?}",
                    format!("{command}_{width}_at_once"),
                    at(0.5),
                    at(0.99),
                    cpu / u32::try_from(rounds.len()).unwrap()
                );
            }
        }
    }
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map(|u| u.max_rss()).unwrap_or_default();
    println!("largest child (etcd and tools included): {} MiB", peak / 1024);
}

fn each(
    m: &Machine,
    program: &std::path::Path,
    conf: &serde_json::Value,
    command: &str,
    pods: &[NetNs],
    round: usize,
) -> Vec<Duration> {
    std::thread::scope(|s| {
        let calls: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(i, pod)| {
                s.spawn(move || {
                    let (id, path) = (format!("bench{i}r{round}"), pod.path());
                    let started = Instant::now();
                    m.call_program(program, conf, &environment(command, &id, &path)).success();
                    started.elapsed()
                })
            })
            .collect();
        calls.into_iter().map(|c| c.join().unwrap()).collect()
    })
}

fn children_cpu() -> Duration {
    let u = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let of = |t: nix::sys::time::TimeVal| Duration::new(t.tv_sec() as u64, t.tv_usec() as u32 * 1000);
    of(u.user_time()) + of(u.system_time())
}
