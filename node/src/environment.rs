//! The environment as typed settings. Names, defaults and spellings are upstream's.
//!
//! In comes a lookup of variables, out go [`Environment`] and, for each wrong value, an error that names the variable.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use libcalico_api::duration::GoDuration;
use libcalico_api::ip_pool::EncapMode;
use libcalico_api::num_or_string::AsNumber;
use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, parse_network};
use libcalico_selector::Selector;

use crate::autodetect::Method;

/// Pool of the first node that has no other wish.
pub const DEFAULT_IPV4_POOL: &str = "192.168.0.0/16";
/// How often addresses are looked at again.
const DEFAULT_POLL: Duration = Duration::from_secs(60);

/// A variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{name}={value:?}: {reason}")]
    Value { name: String, value: String, reason: String },
    #[error(
        "NO_DEFAULT_POOLS=true together with CALICO_IPV4POOL_CIDR or CALICO_IPV6POOL_CIDR: which of them is meant?"
    )]
    PoolsAndNoPools,
    #[error("the node has no name: set NODENAME")]
    NoName,
}

/// Which component routes between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Bird,
    Vxlan,
    /// Policy alone: no addresses of the node, no BGP.
    None,
}

/// `IP` or `IP6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressWish {
    /// Not set: IPv4 is detected where the node has none yet, IPv6 stays as it is.
    Unset,
    Autodetect,
    /// `none`: stays as it is.
    Keep,
    /// With its network, or alone: then the interface says the network.
    Address {
        address: IpAddr,
        prefix_len: Option<u8>,
    },
}

/// Settings of a default pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWish {
    /// `None`: chosen at start-up.
    pub cidr: Option<IpNet>,
    pub ipip: EncapMode,
    pub vxlan: EncapMode,
    pub nat_outgoing: bool,
    pub block_size: u8,
    pub node_selector: Option<String>,
    pub disable_bgp_export: bool,
}

/// Everything that start-up is told.
#[derive(Clone, Debug)]
pub struct Environment {
    pub node_name: String,
    pub backend: Backend,
    pub ip: AddressWish,
    pub ip6: AddressWish,
    pub ip_method: Method,
    pub ip6_method: Method,
    pub as_number: Option<AsNumber>,
    pub check_conflicts: bool,
    /// `None`: no pool of this family is made.
    pub ipv4_pool: Option<PoolWish>,
    pub ipv6_pool: Option<PoolWish>,
    pub cluster_type: Option<String>,
    /// The orchestrator's name of the node.
    pub kubernetes_node: Option<String>,
    pub wait_for_datastore: bool,
    pub nodename_file: PathBuf,
    /// `mtu`, beside the former.
    pub mtu_file: PathBuf,
    pub poll_interval: Duration,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, EnvironmentError> {
        let hostname = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok());
        Self::from_lookup(|name| std::env::var(name).ok(), hostname.as_deref())
    }

    /// Reads variables; empty ones count as absent, except where upstream tells them apart.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<String>,
        hostname: Option<&str>,
    ) -> Result<Self, EnvironmentError> {
        let vars = Variables(&lookup);
        let nodename_file = vars
            .get("CALICO_NODENAME_FILE")
            .map_or_else(|| PathBuf::from("/var/lib/calico/nodename"), PathBuf::from);
        let (ipv4_pool, ipv6_pool) = pools(&vars)?;
        Ok(Self {
            node_name: node_name(&vars, hostname)?,
            backend: match vars.get("CALICO_NETWORKING_BACKEND").as_deref() {
                None | Some("bird") => Backend::Bird,
                Some("vxlan") => Backend::Vxlan,
                Some("none") => Backend::None,
                Some(_) => {
                    return Err(vars.wrong("CALICO_NETWORKING_BACKEND", "expected bird, vxlan or none"));
                }
            },
            ip: address(&vars, "IP", Family::V4)?,
            ip6: address(&vars, "IP6", Family::V6)?,
            ip_method: method(&vars, "IP_AUTODETECTION_METHOD")?,
            ip6_method: method(&vars, "IP6_AUTODETECTION_METHOD")?,
            as_number: match vars.get("AS") {
                Some(text) => Some(text.parse().map_err(|e: String| vars.wrong("AS", &e))?),
                None => None,
            },
            check_conflicts: vars.get("DISABLE_NODE_IP_CHECK").as_deref() != Some("true"),
            ipv4_pool,
            ipv6_pool,
            cluster_type: vars.get("CLUSTER_TYPE"),
            kubernetes_node: vars.get("CALICO_K8S_NODE_REF"),
            wait_for_datastore: vars.get("WAIT_FOR_DATASTORE").as_deref() == Some("true"),
            mtu_file: nodename_file.with_file_name("mtu"),
            nodename_file,
            poll_interval: match vars.get("AUTODETECT_POLL_INTERVAL") {
                Some(text) => text
                    .parse::<GoDuration>()
                    .ok()
                    .and_then(GoDuration::to_std)
                    .filter(|d| !d.is_zero())
                    .ok_or_else(|| {
                        vars.wrong("AUTODETECT_POLL_INTERVAL", "expected a duration such as 60s")
                    })?,
                None => DEFAULT_POLL,
            },
        })
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// Upstream's reading: what is not a spelling of no is yes.
    fn yes(&self, name: &str, default: bool) -> bool {
        (self.0)(name)
            .map_or(default, |v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "n" | "f"))
    }

    fn wrong(&self, name: &str, reason: &str) -> EnvironmentError {
        EnvironmentError::Value {
            name: name.to_owned(),
            value: self.get(name).unwrap_or_default(),
            reason: reason.to_owned(),
        }
    }
}

