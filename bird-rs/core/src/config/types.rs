//! What a configuration says, as plain typed data.
//!
//! Two configurations compare equal when they mean the same: places in files do not count, functions called by a
//! filter do. Reload relies on that to leave alone what did not change.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;

use crate::filter::{Filter, Stmt};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `router id`, when given.
    pub router_id: Option<Ipv4Addr>,
    /// `graceful restart wait`, in seconds.
    pub graceful_restart_wait_secs: u32,
    /// Formats of times in replies.
    pub time: TimeFormats,
    /// Where log lines go besides standard error.
    pub log: Vec<LogTarget>,
    /// Tables, with the two default ones.
    pub tables: Vec<TableConfig>,
    /// Protocols, in the order of the file.
    pub protocols: Vec<Arc<ProtocolConfig>>,
    /// Named filters, for `show route filter`.
    pub filters: Vec<Arc<Filter>>,
}

/// Formats of times, by what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeFormats {
    /// `show status`.
    pub base: TimeFormat,
    /// `show protocols`.
    pub protocol: TimeFormat,
    /// `show route`.
    pub route: TimeFormat,
}

/// One format of times.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeFormat {
    /// strftime pattern, `%3f` and `%6f` for fractions of a second.
    pub pattern: String,
    /// From this age on, in seconds, the second pattern is used.
    pub limit: Option<(u64, String)>,
}

impl TimeFormat {
    /// BIRD's `iso short`: time of day, and the date for what is older than twenty hours.
    #[must_use]
    pub fn iso_short(fraction: &str) -> Self {
        Self { pattern: format!("%T{fraction}"), limit: Some((20 * 3600, "%F".to_owned())) }
    }

    /// BIRD's `iso long`.
    #[must_use]
    pub fn iso_long(fraction: &str) -> Self {
        Self { pattern: format!("%F %T{fraction}"), limit: None }
    }
}

impl Default for TimeFormats {
    fn default() -> Self {
        Self {
            base: TimeFormat::iso_long(".%3f"),
            protocol: TimeFormat::iso_short(".%3f"),
            route: TimeFormat::iso_short(".%3f"),
        }
    }
}

/// One `log` statement.
#[derive(Debug, Clone, PartialEq)]
pub enum LogTarget {
    /// `log "file"`.
    File(String),
    /// `log syslog`.
    Syslog,
    /// `log stderr`.
    Stderr,
}

/// A routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name.
    pub name: Arc<str>,
    /// The family of its routes.
    pub family: Family,
}

/// One `protocol` block.
#[derive(Debug, Clone, PartialEq)]
pub struct ProtocolConfig {
    /// Its name, given or made.
    pub name: Arc<str>,
    /// `disabled`.
    pub disabled: bool,
    /// `description`.
    pub description: Option<String>,
    /// `router id`, overriding the global one.
    pub router_id: Option<Ipv4Addr>,
    /// Log changes of state at info rather than debug.
    pub debug: bool,
    /// Its channels.
    pub channels: Vec<ChannelConfig>,
    /// What kind of protocol it is.
    pub kind: ProtocolKind,
}

/// The kinds of protocols.
#[derive(Debug, Clone, PartialEq)]
pub enum ProtocolKind {
    /// Interfaces of the kernel.
    Device(DeviceConfig),
    /// Routes of the subnets on interfaces.
    Direct(DirectConfig),
    /// Synchronization with a kernel table.
    Kernel(KernelConfig),
    /// Configured routes.
    Static(StaticConfig),
    /// A BGP session.
    Bgp(Box<BgpConfig>),
}

impl ProtocolKind {
    /// The name in the `Proto` column of `show protocols`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Device(_) => "Device",
            Self::Direct(_) => "Direct",
            Self::Kernel(_) => "Kernel",
            Self::Static(_) => "Static",
            Self::Bgp(_) => "BGP",
        }
    }

    /// Preference of its routes unless the channel says otherwise; BIRD's values.
    #[must_use]
    pub fn preference(&self) -> u32 {
        match self {
            Self::Device(_) => 0,
            Self::Direct(_) => 240,
            Self::Kernel(_) => 10,
            Self::Static(_) => 200,
            Self::Bgp(_) => 100,
        }
    }
}

/// What passes a channel in one direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// Everything.
    All,
    /// Nothing.
    None,
    /// What the filter accepts.
    Filter(Arc<Filter>),
}

impl Policy {
    /// The name as `show protocols all` prints it.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::All => "ACCEPT",
            Self::None => "REJECT",
            Self::Filter(filter) => filter.name.as_deref().unwrap_or("(unnamed)"),
        }
    }
}

/// What to do when a limit of routes is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAction {
    /// Log it.
    Warn,
    /// Ignore further routes.
    Block,
    /// Restart the protocol.
    Restart,
    /// Stop the protocol.
    Disable,
}

