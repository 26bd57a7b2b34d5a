//! What the pod's network will look like.
//!
//! In come the request, the workload and the addresses, out comes a [`NetworkPlan`] for `network`. Pure. What stands
//! in it is what upstream's Linux dataplane makes: one address (`/32`, `/128`) in the pod, a default route over a
//! link-local next hop that the host answers for, a host route to each address, and the sysctls that make the host
//! answer and forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libcalico_net::cidr::{IpNet, host_net};
use sha1::{Digest, Sha1};

use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::result::{CniResult, Route};
use crate::workload::Workload;

/// The pod's next hop for IPv4; the host answers by proxy ARP.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pod's next hop for IPv6: the link-local address of [`HOST_MAC`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
/// MAC of the host's end of every pair.
pub const HOST_MAC: [u8; 6] = [0xee; 6];
/// Where Felix writes the MTU that it found.
pub const MTU_FILE: &str = "/var/lib/calico/mtu";
/// Bytes, where nobody says otherwise.
pub const DEFAULT_MTU: u32 = 1500;
/// Smallest MTU that carries IPv4 (RFC 791); the veth driver takes nothing smaller.
const MIN_MTU: u32 = 68;
/// Largest MTU of a veth.
const MAX_MTU: u32 = 65535;

/// Interfaces, addresses, routes and sysctls of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    pub host_ifname: String,
    pub pod_ifname: String,
    pub pod_mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    /// Of each end, for sending and for receiving.
    pub queues: u32,
    pub addresses: Vec<IpNet>,
    /// In order: the way to a next hop before the routes that use it.
    pub pod_routes: Vec<PlannedRoute>,
    /// Below `/proc/sys/net`, with values.
    pub pod_sysctls: Vec<(String, &'static str)>,
    pub host_sysctls: Vec<(String, &'static str)>,
    pub host_routes: Vec<IpNet>,
}

/// A route in the pod over its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRoute {
    pub dst: IpNet,
    /// None: on the link.
    pub gateway: Option<IpAddr>,
}

/// MAC of the pod's end: locally administered, and always the same for one container and interface, so that a
/// repeated or interrupted ADD or DEL recognises its own interface.
#[must_use]
pub fn pod_mac(container_id: &str, ifname: &str) -> [u8; 6] {
    let hash = Sha1::digest(format!("{container_id}/{ifname}"));
    let mut mac = [0; 6];
    mac.copy_from_slice(&hash[..6]);
    mac[0] = (mac[0] & 0xfe) | 0x02;
    mac
}

/// `b2:6f:1e:d8:51:4f`
#[must_use]
pub fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|b| hex::encode([*b])).collect::<Vec<_>>().join(":")
}

/// Reads `b2:6f:1e:d8:51:4f`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|p| (p.len() == 2).then(|| u8::from_str_radix(p, 16).ok()).flatten())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// The MTU: from the configuration, else from Felix's file (`file` is its contents), else 1500.
pub fn mtu(conf: &NetConf, file: Option<&str>) -> Result<u32, CniError> {
    let mtu = match (conf.mtu, file) {
        (0, Some(text)) => text.trim().parse().map_err(|_| {
            CniError::new(Code::Decode, format!("{MTU_FILE} holds no number: {:.40?}", text.trim()))
        })?,
        (0, None) if conf.require_mtu_file => {
            return Err(CniError::new(Code::TryAgainLater, format!("{MTU_FILE} does not exist"))
                .with_details("require_mtu_file is set; calico-node writes the file when it has started"));
        }
        (0, None) => DEFAULT_MTU,
        (n, _) => n,
    };
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        return Ok(mtu);
    }
    Err(CniError::new(Code::InvalidConfig, format!("an MTU of {mtu} is outside {MIN_MTU} to {MAX_MTU}")))
}

/// The plan before the addresses are known: enough to make the pair. `chosen` are the families, IPv4 and IPv6, where
/// something else than the configuration says which the pod gets.
#[must_use]
pub fn pair(conf: &NetConf, w: &Workload, mtu: u32, chosen: Option<(bool, bool)>) -> NetworkPlan {
    let host = w.veth_name();
    let mut host_sysctls = Vec::new();
    let mut sysctl =
        |family: &str, key: &str, value| host_sysctls.push((format!("{family}/{host}/{key}"), value));
    let (v4, v6) = chosen.unwrap_or_else(|| families(conf));
    if v4 {
        sysctl("ipv4/conf", "proxy_arp", "1");
        sysctl("ipv4/neigh", "proxy_delay", "0");
        sysctl("ipv4/conf", "forwarding", "1");
        sysctl("ipv4/conf", "route_localnet", "1");
    }
    sysctl("ipv6/conf", "accept_ra", "0");
    if v6 {
        sysctl("ipv6/conf", "disable_ipv6", "0");
        sysctl("ipv6/conf", "accept_dad", "0");
        sysctl("ipv6/conf", "proxy_ndp", "1");
        sysctl("ipv6/conf", "forwarding", "1");
    }
    NetworkPlan {
        host_ifname: host,
        pod_ifname: w.endpoint.clone(),
        pod_mac: pod_mac(&w.container_id, &w.endpoint),
        mtu,
        queues: conf.num_queues.max(1),
        addresses: Vec::new(),
        pod_routes: Vec::new(),
        pod_sysctls: Vec::new(),
        host_sysctls,
        host_routes: Vec::new(),
    }
}

