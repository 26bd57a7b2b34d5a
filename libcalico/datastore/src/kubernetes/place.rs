//! Which object of the Kubernetes API stands for a key, which collections for a scope, and what an object stands for.
//! Pure.
//!
//! | key | object |
//! |---|---|
//! | most kinds of `projectcalico.org/v3` | the custom resource of the same name |
//! | `Node` | Node, Calico's fields in annotations |
//! | `Profile` | Namespace (`kns.`), ServiceAccount (`ksa.`); read only |
//! | `WorkloadEndpoint` | Pod, Calico's fields in annotations |
//! | `NetworkPolicy` `knp.default.…` | NetworkPolicy of networking.k8s.io; read only |
//! | Service, EndpointSlice | the object of the same name; read only |
//! | `ClusterNetworkPolicy` | ClusterNetworkPolicy of policy.networking.k8s.io, if the cluster has it; read only |
//! | IPAM's records | IPAMBlock, BlockAffinity, IPAMHandle, IPAMConfiguration |

use std::sync::Arc;

use libcalico_api::policy::METADATA_ANNOTATION;
use libcalico_api::{API_VERSION, Kind, Resource};
use libcalico_model::kubernetes::profile::ProfileSource;
use libcalico_model::kubernetes::{
    cluster_network_policy, ipam, network_policy, node, pod, profile, service,
};
use libcalico_model::{Key, KeyValue, Revision, Value, ValueError};
use serde::Deserialize;
use serde_json::json;

use super::client::escape;
use super::labels;
use crate::{DatastoreError, Scope, codec};

/// A kind of object of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Crd(Kind),
    Policy,
    ClusterPolicy,
    Service,
    EndpointSlice,
    Namespace,
    ServiceAccount,
    Pod,
    Node,
    Block,
    Affinity,
    Handle,
    IpamConfig,
}

/// All objects of a form, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub form: Form,
    pub namespace: Option<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub collection: Collection,
    pub name: String,
}

impl Form {
    /// Group and version, plural, and whether objects are in namespaces.
    fn api(self) -> (&'static str, &'static str, bool) {
        const CALICO: &str = "/apis/projectcalico.org/v3";
        match self {
            Self::Crd(kind) => (CALICO, kind.plural(), kind.namespaced()),
            Self::Policy => ("/apis/networking.k8s.io/v1", "networkpolicies", true),
            Self::ClusterPolicy => {
                ("/apis/policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", false)
            }
            Self::Service => ("/api/v1", "services", true),
            Self::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices", true),
            Self::Namespace => ("/api/v1", "namespaces", false),
            Self::ServiceAccount => ("/api/v1", "serviceaccounts", true),
            Self::Pod => ("/api/v1", "pods", true),
            Self::Node => ("/api/v1", "nodes", false),
            Self::Block => (CALICO, "ipamblocks", false),
            Self::Affinity => (CALICO, "blockaffinities", false),
            Self::Handle => (CALICO, "ipamhandles", false),
            Self::IpamConfig => (CALICO, Kind::IPAMConfiguration.plural(), false),
        }
    }

    /// Why objects of the form cannot be written; none where they can.
    pub fn read_only(self) -> Option<&'static str> {
        match self {
            Self::Policy => Some("is a NetworkPolicy of Kubernetes: change it with kubectl"),
            Self::ClusterPolicy => Some("is a ClusterNetworkPolicy of Kubernetes: change it with kubectl"),
            Self::Service | Self::EndpointSlice => Some("is Kubernetes' own: change it with kubectl"),
            Self::Namespace => Some("stands for a Namespace of Kubernetes: change that with kubectl"),
            Self::ServiceAccount => {
                Some("stands for a ServiceAccount of Kubernetes: change that with kubectl")
            }
            _ => None,
        }
    }

    /// True where a cluster may do without the kind, and may get it later.
    pub fn optional(self) -> bool {
        self == Self::ClusterPolicy
    }

    /// True for objects that others write often without a change that Calico reads.
    pub fn busy(self) -> bool {
        matches!(
            self,
            Self::Pod
                | Self::Node
                | Self::Namespace
                | Self::ServiceAccount
                | Self::Service
                | Self::EndpointSlice
        )
    }

    /// True where Calico writes annotations of an object that Kubernetes owns.
    pub fn annotated(self) -> bool {
        matches!(self, Self::Pod | Self::Node)
    }
}

