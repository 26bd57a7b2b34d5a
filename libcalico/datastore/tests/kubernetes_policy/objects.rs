//! The same world as the API server holds it.

use serde_json::json;

use crate::world::*;

fn selector(s: &LabelSelector) -> serde_json::Value {
    let expression = |(key, operator, values): &(&str, &str, Vec<&str>)| match values.is_empty() {
        true => json!({ "key": key, "operator": operator }),
        false => json!({ "key": key, "operator": operator, "values": values }),
    };
    let expressions: Vec<_> = s.expressions.iter().map(expression).collect();
    json!({ "matchLabels": s.labels, "matchExpressions": expressions })
}

fn peer(p: &Peer) -> serde_json::Value {
    match p {
        Peer::Block { cidr, except } => json!({ "ipBlock": { "cidr": cidr, "except": except } }),
        Peer::Selectors { pods, namespaces } => {
            let mut out = json!({});
            if let Some(s) = pods {
                out["podSelector"] = selector(s);
            }
            if let Some(s) = namespaces {
                out["namespaceSelector"] = selector(s);
            }
            out
        }
    }
}

fn port((protocol, port): &(Option<&str>, PolicyPort)) -> serde_json::Value {
    let mut out = match port {
        PolicyPort::All => json!({}),
        PolicyPort::Number(n) => json!({ "port": n }),
        PolicyPort::Range(a, b) => json!({ "port": a, "endPort": b }),
        PolicyPort::Named(n) => json!({ "port": n }),
    };
    if let Some(p) = protocol {
        out["protocol"] = json!(p);
    }
    out
}

fn rules(rules: &[Rule], side: &str) -> Vec<serde_json::Value> {
    let one = |r: &Rule| {
        let peers: Vec<_> = r.peers.iter().map(peer).collect();
        let ports: Vec<_> = r.ports.iter().map(port).collect();
        json!({ side: peers, "ports": ports })
    };
    rules.iter().map(one).collect()
}

pub fn policy(index: usize, p: &Policy) -> String {
    let mut spec = json!({
        "podSelector": selector(&p.pods), "ingress": rules(&p.ingress, "from"), "egress": rules(&p.egress, "to"),
    });
    if let Some(types) = &p.types {
        spec["policyTypes"] = json!(types);
    }
    let meta = json!({ "name": format!("p{index}"), "namespace": NAMESPACES[p.namespace] });
    json!({ "metadata": meta, "spec": spec }).to_string()
}

fn cluster_rules(rules: &[ClusterRule], side: &str) -> Vec<serde_json::Value> {
    let pods = |namespaces: &LabelSelector, pods: &Option<LabelSelector>| match pods {
        None => json!({ "namespaces": selector(namespaces) }),
        Some(p) => {
            json!({ "pods": { "namespaceSelector": selector(namespaces), "podSelector": selector(p) } })
        }
    };
    let peer = |p: &ClusterPeer| match p {
        ClusterPeer::Networks(nets) => json!({ "networks": nets }),
        ClusterPeer::Pods { namespaces, pods: p } => pods(namespaces, p),
    };
    let port = |p: &ClusterPort| match p {
        ClusterPort::All(protocol) => json!({ *protocol: {} }),
        ClusterPort::Number(protocol, n) => json!({ *protocol: { "destinationPort": { "number": n } } }),
        ClusterPort::Range(protocol, a, b) => {
            json!({ *protocol: { "destinationPort": { "range": { "start": a, "end": b } } } })
        }
        ClusterPort::Named(name) => json!({ "destinationNamedPort": name }),
    };
    let one = |r: &ClusterRule| {
        let peers: Vec<_> = r.peers.iter().map(peer).collect();
        let mut rule = json!({ "action": r.action, side: peers });
        if !r.ports.is_empty() {
            rule["protocols"] = r.ports.iter().map(port).collect();
        }
        rule
    };
    rules.iter().map(one).collect()
}

pub fn cluster_policy(index: usize, p: &ClusterPolicy) -> String {
    let subject = match &p.pods {
        None => json!({ "namespaces": selector(&p.namespaces) }),
        Some(pods) => {
            json!({ "pods": { "namespaceSelector": selector(&p.namespaces), "podSelector": selector(pods) } })
        }
    };
    let spec = json!({
        "tier": if p.admin { "Admin" } else { "Baseline" }, "priority": p.priority, "subject": subject,
        "ingress": cluster_rules(&p.ingress, "from"), "egress": cluster_rules(&p.egress, "to"),
    });
    json!({ "metadata": { "name": format!("p{index}") }, "spec": spec }).to_string()
}

pub fn pod(index: usize, p: &Pod) -> String {
    let port = |(name, protocol, number): &(&str, &str, u16)| json!({ "name": name, "protocol": protocol, "containerPort": number });
    let ports: Vec<_> = p.ports.iter().map(port).collect();
    json!({
        "metadata": { "name": format!("pod-{index}"), "namespace": NAMESPACES[p.namespace], "labels": p.labels },
        "spec": { "nodeName": "n", "containers": [{ "ports": ports }] },
        "status": { "podIP": format!("10.0.0.{}", p.address) },
    })
    .to_string()
}

pub fn namespace(index: usize, labels: &Labels) -> String {
    json!({ "metadata": { "name": NAMESPACES[index], "labels": labels } }).to_string()
}
