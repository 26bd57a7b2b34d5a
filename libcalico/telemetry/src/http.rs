//! The HTTP side of health and metrics: `/liveness`, `/readiness`, `/metrics`.
//!
//! In come an address and what to serve; out goes a running server that ends when its handle is dropped, and its
//! connections with it. Status codes are upstream's: 200 where well, 503 where not, with the table of parts as the body.
//! Metrics are served over TLS alone where it is configured; health never is, as upstream has it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::handshake::{Bounds, TlsListener};
use crate::health::HealthAggregator;
use crate::tls::{MetricsTls, MetricsTlsError};

/// Nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot serve {what} on {host}:{port}: {source}; choose another address or port")]
    Listen { what: &'static str, host: String, port: u16, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] MetricsTlsError),
    #[error("cannot read the certificates of metrics: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A running server. Dropping it ends the server.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Where it listens; tells the port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `/liveness` and `/readiness`. An empty host listens on every address.
pub async fn serve_health(
    host: &str,
    port: u16,
    health: Arc<HealthAggregator>,
) -> Result<HttpServer, ServeError> {
    let router = Router::new()
        .route("/liveness", get(liveness))
        .route("/readiness", get(readiness))
        .with_state(health);
    let (listener, address) = listen("health", host, port).await?;
    tracing::info!(%address, "serving health");
    Ok(serve("health", listener, address, router))
}

/// Serves `/metrics` in Prometheus' text format. An empty host listens on every address. With `tls` it is HTTPS alone,
/// or an error where that cannot be.
pub async fn serve_metrics(
    host: &str,
    port: u16,
    registry: Registry,
    tls: Option<&MetricsTls>,
) -> Result<HttpServer, ServeError> {
    if let Some(tls) = tls.cloned() {
        tokio::task::spawn_blocking(move || tls.load()).await??;
    }
    let router = Router::new().route("/metrics", get(metrics)).with_state(registry);
    let (listener, address) = listen("metrics", host, port).await?;
    tracing::info!(%address, tls = tls.is_some(), "serving metrics");
    Ok(match tls {
        Some(tls) => {
            let listener = TlsListener::new(listener, tls.clone(), Bounds::default());
            serve("metrics", listener, address, router)
        }
        None => serve("metrics", listener, address, router),
    })
}

async fn listen(what: &'static str, host: &str, port: u16) -> Result<(TcpListener, SocketAddr), ServeError> {
    let error = |source| ServeError::Listen { what, host: host.to_owned(), port, source };
    let listener = match host {
        // Both families where the host has IPv6.
        "" => match TcpListener::bind(("::", port)).await {
            Ok(l) => Ok(l),
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        },
        _ => TcpListener::bind((host, port)).await,
    }
    .map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

fn serve<L>(what: &'static str, listener: L, address: SocketAddr, router: Router) -> HttpServer
where
    L: Listener<Addr = SocketAddr>,
{
    let task = tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).await {
            tracing::error!(error = %e, "the {what} server ended");
        }
    });
    HttpServer { address, task }
}

async fn liveness(State(health): State<Arc<HealthAggregator>>) -> Response {
    let s = health.summary();
    answer(s.live, s.detail)
}

async fn readiness(State(health): State<Arc<HealthAggregator>>) -> Response {
    let s = health.summary();
    answer(s.ready, s.detail)
}

fn answer(well: bool, detail: String) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, detail).into_response()
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], body).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::health::{HealthReport, Reporter};

    async fn get_text(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn health_answers_200_or_503_with_the_table() {
        let health = Arc::new(HealthAggregator::new());
        health.register("part", Reporter { live: true, ready: true, timeout: None });
        health.report("part", HealthReport { live: true, ready: false }, "");
        let server = serve_health("127.0.0.1", 0, health.clone()).await.unwrap();
        assert!(get_text(server.local_addr(), "/liveness").await.starts_with("HTTP/1.1 200"));
        let ready = get_text(server.local_addr(), "/readiness").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("reporting non-ready"), "{ready}");
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let server = serve_metrics("127.0.0.1", 0, crate::new_registry(), None).await.unwrap();
        let text = get_text(server.local_addr(), "/metrics").await;
        assert!(text.contains("process_cpu_seconds_total"), "{text}");
    }
    #[tokio::test]
    async fn a_connection_ends_with_its_server() {
        let server = serve_metrics("127.0.0.1", 0, crate::new_registry(), None).await.unwrap();
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        drop(server);
        let rest = tokio::time::timeout(Duration::from_mins(2), stream.read_to_end(&mut Vec::new())).await;
        rest.expect("the connection stays open").unwrap();
    }
}
