//! The same policies as upstream's Felix was given, chain by chain beside what it programmed.
//!
//! `upstream/nft-ruleset.txt` is a listing of upstream's tables (counters removed). Differences that are ours on
//! purpose are named below.

use std::collections::BTreeMap;
use std::sync::Arc;

use felix_dataplane::Config;
use felix_dataplane::config::EndpointToHostAction;
use felix_dataplane::managers::{Managers, Outputs};
use felix_dataplane::render::text;
use felix_dataplane::rule::Family;
use felix_message::{
    Action, ActivePolicy, ActiveProfile, EncapMode, Encapsulation, HostEndpoint, Icmp, IpPool, Message,
    PortRange, Rule, TierDefaultAction, TierInfo, WorkloadEndpoint,
};
use libcalico_api::num_or_string::Protocol;
use libcalico_model::PolicyKind;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};

fn rule(action: Action) -> Rule {
    Rule { action, ..Rule::default() }
}

fn with(action: Action, protocol: &str) -> Rule {
    Rule { protocol: Some(Protocol::Name(protocol.to_owned())), ..rule(action) }
}

fn ports(list: &[(u16, u16)]) -> Vec<PortRange> {
    list.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect()
}

fn key(kind: PolicyKind, name: &str) -> PolicyKey {
    PolicyKey { kind, namespace: String::new(), name: name.to_owned() }
}

fn gnp(name: &str) -> PolicyKey {
    key(PolicyKind::GlobalNetworkPolicy, name)
}

fn tier(name: &str, action: TierDefaultAction, ingress: &[PolicyKey], egress: &[PolicyKey]) -> TierInfo {
    TierInfo {
        name: name.to_owned(),
        default_action: action,
        ingress: ingress.iter().cloned().map(Arc::new).collect(),
        egress: egress.iter().cloned().map(Arc::new).collect(),
    }
}

fn policy(
    name: &str,
    inbound: Vec<Rule>,
    outbound: Vec<Rule>,
    change: impl Fn(&mut ActivePolicy),
) -> Message {
    let mut p = ActivePolicy { inbound, outbound, ..ActivePolicy::default() };
    change(&mut p);
    Message::PolicyUpdate(gnp(name), Arc::new(p))
}

fn allow_web() -> Message {
    let mut web = with(Action::Allow, "TCP");
    web.src.ip_sets = vec!["s:Djx4jfRE_TwnMVpqaxS1NR3".into()];
    web.dst.ports = ports(&[(80, 80), (443, 443), (8000, 8080)]);
    web.dst.named_port_sets = vec!["n:dqu9xSJcdh7mHS7HVyZh4AK".into()];
    let ping = Rule {
        icmp: Some(Icmp { icmp_type: 8, code: None }),
        ip_version: Some(4),
        ..with(Action::Allow, "ICMP")
    };
    let mut udp = Rule { ip_version: Some(4), ..with(Action::Deny, "UDP") };
    udp.src.nets = vec!["10.65.0.0/16".parse().unwrap()];
    udp.src.not_nets = vec!["10.0.0.0/8".parse().unwrap()];
    let mut dns = with(Action::Allow, "UDP");
    dns.dst.ports = ports(&[(53, 53)]);
    let mut not_ssh = Rule { ip_version: Some(4), ..with(Action::Allow, "TCP") };
    not_ssh.dst.nets = vec!["10.65.0.0/16".parse().unwrap()];
    not_ssh.dst.not_ports = ports(&[(22, 22)]);
    policy("allow-web", vec![web, rule(Action::Log), ping, udp], vec![dns, not_ssh], |_| {})
}

fn profile(name: &str, set: &str) -> Message {
    let mut from = rule(Action::Allow);
    from.src.ip_sets = vec![set.into()];
    let p = ActiveProfile { inbound: vec![from], outbound: vec![rule(Action::Allow)] };
    Message::ProfileUpdate(name.to_owned(), Arc::new(p))
}

