//! The plugin against a real API server and a real kernel: what kubelet and containerd ask of it, and what goes wrong.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::NetNs;
use support::kube::{API, KubeMachine, have_plugin};

/// One server serves all: it takes longer to start than anything that is shown here.
#[test]
fn pods_of_kubernetes_get_their_networks_and_lose_them() {
    let Some(m) = KubeMachine::new() else { return };
    a_pod_gets_addresses_that_are_written_where_upstream_writes_them(&m);
    an_add_and_a_del_take_the_requests_that_the_data_needs(&m);
    a_repeated_add_gives_the_same_answer(&m);
    a_late_del_of_an_earlier_sandbox_leaves_the_new_one_alone(&m);
    del_works_when_pod_or_namespace_are_gone(&m);
    a_pod_that_the_server_does_not_have_gets_no_network(&m);
    check_names_what_was_changed(&m);
    annotations_choose_addresses_pools_and_mac(&m);
    features_that_are_not_enabled_are_refused(&m);
    a_fixed_address_goes_from_sandbox_to_sandbox(&m);
    sixteen_pods_at_once_get_sixteen_addresses(&m);
    an_add_that_is_killed_at_any_time_leaves_nothing_that_del_does_not_remove(&m);
    gc_removes_what_the_runtime_does_not_list(&m);
    status_tells_whether_an_add_could_succeed(&m);
    host_local_takes_the_nodes_subnets(&m);
    static_addresses_are_taken_from_the_configuration(&m);
    add_waits_for_the_policy(&m);
    a_machine_keeps_its_address_from_pod_to_pod(&m);
    with_etcd_the_labels_come_from_the_api_server(&m);
}

#[test]
fn a_server_that_cannot_be_used_is_told_and_nothing_is_left() {
    let Some(mut m) = KubeMachine::new() else { return };
    wrong_credentials_are_told(&m);
    a_server_that_is_down_is_told_in_time(&mut m);
}

fn a_pod_gets_addresses_that_are_written_where_upstream_writes_them(m: &KubeMachine) {
    m.pod("web-1", &json!({}));
    let pod = NetNs::new();
    let conf = m.conf("0.3.1", |c| c["ipam"]["assign_ipv6"] = json!("true"));
    let result = m.call("ADD", &conf, "c1", Some(("web-1", &pod))).success().json();
    assert_eq!(result["cniVersion"], "0.3.1");
    let ips: Vec<&str> =
        result["ips"].as_array().unwrap().iter().map(|i| i["address"].as_str().unwrap()).collect();
    assert!(ips.len() == 2 && ips[0].starts_with("10.65.") && ips[1].starts_with("fd00:65:"), "{ips:?}");
    let notes = m.annotations("web-1");
    assert_eq!(notes["cni.projectcalico.org/podIP"], ips[0]);
    assert_eq!(notes["cni.projectcalico.org/podIPs"], ips.join(","));
    assert_eq!(notes["cni.projectcalico.org/containerID"], "c1");
    assert_eq!(m.handles(), ["k8s-pod-network.c1"]);
    let allocated = m.allocated();
    assert_eq!(allocated.len(), 2);
    for a in allocated.values() {
        let who = &a["secondary"];
        assert_eq!(
            (&who["node"], &who["pod"], &who["namespace"]),
            (&json!("kn1"), &json!("web-1"), &json!("default")),
            "{a}"
        );
        assert_eq!(a["handle_id"], "k8s-pod-network.c1");
    }
    assert!(pod.exec("ip route").contains("default via 169.254.1.1"));
    let host = m.interfaces();
    assert_eq!(host.len(), 1);
    assert!(m.ns.exec("ip route").contains(&host[0]));
    m.call("DEL", &conf, "c1", Some(("web-1", &pod))).success();
    let notes = m.annotations("web-1");
    assert_eq!(
        (notes["cni.projectcalico.org/podIP"].as_str(), notes["cni.projectcalico.org/podIPs"].as_str()),
        ("", "")
    );
    assert_eq!(notes["cni.projectcalico.org/containerID"], "c1");
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/web-1");
}

