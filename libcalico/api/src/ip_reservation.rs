//! `IPReservation` of `projectcalico.org/v3`: addresses that IPAM leaves alone.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type IPReservation = Object<IPReservationSpec, NoStatus>;

/// The addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPReservationSpec {
    /// Networks and addresses that are never given out automatically.
    #[serde(
        rename = "reservedCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub reserved_cidrs: Vec<String>,
}

impl Checked for IPReservation {
    fn check(&self, e: &mut Findings) {
        e.nets(&Path::root("spec").field("reservedCIDRs"), &self.spec.reserved_cidrs);
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Format, MaxLength};
    crate::crd::Table {
        columns: &[],
        status: false,
        limits: &[&[("spec.reservedCIDRs[]", &[Format("cidr"), MaxLength(43)])]],
    }
};
