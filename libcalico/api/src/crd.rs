//! CustomResourceDefinitions from the types: what the Kubernetes API server is told of every kind.
//!
//! In come the types (structure and descriptions, by their derived schemas) and the table beside each
//! ([`Table`]: columns, limits, rules between fields). Out go manifests of `apiextensions.k8s.io/v1`. What always
//! holds: the schema is structural, every path in a table exists in its type, and the server refuses nothing that
//! `Checked` lets pass, save single addresses where upstream's definitions too want networks. What is left out: writing files (`cargo xtask crds`), and what CEL cannot say within its
//! budget (selector grammar, address families of many networks, other objects): that stays with readers.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::meta::{API_VERSION, Object};
use crate::resource::Kind;
use crate::{
    bgp_configuration, bgp_filter, bgp_peer, block_affinity, calico_node_status, cluster_information,
    cluster_network_policy, felix_configuration, global_network_policy, global_network_set, host_endpoint,
    ip_pool, ip_reservation, ipam_block, ipam_configuration, ipam_handle, kube_controllers_configuration,
    network_policy, network_set, operator, staged_global_network_policy, staged_kubernetes_network_policy,
    staged_network_policy, tier,
};

mod structural;

pub use structural::CrdError;
use structural::{apply, find, structural};

/// What the API server knows of a kind beyond the shape of its type.
pub(crate) struct Table {
    /// Columns of `kubectl get`: title, type, JSON path.
    pub columns: &'static [(&'static str, &'static str, &'static str)],
    /// True where status is written through its own subresource.
    pub status: bool,
    /// Limits and rules by path; several tables where kinds share some.
    pub limits: &'static [Limits],
}

/// Paths (`spec.{ingress,egress}[].icmp`) and what is set there. An empty path is the whole object.
pub(crate) type Limits = &'static [(&'static str, &'static [Set])];

