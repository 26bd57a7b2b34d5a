//! Which BGP sessions this node has: the mesh, explicit peerings, and their other halves.
//!
//! In comes the [`State`]; out goes a list of [`Peering`]s of this node, by protocol name. Rules, all upstream's:
//!
//! - The mesh joins all nodes that are no route reflector (no `routeReflectorClusterID`).
//! - A BGPPeer without `node` and `nodeSelector` is global; a global peering wins over a node's to the same address
//!   and port.
//! - A peering between two nodes needs both ends: what one BGPPeer says of nodes A and B is also rendered on B
//!   (unless `reversePeering: Manual`). An explicit peering wins over such a reversed one.
//! - Between mesh or global peers exactly one side opens the connection: the one whose address is the greater *text*.
//!   That is upstream's comparison, and a cluster of both implementations must agree.
//!
//! Left out: peerings with local workloads (`localWorkloadSelector`), which need Felix' endpoint status files.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libcalico_api::bgp_peer::{BGPPeer, NextHopMode, SourceAddress};
use libcalico_api::node::Node;
use libcalico_api::num_or_string::AsNumber;
use libcalico_selector::Selector;
use tracing::warn;

use crate::bird_text::protocol_name;
use crate::settings::{duration_secs, parse_interface_address};
use crate::state::State;

/// AS number of a cluster that says nothing else.
pub const DEFAULT_AS: u32 = 64512;

/// One session of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    pub kind: PeeringKind,
    pub ip: IpAddr,
    pub port: Option<u16>,
    pub as_number: u32,
    /// Another AS number than the node's own, as seen by this peer alone.
    pub local_as: Option<u32>,
    /// Connections leave from the node's own address.
    pub source_address: bool,
    /// The peer's route reflector cluster, where it is a node that has one.
    pub peer_cluster_id: Option<String>,
    /// Names of BGPFilters, in the order in which they are asked.
    pub filters: Vec<String>,
    pub next_hop: NextHopMode,
    /// The old field: keep the next hop towards external peers.
    pub keep_original_next_hop: bool,
    /// How often the own AS number may stand in a received path.
    pub allowed_local_as: u32,
    /// Hops for TTL security (RFC 5082).
    pub ttl_security: Option<u8>,
    /// Gateway of a static route to the peer.
    pub reachable_by: Option<IpAddr>,
    pub restart_secs: Option<u64>,
    pub keepalive_secs: Option<u64>,
    /// Waits for the peer to connect.
    pub passive: bool,
}

/// Why the session exists; the beginning of its protocol's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeeringKind {
    Mesh,
    Global,
    Node,
}

impl PeeringKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Global => "Global",
            Self::Node => "Node",
        }
    }
}

impl Peering {
    /// `Mesh_10_192_0_3`. The mesh never shows the port in the name.
    #[must_use]
    pub fn name(&self) -> String {
        let port = if self.kind == PeeringKind::Mesh { None } else { self.port };
        protocol_name(self.kind.prefix(), self.ip, port)
    }

    fn new(kind: PeeringKind, ip: IpAddr, port: Option<u16>, as_number: u32) -> Self {
        Self {
            kind,
            ip,
            port,
            as_number,
            local_as: None,
            source_address: true,
            peer_cluster_id: None,
            filters: Vec::new(),
            next_hop: NextHopMode::Auto,
            keep_original_next_hop: false,
            allowed_local_as: 0,
            ttl_security: None,
            reachable_by: None,
            restart_secs: None,
            keepalive_secs: None,
            passive: false,
        }
    }
}

/// BGP's view of a node.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    pub name: &'a str,
    labels: &'a BTreeMap<String, String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// The node's own number or the cluster's.
    pub as_number: u32,
    pub cluster_id: Option<&'a str>,
    pub listen_port: Option<u16>,
}

