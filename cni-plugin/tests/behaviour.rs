//! The plugin against a real etcd and a real kernel: repetition, bursts, crashes, errors.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libcalico_api::Kind;
use libcalico_testing::{script, within};
use serde_json::{Value, json};
use support::{Machine, NetNs, can_run, environment};

const POOL: (&str, i64) = ("10.65.0.0/16", 26);

fn machine() -> Option<Machine> {
    can_run().then(|| {
        let m = Machine::new();
        m.seed(&[POOL]);
        m
    })
}

fn pod_args(name: &str) -> String {
    format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=x")
}

#[test]
fn check_finds_nothing_after_add_and_names_what_was_changed() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    let result = m.call("ADD", &conf, "c1", Some(&pod)).success().json();
    assert_eq!(result["ips"][0].get("version"), None);
    assert_eq!(m.call("CHECK", &conf, "c1", Some(&pod)).code(), 7, "prevResult is missing");
    let conf = m.conf("1.0.0", |c| c["prevResult"] = result);
    m.call("CHECK", &conf, "c1", Some(&pod)).success();
    pod.exec("ip addr flush dev eth0");
    let e = m.call("CHECK", &conf, "c1", Some(&pod));
    assert_eq!(e.code(), 102);
    assert!(e.text.contains("the pod lacks 10.65."), "{}", e.text);
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    assert_eq!(m.call("CHECK", &conf, "c1", Some(&pod)).code(), 102);
    m.assert_clean();
}

#[test]
fn a_repeated_add_makes_again_what_is_missing_in_the_kernel() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    let first = m.call("ADD", &conf, "c1", Some(&pod)).success();
    pod.exec("ip link del eth0");
    let again = m.call("ADD", &conf, "c1", Some(&pod)).success();
    assert_eq!(first.json()["ips"], again.json()["ips"]);
    assert!(pod.exec("ip route").contains("default via 169.254.1.1"));
    assert_eq!(m.allocated().len(), 1);
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    m.assert_clean();
}

#[test]
fn del_of_the_unknown_and_del_after_the_namespace_vanished_succeed() {
    let Some(m) = machine() else { return };
    let conf = m.conf("1.0.0", |_| {});
    m.call("DEL", &conf, "unknown", None).success();
    let pod = NetNs::new();
    m.call("DEL", &conf, "unknown", Some(&pod)).success();
    m.call("ADD", &conf, "c1", Some(&pod)).success();
    let path = pod.path();
    drop(pod);
    m.call_with("calico", &conf, &environment("DEL", "c1", &path)).success();
    // The kernel dissolves a namespace in its own time.
    within(Duration::from_secs(60), "the interface goes with its namespace", || m.interfaces().is_empty());
    m.assert_clean();
    let pod = NetNs::new();
    m.call("ADD", &conf, "c2", Some(&pod)).success();
    m.call("DEL", &conf, "c2", None).success();
    m.assert_clean();
}

#[test]
fn a_late_del_of_an_earlier_container_leaves_the_pods_new_one_alone() {
    let Some(m) = machine() else { return };
    let conf = m.conf("1.0.0", |_| {});
    let (old, new) = (NetNs::new(), NetNs::new());
    let args = pod_args("web-0");
    let call = |command, id, ns: &NetNs| {
        let path = ns.path();
        let mut env = environment(command, id, &path);
        env.push(("CNI_ARGS", &args));
        m.call_with("calico", &conf, &env).success()
    };
    call("ADD", "first", &old);
    let second = call("ADD", "second", &new);
    let names: Vec<String> = m.dump().into_keys().filter(|k| k.contains("workloadendpoints")).collect();
    assert_eq!(
        names,
        ["/calico/resources/v3/projectcalico.org/workloadendpoints/default/node--a-k8s-web--0-eth0"]
    );
    call("DEL", "first", &old);
    assert_eq!(m.dump()[&names[0]]["spec"]["containerID"], "second");
    assert_eq!(m.interfaces().len(), 1);
    let handles: Vec<String> = m.allocated().into_values().collect();
    assert_eq!(handles, ["peernet.second"]);
    assert!(new.exec("ip addr").contains(&second.address()));
    call("DEL", "second", &new);
    m.assert_clean();
}

