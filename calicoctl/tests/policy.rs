//! `policy explain` and `policy diff` on a real etcd, and agreement of the steps with the verdict.

mod common;

use common::Etcd;

/// Two nodes, three pods, a policy that lets the client reach the web's port 80, and a default that denies the rest.
fn cluster() -> Option<Etcd> {
    let etcd = Etcd::start()?;
    let mut text = String::new();
    text.push_str(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.65.0.0/16}\n---\n",
    );
    let labels = "labels: {projectcalico.org/namespace: default, projectcalico.org/orchestrator: k8s, app: ";
    for (i, (pod, node, app)) in
        [("web", "node-a", "web"), ("client", "node-b", "client"), ("other", "node-b", "other")]
            .iter()
            .enumerate()
    {
        text.push_str(&format!(
            "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{name: {}-k8s-{pod}-eth0, namespace: default, {labels}{app}}}}}\n\
             spec: {{node: {node}, orchestrator: k8s, pod: {pod}, endpoint: eth0, containerID: c{i}, interfaceName: cali{i}, \
             ipNetworks: [10.65.{i}.2/32], profiles: [kns.default]}}\n---\n",
            node.replace('-', "--"),
        ));
    }
    text.push_str(
        "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.default}\n\
         spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: default}\n\
         spec: {selector: app == 'web', types: [Ingress], ingress: [{action: Allow, protocol: TCP, \
         source: {selector: app == 'client'}, destination: {ports: [80, '8080:8081']}}]}\n",
    );
    let out = etcd.calicoctl(&["apply", "-f", "-"], &text);
    assert_eq!(out.code, 0, "{}", out.stderr);
    Some(etcd)
}

fn explain(etcd: &Etcd, args: &[&str]) -> String {
    let out = etcd.calicoctl(&[&["policy", "explain"], args].concat(), "");
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.stdout
}

#[test]
fn the_answer_names_what_decides_at_both_ends_and_the_steps() {
    let Some(etcd) = cluster() else { return };
    assert_eq!(
        explain(&etcd, &["default/client", "default/web:80/tcp"]),
        "default/client (10.65.1.2) -> default/web (10.65.0.2), TCP\n\
         Port 80: Allowed\n  \
           egress of default/client on node-b: allowed by profile kns.default rule 0 (Allow)\n    \
             profile kns.default: rule 0: Allow (Allow)\n  \
           ingress of default/web on node-a: allowed by NetworkPolicy default/web rule 0 in tier default \
         (Allow TCP from app == 'client' to ports 80, 8080:8081)\n    \
             tier default: NetworkPolicy default/web: rule 0: Allow (Allow TCP from app == 'client' to ports 80, 8080:8081)\n"
    );
    let denied = explain(&etcd, &["default/other", "default/web:80"]);
    assert!(denied.contains("Port 80: Denied\n"), "{denied}");
    assert!(
        denied.contains("denied by the end of tier default: policies apply and none of their rules matches"),
        "{denied}"
    );
    assert!(denied.contains("    tier default: end of the tier: Deny\n"), "{denied}");
}

#[test]
fn without_a_port_the_answer_names_the_ports_it_holds_for() {
    let Some(etcd) = cluster() else { return };
    let text = explain(&etcd, &["default/client", "default/web"]);
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
    let text = explain(&etcd, &["default/client", "default/web:icmp"]);
    assert!(text.contains("ICMP echo request\nDenied\n"), "{text}");
}

#[test]
fn pods_that_do_not_exist_yet_and_the_outside_are_judged_too() {
    let Some(etcd) = cluster() else { return };
    assert!(explain(&etcd, &["labels:app=client@default", "default/web:80"]).contains("Port 80: Allowed"));
    assert!(explain(&etcd, &["labels:app=client@elsewhere", "default/web:80"]).contains("Port 80: Denied"));
    assert!(explain(&etcd, &["default/client", "labels:app=web@default:81"]).contains("Port 81: Denied"));
    let text = explain(&etcd, &["default/client", "outside:443"]);
    assert!(
        text.contains("Port 443: Allowed") && text.contains("ingress: not a workload of this cluster"),
        "{text}"
    );
    assert!(explain(&etcd, &["10.65.1.2", "10.65.0.2:80"]).contains("Port 80: Allowed"));
    let out = etcd.calicoctl(&["policy", "explain", "default/nobody", "default/web"], "");
    assert!(out.code == 1 && out.stderr.contains("there is no pod default/nobody"), "{}", out.stderr);
}

