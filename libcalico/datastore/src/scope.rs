//! What a list or watch is about.

use libcalico_api::Kind;
use libcalico_model::Key;

/// A part of the datastore.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All objects of a kind, in one namespace or in all.
    Kind { kind: Kind, namespace: Option<String> },
    /// All IPAM blocks.
    Blocks,
    /// Block affinities of hosts: of one or of all.
    BlockAffinities { host: Option<String> },
    /// Block affinities of virtual owners (`load-balancer`): of one or of all.
    VirtualAffinities { owner: Option<String> },
    /// All IPAM handles.
    Handles,
    /// IPAM's settings: one key.
    IpamConfig,
    /// Kubernetes' Services, in all namespaces.
    Services,
    /// Kubernetes' EndpointSlices, in all namespaces.
    EndpointSlices,
    /// `ClusterNetworkPolicy` of `policy.networking.k8s.io`, where the cluster has the kind.
    ClusterNetworkPolicies,
}

impl Scope {
    /// All objects of a kind.
    #[must_use]
    pub fn kind(kind: Kind) -> Self {
        Self::Kind { kind, namespace: None }
    }

    /// The beginning of every etcd path in the scope.
    #[must_use]
    pub fn prefix(&self) -> String {
        match self {
            Self::Kind { kind, namespace } => {
                let base = format!("/calico/resources/v3/projectcalico.org/{}/", kind.plural());
                match namespace {
                    Some(ns) if kind.namespaced() => format!("{base}{ns}/"),
                    _ => base,
                }
            }
            Self::Blocks => "/calico/ipam/v2/assignment/".to_owned(),
            Self::BlockAffinities { host: None } => "/calico/ipam/v2/host/".to_owned(),
            Self::BlockAffinities { host: Some(h) } => format!("/calico/ipam/v2/host/{h}/"),
            Self::VirtualAffinities { owner: None } => "/calico/ipam/v2/virtual/".to_owned(),
            Self::VirtualAffinities { owner: Some(o) } => format!("/calico/ipam/v2/virtual/{o}/"),
            Self::Handles => "/calico/ipam/v2/handle/".to_owned(),
            Self::IpamConfig => "/calico/ipam/v2/config".to_owned(),
            Self::Services => "/calico/resources/v3/projectcalico.org/kubernetesservice/".to_owned(),
            Self::EndpointSlices => {
                "/calico/resources/v3/projectcalico.org/kubernetesendpointslices/".to_owned()
            }
            Self::ClusterNetworkPolicies => {
                "/calico/resources/v3/projectcalico.org/kubernetesclusternetworkpolicies/".to_owned()
            }
        }
    }

    /// True for objects that are Kubernetes' own and have no form of Calico's: other datastores do not have them.
    #[must_use]
    pub fn of_kubernetes(&self) -> bool {
        matches!(self, Self::Services | Self::EndpointSlices | Self::ClusterNetworkPolicies)
    }

    /// True where the key belongs to the scope.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Kind { kind, namespace }, Key::Resource(r)) => {
                r.kind == *kind && namespace.as_ref().is_none_or(|ns| *ns == r.namespace)
            }
            (Self::Blocks, Key::Block(_))
            | (Self::Handles, Key::Handle(_))
            | (Self::IpamConfig, Key::IpamConfig)
            | (Self::Services, Key::Service { .. })
            | (Self::EndpointSlices, Key::EndpointSlice { .. })
            | (Self::ClusterNetworkPolicies, Key::ClusterNetworkPolicy(_)) => true,
            (Self::BlockAffinities { host: want }, Key::BlockAffinity { affinity_type, host, .. }) => {
                affinity_type == "host" && want.as_ref().is_none_or(|w| w == host)
            }
            (Self::VirtualAffinities { owner: want }, Key::BlockAffinity { affinity_type, host, .. }) => {
                affinity_type == "virtual" && want.as_ref().is_none_or(|w| w == host)
            }
            _ => false,
        }
    }
}