#[test]
fn a_pod_gets_its_namespaces_profile_its_labels_and_attributes() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |c| {
        c["args"] = json!({
            "labels": [{"key": "run", "value": "access"}],
            "org.apache.mesos": {"network_info": {"name": "x", "labels": {"labels": [{"key": "app", "value": "nginx"}]}}},
        });
    });
    let path = pod.path();
    let args = pod_args("web-1");
    let mut env = environment("ADD", "c1", &path);
    env.push(("CNI_ARGS", &args));
    m.call_with("calico", &conf, &env).success();
    let dump = m.dump();
    let e = &dump["/calico/resources/v3/projectcalico.org/workloadendpoints/default/node--a-k8s-web--1-eth0"];
    assert_eq!(
        e["metadata"]["labels"],
        json!({"app": "nginx", "run": "access", "projectcalico.org/namespace": "default", "projectcalico.org/orchestrator": "k8s"})
    );
    assert_eq!((&e["spec"]["pod"], &e["spec"]["profiles"]), (&json!("web-1"), &json!(["kns.default"])));
    assert!(dump.contains_key("/calico/resources/v3/projectcalico.org/profiles/kns.default"));
    let block = dump.iter().find(|(k, _)| k.contains("/assignment/")).unwrap().1;
    let attrs = &block["attributes"][0]["secondary"];
    assert_eq!(
        (&attrs["namespace"], &attrs["pod"], &attrs["node"]),
        (&json!("default"), &json!("web-1"), &json!("node-a"))
    );
    env[0].1 = "DEL";
    m.call_with("calico", &conf, &env).success();
    m.assert_clean();
}

