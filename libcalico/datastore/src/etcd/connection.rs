//! One client for each endpoint, made when first needed; the endpoint that answered last is asked first.
//!
//! Always holds: a call tries each endpoint at most once, in turn from the current one, each within the dialling and
//! request timeouts. A connection that goes silent is given up by HTTP/2 keepalive within [`KEEPALIVE_INTERVAL`] +
//! [`KEEPALIVE_TIMEOUT`] while a call or watch is on it. After a failure the endpoint's client is made anew, so that
//! certificates are read from their files and the password is given again.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Mutex;

use super::error;
use crate::config::{EtcdConfig, Pem};
use crate::{DatastoreError, Result};

/// etcd counts pings closer than five seconds as abuse.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(6);
/// A server that does not answer a ping for so long is given up.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Where distributions keep the roots that they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which failures send a call to the next endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Reads: any failure of the endpoint.
    Always,
    /// Writes: only where the endpoint was never reached. After that nobody knows whether the write was done.
    NeverReached,
}

/// The endpoints of a cluster.
pub struct Connection {
    config: EtcdConfig,
    clients: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Connection {
    pub fn new(config: EtcdConfig) -> Self {
        let clients = config.endpoints.iter().map(|_| Mutex::new(None)).collect();
        Self { config, clients, current: AtomicUsize::new(0) }
    }

    /// All endpoints, for errors.
    pub fn endpoints(&self) -> String {
        self.config.endpoints.join(",")
    }

    /// Calls one endpoint after the other until one answers.
    pub async fn call<T, F, Fut>(&self, subject: &str, retry: Retry, call: F) -> Result<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let count = self.clients.len();
        let first = self.current.load(Ordering::Relaxed);
        let mut failures: Vec<String> = Vec::new();
        for i in 0..count {
            let index = (first + i) % count.max(1);
            let endpoint = self.config.endpoints.get(index).map_or("", String::as_str);
            let (failure, again) = match self.attempt(index, &call).await {
                Ok(Ok(v)) => {
                    if i > 0 {
                        self.current.store(index, Ordering::Relaxed);
                        tracing::info!(endpoint, "etcd client moved to another endpoint");
                    }
                    return Ok(v);
                }
                Ok(Err(e)) => {
                    let again = retry == Retry::Always || error::never_reached(&e);
                    (error::translate(endpoint, subject, &e), again)
                }
                Err(e @ DatastoreError::Unreachable { .. }) => (e, retry == Retry::Always),
                Err(e) => return Err(e),
            };
            match failure {
                DatastoreError::Unreachable { reason, .. } => {
                    // The next call begins elsewhere.
                    self.current.store((index + 1) % count.max(1), Ordering::Relaxed);
                    failures.push(if count > 1 { format!("{endpoint}: {reason}") } else { reason });
                    if !again {
                        break;
                    }
                }
                e => return Err(e),
            }
        }
        Err(DatastoreError::Unreachable { endpoints: self.endpoints(), reason: failures.join("; ") })
    }

    /// The outer error is ours (timeout, configuration), the inner one etcd's.
    async fn attempt<T, F, Fut>(&self, index: usize, call: &F) -> Result<Result<T, Error>>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let limit = self.config.dial_timeout + self.config.request_timeout;
        let timed = tokio::time::timeout(limit, async {
            match self.client(index).await? {
                Ok(client) => Ok(call(client).await),
                Err(e) => Ok(Err(e)),
            }
        });
        let done = timed.await.unwrap_or_else(|_| {
            Err(DatastoreError::Unreachable {
                endpoints: self.config.endpoints.get(index).cloned().unwrap_or_default(),
                reason: format!("no answer within {limit:?}"),
            })
        });
        let lost = match &done {
            Ok(Ok(_)) => false,
            Ok(Err(e)) => error::connection_is_bad(e),
            Err(_) => true,
        };
        // Where the cell is taken, another call makes a new client already.
        if lost && let Some(mut held) = self.clients.get(index).and_then(|c| c.try_lock().ok()) {
            *held = None;
        }
        done
    }

    async fn client(&self, index: usize) -> Result<Result<Client, Error>> {
        let (Some(cell), Some(endpoint)) = (self.clients.get(index), self.config.endpoints.get(index)) else {
            return Err(DatastoreError::Configuration {
                what: "etcd endpoints".to_owned(),
                reason: "no server is named; set ETCD_ENDPOINTS".to_owned(),
            });
        };
        // One at a time dials; the others wait for it within their own limits.
        let mut held = cell.lock().await;
        if let Some(client) = &*held {
            return Ok(Ok(client.clone()));
        }
        let options = options(&self.config, endpoint).await?;
        // Dials only where there is a user to authenticate.
        let made = Client::connect([endpoint], Some(options)).await;
        if let Ok(client) = &made {
            *held = Some(client.clone());
        }
        Ok(made)
    }
}

async fn options(config: &EtcdConfig, endpoint: &str) -> Result<ConnectOptions> {
    let mut o = ConnectOptions::new()
        .with_connect_timeout(config.dial_timeout)
        .with_timeout(config.request_timeout)
        .with_keep_alive(KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT)
        // etcd ends connections that ping without a call on them.
        .with_keep_alive_while_idle(false)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(user) = &config.username {
        o = o.with_user(user, config.password.clone().unwrap_or_default());
    }
    if endpoint.starts_with("https://") {
        o = o.with_tls(tls(config).await?);
    }
    Ok(o)
}

async fn tls(config: &EtcdConfig) -> Result<TlsOptions> {
    let mut tls = TlsOptions::new();
    match &config.ca {
        Some(ca) => {
            tls = tls.ca_certificate(Certificate::from_pem(certificates("CA certificate", ca).await?));
        }
        None => {
            for path in SYSTEM_ROOTS {
                if let Ok(pem) = tokio::fs::read(path).await {
                    tls = tls.ca_certificate(Certificate::from_pem(pem));
                    break;
                }
            }
        }
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        let cert = certificates("client certificate", cert).await?;
        tls = tls.identity(Identity::from_pem(cert, read("client key", key).await?));
    }
    Ok(tls)
}

/// As [`read`], where the library would take a file without any certificate for an authority that signed nothing.
async fn certificates(what: &str, pem: &Pem) -> Result<Vec<u8>> {
    let bytes = read(what, pem).await?;
    if CertificateDer::pem_slice_iter(&bytes).any(|c| c.is_ok()) {
        return Ok(bytes);
    }
    Err(DatastoreError::Configuration {
        what: subject(what, pem),
        reason: "there is no certificate in it; PEM is expected".to_owned(),
    })
}

async fn read(what: &str, pem: &Pem) -> Result<Vec<u8>> {
    match pem {
        Pem::Inline(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => tokio::fs::read(path)
            .await
            .map_err(|e| DatastoreError::Configuration { what: subject(what, pem), reason: e.to_string() }),
    }
}

fn subject(what: &str, pem: &Pem) -> String {
    match pem {
        Pem::Inline(_) => format!("etcd {what}"),
        Pem::File(path) => format!("etcd {what} {}", path.display()),
    }
}
