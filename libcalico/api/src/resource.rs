//! The set of kinds: names, scope, and one enum that holds an object of any of them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::meta::{API_VERSION, Object, ObjectMeta};
use crate::strict::UnknownOrBadField;
use crate::unknown::{self, Unknown};
use crate::validation::{Checked, Findings, Invalid, check_metadata};

/// JSON that is not an object of its kind.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    #[error("{kind} {name:?}: {path}: {reason}")]
    Field { kind: Kind, name: String, path: String, reason: String },
    #[error("resource type '{0}' is not supported")]
    UnknownKind(String),
}

macro_rules! kinds {
    ($($kind:ident, $module:ident, $plural:literal, $namespaced:literal, [$($short:literal),*];)*) => {
        /// A kind of `projectcalico.org/v3`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// Every kind, by name.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// `IPPool`
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),* }
            }

            /// `ippools`: the word in datastore keys and on the command line.
            #[must_use]
            pub fn plural(self) -> &'static str {
                match self { $(Self::$kind => $plural),* }
            }

            /// True where objects live in a namespace.
            #[must_use]
            pub fn namespaced(self) -> bool {
                match self { $(Self::$kind => $namespaced),* }
            }

            /// Short names as the CRDs have them.
            #[must_use]
            pub fn short_names(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &[$($short),*]),* }
            }
        }

        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[allow(clippy::large_enum_variant)]
        pub enum Resource { $($kind(Box<crate::$module::$kind>)),* }

        impl Resource {
            /// The object's kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),* }
            }

            /// The object's metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(o) => &o.metadata),* }
            }

            /// The object's metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(o) => &mut o.metadata),* }
            }

            /// Fields that the object was read with and this version does not know.
            #[must_use]
            pub fn unknown(&self) -> Option<&Arc<Unknown>> {
                match self { $(Self::$kind(o) => o.unknown.0.as_ref()),* }
            }

            fn unknown_mut(&mut self) -> &mut Option<Arc<Unknown>> {
                match self { $(Self::$kind(o) => &mut o.unknown.0),* }
            }

            /// Lists what is wrong with the object: names, ranges, and rules between its fields.
            pub fn validate(&self) -> Result<(), Vec<Invalid>> {
                let mut e = Findings::default();
                check_metadata(self.metadata(), self.kind().namespaced(), &mut e);
                match self { $(Self::$kind(o) => o.check(&mut e)),* }
                let found = e.into_vec();
                if found.is_empty() { Ok(()) } else { Err(found) }
            }

            /// Fills in what upstream's clients fill in before they write.
            pub fn set_defaults(&mut self) {
                match self { $(Self::$kind(o) => o.set_defaults()),* }
            }

            /// Reads an object and names every field that its kind does not have, and the first whose value has
            /// the wrong type.
            pub fn from_value_strict(
                kind: Kind,
                value: &serde_json::Value,
            ) -> Result<Self, Vec<UnknownOrBadField>> {
                match kind {
                    $(Kind::$kind => {
                        let mut o: crate::$module::$kind = crate::strict::decode(value)?;
                        set_type_meta(kind, &mut o);
                        Ok(Self::$kind(Box::new(o)))
                    }),*
                }
            }

            /// Reads an object of a known kind. Unknown fields are kept aside here; strict reading is the caller's.
            pub fn from_json(kind: Kind, json: &[u8]) -> Result<Self, ResourceError> {
                match kind { $(Kind::$kind => Ok(Self::$kind(Box::new(decode(kind, json)?)))),* }
            }
        }

        $(
            impl From<crate::$module::$kind> for Resource {
                fn from(mut o: crate::$module::$kind) -> Self {
                    set_type_meta(Kind::$kind, &mut o);
                    Self::$kind(Box::new(o))
                }
            }

            impl<'a> TryFrom<&'a Resource> for &'a crate::$module::$kind {
                type Error = ResourceError;
                fn try_from(r: &'a Resource) -> Result<Self, ResourceError> {
                    match r {
                        Resource::$kind(o) => Ok(o),
                        #[allow(unreachable_patterns)]
                        other => Err(ResourceError::Field {
                            kind: other.kind(),
                            name: other.metadata().name.clone(),
                            path: "kind".to_owned(),
                            reason: format!("expected {}", Kind::$kind),
                        }),
                    }
                }
            }
        )*
    };
}

