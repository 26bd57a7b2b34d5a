//! Addresses of virtual machines: they belong to the machine, whichever pod it runs in.
//!
//! In come the handle of a machine and which of its pods came, went or took over, out go the owners that its addresses
//! name. A machine's handle ([`vm_handle`]) outlives its pods; each address names the pod that has it (active) and, while
//! the machine moves, the one that will (alternate). Names and meaning are upstream's. Left out: when a machine's
//! addresses are freed, which is the caller's decision ([`IpamClient::release_by_handle`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libcalico_datastore::{DatastoreError, Found, Read, Write};
use libcalico_model::ipam::{AllocationAttribute, AllocationBlock};
use libcalico_model::{Key, KeyValue, Value};
use sha2::{Digest, Sha256};

use crate::block;
use crate::client::{IpamClient, Retries};
use crate::error::IpamError;

/// Longest handle of a machine.
const MAX_HANDLE: usize = 128;
/// Before the shortened name of a machine.
const SHORTENED: char = '_';
/// What comes behind the network's name in a machine's handle.
const INFIX: &str = ".vmi.";

/// The handle of a machine's addresses on a network: `NETWORK.vmi.NAMESPACE.MACHINE`, hashed where it is too long.
#[must_use]
pub fn vm_handle(network: &str, namespace: &str, machine: &str) -> String {
    let prefix = format!("{network}{INFIX}");
    let suffix = format!("{namespace}.{machine}");
    if prefix.len() + suffix.len() <= MAX_HANDLE {
        return prefix + &suffix;
    }
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(suffix.as_bytes()));
    let left = MAX_HANDLE.saturating_sub(prefix.len() + 1);
    let hash: String = hash.chars().take(left).collect();
    format!("{prefix}{SHORTENED}{hash}")
}

/// True for a handle of [`vm_handle`] on the network.
#[must_use]
pub fn is_vm_handle(network: &str, handle: &str) -> bool {
    handle.strip_prefix(network).is_some_and(|rest| rest.starts_with(INFIX))
}

/// A pod, as owners name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub namespace: String,
    pub pod: String,
}

impl Tenant {
    fn is(&self, attributes: &BTreeMap<String, String>) -> bool {
        let has = |key: &str, value: &String| attributes.get(key) == Some(value);
        has("namespace", &self.namespace) && has("pod", &self.pod)
    }
}

/// What happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerChange {
    /// A pod with these attributes runs it.
    Active(BTreeMap<String, String>),
    /// It is moving to a pod with these attributes.
    Alternate(BTreeMap<String, String>),
    /// A pod is gone.
    Gone(Tenant),
    /// It has moved: the alternate owner, which must be this one, is the active one now. Done already is no error.
    Promote(Tenant),
}

/// An address of a machine after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmAddress {
    pub addr: IpAddr,
    /// Some pod is named as its owner.
    pub owned: bool,
}

impl OwnerChange {
    fn apply(&self, a: &mut AllocationAttribute) -> Result<(), String> {
        match self {
            Self::Active(attributes) => a.active_owner_attrs.clone_from(attributes),
            Self::Alternate(attributes) => a.alternate_owner_attrs.clone_from(attributes),
            Self::Gone(t) => {
                for owner in [&mut a.active_owner_attrs, &mut a.alternate_owner_attrs] {
                    if t.is(owner) {
                        owner.clear();
                    }
                }
            }
            Self::Promote(t) if t.is(&a.active_owner_attrs) => {}
            Self::Promote(t) if t.is(&a.alternate_owner_attrs) => {
                a.active_owner_attrs = std::mem::take(&mut a.alternate_owner_attrs);
            }
            Self::Promote(t) => return Err(format!("{}/{} is not its next owner", t.namespace, t.pod)),
        }
        Ok(())
    }
}

/// Changes the owners of every address that the handle has of a block. True where anything changed.
pub fn change_owners(b: &mut AllocationBlock, handle: &str, change: &OwnerChange) -> Result<bool, IpamError> {
    let mut changed = false;
    for addr in block::addresses_of(b, handle) {
        let Some(attribute) = block::attribute_of(b, addr) else { continue };
        let mut next = attribute.clone();
        change.apply(&mut next).map_err(|reason| IpamError::NotTenant { ip: addr, reason })?;
        if next != *attribute {
            block::rewrite(b, addr, &next);
            changed = true;
        }
    }
    Ok(changed)
}

