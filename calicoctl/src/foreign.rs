//! Objects of other groups of the Kubernetes API that administrators hand to calicoctl: NetworkPolicies of Kubernetes,
//! ClusterNetworkPolicies, the operator's Installation.
//!
//! In comes a document, read as strictly as Calico's own kinds; out goes the object for the API server's path, or, on
//! etcd, where no API server is, Calico's objects that say the same:
//!
//! | document | on Kubernetes | on etcd |
//! |---|---|---|
//! | `networking.k8s.io/v1` NetworkPolicy | itself | NetworkPolicy `knp.default.NAME` |
//! | `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy | itself | refused: nothing there reads it |
//! | `operator.tigera.io/v1` Installation | itself, for the operator | its IPPools, its MTU in FelixConfiguration |
//!
//! Pure. What is left out: talking to either store (`command::write`).

use libcalico_api::felix_configuration::FelixConfiguration;
use libcalico_api::ip_pool::{AssignmentMode, EncapMode, IPPool};
use libcalico_api::operator::installation::{self, Installation, Pool};
use libcalico_api::{Kind, Resource, cluster_network_policy, operator, strict};
use libcalico_model::kubernetes;
use libcalico_net::cidr::Family;
use serde_json::Value;

/// A kind of another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKind {
    NetworkPolicy,
    ClusterNetworkPolicy,
    Installation,
}

impl ForeignKind {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::NetworkPolicy, Self::ClusterNetworkPolicy, Self::Installation];

    /// `NetworkPolicy`
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::Installation => "Installation",
        }
    }

    /// `networking.k8s.io/v1`
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => cluster_network_policy::API_VERSION,
            Self::Installation => operator::API_VERSION,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networkpolicies",
            Self::ClusterNetworkPolicy => "clusternetworkpolicies",
            Self::Installation => "installations",
        }
    }

    /// True where objects live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        self == Self::NetworkPolicy
    }

    /// The kind of a document.
    #[must_use]
    pub fn find(kind: &str, api_version: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == kind && k.api_version() == api_version)
    }

    /// A kind by a word of the command line. Words that Calico's own kinds have are those'.
    #[must_use]
    pub fn by_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let own = |k: &Self| *k != Self::NetworkPolicy;
        Self::ALL
            .into_iter()
            .filter(own)
            .find(|k| word == k.plural() || word == k.name().to_ascii_lowercase())
    }

    /// How kubectl calls it beyond doubt.
    #[must_use]
    pub fn for_kubectl(self) -> String {
        let group = self.api_version().split('/').next().unwrap_or_default();
        format!("{}.{group}", self.plural())
    }
}

/// An object of another group.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub kind: ForeignKind,
    pub namespace: String,
    pub name: String,
    /// As it was written, with its namespace.
    pub object: Value,
}