/// A limit of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Routes allowed.
    pub routes: u32,
    /// What to do beyond.
    pub action: LimitAction,
}

/// One channel: the link between a protocol and a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelConfig {
    /// Family of the routes.
    pub family: Family,
    /// Table name.
    pub table: Arc<str>,
    /// Protocol to table.
    pub import: Policy,
    /// Table to protocol.
    pub export: Policy,
    /// Preference of imported routes.
    pub preference: Option<u32>,
    /// `import limit` and `receive limit`, whichever is lower.
    pub import_limit: Option<Limit>,
    /// `export limit`.
    pub export_limit: Option<Limit>,
    /// `next hop self`.
    pub next_hop_self: NextHopScope,
    /// `next hop keep`.
    pub next_hop_keep: NextHopScope,
    /// `next hop address`.
    pub next_hop_address: Option<IpAddr>,
    /// `gateway direct` or `gateway recursive`.
    pub gateway: Option<Gateway>,
    /// `add paths`: receive, send.
    pub add_paths: (bool, bool),
    /// `graceful restart` of this channel.
    pub graceful_restart: Option<bool>,
}

impl ChannelConfig {
    /// A channel with BIRD's defaults.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self {
            family,
            table: default_table(family),
            import: Policy::All,
            export: Policy::None,
            preference: None,
            import_limit: None,
            export_limit: None,
            next_hop_self: NextHopScope::Never,
            next_hop_keep: NextHopScope::Never,
            next_hop_address: None,
            gateway: None,
            add_paths: (false, false),
            graceful_restart: None,
        }
    }
}

/// Name of the default table of a family.
#[must_use]
pub fn default_table(family: Family) -> Arc<str> {
    match family {
        Family::Ipv4 => Arc::from("master4"),
        Family::Ipv6 => Arc::from("master6"),
    }
}

/// To which routes a next-hop option applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopScope {
    /// None.
    Never,
    /// All.
    Always,
    /// Routes from internal peers.
    Ibgp,
    /// Routes from external peers.
    Ebgp,
}

/// How the next hop of a received route becomes a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// It must be on a connected subnet.
    Direct,
    /// It is looked up in the routing table.
    Recursive,
}

/// `protocol device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Seconds between scans.
    pub scan_secs: u32,
}

/// One pattern of an `interface` option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern {
    /// Matching means "not this one".
    pub negated: bool,
    /// Shell pattern of the name.
    pub name: Option<String>,
    /// Addresses must be within this prefix.
    pub prefix: Option<IpNet>,
}

/// `protocol direct`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectConfig {
    /// Patterns, the first that matches decides; empty takes all.
    pub interfaces: Vec<InterfacePattern>,
}

/// `protocol kernel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelConfig {
    /// Number of the kernel's table.
    pub table: u32,
    /// Metric of all written routes; 0 leaves it to the route.
    pub metric: u32,
    /// Take routes of others.
    pub learn: bool,
    /// Leave routes in the kernel on shutdown.
    pub persist: bool,
    /// Keep routes in the kernel over a restart.
    pub graceful_restart: bool,
    /// Seconds between scans.
    pub scan_secs: u32,
    /// Highest number of next hops of a merged route; `None` without merging.
    pub merge_paths: Option<usize>,
}

/// One configured route.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticRoute {
    /// Its prefix.
    pub prefix: IpNet,
    /// Where it leads.
    pub target: StaticTarget,
    /// Statements that set its attributes.
    pub attributes: Vec<Stmt>,
}

/// Where a configured route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticTarget {
    /// Packets vanish.
    Blackhole,
    /// Packets are answered with "unreachable".
    Unreachable,
    /// Packets are answered with "prohibited".
    Prohibit,
    /// One or more next hops.
    Via(Vec<StaticNextHop>),
    /// A next hop looked up in the table.
    Recursive(IpAddr),
}

/// One next hop of a configured route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticNextHop {
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Interface name.
    pub interface: Option<String>,
    /// The gateway is reachable though no subnet says so.
    pub onlink: bool,
    /// Weight among several, from 1.
    pub weight: u16,
}

/// `protocol static`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StaticConfig {
    /// Its routes.
    pub routes: Vec<StaticRoute>,
}

/// The AS number of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Number(u32),
    /// The same as ours.
    Internal,
    /// Any but ours.
    External,
}

/// How far graceful restart is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GracefulMode {
    /// Not at all.
    Off,
    /// As the helper of a restarting peer.
    Aware,
    /// Both as a helper and when restarting.
    On,
}

