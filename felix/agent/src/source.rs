//! Where updates come from: Typha where one is configured, else the datastore itself.
//!
//! Out: a bounded receiver of [`SyncerEvent`]s. Reconnecting is the source's own work; what was sent stays valid.

use std::collections::BTreeMap;
use std::sync::Arc;

use libcalico_datastore::{ClientConfig, DatastoreError, connect, syncer};
use libcalico_model::SyncerEvent;
use tokio::sync::mpsc;

use crate::config::{Config, Resolved};

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
}

/// Starts the source.
///
/// # Errors
/// Its configuration cannot be used. A server that is away is no error: the source waits for it.
pub async fn start(_config: &Config, resolved: &Resolved) -> Result<mpsc::Receiver<SyncerEvent>, SourceError> {
    let client = ClientConfig::from_lookup(datastore_lookup(resolved))?;
    let datastore = connect(&client).await?;
    Ok(syncer::felix_syncer(Arc::clone(&datastore)))
}

/// Variables of every Calico program, overridden by Felix's own parameters where those are set.
fn datastore_lookup(resolved: &Resolved) -> impl Fn(&str) -> Option<String> {
    let own: BTreeMap<&str, String> = [
        ("DATASTORE_TYPE", "DatastoreType"),
        ("ETCD_ENDPOINTS", "EtcdEndpoints"),
        ("ETCD_AUTHORITY", "EtcdAddr"),
        ("ETCD_SCHEME", "EtcdScheme"),
        ("ETCD_CA_CERT_FILE", "EtcdCaFile"),
        ("ETCD_CERT_FILE", "EtcdCertFile"),
        ("ETCD_KEY_FILE", "EtcdKeyFile"),
    ]
    .into_iter()
    .filter_map(|(variable, parameter)| {
        let e = resolved.get(parameter).filter(|e| e.source != crate::config::Source::Default)?;
        Some((variable, e.raw.clone()))
    })
    .collect();
    move |name| {
        // One of Felix's own parameters must not lose to a general variable that comes first.
        let plain = name.strip_prefix("CALICO_").unwrap_or(name);
        own.get(plain).cloned().or_else(|| std::env::var(name).ok())
    }
}
