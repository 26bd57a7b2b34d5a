//! What the dataplane is told as it stands in the datastore: Kubernetes' Services, and the service networks of the
//! global `BGPConfiguration`.
//!
//! In come objects, out go, at a flush, those that changed since the last. Always holds: text that is no address or
//! network is left out, one value at a time. Left out: what they are used for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use felix_message::{GlobalBgpConfig, Message, Service, ServiceName, ServicePort};
use ipnet::IpNet;
use libcalico_api::bgp_configuration::{BGPConfiguration, ServiceCidr};
use libcalico_model::kubernetes::service;

/// See the module's text.
#[derive(Default)]
pub struct Passed {
    services: BTreeMap<ServiceName, Service>,
    stale: BTreeSet<ServiceName>,
    sent: BTreeMap<ServiceName, Service>,
    bgp: GlobalBgpConfig,
    sent_bgp: GlobalBgpConfig,
}

impl Passed {
    /// Sets or removes a service.
    pub fn set_service(&mut self, name: ServiceName, value: Option<&service::Service>) {
        match value {
            Some(s) => self.services.insert(name.clone(), new_service(&name, s)),
            None => self.services.remove(&name),
        };
        self.stale.insert(name);
    }

    /// Sets or removes the global BGP configuration.
    pub fn set_bgp(&mut self, value: Option<&BGPConfiguration>) {
        self.bgp = value.map(new_bgp).unwrap_or_default();
    }

    /// Number of services.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Appends what changed.
    pub fn flush(&mut self, out: &mut Vec<Message>) {
        if self.bgp != self.sent_bgp {
            self.sent_bgp = self.bgp.clone();
            out.push(Message::GlobalBgpConfigUpdate(self.bgp.clone()));
        }
        for name in std::mem::take(&mut self.stale) {
            match self.services.get(&name) {
                Some(now) if self.sent.get(&name) == Some(now) => {}
                Some(now) => {
                    out.push(Message::ServiceUpdate(now.clone()));
                    self.sent.insert(name, now.clone());
                }
                None => {
                    if self.sent.remove(&name).is_some() {
                        out.push(Message::ServiceRemove(name));
                    }
                }
            }
        }
    }
}

fn parsed<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

fn new_service(name: &ServiceName, s: &service::Service) -> Service {
    let port = |p: &service::ServicePort| ServicePort {
        protocol: match p.protocol.as_str() {
            "UDP" => 17,
            "SCTP" => 132,
            _ => 6,
        },
        port: p.port,
        node_port: Some(p.node_port).filter(|n| *n != 0),
    };
    Service {
        name: name.clone(),
        kind: s.spec.kind.clone(),
        cluster_ips: parsed(&s.spec.cluster_ips),
        external_ips: parsed(&s.spec.external_ips),
        load_balancer_ip: s.spec.load_balancer_ip.parse().ok(),
        load_balancer_ingress_ips: s
            .status
            .load_balancer
            .ingress
            .iter()
            .filter_map(|i| i.ip.parse::<IpAddr>().ok())
            .collect(),
        ports: s.spec.ports.iter().map(port).collect(),
    }
}

fn new_bgp(config: &BGPConfiguration) -> GlobalBgpConfig {
    let spec = &config.spec;
    let net = |c: &ServiceCidr| c.cidr.as_deref()?.parse::<IpNet>().ok().map(|n| n.trunc());
    let nets = |list: &[ServiceCidr]| list.iter().filter_map(net).collect();
    GlobalBgpConfig {
        service_cluster_cidrs: nets(&spec.service_cluster_ips),
        service_external_cidrs: nets(&spec.service_external_ips),
        service_loadbalancer_cidrs: nets(&spec.service_load_balancer_ips),
        local_workload_peering_ipv4: spec.local_workload_peering_ipv4.as_deref().and_then(|t| t.parse().ok()),
        local_workload_peering_ipv6: spec.local_workload_peering_ipv6.as_deref().and_then(|t| t.parse().ok()),
    }
}
