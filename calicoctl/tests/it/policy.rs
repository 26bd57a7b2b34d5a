//! `policy explain` and `policy diff` on a real etcd and a real API server, and agreement of the steps with the verdict.

use serde_json::json;

use crate::common::{Cluster, Etcd, Kubernetes};

/// Two nodes, three pods, a policy that lets the client reach the web's port 80, and a default that denies the rest.
fn world(c: &dyn Cluster) {
    c.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.65.0.0/16}\n",
    );
    if !c.kubernetes() {
        c.ok(
            &["apply", "-f", "-"],
            "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.default}\n\
             spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n",
        );
    }
    c.pod("default", "web", "node-a", &[("app", "web")], "10.65.0.2");
    c.pod("default", "client", "node-b", &[("app", "client")], "10.65.1.2");
    c.pod("default", "other", "node-b", &[("app", "other")], "10.65.2.2");
    c.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: default}\n\
         spec: {selector: app == 'web', types: [Ingress], ingress: [{action: Allow, protocol: TCP, \
         source: {selector: app == 'client'}, destination: {ports: [80, '8080:8081']}}]}\n",
    );
}

fn explain(c: &dyn Cluster, args: &[&str]) -> String {
    c.ok(&[&["policy", "explain"], args].concat(), "")
}

pub fn the_answer_names_what_decides_at_both_ends_and_the_steps(c: &dyn Cluster) {
    world(c);
    assert_eq!(
        explain(c, &["default/client", "default/web:80/tcp"]),
        "default/client (10.65.1.2) -> default/web (10.65.0.2), TCP\n\
         Port 80: Allowed\n  \
           egress of default/client on node-b: allowed by profile kns.default rule 0 (Allow)\n    \
             profile kns.default: rule 0: Allow (Allow)\n  \
           ingress of default/web on node-a: allowed by NetworkPolicy default/web rule 0 in tier default \
         (Allow TCP from app == 'client' to ports 80, 8080:8081)\n    \
             tier default: NetworkPolicy default/web: rule 0: Allow (Allow TCP from app == 'client' to ports 80, 8080:8081)\n"
    );
    let denied = explain(c, &["default/other", "default/web:80"]);
    assert!(denied.contains("Port 80: Denied\n"), "{denied}");
    assert!(
        denied.contains("denied by the end of tier default: policies apply and none of their rules matches"),
        "{denied}"
    );
    assert!(denied.contains("    tier default: end of the tier: Deny\n"), "{denied}");
}

pub fn without_a_port_the_answer_names_the_ports_it_holds_for(c: &dyn Cluster) {
    world(c);
    let text = explain(c, &["default/client", "default/web"]);
    let heads: Vec<&str> = text.lines().filter(|l| l.starts_with("Port")).collect();
    assert_eq!(
        heads,
        [
            "Ports 1-79: Denied",
            "Port 80: Allowed",
            "Ports 81-8079: Denied",
            "Ports 8080-8081: Allowed",
            "Ports 8082-65535: Denied"
        ]
    );
    let text = explain(c, &["default/client", "default/web:icmp"]);
    assert!(text.contains("ICMP echo request\nDenied\n"), "{text}");
}

pub fn pods_that_do_not_exist_yet_and_the_outside_are_judged_too(c: &dyn Cluster) {
    world(c);
    assert!(explain(c, &["labels:app=client@default", "default/web:80"]).contains("Port 80: Allowed"));
    assert!(explain(c, &["labels:app=client@elsewhere", "default/web:80"]).contains("Port 80: Denied"));
    assert!(explain(c, &["default/client", "labels:app=web@default:81"]).contains("Port 81: Denied"));
    let text = explain(c, &["default/client", "outside:443"]);
    assert!(
        text.contains("Port 443: Allowed")
            && text.contains("ingress: no workload or host endpoint of this cluster"),
        "{text}"
    );
    assert!(explain(c, &["10.65.1.2", "10.65.0.2:80"]).contains("Port 80: Allowed"));
    let out = c.calicoctl(&["policy", "explain", "default/nobody", "default/web"], "");
    assert!(out.code == 1 && out.stderr.contains("there is no pod default/nobody"), "{}", out.stderr);
}