impl Collection {
    /// `/apis/projectcalico.org/v3/namespaces/default/networkpolicies`
    pub fn path(&self) -> String {
        let (group, plural, namespaced) = self.form.api();
        match &self.namespace {
            Some(ns) if namespaced => format!("{group}/namespaces/{}/{plural}", escape(ns)),
            _ => format!("{group}/{plural}"),
        }
    }
}

impl Place {
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection.path(), escape(&self.name))
    }

    fn new(form: Form, namespace: Option<&str>, name: impl Into<String>) -> Self {
        let collection = Collection { form, namespace: namespace.map(str::to_owned) };
        Self { collection, name: name.into() }
    }
}

/// The collections of a scope, in the order of their revisions in a listing's.
pub fn collections(scope: &Scope) -> Vec<Collection> {
    let all = |form| vec![Collection { form, namespace: None }];
    match scope {
        Scope::Kind { kind, namespace } => {
            let forms: &[Form] = match kind {
                Kind::Node => &[Form::Node],
                Kind::Profile => &[Form::Namespace, Form::ServiceAccount],
                Kind::WorkloadEndpoint => &[Form::Pod],
                Kind::NetworkPolicy => &[Form::Crd(Kind::NetworkPolicy), Form::Policy],
                other => &[Form::Crd(*other)],
            };
            let namespace = namespace.clone().filter(|_| kind.namespaced());
            forms.iter().map(|form| Collection { form: *form, namespace: namespace.clone() }).collect()
        }
        Scope::Blocks => all(Form::Block),
        Scope::BlockAffinities { .. } | Scope::VirtualAffinities { .. } => all(Form::Affinity),
        Scope::Handles => all(Form::Handle),
        Scope::IpamConfig => all(Form::IpamConfig),
        Scope::Services => all(Form::Service),
        Scope::EndpointSlices => all(Form::EndpointSlice),
        Scope::ClusterNetworkPolicies => all(Form::ClusterPolicy),
    }
}

/// The object of a key. A key that Kubernetes has no object for does not exist.
pub fn place(key: &Key) -> Result<Place, DatastoreError> {
    let absent = || DatastoreError::NotFound(key.clone());
    Ok(match key {
        Key::Block(cidr) => Place::new(Form::Block, None, ipam::block_name(cidr)),
        Key::BlockAffinity { host, cidr, .. } => {
            Place::new(Form::Affinity, None, ipam::affinity_name(host, cidr))
        }
        Key::Handle(id) => Place::new(Form::Handle, None, ipam::handle_name(id)),
        Key::IpamConfig => Place::new(Form::IpamConfig, None, ipam::CONFIG_NAME),
        Key::Service { namespace, name } => Place::new(Form::Service, Some(namespace), name),
        Key::EndpointSlice { namespace, name } => Place::new(Form::EndpointSlice, Some(namespace), name),
        Key::ClusterNetworkPolicy(name) => Place::new(Form::ClusterPolicy, None, name),
        Key::Resource(r) => match r.kind {
            Kind::Node => Place::new(Form::Node, None, &r.name),
            Kind::Profile => match profile::source(&r.name).ok_or_else(absent)? {
                ProfileSource::Namespace(name) => Place::new(Form::Namespace, None, name),
                ProfileSource::ServiceAccount { namespace, name } => {
                    Place::new(Form::ServiceAccount, Some(&namespace), name)
                }
            },
            Kind::WorkloadEndpoint => {
                let pod = pod::pod_of(&r.name).ok_or_else(absent)?;
                Place::new(Form::Pod, Some(&r.namespace), pod)
            }
            Kind::NetworkPolicy => match network_policy::source(&r.name) {
                Some(name) => Place::new(Form::Policy, Some(&r.namespace), name),
                None => Place::new(Form::Crd(r.kind), Some(&r.namespace), &r.name),
            },
            kind if kind.namespaced() => Place::new(Form::Crd(kind), Some(&r.namespace), &r.name),
            kind => Place::new(Form::Crd(kind), None, &r.name),
        },
        other => {
            return Err(DatastoreError::Other {
                key: other.path(),
                reason: "is calculated, not stored".to_owned(),
            });
        }
    })
}

/// As much of any object as says which it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Head {
    pub metadata: HeadMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeadMeta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
}

