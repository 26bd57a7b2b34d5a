//! Removes connections that must not go on: those of addresses that no longer belong to a workload here.
//!
//! ```text
//!  addresses ──▶ bounded queue ──▶ thread: one read of all entries for everything that waits ──▶ removals
//! ```
//!
//! Always holds: the dataplane never waits for it; a full queue widens the next pass instead of losing an address. A
//! workload that gets the address of another one later does not inherit its connections.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::kernel::conntrack::{self, Entry, NETLINK_NETFILTER};
use crate::kernel::netlink::Netlink;
use crate::rule::Family;

/// Batches of addresses that may wait.
const QUEUE: usize = 64;

/// Removes every entry for which `gone` holds; returns how many.
///
/// # Errors
/// As the kernel says; entries that were found before are removed all the same.
pub fn remove(
    socket: &mut Netlink,
    families: &[Family],
    mut gone: impl FnMut(&Entry) -> bool,
) -> io::Result<usize> {
    let mut removed = 0;
    for family in families {
        let mut found = Vec::new();
        // Between two tries of a torn dump entries may come twice: the second removal finds nothing.
        let read = conntrack::entries(socket, *family, |e| {
            if gone(&e) {
                found.push(e);
            }
        });
        for e in &found {
            conntrack::delete(socket, e)?;
        }
        removed += found.len();
        read?;
    }
    Ok(removed)
}

/// The way to the thread. Dropping it ends the thread once everything that waits is done.
#[derive(Debug)]
pub struct Cleaner {
    sender: SyncSender<Vec<IpAddr>>,
    /// What found no room.
    pending: Vec<IpAddr>,
    busy: Busy,
}

/// Since when the thread has been at work on what it does now. Cheap to clone: clones share.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<Mutex<Option<Instant>>>);

impl Busy {
    /// `None`: it waits for work.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl Cleaner {
    /// Starts the thread in the calling thread's network namespace.
    ///
    /// # Errors
    /// No socket or no thread is to be had.
    pub fn start() -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_NETFILTER)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let busy = Busy::default();
        let of_thread = busy.clone();
        thread::Builder::new()
            .name("conntrack".to_owned())
            .spawn(move || run(socket, &receiver, &of_thread))?;
        Ok(Self { sender, pending: Vec::new(), busy })
    }

    /// For a watchdog: whether the thread hangs.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.busy.clone()
    }

    /// Has the connections of these addresses removed, soon. Never waits.
    pub fn forget(&mut self, addresses: Vec<IpAddr>) {
        self.pending.extend(addresses);
        if self.pending.is_empty() {
            return;
        }
        match self.sender.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => {}
            // The thread is busy: they go with the next ones, or with the next apply.
            Err(TrySendError::Full(back)) => self.pending = back,
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!(
                    "connections of removed addresses stay: the thread that removes them has ended"
                );
            }
        }
    }
}

fn run(mut socket: Netlink, receiver: &Receiver<Vec<IpAddr>>, busy: &Busy) {
    while let Ok(first) = receiver.recv() {
        busy.set(Some(Instant::now()));
        let mut gone: HashSet<IpAddr> = first.into_iter().collect();
        gone.extend(receiver.try_iter().flatten());
        let families: Vec<Family> =
            Family::BOTH.into_iter().filter(|f| gone.iter().any(|a| Family::of(a) == *f)).collect();
        let ends = |e: &Entry| [e.original.src, e.original.dst, e.reply.src, e.reply.dst];
        match remove(&mut socket, &families, |e| ends(e).iter().any(|a| gone.contains(a))) {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, addresses = gone.len(), "connections of removed addresses are cut");
            }
            Err(e) => tracing::warn!(error = %e, "connections of removed addresses could not all be cut"),
        }
        busy.set(None);
    }
}