#[test]
fn sixteen_pods_at_once_get_sixteen_addresses_of_one_block() {
    let Some(m) = machine() else { return };
    let conf = m.conf("1.0.0", |_| {});
    let pods: Vec<NetNs> = (0..16).map(|_| NetNs::new()).collect();
    let all = |command: &str| {
        let (m, conf) = (&m, &conf);
        std::thread::scope(|s| {
            let calls: Vec<_> = pods
                .iter()
                .enumerate()
                .map(|(i, pod)| {
                    s.spawn(move || m.call(command, conf, &format!("burst{i}"), Some(pod)).success())
                })
                .collect();
            calls.into_iter().map(|c| c.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let started = Instant::now();
    let addresses: BTreeSet<String> = all("ADD").iter().map(support::Answer::address).collect();
    eprintln!("16 parallel ADDs: {:?}", started.elapsed());
    assert_eq!(addresses.len(), 16);
    assert_eq!(m.allocated().len(), 16);
    assert_eq!(m.dump().keys().filter(|k| k.contains("/assignment/")).count(), 1);
    all("DEL");
    m.assert_clean();
}

/// Kills ADD after ever longer times, then lets the runtime clean up with DEL.
#[test]
fn an_add_that_is_killed_at_any_time_leaves_nothing_that_del_does_not_remove() {
    let Some(m) = machine() else { return };
    let conf = m.conf("1.0.0", |c| c["ipam"]["assign_ipv6"] = json!("false"));
    let pod = NetNs::new();
    let path = pod.path();
    let whole = m.call("ADD", &conf, "c1", Some(&pod)).success().took;
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    for step in 0..60u32 {
        let id = format!("k{step}");
        let mut child = m.spawn("calico", &conf, &environment("ADD", &id, &path));
        std::thread::sleep(whole * step / 50);
        let _ = child.kill();
        let _ = child.wait_with_output();
        if step % 2 == 1 {
            // A runtime may also try again before it cleans up.
            let address = m.call("ADD", &conf, &id, Some(&pod)).success().address();
            assert!(pod.exec("ip addr").contains(&address), "step {step}");
            assert!(pod.exec("ip route").contains("default via 169.254.1.1"), "step {step}");
            assert_eq!(m.allocated().len(), 1, "step {step}");
        }
        m.call("DEL", &conf, &id, Some(&pod)).success();
        assert!(!pod.exec("ip link").contains("eth0"), "step {step}");
        m.assert_clean();
    }
    // And a killed DEL is completed by the next.
    for step in 0..30u32 {
        let id = format!("d{step}");
        m.call("ADD", &conf, &id, Some(&pod)).success();
        let mut child = m.spawn("calico", &conf, &environment("DEL", &id, &path));
        std::thread::sleep(whole * step / 25);
        let _ = child.kill();
        let _ = child.wait_with_output();
        m.call("DEL", &conf, &id, Some(&pod)).success();
        m.assert_clean();
    }
}

#[test]
fn a_wrong_configuration_is_told_by_its_code_and_leaves_nothing() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    type Change = fn(&mut Value);
    let cases: [(u64, &str, Change); 18] = [
        (1, "cniVersion", |c| c["cniVersion"] = json!("7.0.0")),
        (7, "kubernetes.kubeconfig", |c| c["policy"] = json!({"type": "k8s"})),
        (7, "kubernetes.kubeconfig", |c| c["datastore_type"] = json!("kubernetes")),
        (2, "datastore_type", |c| c["datastore_type"] = json!("consul")),
        (2, "device_type", |c| c["device_type"] = json!("netkit")),
        (2, "dataplane_options", |c| c["dataplane_options"] = json!({"type": "grpc"})),
        (2, "calico_api_group", |c| c["calico_api_group"] = json!("crd.projectcalico.org/v1")),
        (7, "policy_setup_timeout_seconds", |c| c["policy_setup_timeout_seconds"] = json!(-1)),
        (7, "etcd endpoints", |c| c["etcd_endpoints"] = json!("not-a-url")),
        (7, "belong together", |c| c["etcd_cert_file"] = json!("/nowhere.pem")),
        (7, "ipam.type", |c| c["ipam"] = json!({})),
        (7, "no IPAM plugin", |c| c["ipam"] = json!({"type": "nonesuch"})),
        (7, "assign_ipv4", |c| c["ipam"]["assign_ipv4"] = json!("maybe")),
        (7, "both", |c| c["ipam"]["assign_ipv4"] = json!("false")),
        (101, "does not exist, or is not enabled", |c| c["ipam"]["ipv4_pools"] = json!(["192.0.2.0/24"])),
        (101, "no configured Calico pools", |c| c["ipam"]["assign_ipv6"] = json!("true")),
        (11, "node-z does not exist", |c| c["nodename"] = json!("node-z")),
        (11, "calico-node is running", |c| {
            c["nodename"] = json!("");
            c["nodename_file"] = json!("/nonexistent/nodename");
        }),
    ];
    for (code, word, change) in cases {
        let a = m.call("ADD", &m.conf("1.0.0", change), "c1", Some(&pod));
        assert_eq!(a.code(), code, "{word}: {}", a.text);
        assert!(a.text.contains(word), "{word}: {}", a.text);
        assert_eq!(a.json()["cniVersion"], "1.0.0");
    }
    let garbage = m.call_with("calico", &json!("not an object"), &environment("ADD", "c1", &pod.path()));
    assert_eq!(garbage.code(), 6);
    m.assert_clean();
    assert!(!pod.exec("ip link").contains("eth0"));
}

#[test]
fn missing_certificates_and_a_server_without_tls_are_told() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |c| {
        c["etcd_endpoints"] = json!("https://127.0.0.1:2379");
        c["etcd_ca_cert_file"] = json!("/nowhere/ca.pem");
    });
    let a = m.call("ADD", &conf, "c1", Some(&pod));
    assert_eq!(a.code(), 7, "{}", a.text);
    assert!(a.text.contains("/nowhere/ca.pem"), "{}", a.text);
    let conf = m.conf("1.0.0", |c| c["etcd_endpoints"] = json!("https://127.0.0.1:2379"));
    let a = m.call("ADD", &conf, "c1", Some(&pod));
    assert_eq!(a.code(), 11, "{}", a.text);
    m.assert_clean();
}

#[test]
fn a_pod_may_have_ipv6_alone() {
    let Some(m) = can_run().then(Machine::new) else { return };
    m.seed(&[("fd00:65::/48", 122)]);
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |c| {
        c["ipam"] = json!({"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"});
    });
    let address = m.call("ADD", &conf, "c1", Some(&pod)).success().address();
    assert!(address.ends_with("/128"), "{address}");
    assert_eq!(pod.exec("ip route").trim(), "");
    assert!(pod.exec("ip -6 route").contains("default via fe80::ecee:eeff:feee:eeee"));
    assert_eq!(m.ns.sysctl("ipv4/conf/calic1/proxy_arp"), "0");
    // The host answers for the next hop, and no duplicate address detection holds it up.
    assert_eq!(m.ns.sysctl("ipv6/conf/calic1/accept_dad"), "0");
    let send = || {
        let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
        let _ = socket.send_to(b"x", "[2001:db8::1]:9");
    };
    pod.enter(send);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !pod.exec("ip -6 neigh").contains("fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee") {
        assert!(Instant::now() < deadline, "{}", pod.exec("ip -6 neigh"));
        std::thread::sleep(Duration::from_millis(10));
    }
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    m.assert_clean();
}

