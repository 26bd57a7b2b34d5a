//! The node's object: what it should say, given the host and what stands in the datastore. Pure, but for `can-reach=`.

use std::net::IpAddr;

use libcalico_api::node::{Node, NodeInterface, NodeStatus, OrchRef};
use libcalico_net::IpNet;
use libcalico_net::cidr::Family;
use tracing::{info, warn};

use super::StartupError;
use crate::autodetect::{DetectError, Interface, Method, detect, is_global, is_local, usual, with_network};
use crate::environment::{AddressWish, Backend, Environment};

/// The object to write, or `None` where the current one is right.
///
/// `all` are the nodes of the cluster, this one included. An address that another node has is an error, unless this
/// node had it already or the check is switched off.
pub fn plan(
    current: Option<&Node>,
    all: &[&Node],
    environment: &Environment,
    host: &[Interface],
) -> Result<Option<Node>, StartupError> {
    let mut node = current.cloned().unwrap_or_default();
    node.metadata.name.clone_from(&environment.node_name);
    if current.is_none() {
        node.status = Some(NodeStatus::default());
    }
    if environment.backend != Backend::None {
        let mut bgp = node.spec.bgp.take().unwrap_or_default();
        let before = (bgp.ipv4_address.clone(), bgp.ipv6_address.clone());
        let known = Known { host, internal: &internal_addresses(current) };
        let (v4, v6) = (bgp.ipv4_address.as_deref(), bgp.ipv6_address.as_deref());
        let v4 = address(Family::V4, &environment.ip, &environment.ip_method, v4, known)?;
        let v6 = address(Family::V6, &environment.ip6, &environment.ip6_method, v6, known)?;
        (bgp.ipv4_address, bgp.ipv6_address) = (v4, v6);
        if bgp.ipv4_address.is_none() && bgp.ipv6_address.is_none() {
            return Err(StartupError::NoAddress);
        }
        let changed = (bgp.ipv4_address.clone(), bgp.ipv6_address.clone()) != before;
        if changed && environment.check_conflicts {
            for text in [&bgp.ipv4_address, &bgp.ipv6_address].into_iter().flatten() {
                check_conflict(text, all, &environment.node_name)?;
            }
        }
        if let Some(number) = environment.as_number {
            bgp.as_number = Some(number);
        }
        node.spec.bgp = Some(bgp);
        node.spec.interfaces = node_interfaces(environment, host);
    }
    if let Some(name) = &environment.kubernetes_node {
        node.spec.orch_refs = vec![OrchRef { node_name: name.clone(), orchestrator: "k8s".to_owned() }];
    }
    Ok((current != Some(&node)).then_some(node))
}

/// What an address is chosen from.
#[derive(Clone, Copy)]
struct Known<'a> {
    host: &'a [Interface],
    internal: &'a [IpAddr],
}

/// What Kubernetes says: its Node has an address that it calls internal for each family. Empty on etcd.
fn internal_addresses(node: Option<&Node>) -> Vec<IpAddr> {
    let all = node.into_iter().flat_map(|n| &n.spec.addresses);
    all.filter(|a| a.type_ == "InternalIP").filter_map(|a| parse_ip(&a.address)).collect()
}

fn address(
    family: Family,
    wish: &AddressWish,
    method: &Method,
    current: Option<&str>,
    Known { host, internal }: Known<'_>,
) -> Result<Option<String>, StartupError> {
    let detects = match wish {
        AddressWish::Autodetect => true,
        // IPv6 is asked for, never assumed.
        AddressWish::Unset => family == Family::V4 && current.is_none(),
        AddressWish::Keep | AddressWish::Address { .. } => false,
    };
    let chosen = match wish {
        AddressWish::Address { address, prefix_len } => {
            let net = match prefix_len {
                Some(length) => {
                    IpNet::new(*address, *length).unwrap_or_else(|_| with_network(*address, host))
                }
                None => with_network(*address, host),
            };
            Some(net.to_string())
        }
        _ if detects => match (detect(method, family, host, internal), current) {
            (Ok(net), _) => {
                if current != Some(net.to_string().as_str()) {
                    info!(address = %net, %method, "{family} address detected");
                }
                return Ok(Some(net.to_string()));
            }
            // Without Kubernetes the method cannot work here, and no old value helps.
            (Err(error @ DetectError::NoInternalIp { .. }), _) if internal.is_empty() => {
                return Err(error.into());
            }
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(old)) => {
                warn!(%error, address = old, "the node keeps its {family} address");
                Some(old.to_owned())
            }
        },
        _ => current.map(str::to_owned),
    };
    if let Some(ip) = chosen.as_deref().and_then(parse_ip).filter(|ip| !is_local(*ip, host)) {
        warn!(address = %ip, "the node's {family} address is on none of its interfaces");
    }
    Ok(chosen)
}

fn check_conflict(text: &str, all: &[&Node], own: &str) -> Result<(), StartupError> {
    let Some(address) = parse_ip(text) else { return Ok(()) };
    let has = |node: &Node| {
        let Some(bgp) = node.spec.bgp.as_ref() else { return false };
        [&bgp.ipv4_address, &bgp.ipv6_address].into_iter().flatten().any(|t| parse_ip(t) == Some(address))
    };
    match all.iter().find(|n| n.name() != own && has(n)) {
        Some(other) => Err(StartupError::AddressConflict { address, other: other.name().to_owned() }),
        None => Ok(()),
    }
}

