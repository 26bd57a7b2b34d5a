//! What the templates see: everything decided, nothing left to them but the order of words.
//!
//! In comes the [`State`] with the node's [`NodeSettings`]; out goes a [`Context`]. Always holds: it is a function of
//! both, and everything in it is sorted. A family takes part where the node has an address or a block of it.
//!
//! Differences from upstream's BIRD 1.x files, by necessity: one daemon serves both families, so what belongs to one is
//! named `…_v4` or `…_v6`; IPIP pools are always left to Felix, because steering a route into `tunl0` (`krt_tunnel`)
//! is a patch of upstream's BIRD that BIRD 2 does not have.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use libcalico_api::bgp_configuration::{BGPConfiguration, BindMode, PrefixAdvertisement};
use libcalico_api::bgp_peer::NextHopMode;
use libcalico_api::common::ProgramClusterRoutes;
use libcalico_api::ip_pool::{EncapMode, IPPool};
use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, is_host_net, parse_network};
use serde::Serialize;
use tracing::warn;

use crate::bird_text::{INT_MAX, community, quoted};
use crate::filters::{Direction, FilterFunction, function};
use crate::peers::{NodeView, Peering, global_as, listen_port, peerings};
use crate::settings::NodeSettings;
use crate::state::State;

/// Metric of an ordinary route, and what is better than it is an elevated one.
const NORMAL_ROUTE_PRIORITY: i32 = 1024;

/// Everything the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Context {
    pub node_name: String,
    pub router_id: Ipv4Addr,
    pub as_number: u32,
    /// `port N ` for a port other than BGP's own, or empty.
    pub listen: String,
    /// Listen on the node's addresses alone.
    pub strict_bind: bool,
    /// Argument of `debug` for device and direct protocols; none: no debug line.
    pub debug: Option<&'static str>,
    /// The same for sessions.
    pub peer_debug: Option<&'static str>,
    /// Patterns of interfaces whose networks are seen.
    pub direct_interfaces: String,
    pub families: Vec<FamilyContext>,
}

/// What belongs to one address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyContext {
    /// `v4`, `v6`: ends the names of functions and protocols.
    pub suffix: &'static str,
    /// `ipv4`, `ipv6`: the channel.
    pub channel: &'static str,
    /// Kernel metric of an ordinary route.
    pub normal_priority: i32,
    /// LOCAL_PREF of an ordinary route; above it a route wins over a local workload's.
    pub normal_local_pref: i64,
    pub communities: Vec<CommunityRule>,
    /// The node's blocks.
    pub blocks: Vec<Block>,
    /// Static routes to peers behind a gateway.
    pub peer_routes: Vec<PeerRoute>,
    /// Pools whose routes leave for no peer.
    pub unexported_pools: Vec<IpNet>,
    /// Pools whose routes leave for every peer.
    pub exported_pools: Vec<IpNet>,
    /// Pools whose routes are not put into the kernel here.
    pub felix_pools: Vec<FelixPool>,
    pub filters: Vec<FilterFunction>,
    pub peers: Vec<PeerContext>,
}

/// Communities for routes within a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommunityRule {
    pub cidr: IpNet,
    pub statements: Vec<String>,
}

/// An IPAM block of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub cidr: IpNet,
    /// A block of one address has no blackhole route: it would hide the workload's own.
    pub blackhole: bool,
}

/// `route PEER via GATEWAY`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PeerRoute {
    pub cidr: IpNet,
    pub via: IpAddr,
}

/// A pool whose routes Felix puts into the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FelixPool {
    pub cidr: IpNet,
    pub reason: &'static str,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerContext {
    pub name: String,
    pub ip: IpAddr,
    pub port: Option<u16>,
    pub as_number: u32,
    pub local_as: Option<u32>,
    pub source_address: Option<IpAddr>,
    pub ttl_security: Option<u8>,
    pub passive: bool,
    pub allowed_local_as: Option<u32>,
    /// Cluster id where the peer is a client of this route reflector.
    pub client_of_cluster: Option<Ipv4Addr>,
    pub restart_secs: Option<u64>,
    pub keepalive_secs: Option<u64>,
    /// `self`, `keep`; none: as BIRD does it.
    pub next_hop: Option<&'static str>,
    pub internal: bool,
    /// Calls of filter functions.
    pub import_filters: Vec<String>,
    pub export_filters: Vec<String>,
}

