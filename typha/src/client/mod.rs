//! A client of Typha: the same stream of events as a local syncer's, over the network.
//!
//! In come addresses of Typhas, out goes a bounded channel of [`SyncerEvent`]. Always holds: after a lost connection the
//! client goes on with the next address and hands on only what changed meanwhile, deletions included; `InSync` is said
//! once. A slow reader slows the connection, and a server that gives up on it is connected to again.

mod merge;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use calico_proto::typha as proto;
use calico_proto::typha::client_message::Message as ToServer;
use calico_proto::typha::server_message::Message as FromServer;
use calico_proto::typha::sync_service_client::SyncServiceClient;
use hyper_util::rt::TokioIo;
use libcalico_model::{SyncStatus, SyncerEvent};
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use self::merge::Merge;
pub use self::tls::{ClientTls, TlsError};
use crate::identity::Required;
use crate::kind::SyncerKind;

/// Events between the client and its reader, as a local syncer has them.
const OUTPUT_BUFFER: usize = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two rounds through all addresses.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How much the server may send ahead of the reader.
const WINDOW_BYTES: u32 = 4 << 20;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct TyphaClientConfig {
    /// `HOST:PORT`, IPv6 addresses in brackets. Tried in an order drawn by lot, so that clients spread.
    pub addresses: Vec<String>,
    pub kind: SyncerKind,
    /// Name of this node.
    pub hostname: String,
    /// What the client is, for the server's log.
    pub info: String,
    /// None: plain text.
    pub tls: Option<ClientTls>,
    /// A server that says nothing for so long is given up. It pings every ten seconds.
    pub read_timeout: Duration,
    /// A server that takes nothing of what is sent for so long is given up; zero: the kernel decides.
    pub write_timeout: Duration,
    /// Longest time for connecting, TLS included.
    pub connect_timeout: Duration,
}

impl TyphaClientConfig {
    /// Upstream's timeouts, no TLS.
    #[must_use]
    pub fn new(addresses: Vec<String>, kind: SyncerKind, hostname: &str) -> Self {
        Self {
            addresses,
            kind,
            hostname: hostname.to_owned(),
            info: String::new(),
            tls: None,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// A client that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no address of a Typha is given")]
    NoAddress,
    /// Any certificate that the authority signed would pass for Typha's, those of other clients too.
    #[error(
        "TLS without a name that Typha's certificate must have; give its common name or its URI (TyphaCN, TyphaURISAN)"
    )]
    NoServerName,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the server ended the stream: {0}")]
    Ended(String),
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    #[error("the server sent what is not of the protocol: {0}")]
    Protocol(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody reads any more.
    #[error("the reader left")]
    ReaderLeft,
}

/// A client of Typha that has not started yet.
#[derive(Debug)]
pub struct TyphaClient {
    config: TyphaClientConfig,
}

impl TyphaClient {
    /// A client with these settings.
    #[must_use]
    pub fn new(config: TyphaClientConfig) -> Self {
        Self { config }
    }

    /// Starts on the current runtime. Dropping the receiver ends it.
    ///
    /// Fails at once where it can never work: without an address, without a name of the server
    /// to check its certificate by, with certificates that cannot be read.
    pub fn start(self) -> Result<mpsc::Receiver<SyncerEvent>, ClientError> {
        if self.config.addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        if let Some(tls) = &self.config.tls {
            if tls.server == Required::default() {
                return Err(ClientError::NoServerName);
            }
            tls.load()?;
        }
        let (out, reader) = mpsc::channel(OUTPUT_BUFFER);
        tokio::spawn(run(self.config, out));
        Ok(reader)
    }
}

async fn run(config: TyphaClientConfig, out: mpsc::Sender<SyncerEvent>) {
    let mut addresses = config.addresses.clone();
    shuffle(&mut addresses);
    let mut merge = Merge::default();
    let mut pause = FIRST_PAUSE;
    if out.send(SyncerEvent::Status(SyncStatus::WaitForDatastore)).await.is_err() {
        return;
    }
    merge.status(SyncStatus::WaitForDatastore);
    loop {
        for address in &addresses {
            let mut served = false;
            let lost = match follow(&config, address, &mut merge, &out, &mut served).await {
                Ok(()) => return,
                Err(Lost::ReaderLeft) => return,
                Err(e) => e,
            };
            tracing::warn!(address, error = %lost, keys = merge.len(), "lost Typha; connecting again");
            if served {
                pause = FIRST_PAUSE;
            }
        }
        // One pause after each round: another Typha may have taken over at once.
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))) => {}
            () = out.closed() => return,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Follows one server until the connection ends.