impl<'a> NodeView<'a> {
    /// Reads a node with what its own and the global BGPConfiguration say of it.
    #[must_use]
    pub fn new(state: &State, node: &'a Node) -> Self {
        let bgp = node.spec.bgp.as_ref();
        let address =
            |text: Option<&'a String>| text.and_then(|t| parse_interface_address(t)).map(|n| n.addr());
        Self {
            name: node.name(),
            labels: &node.metadata.labels,
            ipv4: match address(bgp.and_then(|b| b.ipv4_address.as_ref())) {
                Some(IpAddr::V4(a)) if is_peer(IpAddr::V4(a)) => Some(a),
                _ => None,
            },
            ipv6: match address(bgp.and_then(|b| b.ipv6_address.as_ref())) {
                Some(IpAddr::V6(a)) if is_peer(IpAddr::V6(a)) => Some(a),
                _ => None,
            },
            as_number: as_number(bgp.and_then(|b| b.as_number)).unwrap_or_else(|| global_as(state)),
            cluster_id: bgp.and_then(|b| b.route_reflector_cluster_id.as_deref()).filter(|c| !c.is_empty()),
            listen_port: listen_port(state, node.name()),
        }
    }

    /// The node's address of the same family.
    #[must_use]
    pub fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        self.address_like(ip) == Some(ip)
    }
}

/// The cluster's AS number.
#[must_use]
pub fn global_as(state: &State) -> u32 {
    as_number(state.global_configuration().and_then(|c| c.spec.as_number)).unwrap_or(DEFAULT_AS)
}

/// Zero is no AS number (RFC 7607): as good as absent.
fn as_number(number: Option<AsNumber>) -> Option<u32> {
    number.map(|n| n.0).filter(|n| *n != 0)
}

/// The port on which a node listens, `None` for BGP's own (179 unless said otherwise).
#[must_use]
pub fn listen_port(state: &State, node: &str) -> Option<u16> {
    let port = |p: Option<i32>| p.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    state
        .node_configuration(node)
        .and_then(|c| port(c.spec.listen_port))
        .or_else(|| state.global_configuration().and_then(|c| port(c.spec.listen_port)))
}

/// Every session of this node, sorted by protocol name. Sessions of a family without node address are left out.
#[must_use]
pub fn peerings(state: &State) -> Vec<Peering> {
    let nodes: Vec<NodeView<'_>> = state.nodes().map(|n| NodeView::new(state, n)).collect();
    let Some(own) = nodes.iter().find(|n| n.name == state.node_name()) else { return Vec::new() };
    let world = World { state, nodes: &nodes, own };

    let mut found: BTreeMap<(IpAddr, Option<u16>), Peering> = BTreeMap::new();
    for kind in [PeeringKind::Global, PeeringKind::Node] {
        for peer in state.peers() {
            for p in world.forward(peer, kind) {
                found.entry((p.ip, p.port)).or_insert(p);
            }
        }
    }
    for peer in state.peers() {
        for p in world.reversed(peer) {
            found.entry((p.ip, p.port)).or_insert(p);
        }
    }
    for p in world.mesh() {
        if !found.keys().any(|(ip, _)| *ip == p.ip) {
            found.insert((p.ip, p.port), p);
        }
    }

    let mut all: Vec<Peering> = found
        .into_values()
        .filter(|p| own.address_like(p.ip).is_some_and(|address| address != p.ip))
        .collect();
    all.sort_by_cached_key(Peering::name);
    all
}

struct World<'a> {
    state: &'a State,
    nodes: &'a [NodeView<'a>],
    own: &'a NodeView<'a>,
}