/// The families that the pod may get addresses of, as far as the configuration tells beforehand.
fn families(conf: &NetConf) -> (bool, bool) {
    let own = conf.ipam.type_ == "calico-ipam";
    let is = |text: &Option<String>, value: &str| text.as_deref() == Some(value);
    (!own || !is(&conf.ipam.assign_ipv4, "false"), !own || is(&conf.ipam.assign_ipv6, "true"))
}

impl NetworkPlan {
    /// Adds what depends on the addresses. `ipam` is the result of the IPAM plugin: its routes, where it gives any,
    /// replace the default routes unless `include_default_routes` asks for both.
    #[must_use]
    pub fn with_addresses(mut self, conf: &NetConf, addresses: &[IpAddr], routes: &[Route]) -> Self {
        let has = |v4: bool| addresses.iter().any(|a| a.is_ipv4() == v4);
        let forwarding = if conf.container_settings.allow_ip_forwarding { "1" } else { "0" };
        let pod = &self.pod_ifname;
        if has(true) {
            self.pod_sysctls.push(("ipv4/ip_forward".to_owned(), forwarding));
        }
        if has(false) {
            for scope in ["all", "default", "lo"] {
                self.pod_sysctls.push((format!("ipv6/conf/{scope}/disable_ipv6"), "0"));
            }
            self.pod_sysctls.push((format!("ipv6/conf/{pod}/disable_ipv6"), "0"));
            self.pod_sysctls.push((format!("ipv6/conf/{pod}/accept_dad"), "0"));
            self.pod_sysctls.push(("ipv6/conf/all/forwarding".to_owned(), forwarding));
        }
        let wanted = destinations(conf, routes);
        if has(true) {
            self.pod_routes.push(PlannedRoute { dst: host_net(GATEWAY_V4.into()), gateway: None });
            add_routes(&mut self.pod_routes, &wanted, true, GATEWAY_V4.into());
        }
        if has(false) {
            add_routes(&mut self.pod_routes, &wanted, false, GATEWAY_V6.into());
        }
        self.addresses = addresses.iter().map(|a| host_net(*a)).collect();
        self.host_routes = self.addresses.clone();
        self
    }
}

fn destinations(conf: &NetConf, routes: &[Route]) -> Vec<IpNet> {
    let mut wanted: Vec<IpNet> =
        routes.iter().filter_map(|r| r.dst.parse::<IpNet>().ok()).map(|n| n.trunc()).collect();
    if wanted.is_empty() || conf.include_default_routes {
        for default in [
            IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
        ] {
            if !wanted.contains(&default) {
                wanted.push(default);
            }
        }
    }
    wanted
}

fn add_routes(out: &mut Vec<PlannedRoute>, wanted: &[IpNet], v4: bool, gateway: IpAddr) {
    let family = wanted.iter().filter(|n| n.addr().is_ipv4() == v4);
    out.extend(family.map(|dst| PlannedRoute { dst: *dst, gateway: Some(gateway) }));
}

/// The result of an ADD.
#[must_use]
pub fn result(
    plan: &NetworkPlan,
    mac: &str,
    sandbox: &str,
    routes: Vec<Route>,
    dns: Option<serde_json::Value>,
) -> CniResult {
    use crate::result::{Interface, IpConfig};
    CniResult {
        interfaces: vec![
            Interface { name: plan.host_ifname.clone(), ..Interface::default() },
            Interface { name: plan.pod_ifname.clone(), mac: mac.to_owned(), sandbox: sandbox.to_owned() },
        ],
        ips: plan
            .addresses
            .iter()
            .map(|a| IpConfig { interface: Some(1), address: *a, gateway: None })
            .collect(),
        routes,
        dns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_comes_from_the_configuration_then_felix_then_1500() {
        let conf = |mtu| NetConf { mtu, ..NetConf::default() };
        assert_eq!(mtu(&conf(1400), Some("1450")), Ok(1400));
        assert_eq!(mtu(&conf(0), Some("1450\n")), Ok(1450));
        assert_eq!(mtu(&conf(0), None), Ok(1500));
        assert!(mtu(&conf(0), Some("x")).is_err());
        assert!(mtu(&conf(7), None).is_err());
        let required = NetConf { require_mtu_file: true, ..NetConf::default() };
        assert_eq!(mtu(&required, None).unwrap_err().code, Code::TryAgainLater);
    }

    #[test]
    fn a_mac_is_the_containers_own_and_locally_administered() {
        let mac = pod_mac("c0ffee", "eth0");
        assert_eq!(mac, pod_mac("c0ffee", "eth0"));
        assert_ne!(mac, pod_mac("c0ffee", "eth1"));
        assert_eq!(mac[0] & 3, 2);
        assert_eq!(parse_mac(&mac_text(&mac)), Some(mac));
        assert_eq!(parse_mac("1:2"), None);
        assert_eq!(parse_mac("zz:00:00:00:00:00"), None);
    }

    #[test]
    fn routes_of_another_ipam_plugin_replace_the_default_routes_unless_both_are_wanted() {
        let only = [Route { dst: "10.0.0.0/8".to_owned(), gw: None }];
        let dst = |include| {
            let conf = NetConf { include_default_routes: include, ..NetConf::default() };
            let v: Vec<String> = destinations(&conf, &only).iter().map(ToString::to_string).collect();
            v
        };
        assert_eq!(dst(false), ["10.0.0.0/8"]);
        assert_eq!(dst(true), ["10.0.0.0/8", "0.0.0.0/0", "::/0"]);
    }
}
