//! A queue in which the processes of one host write a block one after the other, instead of all at once and one of them
//! with success.
//!
//! In comes a file that the host's processes share, out goes a [`Turn`]. It is no lock: the file is locked for the
//! microseconds that a number is drawn or read, never across a call to the datastore; compare-and-swap alone keeps the data
//! right. Whoever dies or stops in its turn is passed over after [`Queue::patience`]; nobody waits longer than [`BOUND`], and
//! where the file cannot be used nobody waits at all. Times are the machine's clock: one that is set loses a turn.
//!
//! The file has four numbers ([`Queue`]); one that has something else is begun anew. Left out: other hosts, which write a
//! host's block only when they borrow.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::moment::Moment;

/// Longest time that anybody waits for a turn.
pub const BOUND: Duration = Duration::from_secs(3);
/// A turn of unknown length, nanoseconds.
const USUAL: u64 = 10_000_000;
/// Shortest and longest time that somebody's turn lasts before the next one goes on, nanoseconds.
const PATIENCE: (u64, u64) = (30_000_000, 300_000_000);
/// More are never waiting: a file that says so is not ours.
const CROWD: u64 = 10_000;
/// Shortest and longest time between two looks, nanoseconds.
const LOOK: (u64, u64) = (500_000, 50_000_000);
/// Times that the file is tried while another process has it.
const TRIES: usize = 20;
const BYTES: usize = 32;

/// The queue as the file has it. Pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// The number that is drawn next.
    next: u64,
    /// The number whose turn it is; equal to `next` where nobody has one.
    serving: u64,
    /// Since when, nanoseconds since 1970.
    since: u64,
    /// How long turns were lately, nanoseconds.
    length: u64,
}

impl Queue {
    /// Reads what [`Self::to_bytes`] wrote; anything else is an empty queue.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; BYTES], now: Moment) -> Self {
        let number =
            |i: usize| bytes.iter().skip(i * 8).take(8).rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let q = Self { next: number(0), serving: number(1), since: number(2), length: number(3) };
        let sound = q.next.checked_sub(q.serving).is_some_and(|n| n <= CROWD) && q.since <= now.0;
        if sound { q } else { Self::default() }
    }

    /// Little-endian numbers.
    #[must_use]
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let numbers = [self.next, self.serving, self.since, self.length];
        for (slot, byte) in bytes.iter_mut().zip(numbers.iter().flat_map(|n| n.to_le_bytes())) {
            *slot = byte;
        }
        bytes
    }

    fn length(self) -> u64 {
        if self.length == 0 { USUAL } else { self.length }
    }

    /// How long a turn may last before the next one goes on, nanoseconds: several times what is usual.
    #[must_use]
    pub fn patience(self) -> u64 {
        self.length().saturating_mul(4).clamp(PATIENCE.0, PATIENCE.1)
    }

    /// Draws a number.
    pub fn draw(&mut self, now: Moment) -> u64 {
        if self.next == self.serving {
            self.since = now.0;
        }
        let number = self.next;
        self.next += 1;
        number
    }

    /// How many are before this number; none: its turn has come. Passes over whoever takes too long.
    pub fn before(&mut self, number: u64, now: Moment) -> u64 {
        if self.serving < number && now.0.saturating_sub(self.since) > self.patience() {
            self.serving += 1;
            self.since = now.0;
        }
        number.saturating_sub(self.serving)
    }

    /// The number's turn is over. Nothing, where it was passed over.
    pub fn done(&mut self, number: u64, now: Moment) {
        if self.serving != number || self.next <= number {
            return;
        }
        let took = now.0.saturating_sub(self.since).min(PATIENCE.1);
        self.length = (self.length().saturating_mul(3) + took) / 4;
        self.serving += 1;
        self.since = now.0;
    }

    /// When to look again with so many before.
    fn look_after(self, before: u64) -> Duration {
        let nanos = (self.length() / 4).saturating_mul(before.saturating_mul(2).saturating_sub(1));
        Duration::from_nanos(nanos.clamp(LOOK.0, LOOK.1))
    }
}

/// The queue of a host.
#[derive(Clone, Debug)]
pub struct Turns {
    path: PathBuf,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    queue: Option<(Turns, u64)>,
    /// Others went first: what was read before is likely old.
    pub waited: bool,
}

