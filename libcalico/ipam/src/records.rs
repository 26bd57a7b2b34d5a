//! Reading what [`crate::check`] compares.
//!
//! In comes a datastore, out go its IPAM records with what uses addresses, and findings that hold. On etcd a reading is of
//! one revision. On the Kubernetes API it is of several, and while pods come and go anywhere a pod has its address a moment
//! before it says so: what does not fit is looked at again ([`settled`]) before anybody is told.

use std::net::IpAddr;
use std::time::Duration;

use libcalico_api::node::Node;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, Found, Read, Scope};
use libcalico_model::{Key, Value};
use libcalico_net::cidr::parse_network_or_address;

use crate::check::{Findings, Records, check};
use crate::error::IpamError;
use crate::pool::Pool;

/// Readings until what does not fit is believed.
const LOOKS: usize = 3;
/// Time between two of them: longer than a pod's ADD or DEL takes between its writes.
const BETWEEN: Duration = Duration::from_secs(1);

impl Records {
    /// Everything in a datastore, in one round trip.
    ///
    /// # Errors
    /// The datastore's, or a node or workload with an address that is none.
    pub async fn read(store: &dyn Datastore) -> Result<Self, IpamError> {
        let scopes = [
            Scope::Blocks,
            Scope::Handles,
            Scope::BlockAffinities { host: None },
            Scope::kind(Kind::IPPool),
            Scope::kind(Kind::Node),
            Scope::kind(Kind::WorkloadEndpoint),
        ];
        let mut records = Self::default();
        for found in store.read_many(&scopes.map(Read::Scope)).await? {
            let Found::Scope(listing) = found else { continue };
            for kv in listing.items {
                match (kv.key, kv.value) {
                    (_, Value::Block(b)) => records.blocks.push(*b),
                    (Key::Handle(id), Value::Handle(h)) => {
                        records.handles.insert(id, (h, kv.revision));
                    }
                    (Key::BlockAffinity { host, cidr, .. }, Value::BlockAffinity(a)) => {
                        records.claims.push((cidr, host, a.state));
                    }
                    (_, Value::Resource(r)) => records.add(&r)?,
                    _ => {}
                }
            }
        }
        Ok(records)
    }

    /// Adds a pool, a node with its tunnels' addresses, or a workload with its own.
    ///
    /// # Errors
    /// An address that is none.
    pub fn add(&mut self, resource: &Resource) -> Result<(), IpamError> {
        match resource {
            Resource::IPPool(p) => self.pools.extend(Pool::read(p)),
            Resource::Node(n) => {
                let owner = format!("Node({})", n.metadata.name);
                for text in tunnel_addresses(n) {
                    self.in_use.push((address(text, &owner)?, owner.clone()));
                }
                self.nodes.insert(n.metadata.name.clone());
            }
            Resource::WorkloadEndpoint(w) => {
                let owner = format!("Workload({}/{})", w.metadata.namespace, w.metadata.name);
                for text in &w.spec.ip_networks {
                    self.in_use.push((address(text, &owner)?, owner.clone()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Checks what `look` reads. While something does not fit, a few times, a second apart: told is what every reading says.
///
/// # Errors
/// Those of `look`.
pub async fn settled<E>(mut look: impl AsyncFnMut() -> Result<Records, E>) -> Result<(Records, Findings), E> {
    let mut records = look().await?;
    let mut findings = check(&records);
    for _ in 1..LOOKS {
        if findings.problems.is_empty() {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        records = look().await?;
        findings = check(&records).seen_before(&findings);
    }
    Ok((records, findings))
}

fn address(text: &str, whose: &str) -> Result<IpAddr, IpamError> {
    let net = parse_network_or_address(text);
    net.map(|n| n.addr()).map_err(|e| IpamError::NoAddress { whose: whose.to_owned(), reason: e.to_string() })
}

/// Addresses of a node that IPAM gives out.
fn tunnel_addresses(n: &Node) -> impl Iterator<Item = &str> {
    let spec = &n.spec;
    let wireguard = spec.wireguard.as_ref();
    [
        spec.bgp.as_ref().and_then(|b| b.ipv4_ipip_tunnel_addr.as_deref()),
        spec.ipv4_vxlan_tunnel_addr.as_deref(),
        spec.ipv6_vxlan_tunnel_addr.as_deref(),
        wireguard.and_then(|w| w.interface_ipv4_address.as_deref()),
        wireguard.and_then(|w| w.interface_ipv6_address.as_deref()),
    ]
    .into_iter()
    .flatten()
    .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcalico_model::Revision;
    use libcalico_model::ipam::Handle;

    /// What is found where the readings, one after the other and then the last for ever, have a stray handle or not.
    async fn found(stray: &[bool]) -> (usize, usize) {
        let mut looks = 0;
        let look = async || {
            let mut records = Records::default();
            if *stray.get(looks).or(stray.last()).unwrap() {
                records.handles.insert("stray".to_owned(), (Handle::default(), Revision::default()));
            }
            looks += 1;
            Ok::<_, IpamError>(records)
        };
        let (_, findings) = settled(look).await.unwrap();
        (findings.problems.len(), looks)
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_where_every_reading_says_so() {
        assert_eq!(found(&[false]).await, (0, 1));
        assert_eq!(found(&[true, false]).await, (0, 2));
        assert_eq!(found(&[true]).await, (1, LOOKS));
    }
}