fn node_name(vars: &Variables<'_>, hostname: Option<&str>) -> Result<String, EnvironmentError> {
    if let Some(name) = vars.get("NODENAME") {
        return Ok(name);
    }
    let host = vars.get("HOSTNAME").or_else(|| hostname.map(str::to_owned)).unwrap_or_default();
    let name = host.trim().to_ascii_lowercase();
    if name.is_empty() { Err(EnvironmentError::NoName) } else { Ok(name) }
}

fn address(vars: &Variables<'_>, name: &str, family: Family) -> Result<AddressWish, EnvironmentError> {
    let Some(text) = vars.get(name) else { return Ok(AddressWish::Unset) };
    let wrong = || {
        vars.wrong(
            name,
            &format!("expected autodetect, none, or an {family} address with or without its network length"),
        )
    };
    match text.as_str() {
        "autodetect" => return Ok(AddressWish::Autodetect),
        "none" => return Ok(AddressWish::Keep),
        _ => {}
    }
    let (address, prefix_len) = match text.parse::<IpNet>() {
        Ok(net) => (net.addr(), Some(net.prefix_len())),
        Err(_) => (text.parse::<IpAddr>().map_err(|_| wrong())?, None),
    };
    if Family::of(address) != family {
        return Err(wrong());
    }
    Ok(AddressWish::Address { address, prefix_len })
}

fn method(vars: &Variables<'_>, name: &str) -> Result<Method, EnvironmentError> {
    match vars.get(name) {
        Some(text) => {
            text.parse().map_err(|e: crate::autodetect::MethodError| vars.wrong(name, &e.to_string()))
        }
        None => Ok(Method::FirstFound),
    }
}

type Pools = (Option<PoolWish>, Option<PoolWish>);

fn pools(vars: &Variables<'_>) -> Result<Pools, EnvironmentError> {
    if vars.get("NO_DEFAULT_POOLS").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        let asked = vars.get("CALICO_IPV4POOL_CIDR").is_some() || vars.get("CALICO_IPV6POOL_CIDR").is_some();
        return if asked { Err(EnvironmentError::PoolsAndNoPools) } else { Ok((None, None)) };
    }
    Ok((pool(vars, Family::V4)?, pool(vars, Family::V6)?))
}

fn pool(vars: &Variables<'_>, family: Family) -> Result<Option<PoolWish>, EnvironmentError> {
    let is_v4 = family == Family::V4;
    let name = |what: &str| format!("CALICO_IPV{}POOL_{what}", family.version());
    let cidr = match vars.get(&name("CIDR")).as_deref() {
        Some("none") => return Ok(None),
        None => None,
        Some(text) => match parse_network(text) {
            Ok(net) if Family::of_net(net) == family => Some(net),
            _ => return Err(vars.wrong(&name("CIDR"), &format!("expected an {family} network or none"))),
        },
    };
    let sizes = if is_v4 { 20..=32 } else { 116..=128 };
    let block_size = match vars.get(&name("BLOCK_SIZE")) {
        None => {
            if is_v4 {
                26
            } else {
                122
            }
        }
        Some(text) => text.parse().ok().filter(|n| sizes.contains(n)).ok_or_else(|| {
            vars.wrong(&name("BLOCK_SIZE"), &format!("expected {} to {}", sizes.start(), sizes.end()))
        })?,
    };
    let node_selector = vars.get(&name("NODE_SELECTOR"));
    if let Some(text) = &node_selector {
        Selector::parse(text).map_err(|e| vars.wrong(&name("NODE_SELECTOR"), &e.to_string()))?;
    }
    Ok(Some(PoolWish {
        cidr,
        ipip: if is_v4 { encapsulation(vars, &name("IPIP"))? } else { EncapMode::Never },
        vxlan: encapsulation(vars, &name("VXLAN"))?,
        nat_outgoing: vars.yes(&name("NAT_OUTGOING"), is_v4),
        block_size,
        node_selector,
        disable_bgp_export: vars.yes(&name("DISABLE_BGP_EXPORT"), false),
    }))
}