fn workload(interface: &str, profile: &str, tiers: Vec<TierInfo>) -> Message {
    let key = WorkloadEndpointKey {
        host: "node-a".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: format!("default/{interface}"),
        endpoint: "eth0".to_owned(),
    };
    let e = WorkloadEndpoint {
        active: true,
        interface_name: interface.to_owned(),
        profiles: vec![profile.to_owned()],
        tiers: tiers.into(),
        ..WorkloadEndpoint::default()
    };
    Message::WorkloadEndpointUpdate(key, Arc::new(e))
}

fn messages() -> Vec<Message> {
    use TierDefaultAction::{Deny, Pass};
    let mut bad = rule(Action::Deny);
    bad.src.ip_sets = vec!["s:RGxi-C563Lu6WDYDBsC-y5d".into()];
    let staged = key(PolicyKind::StagedGlobalNetworkPolicy, "sgnp-1");
    let security = || tier("security", Pass, &[gnp("security.deny-bad")], &[gnp("security.deny-bad")]);
    let mut ssh = with(Action::Allow, "TCP");
    ssh.dst.ports = ports(&[(22, 22)]);
    let mut dhcp = with(Action::Allow, "UDP");
    dhcp.dst.ports = ports(&[(68, 68)]);
    let allow = || vec![rule(Action::Allow)];
    let pool = |masquerade, ipip_mode| IpPool { masquerade, ipip_mode, ..IpPool::default() };
    let host = HostEndpoint {
        interface_name: "eth0".to_owned(),
        profiles: vec!["prof-1".to_owned()],
        tiers: vec![
            security(),
            tier("default", Deny, &[gnp("host-forward"), staged.clone()], &[gnp("host-forward")]),
        ]
        .into(),
        untracked_tiers: vec![tier("default", Deny, &[gnp("host-untracked")], &[])].into(),
        pre_dnat_tiers: vec![tier("default", Deny, &[gnp("host-pre-dnat")], &[])].into(),
        forward_tiers: vec![tier("default", Deny, &[gnp("host-forward")], &[gnp("host-forward")])].into(),
        ..HostEndpoint::default()
    };
    let mut out = vec![
        Message::EncapsulationUpdate(Encapsulation { ipip: true, ..Encapsulation::default() }),
        Message::PoolUpdate("10.65.0.0/16".parse().unwrap(), pool(true, EncapMode::Never)),
        Message::PoolUpdate("10.66.0.0/20".parse().unwrap(), pool(false, EncapMode::CrossSubnet)),
        Message::PoolUpdate("fd00:65::/48".parse().unwrap(), pool(false, EncapMode::Never)),
        allow_web(),
        policy("security.deny-bad", vec![bad, rule(Action::Pass)], vec![rule(Action::Pass)], |_| {}),
        policy("host-forward", allow(), allow(), |p| p.apply_on_forward = true),
        policy("host-pre-dnat", vec![ssh], vec![], |p| p.pre_dnat = true),
        policy("host-untracked", vec![dhcp], vec![], |p| p.untracked = true),
        profile("prof-1", "s:G6oSW0nL0SDeAX1Xrjyikky"),
        profile("peernet", "s:CCFfZASZfoWvCd-nWtNtPE0"),
        workload(
            "cali0aweb1",
            "prof-1",
            vec![security(), tier("default", Deny, &[gnp("allow-web"), staged.clone()], &[gnp("allow-web")])],
        ),
        Message::HostEndpointUpdate("node-a-eth0".to_owned(), Arc::new(host)),
    ];
    for interface in ["calikeep0000c0f", "calikeep0001c0f", "calikeep0002c0f"] {
        let tiers = vec![security(), tier("default", Deny, std::slice::from_ref(&staged), &[])];
        out.push(workload(interface, "peernet", tiers));
    }
    out
}

/// Chains of one family, each a list of rules.
type Chains = BTreeMap<String, Vec<String>>;

/// How a listing says some things.
struct Words {
    /// Before a chain's name.
    table: &'static str,
    jump: &'static str,
    goto: &'static str,
    clear_pass: &'static str,
    unless_passed: &'static str,
    in_wl: &'static str,
    out_wl: &'static str,
    unless_accepted: &'static str,
    /// A rule as a listing's are kept.
    words: fn(&str) -> String,
}

