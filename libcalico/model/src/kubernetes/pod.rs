//! Pods as workload endpoints. The network plugin writes a pod's addresses and sandbox into the pod's annotations; the
//! rest follows from the pod itself.
//!
//! Always holds: a pod in the host's network, or without a node yet, has no endpoint; a pod that ended has an endpoint
//! without addresses, since they may belong to another pod by now.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use libcalico_api::ObjectMeta;
use libcalico_api::common::null_default;
use libcalico_api::num_or_string::Protocol;
use libcalico_api::workload_endpoint::{
    IpNat, NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL, WorkloadEndpoint,
    WorkloadEndpointPort, WorkloadEndpointSpec,
};
use libcalico_net::interface_name::veth_name_for_workload;
use serde::Deserialize;

use super::profile::{NAMESPACE_PROFILE, SERVICE_ACCOUNT_PROFILE};
use super::{identity, malformed, qos, read};
use crate::ValueError;
use crate::key::endpoint_name_parts;

/// The pod's first address as a network: `10.65.0.2/32`. Empty once it was given back.
pub const POD_IP: &str = "cni.projectcalico.org/podIP";
/// All addresses as networks, joined by commas.
pub const POD_IPS: &str = "cni.projectcalico.org/podIPs";
/// As [`POD_IPS`], by Amazon's plugin.
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";
/// Where network plugins write a pod's addresses, the first that is there counts.
const ADDRESSES: [&str; 3] = [POD_IPS, POD_IP, AWS_POD_IPS];
/// The sandbox the addresses were given to.
pub const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
/// JSON list of floating addresses.
const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
/// JSON list of networks that the pod may send from besides its own addresses.
const SPOOFED_PREFIXES: &str = "cni.projectcalico.org/allowedSourcePrefixes";
/// What Multus says of the pod's other interfaces; kept on the endpoint.
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// The interface in the pod.
const INTERFACE: &str = "eth0";
/// The orchestrator of a pod.
const ORCHESTRATOR: &str = "k8s";
/// Longest value of a label.
const MAX_LABEL_VALUE: usize = 63;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
    service_account_name: String,
    #[serde(deserialize_with = "null_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "null_default")]
    init_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    #[serde(deserialize_with = "null_default")]
    ports: Vec<ContainerPort>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: String,
    container_port: u16,
    protocol: String,
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "null_default")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

/// A pod's endpoint; none where it has none. The name of its interface begins with the prefix's first entry.
pub fn endpoint(json: &[u8], interface_prefix: &str) -> Result<Option<WorkloadEndpoint>, ValueError> {
    let pod: Pod = read("Pod", json)?;
    let meta = &pod.metadata;
    let what = format!("Pod {}/{}", meta.namespace, meta.name);
    if meta.name.is_empty() || meta.namespace.is_empty() {
        return Err(malformed(what, "has no name or no namespace"));
    }
    if pod.spec.host_network || pod.spec.node_name.is_empty() {
        return Ok(None);
    }
    let bad = |reason: String| malformed(what.clone(), reason);
    let account = &pod.spec.service_account_name;
    let mut profiles = vec![format!("{NAMESPACE_PROFILE}{}", meta.namespace)];
    if !account.is_empty() {
        profiles.push(format!("{SERVICE_ACCOUNT_PROFILE}{}.{account}", meta.namespace));
    }
    let nets = pod.networks().map_err(bad)?;
    let spec = WorkloadEndpointSpec {
        orchestrator: ORCHESTRATOR.to_owned(),
        node: pod.spec.node_name.clone(),
        container_id: pod.annotation(CONTAINER_ID).to_owned(),
        pod: meta.name.clone(),
        endpoint: INTERFACE.to_owned(),
        service_account_name: account.clone(),
        ip_nats: floating(pod.annotation(FLOATING_IPS), &nets).map_err(bad)?,
        ip_networks: nets.iter().map(IpNet::to_string).collect(),
        profiles,
        interface_name: veth_name_for_workload(interface_prefix, &meta.namespace, &meta.name),
        ports: pod.ports(),
        allow_spoofed_source_prefixes: list(pod.annotation(SPOOFED_PREFIXES)).map_err(bad)?,
        qos_controls: qos::controls(&meta.annotations).0,
        ..WorkloadEndpointSpec::default()
    };
    let name = spec.object_name().map_err(|field| bad(format!("gives no {field}")))?;
    let mut labels = meta.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), meta.namespace.clone());
    labels.insert(ORCHESTRATOR_LABEL.to_owned(), ORCHESTRATOR.to_owned());
    labels.remove(SERVICE_ACCOUNT_LABEL);
    if (1..=MAX_LABEL_VALUE).contains(&account.len()) {
        labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), account.clone());
    }
    let kept = meta.annotations.get_key_value(NETWORK_STATUS);
    let annotations = kept.map(|(k, v)| (k.clone(), v.clone())).into_iter().collect();
    let metadata = ObjectMeta { name, labels, annotations, ..identity(meta) };
    Ok(Some(WorkloadEndpoint { metadata, spec, ..WorkloadEndpoint::default() }))
}

