//! Every field of upstream's CRDs stands in our types, with the same shape, and no other.
//!
//! The types are asked through serde: a deserializer that answers every question with a sample value notes which
//! fields, lists, maps, numbers and words each type asks for.

use std::collections::BTreeMap;

use libcalico_api::meta::Object;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, VariantAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::Value;

/// What a type asks for, by path: `spec.ingress[].ports[]` → `text`.
type Shape = BTreeMap<String, String>;

#[derive(Debug)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl de::Error for Failed {
    fn custom<T: std::fmt::Display>(m: T) -> Self {
        Self(m.to_string())
    }
}

struct Probe<'a> {
    path: String,
    shape: &'a std::cell::RefCell<Shape>,
}

impl Probe<'_> {
    fn note(&self, what: impl Into<String>) {
        self.shape.borrow_mut().insert(self.path.clone(), what.into());
    }

    fn child(&self, step: &str) -> Self {
        Probe { path: format!("{}{step}", self.path), shape: self.shape }
    }
}

impl<'de> IntoDeserializer<'de, Failed> for Probe<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! number {
    ($($method:ident $visit:ident $what:literal)*) => {
        $(fn $method<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
            self.note($what);
            v.$visit(Default::default())
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Failed;

    number! {
        deserialize_bool visit_bool "boolean"
        deserialize_i32 visit_i32 "integer"
        deserialize_i64 visit_i64 "integer"
        deserialize_u8 visit_u8 "integer"
        deserialize_u16 visit_u16 "integer"
        deserialize_u32 visit_u32 "integer"
        deserialize_u64 visit_u64 "integer"
        deserialize_f64 visit_f64 "number"
    }

    /// Only numbers that may be written as text ask for anything.
    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        self.note("int-or-string");
        v.visit_str("1")
    }

    fn deserialize_string<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        self.note("string");
        v.visit_str("1")
    }

