//! Requests to the API server: one connection for all of them, each within a limit of time.
//!
//! Always holds: nothing is dialled before the first request; a connection that goes silent is given up by HTTP/2 pings
//! within [`PING_INTERVAL`] + [`PING_TIMEOUT`] while anything is on it, watches included; tokens are read again by the
//! client before they end. Left out: what the JSON means.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::io::Lines;
use futures::{AsyncBufRead, AsyncBufReadExt};
use http::{Method, Request};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder};

use super::config::KubernetesConfig;
use super::error::{ApiError, translate, unreachable};
use crate::{DatastoreError, Result};

/// How often a connection is asked whether it lives.
pub const PING_INTERVAL: Duration = Duration::from_secs(6);
/// A server that does not answer a ping for so long is given up.
pub const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest time for a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one request, a page of a listing or the beginning of a watch.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for a watch to go on where it broke: a listing is tried afterwards anyway.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(5);
/// What one stream may send ahead of its reader, bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams together may: so much that slow readers of some watches do not stop the others, bytes.
const CONNECTION_WINDOW: u32 = 256 << 20;

/// A merge patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// The lines of a watch.
pub type EventLines = Lines<Pin<Box<dyn AsyncBufRead + Send>>>;

/// A client of one API server.
pub struct Client {
    config: KubernetesConfig,
    connected: OnceCell<(kube::Client, String)>,
    pace: Option<Pace>,
    /// A request was answered: there is a connection that the next ones share.
    warm: AtomicBool,
    /// Until then one request goes at a time: several at once would each dial, and pay for TLS.
    first: Mutex<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(config: KubernetesConfig) -> Self {
        let pace = config.qps.filter(|n| *n > 0).map(Pace::new);
        Self { config, connected: OnceCell::new(), pace, warm: AtomicBool::new(false), first: Mutex::new(()) }
    }

    async fn connected(&self) -> Result<&(kube::Client, String)> {
        self.connected
            .get_or_try_init(|| async {
                let config = self.config.load().await?;
                let endpoint = config.cluster_url.to_string();
                let client = build(&config).map_err(|e| DatastoreError::Configuration {
                    what: format!("Kubernetes API at {endpoint}"),
                    reason: super::error::chain(&e),
                })?;
                Ok((client, endpoint))
            })
            .await
    }

    pub async fn get(&self, path: &str) -> Result<String, ApiError> {
        self.request(Method::GET, path, JSON, Vec::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<String, ApiError> {
        self.request(Method::POST, path, JSON, body.to_string().into_bytes()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<String, ApiError> {
        self.request(Method::PUT, path, JSON, body.to_string().into_bytes()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Result<String, ApiError> {
        self.request(Method::PATCH, path, MERGE_PATCH, body.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<String, ApiError> {
        self.request(Method::DELETE, path, JSON, options.to_string().into_bytes()).await
    }

    /// Begins a watch within a time.
    pub async fn watch(&self, path: &str, limit: Duration) -> Result<EventLines, ApiError> {
        let (client, endpoint) = self.connected().await.map_err(ApiError::Datastore)?;
        self.take_turn().await;
        let request = request(Method::GET, path, JSON, Vec::new())?;
        let stream = within(endpoint, limit, client.request_stream(request))
            .await?
            .map_err(|e| translate(endpoint, path, &e))?;
        let boxed: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(stream);
        Ok(boxed.lines())
    }

    /// Where the server is, for messages.
    pub fn endpoint(&self) -> String {
        self.connected.get().map_or_else(|| "kubernetes".to_owned(), |(_, e)| e.clone())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<String, ApiError> {
        let (client, endpoint) = self.connected().await.map_err(ApiError::Datastore)?;
        self.take_turn().await;
        let request = request(method, path, content, body)?;
        let cold = !self.warm.load(Ordering::Acquire);
        let turn = if cold { Some(self.first.lock().await) } else { None };
        let turn = turn.filter(|_| !self.warm.load(Ordering::Acquire));
        let answer = within(endpoint, REQUEST_TIMEOUT, client.request_text(request)).await?;
        // A refusal is an answer too, but with wrong credentials there is no hurry.
        if answer.is_ok() || matches!(answer, Err(kube::Error::Api(_))) {
            self.warm.store(true, Ordering::Release);
        }
        drop(turn);
        answer.map_err(|e| translate(endpoint, path, &e))
    }

    async fn take_turn(&self) {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
    }
}

async fn within<T>(endpoint: &str, limit: Duration, call: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| ApiError::Datastore(unreachable(endpoint, format!("no answer within {limit:?}"))))
}

fn request(method: Method, path: &str, content: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, ApiError> {
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content);
    request.body(body).map_err(|e| {
        ApiError::Datastore(DatastoreError::Other { key: path.to_owned(), reason: e.to_string() })
    })
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

/// Text for a query or a path segment: what has a meaning in a URI is escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// At most so many requests a second; twice as many at once after a rest.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the next request would be due if all kept the pace.
    due: Arc<Mutex<Instant>>,
}

impl Pace {
    fn new(qps: u32) -> Self {
        let interval = Duration::from_secs(1) / qps.max(1);
        Self { interval, burst: Duration::from_secs(2), due: Arc::new(Mutex::new(Instant::now())) }
    }

    async fn turn(&self) {
        let wait = {
            let mut due = self.due.lock().await;
            let now = Instant::now();
            *due = (*due).max(now) + self.interval;
            due.duration_since(now).saturating_sub(self.burst)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_keep_the_pace_after_a_burst() {
        let pace = Pace::new(100);
        let start = Instant::now();
        for _ in 0..200 {
            pace.turn().await;
        }
        let burst = start.elapsed();
        for _ in 0..30 {
            pace.turn().await;
        }
        let took = start.elapsed();
        assert!(burst < Duration::from_millis(150), "{burst:?}");
        assert!(took >= Duration::from_millis(250), "{took:?}");
    }

    #[test]
    fn what_has_a_meaning_in_a_uri_is_escaped() {
        assert_eq!(escape("a-b.c_~9"), "a-b.c_~9");
        assert_eq!(escape("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }
}
