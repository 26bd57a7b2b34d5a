//! Several reads as one transaction: one round trip, one revision.
//!
//! In come keys and scopes, out come answers in the same order. A scope with more objects than a page is read again by
//! pages, on its own; so the answer stays complete and no message grows without bound.

use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse};

use super::connection::Retry;
use super::{EtcdDatastore, MAX_TXN_OPS, PAGE, prefix_end, revision, revision_of};
use crate::{Datastore, Found, Listing, Read, Result, codec};

impl EtcdDatastore {
    /// [`Datastore::read_many`].
    pub(super) async fn read_batch(&self, reads: &[Read]) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(reads.len());
        for chunk in reads.chunks(MAX_TXN_OPS) {
            self.read_chunk(chunk, &mut found).await?;
        }
        Ok(found)
    }

    async fn read_chunk(&self, reads: &[Read], found: &mut Vec<Found>) -> Result<()> {
        let Some(first) = reads.first() else { return Ok(()) };
        let subject = match first {
            Read::Key(k) => k.path(),
            Read::Scope(s) | Read::Cached(s) => s.prefix(),
        };
        let ops: Vec<TxnOp> = reads
            .iter()
            .map(|read| match read {
                Read::Key(k) => TxnOp::get(k.path(), None),
                // Of one revision with the others, for the same round trip.
                Read::Scope(s) | Read::Cached(s) => {
                    let prefix = s.prefix();
                    let options = GetOptions::new().with_range(prefix_end(&prefix)).with_limit(PAGE);
                    TxnOp::get(prefix, Some(options))
                }
            })
            .collect();
        let txn = Txn::new().and_then(ops);
        let response = self
            .connection
            .call(&subject, Retry::Always, |client| {
                let txn = txn.clone();
                async move { client.kv_client().max_decoding_message_size(usize::MAX).txn(txn).await }
            })
            .await?;
        let at = revision_of(&response);
        let mut answers = response.op_responses().into_iter();
        for read in reads {
            let answer = match answers.next() {
                Some(TxnOpResponse::Get(g)) => Some(g),
                _ => None,
            };
            let kvs = answer.as_ref().map_or(&[][..], |g| g.kvs());
            found.push(match read {
                Read::Key(key) => match kvs.first() {
                    Some(kv) => {
                        Found::Key(Some(codec::decode(key.clone(), kv.value(), revision(kv.mod_revision()))?))
                    }
                    None => Found::Key(None),
                },
                Read::Scope(scope) | Read::Cached(scope)
                    if answer.as_ref().is_some_and(etcd_client::GetResponse::more) =>
                {
                    Found::Scope(self.list(scope).await?)
                }
                Read::Scope(scope) | Read::Cached(scope) => Found::Scope(Listing {
                    items: kvs.iter().filter_map(|kv| self.decode_in(scope, kv)).collect(),
                    revision: at.clone(),
                }),
            });
        }
        Ok(())
    }
}