kinds! {
    BGPConfiguration, bgp_configuration, "bgpconfigurations", false, ["bgpconfig", "bgpconfigs"];
    BGPFilter, bgp_filter, "bgpfilters", false, [];
    BGPPeer, bgp_peer, "bgppeers", false, [];
    CalicoNodeStatus, calico_node_status, "caliconodestatuses", false, [];
    ClusterInformation, cluster_information, "clusterinformations", false, ["clusterinfo", "clusterinfos"];
    FelixConfiguration, felix_configuration, "felixconfigurations", false, ["felixconfig", "felixconfigs"];
    GlobalNetworkPolicy, global_network_policy, "globalnetworkpolicies", false, ["gnp", "cgnp"];
    GlobalNetworkSet, global_network_set, "globalnetworksets", false, ["gns"];
    HostEndpoint, host_endpoint, "hostendpoints", false, ["hep", "heps"];
    IPAMConfiguration, ipam_configuration, "ipamconfigurations", false, ["ipamconfig", "ipamconfigs"];
    IPPool, ip_pool, "ippools", false, [];
    IPReservation, ip_reservation, "ipreservations", false, [];
    KubeControllersConfiguration, kube_controllers_configuration, "kubecontrollersconfigurations", false, ["kcc", "kccs"];
    NetworkPolicy, network_policy, "networkpolicies", true, ["cnp", "caliconetworkpolicy"];
    NetworkSet, network_set, "networksets", true, [];
    Node, node, "nodes", false, [];
    Profile, profile, "profiles", false, [];
    StagedGlobalNetworkPolicy, staged_global_network_policy, "stagedglobalnetworkpolicies", false, ["sgnp"];
    StagedKubernetesNetworkPolicy, staged_kubernetes_network_policy, "stagedkubernetesnetworkpolicies", true, ["sknp"];
    StagedNetworkPolicy, staged_network_policy, "stagednetworkpolicies", true, ["scnp", "snp"];
    Tier, tier, "tiers", false, [];
    WorkloadEndpoint, workload_endpoint, "workloadendpoints", true, ["wep", "weps"];
}

impl Kind {
    /// Finds a kind by its name, plural or short name, whatever the case: `ippool`, `IPPools`, `gnp`.
    pub fn find(name: &str) -> Result<Self, ResourceError> {
        let n = name.to_ascii_lowercase();
        Self::ALL
            .iter()
            .copied()
            .find(|k| {
                n == k.plural() || n == k.name().to_ascii_lowercase() || k.short_names().contains(&n.as_str())
            })
            .ok_or_else(|| ResourceError::UnknownKind(name.to_owned()))
    }

    /// Finds a kind by the plural in a datastore key.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.plural() == plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Resource {
    /// The JSON that is stored: type first, no resourceVersion, and what a newer version wrote into the object.
    #[must_use]
    pub fn to_stored_json(&self) -> Vec<u8> {
        let mut copy = self.clone();
        copy.metadata_mut().resource_version.clear();
        if copy.unknown().is_none() {
            return serde_json::to_vec(&copy).unwrap_or_default();
        }
        serde_json::to_vec(&copy.to_value()).unwrap_or_default()
    }

    /// The object as JSON, with what a newer version wrote into it.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(unknown) = self.unknown() {
            let raw = unknown.raw().to_string();
            let known = Self::from_json(self.kind(), raw.as_bytes()).and_then(|r| {
                serde_json::to_value(&r).map_err(|_| ResourceError::UnknownKind(self.kind().to_string()))
            });
            let known = known.unwrap_or_default();
            for path in unknown.put_back(&known, &mut value) {
                let name = &self.metadata().name;
                tracing::warn!(kind = %self.kind(), name, path, "fields of a newer version are lost with what they belonged to");
            }
        }
        value
    }

    /// Takes over the unknown fields of the stored object that this one replaces, unless it came with its own.
    pub fn keep_unknown(&mut self, stored: &Self) {
        if self.unknown().is_none() {
            *self.unknown_mut() = stored.unknown().cloned();
        }
    }
}

fn set_type_meta<S, T>(kind: Kind, o: &mut Object<S, T>) {
    kind.name().clone_into(&mut o.kind);
    API_VERSION.clone_into(&mut o.api_version);
}

fn decode<S, T>(kind: Kind, json: &[u8]) -> Result<Object<S, T>, ResourceError>
where
    Object<S, T>: for<'de> serde::Deserialize<'de>,
{
    let (mut object, unknown): (Object<S, T>, _) = unknown::decode(json)
        .map_err(|e| ResourceError::Field { kind, name: name_of(json), path: e.path, reason: e.reason })?;
    object.unknown = unknown;
    set_type_meta(kind, &mut object);
    Ok(object)
}

/// Best effort, for the error alone.
fn name_of(json: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(json)
        .ok()
        .and_then(|v| v.pointer("/metadata/name").and_then(|n| n.as_str().map(str::to_owned)))
        .unwrap_or_default()
}
