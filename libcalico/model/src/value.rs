//! What stands at a key, and its JSON.

use std::sync::Arc;

use libcalico_api::{Kind, Resource, ResourceError, objects};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend;
use crate::ipam;
use crate::key::Key;
use crate::kubernetes::service::{EndpointSlice, Service};

/// The datastore's own version of a value: etcd's mod revision or Kubernetes' resourceVersion. Opaque: compared for
/// equality alone. Empty where a value did not come from a datastore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision(pub String);

impl Revision {
    /// True where nothing is known of the revision.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A typed value. The variant follows from the key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Resource(Arc<Resource>),
    Block(Box<ipam::AllocationBlock>),
    BlockAffinity(ipam::BlockAffinity),
    Handle(ipam::Handle),
    IpamConfig(ipam::IpamConfig),
    WorkloadEndpoint(Arc<backend::WorkloadEndpoint>),
    HostEndpoint(Arc<backend::HostEndpoint>),
    Policy(Arc<backend::Policy>),
    ProfileRules(Arc<backend::ProfileRules>),
    Tier(backend::Tier),
    IpPool(Arc<backend::IpPool>),
    NetworkSet(Arc<backend::NetworkSet>),
    Wireguard(backend::Wireguard),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    /// Host and global configuration, host addresses: plain text, not JSON.
    Text(String),
    Ready(bool),
}

/// Bytes that are not a value of their key.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("{key}: {reason}")]
    Malformed { key: String, reason: String },
}

impl Value {
    /// Reads the JSON (or text) at a key. A resource gets its name and namespace from the key.
    pub fn parse(key: &Key, bytes: &[u8]) -> Result<Self, ValueError> {
        let malformed = |reason: String| ValueError::Malformed { key: key.path(), reason };
        Ok(match key {
            Key::Resource(r) => {
                resource(r.kind, &r.namespace, &r.name, bytes).map_err(|e| malformed(e.to_string()))?
            }
            Key::ClusterNetworkPolicy(name) => {
                resource(Kind::GlobalNetworkPolicy, "", name, bytes).map_err(|e| malformed(e.to_string()))?
            }
            Key::Service { namespace, name } => {
                let mut service: Service = json(bytes).map_err(malformed)?;
                service.metadata.identify(namespace, name);
                Self::Service(Arc::new(service))
            }
            Key::EndpointSlice { namespace, name } => {
                let mut slice: EndpointSlice = json(bytes).map_err(malformed)?;
                slice.metadata.identify(namespace, name);
                Self::EndpointSlice(Arc::new(slice))
            }
            Key::Block(_) => Self::Block(Box::new(json(bytes).map_err(malformed)?)),
            Key::BlockAffinity { .. } => Self::BlockAffinity(json(bytes).map_err(malformed)?),
            Key::Handle(_) => Self::Handle(json(bytes).map_err(malformed)?),
            Key::IpamConfig => Self::IpamConfig(json(bytes).map_err(malformed)?),
            Key::WorkloadEndpoint(_) => Self::WorkloadEndpoint(Arc::new(json(bytes).map_err(malformed)?)),
            Key::HostEndpoint { .. } => Self::HostEndpoint(Arc::new(json(bytes).map_err(malformed)?)),
            Key::Policy(_) => Self::Policy(Arc::new(json(bytes).map_err(malformed)?)),
            Key::ProfileRules(_) => Self::ProfileRules(Arc::new(json(bytes).map_err(malformed)?)),
            Key::Tier(_) => Self::Tier(json(bytes).map_err(malformed)?),
            Key::IpPool(_) => Self::IpPool(Arc::new(json(bytes).map_err(malformed)?)),
            Key::NetworkSet(_) => Self::NetworkSet(Arc::new(json(bytes).map_err(malformed)?)),
            Key::Wireguard(_) => Self::Wireguard(json(bytes).map_err(malformed)?),
            Key::Ready => Self::Ready(serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?),
            Key::HostIp(_) | Key::HostConfig { .. } | Key::GlobalConfig(_) => Self::Text(
                std::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8 text: {e}")))?.to_owned(),
            ),
        })
    }

    /// The bytes that are stored or sent: JSON, or plain text for configuration. A resource loses its
    /// resourceVersion, which is the datastore's own.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Resource(r) => r.to_stored_json(),
            Self::Block(v) => encode(v),
            Self::BlockAffinity(v) => encode(v),
            Self::Handle(v) => encode(v),
            Self::IpamConfig(v) => encode(v),
            Self::WorkloadEndpoint(v) => encode(v),
            Self::HostEndpoint(v) => encode(v),
            Self::Policy(v) => encode(v),
            Self::ProfileRules(v) => encode(v),
            Self::Tier(v) => encode(v),
            Self::IpPool(v) => encode(v),
            Self::NetworkSet(v) => encode(v),
            Self::Wireguard(v) => encode(v),
            Self::Service(v) => encode(v),
            Self::EndpointSlice(v) => encode(v),
            Self::Text(t) => t.clone().into_bytes(),
            Self::Ready(v) => encode(v),
        }
    }
}

impl From<Resource> for Value {
    fn from(r: Resource) -> Self {
        Self::Resource(Arc::new(r))
    }
}

/// A stored key with its value and revision.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    pub key: Key,
    pub value: Value,
    pub revision: Revision,
}

/// Reads an API object. Its name and namespace are the key's.
fn resource(kind: Kind, namespace: &str, name: &str, bytes: &[u8]) -> Result<Value, ResourceError> {
    let mut resource = Resource::from_json(kind, bytes)?;
    let meta = resource.metadata_mut();
    name.clone_into(&mut meta.name);
    namespace.clone_into(&mut meta.namespace);
    Ok(Value::Resource(Arc::new(resource)))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    objects::from_slice(bytes).map_err(|e| e.to_string())
}

/// The model's types always serialise: string keys, finite numbers.
fn encode<T: Serialize>(v: &T) -> Vec<u8> {
    serde_json::to_vec(v).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_reading_and_writing() {
        let key: Key = "/calico/ipam/v2/assignment/ipv4/block/10.0.1.0-29".parse().unwrap();
        let text = r#"{"cidr":"10.0.1.0/29","affinity":"host:h","allocations":[null,0,null,null,null,null,null,null],"unallocated":[0,2,3,4,5,6,7],"attributes":[{"handle_id":"x"}],"sequenceNumber":1795246062308432100,"sequenceNumberForAllocation":{"1":3},"deleted":false}"#;
        let value = Value::parse(&key, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.to_bytes()).unwrap(), text);
    }
}