/// Namespace and name of a pod's endpoint, where the pod can say even that.
#[must_use]
pub fn key_parts(json: &[u8]) -> Option<(String, String)> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Whose {
        metadata: Named,
        spec: Placed,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        name: String,
        namespace: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Placed {
        node_name: String,
    }
    let pod: Whose = serde_json::from_slice(json).ok()?;
    let spec = WorkloadEndpointSpec {
        orchestrator: ORCHESTRATOR.to_owned(),
        node: pod.spec.node_name,
        pod: pod.metadata.name,
        endpoint: INTERFACE.to_owned(),
        ..WorkloadEndpointSpec::default()
    };
    Some((pod.metadata.namespace, spec.object_name().ok()?))
}

/// What writing an endpoint sets on its pod.
#[must_use]
pub fn annotations(endpoint: &WorkloadEndpoint) -> BTreeMap<&'static str, String> {
    let nets = &endpoint.spec.ip_networks;
    BTreeMap::from([
        (POD_IP, nets.first().cloned().unwrap_or_default()),
        (POD_IPS, nets.join(",")),
        (CONTAINER_ID, endpoint.spec.container_id.clone()),
    ])
}

/// What removing an endpoint sets on its pod: no addresses. The sandbox stays, as who had them last.
#[must_use]
pub fn released() -> BTreeMap<&'static str, String> {
    BTreeMap::from([(POD_IP, String::new()), (POD_IPS, String::new())])
}

/// The pod in an endpoint's name: `NODE-k8s-POD-eth0`. None where it is no pod's.
#[must_use]
pub fn pod_of(endpoint: &str) -> Option<String> {
    let [_, orchestrator, pod, _] = endpoint_name_parts(endpoint)?;
    (orchestrator == ORCHESTRATOR).then_some(pod)
}

impl Pod {
    fn annotation(&self, name: &str) -> &str {
        self.metadata.annotations.get(name).map_or("", String::as_str)
    }

    /// Its addresses. The kubelet's word in the status goes first: whoever may change a pod's annotations could take
    /// another pod's address by them. They count while there is no status yet, and where they say that the addresses
    /// were given back.
    fn networks(&self) -> Result<Vec<IpNet>, String> {
        let given_back = ADDRESSES.iter().any(|name| {
            self.metadata.annotations.get(*name).is_some_and(|written| written.trim().is_empty())
        });
        if given_back || matches!(self.status.phase.as_str(), "Succeeded" | "Failed" | "Completed") {
            return Ok(Vec::new());
        }
        let texts: Vec<&str> = if !self.status.pod_ips.is_empty() {
            self.status.pod_ips.iter().map(|p| p.ip.as_str()).collect()
        } else if !self.status.pod_ip.is_empty() {
            vec![&self.status.pod_ip]
        } else {
            let written = ADDRESSES.map(|name| self.annotation(name)).into_iter().find(|w| !w.is_empty());
            written.unwrap_or_default().split(',').collect()
        };
        texts.into_iter().map(str::trim).filter(|t| !t.is_empty()).map(host_net).collect()
    }

