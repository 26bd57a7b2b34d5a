//! What holds for any cluster: both ends of a session agree, and whatever an object says, BIRD accepts the file.

use std::net::IpAddr;
use std::process::Command;

use confd::peers::{Peering, peerings};
use confd::render::Renderer;
use confd::run::render;
use confd::{NodeSettings, State};
use libcalico_api::{Kind, Resource};
use libcalico_model::{Key, Revision, Update};
use proptest::prelude::*;
use serde_json::{Value, json};

fn state(node: &str, objects: &[(Kind, Value)]) -> State {
    let mut state = State::new(node);
    for (kind, object) in objects {
        let Ok(resource) = Resource::from_json(*kind, object.to_string().as_bytes()) else { continue };
        let key = Key::resource(*kind, "", &resource.metadata().name);
        state.update(Update { key, value: Some(resource.into()), revision: Revision::default() });
    }
    state
}

/// Nodes n1 … with addresses, some with a port, AS number, label or cluster id of their own.
fn nodes() -> impl Strategy<Value = Vec<(Kind, Value)>> {
    let node = (prop::bool::ANY, prop::bool::ANY, 0..3u8, 0..3u8, prop::bool::ANY);
    prop::collection::vec(node, 2..6).prop_map(|all| {
        let mut objects = Vec::new();
        for (i, (v6, port, rack, reflector, own_as)) in all.into_iter().enumerate() {
            // Addresses whose order as text is not that of their numbers.
            let host = [9, 10, 99, 100, 2, 20][i];
            let mut bgp = json!({"ipv4Address": format!("10.0.0.{host}/24")});
            if v6 {
                bgp["ipv6Address"] = format!("fd00::{host}/64").into();
            }
            if own_as {
                bgp["asNumber"] = (64600 + i).into();
            }
            if reflector == 0 {
                bgp["routeReflectorClusterID"] = "10.0.0.1".into();
            }
            let labels = json!({"rack": rack.to_string(), "name": format!("n{i}")});
            objects.push((
                Kind::Node,
                json!({"metadata": {"name": format!("n{i}"), "labels": labels}, "spec": {"bgp": bgp}}),
            ));
            if port {
                let spec = json!({"listenPort": 1790 + i});
                objects.push((
                    Kind::BGPConfiguration,
                    json!({"metadata": {"name": format!("node.n{i}")}, "spec": spec}),
                ));
            }
        }
        objects
    })
}

/// Peerings among nodes, by selectors.
fn selected_peers() -> impl Strategy<Value = Vec<(Kind, Value)>> {
    let selector =
        prop::sample::select(vec!["all()", "rack == '0'", "rack == '1'", "name == 'n0'", "has(nothing)"]);
    let end = prop_oneof![
        Just(json!({})),
        Just(json!({"node": "n1"})),
        selector.clone().prop_map(|s| json!({"nodeSelector": s})),
    ];
    prop::collection::vec((end, selector), 0..4).prop_map(|all| {
        let spec = |(mut spec, peer): (Value, &str)| {
            spec["peerSelector"] = peer.into();
            spec
        };
        all.into_iter()
            .enumerate()
            .map(|(i, ends)| {
                (Kind::BGPPeer, json!({"metadata": {"name": format!("p{i}")}, "spec": spec(ends)}))
            })
            .collect()
    })
}

fn addresses(objects: &[(Kind, Value)], node: &str) -> Vec<IpAddr> {
    let bgp = &objects.iter().find(|(k, o)| *k == Kind::Node && o["metadata"]["name"] == node).unwrap().1["spec"]
        ["bgp"];
    ["ipv4Address", "ipv6Address"]
        .iter()
        .filter_map(|f| bgp[f].as_str()?.split('/').next()?.parse().ok())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_ends_of_a_session_agree(
        nodes in nodes(),
        peers in selected_peers(),
        mesh in prop::bool::ANY,
        global_port in prop::option::of(Just(1700)),
    ) {
        let mut objects = nodes;
        objects.extend(peers);
        let mut spec = json!({"nodeToNodeMeshEnabled": mesh});
        if let Some(port) = global_port {
            spec["listenPort"] = port.into();
        }
        objects.push((Kind::BGPConfiguration, json!({"metadata": {"name": "default"}, "spec": spec})));
        let names: Vec<String> =
            objects.iter().filter(|(k, _)| *k == Kind::Node).map(|(_, o)| o["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let all: Vec<Vec<Peering>> = names.iter().map(|n| peerings(&state(n, &objects))).collect();
        for (here, own) in all.iter().enumerate() {
            for p in own {
                let there = names.iter().position(|n| addresses(&objects, n).contains(&p.ip)).unwrap();
                let back: Vec<&Peering> =
                    all[there].iter().filter(|q| q.ip.is_ipv4() == p.ip.is_ipv4() && addresses(&objects, &names[here]).contains(&q.ip)).collect();
                prop_assert_eq!(back.len(), 1, "{} has {}, the other end has {:?}", names[here], p.name(), back);
                prop_assert!(!(p.passive && back[0].passive), "{} and {} both wait", p.name(), back[0].name());
            }
        }
    }
}

/// Text that is right in some field, or wrong in all.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "10.0.0.0/8",
            "fd00::/8",
            "10.0.0.7",
            "[fd00::7]:179",
            "10.0.0.7:99999",
            "eth*",
            "65000:1",
            "1:2:3",
            "all()",
            "has(x)",
            "10s",
            "-1s",
            "default",
            "\"; accept; #",
            "a\nb",
            "}",
            "'",
            "\\",
            "n1",
            "f",
        ])
        .prop_map(str::to_owned),
        "[ -~\n]{0,12}",
    ]
}

