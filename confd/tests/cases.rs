//! Upstream's rendering cases: the same objects give files of the same meaning, and Debian's BIRD 2 accepts each.
//!
//! `cases/CASE/input.yaml` are the objects, `cases/CASE/expected.json` the facts of upstream's rendered files. With
//! `UPDATE_GOLDEN=1` and `CONFD_CASES` naming a directory of `inputs/` and `rendered/`, both are made anew from there.
//!
//! Left out are the cases that need Kubernetes: service advertisement (`mesh/static-routes*`) and peerings with local
//! workloads (`local_bgp_peer`). `mesh/password` is compared without the passwords, which are in Secrets.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use confd::render::Renderer;
use confd::{Context, NodeSettings, State};
use libcalico_api::{Kind, Resource};
use libcalico_model::ipam::{AffinityState, BlockAffinity};
use libcalico_model::{Key, Revision, Update, Value};
use serde::{Deserialize, Serialize};
use support::facts::{Facts, of_bird1, of_bird2};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Expected {
    v4: Facts,
    v6: Facts,
}

/// A case: its folder, upstream's folders of inputs (applied in order), and what its test changes besides.
struct Case {
    name: &'static str,
    inputs: &'static [&'static str],
    node: &'static str,
    router_id: &'static str,
    /// Fields set on top: object, JSON pointer within the spec, value.
    changes: &'static [(&'static str, &'static str, &'static str)],
    /// Objects taken away again.
    removed: &'static [&'static str],
}

