//! The objects that the plugin writes for a pod: its WorkloadEndpoint and, where it is missing, its Profile.
//!
//! In come the [`Workload`], its addresses and MAC, out come objects as upstream writes them. Pure but for the random
//! identifier of a new object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::meta::ObjectMeta;
use libcalico_api::rule::{Action, EntityRule, Rule};
use libcalico_api::workload_endpoint::{WorkloadEndpoint, WorkloadEndpointSpec};
use libcalico_api::{Kind, Resource};
use libcalico_ipam::Moment;
use libcalico_model::{Key, KeyValue, Revision, Value};
use libcalico_net::cidr::host_net;

use crate::facts::PodFacts;
use crate::wishes::Wishes;
use crate::workload::{Profile, Workload};

/// An endpoint as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEndpoint {
    pub endpoint: WorkloadEndpoint,
    pub revision: Revision,
}

impl StoredEndpoint {
    /// From what a read found.
    #[must_use]
    pub fn read(kv: &KeyValue) -> Option<Self> {
        let Value::Resource(r) = &kv.value else { return None };
        let Resource::WorkloadEndpoint(e) = &**r else { return None };
        Some(Self { endpoint: (**e).clone(), revision: kv.revision.clone() })
    }

    /// The endpoint that a pod is, where the API server is the datastore.
    #[must_use]
    pub fn of_pod(facts: &PodFacts) -> Self {
        let revision = Revision(facts.endpoint.metadata.resource_version.clone());
        Self { endpoint: facts.endpoint.clone(), revision }
    }

    /// The endpoint's addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let nets = &self.endpoint.spec.ip_networks;
        nets.iter().filter_map(|n| n.split('/').next()?.parse().ok()).collect()
    }
}

/// Key of the workload's endpoint.
#[must_use]
pub fn key(w: &Workload) -> Key {
    Key::resource(Kind::WorkloadEndpoint, &*w.namespace, w.endpoint_name())
}

/// What an ADD gave the workload.
#[derive(Clone, Copy, Debug)]
pub struct Gave<'a> {
    pub addresses: &'a [IpAddr],
    pub mac: &'a str,
    pub wishes: &'a Wishes,
}

/// The endpoint of the workload. One that stands under the name (of an earlier container of the pod) keeps its
/// identifier; labels, which policy goes by, are the new container's alone. Of a pod that the API server was asked
/// for, labels, ports, profiles and limits are the pod's.
#[must_use]
pub fn endpoint(
    w: &Workload,
    gave: Gave<'_>,
    stands: Option<&StoredEndpoint>,
    now: Moment,
) -> WorkloadEndpoint {
    let mut e = match stands {
        Some(s) => s.endpoint.clone(),
        None => WorkloadEndpoint {
            metadata: ObjectMeta {
                name: w.endpoint_name(),
                namespace: w.namespace.clone(),
                uid: uuid::Uuid::new_v4().to_string(),
                creation_timestamp: Some(now.rfc3339()),
                ..ObjectMeta::default()
            },
            ..WorkloadEndpoint::default()
        },
    };
    let pod = w.facts.as_ref().map(|f| &f.endpoint);
    e.metadata.labels.clone_from(pod.map_or(&w.labels, |p| &p.metadata.labels));
    e.spec = WorkloadEndpointSpec {
        orchestrator: w.orchestrator.to_owned(),
        node: w.node.clone(),
        container_id: w.container_id.clone(),
        pod: w.pod.clone(),
        endpoint: w.endpoint.clone(),
        ip_networks: gave.addresses.iter().map(|a| host_net(*a).to_string()).collect(),
        ip_nats: gave.wishes.nats(gave.addresses),
        profiles: vec![w.profile.name()],
        interface_name: w.veth_name(),
        mac: gave.mac.to_owned(),
        allow_spoofed_source_prefixes: gave.wishes.source_prefixes.clone(),
        ..WorkloadEndpointSpec::default()
    };
    if let Some(p) = pod {
        e.metadata.generate_name.clone_from(&p.metadata.generate_name);
        e.spec.profiles.clone_from(&p.spec.profiles);
        e.spec.ports.clone_from(&p.spec.ports);
        e.spec.service_account_name.clone_from(&p.spec.service_account_name);
        e.spec.qos_controls.clone_from(&p.spec.qos_controls);
    }
    e
}

/// Key of the workload's profile.
#[must_use]
pub fn profile_key(w: &Workload) -> Key {
    Key::resource(Kind::Profile, "", w.profile.name())
}

/// The profile that is made where none stands. Without Kubernetes nobody else makes the one of a namespace.
#[must_use]
pub fn profile(w: &Workload, now: Moment) -> Resource {
    let allow = |source: EntityRule| Rule { action: Action::Allow, source, ..Rule::default() };
    let mut p = libcalico_api::profile::Profile::default();
    p.metadata.name = w.profile.name();
    p.metadata.uid = uuid::Uuid::new_v4().to_string();
    p.metadata.creation_timestamp = Some(now.rfc3339());
    p.spec.egress = vec![allow(EntityRule::default())];
    match &w.profile {
        Profile::Network(name) => {
            let selector = format!("has({name})");
            p.spec.ingress = vec![allow(EntityRule { selector, ..EntityRule::default() })];
            p.spec.labels_to_apply = BTreeMap::from([(name.clone(), String::new())]);
        }
        Profile::Namespace(ns) => {
            p.spec.ingress = vec![allow(EntityRule::default())];
            p.spec.labels_to_apply = BTreeMap::from([("pcns.projectcalico.org/name".to_owned(), ns.clone())]);
        }
    }
    p.into()
}
