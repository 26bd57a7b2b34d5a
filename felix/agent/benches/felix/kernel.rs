//! When the kernel's tables changed: nf_tables' generation, asked for every half millisecond.
//!
//! Each committed transaction of any program, `iptables-nft` included, makes a new generation. Asking takes no lock that a
//! transaction waits for, and nobody is notified, so that all programs are measured alike and none is slowed. Left out:
//! IP sets of the iptables backend, which have no generation; rules that use a new one come after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::kernel::netns;
use felix_dataplane::kernel::attr::{Attributes, Builder, be32};
use felix_dataplane::kernel::netlink::{Netlink, flags};
use felix_dataplane::kernel::nft::{NETLINK_NETFILTER, message_type};

/// Time between two questions.
const BEAT: Duration = Duration::from_micros(500);
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 16;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;
/// `struct nfgenmsg`.
const FIXED: usize = 4;

/// Follows a namespace's generation until it is dropped.
pub struct Generations {
    changes: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Generations {
    pub fn start(ns: &str) -> Result<Self> {
        let mut socket = netns::within(ns, || {
            Netlink::open(NETLINK_NETFILTER).map_err(|e| e2e::LabError::io("opening a netlink socket", e))
        })?;
        let changes = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (list, end) = (changes.clone(), stop.clone());
        let mut now = generation(&mut socket).context("asking for nf_tables' generation")?;
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(BEAT);
                match generation(&mut socket) {
                    Ok(next) if next != now => {
                        now = next;
                        lock(&list).push(Instant::now());
                    }
                    // Asked again.
                    Ok(_) | Err(_) => {}
                }
            }
        });
        Ok(Self { changes, stop, thread: Some(thread) })
    }

    /// When it last changed, where that was after a moment.
    pub fn last_after(&self, start: Instant) -> Option<Instant> {
        lock(&self.changes).last().copied().filter(|at| *at > start)
    }

    /// Waits for a change after `start` and then for quiet, which has to last `quiet` and a quarter of what it took until
    /// then, since a program may work on its next table meanwhile. Returns the time of the last change.
    pub fn settle(&self, start: Instant, quiet: Duration, limit: Duration) -> Result<Duration> {
        loop {
            std::thread::sleep(Duration::from_millis(5));
            if let Some(last) = self.last_after(start) {
                let took = last - start;
                if last.elapsed() > quiet.max(took / 4) {
                    return Ok(took);
                }
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "the kernel's tables are not as they should be after {limit:?}"
            );
        }
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn generation(socket: &mut Netlink) -> std::io::Result<u32> {
    let seq = socket.next_seq();
    let mut request = Builder::default();
    request.begin_message(message_type(GET_GENERATION), flags::REQUEST | flags::ACK, seq);
    request.raw(&[0; FIXED]);
    request.end_message();
    let mut found = None;
    socket.query(&request.into_bytes(), seq, |m| {
        let attributes = m.payload.get(FIXED..).unwrap_or_default();
        found = Attributes(attributes).find(|(k, _)| *k == GENERATION).and_then(|(_, v)| be32(v));
    })?;
    found.ok_or_else(|| std::io::Error::other("no generation in the answer"))
}
