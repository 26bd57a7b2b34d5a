//! What the dataplane is configured with: already parsed, already effective.
//!
//! Parsing, precedence and defaults of parameters are the agent's; the defaults here are upstream's, for tests and as
//! a base. Always holds: mark bits are distinct and within the configured mask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use felix_message::PortRange;
use ipnet::IpNet;
use regex::Regex;

use crate::rule::RateLimit;

/// Bits of the packet mark, each one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Policy accepted the packet.
    pub accept: u32,
    /// Policy passed the packet to the next tier.
    pub pass: u32,
    /// Policy denied the packet.
    pub drop: u32,
    /// Scratch: all alternatives so far hold; packet comes from a workload (raw table).
    pub scratch0: u32,
    /// Scratch: this alternative holds.
    pub scratch1: u32,
}

impl Marks {
    /// How many bits they are.
    pub const COUNT: u32 = 5;

    /// Allots bits from the lowest of the mask up. `None` where the mask has too few bits.
    #[must_use]
    pub fn from_mask(mask: u32) -> Option<Self> {
        let mut bits = (0..32).map(|n| 1_u32 << n).filter(|b| mask & b != 0);
        Some(Self {
            accept: bits.next()?,
            pass: bits.next()?,
            drop: bits.next()?,
            scratch0: bits.next()?,
            scratch1: bits.next()?,
        })
    }

    /// What every table's entry clears: leftovers of an earlier pass. Not the drop bit: it lives between two rules.
    #[must_use]
    pub fn transient(&self) -> u32 {
        self.accept | self.pass | self.scratch0 | self.scratch1
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { accept: 0x1_0000, pass: 0x2_0000, drop: 0x4_0000, scratch0: 0x8_0000, scratch1: 0x10_0000 }
    }
}

/// A port that stays reachable whatever policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailsafePort {
    /// IANA number.
    pub protocol: u8,
    pub port: u16,
    /// Restricts the peer.
    pub net: Option<IpNet>,
}

/// Which tables of the kernel are programmed, and by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// nf_tables, tables of our own.
    #[default]
    Nftables,
    /// The shared tables of iptables, kept by nf_tables (`iptables-nft-restore`).
    IptablesNft,
    /// The shared tables of iptables, kept by xtables (`iptables-legacy-restore`).
    IptablesLegacy,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];
}

/// Where in the kernel's own chains our jumps stand; iptables alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChainInsertMode {
    /// Before everyone else's rules.
    #[default]
    Insert,
    /// Behind them.
    Append,
}

/// What happens to accepted packets at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowAction {
    #[default]
    Accept,
    Return,
}

/// What happens to denied packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DenyAction {
    #[default]
    Drop,
    Reject,
}

/// What happens to packets from workloads to the host that policy accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointToHostAction {
    #[default]
    Drop,
    Accept,
    Return,
}

/// Packets from outside to services' addresses that lead back out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceLoopPrevention {
    #[default]
    Drop,
    Reject,
    Disabled,
}

/// Names of interfaces that are ignored.
#[derive(Clone, Debug)]
pub enum Exclude {
    Name(String),
    Pattern(Regex),
}

impl Exclude {
    /// True where the name is one of them.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        match self {
            Self::Name(n) => n == name,
            Self::Pattern(p) => p.is_match(name),
        }
    }
}