/// The node's usual interfaces with their global addresses of the families that are detected or given.
fn node_interfaces(environment: &Environment, host: &[Interface]) -> Vec<NodeInterface> {
    let asked = |wish: &AddressWish| matches!(wish, AddressWish::Autodetect | AddressWish::Address { .. });
    let listed = |net: &&IpNet| {
        is_global(net.addr())
            && match Family::of_net(**net) {
                Family::V4 => asked(&environment.ip),
                Family::V6 => asked(&environment.ip6),
            }
    };
    let mut found: Vec<NodeInterface> = usual(host)
        .map(|i| NodeInterface {
            name: i.name.clone(),
            addresses: i.addresses.iter().filter(listed).map(|n| n.addr().to_string()).collect(),
        })
        .filter(|i| !i.addresses.is_empty())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// `10.0.0.1/24` or `10.0.0.1`.
fn parse_ip(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        let vars: Vec<(String, String)> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Environment::from_lookup(
            move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()),
            Some("node-a"),
        )
        .unwrap()
    }

    fn host() -> Vec<Interface> {
        vec![Interface {
            name: "eth0".to_owned(),
            addresses: ["172.31.0.1/24", "fd00:31::1/64", "fe80::1/64"].map(|a| a.parse().unwrap()).into(),
        }]
    }

    fn planned(
        current: Option<&Node>,
        all: &[&Node],
        vars: &[(&str, &str)],
    ) -> Result<Option<Node>, StartupError> {
        plan(current, all, &environment(vars), &host())
    }

    #[test]
    fn a_new_node_gets_the_detected_address_with_its_network() {
        let node = planned(None, &[], &[("IP", "autodetect"), ("IP6", "autodetect")]).unwrap().unwrap();
        let bgp = node.spec.bgp.as_ref().unwrap();
        assert_eq!(bgp.ipv4_address.as_deref(), Some("172.31.0.1/24"));
        assert_eq!(bgp.ipv6_address.as_deref(), Some("fd00:31::1/64"));
        assert_eq!(node.spec.interfaces.len(), 1);
        assert_eq!(node.spec.interfaces[0].addresses, ["172.31.0.1", "fd00:31::1"]);
    }

    #[test]
    fn planning_again_changes_nothing() {
        let node = planned(None, &[], &[("IP", "autodetect"), ("AS", "64600")]).unwrap().unwrap();
        assert!(planned(Some(&node), &[&node], &[("IP", "autodetect"), ("AS", "64600")]).unwrap().is_none());
    }

    #[test]
    fn what_others_wrote_into_the_node_stays() {
        let mut node = planned(None, &[], &[]).unwrap().unwrap();
        node.metadata.labels.insert("rack".into(), "r1".into());
        node.spec.ipv4_vxlan_tunnel_addr = Some("10.65.0.1".into());
        let again = planned(Some(&node), &[&node], &[("AS", "64600")]).unwrap().unwrap();
        assert_eq!(again.metadata.labels, node.metadata.labels);
        assert_eq!(again.spec.ipv4_vxlan_tunnel_addr, node.spec.ipv4_vxlan_tunnel_addr);
    }

    #[test]
    fn a_given_address_wins_and_gets_the_network_of_its_interface() {
        let node = planned(None, &[], &[("IP", "172.31.0.1"), ("IP6", "none")]).unwrap().unwrap();
        assert_eq!(node.spec.bgp.unwrap().ipv4_address.as_deref(), Some("172.31.0.1/24"));
        let node = planned(None, &[], &[("IP", "10.1.2.3/16")]).unwrap().unwrap();
        assert_eq!(node.spec.bgp.unwrap().ipv4_address.as_deref(), Some("10.1.2.3/16"));
    }

    #[test]
    fn without_a_wish_the_address_in_the_datastore_stays() {
        let mut node = planned(None, &[], &[]).unwrap().unwrap();
        node.spec.bgp.as_mut().unwrap().ipv4_address = Some("10.9.9.9/24".into());
        assert!(planned(Some(&node), &[&node], &[]).unwrap().is_none());
        let again = planned(Some(&node), &[&node], &[("IP", "autodetect")]).unwrap().unwrap();
        assert_eq!(again.spec.bgp.unwrap().ipv4_address.as_deref(), Some("172.31.0.1/24"));
    }

    #[test]
    fn the_address_of_another_node_is_refused() {
        let mut other = planned(None, &[], &[]).unwrap().unwrap();
        other.metadata.name = "node-b".into();
        let error = planned(None, &[&other], &[]).unwrap_err();
        assert!(
            matches!(&error, StartupError::AddressConflict { other, .. } if other == "node-b"),
            "{error}"
        );
        assert!(planned(None, &[&other], &[("DISABLE_NODE_IP_CHECK", "true")]).is_ok());
    }

    #[test]
    fn a_node_without_any_address_is_refused() {
        let error = planned(None, &[], &[("IP", "none")]).unwrap_err();
        assert!(matches!(error, StartupError::NoAddress), "{error}");
        let node = planned(None, &[], &[("CALICO_NETWORKING_BACKEND", "none")]).unwrap().unwrap();
        assert!(node.spec.bgp.is_none());
    }
}