#[test]
fn a_locked_datastore_asks_to_try_again_later() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    m.put(Kind::ClusterInformation, "default", &json!({"datastoreReady": false}));
    let conf = m.conf("1.1.0", |_| {});
    let a = m.call("ADD", &conf, "c1", Some(&pod));
    assert_eq!(a.code(), 11);
    assert!(a.text.contains("not ready"), "{}", a.text);
    assert_eq!(m.call("STATUS", &conf, "", None).code(), 50);
    m.put(Kind::ClusterInformation, "default", &json!({"datastoreReady": true}));
    m.call("STATUS", &conf, "", None).success();
    m.assert_clean();
}

#[test]
fn without_etcd_a_call_ends_in_bounded_time_and_can_be_repeated() {
    let Some(mut m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    m.call("ADD", &conf, "c1", Some(&pod)).success();
    m.stop_etcd();
    let other = NetNs::new();
    for (command, id, ns) in [("ADD", "c2", &other), ("DEL", "c1", &pod)] {
        let a = m.call(command, &conf, id, Some(ns));
        assert_eq!(a.code(), 11, "{}", a.text);
        assert!(a.text.contains("unreachable"), "{}", a.text);
        assert!(a.took < Duration::from_secs(300), "{:?}", a.took);
    }
    assert_eq!(m.interfaces(), Vec::<String>::new(), "DEL closes the pod's network also without etcd");
    m.start_etcd();
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    m.assert_clean();
}

#[test]
fn a_full_pool_is_told_and_leaves_nothing() {
    let Some(m) = can_run().then(Machine::new) else { return };
    m.seed(&[("10.9.0.0/31", 31)]);
    let conf = m.conf("1.1.0", |_| {});
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new()).collect();
    m.call("ADD", &conf, "c0", Some(&pods[0])).success();
    m.call("ADD", &conf, "c1", Some(&pods[1])).success();
    let a = m.call("ADD", &conf, "c2", Some(&pods[2]));
    assert_eq!(a.code(), 11);
    assert!(a.text.contains("0 left"), "{}", a.text);
    assert_eq!(m.call("STATUS", &conf, "", None).code(), 50);
    assert!(!pods[2].exec("ip link").contains("eth0"));
    assert_eq!(m.interfaces().len(), 2);
    m.call("DEL", &conf, "c0", Some(&pods[0])).success();
    m.call("ADD", &conf, "c2", Some(&pods[2])).success();
}

#[test]
fn an_interface_that_is_not_ours_is_left_alone() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    pod.exec("ip link add eth0 type bridge");
    let conf = m.conf("1.0.0", |_| {});
    let a = m.call("ADD", &conf, "c1", Some(&pod));
    assert_eq!(a.code(), 100);
    assert!(a.text.contains("exists already"), "{}", a.text);
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    assert!(pod.exec("ip link").contains("eth0"));
    m.assert_clean();
    let a = m.call_with("calico", &conf, &environment("ADD", "c1", "/proc/self/ns/net"));
    assert_eq!(a.code(), 3);
    let a = m.call_with("calico", &conf, &environment("ADD", "c1", "/nowhere"));
    assert_eq!(a.code(), 3);
}

