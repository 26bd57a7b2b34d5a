//! Claims of a host on blocks: giving them up and listing them.
//!
//! In come a host and its blocks, out go claims that are gone. A claim is given up in upstream's order: marked
//! `pendingDeletion`, then the block removed (or, where it still has addresses, left without an owner), then the claim
//! itself removed. Interrupted anywhere, the next assignment on the host confirms what is left or drops it.

use libcalico_datastore::{DatastoreError, Scope, Write};
use libcalico_model::ipam::{AffinityState, BlockAffinity};
use libcalico_model::{Key, KeyValue, Value};
use libcalico_net::cidr::IpNet;
use tracing::info;

use crate::block;
use crate::client::{IpamClient, Retries};
use crate::error::IpamError;
use crate::owner::Owner;
use crate::snapshot::{Need, Snapshot};

impl IpamClient {
    /// Blocks that the owner has a claim on.
    pub async fn affinities(&self, owner: &Owner) -> Result<Vec<IpNet>, IpamError> {
        let mut snapshot = Snapshot::new(owner.clone(), None);
        self.fill(&mut snapshot, &[Need::Affinities]).await?;
        Ok(snapshot.affinities().into_iter().flat_map(|a| a.keys().copied()).collect())
    }

    /// Gives up one block. With `only_if_empty`, a block with addresses stays and the error says how many; without,
    /// it stays as a block of nobody.
    pub async fn release_affinity(
        &self,
        owner: &Owner,
        cidr: IpNet,
        only_if_empty: bool,
    ) -> Result<(), IpamError> {
        let key = owner.affinity_key(cidr);
        let mut retries = Retries::default();
        loop {
            match self.try_release(owner, &key, cidr, only_if_empty).await {
                Err(IpamError::Datastore(e)) => retries.after_release(e, &key).await?,
                done => return done,
            }
        }
    }

    async fn try_release(
        &self,
        owner: &Owner,
        key: &Key,
        cidr: IpNet,
        only_if_empty: bool,
    ) -> Result<(), IpamError> {
        let claim = match self.store.get(key).await {
            Ok(kv) => kv,
            Err(DatastoreError::NotFound(_)) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let blocks = self.blocks(&[cidr]).await?;
        let own = blocks.get(&cidr).filter(|b| block::belongs_to(&b.value, owner));
        let in_use = own.map_or(0, |b| block::in_use(&b.value));
        if only_if_empty && in_use > 0 {
            return Err(IpamError::BlockNotEmpty { block: cidr, in_use });
        }
        let marked = self
            .store
            .update(KeyValue {
                value: Value::BlockAffinity(BlockAffinity {
                    state: AffinityState::PendingDeletion,
                    deleted: false,
                }),
                ..claim
            })
            .await?;
        let mut writes = Vec::new();
        if let Some(b) = own {
            if in_use == 0 {
                writes.push(Write::Delete(Key::Block(cidr), Some(b.revision.clone())));
            } else {
                let mut changed = b.value.clone();
                changed.affinity = None;
                changed.host_affinity = None;
                changed.affinity_claim_time = None;
                block::written(&mut changed);
                writes.push(Write::Update(KeyValue {
                    key: Key::Block(cidr),
                    value: Value::Block(Box::new(changed)),
                    revision: b.revision.clone(),
                }));
            }
        }
        writes.push(Write::Delete(key.clone(), Some(marked.revision)));
        self.write(writes).await?;
        info!(block = %cidr, %owner, in_use, "gave up a block");
        Ok(())
    }

    /// Gives up every block of the owner, as when a node leaves. Goes on after an error and returns the first.
    pub async fn release_all_affinities(&self, owner: &Owner, only_if_empty: bool) -> Result<(), IpamError> {
        let mut first = Ok(());
        for cidr in self.affinities(owner).await? {
            let done = self.release_affinity(owner, cidr, only_if_empty).await;
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    /// Every claim of every owner: block, owner's name, state.
    pub async fn all_affinities(&self) -> Result<Vec<(IpNet, String, AffinityState)>, IpamError> {
        let listing = self.store.list(&Scope::BlockAffinities { host: None }).await?;
        Ok(listing
            .items
            .into_iter()
            .filter_map(|kv| match (kv.key, kv.value) {
                (Key::BlockAffinity { host, cidr, .. }, Value::BlockAffinity(a)) => {
                    Some((cidr, host, a.state))
                }
                _ => None,
            })
            .collect())
    }
}
