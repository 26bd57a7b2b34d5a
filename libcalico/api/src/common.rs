//! Small types that several kinds share.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names;
use crate::num_or_string::Protocol;
use crate::validation::{Findings, Path};

/// Go writes an empty slice, map or struct as `null`; read it as empty.
pub fn null_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Go writes a floating-point number without a fraction as an integer: `500`, not `500.0`.
pub(crate) fn go_float<S: Serializer>(n: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    /// Whole numbers up to here are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match *n {
        None => s.serialize_none(),
        #[allow(clippy::cast_possible_truncation)] // within EXACT
        Some(n) if n.fract() == 0.0 && n.abs() <= EXACT => s.serialize_i64(n as i64),
        Some(n) => s.serialize_f64(n),
    }
}

/// `Enabled` or `Disabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EnabledDisabled {
    Enabled,
    Disabled,
}

/// A Kubernetes label selector (meta/v1 LabelSelector).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must have these values.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that must all hold.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// The label's name.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values to compare with; none for `Exists` and `DoesNotExist`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// meta/v1 Condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What the condition is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds: `True`, `False` or `Unknown`.
    pub status: String,
    /// The generation of the object that the condition was found for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, in a sentence for people.
    pub message: String,
}

/// A named port of a host endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndpointPort {
    /// The name that policy uses.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number it stands for.
    pub port: u16,
}

/// Which routes of the cluster a component programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProgramClusterRoutes {
    Enabled,
    Disabled,
    EnabledIPIPOnly,
    EnabledNoEncapOnly,
}

/// Where the password of BGP sessions (TCP MD5, RFC 2385) is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPassword {
    /// A key of a Secret in the node agent's own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// One key of a Kubernetes Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key whose value is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// True: absence of the Secret or the key is no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A named port of an endpoint needs a name, a protocol with ports, and a number.
pub(crate) fn check_endpoint_port(
    path: &Path<'_>,
    name: &str,
    protocol: &Protocol,
    port: u16,
    e: &mut Findings,
) {
    e.require(
        names::is_port_name(name),
        &path.field("name"),
        name,
        "must be 1 to 128 letters, digits, '-', '_' and '.', and not a number",
    );
    e.require(protocol.supports_ports(), &path.field("protocol"), protocol, "must be TCP, UDP or SCTP");
    e.require(port > 0, &path.field("port"), port, "must be between 1 and 65535");
}

impl LabelSelector {
    /// Lists what is wrong with the selector.
    pub(crate) fn check(&self, path: &Path<'_>, e: &mut Findings) {
        let labels = path.field("matchLabels");
        for (k, v) in &self.match_labels {
            let ok = names::is_label_key(k) && names::is_label_value(v);
            e.require(ok, &labels.field(k), v, "is not a label's name and value");
        }
        let expressions = path.field("matchExpressions");
        for (i, x) in self.match_expressions.iter().enumerate() {
            let at = expressions.index(i);
            e.require(names::is_label_key(&x.key), &at.field("key"), &x.key, "is not a label's name");
            let values = at.field("values");
            match x.operator.as_str() {
                "In" | "NotIn" => e.require(!x.values.is_empty(), &values, "", "In and NotIn need values"),
                "Exists" | "DoesNotExist" => {
                    e.require(x.values.is_empty(), &values, "", "Exists and DoesNotExist have no values");
                }
                other => {
                    e.add(&at.field("operator"), other, "must be In, NotIn, Exists or DoesNotExist");
                }
            }
            for (i, v) in x.values.iter().enumerate() {
                e.require(names::is_label_value(v), &values.index(i), v, "is not a label's value");
            }
        }
    }
}
