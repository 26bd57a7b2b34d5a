//! Wrong files: every command that reads files names the file, the document in it, the field and what is allowed.

use crate::common::{Cluster as _, Etcd};

/// Commands that read files of objects.
const READERS: [&[&str]; 8] = [
    &["apply"],
    &["create"],
    &["replace"],
    &["delete"],
    &["get"],
    &["validate"],
    &["convert"],
    &["policy", "diff"],
];
/// Those for which a file must be complete and right, not only name objects.
const WRITERS: [&[&str]; 6] =
    [&["apply"], &["create"], &["replace"], &["validate"], &["convert"], &["policy", "diff"]];

const GOOD: &str =
    "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\nspec: {order: 1}\n---\n";

/// A second document, and what the error says of it behind `document 2`.
const UNREADABLE: &[(&str, &[&str])] = &[
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16, nadOutgoing: true}\n",
        &[
            "(IPPool p)",
            "spec.nadOutgoing: unknown field; allowed: allowedUses, assignmentMode, blockSize, cidr",
        ],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16, ipipMode: Sometimes}\n",
        &["(IPPool p)", "spec.ipipMode", "Sometimes", "Never", "Always", "CrossSubnet"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16, natOutgoing: perhaps}\n",
        &["(IPPool p)", "spec.natOutgoing", "boolean"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: pol, namespace: x}\nspec: {ingress: [{action: Allow}, {action: Allow, sauce: {}}]}\n",
        &[
            "(NetworkPolicy x/pol)",
            "spec.ingress[1].sauce: unknown field; allowed: action, destination, http",
        ],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: pol, nmespace: x}\nspec: {}\n",
        &["(NetworkPolicy pol)", "metadata.nmespace: unknown field; allowed: annotations, ", "namespace"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: Pool\nmetadata: {name: p}\n",
        &[
            "(Pool p)",
            "unknown resource type (Pool)",
            "allowed: apiVersion projectcalico.org/v3 with kind BGPConfiguration",
        ],
    ),
    (
        "kind: IPPool\nmetadata: {name: p}\n",
        &["(IPPool p)", "version ()", "allowed: apiVersion projectcalico.org/v3"],
    ),
    ("apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.0.0.0/8, color: red}\n", &["ipPool"]),
    ("just text\n", &["unknown resource type ()"]),
    ("a: [1, 2\nb: 3\n", &["line"]),
];

/// The same for what a writer is told.
const UNWRITABLE: &[(&str, &[&str])] = &[
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0/16}\n",
        &["(IPPool p)", "spec.cidr: \"10.0.0/16\""],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16, blockSize: 12}\n",
        &["(IPPool p)", "spec.blockSize: \"12\"", "between 20 and 32"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: Pool_One}\nspec: {cidr: 10.0.0.0/16}\n",
        &["metadata.name: \"Pool_One\"", "lower-case letters, digits"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: 'app = 1'}\n",
        &["(GlobalNetworkPolicy g)", "spec.selector: \"app = 1\""],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, destination: {ports: [80]}}]}\n",
        &["spec.ingress[0].", "protocol"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {doNotTrack: true, preDNAT: true}\n",
        &["(GlobalNetworkPolicy g)", "preDNAT"],
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: b}\nspec: {peerIP: 10.0.0.1, node: node-a, nodeSelector: all()}\n",
        &["spec.node: \"node-a\": cannot stand beside nodeSelector"],
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: k}\nspec: {podSelector: {}, audit: {}}\n",
        &[
            "(NetworkPolicy k)",
            "spec.audit: unknown field; allowed: egress, ingress, podSelector, policyTypes",
        ],
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, prio: 1}\n",
        &[
            "(ClusterNetworkPolicy c)",
            "spec.prio: unknown field; allowed: egress, ingress, priority, subject, tier",
        ],
    ),
    (
        "apiVersion: operator.tigera.io/v1\nkind: Installation\nmetadata: {name: default}\nspec: {calicoNetwork: {bgp: Maybe}}\n",
        &["(Installation default)", "spec.calicoNetwork.bgp: \"Maybe\": must be one of Enabled, Disabled"],
    ),
];

#[test]
fn file_document_field_and_what_is_allowed_are_named() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.yaml");
    let path = file.to_str().unwrap();
    let mut unclear = Vec::new();
    let mut try_all = |cases: &[(&str, &[&str])], commands: &[&[&str]]| {
        for (document, told) in cases {
            std::fs::write(&file, format!("{GOOD}{document}")).unwrap();
            for command in commands {
                let out = etcd.calicoctl(&[*command, &["-f", path]].concat(), "");
                let place = format!("{path}: document 2");
                let all = told.iter().all(|t| out.stderr.contains(t)) && out.stderr.contains(&place);
                if out.code != 1 || !all {
                    unclear.push(format!("{command:?} of {document}: {}{}", out.stdout, out.stderr));
                }
            }
        }
    };
    try_all(UNREADABLE, &READERS);
    try_all(UNWRITABLE, &WRITERS);
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
    // Nothing of any of the files was written.
    assert!(!etcd.ok(&["get", "tiers"], "").contains("\na "), "the first document");
}

#[test]
fn files_that_cannot_be_read_are_told_with_the_next_step() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.yaml");
    std::fs::write(&empty, "# nothing\n").unwrap();
    for command in READERS {
        let e = etcd.refused(&[command, &["-f", "/nonexistent/f.yaml"]].concat(), "");
        assert!(e.contains("/nonexistent/f.yaml: No such file"), "{command:?}: {e}");
        let e = etcd.refused(&[command, &["-f", empty.to_str().unwrap()]].concat(), "");
        assert!(e.contains("empty.yaml: no resources in it (use --skip-empty"), "{command:?}: {e}");
    }
    for command in ["apply", "create", "replace", "validate", "convert"] {
        let e = etcd.refused(&[command], "");
        assert!(e.contains("--filename"), "{command}: {e}");
    }
    let other =
        "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: s, namespace: a}\nspec: {}\n";
    for command in READERS {
        let e = etcd.refused(&[command, &["-n", "b", "-f", "-"]].concat(), other);
        assert!(e.contains("resource namespace 'a' does not match client namespace 'b'"), "{command:?}: {e}");
    }
}
