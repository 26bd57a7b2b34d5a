//! One request over TLS, blocking: enough to talk to an API server from a test, sync or async, without a runtime.
//!
//! HTTP/1.0, so that the answer ends with the connection and has no chunks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// Longest time without a byte.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a request failed.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The HTTP status; 0 where no server answered.
    pub status: u16,
    /// The server's message, or the system's.
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.message)
    }
}

/// Says who the client is, and trusts one authority.
#[derive(Clone)]
pub struct Https {
    tls: Arc<ClientConfig>,
    token: String,
}

impl Https {
    pub fn new(ca_pem: &[u8], token: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(tls), token: token.to_owned() }
    }

    /// One request to 127.0.0.1. What is not JSON in the answer is its text.
    pub fn request(
        &self,
        port: u16,
        method: &str,
        path: &str,
        content: &str,
        body: &[u8],
    ) -> Result<Value, Refused> {
        let answer = self.exchange(port, method, path, content, body);
        let answer = answer.map_err(|e| Refused { status: 0, message: e.to_string() })?;
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |i| i + 4);
        let (head, body) = answer.split_at(end);
        let head = String::from_utf8_lossy(head);
        let status: u16 = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
        let value = serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let message = value["message"].as_str().map_or_else(|| value.to_string(), str::to_owned);
        Err(Refused { status, message })
    }

    fn exchange(
        &self,
        port: u16,
        method: &str,
        path: &str,
        content: &str,
        body: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
        let session = ClientConnection::new(self.tls.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        let mut request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nAccept: application/json\r\n\
             Content-Type: {content}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A server may close the connection without saying so first.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
            Err(e) => return Err(e),
            Ok(_) => {}
        }
        Ok(answer)
    }
}