impl Context {
    /// What the state says of this node. A node that is not in the datastore yet has no family.
    #[must_use]
    pub fn new(state: &State, settings: &NodeSettings) -> Self {
        let name = state.node_name();
        let own = state.node(name).map(|n| NodeView::new(state, n));
        let configuration = state.global_configuration();
        let strict_bind = configuration.and_then(|c| c.spec.bind_mode) == Some(BindMode::NodeIP);
        let (debug, peer_debug) = debug_modes(state, settings);
        let families = match &own {
            Some(own) => {
                let all = peerings(state);
                [Family::V4, Family::V6]
                    .into_iter()
                    .filter_map(|family| FamilyContext::new(state, own, &all, family, strict_bind))
                    .collect()
            }
            None => Vec::new(),
        };
        Self {
            // It stands in a comment, which a line's end would end.
            node_name: name.chars().filter(|c| !c.is_control()).collect(),
            router_id: settings.router_id.resolve(name, own.as_ref().and_then(|n| n.ipv4)),
            as_number: own.as_ref().map_or_else(|| global_as(state), |n| n.as_number),
            listen: listen_port(state, name).map(|p| format!("port {p} ")).unwrap_or_default(),
            strict_bind,
            debug,
            peer_debug,
            direct_interfaces: direct_interfaces(configuration),
            families,
        }
    }

    /// How many sessions the file has.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.families.iter().map(|f| f.peers.len()).sum()
    }
}

impl FamilyContext {
    fn new(
        state: &State,
        own: &NodeView<'_>,
        all: &[Peering],
        family: Family,
        strict_bind: bool,
    ) -> Option<Self> {
        let is_v4 = family == Family::V4;
        let has_address = if is_v4 { own.ipv4.is_some() } else { own.ipv6.is_some() };
        let blocks: Vec<Block> = state
            .blocks()
            .filter(|c| Family::of_net(*c) == family)
            .map(|cidr| Block { cidr, blackhole: !is_host_net(cidr) })
            .collect();
        if !has_address && blocks.is_empty() {
            return None;
        }
        let configuration = state.global_configuration().map(|c| &c.spec);
        let priority = configuration
            .and_then(|c| if is_v4 { c.ipv4_normal_route_priority } else { c.ipv6_normal_route_priority })
            .filter(|p| *p > 0)
            .unwrap_or(NORMAL_ROUTE_PRIORITY);
        let own_peerings: Vec<&Peering> = all.iter().filter(|p| Family::of(p.ip) == family).collect();
        let filters: Vec<FilterFunction> = state
            .filters()
            .flat_map(|f| {
                [Direction::Import, Direction::Export].into_iter().filter_map(|d| function(f, d, family))
            })
            .collect();
        let pools = Pools::new(state, family);
        Some(Self {
            suffix: if is_v4 { "v4" } else { "v6" },
            channel: if is_v4 { "ipv4" } else { "ipv6" },
            normal_priority: priority,
            normal_local_pref: INT_MAX - i64::from(priority),
            communities: communities(state, family),
            blocks,
            peer_routes: peer_routes(&own_peerings),
            unexported_pools: pools.unexported,
            exported_pools: pools.exported,
            felix_pools: pools.felix,
            peers: own_peerings.iter().map(|p| peer_context(state, own, p, family, strict_bind)).collect(),
            filters,
        })
    }
}

fn peer_context(
    state: &State,
    own: &NodeView<'_>,
    p: &Peering,
    family: Family,
    strict_bind: bool,
) -> PeerContext {
    let internal = p.as_number == p.local_as.unwrap_or(own.as_number);
    let keeps = p.next_hop == NextHopMode::Keep || (p.keep_original_next_hop && !internal);
    let calls = |direction| {
        p.filters
            .iter()
            .filter_map(|name| function(state.filter(name)?, direction, family))
            .map(|f| {
                format!("{}({})", f.name, if f.by_peer_type { internal.to_string() } else { String::new() })
            })
            .collect()
    };
    let client = internal && own.cluster_id.is_some() && own.cluster_id != p.peer_cluster_id.as_deref();
    PeerContext {
        name: p.name(),
        ip: p.ip,
        port: p.port,
        as_number: p.as_number,
        local_as: p.local_as,
        // Listening on one address needs that address, whatever the peering says of connecting.
        source_address: own.address_like(p.ip).filter(|_| p.source_address || strict_bind),
        ttl_security: p.ttl_security,
        passive: p.passive,
        allowed_local_as: Some(p.allowed_local_as).filter(|n| *n > 0),
        client_of_cluster: own.cluster_id.filter(|_| client).and_then(cluster_id),
        restart_secs: p.restart_secs,
        keepalive_secs: p.keepalive_secs,
        next_hop: if keeps {
            Some("keep")
        } else if p.next_hop == NextHopMode::SelfNextHop {
            Some("self")
        } else {
            None
        },
        internal,
        import_filters: calls(Direction::Import),
        export_filters: calls(Direction::Export),
    }
}

fn cluster_id(text: &str) -> Option<Ipv4Addr> {
    text.parse().inspect_err(|_| warn!(cluster_id = text, "routeReflectorClusterID is no IPv4 address")).ok()
}