impl Turns {
    /// The queue in this file, which is made where it is missing. Nothing is opened yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Waits for a turn, at most [`BOUND`].
    pub async fn turn(&self) -> Turn {
        let Some(number) = self.change(Queue::draw) else { return Turn { queue: None, waited: false } };
        let mut turn = Turn { queue: Some((self.clone(), number)), waited: false };
        let start = std::time::Instant::now();
        loop {
            let look = self.change(|q, now| (q.before(number, now), *q));
            let Some((before, queue)) = look.filter(|(n, _)| *n > 0) else { return turn };
            turn.waited = true;
            if start.elapsed() >= BOUND {
                tracing::debug!(before, "no turn within the bound, going on without");
                return turn;
            }
            tokio::time::sleep(queue.look_after(before)).await;
        }
    }

    /// Changes the queue; none where the file cannot be used.
    fn change<T>(&self, change: impl FnOnce(&mut Queue, Moment) -> T) -> Option<T> {
        let file = self.open().ok()?;
        // A process that was stopped just here may have it for ever.
        let locked = (0..TRIES).any(|i| {
            if i > 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
            file.try_lock().is_ok()
        });
        if !locked {
            return None;
        }
        let now = Moment::now();
        let mut bytes = [0; BYTES];
        let mut queue = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Queue::from_bytes(&bytes, now),
            Err(_) => Queue::default(),
        };
        let before = queue;
        let out = change(&mut queue, now);
        if queue != before {
            file.write_all_at(&queue.to_bytes(), 0).ok()?;
        }
        // The lock goes with the file.
        Some(out)
    }

    fn open(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let open = || options.open(&self.path);
        open().or_else(|e| match self.path.parent() {
            Some(dir) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dir)?;
                open()
            }
            _ => Err(e),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, number)) = self.queue.take() {
            turns.change(|q, now| q.done(number, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1_795_246_062_000_000_000;

    fn at(ms: u64) -> Moment {
        Moment(START + ms * 1_000_000)
    }

    #[test]
    fn turns_come_in_the_order_of_their_numbers() {
        let mut q = Queue::default();
        let (a, b, c) = (q.draw(at(0)), q.draw(at(1)), q.draw(at(2)));
        assert_eq!([q.before(a, at(3)), q.before(b, at(3)), q.before(c, at(3))], [0, 1, 2]);
        q.done(a, at(8));
        assert_eq!([q.before(b, at(8)), q.before(c, at(8))], [0, 1]);
        q.done(b, at(14));
        q.done(c, at(20));
        let d = q.draw(at(21));
        assert_eq!(q.before(d, at(21)), 0, "an empty queue makes nobody wait");
    }

    #[test]
    fn who_takes_too_long_is_passed_over_and_ends_nobody_elses_turn() {
        let mut q = Queue::default();
        let (dead, next, last) = (q.draw(at(0)), q.draw(at(0)), q.draw(at(0)));
        assert_eq!(q.before(next, at(20)), 1);
        assert_eq!(q.before(next, at(50)), 0);
        q.done(dead, at(51));
        assert_eq!((q.before(next, at(52)), q.before(last, at(52))), (0, 1));
        q.done(next, at(55));
        assert_eq!(q.before(last, at(55)), 0);
    }

    #[test]
    fn a_clock_that_was_set_back_and_bytes_of_another_kind_begin_a_new_queue() {
        let mut q = Queue::default();
        q.draw(at(1000));
        assert_eq!(Queue::from_bytes(&q.to_bytes(), at(2000)), q);
        assert_eq!(Queue::from_bytes(&q.to_bytes(), at(0)), Queue::default());
        assert_eq!(Queue::from_bytes(&[0xee; BYTES], at(0)), Queue::default());
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_file_the_wait_ends(bytes in any::<[u8; 32]>(), small in 0u64..300) {
            for bytes in [bytes, Queue { next: small, serving: small / 2, since: START, length: small }.to_bytes()] {
                let mut q = Queue::from_bytes(&bytes, at(0));
                let number = q.draw(at(0));
                let mut now = 0;
                for _ in 0..=CROWD {
                    if q.before(number, at(now)) == 0 {
                        break;
                    }
                    now += 301;
                }
                prop_assert_eq!(q.before(number, at(now)), 0);
            }
        }
    }

    #[tokio::test]
    async fn one_after_the_other_has_its_turn_and_a_dead_one_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let turns = Turns::at(&dir.path().join("a/queue"));
        let first = turns.turn().await;
        assert!(!first.waited);
        let second = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.turn().await.waited })
        };
        // Time for the second to draw its number.
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(first);
        second.await.unwrap();
        assert!(!turns.turn().await.waited);
        // Never given back, as by a process that died: the next one's wait ends all the same.
        std::mem::forget(turns.turn().await);
        turns.turn().await;
        let nowhere = Turns::at(Path::new("/proc/no/such/queue"));
        assert!(!nowhere.turn().await.waited);
    }
}