fn an_add_and_a_del_take_the_requests_that_the_data_needs(m: &KubeMachine) {
    // The server's cache may be a moment behind: then an ADD rightly asks for more.
    let cached = format!("{API}/blockaffinities?resourceVersion=0");
    let known = || m.get(&cached)["items"].as_array().is_some_and(|all| all.len() == 2);
    libcalico_testing::within(Duration::from_secs(60), "the claims are in the server's cache", known);
    m.pod("count", &json!({}));
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    let mut since = m.requests().len();
    let mut count = |command: &str| {
        m.call(command, &conf, "c1", Some(("count", &pod))).success();
        let all = m.requests();
        let new: Vec<_> = all[since..].to_vec();
        since = all.len();
        new
    };
    let writes = |all: &[(String, String)]| {
        all.iter().filter(|(v, _)| !matches!(v.as_str(), "\"get\"" | "\"list\"")).count()
    };
    // Claims; then pools, reservations, settings, node, handle, the block of each family, cluster, pod, namespace.
    // Pod and handle; block and settings; pod, block, handle.
    let needed = [(14, 3), (7, 3), (2, 0)];
    // A busy server's cache may be behind at any time: what the data needs is seen in one of several rounds.
    let mut seen = Vec::new();
    while !seen.iter().any(|(counts, _)| *counts == needed) {
        assert!(seen.len() < 10, "{seen:#?}");
        let told = ["ADD", "DEL", "DEL"].map(&mut count);
        seen.push((told.each_ref().map(|all| (all.len(), writes(all))), told));
    }
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/count");
}

fn a_repeated_add_gives_the_same_answer(m: &KubeMachine) {
    m.pod("twice", &json!({}));
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    let first = m.call("ADD", &conf, "c1", Some(("twice", &pod))).success();
    pod.exec("ip link del eth0");
    let again = m.call("ADD", &conf, "c1", Some(("twice", &pod))).success();
    assert_eq!(first.json(), again.json());
    assert!(pod.exec("ip route").contains("default via 169.254.1.1"));
    assert_eq!(m.allocated().len(), 1);
    m.call("DEL", &conf, "c1", Some(("twice", &pod))).success();
    m.assert_clean();
    // After a DEL the same container is a new one.
    let third = m.call("ADD", &conf, "c1", Some(("twice", &pod))).success();
    assert_ne!(first.address(), third.address());
    m.call("DEL", &conf, "c1", Some(("twice", &pod))).success();
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/twice");
}

fn a_late_del_of_an_earlier_sandbox_leaves_the_new_one_alone(m: &KubeMachine) {
    m.pod("again", &json!({}));
    let (old, new) = (NetNs::new(), NetNs::new());
    let conf = m.conf("1.0.0", |_| {});
    m.call("ADD", &conf, "c1", Some(("again", &old))).success();
    let second = m.call("ADD", &conf, "c2", Some(("again", &new))).success();
    m.call("DEL", &conf, "c1", Some(("again", &old))).success();
    m.call("DEL", &conf, "c1", Some(("again", &old))).success();
    assert_eq!(m.annotations("again")["cni.projectcalico.org/podIP"], second.address());
    assert_eq!(m.handles(), ["k8s-pod-network.c2"]);
    assert_eq!((m.allocated().len(), m.interfaces().len()), (1, 1));
    m.call("DEL", &conf, "c2", Some(("again", &new))).success();
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/again");
}

fn del_works_when_pod_or_namespace_are_gone(m: &KubeMachine) {
    let conf = m.conf("1.0.0", |_| {});
    m.pod("gone", &json!({}));
    let pod = NetNs::new();
    m.call("ADD", &conf, "c1", Some(("gone", &pod))).success();
    m.delete("/api/v1/namespaces/default/pods/gone");
    drop(pod);
    m.call_without_ns("DEL", &conf, "c1", "gone").success();
    // Nothing names the interface any more: the kernel removes it with the namespace, in its own time.
    let dissolved = || m.interfaces().is_empty();
    libcalico_testing::within(Duration::from_secs(60), "the kernel dissolves the namespace", dissolved);
    m.assert_clean();
    m.call_without_ns("DEL", &conf, "never-seen", "nobody").success();
    // The pod was made anew under its name: its addresses are not the old one's to give back.
    m.pod("anew", &json!({}));
    let pod = NetNs::new();
    m.call("ADD", &conf, "c1", Some(("anew", &pod))).success();
    m.delete("/api/v1/namespaces/default/pods/anew");
    m.pod(
        "anew",
        &json!({"cni.projectcalico.org/podIP": "10.65.9.9/32", "cni.projectcalico.org/containerID": "c9"}),
    );
    m.call("DEL", &conf, "c1", Some(("anew", &pod))).success();
    assert_eq!(m.annotations("anew")["cni.projectcalico.org/podIP"], "10.65.9.9/32");
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/anew");
}

