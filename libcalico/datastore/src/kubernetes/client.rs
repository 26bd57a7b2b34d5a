//! Requests to the API server: one connection for all of them, each within a limit of time.
//!
//! Always holds: nothing is dialled before the first request; a connection that goes silent is given up by HTTP/2 pings
//! within [`PING_INTERVAL`](super::session::PING_INTERVAL) + [`PING_TIMEOUT`](super::session::PING_TIMEOUT) while anything
//! is on it, watches included; tokens, certificates and kubeconfigs are read again at least once in [`REREAD`], and at once
//! where the server refuses them or cannot be reached. Left out: what the JSON means.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::io::Lines;
use futures::{AsyncBufRead, AsyncBufReadExt};
use http::{Method, Request};
use libcalico_net::interface_name::DEFAULT_PREFIX;
use serde_json::Value;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;

use super::config::KubernetesConfig;
use super::error::{ApiError, translate, unreachable};
use super::session::Session;
use crate::{DatastoreError, Result};

/// Longest time for one request, a page of a listing or the beginning of a watch.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for a watch to go on where it broke: a listing is tried afterwards anyway.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(5);

/// Files of credentials are read again so often while nothing is wrong.
pub const REREAD: Duration = Duration::from_secs(60);
/// Requests at once after a rest, where a pace is kept. Upstream's default.
const BURST: u32 = 100;

/// A merge patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// The lines of a watch.
pub type EventLines = Lines<Pin<Box<dyn AsyncBufRead + Send>>>;

/// A client of one API server.
pub struct Client {
    config: KubernetesConfig,
    held: RwLock<Option<Held>>,
    /// Where the server is, once that was read.
    endpoint: OnceLock<String>,
    pace: Option<Pace>,
    /// A request was answered: there is a connection that the next ones share.
    warm: AtomicBool,
    /// Until then one request goes at a time: several at once would each dial, and pay for TLS.
    first: Mutex<()>,
}

/// The session in use.
struct Held {
    session: Arc<Session>,
    /// When its files were compared.
    checked: Instant,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(config: KubernetesConfig) -> Self {
        let pace = config.qps.filter(|n| *n > 0).map(|qps| Pace::new(qps, config.burst.unwrap_or(BURST)));
        Self {
            config,
            held: RwLock::new(None),
            endpoint: OnceLock::new(),
            pace,
            warm: AtomicBool::new(false),
            first: Mutex::new(()),
        }
    }

    /// Before the names of pods' interfaces.
    pub fn interface_prefix(&self) -> &str {
        self.config.interface_prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }

    async fn session(&self) -> Result<Arc<Session>> {
        if let Some(held) = &*self.held.read().await
            && held.checked.elapsed() < REREAD
        {
            return Ok(held.session.clone());
        }
        let mut held = self.held.write().await;
        match &mut *held {
            // Another request was quicker.
            Some(h) if h.checked.elapsed() < REREAD => return Ok(h.session.clone()),
            Some(h) => {
                h.checked = Instant::now();
                self.renew(h).await;
                return Ok(h.session.clone());
            }
            None => {}
        }
        let session = Arc::new(Session::open(&self.config).await?);
        // It stays what it was first, also where a kubeconfig is changed to another server: for messages alone.
        let _ = self.endpoint.set(session.endpoint.clone());
        *held = Some(Held { session: session.clone(), checked: Instant::now() });
        Ok(session)
    }

    /// Makes the session anew where its files changed. Files that cannot be used leave the old one.
    async fn renew(&self, held: &mut Held) {
        if !held.session.outdated().await {
            return;
        }
        match Session::open(&self.config).await {
            Ok(session) => {
                tracing::info!(
                    endpoint = session.endpoint,
                    "credentials of the Kubernetes API were read again"
                );
                held.session = Arc::new(session);
                self.warm.store(false, Ordering::Release);
            }
            Err(error) => tracing::warn!(%error, "changed credentials of the Kubernetes API cannot be used"),
        }
    }