impl Words {
    /// Chains of workloads.
    fn workloads<'a>(&self, chains: &'a mut Chains) -> impl Iterator<Item = &'a mut Vec<String>> {
        let prefixes = ["cali-tw-", "cali-fw-"].map(|p| format!("{}{p}", self.table));
        let is = move |name: &str| prefixes.iter().any(|p| name.starts_with(p));
        chains.iter_mut().filter(move |(name, _)| is(name)).map(|(_, rules)| rules)
    }

    /// Ours as if each workload's chain had in it what workloads share.
    fn whole(&self, mut chains: Chains) -> Chains {
        let shared = ["cali-to-wl-start", "cali-from-wl-start", "cali-te-", "cali-fe-"]
            .map(|p| format!("{}{p}", self.table));
        let is_shared = |name: &String| shared.iter().any(|p| name.starts_with(p));
        let parts: Chains =
            chains.iter().filter(|(n, _)| is_shared(n)).map(|(n, r)| (n.clone(), r.clone())).collect();
        chains.retain(|name, _| !is_shared(name));
        for rules in self.workloads(&mut chains) {
            *rules = std::mem::take(rules)
                .into_iter()
                .flat_map(|rule| {
                    let name = rule.strip_prefix(self.jump).or_else(|| rule.strip_prefix(self.goto));
                    let part = name.and_then(|n| parts.get(&format!("{}{n}", self.table)));
                    part.cloned().unwrap_or_else(|| vec![rule])
                })
                .collect();
        }
        chains
    }

    /// Ours asks once more, where a packet comes back from a workload's chains, whether it has been accepted. Behind a
    /// policy that passes nothing, in a tier that denies, that is all that there is to do.
    fn with_late_question(&self, chains: &mut Chains) {
        for rules in self.workloads(chains) {
            let last = rules.iter().position(|r| r.contains(self.jump) && r.ends_with("gnp/allow-web"));
            rules.truncate(last.map_or(rules.len(), |at| at + 1));
        }
        for (chain, interface) in
            [("cali-FORWARD", self.in_wl), ("cali-FORWARD", self.out_wl), ("cali-wl-to-host", "")]
        {
            let rules = chains.get_mut(&format!("{}{chain}", self.table)).unwrap();
            let dispatch = rules
                .iter()
                .position(|r| r.contains(interface.trim()) && r.contains("-wl-dispatch"))
                .unwrap();
            rules.insert(dispatch + 1, (self.words)(&format!("{interface}{}", self.unless_accepted)));
        }
    }

    /// Upstream clears the pass bit twice before the first tier, and asks for it then; and before a tier in which nothing
    /// is enforced.
    fn without_idle_rules(&self, chains: &mut Chains) {
        for rules in self.workloads(chains) {
            let mut first = true;
            let mut at = 0;
            while at < rules.len() {
                if rules[at] != self.clear_pass {
                    at += 1;
                    continue;
                }
                let next = rules.get_mut(at + 1).filter(|r| r.starts_with(self.unless_passed));
                match next {
                    Some(next) if first => *next = next.replacen(self.unless_passed, "", 1),
                    Some(_) => {
                        at += 1;
                        continue;
                    }
                    None => {}
                }
                rules.remove(at);
                first = false;
            }
        }
    }
}

const NFT: Words = Words {
    table: "filter-",
    in_wl: "iifname \"cali*\" ",
    out_wl: "oifname \"cali*\" ",
    unless_accepted: "meta mark & 0x00010000 == 0x00000000 drop",
    words: numbers,
    jump: "jump filter-",
    goto: "goto filter-",
    clear_pass: "meta mark set meta mark & 0xfffdffff",
    unless_passed: "meta mark & 0x00020000 == 0x00000000 ",
};

const IPTABLES: Words = Words {
    table: "filter ",
    in_wl: "-i cali+ ",
    out_wl: "-o cali+ ",
    unless_accepted: "--mark 0x0/0x10000 -j DROP",
    words,
    jump: "-j ",
    goto: "-g ",
    clear_pass: "--set-xmark 0x0/0x20000 -j MARK",
    unless_passed: "--mark 0x0/0x20000 ",
};