impl World<'_> {
    fn mesh(&self) -> Vec<Peering> {
        let configuration = self.state.global_configuration().map(|c| &c.spec);
        let enabled = configuration.and_then(|c| c.node_to_node_mesh_enabled).unwrap_or(true);
        if !enabled || self.own.cluster_id.is_some() {
            return Vec::new();
        }
        let restart_secs = duration_secs(configuration.and_then(|c| c.node_mesh_max_restart_time.as_deref()));
        self.nodes
            .iter()
            .filter(|n| n.cluster_id.is_none())
            .flat_map(|n| n.addresses().map(move |ip| (n, ip)))
            .map(|(n, ip)| Peering {
                restart_secs,
                passive: self.waits_for(ip),
                ..Peering::new(PeeringKind::Mesh, ip, n.listen_port, n.as_number)
            })
            .collect()
    }

    /// Upstream compares the addresses as text.
    fn waits_for(&self, ip: IpAddr) -> bool {
        self.own.address_like(ip).is_some_and(|own| ip.to_string() > own.to_string())
    }

    /// What a BGPPeer says of this node as its local end.
    fn forward(&self, peer: &BGPPeer, kind: PeeringKind) -> Vec<Peering> {
        let spec = &peer.spec;
        let global = blank(spec.node.as_deref()) && blank(spec.node_selector.as_deref());
        let asked = if global { PeeringKind::Global } else { PeeringKind::Node };
        if asked != kind
            || !blank(spec.local_workload_selector.as_deref())
            || !self.is_local_end(peer, self.own)
        {
            return Vec::new();
        }
        let mut found: Vec<Peering> = if blank(spec.peer_selector.as_deref()) {
            self.by_address(peer, kind).into_iter().collect()
        } else {
            self.selected(peer, spec.peer_selector.as_deref())
                .flat_map(|n| n.addresses().map(move |ip| (n, ip)))
                .map(|(n, ip)| node_as_peer(kind, n, ip))
                .collect()
        };
        for p in &mut found {
            apply_spec(p, peer);
            p.local_as = as_number(spec.local_as_number);
            p.allowed_local_as =
                spec.num_allowed_local_as_numbers.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            if kind == PeeringKind::Global && self.nodes.iter().any(|n| n.has_address(p.ip)) {
                p.passive = blank(spec.peer_selector.as_deref()) && self.waits_for(p.ip);
            }
        }
        found
    }

    /// What a BGPPeer says of this node as its far end, seen from here.
    fn reversed(&self, peer: &BGPPeer) -> Vec<Peering> {
        let spec = &peer.spec;
        if spec.reverse_peering.as_deref() == Some("Manual")
            || !blank(spec.local_workload_selector.as_deref())
        {
            return Vec::new();
        }
        let family: fn(IpAddr) -> bool = if blank(spec.peer_selector.as_deref()) {
            match parse_peer_address(spec.peer_ip.as_deref()) {
                Some((ip, port)) if self.node_at(ip, port, as_number(spec.as_number), self.own) => {
                    if ip.is_ipv4() { |ip| ip.is_ipv4() } else { |ip| ip.is_ipv6() }
                }
                _ => return Vec::new(),
            }
        } else if self.selected(peer, spec.peer_selector.as_deref()).any(|n| n.name == self.own.name) {
            |_| true
        } else {
            return Vec::new();
        };
        self.nodes
            .iter()
            .filter(|n| self.is_local_end(peer, n))
            .flat_map(|n| n.addresses().map(move |ip| (n, ip)))
            .filter(|(_, ip)| family(*ip))
            .map(|(n, ip)| {
                let mut p = node_as_peer(PeeringKind::Node, n, ip);
                apply_spec(&mut p, peer);
                // The other end speaks with this number: it is what it has to be expected here.
                if let Some(local_as) = as_number(spec.local_as_number) {
                    p.as_number = local_as;
                }
                p
            })
            .collect()
    }

    fn is_local_end(&self, peer: &BGPPeer, node: &NodeView<'_>) -> bool {
        let spec = &peer.spec;
        if !blank(spec.node_selector.as_deref()) {
            return self.selected(peer, spec.node_selector.as_deref()).any(|n| n.name == node.name);
        }
        match spec.node.as_deref() {
            Some(name) if !name.is_empty() => name == node.name,
            _ => true,
        }
    }

    fn selected(&self, peer: &BGPPeer, selector: Option<&str>) -> impl Iterator<Item = &NodeView<'_>> {
        let parsed = selector.and_then(|text| {
            Selector::parse(text)
                .inspect_err(
                    |error| warn!(peer = peer.name(), selector = text, %error, "BGPPeer selects nothing"),
                )
                .ok()
        });
        self.nodes.iter().filter(move |n| parsed.as_ref().is_some_and(|s| s.matches(n.labels)))
    }

    fn by_address(&self, peer: &BGPPeer, kind: PeeringKind) -> Option<Peering> {
        let spec = &peer.spec;
        let Some((ip, mut port)) = parse_peer_address(spec.peer_ip.as_deref()) else {
            warn!(peer = peer.name(), peer_ip = ?spec.peer_ip, "BGPPeer ignored: peerIP is missing or malformed");
            return None;
        };
        let number = as_number(spec.as_number);
        if port.is_none() {
            let node = self.nodes.iter().find(|n| self.node_at(ip, None, number, n));
            port = node.and_then(|n| n.listen_port);
        }
        let reachable_by = match spec.reachable_by.as_deref().filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => match text.parse::<IpAddr>() {
                Ok(gateway) if gateway.is_ipv4() == ip.is_ipv4() => Some(gateway),
                _ => {
                    warn!(
                        peer = peer.name(),
                        reachable_by = text,
                        "BGPPeer ignored: reachableBy is no address of the peer's family"
                    );
                    return None;
                }
            },
        };
        let number = number.unwrap_or_else(|| global_as(self.state));
        Some(Peering { reachable_by, ..Peering::new(kind, ip, port, number) })
    }

    /// True where a BGPPeer's address, AS number (the cluster's where absent) and port (any where absent) mean a node.
    fn node_at(&self, ip: IpAddr, port: Option<u16>, number: Option<u32>, node: &NodeView<'_>) -> bool {
        node.has_address(ip)
            && node.as_number == number.unwrap_or_else(|| global_as(self.state))
            && port.is_none_or(|p| node.listen_port.is_none_or(|l| l == p))
    }
}

