//! Removes connections that must not go on: those of addresses that no longer belong to a workload here.
//!
//! ```text
//!  addresses ──▶ set of those that wait ──▶ thread: one read of all entries for everything that waits ──▶ removals
//!                        ▲                                                                      │
//!                        └────────────────────── after a pause, where one failed ◀──────────────┘
//! ```
//!
//! Always holds: the dataplane never waits for it; addresses that leave together cost one reading; what waits is a set of addresses, so it holds each once and none is
//! lost; one entry that cannot be removed keeps no other; a pass that failed is made again, for [`TRIES`] in all, and it
//! can be asked whether an address's connections are all cut. A workload that gets the address of another one later does
//! not inherit its connections.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::kernel::conntrack::{self, Entry, NETLINK_NETFILTER};
use crate::kernel::netlink::Netlink;
use crate::rule::Family;

/// How often an address's connections are looked for, where that fails.
pub const TRIES: u32 = 30;
/// Time between two such tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How long addresses are gathered before connections are read, which costs about the same for one as for many: pods
/// leave in groups. Nobody has the address meanwhile; who is to have it ends the wait ([`Cleaner::pending`]).
const GATHER: Duration = Duration::from_millis(300);

/// Where tracked connections stand: the kernel, or a test's twin.
pub trait Connections {
    /// Hands every entry of a family to `each`.
    ///
    /// # Errors
    /// They cannot all be read.
    fn entries(&mut self, family: Family, each: &mut dyn FnMut(Entry)) -> io::Result<()>;

    /// Removes one. That it is gone already is no error.
    ///
    /// # Errors
    /// It stays.
    fn delete(&mut self, entry: &Entry) -> io::Result<()>;
}

impl Connections for Netlink {
    fn entries(&mut self, family: Family, each: &mut dyn FnMut(Entry)) -> io::Result<()> {
        conntrack::entries(self, family, each)
    }

    fn delete(&mut self, entry: &Entry) -> io::Result<()> {
        conntrack::delete(self, entry)
    }
}

/// Removes every entry for which `gone` holds; returns how many.
///
/// # Errors
/// The first one; whatever else was found is removed all the same.
pub fn remove(
    connections: &mut impl Connections,
    families: &[Family],
    mut gone: impl FnMut(&Entry) -> bool,
) -> io::Result<usize> {
    let (mut removed, mut failed) = (0, None);
    for family in families {
        let mut found = Vec::new();
        // Between two tries of a torn dump entries may come twice: the second removal finds nothing.
        let read = connections.entries(*family, &mut |e| {
            if gone(&e) {
                found.push(e);
            }
        });
        let results = found.iter().map(|e| connections.delete(e)).chain([read]);
        for e in results.filter_map(Result::err) {
            failed.get_or_insert(e);
        }
        removed += found.len();
    }
    failed.map_or(Ok(removed), Err)
}

/// The way to the thread. Dropping it ends the thread after one more pass for everything that waits.
#[derive(Debug)]
pub struct Cleaner {
    shared: Arc<Shared>,
    busy: Busy,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    /// Addresses, and how often their connections were looked for in vain.
    waiting: HashMap<IpAddr, u32>,
    /// Addresses of the pass that goes on now.
    current: HashMap<IpAddr, u32>,
    /// Somebody waits for one of them: no more are gathered.
    urgent: bool,
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, gathers more of it, and begins a pass; `None`: there is none and will be none.
    fn begin(&self, gather: Duration) -> Option<HashSet<IpAddr>> {
        let idle = |w: &mut Work| w.waiting.is_empty() && !w.ends;
        let work = self.more.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathers = |w: &mut Work| !w.urgent && !w.ends;
        let (mut work, _) =
            self.more.wait_timeout_while(work, gather, gathers).unwrap_or_else(PoisonError::into_inner);
        work.urgent = false;
        work.current = std::mem::take(&mut work.waiting);
        (!work.current.is_empty()).then(|| work.current.keys().copied().collect())
    }

