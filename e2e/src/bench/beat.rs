//! A packet at every beat, and which of them arrived: when traffic began to be treated differently.
//!
//! In: the namespaces of a client and a server, and the server's address. Out: the time from a moment to the first of
//! several packets in a row that were treated differently. What always holds: packets are never answered, so that each
//! of them is judged by policy, none by an established connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Doing;
use crate::kernel::netns;
use crate::{LabError, Result};

/// Time between two packets.
pub const BEAT: Duration = Duration::from_micros(500);
/// How long a change may take before it counts as failed.
const ROUND_LIMIT: Duration = Duration::from_secs(20);

/// A packet at every beat, and which of them arrived.
#[derive(Debug)]
pub struct Beat {
    stop: Arc<AtomicBool>,
    /// When each packet was sent, by number; and the numbers that arrived.
    log: Arc<Mutex<BeatLog>>,
}

#[derive(Debug, Default)]
struct BeatLog {
    sent: Vec<Instant>,
    arrived: Vec<bool>,
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Beat {
    /// Sends from the first network namespace to an address in the second until it is dropped.
    pub fn start(client: &str, server: &str, address: IpAddr) -> Result<Self> {
        let listener = netns::within(server, || {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).doing(|| format!("listening in {server}"))
        })?;
        listener
            .set_read_timeout(Some(Duration::from_millis(100)))
            .doing(|| "setting a timeout".to_owned())?;
        let port = listener.local_addr().doing(|| "asking for a port".to_owned())?.port();
        let sender = netns::within(client, || {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).doing(|| "opening a socket".to_owned())?;
            socket.connect(SocketAddr::new(address, port)).doing(|| "choosing a target".to_owned())?;
            Ok(socket)
        })?;
        let beat = Self { stop: Arc::default(), log: Arc::default() };
        let (stop, log) = (Arc::clone(&beat.stop), Arc::clone(&beat.log));
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let number = {
                    let Ok(mut log) = log.lock() else { return };
                    log.sent.push(Instant::now());
                    log.arrived.push(false);
                    (log.sent.len() - 1) as u64
                };
                // What cannot be sent does not arrive, and that is what is watched.
                let _ = sender.send(&number.to_be_bytes());
                thread::sleep(BEAT);
            }
        });
        let (stop, log) = (Arc::clone(&beat.stop), Arc::clone(&beat.log));
        thread::spawn(move || {
            let mut number = [0; 8];
            while !stop.load(Ordering::SeqCst) {
                if matches!(listener.recv(&mut number), Ok(8))
                    && let Ok(mut log) = log.lock()
                    && let Ok(index) = usize::try_from(u64::from_be_bytes(number))
                    && let Some(arrived) = log.arrived.get_mut(index)
                {
                    *arrived = true;
                }
            }
        });
        Ok(beat)
    }

    /// Waits until packets sent after `start` arrive (or stop arriving) and returns when the first such was sent.
    pub fn wait_change(&self, start: Instant, arriving: bool) -> Result<Duration> {
        while start.elapsed() < ROUND_LIMIT {
            thread::sleep(Duration::from_millis(20));
            let Ok(log) = self.log.lock() else { break };
            // The newest ones may still be on their way.
            let settled = Instant::now() - Duration::from_millis(10);
            let from = log.sent.partition_point(|at| *at < start);
            let to = log.sent.partition_point(|at| *at < settled);
            if let Some(at) = first_change(&log.sent, &log.arrived, from..to, arriving) {
                return Ok(at.duration_since(start));
            }
        }
        Err(LabError::Timeout {
            what: format!("traffic to be {}", if arriving { "allowed" } else { "blocked" }),
            seconds: ROUND_LIMIT.as_secs(),
            seen: "no change".to_owned(),
        })
    }
}

/// When the first of five packets in a row that were all treated as wanted was sent: one lost packet is no policy.
fn first_change(
    sent: &[Instant],
    arrived: &[bool],
    range: std::ops::Range<usize>,
    wanted: bool,
) -> Option<Instant> {
    const ROW: usize = 5;
    let start = range.start;
    let offset = arrived.get(range)?.windows(ROW).position(|row| row.iter().all(|&a| a == wanted))?;
    sent.get(start + offset).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_packet_is_not_taken_for_a_policy() {
        let now = Instant::now();
        let sent: Vec<Instant> = (0..20u64).map(|n| now + Duration::from_millis(n)).collect();
        let mut arrived = vec![true; 20];
        arrived[3] = false;
        assert_eq!(first_change(&sent, &arrived, 0..20, false), None);
        arrived[10..].fill(false);
        assert_eq!(first_change(&sent, &arrived, 0..20, false), Some(sent[10]));
        assert_eq!(first_change(&sent, &arrived, 12..20, true), None);
    }
}
