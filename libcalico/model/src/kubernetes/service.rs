//! Services and EndpointSlices of the Kubernetes API, as much of them as Calico uses.
//!
//! In comes the API server's JSON, out goes the same JSON with fewer fields, so that what Typha sends is small and an
//! upstream client reads it. Always holds: an object is known by its key; what is `null` or absent is empty. Left out:
//! whether an endpoint is ready (policy is about addresses that traffic may come from or go to, ready or not, as
//! upstream has it), and endpoints that are names instead of addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::common::null_default;
use serde::{Deserialize, Serialize};

use super::read;
use crate::ValueError;

/// Label of a slice that says which service of its namespace it is part of.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Who an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    #[serde(deserialize_with = "null_default")]
    pub namespace: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Meta {
    /// Takes the name of the key that the object stands at.
    pub(crate) fn identify(&mut self, namespace: &str, name: &str) {
        namespace.clone_into(&mut self.namespace);
        name.clone_into(&mut self.name);
    }
}

/// A Service: what it is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Meta,
    #[serde(deserialize_with = "null_default")]
    pub spec: ServiceSpec,
    #[serde(deserialize_with = "null_default")]
    pub status: ServiceStatus,
}

/// A Service's addresses and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Addresses as text; `None` for a headless service.
    #[serde(rename = "clusterIPs", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    #[serde(rename = "type", deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(
        rename = "externalIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub external_ips: Vec<String>,
    #[serde(
        rename = "loadBalancerIP",
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub load_balancer_ip: String,
}

/// A port that a Service is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty is TCP.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    pub port: u16,
    /// 0: none.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub node_port: u16,
}

fn is_zero(n: &u16) -> bool {
    *n == 0
}

/// What a load balancer says of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    #[serde(deserialize_with = "null_default")]
    pub load_balancer: LoadBalancer,
}

/// Addresses that a load balancer gave a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub ip: String,
}

/// Some of a Service's endpoints, and the ports that each of them has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "null_default")]
    pub address_type: String,
    #[serde(deserialize_with = "null_default")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<EndpointPort>,
}

/// An endpoint: a pod, most often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Addresses, or names.
    #[serde(deserialize_with = "null_default")]
    pub addresses: Vec<String>,
}

/// A port of every endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// That of the service's port behind which it is; empty where the service has one port without a name.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Absent is TCP.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Absent: any port, which is no port that a rule could name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl EndpointSlice {
    /// `NAMESPACE/NAME` of the service it is part of, if of any.
    #[must_use]
    pub fn service(&self) -> Option<String> {
        let name = self.metadata.labels.get(SERVICE_NAME_LABEL).filter(|n| !n.is_empty())?;
        Some(format!("{}/{name}", self.metadata.namespace))
    }

    /// Its endpoints' addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.endpoints.iter().flat_map(|e| &e.addresses).filter_map(|a| a.parse().ok())
    }
}

/// Reads a Service.
pub fn service(json: &[u8]) -> Result<Service, ValueError> {
    let mut service: Service = read("Service", json)?;
    service.metadata.labels.clear();
    Ok(service)
}

/// Reads an EndpointSlice. Of its labels the one that names the service is kept.
pub fn endpoint_slice(json: &[u8]) -> Result<EndpointSlice, ValueError> {
    let mut slice: EndpointSlice = read("EndpointSlice", json)?;
    slice.metadata.labels.retain(|k, _| k == SERVICE_NAME_LABEL);
    Ok(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_read_as_far_as_policy_needs_it() {
        let json = br#"{"metadata":{"name":"web-1","namespace":"shop","uid":"u","labels":{"kubernetes.io/service-name":"web","x":"y"}},
            "addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1","host.example"],"conditions":{"ready":false}},{"addresses":null}],
            "ports":[{"name":"http","port":80,"protocol":"TCP"},{"name":"any"}]}"#;
        let slice = endpoint_slice(json).unwrap();
        assert_eq!(slice.service().as_deref(), Some("shop/web"));
        assert_eq!(slice.addresses().collect::<Vec<_>>(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let ports: Vec<_> = slice.ports.iter().map(|p| (p.name.as_str(), p.port)).collect();
        assert_eq!(ports, [("http", Some(80)), ("any", None)]);
        assert_eq!(slice.metadata.labels.len(), 1);
        let empty = endpoint_slice(br#"{"metadata":{"name":"a"},"endpoints":null,"ports":null}"#).unwrap();
        assert_eq!((empty.service(), empty.endpoints.len()), (None, 0));
    }

    #[test]
    fn a_service_is_read_with_its_addresses() {
        let json = br#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"type":"LoadBalancer","clusterIP":"10.96.0.9",
            "clusterIPs":["10.96.0.9"],"externalIPs":["1.2.3.4"],"ports":[{"port":80,"nodePort":30080,"protocol":"TCP","targetPort":"http"}]},
            "status":{"loadBalancer":{"ingress":[{"ip":"5.6.7.8"},{"hostname":"lb"}]}}}"#;
        let s = service(json).unwrap();
        assert_eq!((s.spec.kind.as_str(), s.spec.ports[0].node_port), ("LoadBalancer", 30080));
        assert_eq!(s.status.load_balancer.ingress[0].ip, "5.6.7.8");
        assert!(service(br#"{"spec":{"ports":[{"port":70000}]}}"#).is_err());
    }
}