impl IpamClient {
    /// Writes who owns the addresses of a machine's handle. One write for each block; none where nothing changes. A
    /// handle without addresses gives none.
    pub async fn set_owners(&self, handle: &str, change: &OwnerChange) -> Result<Vec<VmAddress>, IpamError> {
        let key = Key::Handle(handle.to_owned());
        let mut retries = Retries::default();
        loop {
            let found = self.store.read_many(&[Read::Key(key.clone())]).await?;
            let cidrs = match found.into_iter().next() {
                Some(Found::Key(Some(KeyValue { value: Value::Handle(h), .. }))) => {
                    h.block.keys().filter_map(|c| c.parse().ok()).collect()
                }
                _ => Vec::new(),
            };
            let (mut writes, mut all) = (Vec::new(), Vec::new());
            for (cidr, b) in self.blocks(&cidrs).await? {
                block::check(&b.value).map_err(|reason| IpamError::MalformedBlock { block: cidr, reason })?;
                let mut next = b.value;
                if change_owners(&mut next, handle, change)? {
                    block::written(&mut next);
                    let value = Value::Block(Box::new(next.clone()));
                    writes.push(Write::Update(KeyValue {
                        key: Key::Block(cidr),
                        value,
                        revision: b.revision,
                    }));
                }
                all.extend(block::addresses_of(&next, handle).into_iter().map(|addr| {
                    let empty = |a: &AllocationAttribute| {
                        a.active_owner_attrs.is_empty() && a.alternate_owner_attrs.is_empty()
                    };
                    VmAddress { addr, owned: block::attribute_of(&next, addr).is_some_and(|a| !empty(a)) }
                }));
            }
            match self.write(writes).await {
                Ok(()) => return Ok(all),
                Err(e @ (DatastoreError::Conflict(_) | DatastoreError::NotFound(_))) => {
                    retries.after_release(e, &key).await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Moment;

    fn attributes(pod: &str) -> BTreeMap<String, String> {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        BTreeMap::from([pair("namespace", "ns"), pair("pod", pod), pair("node", "n")])
    }

    fn tenant(pod: &str) -> Tenant {
        Tenant { namespace: "ns".to_owned(), pod: pod.to_owned() }
    }

    #[test]
    fn a_handle_names_network_namespace_and_machine_and_is_never_too_long() {
        assert_eq!(vm_handle("k8s-pod-network", "default", "vm1"), "k8s-pod-network.vmi.default.vm1");
        let long = vm_handle("net", "ns", &"x".repeat(200));
        assert!(long.starts_with("net.vmi._") && long.len() <= MAX_HANDLE, "{long}");
        assert_ne!(long, vm_handle("net", "ns", &"y".repeat(200)));
        assert!(
            is_vm_handle("net", &long) && !is_vm_handle("net", "net.0123abc") && !is_vm_handle("ne", &long)
        );
    }

    #[test]
    fn a_machine_moves_from_pod_to_pod_and_keeps_its_address() {
        let mut b = block::new_block("10.0.0.0/30".parse().unwrap(), None, Moment(1));
        let attribute = AllocationAttribute {
            handle_id: Some("vm".to_owned()),
            active_owner_attrs: attributes("a"),
            ..Default::default()
        };
        block::assign_next(&mut b, 2, &attribute, &[]);
        let mut step = |change: OwnerChange| {
            let changed = change_owners(&mut b, "vm", &change).map_err(|e| e.to_string());
            block::check(&b).unwrap();
            assert_eq!(b.attributes.len(), 1, "both addresses share it");
            let owner = |m: &BTreeMap<String, String>| m.get("pod").cloned().unwrap_or_default();
            let a = &b.attributes[0];
            changed.map(|c| (c, owner(&a.active_owner_attrs), owner(&a.alternate_owner_attrs)))
        };
        let is = |c, a: &str, b: &str| Ok((c, a.to_owned(), b.to_owned()));
        assert!(step(OwnerChange::Promote(tenant("b"))).unwrap_err().contains("ns/b"));
        assert_eq!(step(OwnerChange::Alternate(attributes("b"))), is(true, "a", "b"));
        assert_eq!(step(OwnerChange::Gone(tenant("a"))), is(true, "", "b"));
        assert_eq!(step(OwnerChange::Promote(tenant("b"))), is(true, "b", ""));
        assert_eq!(step(OwnerChange::Promote(tenant("b"))), is(false, "b", ""));
        assert_eq!(step(OwnerChange::Gone(tenant("x"))), is(false, "b", ""));
        assert_eq!(step(OwnerChange::Gone(tenant("b"))), is(true, "", ""));
        assert_eq!(step(OwnerChange::Active(attributes("c"))), is(true, "c", ""));
    }
}
