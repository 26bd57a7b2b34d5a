//! A ping every 10 ms between two places.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Worker;
use super::icmp::EchoSocket;
use crate::error::Doing;
use crate::kernel::netns;
use crate::{Lab, Place, Result};

const INTERVAL: Duration = Duration::from_millis(10);
/// Least time between two requests.
const LEAST: Duration = Duration::from_millis(5);
/// How long after the last request replies are still waited for at most, where some are missing.
const GRACE: Duration = Duration::from_secs(20);

static NEXT_ID: AtomicU16 = AtomicU16::new(1);

/// A running pinger.
pub struct Pinger {
    sender: Worker<Vec<Instant>>,
    receiver: Worker<BTreeSet<usize>>,
    /// How many requests were answered so far.
    answered: Arc<AtomicUsize>,
    start: Instant,
}

/// What a pinger saw.
#[derive(Clone, Debug)]
pub struct PingReport {
    pub sent: usize,
    /// When each lost request was sent, after the start.
    pub lost: Vec<Duration>,
}

impl Pinger {
    /// Starts pinging `to` from inside `from`.
    pub fn start(lab: &Lab, from: &Place, to: IpAddr) -> Result<Self> {
        let id = 0xca00 ^ NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let open = || EchoSocket::open(to, id).doing(|| format!("opening a raw socket in {from}"));
        let socket = netns::within(&lab.netns_of(from), open)?;
        let clone = socket.try_clone().doing(|| "cloning a socket".to_owned())?;
        clone.set_timeout(Duration::from_millis(100)).doing(|| "setting a timeout".to_owned())?;
        let start = Instant::now();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = answered.clone();
        Ok(Self {
            sender: Worker::start(move |stop| send(&socket, start, stop)),
            receiver: Worker::start(move |stop| receive(&clone, stop, &count)),
            answered,
            start,
        })
    }

    /// Stops, waits for late replies, and reports.
    pub fn stop(self) -> PingReport {
        let sent = self.sender.finish().unwrap_or_default();
        let end = Instant::now() + GRACE;
        while self.answered.load(Ordering::SeqCst) < sent.len() && Instant::now() < end {
            thread::sleep(INTERVAL);
        }
        let answered = self.receiver.finish().unwrap_or_default();
        let lost = sent.iter().enumerate().filter(|(n, _)| !answered.contains(n));
        let lost = lost.map(|(_, at)| at.duration_since(self.start)).collect();
        PingReport { sent: sent.len(), lost }
    }
}

/// Sends on a beat. A thread that was kept waiting catches up a little at a time: a burst would overflow buffers, and
/// what is lost there says nothing about the way.
fn send(socket: &EchoSocket, start: Instant, stop: &AtomicBool) -> Vec<Instant> {
    let mut sent: Vec<Instant> = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let number = u32::try_from(sent.len()).unwrap_or(u32::MAX);
        let beat = start + INTERVAL * number;
        let due = sent.last().map_or(beat, |last| beat.max(*last + LEAST));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A request that cannot be sent gets no reply and so counts as lost.
        let _ = socket.send(u16::try_from(number & 0xffff).unwrap_or(0));
        sent.push(Instant::now());
    }
    sent
}

/// Collects replies. Sequence numbers wrap after 65,536 requests (eleven minutes); the wrap is followed.
fn receive(socket: &EchoSocket, stop: &AtomicBool, count: &AtomicUsize) -> BTreeSet<usize> {
    let mut answered = BTreeSet::new();
    let mut last = 0usize;
    while !stop.load(Ordering::SeqCst) {
        match socket.receive() {
            Ok(Some(sequence)) => {
                last = unwrap_sequence(last, sequence);
                answered.insert(last);
                count.store(answered.len(), Ordering::SeqCst);
            }
            Ok(None) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            // ICMP errors surface here; what they mean shows as lost requests.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    answered
}

/// The full number nearest to `last` whose low 16 bits are `sequence`.
fn unwrap_sequence(last: usize, sequence: u16) -> usize {
    let base = last & !0xffff;
    let candidates = [base.checked_sub(0x1_0000), Some(base), base.checked_add(0x1_0000)];
    candidates
        .into_iter()
        .flatten()
        .map(|base| base + usize::from(sequence))
        .min_by_key(|n| n.abs_diff(last))
        .unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_followed_across_the_wrap_and_back() {
        assert_eq!(unwrap_sequence(65_530, 2), 65_538);
        assert_eq!(unwrap_sequence(65_540, 65_535), 65_535);
        assert_eq!(unwrap_sequence(0, 1), 1);
    }
}
