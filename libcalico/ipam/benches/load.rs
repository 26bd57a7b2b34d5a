//! 10,000 addresses by 100 hosts on a real etcd: `room_for_all` (two blocks of 64 for each host), `nearly_full` (10,240
//! addresses in all: the last hosts borrow), both with and without fsync, and `processes_killed_at_random`.
//!
//! `HOSTS=` and `EACH=` change the numbers. After each run every record is compared with what the hosts were given; a
//! lost or doubled address ends the benchmark.

#[path = "../tests/load/mod.rs"]
mod load;
#[path = "../tests/support/mod.rs"]
#[allow(unused)]
mod support;

use std::process::Command;

use libcalico_testing::{EtcdOptions, RealEtcd};

/// Two blocks of 64 for each of a hundred hosts and room to spare.
const ROOMY: &[(&str, i64)] = &[("10.64.0.0/16", 26)];
/// 8,192 + 2,048.
const TIGHT: &[(&str, i64)] = &[("10.64.0.0/19", 26), ("10.65.0.0/21", 26)];
/// Times that each host's process is killed.
const KILLS: usize = 5;

fn main() {
    load::serve_as_worker();
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (hosts, each): (usize, usize) = (number("HOSTS", 100), number("EACH", 100));
    println!(
        "{:<28} {:<9} {:>9} {:>8} {:>9} {:>6} {:>10} {:>10} {:>6}",
        "workload", "etcd", "addresses", "per s", "conflicts", "worst", "median", "p99", "kills"
    );
    let workloads = [
        ("room_for_all", ROOMY, false, 0),
        ("room_for_all", ROOMY, true, 0),
        ("nearly_full", TIGHT, false, 0),
        ("nearly_full", TIGHT, true, 0),
        ("processes_killed_at_random", ROOMY, false, KILLS),
    ];
    for (name, pools, durable, kills) in workloads {
        let Some(etcd) = RealEtcd::launch(EtcdOptions { durable, ..EtcdOptions::default() }) else { return };
        let endpoint = etcd.endpoint();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = load::host_names(hosts);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        runtime.block_on(support::seed(&*load::connect(&endpoint), &names, pools));
        let outcome = match kills {
            0 => runtime.block_on(load::by_tasks(&endpoint, hosts, each)),
            _ => {
                let worker = || Command::new(std::env::current_exe().unwrap());
                load::by_processes(&endpoint, hosts, each, kills, &worker)
            }
        };
        runtime.block_on(load::verify(&endpoint, &outcome));
        let ms = |d: std::time::Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
        println!(
            "{name:<28} {:<9} {:>9} {:>8.0} {:>9} {:>6} {:>10} {:>10} {:>6}",
            if durable { "fsync" } else { "no fsync" },
            outcome.given.len(),
            outcome.rate(),
            outcome.conflicts(),
            outcome.worst(),
            ms(outcome.at_percent(50)),
            ms(outcome.at_percent(99)),
            outcome.kills
        );
    }
    println!("none lost, none double: every record compared with what each host was given");
}