fn encapsulation(vars: &Variables<'_>, name: &str) -> Result<EncapMode, EnvironmentError> {
    match vars.get(name).map(|v| v.to_ascii_lowercase()).as_deref() {
        None | Some("off" | "never") => Ok(EncapMode::Never),
        Some("crosssubnet" | "cross-subnet") => Ok(EncapMode::CrossSubnet),
        Some("always") => Ok(EncapMode::Always),
        Some(_) => Err(vars.wrong(name, "expected Never, CrossSubnet or Always")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let vars: Vec<(String, String)> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Environment::from_lookup(
            move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()),
            Some("Host-1"),
        )
    }

    #[test]
    fn without_any_variable_the_defaults_are_upstreams() {
        let e = read(&[]).unwrap();
        assert_eq!(e.node_name, "host-1");
        assert_eq!((e.backend, &e.ip, &e.ip6), (Backend::Bird, &AddressWish::Unset, &AddressWish::Unset));
        let (v4, v6) = (e.ipv4_pool.unwrap(), e.ipv6_pool.unwrap());
        assert_eq!((v4.block_size, v4.nat_outgoing, v4.ipip), (26, true, EncapMode::Never));
        assert_eq!((v6.block_size, v6.nat_outgoing), (122, false));
        assert!(e.check_conflicts && !e.wait_for_datastore);
    }

    #[test]
    fn nodename_wins_over_the_host_name_and_keeps_its_case() {
        assert_eq!(read(&[("NODENAME", "Node-A"), ("HOSTNAME", "x")]).unwrap().node_name, "Node-A");
    }

    #[test]
    fn pool_settings_are_read_in_upstreams_spellings() {
        let e = read(&[
            ("CALICO_IPV4POOL_CIDR", "10.244.1.0/16"),
            ("CALICO_IPV4POOL_IPIP", "cross-subnet"),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "No"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV6POOL_CIDR", "none"),
        ])
        .unwrap();
        let pool = e.ipv4_pool.unwrap();
        assert_eq!(pool.cidr.unwrap().to_string(), "10.244.0.0/16");
        assert_eq!((pool.ipip, pool.nat_outgoing, pool.block_size), (EncapMode::CrossSubnet, false, 28));
        assert!(e.ipv6_pool.is_none());
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in [
            ("IP", "fd00::1"),
            ("IP", "detect"),
            ("IP6", "10.0.0.1"),
            ("AS", "x"),
            ("IP_AUTODETECTION_METHOD", "best"),
            ("CALICO_IPV4POOL_CIDR", "fd00::/48"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "19"),
            ("CALICO_IPV4POOL_VXLAN", "sometimes"),
            ("CALICO_IPV4POOL_NODE_SELECTOR", "a =="),
            ("CALICO_NETWORKING_BACKEND", "ospf"),
            ("AUTODETECT_POLL_INTERVAL", "soon"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        assert_eq!(
            read(&[("NO_DEFAULT_POOLS", "true"), ("CALICO_IPV4POOL_CIDR", "10.0.0.0/16")]).unwrap_err(),
            EnvironmentError::PoolsAndNoPools
        );
    }

    #[test]
    fn an_address_may_come_with_its_network() {
        let e = read(&[("IP", "10.0.0.5/24"), ("IP6", "fd00::5")]).unwrap();
        assert_eq!(e.ip, AddressWish::Address { address: "10.0.0.5".parse().unwrap(), prefix_len: Some(24) });
        assert_eq!(e.ip6, AddressWish::Address { address: "fd00::5".parse().unwrap(), prefix_len: None });
    }
}