    /// Ends a pass. Returns addresses that are given up.
    fn end(&self, whole: bool) -> Vec<IpAddr> {
        let mut work = self.lock();
        let mut given_up = Vec::new();
        for (addr, tries) in std::mem::take(&mut work.current) {
            if whole {
                continue;
            }
            if tries + 1 < TRIES && !work.ends {
                let again = work.waiting.entry(addr).or_default();
                *again = tries + 1;
            } else {
                given_up.push(addr);
            }
        }
        given_up
    }
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
        Self::with(Netlink::open(NETLINK_NETFILTER)?, PAUSE, GATHER)
    }

    /// Starts the thread with connections that stand elsewhere. `pause`: time between two tries; `gather`: how long
    /// addresses are gathered.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn with(
        connections: impl Connections + Send + 'static,
        pause: Duration,
        gather: Duration,
    ) -> io::Result<Self> {
        let (shared, busy) = (Arc::new(Shared::default()), Busy::default());
        let of_thread = (shared.clone(), busy.clone());
        let thread = thread::Builder::new()
            .name("conntrack".to_owned())
            .spawn(move || run(connections, &of_thread.0, &of_thread.1, pause, gather))?;
        Ok(Self { shared, busy, thread })
    }

    /// For a watchdog: whether the thread hangs.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.busy.clone()
    }

    /// Has the connections of these addresses removed, soon. Never waits.
    pub fn forget(&self, addresses: Vec<IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        if self.thread.is_finished() {
            tracing::error!(?addresses, "connections stay: the thread that removes them has ended");
            return;
        }
        self.shared.lock().waiting.extend(addresses.into_iter().map(|a| (a, 0)));
        self.shared.more.notify_one();
    }

    /// True while connections of an address that was told are still to be cut. Whoever asks waits: they are cut at once.
    #[must_use]
    pub fn pending(&self, addr: &IpAddr) -> bool {
        let mut work = self.shared.lock();
        if work.waiting.contains_key(addr) {
            work.urgent = true;
            self.shared.more.notify_one();
            return true;
        }
        work.current.contains_key(addr)
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.more.notify_one();
    }
}