fn a_pod_that_the_server_does_not_have_gets_no_network(m: &KubeMachine) {
    let pod = NetNs::new();
    let e = m.call("ADD", &m.conf("1.0.0", |_| {}), "c1", Some(("nobody", &pod)));
    assert_eq!(e.code(), 11);
    assert!(e.text.contains("default/nobody"), "{}", e.text);
    let e = m.call("ADD", &m.conf("1.0.0", |_| {}), "c1", None);
    assert_eq!(e.code(), 4, "{}", e.text);
    assert!(pod.exec("ip -br link").lines().all(|l| l.starts_with("lo")));
    m.assert_clean();
}

fn check_names_what_was_changed(m: &KubeMachine) {
    m.pod("check", &json!({"cni.projectcalico.org/hwAddr": "1c:0c:0a:c0:ff:ee"}));
    let pod = NetNs::new();
    let conf = m.conf("1.0.0", |_| {});
    let result = m.call("ADD", &conf, "c1", Some(("check", &pod))).success().json();
    let conf = m.conf("1.0.0", |c| c["prevResult"] = result);
    m.call("CHECK", &conf, "c1", Some(("check", &pod))).success();
    pod.exec("ip route del default");
    let e = m.call("CHECK", &conf, "c1", Some(("check", &pod)));
    assert_eq!(e.code(), 102);
    assert!(e.text.contains("the pod lacks the route"), "{}", e.text);
    m.call("DEL", &conf, "c1", Some(("check", &pod))).success();
    assert_eq!(m.call("CHECK", &conf, "c1", Some(("check", &pod))).code(), 102);
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/check");
}

fn annotations_choose_addresses_pools_and_mac(m: &KubeMachine) {
    m.pool("other", "10.66.0.0/24", 28);
    let conf = m.conf("1.0.0", |_| {});
    let address = |annotations: Value| {
        m.pod("noted", &annotations);
        let pod = NetNs::new();
        let result = m.call("ADD", &conf, "c1", Some(("noted", &pod))).success();
        let link = pod.exec("ip link show eth0");
        m.call("DEL", &conf, "c1", Some(("noted", &pod))).success();
        m.assert_clean();
        m.delete("/api/v1/namespaces/default/pods/noted");
        (
            result.json()["ips"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| i["address"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
            link,
        )
    };
    let (ips, _) = address(json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.3.4\", \"fd00:65::7\"]"}));
    assert_eq!(ips, ["10.65.3.4/32", "fd00:65::7/128"]);
    let (ips, _) = address(json!({"cni.projectcalico.org/ipv4pools": "[\"other\"]"}));
    assert!(ips[0].starts_with("10.66."), "{ips:?}");
    let (ips, _) = address(json!({"cni.projectcalico.org/ipFamilies": "[\"IPv6\"]"}));
    assert!(ips.len() == 1 && ips[0].starts_with("fd00:65:"), "{ips:?}");
    let (_, link) = address(json!({"cni.projectcalico.org/hwAddr": "1c:0c:0a:c0:ff:ee"}));
    assert!(link.contains("1c:0c:0a:c0:ff:ee"), "{link}");
    m.patch(
        "/api/v1/namespaces/default",
        &json!({"metadata": {"annotations": {"cni.projectcalico.org/ipv4pools": "[\"10.66.0.0/24\"]"}}}),
    );
    let (ips, _) = address(json!({}));
    assert!(ips[0].starts_with("10.66."), "{ips:?}");
    let (ips, _) = address(json!({"cni.projectcalico.org/ipv4pools": "[\"pool4\"]"}));
    assert!(ips[0].starts_with("10.65."), "{ips:?}");
    m.patch(
        "/api/v1/namespaces/default",
        &json!({"metadata": {"annotations": {"cni.projectcalico.org/ipv4pools": null}}}),
    );
    m.delete(&format!("{API}/ippools/other"));
}