    fn deserialize_str<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        self.deserialize_string(v)
    }

    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        v.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Failed> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        v.visit_seq(SeqDeserializer::new(std::iter::once(self.child("[]"))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failed> {
        v.visit_map(MapDeserializer::new(std::iter::once(("<key>", self.child(".<key>")))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, Failed> {
        v.visit_map(MapDeserializer::new(fields.iter().map(|f| (*f, self.child(&format!(".{f}"))))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, Failed> {
        let mut words = variants.to_vec();
        words.sort_unstable();
        self.note(format!("string enum={words:?}"));
        v.visit_enum(Word(variants[0]))
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Word(&'static str);

impl<'de> de::EnumAccess<'de> for Word {
    type Error = Failed;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failed> {
        Ok((seed.deserialize(IntoDeserializer::<Failed>::into_deserializer(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Word {
    type Error = Failed;
    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Failed> {
        Err(Failed("no variant has contents".to_owned()))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Failed> {
        Err(Failed("no variant has contents".to_owned()))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Failed> {
        Err(Failed("no variant has contents".to_owned()))
    }
}

fn shape_of<T: DeserializeOwned>(root: &str) -> Shape {
    let shape = std::cell::RefCell::default();
    T::deserialize(Probe { path: root.to_owned(), shape: &shape }).unwrap();
    shape.into_inner()
}

/// The reference in the same form. Bounds and patterns are the checks' business, not the types'.
fn flatten(path: String, v: &Value, out: &mut Shape) {
    match v {
        Value::Object(map) => map.iter().for_each(|(k, v)| flatten(format!("{path}.{k}"), v, out)),
        Value::Array(items) => items.iter().for_each(|v| flatten(format!("{path}[]"), v, out)),
        other => {
            let text = other.as_str().unwrap();
            let kind = text.split(' ').next().unwrap();
            let words = text.split_once("enum=").map(|(_, rest)| &rest[..=rest.find(']').unwrap()]);
            let mut words: Option<Vec<Value>> = words.map(|w| serde_json::from_str(w).unwrap());
            let what = match words.as_mut() {
                Some(words) if kind == "string" => {
                    let mut words: Vec<&str> = words.iter().map(|w| w.as_str().unwrap()).collect();
                    words.sort_unstable();
                    format!("string enum={words:?}")
                }
                _ => kind.to_owned(),
            };
            out.insert(path, what);
        }
    }
}

/// Where our types say more, or say it otherwise, and why that reads and writes the same JSON.
fn same(path: &str, ours: &str, reference: &str) -> bool {
    ours == reference
        // AS numbers: upstream's own reader takes text (`65000`, `1.10`) as well as a number.
        || (ours == "int-or-string" && reference == "integer" && (path.contains("ASNumber") || path.contains("asNumber") || path.contains("asPathPrefix") || path.contains("prependASPath")))
        // Kubernetes' own types have no enums in CRDs.
        || (ours.starts_with("string enum") && reference == "string" && path.contains("policyTypes"))
        // Label selector requirements are cut short in the reference.
        || reference == "object"
}

/// Fields that upstream has not, on purpose.
const OURS: [(&str, &str); 1] = [("FelixConfiguration", "spec.establishedFlowEnforcement")];

fn compare<S: DeserializeOwned>(kind: &str) {
    let reference: Value = serde_json::from_str(include_str!("data/spec-fields.json")).unwrap();
    let mut expected = Shape::new();
    flatten("spec".to_owned(), &reference[kind]["spec"], &mut expected);
    let ours = shape_of::<S>("spec");
    let mut wrong = Vec::new();
    for (path, reference) in &expected {
        match ours.get(path) {
            Some(what) if same(path, what, reference) => {}
            None if reference == "object" => {}
            found => wrong.push(format!("{path}: upstream {reference}, ours {found:?}")),
        }
    }
    // The reference is cut short where it says no more than "object".
    let cut: Vec<String> =
        expected.iter().filter(|(_, what)| *what == "object").map(|(path, _)| format!("{path}.")).collect();
    for path in ours.keys() {
        if OURS.contains(&(kind, path))
            || expected.contains_key(path)
            || cut.iter().any(|c| path.starts_with(c))
        {
            continue;
        }
        wrong.push(format!("{path}: upstream has no such field"));
    }
    assert!(wrong.is_empty(), "{kind}:\n{}", wrong.join("\n"));
}

macro_rules! compare {
    ($($test:ident: $module:ident $spec:ident $kind:literal,)*) => {
        $(#[test] fn $test() { compare::<libcalico_api::$module::$spec>($kind); })*
    };
}

compare! {
    bgp_configuration_has_upstreams_fields: bgp_configuration BGPConfigurationSpec "BGPConfiguration",
    bgp_filter_has_upstreams_fields: bgp_filter BGPFilterSpec "BGPFilter",
    bgp_peer_has_upstreams_fields: bgp_peer BGPPeerSpec "BGPPeer",
    block_affinity_has_upstreams_fields: block_affinity BlockAffinitySpec "BlockAffinity",
    calico_node_status_has_upstreams_fields: calico_node_status CalicoNodeStatusSpec "CalicoNodeStatus",
    cluster_information_has_upstreams_fields: cluster_information ClusterInformationSpec "ClusterInformation",
    felix_configuration_has_upstreams_fields: felix_configuration FelixConfigurationSpec "FelixConfiguration",
    global_network_policy_has_upstreams_fields: global_network_policy GlobalNetworkPolicySpec "GlobalNetworkPolicy",
    global_network_set_has_upstreams_fields: global_network_set GlobalNetworkSetSpec "GlobalNetworkSet",
    host_endpoint_has_upstreams_fields: host_endpoint HostEndpointSpec "HostEndpoint",
    ipam_block_has_upstreams_fields: ipam_block IPAMBlockSpec "IPAMBlock",
    ipam_handle_has_upstreams_fields: ipam_handle IPAMHandleSpec "IPAMHandle",
    cluster_network_policy_has_upstreams_fields: cluster_network_policy ClusterNetworkPolicySpec "ClusterNetworkPolicy",
    ipam_configuration_has_upstreams_fields: ipam_configuration IPAMConfigurationSpec "IPAMConfiguration",
    ip_pool_has_upstreams_fields: ip_pool IPPoolSpec "IPPool",
    ip_reservation_has_upstreams_fields: ip_reservation IPReservationSpec "IPReservation",
    kube_controllers_configuration_has_upstreams_fields:
        kube_controllers_configuration KubeControllersConfigurationSpec "KubeControllersConfiguration",
    network_policy_has_upstreams_fields: network_policy NetworkPolicySpec "NetworkPolicy",
    network_set_has_upstreams_fields: network_set NetworkSetSpec "NetworkSet",
    staged_global_network_policy_has_upstreams_fields:
        staged_global_network_policy StagedGlobalNetworkPolicySpec "StagedGlobalNetworkPolicy",
    staged_kubernetes_network_policy_has_upstreams_fields:
        staged_kubernetes_network_policy StagedKubernetesNetworkPolicySpec "StagedKubernetesNetworkPolicy",
    staged_network_policy_has_upstreams_fields: staged_network_policy StagedNetworkPolicySpec "StagedNetworkPolicy",
    tier_has_upstreams_fields: tier TierSpec "Tier",
}

#[test]
fn every_crd_of_the_reference_is_compared() {
    let reference: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("data/spec-fields.json")).unwrap();
    assert_eq!(reference.len(), 23);
    // The whole object is probed too, so that metadata cannot be forgotten.
    let whole = shape_of::<Object<libcalico_api::tier::TierSpec>>("");
    assert!(whole.contains_key(".metadata.<key>") || whole.keys().any(|k| k.starts_with(".metadata")));
}