    /// What to use instead of a session that failed: none where nothing changed since it was made.
    async fn instead_of(&self, failed: &Arc<Session>) -> Option<Arc<Session>> {
        let mut held = self.held.write().await;
        let held = held.as_mut()?;
        if Arc::ptr_eq(&held.session, failed) {
            self.renew(held).await;
        }
        (!Arc::ptr_eq(&held.session, failed)).then(|| held.session.clone())
    }

    /// Does something with a session. Where the server refuses its credentials and there are newer ones, again with
    /// those; where it cannot be reached (by a certificate that is over, or an authority that was replaced), again only
    /// where that does no harm.
    async fn with_session<T, F, Fut>(&self, harmless: bool, call: F) -> Result<T, ApiError>
    where
        F: Fn(Arc<Session>) -> Fut,
        Fut: Future<Output = Result<T, ApiError>>,
    {
        let session = self.session().await.map_err(ApiError::Datastore)?;
        let error = match call(session.clone()).await {
            Err(
                e @ ApiError::Datastore(DatastoreError::Unauthorized(_) | DatastoreError::Unreachable { .. }),
            ) => e,
            answer => return answer,
        };
        let refused = matches!(error, ApiError::Datastore(DatastoreError::Unauthorized(_)));
        match self.instead_of(&session).await {
            Some(newer) if refused || harmless => call(newer).await,
            _ => Err(error),
        }
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
        self.with_session(true, |session| async move {
            self.take_turn().await;
            let request = request(Method::GET, path, JSON, Vec::new())?;
            let stream = within(&session.endpoint, limit, session.client.request_stream(request))
                .await?
                .map_err(|e| translate(&session.endpoint, path, &e))?;
            let boxed: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(stream);
            Ok(boxed.lines())
        })
        .await
    }

    /// Where the server is, for messages.
    pub fn endpoint(&self) -> String {
        self.endpoint.get().map_or_else(|| "kubernetes".to_owned(), String::clone)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<String, ApiError> {
        let body = &body;
        self.with_session(method == Method::GET, |session| {
            let method = method.clone();
            async move {
                self.take_turn().await;
                let request = request(method, path, content, body.clone())?;
                let cold = !self.warm.load(Ordering::Acquire);
                let turn = if cold { Some(self.first.lock().await) } else { None };
                let turn = turn.filter(|_| !self.warm.load(Ordering::Acquire));
                let answer =
                    within(&session.endpoint, REQUEST_TIMEOUT, session.client.request_text(request)).await?;
                // A refusal is an answer too, but with wrong credentials there is no hurry.
                if answer.is_ok() || matches!(answer, Err(kube::Error::Api(_))) {
                    self.warm.store(true, Ordering::Release);
                }
                drop(turn);
                answer.map_err(|e| translate(&session.endpoint, path, &e))
            }
        })
        .await
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

/// At most so many requests a second, and some at once after a rest.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the next request would be due if all kept the pace.
    due: Mutex<Instant>,
}

impl Pace {
    fn new(qps: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / qps.max(1);
        Self { interval, burst: interval * burst, due: Mutex::new(Instant::now()) }
    }

    /// Moves on when the next request is due, and says how long this one waits.
    fn book(&self, due: &mut Instant, now: Instant) -> Duration {
        *due = (*due).max(now) + self.interval;
        due.duration_since(now).saturating_sub(self.burst)
    }

    async fn turn(&self) {
        let wait = {
            let mut due = self.due.lock().await;
            self.book(&mut due, Instant::now())
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_the_pace_after_a_burst() {
        let pace = Pace::new(100, 200);
        let now = Instant::now();
        let mut due = now;
        let waits: Vec<Duration> = (0..230).map(|_| pace.book(&mut due, now)).collect();
        assert!(waits[..200].iter().all(Duration::is_zero));
        assert_eq!(waits[229], Duration::from_millis(300));
        // After a rest there is a burst again.
        assert!(pace.book(&mut due, now + Duration::from_secs(10)).is_zero());
    }

    #[test]
    fn what_has_a_meaning_in_a_uri_is_escaped() {
        assert_eq!(escape("a-b.c_~9"), "a-b.c_~9");
        assert_eq!(escape("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }
}