impl Foreign {
    /// Reads a document of a kind. Every reason names the field and what is allowed there. Without `complete` the name
    /// alone counts.
    pub fn read(
        kind: ForeignKind,
        value: &Value,
        namespace: &str,
        complete: bool,
    ) -> Result<Self, Vec<String>> {
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut object = value.clone();
        let mut foreign =
            Self { kind, namespace: String::new(), name: text("/metadata/name"), object: Value::Null };
        if kind.namespaced() {
            foreign.namespace = own_namespace(&text("/metadata/namespace"), namespace)?;
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.insert("namespace".to_owned(), foreign.namespace.clone().into());
            }
        }
        foreign.object = object;
        if foreign.name.is_empty() {
            return Err(vec!["metadata.name: is needed".to_owned()]);
        }
        if complete {
            foreign.check()?;
        }
        Ok(foreign)
    }

    fn check(&self) -> Result<(), Vec<String>> {
        match self.kind {
            ForeignKind::NetworkPolicy => self.policy().map(|_| ()),
            ForeignKind::ClusterNetworkPolicy => {
                let read = strict::decode::<cluster_network_policy::ClusterNetworkPolicy>(&self.object);
                read.map(|_| ()).map_err(|found| reasons_of(&found))
            }
            ForeignKind::Installation => {
                let read = self.installation()?;
                installation::validate(&read).map_err(|found| reasons_of(&found))
            }
        }
    }

    /// Path of the object, or of its collection without a name.
    #[must_use]
    pub fn path(&self, with_name: bool) -> String {
        let within =
            if self.kind.namespaced() { format!("/namespaces/{}", self.namespace) } else { String::new() };
        let name = if with_name { format!("/{}", self.name) } else { String::new() };
        format!("/apis/{}{within}/{}{name}", self.kind.api_version(), self.kind.plural())
    }

    /// `NetworkPolicy(production/web)`
    #[must_use]
    pub fn label(&self) -> String {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        format!("{}({}{slash}{})", self.kind.name(), self.namespace, self.name)
    }

    /// Calico's objects that say the same, to be stored on etcd.
    pub fn as_calico(&self) -> Result<Vec<Resource>, String> {
        let join = |reasons: Vec<String>| reasons.join("; ");
        match self.kind {
            ForeignKind::NetworkPolicy => Ok(vec![self.policy().map_err(join)?]),
            ForeignKind::ClusterNetworkPolicy => Err(format!(
                "{}: a ClusterNetworkPolicy belongs to the Kubernetes API and this datastore is etcd; write a GlobalNetworkPolicy in the tier kube-admin or kube-baseline instead",
                self.label()
            )),
            ForeignKind::Installation => Ok(of_installation(&self.installation().map_err(join)?)),
        }
    }

    /// Fields that nothing acts on where no operator runs.
    #[must_use]
    pub fn without_effect_on_etcd(&self) -> Vec<String> {
        if self.kind != ForeignKind::Installation {
            return Vec::new();
        }
        let fields = |pointer: &str, prefix: &str, done: &[&str]| -> Vec<String> {
            let map = self.object.pointer(pointer).and_then(Value::as_object);
            let names = map.into_iter().flat_map(|m| m.keys()).filter(|k| !done.contains(&k.as_str()));
            names.map(|k| format!("{prefix}.{k}")).collect()
        };
        let mut found = fields("/spec", "spec", &["calicoNetwork"]);
        found.extend(fields("/spec/calicoNetwork", "spec.calicoNetwork", &["ipPools", "mtu"]));
        found
    }

    fn installation(&self) -> Result<Installation, Vec<String>> {
        strict::decode(&self.object).map_err(|found| reasons_of(&found))
    }

    /// The Calico policy that a NetworkPolicy stands for, `knp.default.NAME`. Read strictly: a field that Kubernetes
    /// does not have, or a rule that cannot be converted, refuses all of it.
    fn policy(&self) -> Result<Resource, Vec<String>> {
        // A staged policy has Kubernetes' fields, and one more.
        let staged = Resource::from_value_strict(Kind::StagedKubernetesNetworkPolicy, &self.object);
        let mut reasons: Vec<String> = match &staged {
            Err(found) => found.iter().map(|f| f.to_string().replace(", stagedAction", "")).collect(),
            Ok(_) => Vec::new(),
        };
        if self.object.pointer("/spec/stagedAction").is_some() {
            reasons.push("spec.stagedAction: unknown field".to_owned());
        }
        let Ok(staged) = staged else { return Err(reasons) };
        let json = serde_json::to_vec(&staged).map_err(|e| vec![e.to_string()])?;
        let converted = kubernetes::network_policy::convert(&json).map_err(|e| vec![e.to_string()])?;
        reasons.extend(converted.left_out);
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let policy: Resource = converted.policy.into();
        let mut complete = policy.clone();
        complete.set_defaults();
        complete.validate().map_err(|found| reasons_of(&found))?;
        Ok(policy)
    }
}