fn features_that_are_not_enabled_are_refused(m: &KubeMachine) {
    let pod = NetNs::new();
    for (name, value, feature) in [
        ("ipAddrsNoIpam", "[\"192.0.2.5\"]", "ip_addrs_no_ipam"),
        ("floatingIPs", "[\"192.0.2.6\"]", "floating_ips"),
    ] {
        m.pod("feature", &json!({format!("cni.projectcalico.org/{name}"): value}));
        let e = m.call("ADD", &m.conf("1.0.0", |_| {}), "c1", Some(("feature", &pod)));
        assert_eq!(e.code(), 2);
        assert!(e.text.contains(feature), "{}", e.text);
        m.assert_clean();
        let conf = m.conf("1.0.0", |c| c["feature_control"] = json!({feature: true}));
        let given = m.call("ADD", &conf, "c1", Some(("feature", &pod))).success();
        if name == "ipAddrsNoIpam" {
            assert_eq!(given.address(), "192.0.2.5/32");
            assert!(m.handles().is_empty() && m.allocated().is_empty());
        }
        m.call("DEL", &conf, "c1", Some(("feature", &pod))).success();
        m.assert_clean();
        m.delete("/api/v1/namespaces/default/pods/feature");
    }
}

/// A pod of a StatefulSet that asks for an address gets it in its next sandbox also while the earlier one is not
/// cleaned up yet.
fn a_fixed_address_goes_from_sandbox_to_sandbox(m: &KubeMachine) {
    m.pod("fixed", &json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.3.4\"]"}));
    let (old, new) = (NetNs::new(), NetNs::new());
    let conf = m.conf("1.0.0", |_| {});
    m.call("ADD", &conf, "c1", Some(("fixed", &old))).success();
    assert_eq!(m.call("ADD", &conf, "c2", Some(("fixed", &new))).success().address(), "10.65.3.4/32");
    m.call("DEL", &conf, "c1", Some(("fixed", &old))).success();
    assert_eq!(m.handles(), ["k8s-pod-network.c2"]);
    assert_eq!(m.allocated().len(), 1);
    // Another pod does not get it.
    m.pod("thief", &json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.3.4\"]"}));
    let e = m.call("ADD", &conf, "c3", Some(("thief", &old)));
    assert!(e.text.contains("already assigned"), "{}", e.text);
    assert_eq!(m.handles(), ["k8s-pod-network.c2"]);
    m.call("DEL", &conf, "c2", Some(("fixed", &new))).success();
    m.assert_clean();
    for p in ["fixed", "thief"] {
        m.delete(&format!("/api/v1/namespaces/default/pods/{p}"));
    }
}

fn sixteen_pods_at_once_get_sixteen_addresses(m: &KubeMachine) {
    let conf = m.conf("1.0.0", |_| {});
    let pods: Vec<(String, NetNs)> = (0..16)
        .map(|i| {
            let name = format!("burst-{i}");
            m.pod(&name, &json!({}));
            (name, NetNs::new())
        })
        .collect();
    let all = |command: &str| {
        let started = Instant::now();
        let calls: Vec<_> = pods
            .iter()
            .map(|(name, ns)| m.spawn(command, &conf, &format!("c-{name}"), Some((name, ns))))
            .collect();
        calls.into_iter().map(|c| support::answer(c, started).success()).collect::<Vec<_>>()
    };
    let addresses: BTreeSet<String> = all("ADD").iter().map(support::Answer::address).collect();
    assert_eq!(addresses.len(), 16);
    assert_eq!((m.allocated().len(), m.handles().len()), (16, 16));
    all("DEL");
    m.assert_clean();
    for (name, _) in &pods {
        m.delete(&format!("/api/v1/namespaces/default/pods/{name}"));
    }
}

fn an_add_that_is_killed_at_any_time_leaves_nothing_that_del_does_not_remove(m: &KubeMachine) {
    m.pod("killed", &json!({}));
    let conf = m.conf("1.0.0", |_| {});
    for i in 0..24 {
        let pod = NetNs::new();
        let id = format!("k{i}");
        let mut child = m.spawn("ADD", &conf, &id, Some(("killed", &pod)));
        std::thread::sleep(Duration::from_millis(10 * i));
        let _ = child.kill();
        let _ = child.wait();
        m.call("DEL", &conf, &id, Some(("killed", &pod))).success();
        m.assert_clean();
    }
    m.delete("/api/v1/namespaces/default/pods/killed");
}

