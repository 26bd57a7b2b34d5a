//! Where updates come from: Typha where one is configured, else the datastore itself.
//!
//! Out: a bounded receiver of [`SyncerEvent`]s. Reconnecting is the source's own work; what was sent stays valid.

use std::collections::BTreeMap;
use std::sync::Arc;

use calico_typha::SyncerKind;
use calico_typha::client::{ClientError, ClientTls, TyphaClient, TyphaClientConfig};
use calico_typha::identity::Required;
use libcalico_datastore::{ClientConfig, DatastoreError, DatastoreType, EtcdConfig, connect, syncer};
use libcalico_model::SyncerEvent;
use tokio::sync::mpsc;

use crate::config::{Config, Resolved};

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    #[error("Typha: {0}")]
    Typha(#[from] ClientError),
}

/// Starts the source.
///
/// # Errors
/// Its configuration cannot be used. A server that is away is no error: the source waits for it.
pub async fn start(config: &Config, resolved: &Resolved) -> Result<mpsc::Receiver<SyncerEvent>, SourceError> {
    if !config.typha_addresses.is_empty() {
        tracing::info!(addresses = ?config.typha_addresses, "updates come from Typha");
        return Ok(TyphaClient::new(typha(config)).start()?);
    }
    tracing::info!("updates come straight from the datastore");
    let client = ClientConfig::from_lookup(datastore_lookup(resolved))?;
    let datastore = connect(&client).await?;
    Ok(syncer::felix_syncer(Arc::clone(&datastore)))
}

/// How to reach etcd, where that is the datastore. With Typha too: reports go straight to it.
#[must_use]
pub fn etcd(resolved: &Resolved) -> Option<EtcdConfig> {
    let client = ClientConfig::from_lookup(datastore_lookup(resolved)).ok()?;
    (client.datastore_type == DatastoreType::EtcdV3).then_some(client.etcd)
}

fn typha(config: &Config) -> TyphaClientConfig {
    let addresses = config.typha_addresses.clone();
    let mut client = TyphaClientConfig::new(addresses, SyncerKind::Felix, &config.hostname);
    client.info = format!("calico-felix {}", env!("CARGO_PKG_VERSION"));
    if !config.typha_read_timeout.is_zero() {
        client.read_timeout = config.typha_read_timeout;
    }
    client.write_timeout = config.typha_write_timeout;
    client.tls = config.typha_tls.as_ref().map(|tls| ClientTls {
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        ca_file: tls.ca_file.clone(),
        server: Required { common_name: tls.server_cn.clone(), uri_san: tls.server_uri_san.clone() },
    });
    client
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
        ("FELIX_INTERFACEPREFIX", "InterfacePrefix"),
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