async fn follow(
    config: &TyphaClientConfig,
    address: &str,
    merge: &mut Merge,
    out: &mpsc::Sender<SyncerEvent>,
    served: &mut bool,
) -> Result<(), Lost> {
    let connecting = tokio::time::timeout(config.connect_timeout, open(config, address));
    let (to_server, mut stream) = tokio::select! {
        r = connecting => r.map_err(|_| Lost::Connect(format!("no answer within {:?}", config.connect_timeout)))??,
        () = out.closed() => return Err(Lost::ReaderLeft),
    };
    merge.connected();
    loop {
        let message = tokio::select! {
            m = tokio::time::timeout(config.read_timeout, stream.message()) => m,
            () = out.closed() => return Err(Lost::ReaderLeft),
        };
        let message = message
            .map_err(|_| Lost::Silent(config.read_timeout))?
            .map_err(|s| Lost::Ended(s.message().to_owned()))?
            .ok_or_else(|| Lost::Ended("it closed the connection".to_owned()))?;
        let events = match message.message {
            Some(FromServer::Hello(hello)) => {
                tracing::info!(
                    address,
                    server_version = hello.version,
                    syncer = hello.syncer,
                    "connected to Typha"
                );
                *served = true;
                Vec::new()
            }
            Some(FromServer::Ping(ping)) => {
                let pong = proto::ClientMessage {
                    message: Some(ToServer::Pong(proto::Pong { number: ping.number })),
                };
                // Only the last answer counts: where one is on its way already, that will do.
                let _ = to_server.try_send(pong);
                Vec::new()
            }
            Some(FromServer::Status(status)) => merge.status(status_of(status)),
            Some(FromServer::Updates(bytes)) => {
                let updates = proto::Updates::decode(bytes).map_err(|e| Lost::Protocol(e.to_string()))?;
                merge.updates(updates).into_iter().collect()
            }
            None => Vec::new(),
        };
        for event in events {
            out.send(event).await.map_err(|_| Lost::ReaderLeft)?;
        }
    }
}

type Opened = (mpsc::Sender<proto::ClientMessage>, tonic::Streaming<proto::ServerMessage>);

async fn open(config: &TyphaClientConfig, address: &str) -> Result<Opened, Lost> {
    let channel = connect(config, address).await?;
    let mut client = SyncServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let hello = proto::ClientHello {
        hostname: config.hostname.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        syncer: config.kind.name().to_owned(),
        info: config.info.clone(),
    };
    let (to_server, outbound) = mpsc::channel(2);
    // The channel is new and empty.
    let _ = to_server.try_send(proto::ClientMessage { message: Some(ToServer::Hello(hello)) });
    let response = client
        .sync(ReceiverStream::new(outbound))
        .await
        .map_err(|s| Lost::Ended(format!("{}: {}", s.code().description(), s.message())))?;
    Ok((to_server, response.into_inner()))
}

async fn connect(config: &TyphaClientConfig, address: &str) -> Result<Channel, Lost> {
    let failed = |e: &dyn std::fmt::Display| Lost::Connect(e.to_string());
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| failed(&e))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let target = address.to_owned();
    let write_timeout = config.write_timeout;
    let Some(tls) = &config.tls else {
        let dial = tower::service_fn(move |_| {
            let target = target.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(dial(&target, write_timeout).await?)) }
        });
        return endpoint.connect_with_connector(dial).await.map_err(|e| Lost::Connect(deepest(&e)));
    };
    let connector = TlsConnector::from(Arc::new(tls.load()?));
    let dial = tower::service_fn(move |_| {
        let (connector, target) = (connector.clone(), target.clone());
        async move {
            let tcp = dial(&target, write_timeout).await?;
            // The name is not checked; an address always is one.
            let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
            std::io::Result::Ok(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    endpoint.connect_with_connector(dial).await.map_err(|e| Lost::Connect(deepest(&e)))
}

/// A connection that fails where the server acknowledges nothing of what was sent for `write_timeout`.
async fn dial(target: &str, write_timeout: Duration) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(target).await?;
    tcp.set_nodelay(true)?;
    if !write_timeout.is_zero() {
        socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(write_timeout))?;
    }
    Ok(tcp)
}

/// The innermost cause: what a person needs to know.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn status_of(status: i32) -> SyncStatus {
    match proto::Status::try_from(status) {
        Ok(proto::Status::InSync) => SyncStatus::InSync,
        Ok(proto::Status::ResyncInProgress) => SyncStatus::ResyncInProgress,
        Ok(proto::Status::WaitForDatastore) | Err(_) => SyncStatus::WaitForDatastore,
    }
}

fn shuffle(addresses: &mut [String]) {
    for i in (1..addresses.len()).rev() {
        addresses.swap(i, rand::random_range(0..=i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_write_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        for (wanted, set) in [(Duration::ZERO, None), (Duration::from_millis(7500), Some(7500))] {
            let tcp = dial(&target, wanted).await.unwrap();
            let got = socket2::SockRef::from(&tcp).tcp_user_timeout().unwrap();
            assert_eq!(got.filter(|t| !t.is_zero()).map(|t| t.as_millis()), set);
        }
    }
}
