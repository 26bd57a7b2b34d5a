//! Typha on the network: gRPC, optionally with mutual TLS.
//!
//! In come the streams of local syncers and connections of clients; each client gets its stream's snapshot and changes.
//! Always holds: a client is served only after its certificate and its hello were right; a slow one is dropped and holds
//! back nobody; on shutdown clients are let go one after the other so that they do not all reconnect at once.

mod connection;
mod registry;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use calico_proto::typha::sync_service_server::SyncServiceServer;
use libcalico_model::{SyncStatus, SyncerEvent};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use self::connection::Service;
use self::registry::Registry;
use self::stream::Stream;
use crate::cache::Limits;
use crate::identity::Required;
use crate::kind::SyncerKind;
use crate::metrics::Metrics;
use crate::session::Patience;

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Empty: every address.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    /// None: plain text.
    pub tls: Option<ServerTls>,
    pub limits: Limits,
    pub patience: Patience,
    /// A client must say hello within this time.
    pub handshake_timeout: Duration,
    /// A message must be taken off by the network within this time.
    pub write_timeout: Duration,
    /// Above this many clients some are let go, for another Typha to take.
    pub max_connections: usize,
    /// Streams of one kind from one client host; a newer one ends the oldest. 0: no limit.
    pub max_connections_per_client: usize,
    /// Time between two clients that are let go because there are too many.
    pub drop_interval: Duration,
    /// Longest time for letting go of everybody at the end.
    pub shutdown_timeout: Duration,
    /// Longest time between two clients that are let go at the end.
    pub shutdown_drop_interval_max: Duration,
}

/// Certificates of a server that wants to see its clients' certificates.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// What signed the clients' certificates.
    pub ca_file: PathBuf,
    pub client: Required,
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {host}:{port}: {source}; choose another address or port")]
    Listen { host: String, port: u16, source: std::io::Error },
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "certificates cannot be used: {0}; check that certificate, key and CA are PEM and belong together"
    )]
    Tls(#[from] tonic::transport::Error),
}

/// A running server. Dropping it ends everything at once; [`RunningServer::shutdown`] lets clients go gently.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    streams: Vec<Arc<Stream>>,
    registry: Arc<Registry>,
    config: ServerConfig,
    stop: Option<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningServer {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// True once every stream has the whole datastore.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.streams.iter().all(|s| s.status() == SyncStatus::InSync)
    }

    /// Clients being served.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.registry.len()
    }

    /// Takes no more clients, lets the present ones go one after the other, then ends.
    pub async fn shutdown(mut self) {
        self.registry.drain();
        let count = u32::try_from(self.registry.len().max(1)).unwrap_or(u32::MAX);
        let pause = self.config.shutdown_drop_interval_max.min(self.config.shutdown_timeout / count);
        tracing::info!(clients = self.registry.len(), ?pause, "shutting down: letting clients go");
        while self.registry.drop_one("the server is shutting down") {
            tokio::time::sleep(pause).await;
        }
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.registry.drain();
        while self.registry.drop_one("the server ended") {}
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts serving. `sources` are the streams of local syncers.
pub async fn start(
    config: ServerConfig,
    sources: Vec<(SyncerKind, mpsc::Receiver<SyncerEvent>)>,
    metrics: Metrics,
) -> Result<RunningServer, ServerError> {
    let listener = listen(&config).await?;
    let address = listener.local_addr().map_err(|source| ServerError::Listen {
        host: config.host.clone(),
        port: config.port,
        source,
    })?;
    let mut builder = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)));
    if let Some(tls) = &config.tls {
        let tls = tls_config(tls).await?.timeout(config.handshake_timeout);
        builder = builder.tls_config(tls)?;
    }
    let mut tasks = Vec::new();
    let mut streams = Vec::new();
    for (kind, events) in sources {
        let stream = Arc::new(Stream::new(kind, config.limits.clone(), metrics.clone()));
        tasks.push(tokio::spawn(stream.clone().feed(events)));
        streams.push(stream);
    }
    let registry = Arc::new(Registry::new(config.max_connections_per_client, metrics.clone()));
    tasks.push(tokio::spawn(registry.clone().keep_below(config.max_connections, config.drop_interval)));
    let service = Service::new(config.clone(), streams.clone(), registry.clone(), metrics);
    let (stop, stopped) = oneshot::channel();
    let incoming = TcpListenerStream::new(listener);
    tasks.push(tokio::spawn(async move {
        let shutdown = async {
            // Also when the handle is dropped.
            let _ = stopped.await;
        };
        let served = builder
            .add_service(SyncServiceServer::new(service))
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await;
        if let Err(e) = served {
            tracing::error!(error = %e, "the server ended");
        }
    }));
    tracing::info!(%address, tls = config.tls.is_some(), "serving clients");
    Ok(RunningServer { address, streams, registry, config, stop: Some(stop), tasks })
}

async fn listen(config: &ServerConfig) -> Result<TcpListener, ServerError> {
    let bound = match config.host.as_str() {
        "" => match TcpListener::bind(("::", config.port)).await {
            Ok(l) => Ok(l),
            Err(_) => TcpListener::bind(("0.0.0.0", config.port)).await,
        },
        host => TcpListener::bind((host, config.port)).await,
    };
    bound.map_err(|source| ServerError::Listen { host: config.host.clone(), port: config.port, source })
}

async fn tls_config(tls: &ServerTls) -> Result<ServerTlsConfig, ServerError> {
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|source| ServerError::File { path: path.clone(), source })
    };
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&tls.cert_file).await?, read(&tls.key_file).await?))
        .client_ca_root(Certificate::from_pem(read(&tls.ca_file).await?)))
}
