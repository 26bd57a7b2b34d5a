//! The desired state is a function of what the messages say in the end, not of their order, number or batching.

use std::collections::BTreeMap;
use std::sync::Arc;

use felix_dataplane::Config;
use felix_dataplane::driver::TableDriver as _;
use felix_dataplane::driver::memory::Memory;
use felix_dataplane::interfaces::Interfaces;
use felix_dataplane::kernel::route::Link;
use felix_dataplane::managers::{Managers, Outputs};
use felix_dataplane::render::text;
use felix_dataplane::rule::Family;
use felix_message::{
    Action, ActivePolicy, ActiveProfile, HostEndpoint, IpPool, IpSetKind, IpSetMember, IpSetUpdate, Message,
    Rule, TierInfo, WorkloadEndpoint,
};
use libcalico_model::PolicyKind;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use proptest::prelude::*;

/// Something that stands, is changed and goes again. Several share names, interfaces and addresses.
#[derive(Clone, Debug)]
enum Object {
    Policy(u8),
    Profile(u8),
    Set(u8),
    Workload(u8),
    Host(u8),
    Pool(u8),
}

fn policy_key(n: u8) -> PolicyKey {
    PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name: format!("p{n}") }
}

fn workload_key(n: u8) -> WorkloadEndpointKey {
    WorkloadEndpointKey {
        host: "h".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: format!("default/w{n}"),
        endpoint: "eth0".to_owned(),
    }
}

fn pool(n: u8) -> ipnet::IpNet {
    ipnet::IpNet::new([10, n, 0, 0].into(), 16).unwrap()
}

/// The object in one of two versions, or its removal.
fn message(object: &Object, version: Option<bool>) -> Message {
    let second = version == Some(true);
    let mut rule = Rule { action: if second { Action::Allow } else { Action::Deny }, ..Rule::default() };
    match (object, version) {
        (Object::Policy(n), None) => Message::PolicyRemove(policy_key(*n)),
        (Object::Policy(n), Some(_)) => {
            rule.src.ip_sets = vec![format!("s:{n}").into()];
            let p = ActivePolicy {
                inbound: vec![rule.clone()],
                outbound: vec![rule],
                untracked: second && n % 3 == 0,
                pre_dnat: second && n % 3 == 1,
                original_selector: if second { "has(x)".to_owned() } else { format!("s{}", n % 2) },
                ..ActivePolicy::default()
            };
            Message::PolicyUpdate(policy_key(*n), Arc::new(p))
        }
        (Object::Profile(n), None) => Message::ProfileRemove(format!("r{n}")),
        (Object::Profile(n), Some(_)) => {
            let p = ActiveProfile { inbound: vec![rule], outbound: vec![] };
            Message::ProfileUpdate(format!("r{n}"), Arc::new(p))
        }
        (Object::Set(n), None) => Message::IpSetRemove(format!("s:{n}").into()),
        (Object::Set(n), Some(_)) => Message::IpSetUpdate(IpSetUpdate {
            id: format!("s:{n}").into(),
            kind: IpSetKind::Net,
            members: ["10.0.0.0/8", if second { "10.1.0.0/16" } else { "fd00::/8" }]
                .map(|m| IpSetMember::Net(m.parse().unwrap()))
                .to_vec(),
        }),
        (Object::Workload(n), None) => Message::WorkloadEndpointRemove(workload_key(*n)),
        (Object::Workload(n), Some(_)) => {
            // Some have several policies, and some of those the same ones.
            let policies = |from: u8| (from..from + 1 + n % 3).map(|p| Arc::new(policy_key(p % 6))).collect();
            let tier = TierInfo { ingress: policies(n / 3), egress: policies(n % 2), ..TierInfo::default() };
            let e = WorkloadEndpoint {
                active: n % 4 != 3 || second,
                // Two workloads claim each interface, and each address.
                interface_name: format!("cali{}", n / 2),
                ipv4_nets: vec![format!("10.0.0.{}/32", (n + u8::from(second)) / 2).parse().unwrap()],
                tiers: vec![tier].into(),
                profiles: vec![format!("r{n}")],
                ..WorkloadEndpoint::default()
            };
            Message::WorkloadEndpointUpdate(workload_key(*n), Arc::new(e))
        }
        (Object::Host(n), None) => Message::HostEndpointRemove(format!("h{n}")),
        (Object::Host(n), Some(_)) => {
            let tier = TierInfo {
                ingress: vec![Arc::new(policy_key(*n))],
                egress: vec![Arc::new(policy_key(*n))],
                ..TierInfo::default()
            };
            let e = HostEndpoint {
                interface_name: if second { "*".to_owned() } else { format!("eth{}", n / 2) },
                tiers: vec![tier].into(),
                ..HostEndpoint::default()
            };
            Message::HostEndpointUpdate(format!("h{n}"), Arc::new(e))
        }
        (Object::Pool(n), None) => Message::PoolRemove(pool(*n)),
        (Object::Pool(n), Some(_)) => {
            Message::PoolUpdate(pool(*n), IpPool { masquerade: second, ..IpPool::default() })
        }
    }
}

/// Everything that is desired, as text.
fn outcome(messages: &[Message], resolve_after_each: bool) -> Vec<String> {
    let config = Arc::new(Config::default());
    let (mut managers, mut outputs) = (Managers::new(&config), Outputs::default());
    for m in messages {
        managers.on_message(m, &mut outputs);
        if resolve_after_each {
            managers.resolve(&mut outputs);
        }
    }
    managers.resolve(&mut outputs);
    let mut out: Vec<String> = outputs.routes.iter().map(|(dst, i)| format!("{dst} dev {i}")).collect();
    for family in Family::BOTH {
        let tables = outputs.tables.family(family);
        for id in tables.all_chains() {
            if let Some(chain) = tables.wanted(&id) {
                out.push(format!(
                    "{family:?} {id} {:?}",
                    text::rules(&chain.rules, id.table, family, &config.marks)
                ));
            }
        }
        let sets: BTreeMap<_, _> = tables.sets().iter().map(|(n, s)| (n, s.effective())).collect();
        let maps: BTreeMap<_, _> = tables.maps().iter().collect();
        out.push(format!("{sets:?} {maps:?}"));
    }
    out
}