fn debug_modes(state: &State, settings: &NodeSettings) -> (Option<&'static str>, Option<&'static str>) {
    let of = |c: Option<&BGPConfiguration>| c.and_then(|c| c.spec.log_severity_screen.clone());
    let severity = settings
        .log_severity
        .clone()
        .or_else(|| of(state.node_configuration(state.node_name())))
        .or_else(|| of(state.global_configuration()));
    match severity.map(|s| s.to_ascii_lowercase()).as_deref() {
        Some("debug") => (Some("all"), Some("all")),
        None | Some("" | "info") => (Some("{ states }"), Some("{ states, routes, filters, events }")),
        Some(_) => (None, None),
    }
}

fn direct_interfaces(configuration: Option<&BGPConfiguration>) -> String {
    let ignored = configuration.map(|c| c.spec.ignored_interfaces.as_slice()).unwrap_or_default();
    let mut patterns: Vec<String> = ignored
        .iter()
        .filter_map(|pattern| {
            let literal = quoted(pattern);
            if literal.is_none() {
                warn!(pattern, "entry of ignoredInterfaces left out: it is no interface name");
            }
            literal.map(|l| format!("-{l}"))
        })
        .collect();
    patterns.extend([r#"-"cali*""#, r#"-"kube-ipvs*""#, r#""*""#].map(str::to_owned));
    patterns.join(", ")
}

/// The node's own prefix advertisements as a whole, or the cluster's. Communities are named where they are defined.
fn communities(state: &State, family: Family) -> Vec<CommunityRule> {
    let source = [state.node_configuration(state.node_name()), state.global_configuration()]
        .into_iter()
        .flatten()
        .find(|c| !c.spec.prefix_advertisements.is_empty());
    let Some(source) = source else { return Vec::new() };
    source.spec.prefix_advertisements.iter().filter_map(|a| community_rule(source, a, family)).collect()
}

fn community_rule(
    source: &BGPConfiguration,
    a: &PrefixAdvertisement,
    family: Family,
) -> Option<CommunityRule> {
    let cidr = parse_network(a.cidr.as_deref()?).ok().filter(|c| Family::of_net(*c) == family)?;
    let values: BTreeSet<&str> = a
        .communities
        .iter()
        .filter_map(|named| {
            if community(named).is_some() {
                return Some(named.as_str());
            }
            source.spec.communities.iter().find(|c| c.name.as_ref() == Some(named))?.value.as_deref()
        })
        .collect();
    let statements: Vec<String> = values
        .into_iter()
        .filter_map(community)
        .map(|(attribute, literal)| format!("{attribute}.add({literal});"))
        .collect();
    (!statements.is_empty()).then_some(CommunityRule { cidr, statements })
}

fn peer_routes(peerings: &[&Peering]) -> Vec<PeerRoute> {
    let routes: BTreeSet<PeerRoute> = peerings
        .iter()
        .filter_map(|p| Some(PeerRoute { cidr: libcalico_net::cidr::host_net(p.ip), via: p.reachable_by? }))
        .collect();
    routes.into_iter().collect()
}

/// What the pools of one family mean for exports and for the kernel.
struct Pools {
    unexported: Vec<IpNet>,
    exported: Vec<IpNet>,
    felix: Vec<FelixPool>,
}

impl Pools {
    fn new(state: &State, family: Family) -> Self {
        let program = state.global_configuration().and_then(|c| c.spec.program_cluster_routes);
        // Without a word, unencapsulated routes are BIRD's and IPIP's are Felix'.
        let plain_is_ours =
            !matches!(program, Some(ProgramClusterRoutes::Disabled | ProgramClusterRoutes::EnabledIPIPOnly));
        let mut found = Self { unexported: Vec::new(), exported: Vec::new(), felix: Vec::new() };
        for pool in state.pools() {
            let Some(cidr) = pool.spec.cidr.as_deref().and_then(|c| parse_network(c).ok()) else { continue };
            if Family::of_net(cidr) != family {
                continue;
            }
            if pool.spec.disable_bgp_export == Some(true) {
                found.unexported.push(cidr);
            } else {
                found.exported.push(cidr);
            }
            let reason = if uses(pool.spec.vxlan_mode) {
                "VXLAN routes are handled by Felix."
            } else if uses(pool.spec.ipip_mode) || !plain_is_ours {
                if programs_ipip(program, pool) {
                    warn!(
                        pool = pool.name(),
                        "programClusterRoutes asks BIRD for IPIP routes; they stay with Felix"
                    );
                }
                "Cluster routes are handled by Felix."
            } else {
                continue;
            };
            found.felix.push(FelixPool { cidr, reason });
        }
        found.unexported.sort();
        found.exported.sort();
        found.felix.sort();
        found
    }
}

fn programs_ipip(program: Option<ProgramClusterRoutes>, pool: &IPPool) -> bool {
    uses(pool.spec.ipip_mode)
        && matches!(program, Some(ProgramClusterRoutes::Enabled | ProgramClusterRoutes::EnabledIPIPOnly))
}

fn uses(mode: Option<EncapMode>) -> bool {
    mode.is_some_and(|m| m != EncapMode::Never)
}