    /// Ports with a name, or mapped to the host, of all containers: also of those that run before the others, as upstream.
    fn ports(&self) -> Vec<WorkloadEndpointPort> {
        self.spec
            .containers
            .iter()
            .chain(&self.spec.init_containers)
            .flat_map(|c| &c.ports)
            .filter(|p| p.container_port > 0 && (!p.name.is_empty() || p.host_port > 0))
            .map(|p| WorkloadEndpointPort {
                name: p.name.clone(),
                protocol: Protocol::Name(if p.protocol.is_empty() { "TCP" } else { &p.protocol }.to_owned()),
                port: p.container_port,
                host_port: p.host_port,
                host_ip: p.host_ip.clone(),
            })
            .collect()
    }
}

/// A single address, with or without its length.
fn host_net(text: &str) -> Result<IpNet, String> {
    let bad = || format!("{text:?} is not an address of a pod");
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => {
            let net: IpNet = text.parse().map_err(|_| bad())?;
            if net.prefix_len() == net.max_prefix_len() { Ok(net) } else { Err(bad()) }
        }
    }
}

fn list(json: &str) -> Result<Vec<String>, String> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(json).map_err(|e| format!("annotation {json:?} is not a JSON list of texts: {e}"))
}

/// Each floating address stands for the pod's address of its family.
fn floating(json: &str, nets: &[IpNet]) -> Result<Vec<IpNat>, String> {
    let mut out = Vec::new();
    for text in list(json)? {
        let external: IpAddr =
            text.parse().map_err(|_| format!("floating address {text:?} is not an address"))?;
        if let Some(own) = nets.iter().find(|n| n.addr().is_ipv4() == external.is_ipv4()) {
            out.push(IpNat { internal_ip: own.addr().to_string(), external_ip: text });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(json: &str) -> Option<WorkloadEndpoint> {
        endpoint(json.as_bytes(), "cali").unwrap()
    }

    const WEB: &str = r#"{"metadata":{"name":"web-1","namespace":"shop","generateName":"web-","resourceVersion":"9","uid":"u",
        "labels":{"app":"web"},"managedFields":[{"manager":"kubelet"}],
        "annotations":{"cni.projectcalico.org/podIPs":"10.65.0.2/32,fd00::2/128","cni.projectcalico.org/podIP":"10.65.0.2/32",
          "cni.projectcalico.org/containerID":"c0ffee","cni.projectcalico.org/floatingIPs":"[\"192.0.2.7\"]"}},
      "spec":{"nodeName":"node-a","serviceAccountName":"clerk","containers":[{"ports":[{"name":"http","containerPort":80},
          {"containerPort":81},{"containerPort":53,"protocol":"UDP","hostPort":5353}]}],
          "initContainers":[{"ports":[{"name":"setup","containerPort":82}]}]},
      "status":{"phase":"Running"}}"#;

    #[test]
    fn a_running_pod_becomes_what_the_plugin_wrote_of_it() {
        let w = convert(WEB).unwrap();
        assert_eq!(w.metadata.name, "node--a-k8s-web--1-eth0");
        assert_eq!((w.metadata.namespace.as_str(), w.metadata.resource_version.as_str()), ("shop", "9"));
        assert!(w.metadata.other.is_empty() && w.metadata.annotations.is_empty());
        assert_eq!(w.spec.ip_networks, ["10.65.0.2/32", "fd00::2/128"]);
        assert_eq!(w.spec.profiles, ["kns.shop", "ksa.shop.clerk"]);
        assert_eq!(w.spec.interface_name, veth_name_for_workload("cali", "shop", "web-1"));
        assert_eq!(w.spec.container_id, "c0ffee");
        let labels: Vec<String> = w.metadata.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels,
            [
                "app=web",
                "projectcalico.org/namespace=shop",
                "projectcalico.org/orchestrator=k8s",
                "projectcalico.org/serviceaccount=clerk"
            ]
        );
        let ports: Vec<String> =
            w.spec.ports.iter().map(|p| format!("{}/{}/{}", p.name, p.protocol, p.port)).collect();
        assert_eq!(ports, ["http/TCP/80", "/UDP/53", "setup/TCP/82"]);
        assert_eq!(w.spec.ip_nats[0].internal_ip, "10.65.0.2");
        assert_eq!(pod_of(&w.metadata.name).as_deref(), Some("web-1"));
    }

    #[test]
    fn an_annotation_takes_no_address_that_the_kubelet_did_not_report() {
        let reported = r#""status":{"podIP":"10.65.0.9","podIPs":[{"ip":"10.65.0.9"},{"ip":"fd00::9"}],"phase":"Running"}"#;
        let pod = WEB.replace(r#""status":{"phase":"Running"}"#, reported);
        assert_eq!(convert(&pod).unwrap().spec.ip_networks, ["10.65.0.9/32", "fd00::9/128"]);
        let single = pod.replace(r#""podIPs":[{"ip":"10.65.0.9"},{"ip":"fd00::9"}],"#, "");
        assert_eq!(convert(&single).unwrap().spec.ip_networks, ["10.65.0.9/32"]);
    }

    #[test]
    fn addresses_come_from_the_status_where_nobody_wrote_them() {
        let w = convert(r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"nodeName":"h"},"status":{"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#).unwrap();
        assert_eq!(w.spec.ip_networks, ["10.0.0.1/32", "fd00::1/128"]);
        assert_eq!(w.spec.profiles, ["kns.n"]);
    }

    #[test]
    fn a_pod_that_ended_or_gave_back_its_addresses_has_none() {
        let ended = WEB.replace("Running", "Succeeded");
        assert!(convert(&ended).unwrap().spec.ip_networks.is_empty());
        let released = r#"{"metadata":{"name":"p","namespace":"n","annotations":{"cni.projectcalico.org/podIP":"","cni.projectcalico.org/podIPs":""}},
            "spec":{"nodeName":"h"},"status":{"podIP":"10.0.0.1"}}"#;
        assert!(convert(released).unwrap().spec.ip_networks.is_empty());
        let amazon = |written: &str| {
            format!(
                r#"{{"metadata":{{"name":"p","namespace":"n","annotations":{{"vpc.amazonaws.com/pod-ips":"{written}"}}}},
                "spec":{{"nodeName":"h"}},"status":{{}}}}"#
            )
        };
        assert!(convert(&amazon("")).unwrap().spec.ip_networks.is_empty());
        assert_eq!(convert(&amazon("10.0.0.1")).unwrap().spec.ip_networks, ["10.0.0.1/32"]);
    }

    #[test]
    fn interfaces_of_another_plugin_have_its_prefix() {
        let named = endpoint(WEB.as_bytes(), "eni,cali").unwrap().unwrap();
        assert_eq!(named.spec.interface_name, veth_name_for_workload("eni", "shop", "web-1"));
    }

    #[test]
    fn pods_of_the_host_network_or_without_a_node_have_no_endpoint() {
        let host = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"nodeName":"h","hostNetwork":true}}"#;
        assert_eq!(convert(host), None);
        assert_eq!(convert(r#"{"metadata":{"name":"p","namespace":"n"},"spec":{}}"#), None);
    }

    #[test]
    fn a_bad_address_is_told_with_the_pod() {
        let bad = WEB.replace("fd00::2/128", "10.0.0.0/24");
        let text = endpoint(bad.as_bytes(), "cali").unwrap_err().to_string();
        assert!(text.contains("shop/web-1") && text.contains("10.0.0.0/24"), "{text}");
        assert_eq!(
            key_parts(bad.as_bytes()),
            Some(("shop".to_owned(), "node--a-k8s-web--1-eth0".to_owned()))
        );
    }

    #[test]
    fn writing_an_endpoint_sets_three_annotations() {
        let w = convert(WEB).unwrap();
        let a = annotations(&w);
        assert_eq!((a[POD_IP].as_str(), a[POD_IPS].as_str()), ("10.65.0.2/32", "10.65.0.2/32,fd00::2/128"));
        assert_eq!(a[CONTAINER_ID], "c0ffee");
        assert_eq!(released().len(), 2);
    }

    #[test]
    fn names_of_other_endpoints_are_no_pods() {
        for name in ["", "a-k8s-b", "a-cni-b-eth0", "a-k8s--b-eth0", "-k8s-p-eth0"] {
            assert_eq!(pod_of(name), None, "{name}");
        }
    }
}
