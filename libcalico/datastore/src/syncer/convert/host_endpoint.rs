//! `HostEndpoint` → a host's interface.

use std::net::IpAddr;
use std::sync::Arc;

use libcalico_api::host_endpoint::HostEndpoint;
use libcalico_model::{Key, Value, backend};

use super::rule::lower;
use super::{Outputs, parse_address};

pub fn convert(endpoint: &HostEndpoint) -> Result<Outputs, String> {
    let spec = &endpoint.spec;
    let host = spec.node.clone().filter(|n| !n.is_empty()).ok_or("spec.node is missing")?;
    let mut value = backend::HostEndpoint {
        name: spec.interface_name.clone().unwrap_or_default(),
        labels: endpoint.metadata.labels.clone(),
        profile_ids: spec.profiles.clone(),
        ports: spec
            .ports
            .iter()
            .map(|p| backend::EndpointPort {
                name: p.name.clone(),
                protocol: lower(&p.protocol),
                port: p.port,
            })
            .collect(),
        ..backend::HostEndpoint::default()
    };
    for ip in &spec.expected_ips {
        match parse_address(ip)? {
            IpAddr::V4(a) => value.expected_ipv4_addrs.push(a),
            IpAddr::V6(a) => value.expected_ipv6_addrs.push(a),
        }
    }
    let key = Key::HostEndpoint { host, name: endpoint.metadata.name.clone() };
    Ok(vec![(key, Value::HostEndpoint(Arc::new(value)))])
}
