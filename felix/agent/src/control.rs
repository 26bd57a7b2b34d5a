//! The control socket: a person asks what Felix believes.
//!
//! In: a line, `dump`. Out: text, then the end. Always holds: asking changes nothing; a socket that cannot be had is a
//! warning, never an obstacle.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Where the socket is.
pub const DEFAULT_PATH: &str = "/var/run/calico/felix.sock";

/// A question that waits for its answer.
pub type Question = oneshot::Sender<String>;

/// Serves the socket; questions arrive at the receiver. `None`: it cannot be served.
#[must_use]
pub fn serve(path: &Path) -> Option<mpsc::Receiver<Question>> {
    if let Some(dir) = path.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    if StdStream::connect(path).is_ok() {
        tracing::warn!(path = %path.display(), "another Felix serves the control socket; dump is not to be had here");
        return None;
    }
    // Left behind by one that was killed.
    let _ = std::fs::remove_file(path);
    let listener = match UnixListener::bind(path) {
        Ok(l) => l,
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "no control socket; dump is not to be had");
            return None;
        }
    };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(10), answer(stream, sender)).await;
            });
        }
    });
    Some(receiver)
}

async fn answer(mut stream: UnixStream, questions: mpsc::Sender<Question>) -> std::io::Result<()> {
    let mut line = [0; 16];
    let n = stream.read(&mut line).await?;
    if line.get(..n).is_none_or(|l| l.trim_ascii() != b"dump") {
        return stream.write_all(b"unknown command; there is: dump\n").await;
    }
    let (sender, receiver) = oneshot::channel();
    if questions.send(sender).await.is_ok()
        && let Ok(text) = receiver.await
    {
        stream.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

/// Asks a running Felix.
///
/// # Errors
/// None runs, or it does not answer in time.
pub fn ask(path: &Path) -> std::io::Result<String> {
    let mut stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"dump\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The socket's path: `CALICO_FELIX_SOCKET`, else the default.
#[must_use]
pub fn path() -> PathBuf {
    std::env::var_os("CALICO_FELIX_SOCKET").map_or_else(|| DEFAULT_PATH.into(), PathBuf::from)
}
