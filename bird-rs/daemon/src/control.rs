//! The control socket: lines in, numbered replies out.
//!
//! One task for each client. Requests go to the daemon one at a time, and the client waits for its reply, so that a
//! client can never have more than one request in the queue.

use std::io;
use std::path::Path;

use bird_core::cli::{Reply, Request, VERSION, parse};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::Input;

/// Longest line of a client, in bytes.
const MAX_LINE: u64 = 65_536;

/// The first line a client gets.
#[must_use]
pub fn greeting() -> String {
    format!("0001 BIRD {VERSION} ready.\n")
}

/// Opens the socket; a dead one left by an earlier process is replaced, a living one is an error.
pub(crate) fn start(path: &Path, events: mpsc::Sender<Input>) -> io::Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers on this socket"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let events = events.clone();
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, events).await {
                            tracing::debug!(%error, "control client gone");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control client");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, events: mpsc::Sender<Input>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    write.write_all(greeting().as_bytes()).await?;
    let mut restricted = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut read).take(MAX_LINE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let reply = match parse(text) {
            Err(reply) => reply,
            Ok(Request::Ignored) => Reply::end(0, ""),
            Ok(Request::Restrict) => {
                restricted = true;
                Reply::end(16, "Access restricted")
            }
            Ok(request) if restricted && changes(&request) => Reply::end(8007, "Access denied"),
            Ok(request) => match ask(&events, request).await {
                Some(reply) => reply,
                None => return Ok(()),
            },
        };
        write.write_all(reply.encode().as_bytes()).await?;
    }
}

async fn ask(events: &mpsc::Sender<Input>, request: Request) -> Option<Reply> {
    let (answer, reply) = oneshot::channel();
    events.send(Input::Control(request, answer)).await.ok()?;
    reply.await.ok()
}

fn changes(request: &Request) -> bool {
    matches!(
        request,
        Request::Configure { .. } | Request::Protocol(_) | Request::GracefulRestart | Request::Down
    )
}