/// `protocol bgp`.
#[derive(Debug, Clone, PartialEq)]
pub struct BgpConfig {
    /// Our AS number.
    pub local_as: u32,
    /// Our address of the session.
    pub local_address: Option<IpAddr>,
    /// Port to listen on.
    pub local_port: u16,
    /// The neighbour's address.
    pub neighbor: IpAddr,
    /// Interface of a link-local neighbour.
    pub interface: Option<String>,
    /// The neighbour's port.
    pub neighbor_port: u16,
    /// The neighbour's AS number.
    pub neighbor_as: PeerAs,
    /// `multihop N`; 0 for `direct`; `None` when neither is given (see [`BgpConfig::hops`]).
    pub multihop: Option<u8>,
    /// Refuse packets from farther away (RFC 5082).
    pub ttl_security: bool,
    /// Listen on `local_address` alone.
    pub strict_bind: bool,
    /// TCP MD5 password (RFC 2385).
    pub password: Option<String>,
    /// Wait for the neighbour to connect.
    pub passive: bool,
    /// The neighbour is our route-reflection client.
    pub rr_client: bool,
    /// Cluster id, when it is not the router id.
    pub rr_cluster_id: Option<Ipv4Addr>,
    /// Support of graceful restart.
    pub graceful_restart: GracefulMode,
    /// Restart time we announce, in seconds.
    pub graceful_restart_time_secs: u16,
    /// Proposed hold time, in seconds.
    pub hold_time_secs: u16,
    /// Hold time until the OPEN arrives, in seconds.
    pub startup_hold_time_secs: u16,
    /// Keepalive interval; a third of the hold time when not given.
    pub keepalive_secs: Option<u16>,
    /// Delay before the first connection attempt, in seconds.
    pub connect_delay_secs: u32,
    /// Time between attempts, in seconds.
    pub connect_retry_secs: u32,
    /// Least and greatest wait after an error, in seconds.
    pub error_wait_secs: (u32, u32),
    /// Time without error after which the wait is at its least again, in seconds.
    pub error_forget_secs: u32,
    /// Disable the protocol after an error.
    pub disable_after_error: bool,
    /// How often our AS may stand in received paths.
    pub allow_local_as: u8,
    /// Accept LOCAL_PREF from external peers.
    pub allow_local_pref: bool,
    /// MED of routes without one.
    pub default_med: u32,
    /// LOCAL_PREF of routes without one.
    pub default_local_pref: u32,
    /// Compare lengths of AS paths.
    pub path_metric: bool,
    /// Compare MED between different neighbouring ASes.
    pub med_metric: bool,
    /// Offer route refresh.
    pub route_refresh: bool,
    /// Offer four-octet AS numbers.
    pub as4: bool,
    /// Offer long messages.
    pub extended_messages: bool,
    /// Send capabilities at all.
    pub capabilities: bool,
    /// Act on NO_EXPORT and its like.
    pub interpret_communities: bool,
}

impl BgpConfig {
    /// Hops to the neighbour; `None` when it is directly connected, which external neighbours are by default.
    #[must_use]
    pub fn hops(&self) -> Option<u8> {
        match self.multihop {
            Some(0) => None,
            Some(hops) => Some(hops),
            None => self.is_internal().then_some(64),
        }
    }

    /// Whether a neighbour with this AS number is in our AS.
    #[must_use]
    pub fn is_internal_with(&self, asn: u32) -> bool {
        asn == self.local_as
    }

    /// Whether the neighbour is in our AS.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        match self.neighbor_as {
            PeerAs::Number(asn) => asn == self.local_as,
            PeerAs::Internal => true,
            PeerAs::External => false,
        }
    }
}

impl Default for BgpConfig {
    /// BIRD's defaults. AS numbers and the neighbour stay at "not given" until the end of the block.
    fn default() -> Self {
        Self {
            local_as: 0,
            local_address: None,
            local_port: 179,
            neighbor: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            interface: None,
            neighbor_port: 179,
            neighbor_as: PeerAs::Number(0),
            multihop: None,
            ttl_security: false,
            strict_bind: false,
            password: None,
            passive: false,
            rr_client: false,
            rr_cluster_id: None,
            graceful_restart: GracefulMode::Aware,
            graceful_restart_time_secs: 120,
            hold_time_secs: 240,
            startup_hold_time_secs: 240,
            keepalive_secs: None,
            connect_delay_secs: 5,
            connect_retry_secs: 120,
            error_wait_secs: (60, 300),
            error_forget_secs: 300,
            disable_after_error: false,
            allow_local_as: 0,
            allow_local_pref: false,
            default_med: 0,
            default_local_pref: 100,
            path_metric: true,
            med_metric: false,
            route_refresh: true,
            as4: true,
            extended_messages: false,
            capabilities: true,
            interpret_communities: true,
        }
    }
}
