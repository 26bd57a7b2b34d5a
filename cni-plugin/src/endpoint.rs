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

/// The endpoint of the workload. One that stands under the name (of an earlier container of the pod) keeps its
/// identifier; labels, which policy goes by, are the new container's alone.
#[must_use]
pub fn endpoint(
    w: &Workload,
    addresses: &[IpAddr],
    mac: &str,
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
    e.metadata.labels.clone_from(&w.labels);
    e.spec = WorkloadEndpointSpec {
        orchestrator: w.orchestrator.to_owned(),
        node: w.node.clone(),
        container_id: w.container_id.clone(),
        pod: w.pod.clone(),
        endpoint: w.endpoint.clone(),
        ip_networks: addresses.iter().map(|a| host_net(*a).to_string()).collect(),
        profiles: vec![w.profile.name()],
        interface_name: w.veth_name(),
        mac: mac.to_owned(),
        ..WorkloadEndpointSpec::default()
    };
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
