//! A TCP proxy that can go silent: connections stay open, nothing passes. A black hole without a firewall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Between a client and a port of 127.0.0.1, on the runtime that it was started in.
pub struct Proxy {
    port: u16,
    silent: Arc<watch::Sender<bool>>,
    /// Bytes that may still come from the server.
    budget: Arc<AtomicU64>,
    /// Bytes that came from the server so far.
    passed: Arc<AtomicU64>,
    target: Arc<watch::Sender<u16>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To this port.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let silent = Arc::new(watch::Sender::new(false));
        let state = silent.clone();
        let budget = Arc::new(AtomicU64::new(u64::MAX));
        let left = budget.clone();
        let passed = Arc::new(AtomicU64::new(0));
        let counted = passed.clone();
        let target = Arc::new(watch::Sender::new(target));
        let to = target.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let port = *to.borrow();
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (cr, cw) = client.into_split();
                let (sr, sw) = server.into_split();
                let mut moved = to.subscribe();
                moved.mark_unchanged();
                let (silent_in, silent_out) = (state.subscribe(), state.subscribe());
                let (left, state, counted) = (left.clone(), state.clone(), counted.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = pump(cr, sw, silent_in, |_| {}) => {}
                        () = pump(sr, cw, silent_out, |n| {
                            counted.fetch_add(n, Ordering::Relaxed);
                            let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| {
                                if l == u64::MAX { None } else { Some(l.saturating_sub(n)) }
                            });
                            if spent.is_ok_and(|before| before <= n) {
                                let _ = state.send(true);
                            }
                        }) => {}
                        _ = moved.changed() => {}
                    }
                });
            }
        });
        Self { port, silent, budget, passed, target, task }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all connections; new ones go to another port.
    pub fn retarget(&self, target: u16) {
        let _ = self.target.send(target);
    }

    /// Passes nothing on, and keeps the connections open.
    pub fn set_silent(&self, silent: bool) {
        self.budget.store(u64::MAX, Ordering::Relaxed);
        let _ = self.silent.send(silent);
    }

    /// Goes silent by itself after so many more bytes of the server: in the middle of an answer.
    pub fn set_silent_after(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that came from the server so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Returns when the proxy is silent.
    pub async fn silence(&self) {
        let mut silent = self.silent.subscribe();
        // The sender lives as long as the proxy.
        let _ = silent.wait_for(|s| *s).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut silent: watch::Receiver<bool>,
    passed: impl Fn(u64),
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(n) = from.read(&mut buffer).await else { return };
        if n == 0 || silent.wait_for(|s| !*s).await.is_err() || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        passed(n as u64);
    }
}