/// Several reasons as texts.
#[must_use]
pub fn reasons_of<T: ToString>(found: &[T]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn own_namespace(own: &str, given: &str) -> Result<String, Vec<String>> {
    match (own, given) {
        ("", "") => Ok("default".to_owned()),
        ("", given) => Ok(given.to_owned()),
        (own, given) if given.is_empty() || own == given => Ok(own.to_owned()),
        (own, given) => Err(vec![mismatch(own, given)]),
    }
}

/// Upstream's words for a document of another namespace than the command line's.
#[must_use]
pub fn mismatch(own: &str, given: &str) -> String {
    format!("resource namespace '{own}' does not match client namespace '{given}'")
}

/// An installation's pools, and its MTU as felix reads it.
fn of_installation(i: &Installation) -> Vec<Resource> {
    let Some(network) = &i.spec.calico_network else { return Vec::new() };
    let mut objects: Vec<Resource> = network.ip_pools.iter().filter_map(|p| Some(pool(p)?.into())).collect();
    if let Some(mtu) = network.mtu.filter(|m| *m > 0) {
        let mut felix = FelixConfiguration::default();
        "default".clone_into(&mut felix.metadata.name);
        let spec = &mut felix.spec;
        spec.ipip_mtu = Some(mtu);
        spec.vxlan_mtu = Some(mtu);
        spec.vxlan_mtuv6 = Some(mtu);
        spec.wireguard_mtu = Some(mtu);
        spec.wireguard_mtuv6 = Some(mtu);
        objects.push(felix.into());
    }
    objects
}

/// A pool with the operator's defaults: IPIP for IPv4, no encapsulation for IPv6, masquerade.
fn pool(p: &Pool) -> Option<IPPool> {
    let family = p.family()?;
    let cidr = p.cidr.as_deref()?;
    let mut pool = IPPool::default();
    pool.metadata.name = p.name.clone().unwrap_or_else(|| {
        let version = if family == Family::V4 { "ipv4" } else { "ipv6" };
        format!("default-{version}-ippool")
    });
    let fallback = if family == Family::V4 { "IPIP" } else { "None" };
    let (ipip, vxlan) = match p.encapsulation.as_deref().unwrap_or(fallback) {
        "IPIP" => (EncapMode::Always, EncapMode::Never),
        "IPIPCrossSubnet" => (EncapMode::CrossSubnet, EncapMode::Never),
        "VXLAN" => (EncapMode::Never, EncapMode::Always),
        "VXLANCrossSubnet" => (EncapMode::Never, EncapMode::CrossSubnet),
        _ => (EncapMode::Never, EncapMode::Never),
    };
    let spec = &mut pool.spec;
    spec.cidr = Some(cidr.to_owned());
    spec.ipip_mode = Some(ipip);
    spec.vxlan_mode = Some(vxlan);
    spec.nat_outgoing = Some(p.nat_outgoing.as_deref() != Some("Disabled"));
    spec.node_selector = p.node_selector.clone();
    spec.block_size = p.block_size;
    spec.disable_bgp_export = p.disable_bgp_export;
    spec.disabled = p.disable_new_allocations;
    let manual = p.assignment_mode.as_deref() == Some("Manual");
    spec.assignment_mode = manual.then_some(AssignmentMode::Manual);
    let uses = p.allowed_uses.iter().filter_map(|u| serde_json::from_value(u.as_str().into()).ok());
    spec.allowed_uses = uses.collect();
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Foreign, Vec<String>> {
        let value = crate::resource_file::parse_value(text).unwrap();
        let kind = value["kind"].as_str().unwrap();
        let kind = ForeignKind::find(kind, value["apiVersion"].as_str().unwrap()).unwrap();
        Foreign::read(kind, &value, "", true)
    }

    #[test]
    fn an_installation_is_its_pools_and_its_mtu() {
        let i = read(include_str!("../tests/data/resources/installation.yaml")).unwrap();
        let objects = i.as_calico().unwrap();
        let json = serde_json::to_value(&objects).unwrap();
        assert_eq!(json[0]["metadata"]["name"], "default-ipv4-ippool");
        assert_eq!(
            json[0]["spec"],
            serde_json::json!({"cidr": "192.168.0.0/16", "vxlanMode": "CrossSubnet", "ipipMode": "Never",
                "natOutgoing": true, "blockSize": 26, "nodeSelector": "all()"})
        );
        assert_eq!(json[1]["spec"]["vxlanMTU"], 1440);
        assert_eq!(i.without_effect_on_etcd(), [""; 0]);
        assert_eq!(i.path(true), "/apis/operator.tigera.io/v1/installations/default");
    }

    #[test]
    fn a_network_policy_is_written_where_it_belongs_to() {
        let text = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podSelector: {}}}";
        let p = read(text).unwrap();
        assert_eq!(p.path(false), "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies");
        assert_eq!(p.object["metadata"]["namespace"], "default");
        assert_eq!(p.as_calico().unwrap()[0].metadata().name, "knp.default.p");
        assert_eq!(p.label(), "NetworkPolicy(default/p)");
        let e = read(&text.replace("podSelector: {}", "podSelector: {}, stagedAction: Set")).unwrap_err();
        assert_eq!(e, ["spec.stagedAction: unknown field"]);
    }

    #[test]
    fn unknown_fields_are_named() {
        let e = read(
            "{apiVersion: operator.tigera.io/v1, kind: Installation, metadata: {name: default}, spec: {calicoNetwork: {mtuu: 3}}}",
        );
        let e = e.unwrap_err().join("; ");
        assert!(e.starts_with("spec.calicoNetwork.mtuu: unknown field; allowed: bgp, "), "{e}");
    }
}
