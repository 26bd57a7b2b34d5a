//! What every object has: kind, version, metadata, spec and, where the kind has one, status.
//!
//! The JSON is Kubernetes' own; field order is upstream's so that bytes written to etcd read the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::unknown::Kept;

/// API version of every Calico kind.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// Kubernetes' ObjectMeta, as far as Calico's clients use it. Other fields are kept in `other`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Opaque; filled on read, compared on write, never stored.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// RFC 3339, seconds, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// ownerReferences, finalizers, managedFields and what later versions add: carried, not read.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// An API object. `S` is the spec, `T` the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Object<S, T = NoStatus> {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    pub metadata: ObjectMeta,
    #[serde(bound(deserialize = "S: Default + Deserialize<'de>"), deserialize_with = "null_default")]
    pub spec: S,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<T>,
    /// Fields that this version does not know, as they were read: written back, never shown.
    #[serde(skip)]
    pub unknown: Kept,
}

/// Status of a kind that has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NoStatus {}

impl<S, T> Object<S, T> {
    /// The object's name (`metadata.name`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The object's namespace, empty for cluster-scoped kinds.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
}