fn gc_removes_what_the_runtime_does_not_list(m: &KubeMachine) {
    let conf = m.conf("1.1.0", |_| {});
    let names = ["gc-kept", "gc-lost", "gc-deleted", "gc-again"];
    let pods: Vec<NetNs> = names.iter().map(|_| NetNs::new()).collect();
    for (name, ns) in names.iter().zip(&pods) {
        m.pod(name, &json!({}));
        m.call("ADD", &conf, &format!("c-{name}"), Some((name, ns))).success();
    }
    m.delete("/api/v1/namespaces/default/pods/gc-deleted");
    // A second sandbox of a pod: the first one's address goes, the interface is the second one's.
    let next = NetNs::new();
    m.call("ADD", &conf, "c-next", Some(("gc-again", &next))).success();
    let valid =
        json!([{"containerID": "c-gc-kept", "ifname": "eth0"}, {"containerID": "c-next", "ifname": "eth0"}]);
    let gc = m.conf("1.1.0", |c| c["cni.dev/valid-attachments"] = valid);
    m.call("GC", &gc, "", None).success();
    let mut handles = m.handles();
    handles.sort();
    assert_eq!(handles, ["k8s-pod-network.c-gc-kept", "k8s-pod-network.c-next"]);
    assert_eq!((m.allocated().len(), m.interfaces().len()), (2, 2));
    assert_eq!(m.annotations("gc-lost")["cni.projectcalico.org/podIP"], "");
    assert_ne!(m.annotations("gc-again")["cni.projectcalico.org/podIP"], "");
    m.call("GC", &m.conf("1.1.0", |_| {}), "", None).success();
    m.assert_clean();
    for p in ["gc-kept", "gc-lost", "gc-again"] {
        m.delete(&format!("/api/v1/namespaces/default/pods/{p}"));
    }
}

fn status_tells_whether_an_add_could_succeed(m: &KubeMachine) {
    m.call("STATUS", &m.conf("1.1.0", |_| {}), "", None).success();
    let e = m.call("STATUS", &m.conf("1.1.0", |c| c["nodename"] = json!("stranger")), "", None);
    assert_eq!(e.code(), 50);
    assert!(e.text.contains("stranger"), "{}", e.text);
    let e = m.call("STATUS", &m.conf("1.1.0", |c| c["ipam"]["ipv4_pools"] = json!(["none"])), "", None);
    assert_eq!(e.code(), 50);
    m.assert_clean();
}

