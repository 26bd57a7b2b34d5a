//! The columns of each kind's table, and what stands in them.

use libcalico_api::bgp_peer::BGPPeerSpec;
use libcalico_api::common::LabelSelector;
use libcalico_api::ip_pool::EncapMode;
use libcalico_api::{Kind, Resource};

use super::Context;
use crate::{Error, Result};

/// Columns of `-o ps`, the usual table.
#[must_use]
pub fn ps(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::BGPConfiguration => &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
        Kind::BGPFilter => &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"],
        Kind::BGPPeer => &["NAME", "PEERIP", "NODE", "ASN"],
        Kind::ClusterInformation => {
            &["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"]
        }
        Kind::HostEndpoint | Kind::CalicoNodeStatus => &["NAME", "NODE"],
        Kind::IPAMConfiguration => &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
        Kind::IPPool => &["NAME", "CIDR", "SELECTOR"],
        Kind::NetworkPolicy
        | Kind::GlobalNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::StagedGlobalNetworkPolicy => &["NAME", "TIER"],
        Kind::Tier => &["NAME", "ORDER"],
        Kind::WorkloadEndpoint => &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
        Kind::FelixConfiguration
        | Kind::GlobalNetworkSet
        | Kind::IPReservation
        | Kind::KubeControllersConfiguration
        | Kind::NetworkSet
        | Kind::Node
        | Kind::Profile
        | Kind::StagedKubernetesNetworkPolicy => &["NAME"],
    }
}

/// Columns of `-o wide`.
#[must_use]
pub fn wide(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::CalicoNodeStatus => &["NAME", "NODE", "CLASSES"],
        Kind::GlobalNetworkSet | Kind::NetworkSet => &["NAME", "NETS"],
        Kind::HostEndpoint => &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
        Kind::IPAMConfiguration => &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
        Kind::IPPool => &[
            "NAME",
            "CIDR",
            "NAT",
            "IPIPMODE",
            "VXLANMODE",
            "DISABLED",
            "DISABLEBGPEXPORT",
            "SELECTOR",
            "ASSIGNMENTMODE",
        ],
        Kind::IPReservation => &["NAME", "CIDRS"],
        Kind::NetworkPolicy
        | Kind::GlobalNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::StagedGlobalNetworkPolicy => &["NAME", "TIER", "ORDER", "SELECTOR"],
        Kind::Node => &["NAME", "ASN", "IPV4", "IPV6"],
        Kind::Profile => &["NAME", "LABELS"],
        Kind::StagedKubernetesNetworkPolicy => &["NAME", "PODSELECTOR"],
        Kind::WorkloadEndpoint => &["NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"],
        Kind::BGPConfiguration
        | Kind::BGPFilter
        | Kind::BGPPeer
        | Kind::ClusterInformation
        | Kind::FelixConfiguration
        | Kind::KubeControllersConfiguration
        | Kind::Tier => ps(kind),
    }
}

/// Fails where the kind has no such column, and says which it has.
pub fn check(kind: Kind, column: &str) -> Result<()> {
    let mut known: Vec<&str> = wide(kind).to_vec();
    if kind.namespaced() {
        known.push("NAMESPACE");
    }
    if kind == Kind::WorkloadEndpoint {
        known.push("ORCHESTRATOR");
    }
    if known.contains(&column) {
        return Ok(());
    }
    Err(Error::Usage(format!("unknown output column {column} for {kind}; use {}", known.join(", "))))
}

