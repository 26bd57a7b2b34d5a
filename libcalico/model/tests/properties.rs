//! Keys and values from outside: any text may come, and what is a key comes back as itself.

use ipnet::IpNet;
use libcalico_api::Kind;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, PolicyKind, Value};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    // Slashes and the escape itself must survive.
    "[a-z0-9./%-]{1,12}"
}

fn host() -> impl Strategy<Value = String> {
    "[a-z0-9.-]{1,12}"
}

fn cidr() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 0..=32u8)
            .prop_map(|(a, l)| IpNet::new(std::net::Ipv4Addr::from(a).into(), l).unwrap()),
        (any::<u128>(), 0..=128u8)
            .prop_map(|(a, l)| IpNet::new(std::net::Ipv6Addr::from(a).into(), l).unwrap()),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let kinds = prop::sample::select(Kind::ALL);
    let policies = prop::sample::select(PolicyKind::ALL.to_vec());
    prop_oneof![
        (kinds, host(), host()).prop_map(|(k, ns, n)| Key::resource(
            k,
            if k.namespaced() { ns } else { String::new() },
            n
        )),
        cidr().prop_map(Key::Block),
        (prop::sample::select(vec!["host", "virtual"]), host(), cidr())
            .prop_map(|(t, host, cidr)| { Key::BlockAffinity { affinity_type: t.to_owned(), host, cidr } }),
        host().prop_map(Key::Handle),
        Just(Key::IpamConfig),
        (host(), name(), name(), name()).prop_map(|(host, orchestrator, workload, endpoint)| {
            Key::WorkloadEndpoint(WorkloadEndpointKey { host, orchestrator, workload, endpoint })
        }),
        (host(), name()).prop_map(|(host, name)| Key::HostEndpoint { host, name }),
        (policies, host(), name()).prop_map(|(kind, namespace, name)| Key::Policy(PolicyKey {
            kind,
            namespace,
            name
        })),
        name().prop_map(Key::ProfileRules),
        name().prop_map(Key::Tier),
        cidr().prop_map(Key::IpPool),
        name().prop_map(Key::NetworkSet),
        host().prop_map(Key::HostIp),
        (host(), name()).prop_map(|(host, name)| Key::HostConfig { host, name }),
        name().prop_map(Key::GlobalConfig),
        host().prop_map(Key::Wireguard),
        (host(), host()).prop_map(|(namespace, name)| Key::Service { namespace, name }),
        (host(), host()).prop_map(|(namespace, name)| Key::EndpointSlice { namespace, name }),
        host().prop_map(Key::ClusterNetworkPolicy),
        Just(Key::Ready),
    ]
}

proptest! {
    #[test]
    fn a_key_comes_back_from_its_path(key in key()) {
        prop_assert_eq!(key.path().parse::<Key>().unwrap(), key);
    }

    #[test]
    fn any_text_is_a_key_or_an_error(text in "(/calico/)?[ -~]{0,60}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.path().parse::<Key>().unwrap(), key);
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(key in key(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Value::parse(&key, &bytes);
    }

    #[test]
    fn any_object_is_a_value_or_an_error_and_what_is_read_can_be_read_again(
        key in key(),
        field in "(spec|metadata|cidr|endpoints|ports|status|allocations|order|selector|state|nets)",
        value in "(null|1|-1|\"x\"|\\[\\]|\\{\\}|\\{\"name\":\"x\",\"nets\":\\[1\\]\\}|1e400|\"10.0.0.0/8\")",
    ) {
        let json = format!("{{\"{field}\":{value}}}");
        if let Ok(v) = Value::parse(&key, json.as_bytes()) {
            prop_assert_eq!(Value::parse(&key, &v.to_bytes()).unwrap(), v);
        }
    }
}