impl PartialEq for Exclude {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// The dataplane's configuration. Field names follow upstream's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub hostname: String,
    pub backend: Backend,
    pub chain_insert_mode: ChainInsertMode,
    /// Members that an IP set has room for at least.
    pub ip_set_max: u32,
    pub ipv6: bool,
    /// Prefixes of workload interfaces' names.
    pub interface_prefixes: Vec<String>,
    /// The host's interfaces whose addresses are not taken for the host's (kube-proxy's for services).
    pub interface_exclude: Vec<Exclude>,
    pub marks: Marks,
    pub filter_allow_action: AllowAction,
    pub mangle_allow_action: AllowAction,
    pub filter_deny_action: DenyAction,
    pub endpoint_to_host_action: EndpointToHostAction,
    pub failsafe_inbound: Vec<FailsafePort>,
    pub failsafe_outbound: Vec<FailsafePort>,
    pub disable_conntrack_invalid_check: bool,
    pub log_prefix: String,
    /// How often a Log rule writes at most.
    pub log_limit: Option<RateLimit>,
    pub allow_vxlan_from_workloads: bool,
    pub allow_ipip_from_workloads: bool,
    pub vxlan_port: u16,
    /// `None`: as pools say.
    pub ipip_enabled: Option<bool>,
    pub vxlan_enabled: Option<bool>,
    pub nat_port_range: Option<PortRange>,
    pub nat_outgoing_address: Option<Ipv4Addr>,
    /// True: traffic to nodes' addresses is not masqueraded either.
    pub nat_exclude_hosts: bool,
    /// Masquerade only on this interface.
    pub nat_outgoing_interface: Option<String>,
    pub service_loop_prevention: ServiceLoopPrevention,
    /// Workloads may have floating addresses.
    pub floating_ips: bool,
    /// Protocol number of routes to workloads.
    pub device_route_protocol: u8,
    /// Metrics of routes to workloads.
    pub ipv4_route_priority: u32,
    pub ipv6_route_priority: u32,
    pub device_route_source: Option<Ipv4Addr>,
    pub device_route_source_v6: Option<Ipv6Addr>,
    /// Routes of other protocols on workload interfaces are removed too.
    pub remove_external_routes: bool,
    /// Routes are left to someone else.
    pub route_sync_disabled: bool,
    pub ip_forwarding: bool,
    /// Endpoints may name further source addresses (`WorkloadSourceSpoofing: Any`).
    pub workload_source_spoofing: bool,
    /// Longest time between two read-backs of tables; zero: never.
    pub tables_refresh: Duration,
    /// The same for IP sets, where they are apart from tables.
    pub ip_sets_refresh: Duration,
    /// How soon xtables' tables are read back after they were written: others may not take the lock. Zero: not.
    pub post_write_check: Duration,
    /// Longest wait for the kernel's answer over netlink; zero: without end.
    pub netlink_timeout: Duration,
    pub routes_refresh: Duration,
    pub interface_refresh: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let port = |protocol, port| FailsafePort { protocol, port, net: None };
        let common = [(6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667)];
        let with = |first: [(u8, u16); 2]| {
            first.into_iter().chain(common).map(|(proto, number)| port(proto, number)).collect::<Vec<_>>()
        };
        Self {
            hostname: String::new(),
            backend: Backend::default(),
            chain_insert_mode: ChainInsertMode::default(),
            ip_set_max: 1 << 20,
            ipv6: true,
            interface_prefixes: vec!["cali".to_owned()],
            interface_exclude: vec![Exclude::Name("kube-ipvs0".to_owned())],
            marks: Marks::default(),
            filter_allow_action: AllowAction::default(),
            mangle_allow_action: AllowAction::default(),
            filter_deny_action: DenyAction::default(),
            endpoint_to_host_action: EndpointToHostAction::default(),
            failsafe_inbound: with([(6, 22), (17, 68)]),
            failsafe_outbound: with([(17, 53), (17, 67)]),
            disable_conntrack_invalid_check: false,
            log_prefix: "calico-packet".to_owned(),
            log_limit: None,
            allow_vxlan_from_workloads: false,
            allow_ipip_from_workloads: false,
            vxlan_port: 4789,
            ipip_enabled: None,
            vxlan_enabled: None,
            nat_port_range: None,
            nat_outgoing_address: None,
            nat_exclude_hosts: false,
            nat_outgoing_interface: None,
            service_loop_prevention: ServiceLoopPrevention::default(),
            floating_ips: false,
            device_route_protocol: 3,
            ipv4_route_priority: 1024,
            ipv6_route_priority: 1024,
            device_route_source: None,
            device_route_source_v6: None,
            remove_external_routes: true,
            route_sync_disabled: false,
            ip_forwarding: true,
            workload_source_spoofing: false,
            tables_refresh: Duration::from_secs(180),
            ip_sets_refresh: Duration::from_secs(90),
            post_write_check: Duration::from_secs(5),
            netlink_timeout: Duration::from_secs(10),
            routes_refresh: Duration::from_secs(90),
            interface_refresh: Duration::from_secs(90),
        }
    }
}

impl Config {
    /// True for names of workload interfaces.
    #[must_use]
    pub fn is_workload_interface(&self, name: &str) -> bool {
        self.interface_prefixes.iter().any(|p| name.starts_with(p.as_str()))
    }

    /// True for names of the host's own interfaces, those left out that are to be ignored.
    #[must_use]
    pub fn is_host_interface(&self, name: &str) -> bool {
        !self.is_workload_interface(name) && !self.interface_exclude.iter().any(|e| e.holds(name))
    }

    /// The families that are programmed.
    #[must_use]
    pub fn families(&self) -> &'static [crate::rule::Family] {
        use crate::rule::Family;
        if self.ipv6 { &Family::BOTH } else { &[Family::V4] }
    }

    /// The source address of a route of a family, where one is set.
    #[must_use]
    pub fn route_source(&self, family: crate::rule::Family) -> Option<IpAddr> {
        match family {
            crate::rule::Family::V4 => self.device_route_source.map(IpAddr::V4),
            crate::rule::Family::V6 => self.device_route_source_v6.map(IpAddr::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_and_what_is_to_be_ignored_are_no_interfaces_of_the_host() {
        let pattern = Exclude::Pattern(Regex::new("^veth[0-9]+$").unwrap());
        let config = Config::default();
        let of = |name: &str| config.is_host_interface(name);
        assert!(of("eth0") && of("lo") && of("veth1") && !of("cali1") && !of("kube-ipvs0"));
        let config = Config { interface_exclude: vec![pattern], ..config };
        assert!(config.is_host_interface("kube-ipvs0") && !config.is_host_interface("veth1"));
    }
}
