//! One answer for the whole node: is it alive, is it ready.
//!
//! The same checks serve the flags (`-felix-ready -bird-live …`, exit code) and the HTTP endpoint (`/liveness`,
//! `/readiness`) that the supervising process has. Felix answers for itself on its health port; the BGP daemon is asked
//! on its control socket. Ready, as upstream has it: no peer is configured or at least one is established, and no
//! graceful restart is being recovered from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use confd::control::{ControlSocket, Reply};
use libcalico_telemetry::{HealthAggregator, HealthReport, Reporter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::supervise::Status;

/// Longest wait for Felix' answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the supervising process asks.
const PERIOD: Duration = Duration::from_secs(2);
/// A part that was not heard of for so long is not live.
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Live,
    Ready,
}

/// Where Felix answers.
#[derive(Clone, Debug)]
pub struct FelixHealth {
    pub host: String,
    pub port: u16,
}

impl FelixHealth {
    /// `FELIX_HEALTHHOST` and `FELIX_HEALTHPORT`, or upstream's defaults.
    #[must_use]
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            host: var("FELIX_HEALTHHOST").unwrap_or_else(|| "localhost".to_owned()),
            port: var("FELIX_HEALTHPORT").and_then(|p| p.parse().ok()).unwrap_or(9099),
        }
    }
}

/// Asks Felix. The error says what is wrong.
pub async fn felix(at: &FelixHealth, question: Question) -> Result<(), String> {
    let path = match question {
        Question::Live => "/liveness",
        Question::Ready => "/readiness",
    };
    let wrong = |reason: String| format!("felix is not {}: {reason}", word(question));
    let status = timeout(HTTP_TIMEOUT, http_status(at, path))
        .await
        .map_err(|_| wrong(format!("no answer within {HTTP_TIMEOUT:?}")))?
        .map_err(|e| wrong(format!("{}:{}: {e}", at.host, at.port)))?;
    if (200..300).contains(&status) { Ok(()) } else { Err(wrong(format!("it answers {status}"))) }
}

/// Just enough HTTP for a probe.
async fn http_status(at: &FelixHealth, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", at.host);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let code = text.split(' ').nth(1).and_then(|c| c.parse().ok());
    code.ok_or_else(|| std::io::Error::other("the answer is no HTTP"))
}

/// Asks the BGP daemon. The error says what is wrong.
pub async fn bird(socket: &Path, question: Question) -> Result<(), String> {
    let control = ControlSocket::new(socket);
    let wrong = |reason: String| format!("bird is not {}: {reason}", word(question));
    let status = control.command("show status").await.map_err(|e| wrong(e.to_string()))?;
    if question == Question::Live {
        return Ok(());
    }
    if status.lines.iter().any(|l| l.contains("Graceful restart recovery in progress")) {
        return Err(wrong("a graceful restart is in progress".to_owned()));
    }
    let protocols = control.command("show protocols").await.map_err(|e| wrong(e.to_string()))?;
    peers_ready(&protocols).map_err(wrong)
}

fn word(question: Question) -> &'static str {
    match question {
        Question::Live => "live",
        Question::Ready => "ready",
    }
}

/// No sessions, or one that is established.
fn peers_ready(protocols: &Reply) -> Result<(), String> {
    let mut waiting = Vec::new();
    for line in &protocols.lines {
        // Name Proto Table State Since Info
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.get(1) != Some(&"BGP") {
            continue;
        }
        if words.contains(&"Established") {
            return Ok(());
        }
        waiting.extend(words.first().map(|w| (*w).to_owned()));
    }
    if waiting.is_empty() {
        return Ok(());
    }
    waiting.sort();
    Err(format!("no BGP session is established: {}", waiting.join(", ")))
}

/// What the supervising process watches.
pub struct Watched {
    pub felix: FelixHealth,
    /// None where BGP does not route.
    pub bird_socket: Option<std::path::PathBuf>,
    /// confd has rendered once this stands.
    pub bird_config: Option<std::path::PathBuf>,
    pub children: Vec<(&'static str, watch::Receiver<Status>)>,
}

/// Asks and reports, for ever. Live: every child runs or is about to be started again. Ready: each does its work.
pub async fn watch(watched: Watched, health: Arc<HealthAggregator>) {
    for (name, _) in &watched.children {
        health.register(name, Reporter { live: true, ready: true, timeout: Some(REPORT_TIMEOUT) });
    }
    loop {
        for (name, status) in &watched.children {
            let status = status.borrow().clone();
            let ready = match (status.pid, *name) {
                (None, _) => Err(status.trouble.unwrap_or_else(|| "not started yet".to_owned())),
                (Some(_), "felix") => felix(&watched.felix, Question::Ready).await,
                (Some(_), "bird") => match &watched.bird_socket {
                    Some(socket) => bird(socket, Question::Ready).await,
                    None => Ok(()),
                },
                (Some(_), "confd") => match &watched.bird_config {
                    Some(file) if !file.exists() => Err("nothing rendered yet".to_owned()),
                    _ => Ok(()),
                },
                (Some(_), _) => Ok(()),
            };
            let report = HealthReport { live: true, ready: ready.is_ok() };
            health.report(name, report, ready.as_ref().err().map_or("", String::as_str));
        }
        sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn protocols(lines: &[&str]) -> Reply {
        Reply { code: 0, lines: lines.iter().map(|l| (*l).to_owned()).collect() }
    }

    #[test]
    fn bird_is_ready_without_peers_and_with_one_established() {
        let kernel = "kernel_v4  Kernel     master4    up     10:00:00.000  ";
        let up = "Mesh_10_0_0_2 BGP        ---        up     10:00:00.000  Established   ";
        let waiting =
            "Mesh_10_0_0_3 BGP        ---        start  10:00:00.000  Active        Socket: refused";
        assert!(peers_ready(&protocols(&[kernel])).is_ok());
        assert!(peers_ready(&protocols(&[kernel, waiting, up])).is_ok());
        let error = peers_ready(&protocols(&[kernel, waiting])).unwrap_err();
        assert!(error.contains("Mesh_10_0_0_3"), "{error}");
    }

    #[tokio::test]
    async fn felix_is_ready_where_it_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = FelixHealth { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let server = tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "what?"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0u8; 256];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /readiness HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert!(felix(&at, Question::Ready).await.is_ok());
        assert!(felix(&at, Question::Ready).await.unwrap_err().contains("503"));
        assert!(felix(&at, Question::Ready).await.unwrap_err().contains("no HTTP"));
        server.await.unwrap();
        assert!(felix(&at, Question::Live).await.unwrap_err().contains("not live"));
    }

    #[tokio::test]
    async fn a_bird_that_is_not_there_is_not_live() {
        let error = bird(Path::new("/nonexistent/bird.ctl"), Question::Live).await.unwrap_err();
        assert!(error.contains("no BGP daemon"), "{error}");
    }
}
