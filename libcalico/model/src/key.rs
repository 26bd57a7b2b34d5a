//! Names of everything stored or calculated with. The text of a key is upstream's etcd path; a key and its path
//! convert into each other without loss.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use libcalico_api::Kind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
/// Upstream's words for Kubernetes' own objects beside Calico's kinds.
const SERVICES: &str = "kubernetesservice";
const ENDPOINT_SLICES: &str = "kubernetesendpointslices";
const CLUSTER_NETWORK_POLICIES: &str = "kubernetesclusternetworkpolicies";

/// A key of the datastore model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    // Stored.
    Resource(ResourceKey),
    Block(IpNet),
    BlockAffinity {
        /// `host` or `virtual`.
        affinity_type: String,
        host: String,
        cidr: IpNet,
    },
    Handle(String),
    IpamConfig,
    // For Felix's calculation.
    WorkloadEndpoint(WorkloadEndpointKey),
    HostEndpoint {
        host: String,
        name: String,
    },
    Policy(PolicyKey),
    ProfileRules(String),
    Tier(String),
    IpPool(IpNet),
    NetworkSet(String),
    /// A node's BGP address.
    HostIp(String),
    HostConfig {
        host: String,
        name: String,
    },
    GlobalConfig(String),
    Wireguard(String),
    // Kubernetes' own objects, read only.
    Service {
        namespace: String,
        name: String,
    },
    EndpointSlice {
        namespace: String,
        name: String,
    },
    /// A `ClusterNetworkPolicy` of `policy.networking.k8s.io`, as a Calico policy.
    ClusterNetworkPolicy(String),
    Ready,
}

/// Name of a stored `projectcalico.org/v3` object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    pub kind: Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

/// Name of a workload's interface. `workload` is `namespace/pod` for Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadEndpointKey {
    pub host: String,
    pub orchestrator: String,
    pub workload: String,
    pub endpoint: String,
}

/// Name of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyKey {
    pub kind: PolicyKind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

/// Kinds of policy that Felix calculates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyKind {
    GlobalNetworkPolicy,
    NetworkPolicy,
    StagedGlobalNetworkPolicy,
    StagedNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    /// `networking.k8s.io/v1` NetworkPolicy.
    KubernetesNetworkPolicy,
    /// `policy.networking.k8s.io` ClusterNetworkPolicy.
    KubernetesClusterNetworkPolicy,
}

impl PolicyKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::GlobalNetworkPolicy,
        Self::NetworkPolicy,
        Self::StagedGlobalNetworkPolicy,
        Self::StagedNetworkPolicy,
        Self::StagedKubernetesNetworkPolicy,
        Self::KubernetesNetworkPolicy,
        Self::KubernetesClusterNetworkPolicy,
    ];

    /// The word in keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            Self::KubernetesClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
        }
    }

    /// True for kinds that are counted and reported but never enforced.
    #[must_use]
    pub fn staged(self) -> bool {
        matches!(
            self,
            Self::StagedGlobalNetworkPolicy | Self::StagedNetworkPolicy | Self::StagedKubernetesNetworkPolicy
        )
    }

    /// Upstream's short word in chain names: `gnp`, `np`, `sgnp`, `snp`, `sknp`, `knp`, `kcnp`.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        match self {
            Self::GlobalNetworkPolicy => "gnp",
            Self::NetworkPolicy => "np",
            Self::StagedGlobalNetworkPolicy => "sgnp",
            Self::StagedNetworkPolicy => "snp",
            Self::StagedKubernetesNetworkPolicy => "sknp",
            Self::KubernetesNetworkPolicy => "knp",
            Self::KubernetesClusterNetworkPolicy => "kcnp",
        }
    }
}

impl ResourceKey {
    /// The key of an object, by its kind, namespace and name.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceKey {
    /// As upstream's messages have it: `IPPool(nope)`, `NetworkPolicy(default/np)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}({})", self.kind, self.name)
        } else {
            write!(f, "{}({}/{})", self.kind, self.namespace, self.name)
        }
    }
}

impl From<ResourceKey> for Key {
    fn from(k: ResourceKey) -> Self {
        Self::Resource(k)
    }
}

/// A path that is no key of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key of Calico's datastore")]
pub struct KeyError(pub String);

impl Key {
    /// Key of a stored object.
    pub fn resource(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Resource(ResourceKey::new(kind, namespace, name))
    }

