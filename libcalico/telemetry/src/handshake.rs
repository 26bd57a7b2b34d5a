//! Connections to the metrics' port over TLS: a listener whose handshakes run beside each other.
//!
//! In come connections, out go those whose client has shown what is asked of it. Always holds: a client that says
//! nothing holds up nobody; no more than [`Bounds::most`] handshakes run at once, none longer than [`Bounds::longest`];
//! what is not TLS is closed without an answer; while the files cannot be used, nobody is let in, and the log says so
//! once.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::{MetricsTls, MetricsTlsError};

/// How many handshakes, and how long one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub most: usize,
    pub longest: Duration,
}

impl Default for Bounds {
    /// Ten seconds are Typha's for its clients.
    fn default() -> Self {
        Self { most: 64, longest: Duration::from_secs(10) }
    }
}

/// Takes connections, and hands out those that have shaken hands.
pub(crate) struct TlsListener {
    tcp: TcpListener,
    files: Arc<Files>,
    bounds: Bounds,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(crate) fn new(tcp: TcpListener, tls: MetricsTls, bounds: Bounds) -> Self {
        let files = Arc::new(Files { tls, trouble: Mutex::new(None) });
        Self { tcp, files, bounds, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                (tcp, peer) = Listener::accept(&mut self.tcp), if self.handshakes.len() < self.bounds.most => {
                    let (files, longest) = (self.files.clone(), self.bounds.longest);
                    self.handshakes.spawn(async move {
                        match tokio::time::timeout(longest, shake(tcp, files)).await {
                            Ok(Ok(stream)) => return Some((stream, peer)),
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS with a client of metrics"),
                            Err(_) => tracing::debug!(%peer, "a client of metrics says nothing"),
                        }
                        None
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// One handshake. The files are read once the client has begun, so that silence costs nothing.
async fn shake(tcp: TcpStream, files: Arc<Files>) -> io::Result<TlsStream<TcpStream>> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let config = tokio::task::spawn_blocking(move || files.load()).await.map_err(io::Error::other)?;
    begun.into_stream(config.map_err(io::Error::other)?).await
}

/// The files, and what was wrong with them at the last look.
struct Files {
    tls: MetricsTls,
    trouble: Mutex<Option<MetricsTlsError>>,
}

impl Files {
    fn load(&self) -> Result<Arc<ServerConfig>, MetricsTlsError> {
        let loaded = self.tls.load();
        let now = loaded.as_ref().err().cloned();
        let mut before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *before != now {
            match &now {
                Some(error) => tracing::error!(%error, "metrics are not served"),
                None => tracing::info!("metrics are served again"),
            }
            *before = now;
        }
        loaded
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use libcalico_testing::Pki;
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::pem;
    use crate::tls::ClientAuth;

    /// True where the server let a client in.
    async fn try_once(address: SocketAddr, pki: &Pki) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(pem::authorities(&pki.cert("ca")).unwrap())
            .with_no_client_auth();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, tcp).await.is_ok()
    }

    #[tokio::test]
    async fn clients_that_say_nothing_are_closed_and_make_room() {
        let pki = Pki::new();
        let path = |p: std::path::PathBuf| p.display().to_string();
        let tls = MetricsTls::new(
            &path(pki.cert("server")),
            &path(pki.key("server")),
            "",
            ClientAuth::NoClientCert,
        );
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let bounds = Bounds { most: 2, longest: Duration::from_secs(1) };
        let mut listener = TlsListener::new(tcp, tls.unwrap(), bounds);
        let server = tokio::spawn(async move {
            loop {
                listener.accept().await;
            }
        });
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let end = Instant::now() + Duration::from_mins(2);
        while !try_once(address, &pki).await {
            assert!(Instant::now() < end, "no room for a client that speaks");
        }
        for mut s in silent {
            let read = tokio::time::timeout(Duration::from_mins(2), s.read(&mut [0; 16])).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
        server.abort();
    }
}
