//! A client of the API server, as long as the files that it was made from say the same.
//!
//! Tokens, certificates and kubeconfigs are written again while processes run: a pod's token each hour, the CNI plugin's
//! kubeconfig before its token ends, client certificates when they are rotated. In comes a configuration, out goes a
//! client and the answer whether one made now would be another. Always holds: what the files say is compared, not their
//! age, and no token is looked into: whether it is over is the server's to say, by its own clock. Left out: when to ask.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use tower::{BoxError, ServiceBuilder};

use super::config::KubernetesConfig;
use crate::{DatastoreError, Result};

/// How often a connection is asked whether it lives.
pub const PING_INTERVAL: Duration = Duration::from_secs(6);
/// A server that does not answer a ping for so long is given up.
pub const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest time for a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What one stream may send ahead of its reader, bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams together may: so much that slow readers of some watches do not stop the others, bytes.
const CONNECTION_WINDOW: u32 = 256 << 20;

/// A client and what it was made from.
pub struct Session {
    pub client: kube::Client,
    /// Where the server is.
    pub endpoint: String,
    files: BTreeSet<PathBuf>,
    /// Of the files' contents.
    fingerprint: u64,
}

impl Session {
    /// Reads the configuration's files. Dials nothing.
    pub async fn open(config: &KubernetesConfig) -> Result<Self> {
        let (made, files) = config.load().await?;
        // Files that change between the two readings are seen as changed later, and read once more.
        let fingerprint = fingerprint(&files).await;
        let endpoint = made.cluster_url.to_string();
        let client = build(&made).map_err(|e| DatastoreError::Configuration {
            what: format!("Kubernetes API at {endpoint}"),
            reason: super::error::chain(&e),
        })?;
        Ok(Self { client, endpoint, files, fingerprint })
    }

    /// True where the files say something else than when this was made.
    pub async fn outdated(&self) -> bool {
        fingerprint(&self.files).await != self.fingerprint
    }
}

async fn fingerprint(files: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files {
        // A file that cannot be read now differs from one that can.
        tokio::fs::read(path).await.ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// The stack of a client: the server's address, headers, credentials, then HTTP.
fn build(config: &kube::Config) -> Result<kube::Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(DIAL_TIMEOUT));
    let mut tls =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|e| kube::Error::Service(BoxError::from(e)))?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = tls.enable_all_versions().wrap_connector(connector);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer()?)
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}