pub fn the_matrix_and_json_say_the_same(c: &dyn Cluster) {
    world(c);
    assert_eq!(
        explain(c, &["--all-pairs"]),
        "\
TCP
+----------------+----------------+---------------+--------------+---------+
| FROM \\ TO      | default/client | default/other | default/web  | outside |
+----------------+----------------+---------------+--------------+---------+
| default/client | -              | allow         | 80,8080-8081 | allow   |
| default/other  | allow          | -             | deny         | allow   |
| default/web    | allow          | allow         | -            | allow   |
| outside        | allow          | allow         | deny         | -       |
+----------------+----------------+---------------+--------------+---------+
"
    );
    let json: serde_json::Value =
        serde_json::from_str(&explain(c, &["default/client", "default/web:80", "-o", "json"])).unwrap();
    let part = &json[0]["parts"][0];
    assert_eq!(part["allowed"], true);
    assert_eq!(part["ingress"]["policy"], "NetworkPolicy default/web");
    assert_eq!((&part["ingress"]["rule"], &part["ingress"]["tier"]), (&0.into(), &"default".into()));
}

pub fn steps_end_with_what_decided(c: &dyn Cluster) {
    world(c);
    let tiers = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: first}\nspec: {order: 10, defaultAction: Pass}\n---\n\
        apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: first.watch}\n\
        spec: {tier: first, selector: all(), types: [Ingress, Egress], ingress: [{action: Log}, {action: Deny, protocol: UDP}], egress: [{action: Pass, protocol: TCP}]}\n---\n\
        apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\nmetadata: {name: first.later}\n\
        spec: {tier: first, selector: all(), types: [Ingress], ingress: [{action: Deny}]}\n";
    let out = c.calicoctl(&["apply", "-f", "-"], tiers);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let mut judged = 0;
    for protocol in ["tcp", "udp", "icmp"] {
        let text = explain(c, &["--all-pairs", "--port", protocol, "-o", "json"]);
        let answers: serde_json::Value = serde_json::from_str(&text).unwrap();
        for part in answers.as_array().unwrap().iter().flat_map(|a| a["parts"].as_array().unwrap()) {
            for half in ["egress", "ingress"].iter().filter_map(|h| part.get(*h)) {
                let last = half["steps"].as_array().unwrap().last().unwrap();
                let outcome = last["outcome"].as_str().unwrap();
                let allowed = half["allowed"].as_bool().unwrap();
                assert!(outcome.contains(if allowed { "Allow" } else { "Deny" }), "{half}");
                if let Some(policy) = half.get("policy") {
                    assert_eq!(&last["subject"], policy, "{half}");
                }
                judged += 1;
            }
        }
    }
    assert!(judged > 30, "{judged}");
    let text = explain(c, &["default/client", "default/web:80"]);
    assert!(text.contains("tier first: GlobalNetworkPolicy first.watch: rule 0: Log\n"), "{text}");
    assert!(
        text.contains("StagedGlobalNetworkPolicy first.later: staged, not enforced: rule 0: Deny (Deny)\n"),
        "{text}"
    );
}