/// What stands in a column. Empty where the kind has no such column.
#[must_use]
pub fn value(r: &Resource, column: &str, context: &Context) -> String {
    match column {
        "NAME" => return r.metadata().name.clone(),
        "NAMESPACE" => return r.metadata().namespace.clone(),
        _ => {}
    }
    let cell = match r {
        Resource::NetworkPolicy(p) => policy(&p.spec.tier, p.spec.order, p.spec.selector.as_deref(), column),
        Resource::GlobalNetworkPolicy(p) => {
            policy(&p.spec.tier, p.spec.order, p.spec.selector.as_deref(), column)
        }
        Resource::StagedNetworkPolicy(p) => {
            policy(&p.spec.tier, p.spec.order, p.spec.selector.as_deref(), column)
        }
        Resource::StagedGlobalNetworkPolicy(p) => {
            policy(&p.spec.tier, p.spec.order, p.spec.selector.as_deref(), column)
        }
        Resource::Tier(t) if column == "ORDER" => Some(order(t.spec.order)),
        Resource::IPPool(p) => pool(&p.spec, column),
        Resource::IPReservation(i) if column == "CIDRS" => Some(i.spec.reserved_cidrs.join(",")),
        Resource::BGPConfiguration(b) => bgp_configuration(&b.spec, column),
        Resource::BGPPeer(b) => bgp_peer(&b.spec, column),
        Resource::BGPFilter(b) => bgp_filter(&b.spec, column),
        Resource::ClusterInformation(c) => cluster_information(&c.spec, column),
        Resource::HostEndpoint(h) => host_endpoint(&h.spec, column),
        Resource::GlobalNetworkSet(s) if column == "NETS" => Some(s.spec.nets.join(",")),
        Resource::NetworkSet(s) if column == "NETS" => Some(s.spec.nets.join(",")),
        Resource::IPAMConfiguration(c) => ipam_configuration(&c.spec, column),
        Resource::CalicoNodeStatus(s) => node_status(&s.spec, column),
        Resource::Node(n) => node(&n.spec, column, context),
        Resource::Profile(p) if column == "LABELS" => {
            let labels = p.spec.labels_to_apply.iter().map(|(k, v)| format!("{k}={v}"));
            Some(labels.collect::<Vec<_>>().join(","))
        }
        Resource::StagedKubernetesNetworkPolicy(p) if column == "PODSELECTOR" => {
            p.spec.pod_selector.as_ref().map(label_selector)
        }
        Resource::WorkloadEndpoint(w) => workload_endpoint(&w.spec, column),
        _ => None,
    };
    cell.unwrap_or_default()
}

/// Go's `%v` of a floating-point number, `<nil>` where there is none.
#[must_use]
pub fn order(n: Option<f64>) -> String {
    n.map_or_else(|| "<nil>".to_owned(), go_float)
}