fn objects() -> impl Strategy<Value = Vec<(Object, Option<bool>)>> {
    let object = (0_u8..6, 0_u8..6).prop_map(|(kind, n)| match kind {
        0 => Object::Policy(n),
        1 => Object::Profile(n),
        2 => Object::Set(n),
        3 => Object::Workload(n),
        4 => Object::Host(n),
        _ => Object::Pool(n),
    });
    prop::collection::vec((object, prop::option::weighted(0.7, any::<bool>())), 0..40)
}

proptest! {
    #[test]
    fn only_the_end_counts(history in objects(), seed: u64) {
        // The last word on each object.
        let mut last: BTreeMap<String, (Object, Option<bool>)> = BTreeMap::new();
        for (object, version) in &history {
            last.insert(format!("{object:?}"), (object.clone(), *version));
        }
        let end: Vec<Message> =
            last.values().filter(|(_, v)| v.is_some()).map(|(o, v)| message(o, *v)).collect();
        let all: Vec<Message> = history.iter().map(|(o, v)| message(o, *v)).collect();
        // Another order: by a number that the seed gives each.
        let mut shuffled: Vec<(u64, Message)> = end
            .iter()
            .enumerate()
            .map(|(i, m)| (seed.wrapping_mul(2 * i as u64 + 1).rotate_left(17), m.clone()))
            .collect();
        shuffled.sort_by_key(|(k, _)| *k);
        let shuffled: Vec<Message> = shuffled.into_iter().map(|(_, m)| m).collect();
        let want = outcome(&end, false);
        prop_assert_eq!(&outcome(&all, false), &want, "the whole history at once");
        prop_assert_eq!(&outcome(&all, true), &want, "the whole history step by step");
        prop_assert_eq!(&outcome(&shuffled, true), &want, "another order");
    }
}

/// What a driver holds that is told after each message; some of its applies are refused.
fn programmed(messages: &[Message], refuse: u64) -> Memory {
    let config = Arc::new(Config::default());
    let (mut managers, mut outputs) = (Managers::new(&config), Outputs::default());
    let mut driver = Memory::new(config);
    for (n, m) in messages.iter().enumerate() {
        managers.on_message(m, &mut outputs);
        managers.resolve(&mut outputs);
        driver.refuse = (refuse >> (n % 64) & 1 == 1).then(|| "not now".to_owned());
        let _ = driver.apply(&mut outputs.tables);
    }
    managers.resolve(&mut outputs);
    driver.apply(&mut outputs.tables).unwrap();
    driver
}

proptest! {
    /// A driver that is told of changes alone ends where one ends that is told of everything at once.
    #[test]
    fn changes_are_told_completely(history in objects(), refuse: u64) {
        let all: Vec<Message> = history.iter().map(|(o, v)| message(o, *v)).collect();
        let step_by_step = programmed(&all, refuse);
        let config = Arc::new(Config::default());
        let (mut managers, mut outputs) = (Managers::new(&config), Outputs::default());
        all.iter().for_each(|m| managers.on_message(m, &mut outputs));
        managers.resolve(&mut outputs);
        let mut at_once = Memory::new(config);
        at_once.apply(&mut outputs.tables).unwrap();
        prop_assert_eq!(step_by_step.tables, at_once.tables);
    }
}

/// A workload that claims an address with an interface of its own.
fn claim(workload: u8, interface: &str) -> Message {
    let e = WorkloadEndpoint {
        active: true,
        interface_name: interface.to_owned(),
        ipv4_nets: vec!["10.0.0.1/32".parse().unwrap()],
        ..WorkloadEndpoint::default()
    };
    Message::WorkloadEndpointUpdate(workload_key(workload), Arc::new(e))
}

#[test]
fn an_address_goes_to_a_claimant_whose_interface_is_up() {
    let config = Arc::new(Config::default());
    let (mut managers, mut outputs) = (Managers::new(&config), Outputs::default());
    for (n, interface) in [(1, "cali1"), (2, "cali2"), (3, "cali3")] {
        managers.on_message(&claim(n, interface), &mut outputs);
    }
    let mut over = |up: &[&str], down: &[&str]| {
        let link = |name: &&str, up| Link { index: name.as_bytes()[4].into(), name: (*name).to_owned(), up };
        let links = up.iter().map(|n| link(n, true)).chain(down.iter().map(|n| link(n, false)));
        managers.on_interfaces(&Interfaces::new(links.collect(), vec![]));
        managers.resolve(&mut outputs);
        let routes: Vec<String> = outputs.routes.iter().map(|(_, i)| i.to_owned()).collect();
        routes.join(" ")
    };
    assert_eq!(over(&[], &[]), "cali1", "of none that is there the first");
    assert_eq!(over(&["cali2", "cali3"], &[]), "cali2", "the first one's workload has crashed");
    assert_eq!(over(&["cali2", "cali3"], &["cali1"]), "cali2", "it carries nothing yet");
    assert_eq!(over(&["cali1", "cali2", "cali3"], &[]), "cali1");
    assert_eq!(over(&["cali3"], &["cali2"]), "cali3");
    assert_eq!(over(&[], &[]), "cali1");
}
