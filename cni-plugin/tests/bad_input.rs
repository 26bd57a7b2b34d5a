//! What is wrong is told: each call ends in time with the specification's error, which says what to do, and leaves
//! nothing behind. On etcd with TLS and on a real API server; `behaviour.rs` has the same for etcd without.

mod support;

use std::time::{Duration, Instant};

use libcalico_testing::{Need, Pki, RealEtcd, can_run};
use serde_json::{Value, json};
use support::kube::KubeMachine;
use support::{Answer, NetNs, answer, environment, spawn_in};

/// Longest time for a call that cannot succeed, on whatever machine: without a limit of its own it would be for ever, and
/// a runtime waits for two minutes.
const IN_TIME: Duration = Duration::from_secs(300);

/// Asserts that it is the specification's error with this code, and that message and details have the words.
#[track_caller]
fn told(a: &Answer, code: u64, words: &[&str]) {
    assert_eq!(a.code(), code, "{}", a.text);
    let json = a.json();
    assert_eq!(json["cniVersion"], "1.0.0");
    let text = format!("{} {}", json["msg"].as_str().unwrap(), json["details"].as_str().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(a.took < IN_TIME, "{:?}", a.took);
}

#[track_caller]
fn assert_empty(pod: &NetNs) {
    assert!(pod.exec("ip -br link").lines().all(|l| l.starts_with("lo")), "{}", pod.exec("ip -br link"));
}

#[test]
fn certificates_of_etcd_that_do_not_fit_are_told() {
    if !can_run(&[Need::Root, Need::Etcd, Need::Etcdctl, Need::Program("ip", "iproute2")]) {
        return;
    }
    let pki = Pki::new();
    let (host, pod) = (NetNs::new(), NetNs::new());
    let Some(etcd) = host.enter(|| RealEtcd::start_tls(&pki)) else { return };
    for (key, spec) in [
        ("nodes/node-a", json!({})),
        ("ippools/p", json!({"cidr": "10.65.0.0/24", "blockSize": 26, "nodeSelector": "all()"})),
    ] {
        let kind = if key.starts_with("nodes") { "Node" } else { "IPPool" };
        let name = key.split_once('/').unwrap().1;
        let object = json!({"kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": {"name": name, "uid": "u"}, "spec": spec});
        let key = format!("/calico/resources/v3/projectcalico.org/{key}");
        host.enter(|| etcd.etcdctl(&["put", &key, &object.to_string()]));
    }
    let seeded = host.enter(|| etcd.etcdctl(&["get", "--prefix", "--keys-only", "/calico"]));
    let logs = tempfile::tempdir().unwrap();
    let call = |command: &str, change: &dyn Fn(&mut Value)| {
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "calico", "nodename": "node-a",
            "log_file_path": logs.path().join("cni.log"), "ipam": {"type": "calico-ipam"},
            "etcd_endpoints": etcd.endpoint(), "etcd_ca_cert_file": pki.cert("ca"),
            "etcd_cert_file": pki.cert("client"), "etcd_key_file": pki.key("client"),
        });
        change(&mut conf);
        let path = pod.path();
        let started = Instant::now();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_calico"));
        answer(spawn_in(&host, program, &conf, &environment(command, "c1", &path)), started)
    };
    let garbage = logs.path().join("garbage.pem");
    std::fs::write(&garbage, "a page that says: not found\n").unwrap();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(u64, &[&str], Change<'_>); 5] = [
        // The server is not who the authority knows.
        (11, &["unreachable", "certificate"], &|c| c["etcd_ca_cert_file"] = json!(pki.cert("other-ca"))),
        // The server does not know the client.
        (11, &["unreachable", "certificates"], &|c| {
            c["etcd_cert_file"] = json!(pki.cert("other-client"));
            c["etcd_key_file"] = json!(pki.key("other-client"));
        }),
        (7, &["/nowhere/key.pem"], &|c| c["etcd_key_file"] = json!("/nowhere/key.pem")),
        (7, &["garbage.pem", "no certificate"], &|c| c["etcd_ca_cert_file"] = json!(garbage)),
        (7, &["client-key.pem", "no certificate"], &|c| c["etcd_cert_file"] = json!(pki.key("client"))),
    ];
    for (code, words, change) in cases {
        for command in ["ADD", "DEL"] {
            told(&call(command, change), code, words);
        }
        assert_empty(&pod);
        assert_eq!(host.enter(|| etcd.etcdctl(&["get", "--prefix", "--keys-only", "/calico"])), seeded);
    }
    let right: Change<'_> = &|_| {};
    call("ADD", right).success();
    call("DEL", right).success();
    assert_empty(&pod);
}

