//! What ADD prints, stores and leaves in the kernel equals what was captured from upstream (`tests/facts`).

mod support;

use serde_json::{Value, json};
use support::{Machine, NetNs, can_run};

const SINGLE: (&str, i64) = ("10.65.174.128/26", 26);
const V6: (&str, i64) = ("fd00:65:0:6d15:74ba:80e:4835:8080/122", 122);

fn fact(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/facts/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The section of a captured state whose title begins with `title`, as trimmed lines.
fn section(state: &str, title: &str) -> Vec<String> {
    let body = state.split("## ").find(|s| s.starts_with(title)).unwrap_or_else(|| panic!("no {title:?}"));
    body.lines().skip(1).map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// What does not depend on the moment of capture.
fn stable(link: &[String], names: &[(&str, &str)]) -> Vec<String> {
    let drop_after = ["qdisc", "state", "mode"];
    let mut out = Vec::new();
    for line in link {
        let mut line = line.clone();
        for (from, to) in names {
            line = line.replace(from, to);
        }
        let line = line.split_once(": ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(&*line, |(_, l)| l);
        let mut words: Vec<&str> = Vec::new();
        for w in line.split_whitespace() {
            if drop_after.contains(&w) || w == "link-netns" || w == "link-netnsid" || w == "tso_max_size" {
                break;
            }
            words.push(if w.contains('@') { w.split('@').next().unwrap() } else { w });
        }
        let words: Vec<&str> = words.into_iter().filter(|w| *w != "tentative").collect();
        out.push(words.join(" "));
    }
    out
}

#[test]
fn a_container_with_one_address_stands_as_upstream_leaves_it() {
    if !can_run() {
        return;
    }
    let m = Machine::new();
    m.seed(&[SINGLE]);
    let conf = m.conf("0.3.1", |_| {});
    compare(&m, &conf, "d0000c0ffee0123456789", "etcd", ("calid0000c0ffee", "pp-d-0", "b2:6f:1e:d8:51:4f"));
}

#[test]
fn a_container_with_both_families_stands_as_upstream_leaves_it() {
    if !can_run() {
        return;
    }
    let m = Machine::new();
    m.seed(&[("10.65.174.190/32", 32), V6]);
    let conf = m.conf("0.3.1", |c| {
        c["ipam"] = json!({"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"});
    });
    compare(
        &m,
        &conf,
        "v60000c0ffee0123456789",
        "etcd-dual-stack",
        ("caliv60000c0ffe", "pp-v6-0", "4a:26:ce:04:68:8b"),
    );
}

/// ADD, ADD again, DEL, DEL again, beside the capture.
fn compare(
    m: &Machine,
    conf: &Value,
    id: &str,
    case: &str,
    (veth, captured_ns, captured_mac): (&str, &str, &str),
) {
    let pod = NetNs::new();
    let first = m.call("ADD", conf, id, Some(&pod)).success();
    let mac = first.json()["interfaces"][1]["mac"].as_str().unwrap().to_owned();
    let normal = |text: &str| {
        let text = text.replace(&mac, captured_mac).replace(&pod.name, captured_ns);
        // The pool of this test has blocks of one address, upstream's had 64.
        text.replace(
            "10.65.174.190/32\"\n        },\n        {\n            \"dst",
            "10.65.174.190/26\"\n        },\n        {\n            \"dst",
        )
    };
    assert_eq!(normal(&first.text), fact(&format!("{case}-add-result.json")).trim_end());

    let state = fact(&format!("{case}-state.txt"));
    let ns_title = |rest: &str| format!("ip -n {captured_ns} {rest}\n");
    assert_eq!(lines(&pod.exec("ip route")), section(&state, &ns_title("route")));
    assert_eq!(lines(&pod.exec("ip -6 route")), section(&state, &ns_title("-6 route")));
    assert_eq!(lines(&pod.exec("ip neigh")).len(), 0);
    let routes = |l: Vec<String>| l.into_iter().filter(|r| r.contains(veth)).collect::<Vec<_>>();
    assert_eq!(routes(lines(&m.ns.exec("ip route"))), routes(section(&state, "ip route\n")));
    assert_eq!(routes(lines(&m.ns.exec("ip -6 route"))), routes(section(&state, "ip -6 route\n")));

    let names = [(mac.as_str(), captured_mac)];
    let ours = stable(&lines(&pod.exec("ip -d addr show eth0")), &names);
    let theirs: Vec<String> =
        section(&state, &ns_title("-d addr")).into_iter().skip_while(|l| !l.contains("eth0")).collect();
    let local = |l: &String| !l.contains("fe80");
    assert_eq!(
        ours.into_iter().filter(local).collect::<Vec<_>>(),
        stable(&theirs, &[]).into_iter().filter(local).collect::<Vec<_>>()
    );
    let ours = stable(&lines(&m.ns.exec(&format!("ip addr show {veth}"))), &names);
    assert_eq!(ours, stable(&section(&state, &format!("ip addr show {veth}")), &[]));

    for line in section(&state, "host veth sysctls") {
        let (key, rest) = line.trim_start_matches("* ").split_once(" = ").unwrap();
        let value = rest.split_whitespace().next().unwrap();
        let key = key.strip_prefix("net.").unwrap().replace('.', "/").replace("<veth>", veth);
        assert_eq!(m.ns.sysctl(&key), value, "{key}");
    }
    for line in section(&state, &format!("ip netns exec {captured_ns} sysctl")) {
        let (key, value) = line.split_once(" = ").unwrap();
        let key = key.strip_prefix("net.").unwrap().replace('.', "/");
        assert_eq!(pod.sysctl(&key), value, "{key}");
    }

    let before = m.dump();
    let again = m.call("ADD", conf, id, Some(&pod)).success();
    let captured = fact(&format!("{case}-add-twice.txt"));
    let captured = &captured[captured.find('{').unwrap()..=captured.rfind('}').unwrap()];
    assert_eq!(normal(&again.text), captured);
    assert_eq!(m.dump(), before, "a repeated ADD changes nothing");

    let check = m.call("CHECK", conf, id, Some(&pod));
    let captured = fact(&format!("{case}-check.txt"));
    let captured: Value = serde_json::from_str(captured.split_once('\n').unwrap().1).unwrap();
    assert_eq!((&check.json()["code"], &check.json()["msg"]), (&captured["code"], &captured["msg"]));

    for _ in 0..2 {
        assert_eq!(m.call("DEL", conf, id, Some(&pod)).success().text, "");
    }
    m.assert_clean();
}

#[test]
fn what_is_stored_is_what_upstream_stores() {
    if !can_run() {
        return;
    }
    let m = Machine::new();
    m.seed(&[SINGLE, V6]);
    let conf = m.conf("0.3.1", |c| c["ipam"] = json!({"type": "calico-ipam", "assign_ipv6": "true"}));
    let pods: Vec<NetNs> = (0..2).map(|_| NetNs::new()).collect();
    for (i, pod) in pods.iter().enumerate() {
        m.call("ADD", &conf, &format!("keep000{i}c0ffee0123456789"), Some(pod)).success();
    }
    let dump = m.dump();
    let mut captured = std::collections::BTreeMap::new();
    let text = fact("etcd-dump-excerpt.txt");
    let all: Vec<&str> = text.lines().collect();
    for pair in all.chunks_exact(2) {
        captured.insert(pair[0].to_owned(), serde_json::from_str::<Value>(pair[1]).unwrap());
    }
    let compared = [
        "/calico/ipam/v2/handle/peernet.keep0001c0ffee0123456789",
        "/calico/ipam/v2/host/node-a/ipv4/block/10.65.174.128-26",
        "/calico/ipam/v2/host/node-a/ipv6/block/fd00:65:0:6d15:74ba:80e:4835:8080-122",
        "/calico/resources/v3/projectcalico.org/profiles/peernet",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node--a-cni-keep0001c0ffee0123456789-eth0",
    ];
    for path in compared {
        let (mut ours, mut theirs) = (dump[path].clone(), captured[path].clone());
        for v in [&mut ours, &mut theirs] {
            if let Some(meta) = v.get_mut("metadata") {
                assert!(meta["uid"].as_str().unwrap().len() == 36);
                assert!(meta["creationTimestamp"].as_str().unwrap().ends_with('Z'));
                meta["uid"] = json!("");
                meta["creationTimestamp"] = json!("");
            }
            if let Some(spec) = v.get_mut("spec").filter(|s| s.get("mac").is_some()) {
                spec["mac"] = json!("");
                spec["ipNetworks"] = json!([]);
            }
        }
        assert_eq!(ours, theirs, "{path}");
    }
    let block = "/calico/ipam/v2/assignment/ipv4/block/10.65.174.128-26";
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&dump[block]), keys(&captured[block]));
    let attribute = &dump[block]["attributes"][1];
    assert_eq!(attribute["handle_id"], "peernet.keep0001c0ffee0123456789");
    assert_eq!(keys(&attribute["secondary"]), keys(&captured[block]["attributes"][0]["secondary"]));
}