/// What the managers make of the messages.
fn desired() -> (Arc<Config>, Outputs) {
    let config = Config { endpoint_to_host_action: EndpointToHostAction::Accept, ..Config::default() };
    let config = Arc::new(config);
    let (mut managers, mut outputs) = (Managers::new(&config), Outputs::default());
    let services = felix_message::GlobalBgpConfig {
        service_cluster_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        ..felix_message::GlobalBgpConfig::default()
    };
    for m in messages().into_iter().chain([Message::GlobalBgpConfigUpdate(services)]) {
        managers.on_message(&m, &mut outputs);
    }
    managers.resolve(&mut outputs);
    (config, outputs)
}

fn ours(family: Family) -> Chains {
    let (config, mut outputs) = desired();
    let tables = outputs.tables.family(family);
    let wanted = tables.all_chains().into_iter();
    wanted
        .filter_map(|id| {
            let rules = &tables.wanted(&id)?.rules;
            Some((id.to_string(), text::rules(rules, id.table, family, &config.marks)))
        })
        .collect()
}

fn upstreams(family: Family) -> Chains {
    let listing = include_str!("upstream/nft-ruleset.txt");
    let table = match family {
        Family::V4 => "table ip calico {",
        Family::V6 => "table ip6 calico {",
    };
    let body = listing.split("\n").skip_while(|l| *l != table).skip(1).take_while(|l| *l != "}");
    let mut out = Chains::new();
    let mut chain: Option<String> = None;
    for line in body.map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ").and_then(|l| l.strip_suffix(" {")) {
            out.insert(name.to_owned(), Vec::new());
            chain = Some(name.to_owned());
        } else if line == "}" {
            chain = None;
        } else if let (Some(chain), false) = (&chain, line.starts_with("type ") || line.is_empty()) {
            out.get_mut(chain).unwrap().push(numbers(line));
        }
    }
    out
}

/// ICMP types as numbers.
fn numbers(line: &str) -> String {
    let names = [
        ("type echo-request", "type 8"),
        ("type mld-listener-query", "type 130"),
        ("type mld-listener-report", "type 131"),
        ("type mld-listener-done", "type 132"),
        ("type nd-router-solicit", "type 133"),
        ("type nd-neighbor-solicit", "type 135"),
        ("type nd-neighbor-advert", "type 136"),
    ];
    names.iter().fold(line.to_owned(), |l, (name, number)| l.replace(name, number))
}

/// What is ours on purpose, put into upstream's listing.
fn intended(mut chains: Chains) -> Chains {
    // DSCP marking is a feature that is not here.
    chains.remove("mangle-cali-egress-dscp");
    for rules in chains.values_mut() {
        rules.retain(|r| !r.contains("dscp-src-net"));
        for r in rules.iter_mut() {
            // `!= dnat` compares the whole status with one bit: a translated packet would be judged twice.
            *r = r.replace("ct status != dnat", "ct status ! dnat");
        }
        // No packet without a connection (invalid, untracked) satisfies that: it would pass policy by.
        if let Some(at) = rules.iter().position(|r| r.contains("ct status ! dnat")) {
            rules.insert(at, rules[at].replace("ct status ! dnat", "ct state invalid,untracked"));
        }
    }
    NFT.without_idle_rules(&mut chains);
    NFT.with_late_question(&mut chains);
    // A network and another one excluded are one rule here, three and a mark bit there.
    if let Some(rules) = chains.get_mut("filter-cali-pi-gnp/allow-web")
        && let Some(at) = rules.iter().position(|r| r.contains("& 0xffefffff"))
    {
        rules.splice(
                at..at + 3,
                ["meta l4proto udp ip saddr 10.65.0.0/16 ip saddr != 10.0.0.0/8 meta mark set meta mark | 0x00040000"
                    .to_owned()],
            );
    }
    chains
}