pub fn a_diff_names_the_pairs_that_would_change_and_writes_nothing(c: &dyn Cluster) {
    world(c);
    let policy = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: default}\n\
        spec: {selector: app == 'web', types: [Ingress], ingress: [{action: Allow, protocol: TCP, \
        source: {selector: \"app in {'client', 'other'}\"}, destination: {ports: [80, 8080]}}]}\n";
    let out = c.calicoctl(&["policy", "diff", "-f", "-"], policy);
    assert_eq!(
        out.stdout,
        "default/client -> default/web, TCP Port 8081: Allowed -> Denied by the end of tier default: policies apply and none of their rules matches\n\
         default/other -> default/web, TCP Port 80: Denied -> Allowed by profile kns.default rule 0 (Allow); NetworkPolicy default/web rule 0 in tier default (Allow TCP from app in {'client', 'other'} to ports 80, 8080)\n\
         default/other -> default/web, TCP Port 8080: Denied -> Allowed by profile kns.default rule 0 (Allow); NetworkPolicy default/web rule 0 in tier default (Allow TCP from app in {'client', 'other'} to ports 80, 8080)\n",
        "{}",
        out.stderr
    );
    let stored = c.calicoctl(&["get", "np", "web", "-o", "yaml"], "").stdout;
    assert!(stored.contains("8080:8081"), "{stored}");
    let same = c.calicoctl(&["get", "np", "web", "-o", "yaml"], "").stdout;
    assert_eq!(c.calicoctl(&["policy", "diff", "-f", "-"], &same).stdout, "No pair would change.\n");
}

/// A host's interface with a policy that lets the client in, and one before address translation that denies a port.
pub fn host_endpoints_are_judged_with_their_own_stages(c: &dyn Cluster) {
    world(c);
    c.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: node-a.eth0, labels: {role: host}}\n\
         spec: {node: node-a, interfaceName: eth0, expectedIPs: [172.31.0.1]}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: host}\n\
         spec: {selector: role == 'host', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'client'}, \
         destination: {ports: [443]}}]}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: early}\n\
         spec: {selector: role == 'host', preDNAT: true, applyOnForward: true, types: [Ingress], \
         ingress: [{action: Deny, protocol: TCP, destination: {ports: [8443]}}]}\n",
    );
    let text = explain(c, &["default/client", "host:node-a.eth0:443"]);
    assert!(text.contains("Port 443: Allowed") && text.contains("GlobalNetworkPolicy host rule 0"), "{text}");
    assert!(text.contains("ingress of host endpoint node-a.eth0 on node-a: allowed"), "{text}");
    let text = explain(c, &["default/client", "172.31.0.1:8443"]);
    assert!(
        text.contains("Port 8443: Denied") && text.contains("GlobalNetworkPolicy early rule 0"),
        "{text}"
    );
    let text = explain(c, &["default/other", "host:node-a.eth0:443"]);
    assert!(text.contains("Port 443: Denied") && text.contains("the end of tier default"), "{text}");
    let text = explain(c, &["outside", "host:node-a.eth0:22"]);
    assert!(
        text.contains("Port 22: Allowed") && text.contains("a failsafe port, which no policy closes"),
        "{text}"
    );
    // What the node forwards for its pod passes its endpoint too; what a pod says to its own node does not.
    let text = explain(c, &["default/web", "outside:443"]);
    let way = "forwarded egress of host endpoint node-a.eth0 on node-a: allowed by no policy for forwarded traffic decides";
    assert!(text.contains("Port 443: Allowed") && text.contains(way), "{text}");
    let text = explain(c, &["outside", "default/web:8443"]);
    assert!(
        text.contains(
            "forwarded ingress of host endpoint node-a.eth0 on node-a: denied by GlobalNetworkPolicy early"
        ),
        "{text}"
    );
    let text = explain(c, &["default/web", "host:node-a.eth0:443"]);
    assert!(text.contains("Port 443: Allowed") && text.contains("defaultEndpointToHostAction"), "{text}");
    let e = c.refused(&["policy", "explain", "outside", "host:nobody"], "");
    assert!(e.contains("calicoctl get hostendpoints"), "{e}");
}