fn run(mut connections: impl Connections, shared: &Shared, busy: &Busy, pause: Duration, gather: Duration) {
    let mut failing = false;
    while let Some(gone) = shared.begin(gather) {
        busy.set(Some(Instant::now()));
        let families: Vec<Family> =
            Family::BOTH.into_iter().filter(|f| gone.iter().any(|a| Family::of(a) == *f)).collect();
        let ends = |e: &Entry| [e.original.src, e.original.dst, e.reply.src, e.reply.dst];
        let result = remove(&mut connections, &families, |e| ends(e).iter().any(|a| gone.contains(a)));
        busy.set(None);
        match &result {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, addresses = gone.len(), "connections of removed addresses are cut");
            }
            Err(e) if !failing => {
                tracing::warn!(error = %e, "connections of removed addresses could not all be cut; tried again");
            }
            Err(_) => {}
        }
        failing = result.is_err();
        let given_up = shared.end(!failing);
        if !given_up.is_empty() {
            tracing::error!(addresses = ?given_up, "connections of removed addresses stay: they cannot be cut");
        }
        if failing {
            let work = shared.lock();
            drop(shared.more.wait_timeout_while(work, pause, |w| !w.ends));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::conntrack::tests::message;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Connections from 10.0.0.1 with answers from one address each, as far as they were not removed.
    struct Twin {
        answering: Vec<[u8; 4]>,
        /// So many removals are refused first.
        refuse: usize,
        /// Every reading waits for a word, where there is someone to say it.
        word: Option<Receiver<()>>,
        readings: Arc<AtomicU32>,
        removed: Sender<IpAddr>,
    }

    impl Connections for Twin {
        fn entries(&mut self, family: Family, each: &mut dyn FnMut(Entry)) -> io::Result<()> {
            if let Some(word) = &self.word {
                let _ = word.recv();
            }
            if family == Family::V4 {
                self.readings.fetch_add(1, Ordering::Relaxed);
                self.answering.iter().filter_map(|a| conntrack::parse(&message(*a))).for_each(each);
            }
            Ok(())
        }

        fn delete(&mut self, entry: &Entry) -> io::Result<()> {
            if self.refuse > 0 {
                self.refuse -= 1;
                return Err(io::Error::from_raw_os_error(libc::EBUSY));
            }
            self.answering.retain(|a| IpAddr::from(*a) != entry.reply.src);
            let _ = self.removed.send(entry.reply.src);
            Ok(())
        }
    }

    fn twin(last: impl IntoIterator<Item = u8>, refuse: usize) -> (Twin, Receiver<IpAddr>) {
        let (removed, seen) = channel();
        let answering = last.into_iter().map(|n| [10, 0, 1, n]).collect();
        (Twin { answering, refuse, word: None, readings: Arc::default(), removed }, seen)
    }

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 1, last])
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn one_that_is_refused_keeps_no_other() {
        let (mut twin, seen) = twin([1, 2, 3], 1);
        assert!(remove(&mut twin, &Family::BOTH, |_| true).is_err());
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [addr(2), addr(3)]);
        assert_eq!(remove(&mut twin, &Family::BOTH, |_| true).unwrap(), 1);
    }

    #[test]
    fn what_was_refused_is_tried_again_though_nothing_new_comes() {
        let (twin, seen) = twin([1, 2], 2);
        let cleaner = Cleaner::with(twin, Duration::from_millis(1), Duration::ZERO).unwrap();
        cleaner.forget(vec![addr(2)]);
        assert_eq!(seen.recv_timeout(LONG), Ok(addr(2)));
        drop(cleaner);
        assert!(seen.recv_timeout(LONG).is_err(), "the other one was not asked for");
    }

    #[test]
    fn any_number_of_addresses_waits_and_none_is_lost() {
        let (mut twin, seen) = twin(0..200, 0);
        let (say, word) = channel();
        twin.word = Some(word);
        let cleaner = Cleaner::with(twin, Duration::from_millis(1), Duration::ZERO).unwrap();
        // The thread is busy all the while.
        for n in 0..200 {
            cleaner.forget(vec![addr(n)]);
            assert!(cleaner.pending(&addr(n)));
        }
        assert!(!cleaner.pending(&addr(201)));
        drop(say);
        let mut all: Vec<IpAddr> = (0..200).map(|_| seen.recv_timeout(LONG).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..200).map(addr).collect::<Vec<_>>());
        let until = Instant::now() + LONG;
        while cleaner.pending(&addr(199)) {
            assert!(Instant::now() < until, "it is told as pending for ever");
            thread::yield_now();
        }
    }

    #[test]
    fn addresses_that_leave_together_cost_one_reading_and_whoever_waits_for_one_ends_the_gathering() {
        let (twin, seen) = twin([1, 2, 3], 0);
        let readings = twin.readings.clone();
        let cleaner = Cleaner::with(twin, Duration::ZERO, LONG * 60).unwrap();
        cleaner.forget(vec![addr(1)]);
        cleaner.forget(vec![addr(2)]);
        assert!(cleaner.pending(&addr(2)));
        let mut gone = [seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap()];
        gone.sort_unstable();
        assert_eq!(gone, [addr(1), addr(2)]);
        assert_eq!(readings.load(Ordering::Relaxed), 1);
        // So does the end.
        cleaner.forget(vec![addr(3)]);
        drop(cleaner);
        assert_eq!(seen.recv_timeout(LONG), Ok(addr(3)));
    }

    #[test]
    fn what_can_never_be_removed_is_given_up_in_the_end() {
        let (twin, _seen) = twin([1], usize::MAX);
        let cleaner = Cleaner::with(twin, Duration::ZERO, Duration::ZERO).unwrap();
        cleaner.forget(vec![addr(1)]);
        let until = Instant::now() + LONG;
        while cleaner.pending(&addr(1)) {
            assert!(Instant::now() < until, "it is tried for ever");
            thread::yield_now();
        }
    }
}
