//! Which of the host's addresses is the node's.
//!
//! In come the interfaces ([`interfaces`] reads the kernel's), what Kubernetes says of the node, and a [`Method`]; out goes
//! one address with its network. The choice is pure, apart from `can-reach=`, which asks the kernel for the source address
//! of a route.

mod interfaces;
mod mtu;

use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::str::FromStr;

use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, host_net, parse_network};
use regex::Regex;

pub use interfaces::{Interface, interfaces};
pub use mtu::mtu_of;

/// Interfaces that are never the node's own where any may be: bridges, workloads, tunnels.
const EXCLUDED: &str = r"^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali)";

/// Any port does: nothing is sent.
const REACH_PORT: u16 = 80;

/// `IP_AUTODETECTION_METHOD`.
#[derive(Clone, Debug)]
pub enum Method {
    /// The first global address of an interface that is none of the usual bridges, tunnels and workloads.
    FirstFound,
    /// The same of the first expression that an interface's name matches.
    Interface(Vec<Regex>),
    /// First-found, less these interfaces.
    SkipInterface(Vec<Regex>),
    /// The first address within one of the networks.
    Cidr(Vec<IpNet>),
    /// The source address of packets to this address or name.
    CanReach(String),
    /// The address that Kubernetes has for the node.
    KubernetesInternalIp,
}

/// Text that is no method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    #[error(
        "no such method; expected first-found, interface=REGEX,…, skip-interface=REGEX,…, cidr=NETWORK,…, can-reach=DESTINATION or kubernetes-internal-ip"
    )]
    Unknown,
    #[error("{0}")]
    Argument(String),
}

/// Why no address was found.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("no {family} address found by {method}; choose another method or give the address itself")]
    NotFound { family: Family, method: String },
    #[error("{method}: {destination} has no {family} route or address: {reason}")]
    Unreachable { family: Family, method: &'static str, destination: String, reason: String },
    #[error(
        "kubernetes-internal-ip: Kubernetes has no {family} InternalIP for this node (kubectl get node -o wide); set the kubelet's --node-ip or choose another method"
    )]
    NoInternalIp { family: Family },
    #[error(
        "kubernetes-internal-ip: {address} is on none of this host's interfaces; correct the kubelet's --node-ip or choose another method"
    )]
    NotLocal { address: IpAddr },
    #[error("cannot read the host's interfaces: {0}")]
    Kernel(#[from] nix::Error),
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let text = text.trim();
        if text.is_empty() || text == "first-found" {
            return Ok(Self::FirstFound);
        }
        if text.starts_with("kubernetes-internal-ip") {
            return Ok(Self::KubernetesInternalIp);
        }
        let (name, argument) = text.split_once('=').ok_or(MethodError::Unknown)?;
        match name {
            "interface" => Ok(Self::Interface(expressions(argument)?)),
            "skip-interface" => Ok(Self::SkipInterface(expressions(argument)?)),
            "can-reach" if !argument.is_empty() => Ok(Self::CanReach(argument.to_owned())),
            "cidr" => argument
                .split(',')
                .map(|c| parse_network(c.trim()).map_err(|e| MethodError::Argument(e.to_string())))
                .collect::<Result<_, _>>()
                .map(Self::Cidr),
            _ => Err(MethodError::Unknown),
        }
    }
}

fn expressions(list: &str) -> Result<Vec<Regex>, MethodError> {
    list.split(',').map(|e| Regex::new(e.trim()).map_err(|e| MethodError::Argument(e.to_string()))).collect()
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: Vec<String>| items.join(",");
        let regexes = |all: &[Regex]| list(all.iter().map(ToString::to_string).collect());
        match self {
            Self::FirstFound => f.write_str("first-found"),
            Self::Interface(all) => write!(f, "interface={}", regexes(all)),
            Self::SkipInterface(all) => write!(f, "skip-interface={}", regexes(all)),
            Self::Cidr(all) => write!(f, "cidr={}", list(all.iter().map(ToString::to_string).collect())),
            Self::CanReach(to) => write!(f, "can-reach={to}"),
            Self::KubernetesInternalIp => f.write_str("kubernetes-internal-ip"),
        }
    }
}

/// Finds the node's address: `172.31.0.1/24`. `internal` are the addresses that Kubernetes has for the node, for
/// [`Method::KubernetesInternalIp`] alone.
pub fn detect(
    method: &Method,
    family: Family,
    interfaces: &[Interface],
    internal: &[IpAddr],
) -> Result<IpNet, DetectError> {
    let found = match method {
        Method::FirstFound => first(usual(interfaces), family, |_| true),
        Method::SkipInterface(skipped) => {
            first(usual(interfaces).filter(|i| !skipped.iter().any(|r| r.is_match(&i.name))), family, |_| {
                true
            })
        }
        // Upstream asks expression by expression: the order of the list is the order of preference.
        Method::Interface(wanted) => wanted
            .iter()
            .find_map(|r| first(interfaces.iter().filter(|i| r.is_match(&i.name)), family, |_| true)),
        Method::Cidr(networks) => {
            first(interfaces.iter(), family, |ip| networks.iter().any(|n| n.contains(&ip)))
        }
        Method::CanReach(destination) => return reach(destination, family, interfaces),
        Method::KubernetesInternalIp => {
            let address = internal.iter().copied().find(|a| Family::of(*a) == family);
            let address = address.ok_or(DetectError::NoInternalIp { family })?;
            if !is_local(address, interfaces) {
                return Err(DetectError::NotLocal { address });
            }
            Some(with_network(address, interfaces))
        }
    };
    found.ok_or_else(|| DetectError::NotFound { family, method: method.to_string() })
}