/// A number in the fewest digits that give it back, with an exponent from a million on.
fn go_float(n: f64) -> String {
    let scientific = format!("{n:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if (-4..6).contains(&exponent) || n == 0.0 {
        return n.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn policy(tier: &Option<String>, place: Option<f64>, selector: Option<&str>, column: &str) -> Option<String> {
    match column {
        "TIER" => tier.clone(),
        "ORDER" => Some(order(place)),
        "SELECTOR" => selector.map(str::to_owned),
        _ => None,
    }
}

fn pool(s: &libcalico_api::ip_pool::IPPoolSpec, column: &str) -> Option<String> {
    let mode = |m: Option<EncapMode>| format!("{:?}", m.unwrap_or(EncapMode::Never));
    match column {
        "CIDR" => s.cidr.clone(),
        "NAT" => Some(s.nat_outgoing.unwrap_or_default().to_string()),
        "IPIPMODE" => Some(mode(s.ipip_mode)),
        "VXLANMODE" => Some(mode(s.vxlan_mode)),
        "DISABLED" => Some(s.disabled.unwrap_or_default().to_string()),
        "DISABLEBGPEXPORT" => Some(s.disable_bgp_export.unwrap_or_default().to_string()),
        "SELECTOR" => s.node_selector.clone(),
        "ASSIGNMENTMODE" => s.assignment_mode.map(|m| format!("{m:?}")),
        _ => None,
    }
}

fn bgp_configuration(
    s: &libcalico_api::bgp_configuration::BGPConfigurationSpec,
    column: &str,
) -> Option<String> {
    let or_dash = |v: Option<String>| Some(v.unwrap_or_else(|| "-".to_owned()));
    match column {
        "LOGSEVERITY" => s.log_severity_screen.clone(),
        "MESHENABLED" => or_dash(s.node_to_node_mesh_enabled.map(|b| b.to_string())),
        "ASNUMBER" => or_dash(s.as_number.map(|n| n.to_string())),
        _ => None,
    }
}

fn bgp_peer(s: &BGPPeerSpec, column: &str) -> Option<String> {
    let given = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    match column {
        "PEERIP" => s.peer_ip.clone(),
        "NODE" => given(&s.node).or_else(|| given(&s.node_selector)).or_else(|| Some("(global)".to_owned())),
        "ASN" => Some(s.as_number.unwrap_or_default().to_string()),
        _ => None,
    }
}

fn bgp_filter(s: &libcalico_api::bgp_filter::BGPFilterSpec, column: &str) -> Option<String> {
    let count = match column {
        "NUMEXPORTV4" => s.export_v4.len(),
        "NUMIMPORTV4" => s.import_v4.len(),
        "NUMEXPORTV6" => s.export_v6.len(),
        "NUMIMPORTV6" => s.import_v6.len(),
        _ => return None,
    };
    Some(count.to_string())
}

fn cluster_information(
    s: &libcalico_api::cluster_information::ClusterInformationSpec,
    column: &str,
) -> Option<String> {
    match column {
        "CLUSTERGUID" => s.cluster_guid.clone(),
        "CLUSTERTYPE" => s.cluster_type.clone(),
        "CALICOVERSION" => s.calico_version.clone(),
        "DATASTOREREADY" => s.datastore_ready.map(|b| b.to_string()),
        _ => None,
    }
}

fn host_endpoint(s: &libcalico_api::host_endpoint::HostEndpointSpec, column: &str) -> Option<String> {
    match column {
        "NODE" => s.node.clone(),
        "INTERFACE" => s.interface_name.clone(),
        "IPS" => Some(s.expected_ips.join(",")),
        "PROFILES" => Some(s.profiles.join(",")),
        _ => None,
    }
}

fn ipam_configuration(
    s: &libcalico_api::ipam_configuration::IPAMConfigurationSpec,
    column: &str,
) -> Option<String> {
    match column {
        "STRICTAFFINITY" => Some(s.strict_affinity.unwrap_or_default().to_string()),
        "AUTOALLOCATEBLOCKS" => Some(s.auto_allocate_blocks.unwrap_or(true).to_string()),
        "MAXBLOCKSPERHOST" => Some(s.max_blocks_per_host.unwrap_or_default().to_string()),
        _ => None,
    }
}

fn node_status(s: &libcalico_api::calico_node_status::CalicoNodeStatusSpec, column: &str) -> Option<String> {
    match column {
        "NODE" => s.node.clone(),
        "CLASSES" => Some(s.classes.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

/// A node without an AS number of its own shows the cluster's in parentheses.
fn node(s: &libcalico_api::node::NodeSpec, column: &str, context: &Context) -> Option<String> {
    let bgp = s.bgp.clone().unwrap_or_default();
    match column {
        "ASN" => Some(match bgp.as_number {
            Some(n) => n.to_string(),
            None => format!("({})", context.default_as_number),
        }),
        "IPV4" => bgp.ipv4_address,
        "IPV6" => bgp.ipv6_address,
        _ => None,
    }
}

fn workload_endpoint(
    s: &libcalico_api::workload_endpoint::WorkloadEndpointSpec,
    column: &str,
) -> Option<String> {
    match column {
        "WORKLOAD" if s.orchestrator == "k8s" => Some(s.pod.clone()),
        "WORKLOAD" => Some(s.workload.clone()),
        "ORCHESTRATOR" => Some(s.orchestrator.clone()),
        "NODE" => Some(s.node.clone()),
        "NETWORKS" => Some(s.ip_networks.join(",")),
        "INTERFACE" => Some(s.interface_name.clone()),
        "PROFILES" => Some(s.profiles.join(",")),
        "NATS" => {
            let nats = s.ip_nats.iter().map(|n| format!("{}->{}", n.external_ip, n.internal_ip));
            Some(nats.collect::<Vec<_>>().join(","))
        }
        _ => None,
    }
}

/// A Kubernetes selector as kubectl shows it: `role=db,env in (a,b),!old`.
fn label_selector(s: &LabelSelector) -> String {
    let mut parts: Vec<String> = s.match_labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    parts.extend(s.match_expressions.iter().map(|x| match x.operator.as_str() {
        "Exists" => x.key.clone(),
        "DoesNotExist" => format!("!{}", x.key),
        "NotIn" => format!("{} notin ({})", x.key, x.values.join(",")),
        _ => format!("{} in ({})", x.key, x.values.join(",")),
    }));
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_printed_as_go_prints_them() {
        for (n, text) in [
            (100.0, "100"),
            (1_000_000.0, "1e+06"),
            (10_000_000.0, "1e+07"),
            (1_234_567.0, "1.234567e+06"),
            (0.5, "0.5"),
            (0.0, "0"),
            (-3.0, "-3"),
            (100_000.0, "100000"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(order(Some(n)), text);
        }
        assert_eq!(order(None), "<nil>");
    }
}