const fn case(name: &'static str, inputs: &'static [&'static str]) -> Case {
    Case { name, inputs, node: "kube-master", router_id: "", changes: &[], removed: &[] }
}

const DEFAULT: &str = "BGPConfiguration/default";

/// The mesh with a restart time, and one field more.
const fn program(name: &'static str, changes: &'static [(&'static str, &'static str, &'static str)]) -> Case {
    Case { changes, ..case(name, &["mesh/restart-time"]) }
}

macro_rules! same {
    ($($name:literal),* $(,)?) => { [$(case($name, &[$name])),*] };
}

fn cases() -> Vec<Case> {
    let mut all = as_they_are();
    all.extend(with_changes());
    all
}

/// Cases that are one folder of objects.
fn as_they_are() -> Vec<Case> {
    Vec::from(same![
        "bgpfilter/as_path_and_priority",
        "bgpfilter/communities_and_operations",
        "bgpfilter/export_only/explicit_peer",
        "bgpfilter/export_only/global_peer",
        "bgpfilter/filter_names",
        "bgpfilter/import_only/explicit_peer",
        "bgpfilter/import_only/global_peer",
        "bgpfilter/kubevirt_live_migration",
        "bgpfilter/large_community",
        "bgpfilter/match_interface",
        "bgpfilter/match_operators",
        "bgpfilter/match_source",
        "bgpfilter/multi_filter/explicit_peer",
        "bgpfilter/multi_filter/global_peer",
        "bgpfilter/node_mesh",
        "bgpfilter/peer_type",
        "bgpfilter/single_filter/explicit_peer",
        "bgpfilter/single_filter/global_peer",
        "bgpfilter/v4_only/explicit_peer",
        "bgpfilter/v4_only/global_peer",
        "bgpfilter/v6_only/explicit_peer",
        "bgpfilter/v6_only/global_peer",
        "cluster_routes/default",
        "cluster_routes/enabled",
        "cluster_routes/ipip-only",
        "cluster_routes/noencap-only",
        "explicit_peering/global",
        "explicit_peering/global-external",
        "explicit_peering/global-ipv6",
        "explicit_peering/keepnexthop",
        "explicit_peering/keepnexthop-global",
        "explicit_peering/local-as",
        "explicit_peering/local-as-global",
        "explicit_peering/local-as-global-ipv6",
        "explicit_peering/local-as-ipv6",
        "explicit_peering/route_reflector",
        "explicit_peering/route_reflector_v6_by_ip",
        "explicit_peering/selectors",
        "explicit_peering/specific_node",
        "felix_cluster_routing",
        "ignored_interfaces",
        "mesh/bgp-export",
        "mesh/communities",
        "mesh/ipip-always",
        "mesh/ipip-cross-subnet",
        "mesh/ipip-off",
        "mesh/restart-time",
        "mesh/route-reflector-mesh-enabled",
        "mesh/vxlan-always",
        "reachable_by/global_peers",
        "reachable_by/route_reflectors",
    ])
}

/// Cases of several steps, or whose test does something besides.
fn with_changes() -> Vec<Case> {
    vec![
        case(
            "explicit_peering/selectors/step2",
            &["explicit_peering/selectors", "explicit_peering/selectors/step2"],
        ),
        case("mesh/communities/step2", &["mesh/communities", "mesh/communities/step2"]),
        Case { router_id: "hash", ..case("mesh/hash", &["mesh/hash"]) },
        case("mesh/password/step1", &["mesh_password"]),
        case("mesh/password/step2", &["mesh_password"]),
        case("mesh/password/step3", &["mesh_password"]),
        program("mesh/restart-time/pcr-disabled", &[(DEFAULT, "programClusterRoutes", "\"Disabled\"")]),
        program("mesh/restart-time/pcr-enabled", &[(DEFAULT, "programClusterRoutes", "\"Enabled\"")]),
        program(
            "mesh/restart-time/pcr-ipip-only",
            &[(DEFAULT, "programClusterRoutes", "\"EnabledIPIPOnly\"")],
        ),
        case("bgpfilter/node_mesh/priority1", &["bgpfilter/node_mesh"]),
        Case {
            changes: &[
                (DEFAULT, "ipv4NormalRoutePriority", "5000"),
                (DEFAULT, "ipv6NormalRoutePriority", "80"),
            ],
            ..case("bgpfilter/node_mesh/priority3", &["bgpfilter/node_mesh"])
        },
        Case {
            removed: &["BGPFilter/test-filter"],
            ..case("bgpfilter/filter_deletion/step2", &["bgpfilter/filter_deletion"])
        },
        Case {
            changes: &[(DEFAULT, "ipv4NormalRoutePriority", "5000")],
            ..case("bgpfilter/node_mesh/priority2", &["bgpfilter/node_mesh"])
        },
        Case { node: "node1", ..case("sourceaddr_gracefulrestart/step1", &["sourceaddr_gracefulrestart"]) },
        Case {
            node: "node1",
            changes: &[("BGPPeer/bgppeer-1", "sourceAddress", "\"None\"")],
            ..case("sourceaddr_gracefulrestart/step2", &["sourceaddr_gracefulrestart"])
        },
        Case {
            node: "node1",
            changes: &[
                ("BGPPeer/bgppeer-1", "sourceAddress", "\"None\""),
                ("BGPPeer/bgppeer-1", "maxRestartTime", "\"10s\""),
            ],
            ..case("sourceaddr_gracefulrestart/step3", &["sourceaddr_gracefulrestart"])
        },
        case("bgpfilter/filter_deletion/step1", &["bgpfilter/filter_deletion"]),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The objects of a YAML file of several documents.
fn objects(text: &str) -> Vec<serde_json::Value> {
    text.split("\n---")
        .map(|document| {
            serde_saphyr::from_str::<serde_json::Value>(document)
                .unwrap_or_else(|e| panic!("{e}\n{document}"))
        })
        .filter(|v| !v.is_null())
        .map(|mut object| {
            // Upstream's reader takes `yes` for a boolean and a label's boolean for its text.
            if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(|l| l.as_object_mut()) {
                labels.values_mut().filter(|v| v.is_boolean()).for_each(|v| *v = v.to_string().into());
            }
            object
        })
        .collect()
}

fn state_of(case: &Case, inputs: &[String], expected: &Expected) -> State {
    let mut all: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for object in inputs.iter().flat_map(|text| objects(text)) {
        let name =
            format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        all.insert(name, object);
    }
    for (name, field, value) in case.changes {
        all.get_mut(*name).unwrap()["spec"][*field] = serde_json::from_str(value).unwrap();
    }
    for name in case.removed {
        all.remove(*name).unwrap();
    }
    let mut state = State::new(case.node);
    for object in all.values() {
        let kind = Kind::find(object["kind"].as_str().unwrap()).unwrap();
        let resource = Resource::from_json(kind, object.to_string().as_bytes()).unwrap();
        let key = Key::resource(kind, "", &resource.metadata().name);
        state.update(Update { key, value: Some(resource.into()), revision: Revision::default() });
    }
    for block in expected.v4.aggregated.iter().chain(&expected.v6.aggregated) {
        let key = Key::BlockAffinity {
            affinity_type: "host".into(),
            host: case.node.into(),
            cidr: block.parse().unwrap(),
        };
        let affinity = BlockAffinity { state: AffinityState::Confirmed, deleted: false };
        state.update(Update {
            key,
            value: Some(Value::BlockAffinity(affinity)),
            revision: Revision::default(),
        });
    }
    state
}

fn render(case: &Case, state: &State) -> String {
    let router_id = case.router_id.to_owned();
    let settings =
        NodeSettings::from_lookup(|name| (name == "CALICO_ROUTER_ID").then(|| router_id.clone())).unwrap();
    Renderer::built_in().unwrap().render(&Context::new(state, &settings)).unwrap()
}

/// Facts that count: what a family that is off says of exports means nothing, nor do names of kubernetes' Secrets.
fn comparable(mut facts: Facts) -> Facts {
    if !facts.enabled {
        facts =
            Facts { static_routes: facts.static_routes, aggregated: facts.aggregated, ..Facts::default() };
    }
    if facts.peers.is_empty() {
        // Upstream names it inside of the sessions.
        facts.normal_priority.clear();
    }
    for peer in facts.peers.values_mut() {
        peer.options.retain(|o| !o.starts_with("password"));
    }
    facts
}

fn update_golden(case: &Case) {
    let Some(source) = std::env::var_os("CONFD_CASES").map(PathBuf::from) else {
        panic!("UPDATE_GOLDEN needs CONFD_CASES: a directory with inputs/ and rendered/");
    };
    let read =
        |path: String| std::fs::read_to_string(source.join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let family = |six: &str| {
        let file = |part: &str| read(format!("rendered/{}/bird{six}{part}.cfg", case.name));
        comparable(of_bird1(&file(""), &file("_aggr"), &file("_ipam")))
    };
    let expected = Expected { v4: family(""), v6: family("6") };
    let directory = folder().join(case.name);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n")
        .unwrap();
    for input in case.inputs {
        let directory = folder().join(input);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("input.yaml"), read(format!("inputs/{input}/input.yaml"))).unwrap();
    }
}

fn load(case: &Case) -> (Vec<String>, Expected) {
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let inputs = case.inputs.iter().map(|i| read(folder().join(i).join("input.yaml"))).collect();
    let expected = serde_json::from_str(&read(folder().join(case.name).join("expected.json"))).unwrap();
    (inputs, expected)
}

#[test]
fn every_case_means_what_upstream_renders() {
    let mut wrong = Vec::new();
    for case in cases() {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            update_golden(&case);
        }
        let (inputs, expected) = load(&case);
        let text = render(&case, &state_of(&case, &inputs, &expected));
        for (family, v4, want) in [("v4", true, &expected.v4), ("v6", false, &expected.v6)] {
            let got = comparable(of_bird2(&text, v4));
            if got != *want {
                wrong.push(format!("{} {family}:\n{}", case.name, difference(want, &got)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

fn difference(want: &Facts, got: &Facts) -> String {
    let lines = |f: &Facts| -> Vec<String> {
        serde_json::to_string_pretty(f).unwrap().lines().map(|l| l.trim_end_matches(',').to_owned()).collect()
    };
    let (want, got) = (lines(want), lines(got));
    let only = |a: &[String], b: &[String], sign: &str| -> String {
        a.iter().filter(|l| !b.contains(l)).map(|l| format!("  {sign} {}\n", l.trim())).collect()
    };
    only(&want, &got, "-") + &only(&got, &want, "+")
}

#[test]
fn debians_bird_accepts_every_case() {
    if Command::new("bird").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "bird is missing: install bird2");
        eprintln!("skipped: needs bird (Debian's bird2)");
        return;
    }
    accepts_every_case(Path::new("bird"));
}

#[test]
fn our_own_daemon_accepts_every_case() {
    // target/debug/deps/cases-… → target/debug/bird-rs
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("bird-rs");
    if !program.is_file() {
        assert!(std::env::var_os("CI").is_none(), "bird-rs is not built: cargo build --workspace");
        eprintln!("skipped: needs bird-rs (cargo build -p bird-rs)");
        return;
    }
    accepts_every_case(&program);
}

fn accepts_every_case(program: &Path) {
    let directory = tempfile::tempdir().unwrap();
    for case in cases() {
        let (inputs, expected) = load(&case);
        let file = directory.path().join("bird.cfg");
        std::fs::write(&file, render(&case, &state_of(&case, &inputs, &expected))).unwrap();
        let out = Command::new(program).arg("-p").arg("-c").arg(&file).output().unwrap();
        assert!(
            out.status.success(),
            "{}: {}\n{}",
            case.name,
            String::from_utf8_lossy(&out.stderr),
            std::fs::read_to_string(&file).unwrap()
        );
    }
}