fn host_local_takes_the_nodes_subnets(m: &KubeMachine) {
    if !have_plugin("host-local") {
        return;
    }
    m.pod("local", &json!({}));
    let data = m.dir.path().join("host-local");
    let one = json!({"type": "host-local", "subnet": "usePodCidr", "dataDir": data});
    let both = json!({"type": "host-local", "dataDir": data,
        "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]], "routes": [{"dst": "10.0.0.0/8"}]});
    for (ipam, wanted) in [(one, vec!["10.77.1."]), (both, vec!["10.77.1.", "fd77:1::"])] {
        let conf = m.conf("1.0.0", |c| c["ipam"] = ipam);
        let pod = NetNs::new();
        let result = m.call("ADD", &conf, "c1", Some(("local", &pod))).success().json();
        let ips: Vec<&str> =
            result["ips"].as_array().unwrap().iter().map(|i| i["address"].as_str().unwrap()).collect();
        assert_eq!(ips.len(), wanted.len());
        for (ip, prefix) in ips.iter().zip(&wanted) {
            assert!(ip.starts_with(prefix), "{ips:?}");
        }
        assert_eq!(m.annotations("local")["cni.projectcalico.org/podIPs"].split(',').count(), wanted.len());
        assert_eq!(pod.exec("ip route").contains("default"), wanted.len() == 1);
        let checked = m.conf("1.0.0", |c| {
            c["ipam"] = conf["ipam"].clone();
            c["prevResult"] = result.clone();
        });
        m.call("CHECK", &checked, "c1", Some(("local", &pod))).success();
        m.call("DEL", &conf, "c1", Some(("local", &pod))).success();
        m.call("DEL", &conf, "c1", Some(("local", &pod))).success();
        m.assert_clean();
    }
    let conf = m.conf("1.0.0", |c| {
        c["ipam"] = json!({"type": "host-local", "subnet": "usePodCidr"});
        c["kubernetes"]["node_name"] = json!("stranger");
    });
    let pod = NetNs::new();
    let e = m.call("ADD", &conf, "c1", Some(("local", &pod)));
    assert!(e.text.contains("node stranger does not exist"), "{}", e.text);
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/local");
}

fn static_addresses_are_taken_from_the_configuration(m: &KubeMachine) {
    if !have_plugin("static") {
        return;
    }
    m.pod("static", &json!({}));
    let pod = NetNs::new();
    let ipam = json!({"type": "static", "addresses": [{"address": "10.78.0.5/24"}], "dns": {"nameservers": ["192.0.2.53"]}});
    let conf = m.conf("1.0.0", |c| c["ipam"] = ipam);
    let result = m.call("ADD", &conf, "c1", Some(("static", &pod))).success();
    assert_eq!(result.address(), "10.78.0.5/32");
    assert_eq!(result.json()["dns"]["nameservers"][0], "192.0.2.53");
    m.call("DEL", &conf, "c1", Some(("static", &pod))).success();
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/static");
}

fn add_waits_for_the_policy(m: &KubeMachine) {
    m.pod("waiting", &json!({}));
    let pod = NetNs::new();
    let dir = m.dir.path().join("endpoint-status");
    std::fs::create_dir(&dir).unwrap();
    let conf = m.conf("1.0.0", |c| {
        c["policy_setup_timeout_seconds"] = json!(60);
        c["endpoint_status_dir"] = json!(dir);
    });
    let started = Instant::now();
    let mut child = m.spawn("ADD", &conf, "c1", Some(("waiting", &pod)));
    while !m.annotations("waiting").contains_key("cni.projectcalico.org/podIP") {
        assert!(started.elapsed() < Duration::from_secs(300));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "ADD must wait");
    std::fs::write(dir.join("k8s default%2Fwaiting eth0"), "{}").unwrap();
    let told = Instant::now();
    support::answer(child, started).success();
    assert!(told.elapsed() < Duration::from_secs(45), "it would have waited for a minute");
    m.call("DEL", &conf, "c1", Some(("waiting", &pod))).success();
    // Nobody speaks: the pod is made nevertheless.
    std::fs::remove_file(dir.join("k8s default%2Fwaiting eth0")).unwrap();
    let conf = m.conf("1.0.0", |c| {
        c["policy_setup_timeout_seconds"] = json!(1);
        c["endpoint_status_dir"] = json!(dir);
    });
    let late = m.call("ADD", &conf, "c2", Some(("waiting", &pod))).success();
    assert!(late.took >= Duration::from_secs(1));
    m.call("DEL", &conf, "c2", Some(("waiting", &pod))).success();
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/waiting");
}

/// Endpoints in etcd, pods in Kubernetes: the API server's own etcd serves both.
fn with_etcd_the_labels_come_from_the_api_server(m: &KubeMachine) {
    m.pod("mixed", &json!({"kubernetes.io/ingress-bandwidth": "1M", "cni.projectcalico.org/floatingIPs": "[\"192.0.2.9\"]"}));
    let etcd = m.server().etcd.endpoint();
    let put = |key: &str, value: &Value| {
        let (key, value) = (format!("/calico/resources/v3/projectcalico.org/{key}"), value.to_string());
        m.ns.enter(|| m.server().etcd.etcdctl(&["put", &key, &value]))
    };
    let meta = |kind: &str, name: &str, spec: Value| json!({"kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": {"name": name, "uid": "u"}, "spec": spec});
    put("nodes/kn1", &meta("Node", "kn1", json!({})));
    let pool = json!({"cidr": "10.90.0.0/24", "blockSize": 28, "nodeSelector": "all()", "allowedUses": ["Workload"]});
    put("ippools/p", &meta("IPPool", "p", pool));
    let conf = m.conf("1.0.0", |c| {
        c["datastore_type"] = json!("etcdv3");
        c["etcd_endpoints"] = json!(etcd);
        c["feature_control"] = json!({"floating_ips": true});
    });
    let pod = NetNs::new();
    let address = m.call("ADD", &conf, "c1", Some(("mixed", &pod))).success().address();
    assert!(address.starts_with("10.90."), "{address}");
    assert_eq!(
        m.annotations("mixed").get("cni.projectcalico.org/podIP"),
        None,
        "the pod is not the endpoint"
    );
    let path = "/calico/resources/v3/projectcalico.org/workloadendpoints/default/kn1-k8s-mixed-eth0";
    let read = || m.ns.enter(|| m.server().etcd.etcdctl(&["get", "--print-value-only", path]));
    let endpoint: Value = serde_json::from_str(&read()).unwrap();
    let labels = &endpoint["metadata"]["labels"];
    assert_eq!(
        (&labels["app"], &labels["projectcalico.org/serviceaccount"]),
        (&json!("web"), &json!("clerk"))
    );
    let spec = &endpoint["spec"];
    assert_eq!(spec["profiles"], json!(["kns.default", "ksa.default.clerk"]));
    assert_eq!((&spec["ports"][0]["name"], &spec["serviceAccountName"]), (&json!("http"), &json!("clerk")));
    assert_eq!(spec["ipNATs"][0]["externalIP"], "192.0.2.9");
    assert_eq!(spec["qosControls"]["ingressBandwidth"], 1_000_000);
    assert_eq!(spec["containerID"], "c1");
    m.call("DEL", &conf, "c1", Some(("mixed", &pod))).success();
    assert_eq!(read(), "");
    m.assert_clean();
    m.delete("/api/v1/namespaces/default/pods/mixed");
}

fn kubevirt(m: &KubeMachine) {
    for (kind, plural) in
        [("VirtualMachineInstance", "virtualmachineinstances"), ("VirtualMachine", "virtualmachines")]
    {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        m.create(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.kubevirt.io")},
                "spec": {"group": "kubevirt.io", "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}}),
        );
        let path = format!("/apis/kubevirt.io/v1/namespaces/default/{plural}");
        let served = || m.ns.enter(|| m.server().raw("GET", &path, None).is_ok());
        libcalico_testing::within(Duration::from_secs(60), "KubeVirt's kinds", served);
    }
}

/// A virtual machine's pods come and go; its address goes with the machine, not with them.
fn a_machine_keeps_its_address_from_pod_to_pod(m: &KubeMachine) {
    kubevirt(m);
    let machine = |kind: &str, plural: &str, owners: Value| {
        m.create(
            &format!("/apis/kubevirt.io/v1/namespaces/default/{plural}"),
            &json!({"apiVersion": "kubevirt.io/v1", "kind": kind,
                "metadata": {"name": "vm1", "ownerReferences": owners, "finalizers": ["example.org/kept"]}}),
        )["metadata"]["uid"]
            .clone()
    };
    let uid = machine("VirtualMachine", "virtualmachines", json!([]));
    let owner = |kind: &str, uid: &Value| json!([{"apiVersion": "kubevirt.io/v1", "kind": kind, "name": "vm1", "uid": uid, "controller": true}]);
    let instance =
        machine("VirtualMachineInstance", "virtualmachineinstances", owner("VirtualMachine", &uid));
    let pod = |name: &str, migration: Option<&str>| {
        let labels = migration.map_or(json!({}), |m| json!({"kubevirt.io/migrationJobUID": m}));
        m.create(
            "/api/v1/namespaces/default/pods",
            &json!({"metadata": {"name": name, "labels": labels, "ownerReferences": owner("VirtualMachineInstance", &instance)},
                "spec": {"nodeName": "kn1", "containers": [{"name": "c", "image": "i"}]}}),
        );
        NetNs::new()
    };
    let conf = m.conf("1.0.0", |_| {});
    let attribute = || m.allocated().values().next().cloned().unwrap();
    let (p1, p2) = ("virt-launcher-vm1-a", "virt-launcher-vm1-b");
    let first_ns = pod(p1, None);
    let first = m.call("ADD", &conf, "c1", Some((p1, &first_ns))).success();
    assert_eq!(m.handles(), ["k8s-pod-network.vmi.default.vm1"]);
    assert_eq!(
        (&attribute()["secondary"]["vm-uid"], &attribute()["secondary"]["vmi-name"]),
        (&uid, &json!("vm1"))
    );
    // The machine moves to another pod: the same address, without the host's routes, which stay with the first.
    let second_ns = pod(p2, Some("move-1"));
    let second = m.call("ADD", &conf, "c2", Some((p2, &second_ns))).success();
    assert_eq!(first.address(), second.address());
    assert_eq!(attribute()["alternateOwnerAttrs"]["pod"], p2);
    let gc = m.conf("1.1.0", |c| c["cni.dev/valid-attachments"] = json!([]));
    m.call("GC", &gc, "", None).success();
    assert_eq!(m.allocated().len(), 1, "GC knows containers, not machines");
    m.call("DEL", &conf, "c1", Some((p1, &first_ns))).success();
    assert_eq!(
        (attribute().get("secondary"), &attribute()["alternateOwnerAttrs"]["pod"]),
        (None, &json!(p2))
    );
    m.call("DEL", &conf, "c2", Some((p2, &second_ns))).success();
    assert_eq!(m.allocated().len(), 1, "the machine is there still");
    // It starts again, and gets the address that it had; then it is deleted, and so is its last pod.
    let third_ns = pod("virt-launcher-vm1-c", None);
    let third = m.call("ADD", &conf, "c3", Some(("virt-launcher-vm1-c", &third_ns))).success();
    assert_eq!(first.address(), third.address());
    m.delete("/apis/kubevirt.io/v1/namespaces/default/virtualmachines/vm1");
    m.call("DEL", &conf, "c3", Some(("virt-launcher-vm1-c", &third_ns))).success();
    m.assert_clean();
    for p in [p1, p2, "virt-launcher-vm1-c"] {
        m.delete(&format!("/api/v1/namespaces/default/pods/{p}"));
    }
}

fn wrong_credentials_are_told(m: &KubeMachine) {
    m.pod("denied", &json!({}));
    let pod = NetNs::new();
    let server = m.server();
    let endpoint = server.endpoint();
    let stranger = m.dir.path().join("stranger");
    let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let own = server.pki.cert("ca").display().to_string();
    std::fs::write(&stranger, text.replace(&own, &server.pki.cert("other-ca").display().to_string()))
        .unwrap();
    let cases = [
        (server.kubeconfig_of("wrong-token", &endpoint, &json!({"token": "wrong"})), "Unauthorized"),
        (stranger, "certificate"),
        (m.dir.path().join("missing"), "missing"),
        (
            server.kubeconfig_of("wrong-port", "https://127.0.0.1:1", &json!({"token": server.token()})),
            "127.0.0.1:1",
        ),
    ];
    for (kubeconfig, word) in cases {
        let conf = m.conf("1.1.0", |c| c["kubernetes"]["kubeconfig"] = json!(kubeconfig));
        for command in ["ADD", "DEL", "CHECK", "STATUS"] {
            let conf = if command == "CHECK" {
                let mut conf = conf.clone();
                conf["prevResult"] = json!({"ips": []});
                conf
            } else {
                conf.clone()
            };
            let e = m.call(command, &conf, "c1", Some(("denied", &pod)));
            assert!(!e.ok && e.text.contains(word), "{command} {word}: {e:?}");
            assert!(e.took < Duration::from_secs(300), "{e:?}");
        }
        assert!(pod.exec("ip -br link").lines().all(|l| l.starts_with("lo")));
        m.assert_clean();
    }
    let conf = m.conf("1.0.0", |c| c["kubernetes"] = json!({}));
    let e = m.call("ADD", &conf, "c1", Some(("denied", &pod)));
    assert_eq!(e.code(), 7);
    assert!(e.text.contains("kubernetes.kubeconfig"), "{}", e.text);
}

fn a_server_that_is_down_is_told_in_time(m: &mut KubeMachine) {
    let conf = m.conf("1.0.0", |_| {});
    let pod = NetNs::new();
    m.call("ADD", &conf, "c1", Some(("denied", &pod))).success();
    m.ns.enter(|| m.server.as_mut().unwrap().kill());
    let new = NetNs::new();
    let e = m.call("ADD", &conf, "c2", Some(("denied", &new)));
    assert_eq!(e.code(), 11);
    assert!(e.text.contains("unreachable"), "{}", e.text);
    assert!(e.took < Duration::from_secs(300), "{:?}", e.took);
    assert!(new.exec("ip -br link").lines().all(|l| l.starts_with("lo")));
    // The interface goes at once, the rest when the server is there again.
    assert_eq!(m.call("DEL", &conf, "c1", Some(("denied", &pod))).code(), 11);
    assert_eq!(m.interfaces(), Vec::<String>::new());
    m.ns.enter(|| {
        let server = m.server.as_mut().unwrap();
        server.run();
        server.wait_for_kinds();
    });
    m.call("DEL", &conf, "c1", Some(("denied", &pod))).success();
    m.assert_clean();
}
