//! What is particular to iptables: other programs' rules beside ours, IP sets, switching backends.

mod lab;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_dataplane::config::{Backend, ChainInsertMode};
use felix_dataplane::driver::iptables::read;
use felix_dataplane::driver::iptables::save::{self, Saved};
use felix_dataplane::kernel::netlink::Netlink;
use felix_dataplane::kernel::nft::NETLINK_NETFILTER;
use felix_dataplane::rule::Family;
use felix_message::{
    Action, IpSetDelta, IpSetId, IpSetKind, IpSetMember, IpSetUpdate, Message, PortRange, Rule,
};
use lab::probe::{Pinger, Server, ping, tcp};
use lab::{Felix, Namespace, Pod, allow, deny, eventually, policy, policy_key, profile, ready, tier};
use libcalico_api::num_or_string::Protocol;

const VARIANTS: [(Backend, &str); 2] = [(Backend::IptablesNft, "nft"), (Backend::IptablesLegacy, "legacy")];

fn config(backend: Backend) -> Config {
    Config { backend, ..Config::default() }
}

/// Two pods, all open.
struct World {
    host: Namespace,
    a: Pod,
    b: Pod,
}

impl World {
    fn new() -> Self {
        let host = Namespace::host();
        let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
        Self { host, a, b }
    }

    /// Everything a new Felix is told; `rules` for what comes to b.
    fn state(&self, rules: Vec<Rule>) -> Vec<Message> {
        vec![
            profile("open", vec![allow()], vec![allow()]),
            policy("p", rules, vec![]),
            self.a.endpoint(vec![], &["open"]),
            self.b.endpoint(vec![tier(&["p"], &[])], &["open"]),
            Message::InSync,
        ]
    }

    fn forward(&self, variant: &str) -> Vec<String> {
        let listing = self.host.must(&format!("iptables-{variant}-save -t filter"));
        listing.lines().filter_map(|l| l.strip_prefix("-A FORWARD ")).map(str::to_owned).collect()
    }
}

#[test]
fn others_rules_stay_where_they_are() {
    if !ready() {
        return;
    }
    for (backend, variant) in VARIANTS {
        let w = World::new();
        w.host.must(&format!(
            "iptables-{variant} -P FORWARD DROP && iptables-{variant} -A FORWARD -i lo -j ACCEPT && \
             iptables-{variant} -N other && iptables-{variant} -A other -j RETURN"
        ));
        let felix = Felix::start(&w.host, config(backend));
        felix.apply(w.state(vec![allow()]));
        let rules = w.forward(variant);
        assert!(rules[0].ends_with("-j cali-FORWARD"), "{rules:?}");
        assert_eq!(rules[1], "-i lo -j ACCEPT");
        assert_eq!(rules.len(), 4, "{rules:?}");
        assert!(ping(&w.a.ns, w.b.v4), "what policy allows passes a policy of DROP");
        felix.stop();

        let felix =
            Felix::start(&w.host, Config { chain_insert_mode: ChainInsertMode::Append, ..config(backend) });
        felix.apply(w.state(vec![allow()]));
        let rules = w.forward(variant);
        assert_eq!((rules[0].as_str(), rules.len()), ("-i lo -j ACCEPT", 4), "{rules:?}");
        assert!(rules[1].ends_with("-j cali-FORWARD"), "{rules:?}");
        let listing = w.host.must(&format!("iptables-{variant}-save -t filter"));
        assert!(listing.contains(":FORWARD DROP") && listing.contains("-A other -j RETURN"), "{listing}");
    }
}

/// The same without words, which the kernel does not have.
fn without_words(mut saved: Saved) -> Saved {
    for table in saved.values_mut() {
        // The program shows those that could be there too.
        table.kernel.retain(|_, k| k.rules > 0);
        table.kernel.values_mut().flat_map(|k| &mut k.own).for_each(|o| o.text = None);
    }
    saved.retain(|_, t| !t.chains.is_empty() || !t.kernel.is_empty());
    saved
}