    /// Upstream's etcd path.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Resource(r) if r.kind.namespaced() => {
                format!("{RESOURCES}{}/{}/{}", r.kind.plural(), r.namespace, r.name)
            }
            Self::Resource(r) => format!("{RESOURCES}{}/{}", r.kind.plural(), r.name),
            Self::Block(c) => format!("/calico/ipam/v2/assignment/{}/block/{}", family(c), dashed(c)),
            Self::BlockAffinity { affinity_type, host, cidr } => {
                format!("/calico/ipam/v2/{affinity_type}/{host}/{}/block/{}", family(cidr), dashed(cidr))
            }
            Self::Handle(id) => format!("/calico/ipam/v2/handle/{id}"),
            Self::IpamConfig => "/calico/ipam/v2/config".to_owned(),
            Self::WorkloadEndpoint(w) => format!(
                "/calico/v1/host/{}/workload/{}/{}/endpoint/{}",
                w.host,
                escape(&w.orchestrator),
                escape(&w.workload),
                escape(&w.endpoint)
            ),
            Self::HostEndpoint { host, name } => format!("/calico/v1/host/{host}/endpoint/{}", escape(name)),
            Self::Policy(p) => {
                format!("/calico/v1/policy/{}/{}/{}", p.kind.name(), p.namespace, escape(&p.name))
            }
            Self::ProfileRules(n) => format!("/calico/v1/policy/profile/{}/rules", escape(n)),
            Self::Tier(n) => format!("/calico/v1/policy/tier/{}/metadata", escape(n)),
            Self::IpPool(c) => format!("/calico/v1/ipam/{}/pool/{}", short_family(c), dashed(c)),
            Self::NetworkSet(n) => format!("/calico/v1/netset/{}", escape(n)),
            Self::HostIp(h) => format!("/calico/v1/host/{h}/bird_ip"),
            Self::HostConfig { host, name } => format!("/calico/v1/host/{host}/config/{}", escape(name)),
            Self::GlobalConfig(n) => format!("/calico/v1/config/{}", escape(n)),
            Self::Wireguard(h) => format!("/calico/v1/host/{h}/wireguard"),
            Self::Service { namespace, name } => format!("{RESOURCES}{SERVICES}/{namespace}/{name}"),
            Self::EndpointSlice { namespace, name } => {
                format!("{RESOURCES}{ENDPOINT_SLICES}/{namespace}/{name}")
            }
            Self::ClusterNetworkPolicy(name) => format!("{RESOURCES}{CLUSTER_NETWORK_POLICIES}/{name}"),
            Self::Ready => "/calico/v1/Ready".to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(path: &str) -> Result<Self, KeyError> {
        let bad = || KeyError(path.to_owned());
        if let Some(rest) = path.strip_prefix(RESOURCES) {
            return parse_resource(rest).ok_or_else(bad);
        }
        let parts: Vec<&str> = path.strip_prefix("/calico/").ok_or_else(bad)?.split('/').collect();
        parse_parts(&parts).ok_or_else(bad)
    }
}

fn parse_resource(rest: &str) -> Option<Key> {
    let (plural, name) = rest.split_once('/')?;
    if let SERVICES | ENDPOINT_SLICES | CLUSTER_NETWORK_POLICIES = plural {
        return parse_kubernetes(plural, name);
    }
    let kind = Kind::from_plural(plural)?;
    let (namespace, name) = if kind.namespaced() { name.split_once('/')? } else { ("", name) };
    if name.is_empty() || name.contains('/') || (kind.namespaced() && namespace.is_empty()) {
        return None;
    }
    Some(Key::resource(kind, namespace, name))
}

fn parse_kubernetes(plural: &str, name: &str) -> Option<Key> {
    if plural == CLUSTER_NETWORK_POLICIES {
        return (!name.is_empty() && !name.contains('/')).then(|| Key::ClusterNetworkPolicy(name.to_owned()));
    }
    let (namespace, name) = name.split_once('/')?;
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return None;
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Some(if plural == SERVICES {
        Key::Service { namespace, name }
    } else {
        Key::EndpointSlice { namespace, name }
    })
}

fn parse_parts(parts: &[&str]) -> Option<Key> {
    Some(match parts {
        ["ipam", "v2", "config"] => Key::IpamConfig,
        ["ipam", "v2", "handle", id] => Key::Handle((*id).to_owned()),
        ["ipam", "v2", "assignment", fam, "block", c] => {
            Key::Block(parse_dashed(c, fam.strip_prefix("ipv")?)?)
        }
        ["ipam", "v2", t, host, fam, "block", c] => Key::BlockAffinity {
            affinity_type: (*t).to_owned(),
            host: (*host).to_owned(),
            cidr: parse_dashed(c, fam.strip_prefix("ipv")?)?,
        },
        ["v1", "host", host, "workload", o, w, "endpoint", e] => Key::WorkloadEndpoint(WorkloadEndpointKey {
            host: (*host).to_owned(),
            orchestrator: unescape(o),
            workload: unescape(w),
            endpoint: unescape(e),
        }),
        ["v1", "host", host, "endpoint", name] => {
            Key::HostEndpoint { host: (*host).to_owned(), name: unescape(name) }
        }
        ["v1", "host", host, "config", name] => {
            Key::HostConfig { host: (*host).to_owned(), name: unescape(name) }
        }
        ["v1", "host", host, "bird_ip"] => Key::HostIp((*host).to_owned()),
        ["v1", "host", host, "wireguard"] => Key::Wireguard((*host).to_owned()),
        ["v1", "policy", "profile", name, "rules"] => Key::ProfileRules(unescape(name)),
        ["v1", "policy", "tier", name, "metadata"] => Key::Tier(unescape(name)),
        ["v1", "policy", kind, namespace, name] => Key::Policy(PolicyKey {
            kind: *PolicyKind::ALL.iter().find(|k| k.name() == *kind)?,
            namespace: (*namespace).to_owned(),
            name: unescape(name),
        }),
        ["v1", "ipam", fam, "pool", c] => Key::IpPool(parse_dashed(c, fam.strip_prefix('v')?)?),
        ["v1", "netset", name] => Key::NetworkSet(unescape(name)),
        ["v1", "config", name] => Key::GlobalConfig(unescape(name)),
        ["v1", "Ready"] => Key::Ready,
        _ => return None,
    })
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.path())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

