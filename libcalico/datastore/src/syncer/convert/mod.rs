//! From stored objects to what a reader calculates with. Pure; one file for each kind that changes its form.
//!
//! In comes one stored object, out go the values it stands for. Always holds: the result depends on that object alone.
//! An object that cannot be used is an error with its reason; the syncer treats it as absent.

mod checked;
mod cluster_information;
mod felix_configuration;
mod host_endpoint;
mod ip_pool;
mod network_set;
mod node;
mod policy;
mod profile;
mod rule;
mod selector;
mod staged_kubernetes_network_policy;
mod tier;
mod workload_endpoint;

use libcalico_api::Resource;
use libcalico_model::{Key, KeyValue, Value};

use self::checked::checked;

/// Values at keys.
pub type Outputs = Vec<(Key, Value)>;

/// Turns stored objects into what a reader calculates with.
pub trait Converter: Send + Sync + 'static {
    /// What a stored object stands for: nothing, one value or several. The error says why it cannot be used.
    fn convert(&self, stored: &KeyValue) -> Result<Outputs, String>;

    /// What is there whatever the datastore holds.
    fn builtin(&self) -> Outputs {
        Vec::new()
    }
}

/// Stored objects as they are, those that the API allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassThrough;

impl Converter for PassThrough {
    fn convert(&self, stored: &KeyValue) -> Result<Outputs, String> {
        checked(stored)?;
        Ok(vec![(stored.key.clone(), stored.value.clone())])
    }
}

/// What Felix calculates with.
#[derive(Clone, Copy, Debug, Default)]
pub struct FelixConverter;

impl Converter for FelixConverter {
    fn convert(&self, stored: &KeyValue) -> Result<Outputs, String> {
        let as_is = || (stored.key.clone(), stored.value.clone());
        let Some(resource) = checked(stored)? else { return Ok(vec![as_is()]) };
        match &*resource {
            Resource::WorkloadEndpoint(o) => workload_endpoint::convert(o),
            Resource::HostEndpoint(o) => host_endpoint::convert(o),
            Resource::NetworkPolicy(o) => policy::network_policy(o),
            Resource::GlobalNetworkPolicy(o) if matches!(stored.key, Key::ClusterNetworkPolicy(_)) => {
                policy::cluster_network_policy(o)
            }
            Resource::GlobalNetworkPolicy(o) => policy::global_network_policy(o),
            Resource::StagedNetworkPolicy(o) => policy::staged_network_policy(o),
            Resource::StagedGlobalNetworkPolicy(o) => policy::staged_global_network_policy(o),
            Resource::StagedKubernetesNetworkPolicy(o) => staged_kubernetes_network_policy::convert(o),
            Resource::Profile(o) => {
                let mut out = vec![as_is()];
                out.extend(profile::convert(o)?);
                Ok(out)
            }
            Resource::Tier(o) => Ok(tier::convert(o)),
            Resource::IPPool(o) => ip_pool::convert(o),
            Resource::NetworkSet(o) => network_set::network_set(o),
            Resource::GlobalNetworkSet(o) => network_set::global_network_set(o),
            Resource::Node(o) => {
                let mut out = vec![as_is()];
                out.extend(node::convert(o)?);
                Ok(out)
            }
            Resource::FelixConfiguration(o) => felix_configuration::convert(o),
            Resource::ClusterInformation(o) => Ok(cluster_information::convert(o)),
            _ => Ok(vec![as_is()]),
        }
    }

    fn builtin(&self) -> Outputs {
        profile::builtin()
    }
}

/// Reads an address or network as the API takes it: an address stands for itself alone.
fn parse_net(text: &str) -> Result<ipnet::IpNet, String> {
    let net = match text.parse::<std::net::IpAddr>() {
        Ok(a) => Ok(ipnet::IpNet::from(a)),
        Err(_) => text.parse::<ipnet::IpNet>(),
    };
    net.map(|n| n.trunc()).map_err(|_| format!("{text:?} is not an address or a network"))
}

/// Reads an address, with or without a prefix length, and leaves the length out.
fn parse_address(text: &str) -> Result<std::net::IpAddr, String> {
    let address = text.split_once('/').map_or(text, |(a, _)| a);
    address.parse().map_err(|_| format!("{text:?} is not an address"))
}

fn parse_nets(texts: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    texts.iter().map(|t| parse_net(t)).collect()
}