#[test]
fn the_matrix_and_json_say_the_same() {
    let Some(etcd) = cluster() else { return };
    assert_eq!(
        explain(&etcd, &["--all-pairs"]),
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
        serde_json::from_str(&explain(&etcd, &["default/client", "default/web:80", "-o", "json"])).unwrap();
    let part = &json[0]["parts"][0];
    assert_eq!(part["allowed"], true);
    assert_eq!(part["ingress"]["policy"], "NetworkPolicy default/web");
    assert_eq!((&part["ingress"]["rule"], &part["ingress"]["tier"]), (&0.into(), &"default".into()));
}

#[test]
fn steps_end_with_what_decided() {
    let Some(etcd) = cluster() else { return };
    let tiers = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: first}\nspec: {order: 10, defaultAction: Pass}\n---\n\
        apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: first.watch}\n\
        spec: {tier: first, selector: all(), types: [Ingress, Egress], ingress: [{action: Log}, {action: Deny, protocol: UDP}], egress: [{action: Pass, protocol: TCP}]}\n---\n\
        apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\nmetadata: {name: first.later}\n\
        spec: {tier: first, selector: all(), types: [Ingress], ingress: [{action: Deny}]}\n";
    let out = etcd.calicoctl(&["apply", "-f", "-"], tiers);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let mut judged = 0;
    for protocol in ["tcp", "udp", "icmp"] {
        let text = explain(&etcd, &["--all-pairs", "--port", protocol, "-o", "json"]);
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
    let text = explain(&etcd, &["default/client", "default/web:80"]);
    assert!(text.contains("tier first: GlobalNetworkPolicy first.watch: rule 0: Log\n"), "{text}");
    assert!(
        text.contains("StagedGlobalNetworkPolicy first.later: staged, not enforced: rule 0: Deny (Deny)\n"),
        "{text}"
    );
}

#[test]
fn a_diff_names_the_pairs_that_would_change_and_writes_nothing() {
    let Some(etcd) = cluster() else { return };
    let policy = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: default}\n\
        spec: {selector: app == 'web', types: [Ingress], ingress: [{action: Allow, protocol: TCP, \
        source: {selector: \"app in {'client', 'other'}\"}, destination: {ports: [80, 8080]}}]}\n";
    let out = etcd.calicoctl(&["policy", "diff", "-f", "-"], policy);
    assert_eq!(
        out.stdout,
        "default/client -> default/web, TCP Port 8081: Allowed -> Denied by the end of tier default: policies apply and none of their rules matches\n\
         default/other -> default/web, TCP Port 80: Denied -> Allowed by profile kns.default rule 0 (Allow); NetworkPolicy default/web rule 0 in tier default (Allow TCP from app in {'client', 'other'} to ports 80, 8080)\n\
         default/other -> default/web, TCP Port 8080: Denied -> Allowed by profile kns.default rule 0 (Allow); NetworkPolicy default/web rule 0 in tier default (Allow TCP from app in {'client', 'other'} to ports 80, 8080)\n",
        "{}",
        out.stderr
    );
    let stored = etcd.calicoctl(&["get", "np", "web", "-o", "yaml"], "").stdout;
    assert!(stored.contains("8080:8081"), "{stored}");
    let same = etcd.calicoctl(&["get", "np", "web", "-o", "yaml"], "").stdout;
    assert_eq!(etcd.calicoctl(&["policy", "diff", "-f", "-"], &same).stdout, "No pair would change.\n");
}
