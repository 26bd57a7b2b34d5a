//! Figures of the table driver beside the `nft` program, in one namespace, on one machine: run by hand with
//! `cargo test -p felix-dataplane --test figures -- --ignored --nocapture`.

mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_message::{IpSetDelta, IpSetMember, Message, WorkloadEndpoint};
use lab::{Felix, Namespace, allow, cpu, one_policy, one_set, profile, ready, tier};
use libcalico_model::key::WorkloadEndpointKey;

const ENDPOINTS: u32 = 1000;

fn endpoint(n: u32) -> Message {
    let e = WorkloadEndpoint {
        active: true,
        interface_name: format!("cali{n:08x}"),
        profiles: vec!["open".to_owned()],
        ipv4_nets: vec![format!("10.128.{}.{}/32", n / 256, n % 256).parse().unwrap()],
        // With CALICO_FIGURES_DUAL set endpoints have both families: twice the rules.
        ipv6_nets: std::env::var_os("CALICO_FIGURES_DUAL")
            .map(|_| format!("fd00::{n:x}/128").parse().unwrap())
            .into_iter()
            .collect(),
        tiers: vec![tier(&[&format!("p{n}")], &[&format!("p{n}")])].into(),
        ..WorkloadEndpoint::default()
    };
    let key = WorkloadEndpointKey {
        host: "host".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: format!("default/w{n}"),
        endpoint: "eth0".to_owned(),
    };
    Message::WorkloadEndpointUpdate(key, Arc::new(e))
}

fn own_policy(n: u32, port: u16) -> Message {
    one_policy(n, port, &format!("app == 'a{n}'"))
}

fn world() -> Vec<Message> {
    let mut out = vec![profile("open", vec![allow()], vec![allow()])];
    for n in 0..ENDPOINTS {
        out.push(one_set(n));
        out.push(own_policy(n, 80));
        out.push(endpoint(n));
    }
    out.push(Message::InSync);
    out
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn line(what: &str, took: Duration) {
    println!("{what:<60} {took:>10.1?}");
}

#[test]
#[ignore = "figures, by hand"]
fn figures() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let felix = Felix::start(&host, Config::default());
    let begin = Instant::now();
    let operations = felix.apply(world());
    line(&format!("netlink: program_{ENDPOINTS}_endpoints ({operations} operations)"), begin.elapsed());

    let before = cpu();
    let times = (0..100_u16).map(|i| {
        let begin = Instant::now();
        felix.apply(vec![own_policy(u32::from(i), 90)]);
        begin.elapsed()
    });
    let (p50, p99) = median(times.collect());
    let after = cpu();
    line(&format!("netlink: one_policy_of_{ENDPOINTS} processor, ours"), (after.0 - before.0) / 100);
    line(&format!("netlink: one_policy_of_{ENDPOINTS} processor, the kernel's"), (after.1 - before.1) / 100);
    line(&format!("netlink: one_policy_of_{ENDPOINTS} median"), p50);
    line(&format!("netlink: one_policy_of_{ENDPOINTS} p99"), p99);
    let times = (0..100_u8).map(|i| {
        let begin = Instant::now();
        let added = vec![IpSetMember::Net(format!("192.0.2.{i}/32").parse().unwrap())];
        felix.apply(vec![Message::IpSetDelta(IpSetDelta { id: "s:set7".into(), added, removed: vec![] })]);
        begin.elapsed()
    });
    let (p50, p99) = median(times.collect());
    line("netlink: one_member median", p50);
    line("netlink: one_member p99", p99);
    felix.stop();
    let begin = Instant::now();
    let felix = Felix::start(&host, Config::default());
    let mut again = world();
    again.extend((0..100).map(|i| own_policy(i, 90)));
    felix.apply(again);
    line("netlink: restart, read back and compare", begin.elapsed());
    felix.stop();

    host.must("nft list ruleset > /tmp/fdp-figures.nft && nft delete table ip calico && nft delete table ip6 calico");
    let begin = Instant::now();
    host.must("nft -f /tmp/fdp-figures.nft");
    line("nft -f: the same ruleset", begin.elapsed());
    let begin = Instant::now();
    host.must("nft -j list ruleset > /dev/null");
    line("nft -j list ruleset", begin.elapsed());
    let times = (0..20).map(|i| {
        let begin = Instant::now();
        host.must(&format!(
            "printf 'flush chain ip calico filter-cali-pi-gnp/p{i}\\nadd rule ip calico filter-cali-pi-gnp/p{i} tcp dport 91 counter meta mark set meta mark | 0x10000\\n' | nft -f -"
        ));
        begin.elapsed()
    });
    let (p50, p99) = median(times.collect());
    line("nft -f -: one chain median (a process each, with sh)", p50);
    line("nft -f -: one chain p99", p99);
    let times = (0..20).map(|i| {
        let begin = Instant::now();
        host.must(&format!("echo 'add element ip calico cali40s-set8 {{ 192.0.2.{i} }}' | nft -f -"));
        begin.elapsed()
    });
    line("nft -f -: one member median", median(times.collect()).0);
    let begin = Instant::now();
    host.must("true");
    line("an empty command the same way", begin.elapsed());
    let _ = std::fs::remove_file("/tmp/fdp-figures.nft");
}