#[test]
fn what_the_kernel_tells_is_what_the_program_prints() {
    if !ready() {
        return;
    }
    let w = World::new();
    let felix = Felix::start(&w.host, config(Backend::IptablesNft));
    felix.apply(w.state(vec![allow(), deny()]));
    felix.stop();
    // Others' rules before, between and behind ours; a rule of an old version; one in a chain of ours; two comments.
    w.host.must(
        "iptables-nft -I FORWARD -i lo -j ACCEPT && iptables-nft -A FORWARD -m comment --comment mine -j ACCEPT && \
         iptables-nft -I INPUT 2 -j cali-INPUT && iptables-nft -A INPUT -g cali-INPUT && \
         iptables-nft -A cali-INPUT -j DROP && ip6tables-nft -N other && ip6tables-nft -A other -j RETURN && \
         iptables-nft -A OUTPUT -m comment --comment more -m comment --comment cali:0123456789abcdef -j ACCEPT && \
         iptables-nft -t nat -A POSTROUTING -m comment --comment cali:0123456789abcdef -o lo -j MASQUERADE",
    );
    for (family, program) in [(Family::V4, "iptables-nft-save"), (Family::V6, "ip6tables-nft-save")] {
        let printed = save::parse(&w.host.must(program));
        let told = w.host.inside(move || {
            let mut socket = Netlink::open(NETLINK_NETFILTER).unwrap();
            read::tables(&mut socket, family).unwrap()
        });
        let told = told.join().unwrap();
        let chains: usize = told.values().map(|t| t.chains.len()).sum();
        assert!(chains > 20, "{chains} chains of ours");
        let (told, printed) = (without_words(told), without_words(printed));
        for table in told.keys().chain(printed.keys()) {
            assert_eq!(told.get(table), printed.get(table), "{family:?} {table:?}");
        }
    }
}

#[test]
fn rules_that_are_not_as_wanted_go_whatever_their_words() {
    if !ready() {
        return;
    }
    let w = World::new();
    let felix = Felix::start(&w.host, config(Backend::IptablesNft));
    felix.apply(w.state(vec![allow()]));
    let wanted = w.forward("nft");
    felix.stop();
    // An old version's; one with a tag that is not wanted; ours with its tag kept and its condition changed.
    w.host.must(
        "iptables-nft -I FORWARD -j cali-FORWARD && \
         iptables-nft -A FORWARD -m comment --comment cali:0123456789abcdef -i lo -j ACCEPT",
    );
    let ours = wanted[0].split("--comment ").nth(1).unwrap().split(' ').next().unwrap();
    w.host.must(&format!("iptables-nft -A FORWARD -i lo -m comment --comment {ours} -j cali-FORWARD"));
    let felix = Felix::start(&w.host, config(Backend::IptablesNft));
    felix.apply_in_the_end(w.state(vec![allow()]));
    assert_eq!(w.forward("nft"), wanted);
}

#[test]
fn a_family_that_is_switched_off_is_emptied() {
    if !ready() {
        return;
    }
    for (backend, variant) in VARIANTS {
        let w = World::new();
        let count = || {
            let all = w.host.must(&format!("ip6tables-{variant}-save; ipset list -n"));
            all.lines().filter(|l| l.contains("cali-") || l.starts_with("cali6")).count()
        };
        let felix = Felix::start(&w.host, config(backend));
        felix.apply(w.state(vec![allow()]));
        assert!(count() > 10);
        felix.stop();
        let felix = Felix::start(&w.host, Config { ipv6: false, ..config(backend) });
        felix.apply(w.state(vec![allow()]));
        eventually("nothing of IPv6 is left", || count() == 0);
        assert!(ping(&w.a.ns, w.b.v4));
    }
}

fn net(text: &str) -> IpSetMember {
    IpSetMember::Net(text.parse().unwrap())
}

