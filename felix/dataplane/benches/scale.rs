//! Many policies on many local endpoints: first programming, one policy more, one member more, restart, memory.
//!
//! `cargo bench -p felix-dataplane --bench scale`, as root. Words on the command line choose: backends (`nftables`,
//! `iptables-nft`, `iptables-legacy`; default nftables), shapes (`own`: each policy is for one endpoint; `all`: each is
//! for all endpoints; default own), `dual` for both families, `=N` for another number than 1,000. Endpoints have
//! interfaces, so that routes and settings are written too. Processor time is this process's and the kernel's in its
//! name, children included: it says something on a busy machine, where the clock says little.

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_dataplane::config::Backend;
use felix_message::{IpSetDelta, IpSetMember, Message, TierInfo, WorkloadEndpoint};
use lab::{Felix, Namespace, allow, cpu, one_policy, one_set, profile, ready, tier};
use libcalico_model::key::WorkloadEndpointKey;

/// What is generated.
#[derive(Clone, Copy)]
struct World {
    size: u32,
    dual: bool,
    /// Every policy is for every endpoint.
    all: bool,
}

impl World {
    fn endpoint(self, n: u32, tiers: Arc<[TierInfo]>) -> Message {
        let e = WorkloadEndpoint {
            active: true,
            interface_name: format!("cali{n:08x}"),
            profiles: vec!["open".to_owned()],
            ipv4_nets: vec![format!("10.128.{}.{}/32", n / 256, n % 256).parse().unwrap()],
            ipv6_nets: if self.dual { vec![format!("fd00::{n:x}/128").parse().unwrap()] } else { vec![] },
            tiers,
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

    /// All endpoints, with `more` policies that are for all of them.
    fn endpoints(self, more: u32) -> Vec<Message> {
        let name = |n: u32| format!("p{n}");
        let common = (self.size..self.size + more).map(name).collect::<Vec<_>>();
        let tiers = |own: Vec<String>| -> Arc<[TierInfo]> {
            let all: Vec<&str> = own.iter().chain(&common).map(String::as_str).collect();
            vec![tier(&all, &all)].into()
        };
        if self.all {
            let shared = tiers((0..self.size).map(name).collect());
            return (0..self.size).map(|n| self.endpoint(n, shared.clone())).collect();
        }
        (0..self.size).map(|n| self.endpoint(n, tiers(vec![name(n)]))).collect()
    }

    /// A policy; those beyond the endpoints' number are for all of them.
    fn policy(self, n: u32, port: u16) -> Message {
        let own = n < self.size && !self.all;
        one_policy(n, port, if own { format!("app == 'a{n}'") } else { "all()".to_owned() }.as_str())
    }

    fn messages(self, more: u32) -> Vec<Message> {
        let mut out = vec![profile("open", vec![allow()], vec![allow()])];
        for n in 0..self.size + more {
            out.push(one_set(n));
            out.push(self.policy(n, 80));
        }
        out.extend(self.endpoints(more));
        out.push(Message::InSync);
        out
    }
}

/// A line of `/proc/self/status`, MiB.
fn memory(line: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found =
        text.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().nth(1)?.parse::<f64>().ok());
    found.unwrap_or(f64::NAN) / 1024.0
}

/// Runs it so often and prints what one run took.
fn measure(what: &str, times: u32, mut run: impl FnMut(u32) -> String) {
    let before = cpu();
    let mut detail = String::new();
    let mut took: Vec<Duration> = (0..times)
        .map(|n| {
            let begin = Instant::now();
            detail = run(n);
            begin.elapsed()
        })
        .collect();
    took.sort();
    let after = cpu();
    let (user, kernel) = ((after.0 - before.0) / times, (after.1 - before.1) / times);
    let (p50, p99) = (took[took.len() / 2], took[(took.len() * 99 / 100).min(took.len() - 1)]);
    println!(
        "{what:<34} clock {p50:>9.1?}  p99 {p99:>9.1?}  own cpu {user:>9.1?}  kernel {kernel:>9.1?}  \
         rss {:>6.1} peak {:>6.1} MiB  {detail}",
        memory("VmRSS"),
        memory("VmHWM")
    );
}

fn interfaces(host: &Namespace, size: u32) {
    let lines: String = (0..size)
        .map(|n| format!("link add cali{n:08x} type veth peer name p{n:x}\nlink set cali{n:08x} up\nlink set p{n:x} up\n"))
        .collect();
    let file = std::env::temp_dir().join(format!("{}.batch", host.0));
    std::fs::write(&file, lines).expect("temporary file");
    lab::run(&format!("ip -n {} -batch {}", host.0, file.display()));
    let _ = std::fs::remove_file(file);
}

fn run(backend: Backend, world: World) {
    let host = Namespace::host();
    interfaces(&host, world.size);
    let config = Config { backend, post_write_check: Duration::ZERO, ..Config::default() };
    println!(
        "-- {backend:?}, {} policies on {} endpoints, all {}, dual {}",
        world.size, world.size, world.all, world.dual
    );
    println!("{:<34} rss {:.1} MiB", "before", memory("VmRSS"));
    let felix = Felix::start(&host, config.clone());
    measure("programmed", 1, |_| {
        let w = felix.write(world.messages(0));
        format!("{} operations, {} bytes", w.operations, w.bytes)
    });
    let of = |w: felix_dataplane::driver::Written| format!("{} operations, {} bytes", w.operations, w.bytes);
    measure("one policy changes", 20, |n| of(felix.write(vec![world.policy(n, 90)])));
    measure("one policy more for one", 20, |n| {
        let name = world.size + n;
        let key: Vec<String> = vec![format!("p{n}"), format!("p{name}")];
        let all: Vec<&str> = key.iter().map(String::as_str).collect();
        let tiers: Arc<[TierInfo]> = vec![tier(&all, &all)].into();
        of(felix.write(vec![
            one_set(name),
            one_policy(name, 80, &format!("app == 'a{n}'")),
            world.endpoint(n, tiers),
        ]))
    });
    felix.write(world.endpoints(0));
    let more_for_all = |n: u32| {
        let mut messages = vec![one_set(world.size + n), world.policy(world.size + n, 80)];
        messages.extend(world.endpoints(n + 1));
        of(felix.write(messages))
    };
    measure("first policy for all", 1, more_for_all);
    measure("one policy more for all", 9, |n| more_for_all(n + 1));
    measure("one member more", 50, |n| {
        let added = vec![IpSetMember::Net(format!("192.0.2.{n}/32").parse().unwrap())];
        of(felix.write(vec![Message::IpSetDelta(IpSetDelta { id: "s:set7".into(), added, removed: vec![] })]))
    });
    felix.stop();
    let felix = Felix::start(&host, config);
    let mut again = world.messages(10);
    again.extend((0..20).map(|i| world.policy(i, 90)));
    measure("restart", 1, |_| of(felix.write(std::mem::take(&mut again))));
    felix.stop();
}

fn main() {
    if !ready() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let size = words.iter().find_map(|w| w.strip_prefix('=')?.parse().ok()).unwrap_or(1000);
    let backends = [
        (Backend::Nftables, "nftables"),
        (Backend::IptablesNft, "iptables-nft"),
        (Backend::IptablesLegacy, "iptables-legacy"),
    ];
    let named = backends.iter().any(|(_, name)| has(name));
    for (backend, name) in backends {
        if !(has(name) || (!named && backend == Backend::Nftables)) {
            continue;
        }
        for all in [false, true] {
            if has(if all { "all" } else { "own" }) || (!all && !has("all")) {
                run(backend, World { size, dual: has("dual"), all });
            }
        }
    }
}
