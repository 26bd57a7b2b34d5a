//! Figures of the table driver beside the `nft` program, in one namespace, on one machine: run by hand with
//! `cargo test -p felix-dataplane --test figures -- --ignored --nocapture`.

mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_dataplane::config::Backend;
use felix_message::{
    IpSetDelta, IpSetKind, IpSetMember, IpSetUpdate, Message, PortRange, Rule, WorkloadEndpoint,
};
use lab::{Felix, Namespace, allow, policy, profile, ready, tier};
use libcalico_api::num_or_string::Protocol;
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

fn one_policy(n: u32, port: u16) -> Message {
    let mut rule = Rule { protocol: Some(Protocol::Number(6)), ..allow() };
    rule.src.ip_sets = vec![format!("s:set{n}").into()];
    rule.dst.ports = vec![PortRange { first: port, last: port }];
    policy(&format!("p{n}"), vec![rule], vec![allow()])
}

fn one_set(n: u32) -> Message {
    let member = |i: u32| IpSetMember::Net(format!("10.{}.{}.{i}/32", n / 256, n % 256).parse().unwrap());
    Message::IpSetUpdate(IpSetUpdate {
        id: format!("s:set{n}").into(),
        kind: IpSetKind::Net,
        members: (0..10).map(member).collect(),
    })
}

fn one_more(n: u32) -> Vec<Message> {
    vec![one_set(n), one_policy(n, 80), endpoint(n)]
}

fn world() -> Vec<Message> {
    let mut out = vec![profile("open", vec![allow()], vec![allow()])];
    for n in 0..ENDPOINTS {
        out.push(one_set(n));
        out.push(one_policy(n, 80));
        out.push(endpoint(n));
    }
    out.push(Message::InSync);
    out
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Processor time of this process so far, its own and the kernel's: says something on a busy machine too.
fn cpu() -> Option<(Duration, Duration)> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = |t: nix::sys::time::TimeVal| Duration::from_micros(t.num_microseconds().cast_unsigned());
    Some((time(usage.user_time()), time(usage.system_time())))
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
        felix.apply(vec![one_policy(u32::from(i), 90)]);
        begin.elapsed()
    });
    let (p50, p99) = median(times.collect());
    let each = cpu().zip(before).map(|((u, k), (u0, k0))| (u - u0, k - k0));
    if let Some((user, kernel)) = each {
        line(&format!("netlink: one_policy_of_{ENDPOINTS} processor, ours"), user / 100);
        line(&format!("netlink: one_policy_of_{ENDPOINTS} processor, the kernel's"), kernel / 100);
    }
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
    again.extend((0..100).map(|i| one_policy(i, 90)));
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

/// Programming, one policy more, one member, restart: each backend on one machine.
#[test]
#[ignore = "figures, by hand"]
fn backends() {
    if !ready() {
        return;
    }
    let all = [
        (Backend::Nftables, "nftables"),
        (Backend::IptablesNft, "iptables-nft"),
        (Backend::IptablesLegacy, "iptables-legacy"),
    ];
    for (backend, name) in all {
        let host = Namespace::host();
        let config = Config { backend, post_write_check: Duration::ZERO, ..Config::default() };
        let felix = Felix::start(&host, config.clone());
        let begin = Instant::now();
        let written = felix.write(world());
        let what = format!(
            "{name}: program_{ENDPOINTS}_endpoints ({} operations, {} bytes)",
            written.operations, written.bytes
        );
        line(&what, begin.elapsed());
        let mut bytes = 0;
        let times = (0..50_u16).map(|i| {
            let begin = Instant::now();
            bytes = felix.write(vec![one_policy(u32::from(i), 90)]).bytes;
            begin.elapsed()
        });
        let (p50, p99) = median(times.collect());
        line(&format!("{name}: one_policy_changed median ({bytes} bytes)"), p50);
        line(&format!("{name}: one_policy_changed p99"), p99);
        let times = (0..50_u32).map(|i| {
            let begin = Instant::now();
            bytes = felix.write(one_more(ENDPOINTS + i)).bytes;
            begin.elapsed()
        });
        let (p50, p99) = median(times.collect());
        line(&format!("{name}: one_policy_and_endpoint_more median ({bytes} bytes)"), p50);
        line(&format!("{name}: one_policy_and_endpoint_more p99"), p99);
        let times = (0..50_u8).map(|i| {
            let begin = Instant::now();
            let added = vec![IpSetMember::Net(format!("192.0.2.{i}/32").parse().unwrap())];
            let delta = IpSetDelta { id: "s:set7".into(), added, removed: vec![] };
            bytes = felix.write(vec![Message::IpSetDelta(delta)]).bytes;
            begin.elapsed()
        });
        let (p50, _) = median(times.collect());
        line(&format!("{name}: one_member median ({bytes} bytes)"), p50);
        felix.stop();
        let begin = Instant::now();
        let felix = Felix::start(&host, config);
        let mut again = world();
        again.extend((0..50).map(|i| one_policy(i, 90)));
        again.extend((ENDPOINTS..ENDPOINTS + 50).flat_map(one_more));
        let operations = felix.apply(again);
        line(&format!("{name}: restart, read back and compare ({operations} operations)"), begin.elapsed());
    }
}