#[test]
fn sets_change_in_place_and_grow() {
    if !ready() {
        return;
    }
    let w = World::new();
    let felix = Felix::start(&w.host, Config { ip_set_max: 4, ..config(Backend::IptablesNft) });
    let id: IpSetId = "s:members".into();
    let set = |members: &[&str]| {
        let members = members.iter().map(|m| net(m)).collect();
        Message::IpSetUpdate(IpSetUpdate { id: id.clone(), kind: IpSetKind::Net, members })
    };
    let delta = |added: &[&str], removed: &[&str]| {
        let all = |list: &[&str]| list.iter().map(|m| net(m)).collect();
        Message::IpSetDelta(IpSetDelta { id: id.clone(), added: all(added), removed: all(removed) })
    };
    let mut by_set = allow();
    by_set.src.ip_sets = vec![id.clone()];
    let mut state = vec![set(&["192.0.2.1/32"])];
    state.extend(w.state(vec![by_set]));
    felix.apply(state);
    let passes = || ping(&w.a.ns, w.b.v4);
    assert!(!passes());
    // Everything, which the kernel's hash has no place for, beside a half of it.
    assert_eq!(felix.apply(vec![delta(&["0.0.0.0/0", "0.0.0.0/1"], &["192.0.2.1/32"])]), 2);
    assert!(passes());
    felix.apply(vec![delta(&[], &["0.0.0.0/0"])]);
    assert!(passes(), "its half is still there");
    felix.apply(vec![delta(&[], &["0.0.0.0/1"])]);
    assert!(!passes());
    let many: Vec<String> = (0..40).map(|n| format!("192.0.2.{n}/32")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("10.65.0.2/32");
    felix.apply(vec![delta(&many, &[])]);
    assert!(passes(), "the set has grown");
    let listing = w.host.must("ipset list cali40s:members");
    assert!(listing.contains("Number of entries: 41") && listing.contains("maxelem 64"), "{listing}");
    assert!(!w.host.must("ipset list -n").contains("cali4t"), "no temporary set is left");
    felix.apply(vec![Message::IpSetRemove(id), policy("p", vec![deny()], vec![])]);
    eventually("the set is gone", || !w.host.must("ipset list -n").contains("s:members"));
}

#[test]
fn a_refused_restore_is_told_with_its_line_and_leaves_the_old_rules() {
    if !ready() {
        return;
    }
    for (backend, variant) in VARIANTS {
        let w = World::new();
        let felix = Felix::start(&w.host, config(backend));
        felix.apply(w.state(vec![deny()]));
        // Someone holds on to a chain that is to go.
        w.host.must(&format!("iptables-{variant} -N other && iptables-{variant} -A other -j cali-pi-gnp/p"));
        felix.send(vec![w.b.endpoint(vec![], &["open"])]);
        let reason = felix.failure();
        assert!(reason.contains("cali-pi-gnp/p"), "{reason}");
        assert!(!ping(&w.a.ns, w.b.v4), "the old rules stand");
        w.host.must(&format!("iptables-{variant} -F other"));
        eventually("the policy is gone", || ping(&w.a.ns, w.b.v4));
    }
}

#[test]
fn rules_that_need_several_lines_match_in_the_kernel() {
    if !ready() {
        return;
    }
    let range = |n: u16| PortRange { first: n, last: n + 1 };
    for (backend, _) in VARIANTS {
        let w = World::new();
        let _server = Server::start(&w.b.ns, 8080);
        let felix = Felix::start(&w.host, config(backend));
        let base = Rule { protocol: Some(Protocol::Number(6)), ..allow() };
        let passes = |rule: Rule| {
            felix.apply(w.state(vec![rule]));
            // A busy machine may be late with one of them.
            (0..3).any(|_| tcp(&w.a.ns, w.b.v4, 8080))
        };
        let many = |last: u16| (0..20).map(|n| range(n * 10 + 1)).chain([range(last)]).collect::<Vec<_>>();
        let mut rule = base.clone();
        rule.dst.ports = many(8080);
        assert!(passes(rule.clone()), "the 21st range");
        rule.dst.ports = many(8081);
        assert!(!passes(rule.clone()));
        rule.dst.not_ports = std::mem::take(&mut rule.dst.ports);
        assert!(passes(rule.clone()));
        rule.dst.not_ports = many(8080);
        assert!(!passes(rule));

        // Networks of both ends, some excluded: every block of marks at once.
        let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
        let mut rule = base;
        rule.src.nets = nets(&["192.0.2.0/24", "10.65.0.0/24"]);
        rule.dst.nets = nets(&["192.0.2.0/24", "10.65.0.0/24"]);
        rule.src.not_nets = nets(&["10.65.0.128/25", "192.0.2.1/32"]);
        rule.dst.not_nets = nets(&["10.65.0.128/25"]);
        assert!(passes(rule.clone()));
        rule.src.not_nets.push("10.65.0.2/32".parse().unwrap());
        assert!(!passes(rule.clone()));
        rule.src.not_nets.pop();
        rule.dst.not_nets.push("10.65.0.3/32".parse().unwrap());
        assert!(!passes(rule.clone()));
        rule.action = Action::Deny;
        felix.apply(w.state(vec![rule, allow()]));
        assert!(tcp(&w.a.ns, w.b.v4, 8080), "a denial that does not match");
    }
}

/// Pings until it is told to stop; counts.
struct Prober {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// What came of the pings: how many were sent, and when those were that had the outcome that must not be.
#[derive(Debug, Default)]
struct Outcomes {
    sent: AtomicU32,
    bad: Mutex<Vec<Instant>>,
}

impl Prober {
    fn start(from: &Namespace, to: [IpAddr; 2], must_pass: bool) -> (Self, Arc<Outcomes>) {
        let stop = Arc::new(AtomicBool::new(false));
        let outcomes: Arc<Outcomes> = Arc::default();
        let threads = to.map(|to| {
            let (stop, outcomes) = (stop.clone(), outcomes.clone());
            from.inside(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A new socket, so a new connection, for every packet: no established flow hides a gap.
                    let wait = if must_pass { Duration::from_secs(30) } else { Duration::from_millis(2) };
                    let begin = Instant::now();
                    if Pinger::new(to).ping(wait) != must_pass {
                        outcomes.bad.lock().unwrap().push(begin);
                    }
                    outcomes.sent.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        });
        (Self { stop, threads: threads.into() }, outcomes)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// What each backend has of ours in the kernel.
fn standing(host: &Namespace) -> [bool; 4] {
    let tables = host.must("nft list tables").contains("calico");
    let nft = host.must("iptables-nft-save 2>/dev/null; ip6tables-nft-save 2>/dev/null").contains("cali-");
    let legacy = host.must("iptables-legacy-save; ip6tables-legacy-save").contains("cali-");
    let sets = host.must("ipset list -n").contains("cali");
    [tables, nft, legacy, sets]
}

#[test]
fn a_switch_of_backends_has_no_open_moment_and_leaves_nothing() {
    if !ready() {
        return;
    }
    use Backend::{IptablesLegacy, IptablesNft, Nftables};
    let w = World::new();
    let c = Pod::new(&w.host, 4);
    let id: IpSetId = "s:members".into();
    let state = |shape: u16| {
        // Always allows the ping to b and denies it to c, in a shape that changes.
        let mut rule = Rule { action: Action::Deny, protocol: Some(Protocol::Number(6)), ..Rule::default() };
        rule.dst.ports = vec![PortRange { first: shape + 1, last: shape + 5 }];
        let mut by_set = allow();
        by_set.src.ip_sets = vec![id.clone()];
        let members = ["10.65.0.0/24", "fd00:65::/64"].map(net).to_vec();
        let mut out =
            vec![Message::IpSetUpdate(IpSetUpdate { id: id.clone(), kind: IpSetKind::Net, members })];
        out.extend(w.state(vec![rule, by_set]));
        out.push(policy("closed", vec![deny()], vec![]));
        out.push(c.endpoint(vec![tier(&["closed"], &[])], &["open"]));
        out
    };
    let mut felix = Felix::start(&w.host, config(Nftables));
    felix.apply(state(0));
    eventually("pods are reached", || ping(&w.a.ns, w.b.v4) && ping(&w.a.ns, w.b.v6));
    let (pass, passed) = Prober::start(&w.a.ns, [w.b.v4, w.b.v6], true);
    let (leak, leaked) = Prober::start(&w.a.ns, [c.v4, c.v6], false);
    let order = [IptablesNft, IptablesLegacy, Nftables, IptablesLegacy, IptablesNft, Nftables];
    let mut phases = vec![(Instant::now(), "begin".to_owned())];
    for (n, backend) in (0_u16..).zip(order) {
        for shape in 0..10 {
            felix.apply(state(n * 100 + shape));
        }
        phases.push((Instant::now(), format!("changes before {backend:?}")));
        felix.stop();
        felix = Felix::start(&w.host, config(backend));
        felix.apply(state(n));
        phases.push((Instant::now(), format!("{backend:?} beside the one before")));
        let want =
            [backend == Nftables, backend == IptablesNft, backend == IptablesLegacy, backend != Nftables];
        eventually("the other backends' rules are gone", || standing(&w.host) == want);
        phases.push((Instant::now(), format!("{backend:?} alone")));
    }
    pass.stop();
    leak.stop();
    for (what, outcomes) in [("lost", passed), ("leaked", leaked)] {
        assert!(outcomes.sent.load(Ordering::Relaxed) > 50, "{what}");
        let phase = |at: &Instant| phases.iter().find(|(end, _)| end > at).map(|(_, name)| name.as_str());
        let bad: Vec<_> = outcomes.bad.lock().unwrap().iter().map(|at| phase(at).unwrap_or("end")).collect();
        assert!(bad.is_empty(), "{what} until: {bad:?}");
    }
}

#[test]
fn a_policy_with_every_legal_character_can_be_programmed() {
    if !ready() {
        return;
    }
    for (backend, _) in VARIANTS {
        let w = World::new();
        let felix = Felix::start(&w.host, config(backend));
        let names =
            ["a.very-long.name".repeat(12), "x\" -j ACCEPT\n-A INPUT -j ACCEPT".to_owned(), "ü".to_owned()];
        let mut messages = w.state(vec![allow()]);
        for name in &names {
            messages.push(policy(name, vec![deny()], vec![]));
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        messages.push(w.b.endpoint(vec![tier(&all, &[])], &["open"]));
        felix.apply(messages);
        assert!(!ping(&w.a.ns, w.b.v4));
        felix.apply(
            all.iter()
                .map(|n| Message::PolicyRemove(policy_key(n)))
                .chain([w.b.endpoint(vec![], &["open"])])
                .collect(),
        );
        assert!(ping(&w.a.ns, w.b.v4));
    }
}