fn node_as_peer(kind: PeeringKind, node: &NodeView<'_>, ip: IpAddr) -> Peering {
    Peering {
        peer_cluster_id: node.cluster_id.map(str::to_owned),
        ..Peering::new(kind, ip, node.listen_port, node.as_number)
    }
}

/// What holds at both ends of a peering.
fn apply_spec(p: &mut Peering, peer: &BGPPeer) {
    let spec = &peer.spec;
    if spec.password.as_ref().is_some_and(|w| w.secret_key_ref.is_some()) {
        warn!(
            peer = peer.name(),
            "BGPPeer's password is in a Kubernetes Secret, which this datastore has not; session without password"
        );
    }
    p.source_address = spec.source_address.unwrap_or(SourceAddress::UseNodeIP) == SourceAddress::UseNodeIP;
    p.filters.clone_from(&spec.filters);
    p.next_hop = spec.next_hop_mode.unwrap_or(NextHopMode::Auto);
    p.keep_original_next_hop = spec.keep_original_next_hop.unwrap_or(false);
    p.ttl_security = spec.ttl_security.and_then(|n| u8::try_from(n).ok()).filter(|n| *n != 0);
    p.restart_secs = duration_secs(spec.max_restart_time.as_deref());
    p.keepalive_secs = duration_secs(spec.keepalive_time.as_deref());
}

fn blank(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

/// `10.0.0.1`, `10.0.0.1:1790`, `fd00::1`, `[fd00::1]:1790`.
fn parse_peer_address(text: Option<&str>) -> Option<(IpAddr, Option<u16>)> {
    let text = text?.trim();
    let (ip, port) = match text.parse::<IpAddr>() {
        Ok(ip) => (ip, None),
        Err(_) => {
            let socket: std::net::SocketAddr = text.parse().ok()?;
            (socket.ip(), Some(socket.port()).filter(|p| *p != 0))
        }
    };
    is_peer(ip).then_some((ip, port))
}

/// True for addresses that a session over several hops can have at its other end.
fn is_peer(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_unicast_link_local() || a.is_loopback()),
    }
}
