//! The ordered messages from Felix's calculation to its dataplane.
//!
//! Always holds: a message comes after everything it refers to (an IP set before the rule that names it, a policy
//! before the endpoint that applies it) and a removal comes after the last user is gone. The dataplane may therefore
//! apply any prefix of the stream at a flush without a dangling reference.
//!
//! Left out: how anything is programmed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use libcalico_api::num_or_string::Protocol;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use serde::{Deserialize, Serialize};

/// Identifier of an IP set: `s:…` (addresses by selector), `n:…` (named ports), `svc:…` (services), `d:…` (domains).
pub type IpSetId = Arc<str>;

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Effective raw configuration by source changed (`FelixConfiguration`: global, by selector, per node).
    ConfigUpdate(ConfigUpdate),
    /// Everything known at start-up was sent: the dataplane may now be programmed for the first time.
    InSync,
    IpSetUpdate(IpSetUpdate),
    IpSetDelta(IpSetDelta),
    IpSetRemove(IpSetId),
    PolicyUpdate(PolicyKey, Arc<ActivePolicy>),
    PolicyRemove(PolicyKey),
    ProfileUpdate(String, Arc<ActiveProfile>),
    ProfileRemove(String),
    WorkloadEndpointUpdate(WorkloadEndpointKey, Arc<WorkloadEndpoint>),
    WorkloadEndpointRemove(WorkloadEndpointKey),
    HostEndpointUpdate(String, Arc<HostEndpoint>),
    HostEndpointRemove(String),
    /// Addresses of a node, its own included.
    HostMetadataUpdate(HostMetadata),
    HostMetadataRemove(String),
    PoolUpdate(IpNet, IpPool),
    PoolRemove(IpNet),
    RouteUpdate(Route),
    RouteRemove(IpNet),
    VtepUpdate(Vtep),
    VtepRemove(String),
    EncapsulationUpdate(Encapsulation),
    ServiceUpdate(Service),
    ServiceRemove(ServiceName),
    /// What the `BGPConfiguration` named `default` says of services; the default value where there is none.
    GlobalBgpConfigUpdate(GlobalBgpConfig),
}

/// Name of a Kubernetes Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

/// A Kubernetes Service: what it is reached by. Addresses that are none (`None` of a headless service) are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub kind: String,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// The one that was asked for.
    pub load_balancer_ip: Option<IpAddr>,
    /// Those that were given.
    pub load_balancer_ingress_ips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
}

/// A port that a Service is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// IANA number.
    pub protocol: u8,
    pub port: u16,
    /// On every node's own addresses.
    pub node_port: Option<u16>,
}

/// Networks of services that BGP tells other routers of: what comes for an address of them that no service has must
/// not go back where it came from (`ServiceLoopPrevention`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalBgpConfig {
    pub service_cluster_cidrs: Vec<IpNet>,
    pub service_external_cidrs: Vec<IpNet>,
    pub service_loadbalancer_cidrs: Vec<IpNet>,
    /// Address that local workloads may peer with.
    pub local_workload_peering_ipv4: Option<std::net::Ipv4Addr>,
    pub local_workload_peering_ipv6: Option<std::net::Ipv6Addr>,
}

/// Raw configuration, parameter name to text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigUpdate {
    pub global: BTreeMap<String, String>,
    /// Of the `FelixConfiguration` whose `nodeSelector` matches this node.
    #[serde(default)]
    pub per_selector: BTreeMap<String, String>,
    pub per_host: BTreeMap<String, String>,
}

/// What the members of an IP set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IpSetKind {
    /// Single addresses.
    Ip,
    /// Networks.
    Net,
    /// Address, protocol and port.
    IpPort,
}

/// A member of an IP set. One set holds members of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IpSetMember {
    Net(IpNet),
    /// Protocol as IANA number.
    IpPort(IpAddr, u8, u16),
}

/// A whole IP set: replaces what was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpSetUpdate {
    pub id: IpSetId,
    pub kind: IpSetKind,
    /// Sorted, distinct. The calculation sends no network that another member contains.
    pub members: Vec<IpSetMember>,
}

/// A change of an IP set that was sent before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpSetDelta {
    pub id: IpSetId,
    pub added: Vec<IpSetMember>,
    pub removed: Vec<IpSetMember>,
}

/// A policy that a local endpoint uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivePolicy {
    pub tier: String,
    pub namespace: String,
    pub inbound: Vec<Rule>,
    pub outbound: Vec<Rule>,
    pub untracked: bool,
    pub pre_dnat: bool,
    pub apply_on_forward: bool,
    pub staged: bool,
    /// What the API object selects, as written.
    pub original_selector: String,
}

/// A profile that a local endpoint uses. One that is missing in the datastore has no rules: it denies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActiveProfile {
    pub inbound: Vec<Rule>,
    pub outbound: Vec<Rule>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    #[default]
    Allow,
    Deny,
    Log,
    Pass,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// ICMP type and, where given, code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Icmp {
    pub icmp_type: u8,
    pub code: Option<u8>,
}