fn family(c: &IpNet) -> &'static str {
    if c.addr().is_ipv4() { "ipv4" } else { "ipv6" }
}

fn short_family(c: &IpNet) -> &'static str {
    if c.addr().is_ipv4() { "v4" } else { "v6" }
}

/// `10.0.0.0/26` as `10.0.0.0-26`: a slash would part the path.
fn dashed(c: &IpNet) -> String {
    format!("{}-{}", c.addr(), c.prefix_len())
}

fn parse_dashed(s: &str, version: &str) -> Option<IpNet> {
    let (addr, len) = s.rsplit_once('-')?;
    let net = IpNet::new(addr.parse().ok()?, len.parse().ok()?).ok()?;
    (net.addr().is_ipv4() == (version == "4")).then_some(net)
}

/// Slashes in names, and the escape itself, are percent-encoded.
fn escape(s: &str) -> String {
    s.replace('%', "%25").replace('/', "%2F")
}

fn unescape(s: &str) -> String {
    s.replace("%2F", "/").replace("%2f", "/").replace("%25", "%")
}

/// The four parts of a stored workload endpoint's name (node, orchestrator, workload, endpoint): split at single
/// dashes, doubled ones halved. `None` where there are not four or one is empty.
#[must_use]
pub fn endpoint_name_parts(name: &str) -> Option<[String; 4]> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '-' {
            parts.last_mut()?.push(c);
        } else if chars.next_if_eq(&'-').is_some() {
            parts.last_mut()?.push('-');
        } else {
            parts.push(String::new());
        }
    }
    let parts: [String; 4] = parts.try_into().ok()?;
    parts.iter().all(|p| !p.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_path_convert_into_each_other() {
        for path in [
            "/calico/resources/v3/projectcalico.org/ippools/pool-v4",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node--a-cni-keep-eth0",
            "/calico/ipam/v2/assignment/ipv4/block/10.65.174.128-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:65:0:6d15:74ba:80e:4835:8080-122",
            "/calico/ipam/v2/host/node-a/ipv4/block/10.65.174.128-26",
            "/calico/ipam/v2/handle/peernet.keep0000c0ffee0123456789",
            "/calico/ipam/v2/config",
            "/calico/v1/host/localhostname/workload/orch/ns%2Fpod/endpoint/ep2",
            "/calico/v1/host/h/endpoint/eth0",
            "/calico/v1/host/h/config/IPv4VXLANTunnelAddr",
            "/calico/v1/host/h/bird_ip",
            "/calico/v1/policy/GlobalNetworkPolicy//inherit-pol",
            "/calico/v1/policy/NetworkPolicy/default/np",
            "/calico/v1/policy/profile/prof-1/rules",
            "/calico/v1/policy/tier/default/metadata",
            "/calico/v1/ipam/v4/pool/10.0.0.0-16",
            "/calico/v1/netset/default%2Fns",
            "/calico/v1/config/InterfacePrefix",
            "/calico/resources/v3/projectcalico.org/kubernetesservice/default/web",
            "/calico/resources/v3/projectcalico.org/kubernetesendpointslices/default/web-x2c4",
            "/calico/resources/v3/projectcalico.org/kubernetesclusternetworkpolicies/isolate",
            "/calico/v1/Ready",
        ] {
            let key: Key = path.parse().unwrap();
            assert_eq!(key.path(), path);
        }
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        for path in [
            "",
            "/calico",
            "/calico/v1/host",
            "/calico/resources/v3/projectcalico.org/ippools/",
            "/calico/resources/v3/projectcalico.org/networkpolicies/np",
            "/calico/resources/v3/projectcalico.org/kubernetesservice/web",
            "/calico/resources/v3/projectcalico.org/kubernetesendpointslices//web",
            "/calico/resources/v3/projectcalico.org/kubernetesclusternetworkpolicies/a/b",
            "/calico/ipam/v2/assignment/ipv4/block/fd00::-122",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-77",
        ] {
            assert!(path.parse::<Key>().is_err(), "{path}");
        }
    }
}
