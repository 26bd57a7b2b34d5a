//! `policy explain` and `policy diff` on a real etcd and a real API server, and agreement of the steps with the verdict.

use crate::common::Cluster;

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
        text.contains("Port 443: Allowed") && text.contains("ingress: not a workload of this cluster"),
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