/// One rule with its selectors resolved into IP sets. Absent matches match everything; all given matches must
/// hold. Several IP sets in one list must all contain the address; ports and named-port sets of one list are
/// alternatives of each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub action: Action,
    /// 4 or 6; absent: both.
    pub ip_version: Option<u8>,
    pub protocol: Option<Protocol>,
    pub not_protocol: Option<Protocol>,
    pub icmp: Option<Icmp>,
    pub not_icmp: Option<Icmp>,
    pub src: Side,
    pub dst: Side,
    /// Stable while the rule stands unchanged; tells counters and logs of two rules apart.
    pub rule_id: String,
    pub metadata: BTreeMap<String, String>,
}

/// One side of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    pub nets: Vec<IpNet>,
    pub not_nets: Vec<IpNet>,
    pub ip_sets: Vec<IpSetId>,
    pub not_ip_sets: Vec<IpSetId>,
    /// Sets of address, protocol and port that must contain the packet's (services).
    pub ip_port_sets: Vec<IpSetId>,
    pub ports: Vec<PortRange>,
    pub named_port_sets: Vec<IpSetId>,
    pub not_ports: Vec<PortRange>,
    pub not_named_port_sets: Vec<IpSetId>,
}

/// The policies of one tier that apply to an endpoint, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TierInfo {
    pub name: String,
    /// What happens at the end of the tier where a policy of it applied: `Deny` or `Pass`.
    pub default_action: TierDefaultAction,
    /// Lists of all endpoints share a policy's name.
    pub ingress: Vec<Arc<PolicyKey>>,
    pub egress: Vec<Arc<PolicyKey>>,
}

/// A tier's default action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TierDefaultAction {
    #[default]
    Deny,
    Pass,
}

/// A local workload's interface and what applies to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadEndpoint {
    /// False: no traffic at all.
    pub active: bool,
    pub interface_name: String,
    pub mac: Option<String>,
    pub profiles: Vec<String>,
    pub ipv4_nets: Vec<ipnet::Ipv4Net>,
    pub ipv6_nets: Vec<ipnet::Ipv6Net>,
    /// In order. Policies of kinds that are staged are listed too; the dataplane skips them. Endpoints to which the
    /// same policies apply share one list.
    pub tiers: Arc<[TierInfo]>,
    /// Internal and external address.
    pub nat: Vec<(IpAddr, IpAddr)>,
    pub allow_spoofed_source_prefixes: Vec<IpNet>,
    pub annotations: BTreeMap<String, String>,
}

/// A local host interface and what applies to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEndpoint {
    /// Interface name, `*`, or empty to find it by address.
    pub interface_name: String,
    pub expected_addrs: Vec<IpAddr>,
    pub profiles: Vec<String>,
    pub tiers: Arc<[TierInfo]>,
    pub untracked_tiers: Arc<[TierInfo]>,
    pub pre_dnat_tiers: Arc<[TierInfo]>,
    pub forward_tiers: Arc<[TierInfo]>,
}

/// Addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMetadata {
    pub hostname: String,
    pub ipv4_addr: Option<ipnet::Ipv4Net>,
    pub ipv6_addr: Option<ipnet::Ipv6Net>,
    pub asnumber: Option<u32>,
    pub labels: BTreeMap<String, String>,
}

/// A pool, as far as the dataplane needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPool {
    pub masquerade: bool,
    pub ipip_mode: EncapMode,
    pub vxlan_mode: EncapMode,
    /// For addresses of Services alone: no workload and no tunnel has one of it.
    pub load_balancer_only: bool,
}

/// When a pool's traffic is encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EncapMode {
    #[default]
    Never,
    Always,
    CrossSubnet,
}

/// What a route is for. Upstream's flags: several may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteTypes {
    pub cidr_info: bool,
    pub remote_workload: bool,
    pub remote_host: bool,
    pub local_workload: bool,
    pub local_host: bool,
    pub remote_tunnel: bool,
    pub local_tunnel: bool,
}

/// Kind of the pool that a destination belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PoolType {
    #[default]
    None,
    NoEncap,
    Vxlan,
    Ipip,
}

/// What is known of a destination: block, workload, host or pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub dst: IpNet,
    pub types: RouteTypes,
    pub pool_type: PoolType,
    pub dst_node_name: String,
    pub dst_node_ip: Option<IpAddr>,
    pub same_subnet: bool,
    pub nat_outgoing: bool,
    pub local_workload: bool,
    pub tunnel: Tunnels,
    /// The address is in another node's block.
    pub borrowed: bool,
}

/// Which tunnel device has the route's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tunnels {
    pub ipip: bool,
    pub vxlan: bool,
    pub wireguard: bool,
}

/// A node's VXLAN end point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    pub node: String,
    pub mac: String,
    pub mac_v6: String,
    pub ipv4_addr: Option<std::net::Ipv4Addr>,
    pub ipv6_addr: Option<std::net::Ipv6Addr>,
    pub parent_device_ip: Option<std::net::Ipv4Addr>,
    pub parent_device_ipv6: Option<std::net::Ipv6Addr>,
}

/// Which encapsulations any pool uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Encapsulation {
    pub ipip: bool,
    pub vxlan: bool,
    pub vxlan_v6: bool,
}
