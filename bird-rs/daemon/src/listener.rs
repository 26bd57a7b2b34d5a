//! Listening sockets: exactly those the engine wants, one for each address and port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bird_core::Listen;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::connection::plain;
use crate::daemon::Input;
use crate::socket;

struct Open {
    listener: Arc<TcpListener>,
    task: AbortHandle,
    passwords: Vec<(IpAddr, String)>,
}

/// All listening sockets.
#[derive(Default)]
pub(crate) struct Listeners {
    wanted: Vec<Listen>,
    open: BTreeMap<(IpAddr, u16), Open>,
}

impl Listeners {
    /// Takes a new list. Returns whether everything stands; when not, [`Listeners::retry`] tries again.
    pub fn set(&mut self, wanted: Vec<Listen>, events: &mpsc::Sender<Input>) -> bool {
        self.wanted = wanted;
        let keys: Vec<(IpAddr, u16)> = self.wanted.iter().map(|l| (l.address, l.port)).collect();
        self.open.retain(|key, open| {
            let keep = keys.contains(key);
            if !keep {
                open.task.abort();
            }
            keep
        });
        self.retry(events)
    }

    /// Opens what is still missing.
    pub fn retry(&mut self, events: &mpsc::Sender<Input>) -> bool {
        let mut complete = true;
        for listen in &self.wanted {
            let key = (listen.address, listen.port);
            if let std::collections::btree_map::Entry::Vacant(e) = self.open.entry(key) {
                match start(listen, events) {
                    Ok(open) => {
                        tracing::debug!(address = %listen.address, port = listen.port, "listening");
                        e.insert(open);
                    }
                    Err(error) => {
                        tracing::error!(address = %listen.address, port = listen.port, %error, "cannot listen");
                        complete = false;
                    }
                }
            }
            if let Some(open) = self.open.get_mut(&key) {
                update_passwords(open, &listen.passwords);
            }
        }
        complete
    }
}

fn start(listen: &Listen, events: &mpsc::Sender<Input>) -> std::io::Result<Open> {
    let socket = socket::listening(listen.address, listen.port)?;
    let listener = Arc::new(TcpListener::from_std(socket.into())?);
    let task = tokio::spawn(accept(listener.clone(), listen.port, events.clone())).abort_handle();
    Ok(Open { listener, task, passwords: Vec::new() })
}

async fn accept(listener: Arc<TcpListener>, port: u16, events: mpsc::Sender<Input>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Ok(local) = stream.local_addr() else { continue };
                let input = Input::Accepted { stream, local: plain(local), port, remote: plain(remote) };
                if events.send(input).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

fn update_passwords(open: &mut Open, wanted: &[(IpAddr, String)]) {
    if open.passwords == wanted {
        return;
    }
    let fd = open.listener.as_raw_fd();
    for (peer, _) in &open.passwords {
        if !wanted.iter().any(|(p, _)| p == peer) {
            report(*peer, socket::set_md5(fd, *peer, ""));
        }
    }
    for (peer, password) in wanted {
        report(*peer, socket::set_md5(fd, *peer, password));
    }
    open.passwords = wanted.to_vec();
}

fn report(peer: IpAddr, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%peer, %error, "cannot set the MD5 password");
    }
}
