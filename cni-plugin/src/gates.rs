//! `readiness_gates`: services of the node that must be ready before it takes pods.
//!
//! In come URLs, out goes an error that names the first that does not answer with a 2xx status. Only `http`: gates are
//! health ports of the same machine.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{CniError, Code};

/// Longest wait for one gate. Upstream's number.
const WAIT: Duration = Duration::from_secs(5);

/// Succeeds when every gate is open.
pub async fn wait_open(gates: &[String]) -> Result<(), CniError> {
    for gate in gates {
        let url = parse(gate).ok_or_else(|| {
            CniError::new(Code::InvalidConfig, format!("readiness_gates: {gate:.200?} is no http:// URL"))
        })?;
        let closed = |why: String| {
            CniError::new(Code::TryAgainLater, format!("readiness gate {gate} is closed: {why}"))
        };
        match tokio::time::timeout(WAIT, status(&url)).await {
            Ok(Ok(200..=299)) => {}
            Ok(Ok(status)) => return Err(closed(format!("status {status}"))),
            Ok(Err(e)) => return Err(closed(e.to_string())),
            Err(_) => return Err(closed(format!("no answer within {} s", WAIT.as_secs()))),
        }
    }
    Ok(())
}

struct Url<'a> {
    /// Host and port.
    authority: String,
    path: &'a str,
}

fn parse(text: &str) -> Option<Url<'_>> {
    let rest = text.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let has_port = host.rsplit_once(':').is_some_and(|(_, p)| digits(p));
    let clean = !host.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
    clean.then_some(Url { authority, path })
}

async fn status(url: &Url<'_>) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(&url.authority).await?;
    let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", url.path, url.authority);
    stream.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200": the rest of the answer does not matter.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|h| h.strip_prefix("HTTP/1."))
        .and_then(|h| h.get(2..)?.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_a_port_and_a_path() {
        let parts = |t| parse(t).map(|u| (u.authority, u.path.to_owned()));
        let is = |a: &str, p: &str| Some((a.to_owned(), p.to_owned()));
        assert_eq!(parts("http://127.0.0.1:9099/readiness"), is("127.0.0.1:9099", "/readiness"));
        assert_eq!(parts("http://localhost"), is("localhost:80", "/"));
        assert_eq!(parts("https://localhost"), None);
        assert_eq!(parts("http:///x"), None);
        assert_eq!(parts("http://a/\r\nEvil: 1"), None);
    }

    #[test]
    fn a_gate_is_open_when_its_status_is_2xx() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let gate = vec![format!("http://{}/readiness", listener.local_addr().unwrap())];
            let serve = tokio::spawn(async move {
                for status in ["200 OK", "503 Service Unavailable"] {
                    let (mut s, _) = listener.accept().await.unwrap();
                    let mut request = [0; 256];
                    let _ = s.read(&mut request).await.unwrap();
                    s.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
                }
            });
            wait_open(&gate).await.unwrap();
            let e = wait_open(&gate).await.unwrap_err();
            assert!(e.code == Code::TryAgainLater && e.msg.contains("503"), "{e}");
            serve.await.unwrap();
            assert!(wait_open(&gate).await.is_err(), "nobody listens any more");
        });
    }
}