#[test]
fn what_is_wrong_is_told_where_the_datastore_is_the_api_server() {
    let Some(m) = KubeMachine::new() else { return };
    names_and_configurations(&m);
    interfaces_that_are_not_ours(&m);
    a_full_pool(&m);
}

fn names_and_configurations(m: &KubeMachine) {
    m.pod("bad", &json!({}));
    let pod = NetNs::new();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_calico"));
    let path = pod.path();
    let raw = |conf: &Value, ifname: &str, id: &str| {
        let mut env = environment("ADD", id, &path);
        env.retain(|(name, _)| *name != "CNI_IFNAME");
        env.push(("CNI_IFNAME", ifname));
        let started = Instant::now();
        answer(spawn_in(&m.ns, program, conf, &env), started)
    };
    let conf = m.conf("1.0.0", |_| {});
    told(&raw(&conf, "a-name-that-is-too-long", "c1"), 4, &["CNI_IFNAME", "Linux takes 15"]);
    told(&raw(&conf, "eth0", &"c".repeat(254)), 4, &["CNI_CONTAINERID", "at most 253"]);
    let long = m.conf("1.0.0", |c| c["name"] = json!("n".repeat(129)));
    told(&raw(&long, "eth0", "c1"), 7, &["network name", "at most 128"]);
    let number = raw(&json!(7), "eth0", "c1");
    assert_eq!(number.code(), 6);
    assert!(number.text.contains("standard input"), "{}", number.text);
    let gone = m.conf("1.0.0", |c| c["kubernetes"]["kubeconfig"] = json!("/nowhere/kubeconfig"));
    told(&m.call("ADD", &gone, "c1", Some(("bad", &pod))), 7, &["/nowhere/kubeconfig"]);
    let dir = m.conf("1.0.0", |c| c["kubernetes"]["kubeconfig"] = json!(m.dir.path()));
    told(&m.call("ADD", &dir, "c1", Some(("bad", &pod))), 7, &[]);
    assert_empty(&pod);
    m.assert_clean();
}

fn interfaces_that_are_not_ours(m: &KubeMachine) {
    let conf = m.conf("1.0.0", |_| {});
    let pod = NetNs::new();
    pod.exec("ip link add eth0 type bridge");
    let a = m.call("ADD", &conf, "c1", Some(("bad", &pod)));
    told(&a, 100, &["eth0 exists already", "remove it or choose another CNI_IFNAME"]);
    assert!(pod.exec("ip -br link").contains("eth0"), "what is not ours stays");
    m.assert_clean();
    let notes = m.annotations("bad");
    assert!(notes.get("cni.projectcalico.org/podIP").is_none_or(String::is_empty), "{notes:?}");
}

fn a_full_pool(m: &KubeMachine) {
    m.pool("tiny", "10.66.0.0/31", 31);
    let conf = m.conf("1.0.0", |c| c["ipam"]["ipv4_pools"] = json!(["tiny"]));
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new()).collect();
    for name in ["full-0", "full-1", "full-2"] {
        m.pod(name, &json!({}));
    }
    for (i, pod) in pods.iter().take(2).enumerate() {
        m.call("ADD", &conf, &format!("c{i}"), Some((&format!("full-{i}"), pod))).success();
    }
    told(&m.call("ADD", &conf, "c2", Some(("full-2", &pods[2]))), 11, &["0 left", "add an IP pool"]);
    assert_empty(&pods[2]);
    assert_eq!(m.allocated().len(), 2);
    assert_eq!(m.interfaces().len(), 2);
    m.call("DEL", &conf, "c0", Some(("full-0", &pods[0]))).success();
    m.call("ADD", &conf, "c2", Some(("full-2", &pods[2]))).success();
    for (i, pod) in [(1, &pods[1]), (2, &pods[2])] {
        m.call("DEL", &conf, &format!("c{i}"), Some((&format!("full-{i}"), pod))).success();
    }
    m.assert_clean();
}