/// What an object stands for.
#[derive(Debug)]
pub enum Meaning {
    Value(KeyValue),
    /// The object cannot be read: absent, and to be told of.
    Malformed(Key, ValueError),
    /// The key is known and nothing stands there: a record marked as deleted.
    Absent(Key),
    /// Nothing of Calico's: a pod of the host's network, a record that says not which.
    Nothing,
}

/// Reads an object. The head is what [`Head`] says of the same JSON; `prefix` is before the names of pods' interfaces.
pub fn read(form: Form, head: &HeadMeta, json: &[u8], prefix: &str) -> Meaning {
    let revision = Revision(head.resource_version.clone());
    let (key, value): (Key, Result<Option<Value>, ValueError>) = match form {
        // It would stand where a policy of Kubernetes' own stands, and go with it.
        Form::Crd(Kind::NetworkPolicy) if network_policy::source(&head.name).is_some() => {
            let policy = format!("{}/{}", head.namespace, head.name);
            tracing::warn!(
                policy,
                "NetworkPolicy is left out: its name is kept for Kubernetes' own policies"
            );
            return Meaning::Nothing;
        }
        Form::Crd(kind) => {
            let key = Key::resource(kind, &head.namespace, &head.name);
            let value = Value::parse(&key, json).map(|v| Some(without_managers(v)));
            (key, value)
        }
        Form::Policy => {
            let name = format!("{}{}", network_policy::NAME_PREFIX, head.name);
            let value = network_policy::convert(json).map(|c| {
                for reason in c.left_out {
                    let policy = format!("{}/{}", head.namespace, head.name);
                    tracing::warn!(policy, reason, "rule of a NetworkPolicy is left out");
                }
                Some(Resource::from(c.policy).into())
            });
            (Key::resource(Kind::NetworkPolicy, &head.namespace, name), value)
        }
        Form::ClusterPolicy => {
            let value = cluster_network_policy::convert(json).map(|c| {
                for reason in c.replaced {
                    tracing::warn!(
                        policy = head.name,
                        reason,
                        "rule of a ClusterNetworkPolicy cannot be read"
                    );
                }
                Some(Resource::from(c.policy).into())
            });
            (Key::ClusterNetworkPolicy(head.name.clone()), value)
        }
        Form::Service => {
            let value = service::service(json).map(|s| Some(Value::Service(Arc::new(s))));
            (Key::Service { namespace: head.namespace.clone(), name: head.name.clone() }, value)
        }
        Form::EndpointSlice => {
            let value = service::endpoint_slice(json).map(|s| Some(Value::EndpointSlice(Arc::new(s))));
            (Key::EndpointSlice { namespace: head.namespace.clone(), name: head.name.clone() }, value)
        }
        Form::Namespace => {
            let name = format!("{}{}", profile::NAMESPACE_PROFILE, head.name);
            let value = profile::from_namespace(json).map(|p| Some(Resource::from(p).into()));
            (Key::resource(Kind::Profile, "", name), value)
        }
        Form::ServiceAccount => {
            let name = format!("{}{}.{}", profile::SERVICE_ACCOUNT_PROFILE, head.namespace, head.name);
            let value = profile::from_service_account(json).map(|p| Some(Resource::from(p).into()));
            (Key::resource(Kind::Profile, "", name), value)
        }
        Form::Node => {
            let value = node::from_kubernetes(json).map(|n| Some(Resource::from(n).into()));
            (Key::resource(Kind::Node, "", &head.name), value)
        }
        Form::Pod => return read_pod(json, revision, prefix),
        Form::IpamConfig => (Key::IpamConfig, ipam::config(json).map(|c| Some(Value::IpamConfig(c)))),
        Form::Block | Form::Affinity | Form::Handle => return read_record(form, json, revision),
    };
    match value {
        Ok(Some(value)) => Meaning::Value(KeyValue { value: codec::stamp(value, &revision), key, revision }),
        Ok(None) => Meaning::Absent(key),
        Err(e) => Meaning::Malformed(key, e),
    }
}

fn read_pod(json: &[u8], revision: Revision, prefix: &str) -> Meaning {
    match pod::endpoint(json, prefix) {
        Ok(None) => Meaning::Nothing,
        Ok(Some(w)) => {
            let key = Key::resource(Kind::WorkloadEndpoint, &w.metadata.namespace, &w.metadata.name);
            Meaning::Value(KeyValue { key, value: Resource::from(w).into(), revision })
        }
        // The name needs the node, which a pod that can be read at all has.
        Err(e) => match pod::key_parts(json) {
            Some((namespace, name)) => {
                Meaning::Malformed(Key::resource(Kind::WorkloadEndpoint, namespace, name), e)
            }
            None => Meaning::Nothing,
        },
    }
}

