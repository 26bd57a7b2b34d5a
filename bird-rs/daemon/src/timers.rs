//! Timers the engine has set, in the order they run out.

use std::collections::{BTreeSet, HashMap};

use bird_core::{Time, Timer};

/// Running timers, one deadline for each.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: HashMap<Timer, Time>,
    queue: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.deadlines.insert(timer, at);
        self.queue.insert((at, timer));
    }

    pub fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.deadlines.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes one timer that has run out.
    pub fn expired(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}