#[test]
fn an_interface_left_by_an_earlier_container_of_the_name_is_replaced() {
    let Some(m) = machine() else { return };
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    m.ns.exec("ip link add calic1 type veth peer name left");
    m.call("ADD", &conf, "c1", Some(&pod)).success();
    assert!(!m.ns.exec("ip link").contains("left"));
    m.call("DEL", &conf, "c1", Some(&pod)).success();
    m.assert_clean();
}

#[test]
fn a_wanted_address_is_given_and_only_once() {
    let Some(m) = machine() else { return };
    let (a, b) = (NetNs::new(), NetNs::new());
    let conf = m.conf("1.0.0", |_| {});
    let add = |id: &str, ns: &NetNs, ip: &str| {
        let (path, args) = (ns.path(), format!("IP={ip}"));
        let mut env = environment("ADD", id, &path);
        env.push(("CNI_ARGS", &args));
        m.call_with("calico", &conf, &env)
    };
    assert_eq!(add("c1", &a, "10.65.3.4").success().address(), "10.65.3.4/32");
    let e = add("c2", &b, "10.65.3.4");
    assert_eq!(e.code(), 101);
    assert!(e.text.contains("already assigned"), "{}", e.text);
    assert!(add("c2", &b, "192.0.2.1").text.contains("not in a configured pool"));
    m.call("DEL", &conf, "c1", Some(&a)).success();
    m.call("DEL", &conf, "c2", Some(&b)).success();
    m.assert_clean();
}

#[test]
fn gc_removes_what_the_runtime_does_not_list() {
    let Some(m) = machine() else { return };
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new()).collect();
    let conf = m.conf("1.1.0", |_| {});
    for (i, pod) in pods.iter().enumerate() {
        m.call("ADD", &conf, &format!("c{i}"), Some(pod)).success();
    }
    m.call_with("calico-ipam", &conf, &environment("ADD", "only-addresses", "/x")).success();
    let gc = m.conf("1.1.0", |c| {
        c["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    });
    m.call_with("calico", &gc, &[("CNI_COMMAND", "GC")]).success();
    assert_eq!(m.interfaces(), ["calic1"]);
    assert_eq!(m.allocated().into_values().collect::<Vec<_>>(), ["peernet.c1"]);
    m.call("DEL", &conf, "c1", Some(&pods[1])).success();
    m.assert_clean();
}

#[test]
fn calico_ipam_works_by_itself() {
    let Some(m) = machine() else { return };
    let conf = m.conf("1.0.0", |_| {});
    let call = |command| m.call_with("calico-ipam", &conf, &environment(command, "c1", "/x"));
    let first = call("ADD").success();
    assert!(first.address().ends_with("/26"), "{}", first.text);
    assert_eq!(first.text, call("ADD").success().text);
    call("CHECK").success();
    call("DEL").success();
    call("DEL").success();
    assert_eq!(call("CHECK").code(), 102);
    assert_eq!(call("VERSION").success().json()["cniVersion"], "1.1.0");
    m.assert_clean();
}

#[test]
fn another_ipam_plugin_is_called_and_its_routes_are_used() {
    let Some(m) = machine() else { return };
    let bin = m.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let log = m.dir.path().join("calls");
    let _ = script(
        &bin,
        "fixed",
        &format!(
            "cat >/dev/null\necho $CNI_COMMAND $CNI_CONTAINERID >>{}\n[ $CNI_COMMAND = ADD ] && echo '{}'\nexit 0",
            log.display(),
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.77.0.5/24"}], "routes": [{"dst": "10.0.0.0/8"}]})
        ),
    );
    let conf = m.conf("1.0.0", |c| c["ipam"] = json!({"type": "fixed"}));
    let pod = NetNs::new();
    let (path, bin) = (pod.path(), bin.display().to_string());
    let call = |command| {
        let mut env = environment(command, "c1", &path);
        env.push(("CNI_PATH", &bin));
        m.call_with("calico", &conf, &env).success()
    };
    assert_eq!(call("ADD").address(), "10.77.0.5/32");
    let routes = pod.exec("ip route");
    assert!(routes.contains("10.0.0.0/8 via 169.254.1.1") && !routes.contains("default"), "{routes}");
    call("DEL");
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ADD c1\nDEL c1\n");
    m.assert_clean();
}
