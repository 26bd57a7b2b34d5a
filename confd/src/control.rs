//! The BGP daemon's control socket, as far as a reload needs it.
//!
//! A command is one line; a reply is lines that begin with a four-digit code and a dash (more follow) or a space (the
//! last). Codes below 8000 are success, 8000 and above errors. Always holds: a reply is bounded in size and time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest reply that is read, in bytes.
const MAX_REPLY: u64 = 1 << 20;
/// Longest wait for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command had no success.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: the daemon is not running (yet).
    #[error("no BGP daemon at {path}: {source}")]
    NotRunning { path: String, source: std::io::Error },
    #[error("connection to the BGP daemon at {path} failed: {reason}")]
    Broken { path: String, reason: String },
    #[error("the BGP daemon refused {command:?}: {code} {text}")]
    Refused { command: String, code: u16, text: String },
}

/// One reply: the last code and all lines without their codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

/// A control socket.
#[derive(Clone, Debug)]
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Remembers the path; a connection is made for each command.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks the daemon to read its file again. Sessions that did not change stay up.
    pub async fn configure(&self) -> Result<Reply, ControlError> {
        self.command("configure").await
    }

    /// Sends a command and reads its reply.
    pub async fn command(&self, command: &str) -> Result<Reply, ControlError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ControlError::NotRunning { path: self.path.display().to_string(), source })?;
        let exchange = async {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read.take(MAX_REPLY));
            read_reply(&mut lines).await?; // the greeting: 0001 BIRD … ready.
            write.write_all(format!("{command}\n").as_bytes()).await.map_err(|e| e.to_string())?;
            read_reply(&mut lines).await
        };
        let broken = |reason: String| ControlError::Broken { path: self.path.display().to_string(), reason };
        let reply = timeout(REPLY_TIMEOUT, exchange)
            .await
            .map_err(|_| broken(format!("no reply within {REPLY_TIMEOUT:?}")))?
            .map_err(broken)?;
        if reply.code >= 8000 {
            return Err(ControlError::Refused {
                command: command.to_owned(),
                code: reply.code,
                text: reply.lines.join("; "),
            });
        }
        Ok(reply)
    }
}

async fn read_reply<R: AsyncBufReadExt + Unpin>(lines: &mut R) -> Result<Reply, String> {
    let mut reply = Reply::default();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await.map_err(|e| e.to_string())? == 0 {
            return Err("it closed the connection".to_owned());
        }
        match parse_line(line.trim_end_matches(['\n', '\r'])) {
            Line::Last(code, text) => {
                reply.code = code;
                reply.lines.push(text.to_owned());
                return Ok(reply);
            }
            Line::More(text) => reply.lines.push(text.to_owned()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    More(&'a str),
    Last(u16, &'a str),
}

/// `0002-Reading configuration`, ` and more of it`, `0003 Reconfigured`.
fn parse_line(line: &str) -> Line<'_> {
    let code = line.get(..4).filter(|c| c.bytes().all(|b| b.is_ascii_digit())).and_then(|c| c.parse().ok());
    match (code, line.get(4..5), line.get(5..)) {
        (Some(code), Some(" "), Some(text)) => Line::Last(code, text),
        (Some(_), Some("-"), Some(text)) => Line::More(text),
        (Some(code), None, _) => Line::Last(code, ""),
        _ => Line::More(line.strip_prefix(' ').unwrap_or(line)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    proptest::proptest! {
        #[test]
        fn no_line_is_too_strange_to_read(line in ".*") {
            parse_line(&line);
        }
    }

    #[test]
    fn a_line_is_the_last_where_a_space_follows_its_code() {
        assert_eq!(parse_line("0003 Reconfigured"), Line::Last(3, "Reconfigured"));
        assert_eq!(parse_line("0002-Reading"), Line::More("Reading"));
        assert_eq!(parse_line(" more"), Line::More("more"));
        assert_eq!(parse_line("0000"), Line::Last(0, ""));
        assert_eq!(parse_line("é"), Line::More("é"));
    }

    async fn daemon_that_says(answer: &'static str) -> Result<Reply, ControlError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bird.ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(b"0001 BIRD 2.0.12 ready.\n").await.unwrap();
            let mut command = String::new();
            BufReader::new(read).read_line(&mut command).await.unwrap();
            assert_eq!(command, "configure\n");
            write.write_all(answer.as_bytes()).await.unwrap();
        });
        let reply = ControlSocket::new(&path).configure().await;
        server.await.unwrap();
        reply
    }

    #[tokio::test]
    async fn a_reload_that_is_taken_is_success() {
        let reply =
            daemon_that_says("0002-Reading configuration from /x\n0003 Reconfigured\n").await.unwrap();
        assert_eq!((reply.code, reply.lines.len()), (3, 2));
        assert!(daemon_that_says("0004 Reconfiguration in progress\n").await.is_ok());
    }

    #[tokio::test]
    async fn a_reload_that_is_refused_says_why() {
        let error = daemon_that_says("0002-Reading\n8002 /x:3:1 syntax error\n").await.unwrap_err();
        assert!(matches!(&error, ControlError::Refused { code: 8002, .. }), "{error}");
        assert!(error.to_string().contains("syntax error"), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_up_is_an_error() {
        assert!(matches!(daemon_that_says("").await, Err(ControlError::Broken { .. })));
    }

    #[tokio::test]
    async fn no_daemon_is_told_apart_from_a_broken_one() {
        let error = ControlSocket::new(Path::new("/nonexistent/bird.ctl")).configure().await.unwrap_err();
        assert!(matches!(error, ControlError::NotRunning { .. }));
    }
}