/// What Kubernetes' own policies and services say, by their own names.
#[test]
fn kubernetes_policies_and_services_are_explained_by_their_names() {
    let Some(k) = Kubernetes::start() else { return };
    world(&k);
    let policies = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: other-only}\n\
        spec: {podSelector: {matchLabels: {app: other}}, ingress: [{ports: [{port: 53, protocol: UDP}]}]}\n---\n\
        apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: no-icmp}\n\
        spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, \
        podSelector: {matchLabels: {app: other}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}\n";
    k.ok(&["apply", "-f", "-"], policies);
    let text = explain(&k, &["default/web", "default/other:53/udp"]);
    assert!(
        text.contains("Allowed") && text.contains("Kubernetes NetworkPolicy default/other-only"),
        "{text}"
    );
    let text = explain(&k, &["default/other", "default/web:80"]);
    assert!(
        text.contains("Denied") && text.contains("ClusterNetworkPolicy no-icmp rule 0 in tier kube-admin"),
        "{text}"
    );
    // A service and the pod behind it.
    k.create(
        "/api/v1/namespaces/default/services",
        &json!({ "metadata": { "name": "shop" }, "spec": { "ports": [
            { "name": "http", "port": 8000, "targetPort": 8080, "protocol": "TCP" },
            { "name": "admin", "port": 9000, "targetPort": 9090, "protocol": "TCP" },
        ] } }),
    );
    k.create(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &json!({ "metadata": { "name": "shop-1", "labels": { "kubernetes.io/service-name": "shop" } }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.65.0.2"], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "admin", "port": 9090, "protocol": "TCP" }] }),
    );
    let text = explain(&k, &["default/client", "svc:default/shop:8000"]);
    assert!(text.contains("svc:default/shop at default/web (10.65.0.2), TCP\nPort 8080: Allowed"), "{text}");
    assert!(!text.contains("9090"), "another port of the service: {text}");
    let text = explain(&k, &["default/client", "svc:default/shop"]);
    assert!(text.contains("Port 8080: Allowed") && text.contains("Port 9090: Denied"), "{text}");
    let e = k.refused(&["policy", "explain", "default/client", "svc:default/shop:9"], "");
    assert!(e.contains("its TCP ports are: 8000, 9000"), "{e}");
    // What would be, before it is applied, also for a Kubernetes policy.
    let diff = k.ok(
        &["policy", "diff", "-f", "-"],
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: other-only}\n\
        spec: {podSelector: {matchLabels: {app: other}}, ingress: [{ports: [{port: 54, protocol: UDP}]}]}\n",
    );
    assert!(diff.contains("default/web -> default/other, UDP Port 54: Denied -> Allowed"), "{diff}");
}

/// 200 pods on 10 nodes, 40 policies: a matrix of 40,000 pairs.
#[test]
fn a_matrix_of_two_hundred_pods_is_whole() {
    let Some(etcd) = Etcd::start() else { return };
    let mut text = String::from(
        "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.default}\nspec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n",
    );
    for i in 0..200 {
        text.push_str(&format!(
            "---\napiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{namespace: default, labels: {{app: app-{}}}}}\n\
             spec: {{node: node-{}, orchestrator: k8s, pod: pod-{i}, endpoint: eth0, containerID: c{i}, interfaceName: cali{i}, \
             ipNetworks: [10.65.{}.{}/32], profiles: [kns.default]}}\n",
            i % 40, i % 10, i / 100, i % 100 + 1
        ));
    }
    for i in 0..40 {
        text.push_str(&format!(
            "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p{i}, namespace: default}}\n\
             spec: {{selector: app == 'app-{i}', types: [Ingress], ingress: [{{action: Allow, protocol: TCP, \
             source: {{selector: app == 'app-{}'}}, destination: {{ports: [80, {}]}}}}]}}\n",
            (i + 1) % 40, 1000 + i
        ));
    }
    etcd.ok(&["apply", "-f", "-"], &text);
    let start = std::time::Instant::now();
    let matrix = explain(&etcd, &["--all-pairs"]);
    let took = start.elapsed();
    eprintln!("200 x 200 pods: {took:?}");
    assert_eq!(matrix.lines().filter(|l| l.starts_with("| default/pod-")).count(), 200);
    assert!(matrix.contains("80,1000"), "{}", matrix.lines().take(5).collect::<Vec<_>>().join("\n"));
    // How long it takes is told, not judged: a debug build, on however busy a machine.
}