/// One addition to a schema.
pub(crate) enum Set {
    Min(i64),
    Max(i64),
    MinLength(u64),
    MaxLength(u64),
    MinItems(u64),
    MaxItems(u64),
    MinProperties(u64),
    MaxProperties(u64),
    /// null is a value of its own.
    Nullable,
    /// An object with whatever fields.
    Open,
    Pattern(&'static str),
    Format(&'static str),
    /// JSON text.
    Default(&'static str),
    Words(&'static [&'static str]),
    Numbers(&'static [i64]),
    Required(&'static [&'static str]),
    /// A list whose entries are told apart by this field.
    MapKey(&'static str),
    /// A CEL expression that must hold, and what a writer is told where it does not.
    Rule(&'static str, &'static str),
}

/// Durations as Go writes them.
pub(crate) const DURATION: Set =
    Set::Pattern(r"^([+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[+-]?0)$");
/// A network or a single address.
pub(crate) const NET: &[Set] = &[Set::Pattern(r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"), Set::MaxLength(64)];
/// Any selector.
pub(crate) const SELECTOR: &[Set] = &[Set::MaxLength(crate::validation::MAX_SELECTOR_LEN as u64)];
/// A selector of something that has no namespace to be outside of.
pub(crate) const SELECTOR_WITHOUT_GLOBAL: &[Set] = &[
    Set::MaxLength(crate::validation::MAX_SELECTOR_LEN as u64),
    Set::Rule("!self.contains('global(')", "global() is allowed in the namespaceSelector of a rule only"),
];
/// The value of a BGP community.
pub(crate) const COMMUNITY: &[Set] =
    &[Set::Pattern(r"^([0-9]{1,5}:[0-9]{1,5}|[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10})$"), Set::MaxLength(32)];
/// The name of an object.
pub(crate) const OBJECT_NAME: &[Set] = &[
    Set::Pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
    Set::MaxLength(253),
];
/// The same where an empty text means absence.
pub(crate) const OBJECT_NAME_OR_EMPTY: &[Set] = &[
    Set::Pattern(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$"),
    Set::MaxLength(253),
];
/// meta/v1 Conditions.
pub(crate) const CONDITIONS: Limits = &[
    ("status.conditions", &[Set::MapKey("type")]),
    ("status.conditions[]", &[Set::Required(&["lastTransitionTime", "message", "reason", "status", "type"])]),
    ("status.conditions[].lastTransitionTime", &[Set::Format("date-time")]),
    ("status.conditions[].message", &[Set::MaxLength(32768)]),
    ("status.conditions[].observedGeneration", &[Set::Min(0)]),
    (
        "status.conditions[].reason",
        &[Set::Pattern("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"), Set::MinLength(1), Set::MaxLength(1024)],
    ),
    ("status.conditions[].status", &[Set::Words(&["True", "False", "Unknown"])]),
    (
        "status.conditions[].type",
        &[
            Set::Pattern(
                r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            ),
            Set::MaxLength(316),
        ],
    ),
];

/// A definition, ready to be written.
#[derive(Clone, Debug)]
pub struct Crd {
    /// `projectcalico.org`
    pub group: &'static str,
    /// `ippools`
    pub plural: &'static str,
    /// `IPPool`
    pub kind: &'static str,
    /// The whole manifest.
    pub manifest: Value,
}

/// Names of a kind, as the API server lists them.
#[derive(Clone, Copy)]
struct Names {
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
}

impl From<Kind> for Names {
    fn from(kind: Kind) -> Self {
        // Words of calicoctl alone are no names in the API.
        let short = if kind == Kind::FelixConfiguration { &[] } else { kind.short_names() };
        let (name, plural, namespaced) = (kind.name(), kind.plural(), kind.namespaced());
        Self { api_version: API_VERSION, kind: name, plural, namespaced, short }
    }
}

/// A kind of the group that people do not write: IPAM's records.
fn record(kind: &'static str, plural: &'static str, short: &'static [&'static str]) -> Names {
    Names { api_version: API_VERSION, kind, plural, namespaced: false, short }
}

/// Puts additions at one path of a kind's schema and hands out what stands there.
pub(crate) fn limit_field<'a>(
    schema: &'a mut Value,
    kind: &'static str,
    path: &str,
    sets: &[Set],
) -> Result<&'a mut Value, CrdError> {
    apply(schema, path, sets).map_err(|path| CrdError::NoSuchField { kind, path })?;
    find(schema, path).ok_or_else(|| CrdError::NoSuchField { kind, path: path.to_owned() })
}

/// Every definition, by kind.
pub fn all() -> Result<Vec<Crd>, CrdError> {
    macro_rules! crds {
        ($($names:expr, $module:ident :: $kind:ident;)*) => {
            vec![$(crd::<$module::$kind>($names.into(), &$module::CRD)?),*]
        };
    }
    let mut all = crds! {
        Kind::BGPConfiguration, bgp_configuration::BGPConfiguration;
        Kind::BGPFilter, bgp_filter::BGPFilter;
        Kind::BGPPeer, bgp_peer::BGPPeer;
        record("BlockAffinity", "blockaffinities", &["affinity", "affinities"]), block_affinity::BlockAffinity;
        Kind::CalicoNodeStatus, calico_node_status::CalicoNodeStatus;
        Kind::ClusterInformation, cluster_information::ClusterInformation;
        Kind::GlobalNetworkPolicy, global_network_policy::GlobalNetworkPolicy;
        Kind::GlobalNetworkSet, global_network_set::GlobalNetworkSet;
        Kind::HostEndpoint, host_endpoint::HostEndpoint;
        record("IPAMBlock", "ipamblocks", &[]), ipam_block::IPAMBlock;
        Kind::IPAMConfiguration, ipam_configuration::IPAMConfiguration;
        record("IPAMHandle", "ipamhandles", &[]), ipam_handle::IPAMHandle;
        Kind::IPPool, ip_pool::IPPool;
        Kind::IPReservation, ip_reservation::IPReservation;
        Kind::KubeControllersConfiguration, kube_controllers_configuration::KubeControllersConfiguration;
        Kind::NetworkPolicy, network_policy::NetworkPolicy;
        Kind::NetworkSet, network_set::NetworkSet;
        Kind::StagedGlobalNetworkPolicy, staged_global_network_policy::StagedGlobalNetworkPolicy;
        Kind::StagedKubernetesNetworkPolicy, staged_kubernetes_network_policy::StagedKubernetesNetworkPolicy;
        Kind::StagedNetworkPolicy, staged_network_policy::StagedNetworkPolicy;
        Kind::Tier, tier::Tier;
        Names {
            api_version: cluster_network_policy::API_VERSION,
            kind: "ClusterNetworkPolicy",
            plural: "clusternetworkpolicies",
            namespaced: false,
            short: &["cnp"],
        }, cluster_network_policy::ClusterNetworkPolicy;
    };
    all.push(crd::<operator::installation::Installation>(
        Names {
            api_version: operator::API_VERSION,
            kind: "Installation",
            plural: "installations",
            namespaced: false,
            short: &[],
        },
        &operator::installation::CRD,
    )?);
    let mut felix = crd::<felix_configuration::FelixConfiguration>(
        Kind::FelixConfiguration.into(),
        &felix_configuration::CRD,
    )?;
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    if let Some(schema) = felix.manifest.pointer_mut(schema) {
        felix_configuration::limit(schema)?;
    }
    all.push(felix);
    all.sort_by_key(|c| c.kind);
    Ok(all)
}

/// An object's parts that have schemas of their own.
trait Parts {
    type Spec: JsonSchema;
    type Status: JsonSchema;
}

impl<S: JsonSchema, T: JsonSchema> Parts for Object<S, T> {
    type Spec = S;
    type Status = T;
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    structural(settings.into_generator().into_root_schema_for::<T>().to_value())
}

fn crd<O: Parts>(names: Names, table: &'static Table) -> Result<Crd, CrdError> {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string", "description": "Group and version of the kind." },
            "kind": { "type": "string", "description": "Name of the kind." },
            "metadata": { "type": "object" },
            "spec": schema_of::<O::Spec>(),
        },
        "required": ["metadata"],
    });
    if let Some(text) = schema.pointer("/properties/spec/description").cloned() {
        schema["description"] = text;
    }
    if table.status {
        schema["properties"]["status"] = schema_of::<O::Status>();
    }
    for limits in table.limits {
        for (path, sets) in *limits {
            apply(&mut schema, path, sets)
                .map_err(|path| CrdError::NoSuchField { kind: names.kind, path })?;
        }
    }
    let needed = schema.pointer("/properties/spec/required").is_some();
    if needed || schema["required"].as_array().is_some_and(|fields| fields.contains(&json!("spec"))) {
        schema["required"] = json!(["metadata", "spec"]);
    } else {
        // An object without a spec is one with an empty one: the defaults within it must come too.
        schema["properties"]["spec"]["default"] = json!({});
    }
    let (group, version) = names.api_version.split_once('/').unwrap_or_default();
    let mut served = json!({
        "name": version,
        "served": true,
        "storage": true,
        "schema": { "openAPIV3Schema": schema },
    });
    if !table.columns.is_empty() {
        let columns = table
            .columns
            .iter()
            .map(|(name, kind, path)| json!({ "name": name, "type": kind, "jsonPath": path }));
        served["additionalPrinterColumns"] = columns.collect();
    }
    if table.status {
        served["subresources"] = json!({ "status": {} });
    }
    let mut known = json!({
        "kind": names.kind,
        "listKind": format!("{}List", names.kind),
        "plural": names.plural,
        "singular": names.kind.to_ascii_lowercase(),
    });
    if !names.short.is_empty() {
        known["shortNames"] = json!(names.short);
    }
    let mut manifest = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{group}", names.plural) },
        "spec": {
            "group": group,
            "names": known,
            "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
            "versions": [served],
        },
    });
    if group.ends_with(".k8s.io") {
        // The API server takes kinds of Kubernetes' own groups only with the review they passed.
        manifest["metadata"]["annotations"] = json!({
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/300",
        });
    }
    Ok(Crd { group, plural: names.plural, kind: names.kind, manifest })
}
