//! What a dump says where someone changed the kernel's tables behind our back: on every backend, without the loop that
//! would mend it at once.

mod lab;

use std::sync::Arc;
use std::time::Instant;

use felix_dataplane::Config;
use felix_dataplane::apply::Dataplane;
use felix_dataplane::config::Backend;
use felix_message::{Action, Message, PortRange, Rule};
use lab::{Namespace, allow, one_policy, one_set, policy, profile, ready, run, tier};
use libcalico_api::num_or_string::Protocol;
use libcalico_model::key::WorkloadEndpointKey;

/// One endpoint with a policy that looks into a set, and one with a list of ports.
fn world() -> Vec<Message> {
    let ports = (0..6).map(|n| PortRange { first: 1 + 10 * n, last: 2 + 10 * n }).collect();
    let mut listed =
        Rule { action: Action::Deny, protocol: Some(Protocol::Name("TCP".to_owned())), ..Rule::default() };
    listed.dst.ports = ports;
    let e = felix_message::WorkloadEndpoint {
        active: true,
        interface_name: "cali1".to_owned(),
        profiles: vec!["open".to_owned()],
        ipv4_nets: vec!["10.65.0.2/32".parse().unwrap()],
        tiers: vec![tier(&["p1", "listed"], &[])].into(),
        ..felix_message::WorkloadEndpoint::default()
    };
    let key = WorkloadEndpointKey {
        host: "host".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: "default/w".to_owned(),
        endpoint: "eth0".to_owned(),
    };
    vec![
        profile("open", vec![allow()], vec![allow()]),
        one_set(1),
        one_policy(1, 80, "app == 'a1'"),
        policy("listed", vec![listed], vec![]),
        Message::WorkloadEndpointUpdate(key, Arc::new(e)),
        Message::InSync,
    ]
}

/// A damage, and how lines that name it begin.
fn damages(backend: Backend) -> &'static [(&'static str, &'static str)] {
    match backend {
        Backend::Nftables => &[
            (
                "s=$(nft list sets ip | grep -o 'cali40s[^ ]*' | head -n 1); nft flush set ip calico $s",
                "differs: IPv4 members of set cali40s",
            ),
            (
                "nft add element ip calico cali40this-host '{ 192.0.2.9 }'",
                "differs: IPv4 members of set cali40this-host: 0 missing, 1 that should not be there",
            ),
            (
                "nft flush set ip calico $(nft list sets ip | grep -o 'cali4l-[^ ]*' | head -n 1)",
                "differs: IPv4 members of set cali4l-",
            ),
        ],
        Backend::IptablesNft | Backend::IptablesLegacy => &[
            (
                "s=$(ipset list -n | grep cali40s: | head -n 1); ipset del $s \"$(ipset save $s | \
                 sed -n 's/^add [^ ]* //p' | head -n 1)\"",
                "differs: IPv4 members of set cali40s:",
            ),
            (
                "ipset add cali40this-host 192.0.2.9",
                "differs: IPv4 members of set cali40this-host: 0 missing, 1 that should not be there",
            ),
        ],
    }
}

fn differing(dump: &str) -> Vec<&str> {
    dump.lines().filter(|l| l.starts_with("differs: ")).collect()
}

fn a_member_that_someone_changed_shows(backend: Backend) {
    let host = Namespace::host();
    host.inside(move || {
        let mut dataplane = Dataplane::new(Arc::new(Config { backend, ..Config::default() })).unwrap();
        world().iter().for_each(|m| dataplane.on_message(m));
        dataplane.apply(Instant::now()).unwrap();
        let dump = dataplane.dump();
        assert!(dump.contains("the kernel has what is believed"), "{dump}");
        assert_eq!(differing(&dump), Vec::<&str>::new());
        for (n, (damage, expected)) in damages(backend).iter().enumerate() {
            let out = run(damage);
            assert!(out.status.success(), "{damage}: {out:?}");
            let dump = dataplane.dump();
            let lines = differing(&dump);
            // Asking mends nothing: the damages before show too.
            assert_eq!(lines.len(), n + 1, "{damage}: {dump}");
            assert!(lines.iter().any(|l| l.starts_with(expected)), "{damage}: {dump}");
            assert!(!dump.contains("the kernel has what is believed"), "{dump}");
        }
    })
    .join()
    .unwrap();
}

#[test]
fn a_member_that_someone_changed_shows_in_nftables() {
    if ready() {
        a_member_that_someone_changed_shows(Backend::Nftables);
    }
}

#[test]
fn a_member_that_someone_changed_shows_in_ip_sets() {
    if ready() {
        a_member_that_someone_changed_shows(Backend::IptablesNft);
        a_member_that_someone_changed_shows(Backend::IptablesLegacy);
    }
}