/// Right for its field more often than not, so that the other fields get their turn.
fn mostly(right: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(right).prop_map(str::to_owned), 1 => text()]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        Just(-1),
        Just(1),
        Just(255),
        Just(65535),
        Just(65536),
        Just(i64::from(u32::MAX)),
        any::<i32>().prop_map(i64::from)
    ]
}

fn any_objects() -> impl Strategy<Value = Vec<(Kind, Value)>> {
    let peer = (
        mostly(&["10.0.0.7", "fd00::7", "[fd00::7]:1790", "10.0.0.2:65535", "0.0.0.0", "224.0.0.5", "127.0.0.1", "fe80::1", "::", "ff02::1"]),
        mostly(&["", "n1"]),
        mostly(&["", "all()"]),
        mostly(&["", "10.0.0.254"]),
        number(),
        number(),
        prop::collection::vec(mostly(&["f"]), 0..3),
    )
        .prop_map(
        |(ip, node, selector, by, asn, ttl, filters)| {
            (Kind::BGPPeer, json!({"metadata": {"name": "p"}, "spec": {
                "peerIP": ip, "node": node, "nodeSelector": selector, "reachableBy": by, "asNumber": asn.unsigned_abs() % (1 << 32),
                "ttlSecurity": ttl % (1 << 31), "filters": filters, "maxRestartTime": by, "keepaliveTime": node,
                "numAllowedLocalASNumbers": ttl % (1 << 31)}}))
        },
    );
    let filter = (
        mostly(&["f"]),
        mostly(&["10.0.0.0/8", "fd00::/8"]),
        mostly(&["eth*"]),
        mostly(&["65000:1", "1:2:3"]),
        number(),
        number(),
    )
        .prop_map(|(name, cidr, interface, community, a, b)| {
        let rule = json!({"action": "Accept", "cidr": cidr, "matchOperator": "NotIn", "interface": interface,
            "prefixLength": {"min": a % 200, "max": b % 200}, "communities": {"values": [community]},
            "asPathPrefix": [a.unsigned_abs() % (1 << 32)], "priority": b % (1 << 31),
            "operations": [{"addCommunity": {"value": community}}, {"setPriority": {"value": a % (1 << 31)}}]});
        let plain = json!({"action": "Reject", "cidr": cidr, "matchOperator": "In"});
        (Kind::BGPFilter, json!({"metadata": {"name": if name.is_empty() { "f".into() } else { name }},
            "spec": {"importV4": [rule, plain], "exportV6": [plain, rule]}}))
    });
    let configuration = (text(), mostly(&["65000:1"]), mostly(&["10.65.0.0/16"]), number(), number()).prop_map(|(a, b, c, port, priority)| {
        (Kind::BGPConfiguration, json!({"metadata": {"name": "default"}, "spec": {
            "ignoredInterfaces": [a, b], "listenPort": port % (1 << 31), "ipv4NormalRoutePriority": priority % (1 << 31),
            "bindMode": "NodeIP", "logSeverityScreen": c, "nodeMeshMaxRestartTime": b,
            "communities": [{"name": a, "value": b}], "prefixAdvertisements": [{"cidr": c, "communities": [a, b]}]}}))
    });
    let pool = (mostly(&["10.65.0.0/16", "fd65::/48"]), text()).prop_map(|(cidr, name)| {
        (Kind::IPPool, json!({"metadata": {"name": name}, "spec": {"cidr": cidr, "disableBGPExport": true}}))
    });
    let node = (mostly(&["10.0.0.2/24", "0.0.0.0/0", "10.0.0.2/32"]), mostly(&["fd00::2/64", "fe80::2/64"]), mostly(&["", "10.0.0.1"]), number()).prop_map(|(v4, v6, cluster, asn)| {
        (Kind::Node, json!({"metadata": {"name": "n2"}, "spec": {"bgp": {
            "ipv4Address": v4, "ipv6Address": v6, "routeReflectorClusterID": cluster, "asNumber": asn.unsigned_abs() % (1 << 32)}}}))
    });
    let own = mostly(&["", "10.0.0.1"]).prop_map(|cluster| {
        (
            Kind::Node,
            json!({"metadata": {"name": "n1"}, "spec": {"bgp": {
            "ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64", "routeReflectorClusterID": cluster}}}),
        )
    });
    (own, node, peer, filter, configuration, pool).prop_map(|(a, b, c, d, e, f)| vec![a, b, c, d, e, f])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn bird_accepts_the_file_whatever_the_objects_say(objects in any_objects()) {
        let text = render(&Renderer::built_in().unwrap(), &state("n1", &objects), &NodeSettings::default()).unwrap();
        if Command::new("bird").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "bird is missing: install bird2");
            return Ok(());
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bird.cfg");
        std::fs::write(&file, &text).unwrap();
        let out = Command::new("bird").arg("-p").arg("-c").arg(&file).output().unwrap();
        prop_assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stderr), text);
    }
}
