//! One client's place in a stream: what it is sent next, and when it is given up.
//!
//! In come the cache and the time, out goes the next step. Pure. Always holds: a client gets the snapshot and then every
//! change in order; one that is further behind than the limits allow is dropped, so that nobody is waited for: it
//! connects again and gets a new snapshot, of which its own end keeps the difference.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::{Cache, Message, Snapshot};

/// When a client is given up.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Longest age of the oldest change that a client has not been sent.
    pub max_fall_behind: Duration,
    /// A new client has this long to catch up for the first time.
    pub grace: Duration,
    /// Time between pings.
    pub ping_interval: Duration,
    /// Longest time without an answer to a ping.
    pub pong_timeout: Duration,
}

/// What to do for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Send(Message),
    Ping(u64),
    /// Nothing until the cache changes or this time comes.
    WaitUntil(Instant),
    Drop(DropReason),
}

/// Why a client is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It reads too slowly.
    FellBehind,
    /// It does not answer pings.
    Silent,
}

/// A client's place in a stream.
#[derive(Debug)]
pub struct Session {
    patience: Patience,
    snapshot: Option<(Arc<Snapshot>, usize)>,
    /// The next change to send.
    next: u64,
    started: Instant,
    /// Has been up to date at least once.
    caught_up: bool,
    /// The grace period was needed.
    grace_used: bool,
    pinged: Option<(u64, Instant)>,
    next_ping: Instant,
    ping_number: u64,
}

impl Session {
    /// A new client.
    #[must_use]
    pub fn new(cache: &mut Cache, patience: Patience, now: Instant) -> Self {
        let snapshot = cache.snapshot();
        Self {
            next: snapshot.seq + 1,
            snapshot: Some((snapshot, 0)),
            next_ping: now + patience.ping_interval,
            patience,
            started: now,
            caught_up: false,
            grace_used: false,
            pinged: None,
            ping_number: 0,
        }
    }

    /// True once the client was sent everything that there was.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    /// True where the client was behind while it was new, and was borne with.
    #[must_use]
    pub fn grace_used(&self) -> bool {
        self.grace_used
    }

    /// The client answered a ping.
    pub fn pong(&mut self, number: u64) {
        if self.pinged.is_some_and(|(n, _)| n == number) {
            self.pinged = None;
        }
    }

    /// The next step. Called again after each one.
    pub fn step(&mut self, cache: &Cache, now: Instant) -> Step {
        if self.pinged.is_some_and(|(_, at)| now.saturating_duration_since(at) > self.patience.pong_timeout) {
            return Step::Drop(DropReason::Silent);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.patience.ping_interval;
            // One at a time: the first one without an answer counts.
            if self.pinged.is_none() {
                self.ping_number += 1;
                self.pinged = Some((self.ping_number, now));
                return Step::Ping(self.ping_number);
            }
        }
        if let Some((snapshot, index)) = &mut self.snapshot {
            if let Some(message) = snapshot.messages.get(*index) {
                *index += 1;
                return Step::Send(message.clone());
            }
            self.snapshot = None;
        }
        match cache.change(self.next) {
            Err(_) => Step::Drop(DropReason::FellBehind),
            Ok(None) => {
                self.caught_up = true;
                let silent = self.pinged.map(|(_, at)| at + self.patience.pong_timeout);
                Step::WaitUntil(silent.map_or(self.next_ping, |s| s.min(self.next_ping)))
            }
            Ok(Some(change)) => {
                if now.saturating_duration_since(change.at) > self.patience.max_fall_behind {
                    let new = now.saturating_duration_since(self.started) <= self.patience.grace;
                    if self.caught_up || !new {
                        return Step::Drop(DropReason::FellBehind);
                    }
                    self.grace_used = true;
                }
                self.next += 1;
                Step::Send(change.message.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libcalico_model::{Key, Revision, SyncStatus, SyncerEvent, Update, Value};

    use super::*;
    use crate::cache::Limits;

    fn patience() -> Patience {
        Patience {
            max_fall_behind: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            ping_interval: Duration::from_secs(1000),
            pong_timeout: Duration::from_secs(60),
        }
    }

    fn change(cache: &mut Cache, text: &str, at: Instant) {
        let update = Update {
            key: Key::GlobalConfig("k".to_owned()),
            value: Some(Value::Text(text.to_owned())),
            revision: Revision::default(),
        };
        cache.handle(SyncerEvent::Updates(vec![update]), at);
    }

    fn cache(now: Instant) -> Cache {
        let mut c = Cache::new(Limits { batch: 10, keep: Duration::from_secs(300), log_bytes: 1 << 20 });
        change(&mut c, "1", now);
        c.handle(SyncerEvent::Status(SyncStatus::InSync), now);
        c
    }

    fn drain(s: &mut Session, c: &Cache, now: Instant) -> usize {
        let mut sent = 0;
        while let Step::Send(_) = s.step(c, now) {
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_client_gets_the_snapshot_and_then_each_change_once() {
        let now = Instant::now();
        let mut c = cache(now);
        let mut s = Session::new(&mut c, patience(), now);
        assert_eq!(drain(&mut s, &c, now), 3);
        assert!(s.caught_up());
        change(&mut c, "2", now);
        change(&mut c, "3", now);
        assert_eq!(drain(&mut s, &c, now), 2);
        assert_eq!(drain(&mut s, &c, now), 0);
    }

    #[test]
    fn a_client_that_was_up_to_date_and_fell_behind_is_dropped() {
        let now = Instant::now();
        let mut c = cache(now);
        let mut s = Session::new(&mut c, patience(), now);
        drain(&mut s, &c, now);
        change(&mut c, "2", now);
        assert_eq!(s.step(&c, now + Duration::from_secs(31)), Step::Drop(DropReason::FellBehind));
    }

    #[test]
    fn a_new_client_has_a_time_of_grace() {
        let now = Instant::now();
        let mut c = cache(now);
        let mut s = Session::new(&mut c, patience(), now);
        change(&mut c, "2", now);
        let later = now + Duration::from_secs(40);
        assert_eq!(drain(&mut s, &c, later), 4);
        assert!(s.grace_used());
        let mut slow = Session::new(&mut c, patience(), now);
        change(&mut c, "3", now);
        let much_later = now + Duration::from_secs(61);
        for _ in 0..3 {
            slow.step(&c, much_later);
        }
        while let Step::Send(_) = slow.step(&c, much_later) {}
        assert_eq!(slow.step(&c, much_later), Step::Drop(DropReason::FellBehind));
    }

    #[test]
    fn a_client_that_does_not_answer_pings_is_dropped() {
        let now = Instant::now();
        let mut c = cache(now);
        let quick = Patience { ping_interval: Duration::from_secs(10), ..patience() };
        let mut s = Session::new(&mut c, quick, now);
        drain(&mut s, &c, now);
        let at = |secs| now + Duration::from_secs(secs);
        assert_eq!(s.step(&c, at(10)), Step::Ping(1));
        s.pong(1);
        assert_eq!(s.step(&c, at(20)), Step::Ping(2));
        assert!(matches!(s.step(&c, at(21)), Step::WaitUntil(_)));
        assert_eq!(s.step(&c, at(81)), Step::Drop(DropReason::Silent));
    }
}