#[test]
fn every_chain_is_upstreams() {
    for family in Family::BOTH {
        let (ours, upstreams) = (NFT.whole(ours(family)), intended(upstreams(family)));
        assert!(upstreams.len() > 60, "the listing was not read");
        for (name, rules) in &upstreams {
            assert_eq!(ours.get(name), Some(rules), "{family:?} {name}");
        }
        let more: Vec<_> = ours.keys().filter(|n| !upstreams.contains_key(*n)).collect();
        assert!(more.is_empty(), "{family:?}: {more:?}");
    }
}

/// `iptables-save`'s rules, or `iptables-restore`'s, by table and chain; each rule as its words in one order.
fn saved(text: &str) -> Chains {
    let mut out = Chains::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap();
            if name.starts_with("cali-") {
                out.insert(format!("{table} {name}"), Vec::new());
            }
        } else if let Some((chain, rule)) = line.get(3..).and_then(|r| r.split_once(' ')) {
            // At the head or at the end of a kernel's chain.
            out.entry(format!("{table} {chain}")).or_default().push(words(rule));
        }
    }
    out
}

/// A rule's options, sorted; without comment and without names of modules, which follow from the options.
fn words(rule: &str) -> String {
    let numbers = [("tcp", "6"), ("udp", "17"), ("icmp", "1"), ("ipencap", "4"), ("ipv6-icmp", "58")];
    let mut groups: Vec<String> = Vec::new();
    let mut not = "";
    for word in rule.split(' ') {
        match word {
            "!" => not = "! ",
            w if w.starts_with('-') => groups.push(format!("{}{w}", std::mem::take(&mut not))),
            w => {
                let protocol = groups.last().is_some_and(|g| g.ends_with("-p"));
                let w = numbers.iter().find(|(name, _)| protocol && *name == w).map_or(w, |(_, n)| n);
                let last = groups.last_mut().unwrap();
                last.push(' ');
                last.push_str(w);
            }
        }
    }
    groups.retain(|g| !g.starts_with("-m ") && !g.starts_with("--comment "));
    groups.sort();
    groups.join(" ")
}

/// What is ours on purpose, put into upstream's listing.
fn intended_iptables(mut chains: Chains) -> Chains {
    chains.remove("mangle cali-egress-dscp");
    for rules in chains.values_mut() {
        rules.retain(|r| !r.contains("dscp-src-net"));
    }
    for rules in chains.values_mut() {
        for r in rules.iter_mut() {
            // Its world had the code beside the type.
            *r = r.replace("--icmp-type 8/0", "--icmp-type 8");
        }
    }
    IPTABLES.without_idle_rules(&mut chains);
    IPTABLES.with_late_question(&mut chains);
    // Upstream divides the four interfaces by a character that three of them share; few stand together here.
    for (direction, option, prefix) in [("from", "-i", "fw"), ("to", "-o", "tw")] {
        let root = format!("filter cali-{direction}-wl-dispatch");
        chains.remove(&format!("{root}-k"));
        let names = ["cali0aweb1", "calikeep0000c0f", "calikeep0001c0f", "calikeep0002c0f"];
        let rules = names.iter().map(|n| words(&format!("{option} {n} -g cali-{prefix}-{n}")));
        chains.insert(root, rules.chain(["-j DROP".to_owned()]).collect());
    }
    chains
}

#[test]
fn every_chain_of_iptables_is_upstreams() {
    let listings = [include_str!("upstream/iptables-save.txt"), include_str!("upstream/ip6tables-save.txt")];
    let (config, outputs) = desired();
    for (family, listing) in Family::BOTH.into_iter().zip(listings) {
        let tables = &outputs.tables.families[family.index()];
        let ours = IPTABLES.whole(saved(&felix_dataplane::driver::iptables::input(family, &config, tables)));
        let upstreams = intended_iptables(saved(listing));
        assert!(upstreams.len() > 60, "the listing was not read");
        for (name, rules) in &upstreams {
            assert_eq!(ours.get(name), Some(rules), "{family:?} {name}");
        }
        let more: Vec<_> = ours.keys().filter(|n| !upstreams.contains_key(*n)).collect();
        assert!(more.is_empty(), "{family:?}: {more:?}");
    }
}
