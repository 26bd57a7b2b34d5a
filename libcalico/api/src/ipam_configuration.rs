//! `IPAMConfiguration` of `projectcalico.org/v3`: how IPAM gives out addresses. One object, `default`.

use serde::{Deserialize, Serialize};

use crate::common::EnabledDisabled;
use crate::meta::{NoStatus, Object};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type IPAMConfiguration = Object<IPAMConfigurationSpec, NoStatus>;

/// Rules for blocks and addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPAMConfigurationSpec {
    /// Nodes take new blocks when theirs are full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_allocate_blocks: Option<bool>,
    /// Seconds that a released address rests before it is given out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<i32>,
    /// Virtual machines keep their address over restarts.
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<EnabledDisabled>,
    /// Most blocks a node may own, 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<i32>,
    /// Nodes never borrow single addresses from others' blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_affinity: Option<bool>,
}

impl Checked for IPAMConfiguration {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let name = &self.metadata.name;
        e.require(name == "default", &Path::root("metadata").field("name"), name, "the only name is default");
        e.range_opt(&spec.field("maxBlocksPerHost"), self.spec.max_blocks_per_host, 0, 1_000_000);
        e.range_opt(&spec.field("ipCooldownSeconds"), self.spec.ip_cooldown_seconds, 0, 1200);
    }

    fn set_defaults(&mut self) {
        self.spec.strict_affinity.get_or_insert(false);
        self.spec.auto_allocate_blocks.get_or_insert(true);
        // Zero is "no limit" and "no cool-down"; upstream leaves it out.
        self.spec.max_blocks_per_host = self.spec.max_blocks_per_host.filter(|n| *n != 0);
        self.spec.ip_cooldown_seconds = self.spec.ip_cooldown_seconds.filter(|n| *n != 0);
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Max, Min, Rule};
    crate::crd::Table {
        columns: &[
            ("StrictAffinity", "boolean", ".spec.strictAffinity"),
            ("MaxBlocksPerHost", "integer", ".spec.maxBlocksPerHost"),
            ("AutoAllocateBlocks", "boolean", ".spec.autoAllocateBlocks"),
        ],
        status: false,
        limits: &[&[
            ("", &[Rule("self.metadata.name == 'default'", "metadata.name: the only name is default")]),
            ("spec.autoAllocateBlocks", &[Default("true")]),
            ("spec.strictAffinity", &[Default("false")]),
            ("spec.maxBlocksPerHost", &[Min(0), Max(1_000_000), Default("0")]),
            ("spec.ipCooldownSeconds", &[Min(0), Max(1200)]),
        ]],
    }
};
