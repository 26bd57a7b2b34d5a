//! `IPAMHandle` of `projectcalico.org/v3`: how many addresses of which blocks one owner holds.
//!
//! Written by IPAM where the datastore is the Kubernetes API. What is left out: the counting (`libcalico-ipam`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};

/// The whole object.
pub type IPAMHandle = Object<IPAMHandleSpec, NoStatus>;

/// An owner's addresses, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPAMHandleSpec {
    /// The owner's name for itself, as given when it took its addresses. Its case is kept here, not in the object's
    /// name.
    #[serde(rename = "handleID")]
    pub handle_id: String,
    /// Number of addresses by the range of their block.
    #[serde(deserialize_with = "null_default")]
    pub block: BTreeMap<String, i64>,
    /// True once the handle is given up and about to be removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = crate::crd::Table {
    columns: &[("ID", "string", ".spec.handleID")],
    status: false,
    limits: &[&[("spec", &[crate::crd::Set::Required(&["block", "handleID"])])]],
};
