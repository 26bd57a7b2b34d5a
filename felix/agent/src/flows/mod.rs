//! Cuts established flows that policy denies by now (`EstablishedFlowEnforcement: Enabled`; off by default: upstream
//! lets them go on).
//!
//! ```text
//!  calculation ─messages─▶ queue ──┐
//!  dataplane thread ─applied──────▶ thread: takes what is programmed, reads connections, judges each, removes denied ones
//! ```
//!
//! Always holds: a flow is judged by what stands in the kernel already, so its next packet meets the policy that denied
//! it; a reading that failed, or a flow that could not be removed, is owed until it succeeds; what waits to be programmed
//! is bounded; a flow that policy allows keeps its entry; nothing is ever opened, since an entry that goes makes the next
//! packet a new one. The kernel is told to take no TCP connection up in its midst (`nf_conntrack_tcp_loose` 0): else the
//! next packet of the answering side, which policy may well allow to open connections, would begin it anew the other way
//! round. What cannot be judged here stays: flows of host endpoints, and those that connection tracking expected (data
//! connections of FTP).

pub mod judge;

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use felix_dataplane::conntrack;
use felix_dataplane::kernel::conntrack::NETLINK_NETFILTER;
use felix_dataplane::kernel::netlink::Netlink;
use felix_dataplane::kernel::route::{self, NETLINK_ROUTE};
use felix_dataplane::kernel::sysctl::Sysctl;
use felix_dataplane::rule::Family;
use felix_message::Message;

use crate::health::{BEAT, Beat};
use crate::metrics::Metrics;
use judge::World;

/// Whether TCP connections are taken up in their midst.
const LOOSE: &str = "net/netfilter/nf_conntrack_tcp_loose";
/// Shortest time between two readings of all connections.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon a reading that failed is made again.
const RETRY: Duration = Duration::from_secs(1);
/// Messages that may wait to be programmed, each for itself.
const WAITING: usize = 100_000;

enum Event {
    /// Messages on their way to the dataplane.
    Sent(Vec<Message>),
    /// So many messages in all are programmed.
    Programmed(u64),
}

/// The way to the thread. Dropping all of them ends it.
#[derive(Clone, Debug)]
pub struct Cutter {
    sender: Sender<Event>,
}

impl Cutter {
    /// Starts the thread in the calling thread's network namespace.
    ///
    /// # Errors
    /// No socket or thread is to be had.
    pub fn start(metrics: Metrics, beat: Beat) -> io::Result<Self> {
        take_none_up();
        let sockets = (Netlink::open(NETLINK_NETFILTER)?, Netlink::open(NETLINK_ROUTE)?);
        // Not bounded by itself: the dataplane's own queue, which takes the same messages, is. What the dataplane has taken
        // and cannot program is bounded by [`Work`].
        let (sender, receiver) = channel();
        let builder = std::thread::Builder::new().name("flows".to_owned());
        builder.spawn(move || run(&receiver, sockets, &metrics, &beat))?;
        Ok(Self { sender })
    }

    /// These messages go to the dataplane next.
    pub fn sent(&self, messages: &[Message]) {
        let _ = self.sender.send(Event::Sent(messages.to_vec()));
    }

    /// The dataplane is whole, with so many messages in all.
    pub fn programmed(&self, messages: u64) {
        let _ = self.sender.send(Event::Programmed(messages));
    }
}

/// What is programmed, and whether connections are to be read.
#[derive(Default)]
struct Work {
    world: World,
    /// Messages on their way, with the number of all up to their end.
    waiting: VecDeque<(u64, Vec<Message>)>,
    /// How many of them there are.
    held: usize,
    sent: u64,
    programmed: u64,
    /// The world knows messages up to here. Where that is further than the kernel does, nothing can be judged.
    known: u64,
    /// Something changed since connections were last read to the end.
    owed: bool,
}

impl Work {
    fn take(&mut self, event: Event) {
        match event {
            Event::Sent(messages) => {
                self.sent += messages.len() as u64;
                self.held += messages.len();
                self.waiting.push_back((self.sent, messages));
                // The kernel takes nothing for long: what waits becomes state, which does not grow. Judged is again once
                // the kernel is as far.
                while self.held > WAITING {
                    self.know_next();
                }
            }
            Event::Programmed(count) => {
                self.programmed = self.programmed.max(count);
                while self.waiting.front().is_some_and(|(end, _)| *end <= count) {
                    self.know_next();
                }
            }
        }
    }