/// Interfaces that are not excluded from any choice.
pub fn usual(interfaces: &[Interface]) -> impl Iterator<Item = &Interface> {
    let excluded = Regex::new(EXCLUDED).ok();
    interfaces.iter().filter(move |i| excluded.as_ref().is_none_or(|r| !r.is_match(&i.name)))
}

/// The address with the network that its interface has for it, or alone where no interface has it.
#[must_use]
pub fn with_network(address: IpAddr, interfaces: &[Interface]) -> IpNet {
    interfaces
        .iter()
        .flat_map(|i| &i.addresses)
        .find(|a| a.addr() == address)
        .copied()
        .unwrap_or_else(|| host_net(address))
}

/// True where an interface has the address.
#[must_use]
pub fn is_local(address: IpAddr, interfaces: &[Interface]) -> bool {
    interfaces.iter().flat_map(|i| &i.addresses).any(|a| a.addr() == address)
}

fn first<'a>(
    mut interfaces: impl Iterator<Item = &'a Interface>,
    family: Family,
    accepts: impl Fn(IpAddr) -> bool,
) -> Option<IpNet> {
    interfaces.find_map(|i| {
        i.addresses
            .iter()
            .find(|a| Family::of_net(**a) == family && is_global(a.addr()) && accepts(a.addr()))
            .copied()
    })
}

/// Go's global unicast: private networks are, link-local and loopback are not.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_link_local()
                || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local())
        }
    }
}

/// A connected UDP socket sends nothing, but has the source address that the route would use.
fn reach(destination: &str, family: Family, interfaces: &[Interface]) -> Result<IpNet, DetectError> {
    let fail = |reason: String| DetectError::Unreachable {
        family,
        method: "can-reach",
        destination: destination.to_owned(),
        reason,
    };
    let targets = (destination.trim_matches(['[', ']']), REACH_PORT).to_socket_addrs();
    let target = targets
        .map_err(|e| fail(e.to_string()))?
        .find(|t| Family::of(t.ip()) == family)
        .ok_or_else(|| fail("no address of the family".to_owned()))?;
    let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
    let source = UdpSocket::bind(any)
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()))
        .map_err(|e| fail(e.to_string()))?
        .ip();
    if !is_local(source, interfaces) {
        return Err(fail(format!("the source address {source} is on no interface")));
    }
    Ok(with_network(source, interfaces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<Interface> {
        [
            ("lo", vec!["127.0.0.1/8", "::1/128"]),
            ("docker0", vec!["172.17.0.1/16"]),
            ("eth0", vec!["169.254.7.1/16", "10.0.0.5/24", "fe80::1/64", "fd00::5/64"]),
            ("eth1", vec!["192.168.7.5/24", "fd01::5/64"]),
            ("cali123", vec!["10.9.9.9/32"]),
        ]
        .into_iter()
        .map(|(name, addresses)| Interface {
            name: name.to_owned(),
            addresses: addresses.into_iter().map(|a| a.parse().unwrap()).collect(),
        })
        .collect()
    }

    fn found(method: &str, family: Family) -> Option<String> {
        detect(&method.parse().unwrap(), family, &host(), &[]).ok().map(|n| n.to_string())
    }

    #[test]
    fn first_found_passes_over_bridges_and_link_local_addresses() {
        assert_eq!(found("first-found", Family::V4).as_deref(), Some("10.0.0.5/24"));
        assert_eq!(found("", Family::V6).as_deref(), Some("fd00::5/64"));
    }

    #[test]
    fn skip_interface_is_first_found_without_some() {
        assert_eq!(found("skip-interface=eth0,ens.*", Family::V4).as_deref(), Some("192.168.7.5/24"));
    }

    #[test]
    fn interface_takes_expressions_in_their_order() {
        assert_eq!(found("interface=wlan.*,eth1,eth0", Family::V4).as_deref(), Some("192.168.7.5/24"));
        assert_eq!(found("interface=docker0", Family::V4).as_deref(), Some("172.17.0.1/16"));
        assert_eq!(found("interface=wlan0", Family::V4), None);
    }

    #[test]
    fn cidr_takes_the_first_address_within() {
        assert_eq!(found("cidr=192.168.0.0/16, 10.0.0.0/8", Family::V4).as_deref(), Some("10.0.0.5/24"));
        assert_eq!(found("cidr=fd01::/64", Family::V6).as_deref(), Some("fd01::5/64"));
    }

    #[test]
    fn kubernetes_internal_ip_is_what_kubernetes_says_with_the_network_that_the_host_has() {
        let method: Method = "kubernetes-internal-ip".parse().unwrap();
        let says = |addresses: &[&str], family| {
            let internal: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            detect(&method, family, &host(), &internal)
        };
        let found = says(&["192.168.7.5", "fd00::5"], Family::V4).unwrap();
        assert_eq!(found.to_string(), "192.168.7.5/24");
        assert_eq!(says(&["192.168.7.5", "fd00::5"], Family::V6).unwrap().to_string(), "fd00::5/64");
        let error = says(&["192.168.7.5"], Family::V6).unwrap_err();
        assert!(matches!(error, DetectError::NoInternalIp { .. }), "{error}");
        let error = says(&["192.0.2.1"], Family::V4).unwrap_err();
        assert!(matches!(error, DetectError::NotLocal { .. }), "{error}");
    }

    #[test]
    fn what_is_no_method_is_an_error() {
        for bad in ["best", "interface", "interface=(", "cidr=10", "can-reach="] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_alone_gets_the_network_of_its_interface() {
        assert_eq!(with_network("10.0.0.5".parse().unwrap(), &host()).to_string(), "10.0.0.5/24");
        assert_eq!(with_network("10.0.0.6".parse().unwrap(), &host()).to_string(), "10.0.0.6/32");
    }
}
