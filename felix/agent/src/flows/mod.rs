//! Cuts established flows that policy denies by now (`EstablishedFlowEnforcement: Enabled`; off by default: upstream
//! lets them go on).
//!
//! ```text
//!  calculation ─messages─▶ queue ──┐
//!  dataplane thread ─applied──────▶ thread: takes what is programmed, reads connections, judges each, removes denied ones
//! ```
//!
//! Always holds: a flow is judged by what stands in the kernel already, so its next packet meets the policy that denied
//! it; a flow that policy allows keeps its entry; nothing is ever opened, since an entry that goes makes the next packet
//! a new one. The kernel is told to take no TCP connection up in its midst (`nf_conntrack_tcp_loose` 0): else the next
//! packet of the answering side, which policy may well allow to open connections, would begin it anew the other way
//! round. What cannot be judged here stays: flows of host endpoints, and those that connection tracking expected (data
//! connections of FTP).

pub mod judge;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
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
        // Not bounded by itself: the dataplane's own queue, which takes the same messages, is.
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

fn run(
    receiver: &Receiver<Event>,
    (mut netfilter, mut routes): (Netlink, Netlink),
    metrics: &Metrics,
    beat: &Beat,
) {
    let mut world = World::default();
    let mut waiting: VecDeque<(u64, Vec<Message>)> = VecDeque::new();
    let mut sent = 0;
    loop {
        beat.beat();
        let first = match receiver.recv_timeout(BEAT) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let begun = Instant::now();
        let mut relevant = false;
        for event in std::iter::once(first).chain(receiver.try_iter()) {
            match event {
                Event::Sent(messages) => {
                    sent += messages.len() as u64;
                    waiting.push_back((sent, messages));
                }
                Event::Programmed(count) => {
                    while waiting.front().is_some_and(|(end, _)| *end <= count) {
                        for m in waiting.pop_front().into_iter().flat_map(|(_, m)| m) {
                            relevant |= world.apply(&m);
                        }
                    }
                }
            }
        }
        if !relevant || !world.in_sync() {
            continue;
        }
        take_none_up();
        match cut(&mut netfilter, &mut routes, &world) {
            Ok(0) => {}
            Ok(n) => {
                metrics.flows_cut(n);
                tracing::info!(flows = n, "flows that policy denies by now are cut");
            }
            Err(e) => tracing::warn!(error = %e, "flows could not all be cut"),
        }
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
    let own: HashSet<IpAddr> = route::addresses(routes)?.into_iter().map(|(_, a)| a).collect();
    conntrack::remove(netfilter, &Family::BOTH, |e| !e.expected && world.denies(&judge::Flow::of(e), &own))
}
