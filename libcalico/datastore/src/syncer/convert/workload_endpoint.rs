//! `WorkloadEndpoint` → a workload's interface. Who it is stands in its name: node, orchestrator, workload and
//! interface, joined by single dashes, their own dashes doubled.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use libcalico_api::workload_endpoint::{WorkloadEndpoint, WorkloadEndpointSpec};
use libcalico_model::key::{WorkloadEndpointKey, endpoint_name_parts};
use libcalico_model::{Key, Value, backend};

use super::rule::lower;
use super::selector::{NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL, own_labels};
use super::{Outputs, parse_net, parse_nets};

pub fn convert(endpoint: &WorkloadEndpoint) -> Result<Outputs, String> {
    let spec = &endpoint.spec;
    let namespace = &endpoint.metadata.namespace;
    let [host, orchestrator, workload, interface] = endpoint_name_parts(&endpoint.metadata.name)
        .ok_or("its name is not NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT with dashes doubled")?;
    if spec.ip_networks.is_empty() {
        // Not networked yet, or no longer.
        return Ok(Vec::new());
    }
    let mut labels = own_labels(&endpoint.metadata.labels);
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    if !spec.service_account_name.is_empty() {
        labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), spec.service_account_name.clone());
    }
    let text = |t: &String| Some(t.clone()).filter(|t| !t.is_empty());
    let mut value = backend::WorkloadEndpoint {
        state: "active".to_owned(),
        name: spec.interface_name.clone(),
        active_instance_id: spec.container_id.clone(),
        mac: text(&spec.mac),
        profile_ids: spec.profiles.clone(),
        labels,
        ipv4_gateway: text(&spec.ipv4_gateway),
        ipv6_gateway: text(&spec.ipv6_gateway),
        ports: ports(spec),
        generate_name: endpoint.metadata.generate_name.clone(),
        allow_spoofed_source_prefixes: parse_nets(&spec.allow_spoofed_source_prefixes)?,
        annotations: endpoint.metadata.annotations.clone(),
        ..backend::WorkloadEndpoint::default()
    };
    for net in &spec.ip_networks {
        match parse_net(net)? {
            IpNet::V4(n) => value.ipv4_nets.push(n),
            IpNet::V6(n) => value.ipv6_nets.push(n),
        }
    }
    for nat in &spec.ip_nats {
        let parse =
            |t: &str| t.parse::<IpAddr>().map_err(|_| format!("spec.ipNATs: {t:?} is not an address"));
        let nat = backend::IpNat { int_ip: parse(&nat.internal_ip)?, ext_ip: parse(&nat.external_ip)? };
        if nat.int_ip.is_ipv4() { value.ipv4_nat.push(nat) } else { value.ipv6_nat.push(nat) }
    }
    let key = WorkloadEndpointKey {
        host,
        orchestrator,
        workload: format!("{namespace}/{workload}"),
        endpoint: interface,
    };
    Ok(vec![(Key::WorkloadEndpoint(key), Value::WorkloadEndpoint(Arc::new(value)))])
}

/// Only ports with a name can be referred to.
fn ports(spec: &WorkloadEndpointSpec) -> Vec<backend::EndpointPort> {
    spec.ports
        .iter()
        .filter(|p| !p.name.is_empty())
        .map(|p| backend::EndpointPort { name: p.name.clone(), protocol: lower(&p.protocol), port: p.port })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> WorkloadEndpoint {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","labels":{{"projectcalico.org/orchestrator":"k8s","role":"web"}}}},
            "spec":{{"orchestrator":"k8s","node":"node-a","containerID":"1337","pod":"web-1","endpoint":"eth0",
            "ipNetworks":["10.65.200.2/32","fd00::2/128"],"profiles":["prof-1"],"interfaceName":"cali0aweb1","mac":"ca:fe:1d:52:bb:e9",
            "ports":[{{"name":"http-alt","protocol":"TCP","port":8081,"hostPort":0,"hostIP":""}}]}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn an_endpoint_is_known_by_the_parts_of_its_name() {
        let out = convert(&endpoint("node--a-k8s-web--1-eth0")).unwrap();
        assert_eq!(out[0].0.path(), "/calico/v1/host/node-a/workload/k8s/default%2Fweb-1/endpoint/eth0");
        let value: serde_json::Value = serde_json::from_slice(&out[0].1.to_bytes()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(
            r#"{"state":"active","name":"cali0aweb1","active_instance_id":"1337","mac":"ca:fe:1d:52:bb:e9",
            "profile_ids":["prof-1"],"ipv4_nets":["10.65.200.2/32"],"ipv6_nets":["fd00::2/128"],
            "labels":{"projectcalico.org/namespace":"default","projectcalico.org/orchestrator":"k8s","role":"web"},
            "ports":[{"name":"http-alt","protocol":"tcp","port":8081}]}"#,
        )
        .unwrap();
        assert_eq!(value, expected);
    }

    #[test]
    fn no_label_of_its_own_puts_an_endpoint_into_another_namespace_or_account() {
        let mut e = endpoint("node--a-k8s-web--1-eth0");
        for name in
            ["pcns.env", "pcns.projectcalico.org/name", "pcsa.role", NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL]
        {
            e.metadata.labels.insert(name.to_owned(), "other".to_owned());
        }
        e.spec.service_account_name = "own".to_owned();
        let out = convert(&e).unwrap();
        let Value::WorkloadEndpoint(value) = &out[0].1 else { panic!() };
        let labels: Vec<_> = value.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels,
            [
                "projectcalico.org/namespace=default",
                "projectcalico.org/orchestrator=k8s",
                "projectcalico.org/serviceaccount=own",
                "role=web"
            ]
        );
    }

    #[test]
    fn a_name_without_four_parts_is_refused() {
        for name in ["", "a-b-c", "a-b-c-d-e", "a--b-c-d", "-b-c-d"] {
            assert!(endpoint_name_parts(name).is_none(), "{name}");
        }
        assert_eq!(endpoint_name_parts("a---b-c-d-").map(|p| p.join("|")), None);
        assert_eq!(endpoint_name_parts("a--b-k8s-c----d-eth0").unwrap().join("|"), "a-b|k8s|c--d|eth0");
    }

    #[test]
    fn an_endpoint_without_addresses_is_absent() {
        let mut e = endpoint("node--a-k8s-web--1-eth0");
        e.spec.ip_networks.clear();
        assert!(convert(&e).unwrap().is_empty());
    }
}