/// IPAM's records say in their spec which they are.
fn read_record(form: Form, json: &[u8], revision: Revision) -> Meaning {
    let found: Result<Option<(Key, Value)>, ValueError> = match form {
        Form::Block => ipam::block(json).map(|b| b.map(|b| (Key::Block(b.cidr), Value::Block(Box::new(b))))),
        Form::Affinity => ipam::affinity(json).map(|a| {
            a.map(|(affinity_type, host, cidr, state)| {
                (Key::BlockAffinity { affinity_type, host, cidr }, Value::BlockAffinity(state))
            })
        }),
        _ => ipam::handle(json).map(|h| h.map(|(id, h)| (Key::Handle(id), Value::Handle(h)))),
    };
    match found {
        Ok(Some((key, value))) => Meaning::Value(KeyValue { key, value, revision }),
        Ok(None) => match ipam::key_of(record(form), json) {
            Some(key) => Meaning::Absent(key),
            None => Meaning::Nothing,
        },
        Err(e) => match ipam::key_of(record(form), json) {
            Some(key) => Meaning::Malformed(key, e),
            None => Meaning::Nothing,
        },
    }
}

fn record(form: Form) -> ipam::Record {
    match form {
        Form::Block => ipam::Record::Block,
        Form::Affinity => ipam::Record::Affinity,
        _ => ipam::Record::Handle,
    }
}

/// The history of an object's fields is long and nobody here reads it.
fn without_managers(value: Value) -> Value {
    match value {
        Value::Resource(mut r) => {
            Arc::<Resource>::make_mut(&mut r).metadata_mut().other.remove("managedFields");
            Value::Resource(r)
        }
        other => other,
    }
}

/// The object to be written for a value. Identity and history are the API server's.
pub fn write(place: &Place, key: &Key, value: &Value) -> serde_json::Value {
    let calico = |kind: &str, spec: serde_json::Value| json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": { "name": place.name }, "spec": spec });
    match (key, value) {
        (Key::BlockAffinity { affinity_type, host, cidr }, Value::BlockAffinity(a)) => {
            let mut object = calico("BlockAffinity", ipam::affinity_spec(affinity_type, host, cidr, a));
            object["metadata"]["labels"] = labels::of(affinity_type, host, *cidr);
            object
        }
        (Key::Handle(id), Value::Handle(h)) => calico("IPAMHandle", ipam::handle_spec(id, h)),
        (_, Value::Block(b)) => calico("IPAMBlock", ipam::block_spec(b)),
        (_, Value::IpamConfig(c)) => calico("IPAMConfiguration", ipam::config_spec(c)),
        (_, Value::Resource(r)) => {
            let mut object = r.to_value();
            if let Some(meta) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                let owned = [
                    "uid",
                    "creationTimestamp",
                    "generation",
                    "managedFields",
                    "resourceVersion",
                    "deletionTimestamp",
                ];
                for field in owned {
                    meta.remove(field);
                }
                meta.insert("name".to_owned(), json!(place.name));
                match &place.collection.namespace {
                    Some(namespace) => meta.insert("namespace".to_owned(), json!(namespace)),
                    None => meta.remove("namespace"),
                };
                let notes = meta.get_mut("annotations").and_then(serde_json::Value::as_object_mut);
                if let Some(notes) = notes {
                    // Upstream's etcd clients keep the name there; a custom resource has its own.
                    notes.remove(METADATA_ANNOTATION);
                    if notes.is_empty() {
                        meta.remove("annotations");
                    }
                }
            }
            object
        }
        // Calculated values have no place, see `place`.
        _ => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_resource_does_not_stand_in_for_a_policy_of_kubernetes() {
        let meaning = |name: &str| {
            let object = json!({ "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
                "metadata": { "name": name, "namespace": "shop" }, "spec": {} });
            let head: Head = serde_json::from_value(object.clone()).unwrap();
            read(Form::Crd(Kind::NetworkPolicy), &head.metadata, object.to_string().as_bytes(), "cali")
        };
        assert!(matches!(meaning("knp.default.p"), Meaning::Nothing));
        assert!(matches!(meaning("knp-p"), Meaning::Value(_)));
    }
}
