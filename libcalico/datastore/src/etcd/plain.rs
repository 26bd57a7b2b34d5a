//! Keys that are no objects of the model: reports that a component writes for others to read.
//!
//! In: paths and bytes. Out: etcd v3 requests over the same connection as objects have. Always holds: a key with a time to
//! live goes by itself where its writer stops. Left out: what stands in the values.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{GetOptions, PutOptions};

use super::connection::{Connection, Retry};
use crate::Result;
use crate::config::EtcdConfig;

/// A client for plain keys.
#[derive(Debug)]
pub struct PlainKeys {
    connection: Connection,
}

impl PlainKeys {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: EtcdConfig) -> Self {
        Self { connection: Connection::new(config) }
    }

    /// Writes a key; with `ttl` it goes by itself after that time, whole seconds.
    ///
    /// # Errors
    /// No endpoint takes it.
    pub async fn put(&self, path: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        // Writing the same again does no harm: tried elsewhere after any failure.
        self.connection
            .call(path, Retry::Always, |client| async move {
                let mut options = PutOptions::new();
                if let Some(ttl) = ttl {
                    let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
                    let lease = client.lease_client().grant(seconds, None).await?;
                    options = options.with_lease(lease.id());
                }
                client.kv_client().put(path, value, Some(options)).await
            })
            .await
            .map(drop)
    }

    /// Removes a key. One that is not there is no error.
    ///
    /// # Errors
    /// No endpoint takes it.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.connection
            .call(path, Retry::Always, |client| async move { client.kv_client().delete(path, None).await })
            .await
            .map(drop)
    }

    /// All keys with a prefix.
    ///
    /// # Errors
    /// No endpoint answers.
    pub async fn list(&self, prefix: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let response = self
            .connection
            .call(prefix, Retry::Always, |client| async move {
                let options = GetOptions::new().with_prefix();
                client.kv_client().max_decoding_message_size(usize::MAX).get(prefix, Some(options)).await
            })
            .await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(response.kvs().iter().map(|kv| (text(kv.key()), kv.value().to_vec())).collect())
    }
}
