//! How long to wait before a child is started again. Pure.

use std::time::Duration;

/// First wait: short, because a BGP daemon that is back soon keeps its neighbours' routes.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// A child that ran so long was well: the waits begin anew.
const WELL: Duration = Duration::from_secs(10);

/// Doubles the wait for a child that keeps failing.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The wait after a life of this length.
    pub fn after(&mut self, life: Duration) -> Duration {
        let delay = if life >= WELL { FIRST } else { self.next };
        self.next = delay.saturating_mul(2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn a_long_life_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.after(WELL), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), FIRST * 2);
    }
}