    fn know_next(&mut self) {
        let Some((end, messages)) = self.waiting.pop_front() else {
            self.held = 0;
            return;
        };
        self.known = end;
        self.held = self.held.saturating_sub(messages.len());
        for m in messages {
            self.owed |= self.world.apply(&m);
        }
    }

    /// True where connections are to be read now.
    fn due(&self) -> bool {
        self.owed && self.world.in_sync() && self.known <= self.programmed
    }

    /// Connections were read, and what is denied was removed, or not.
    fn done(&mut self, result: &io::Result<usize>) {
        self.owed = result.is_err();
    }
}

fn run(
    receiver: &Receiver<Event>,
    (mut netfilter, mut routes): (Netlink, Netlink),
    metrics: &Metrics,
    beat: &Beat,
) {
    let mut work = Work::default();
    let mut failing = false;
    loop {
        beat.beat();
        // What is due still, failed.
        match receiver.recv_timeout(if work.due() { RETRY } else { BEAT }) {
            Ok(first) => std::iter::once(first).chain(receiver.try_iter()).for_each(|e| work.take(e)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !work.due() {
            continue;
        }
        let begun = Instant::now();
        take_none_up();
        let result = cut(&mut netfilter, &mut routes, &work.world);
        work.done(&result);
        match &result {
            Ok(0) => {}
            Ok(n) => {
                metrics.flows_cut(*n);
                tracing::info!(flows = n, "flows that policy denies by now are cut");
            }
            Err(e) if !failing => {
                tracing::warn!(error = %e, "flows could not all be cut; tried again until they are");
            }
            Err(_) => {}
        }
        failing = result.is_err();
        // Many changes in a row are one reading.
        std::thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
    }
}

/// The setting is there only once the kernel tracks connections: looked at each time.
fn take_none_up() {
    if let Err(e) = Sysctl::default().ensure(LOOSE, "0") {
        tracing::warn!(setting = LOOSE, error = %e, "TCP connections that are cut may come back");
    }
}

fn cut(netfilter: &mut Netlink, routes: &mut Netlink, world: &World) -> io::Result<usize> {
    let host = judge::Host {
        own: route::addresses(routes)?.into_iter().map(|(_, a)| a).collect(),
        up: route::links(routes)?.into_iter().filter(|l| l.up).map(|l| l.name).collect(),
    };
    conntrack::remove(netfilter, &Family::BOTH, |e| !e.expected && world.denies(&judge::Flow::of(e), &host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_sync() -> Work {
        let mut work = Work::default();
        work.take(Event::Sent(vec![Message::InSync]));
        assert!(!work.due(), "nothing is programmed yet");
        work.take(Event::Programmed(1));
        assert!(work.due());
        work.done(&Ok(0));
        assert!(!work.due());
        work
    }

    fn some(n: usize) -> Event {
        Event::Sent(vec![Message::ProfileRemove("p".to_owned()); n])
    }

    #[test]
    fn a_reading_that_failed_is_owed_though_nothing_new_comes() {
        let mut work = in_sync();
        work.take(some(1));
        work.take(Event::Programmed(2));
        work.done(&Err(io::Error::other("refused")));
        assert!(work.due());
        work.take(Event::Programmed(2));
        assert!(work.due(), "what tells of no change pays nothing");
        work.done(&Ok(1));
        assert!(!work.due());
    }

    #[test]
    fn while_nothing_can_be_programmed_what_waits_is_bounded_and_nothing_is_judged_too_early() {
        let mut work = in_sync();
        let batches = 30;
        for _ in 0..batches {
            work.take(some(WAITING / 10));
            assert!(work.held <= WAITING);
            assert_eq!(work.held, work.waiting.iter().map(|(_, m)| m.len()).sum::<usize>());
        }
        assert!(!work.due(), "the kernel knows none of it");
        // A part, of which the world knows more already.
        work.take(Event::Programmed(1 + WAITING as u64 / 10));
        assert!(!work.due());
        work.take(Event::Programmed(1 + batches * (WAITING as u64 / 10)));
        assert!(work.due() && work.waiting.is_empty());
    }
}
