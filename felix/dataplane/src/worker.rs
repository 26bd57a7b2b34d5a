//! The thread that runs the cycle: waits for messages, kernel notifications and timers, applies at once.
//!
//! In: batches of messages through a bounded channel (a full channel blocks the calculation, nothing is dropped). Out: a
//! report after every apply. Always holds: an apply follows as soon as no further message waits; a failed one is tried
//! again with growing pauses, and says why; what single endpoints lack holds no other endpoint's messages up; the thread
//! never waits for anything but the kernel and its input.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use felix_message::Message;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::apply::{Dataplane, Outcome, StartError, Stats};
use crate::config::Config;
use crate::conntrack::Busy;
use crate::counters::Counted;
use crate::kernel::memory;
use crate::status::Change;

/// Batches that may wait.
pub const QUEUE: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Messages that are taken before an apply, though more wait.
const BATCH: usize = 10_000;
/// So many messages, or so large a transaction, took memory that is worth giving back.
const MANY: usize = 500;
const LARGE_BYTES: usize = 1 << 20;

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    Messages(Vec<Message>),
    /// Answer with what is believed to stand in the kernel.
    Dump(SyncSender<String>),
    /// End the thread. Rules stay in place.
    Stop,
}

/// What happened.
#[derive(Debug)]
pub enum Report {
    /// The kernel holds the policy that is desired, and but for `trouble` everything else. `took`: seconds of the apply.
    /// `statuses`: endpoints that came up, or no longer are. `taken`: messages in all, since the thread began.
    Applied {
        outcome: Outcome,
        stats: Box<Stats>,
        took: Duration,
        messages: usize,
        taken: u64,
        statuses: Vec<Change>,
        trouble: Option<Missing>,
    },
    /// It does not; the next try follows by itself.
    Failed { reason: String, retry: Duration },
    /// Nothing to do, still alive.
    Idle,
}

/// What an apply could not bring about. The next try follows by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub reason: String,
    pub retry: Duration,
    /// Single endpoints lack something, and are told as down; the node as a whole does not.
    pub confined: bool,
}

/// Sends to the thread and wakes it.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: SyncSender<Command>,
    wake: Arc<EventFd>,
}

/// The thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the dataplane's thread has ended")]
pub struct Gone;

impl Handle {
    /// Hands messages over; blocks while the queue is full.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn send(&self, command: Command) -> Result<(), Gone> {
        self.sender.send(command).map_err(|_| Gone)?;
        self.wake.write(1).map_err(|_| Gone)?;
        Ok(())
    }

    /// Hands messages over where there is room; gives them back where there is not.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn try_send(&self, command: Command) -> Result<Option<Command>, Gone> {
        match self.sender.try_send(command) {
            Ok(()) => {
                self.wake.write(1).map_err(|_| Gone)?;
                Ok(None)
            }
            Err(TrySendError::Full(c)) => Ok(Some(c)),
            Err(TrySendError::Disconnected(_)) => Err(Gone),
        }
    }
}

/// The thread's own half.
#[derive(Debug)]
pub struct Worker {
    receiver: Receiver<Command>,
    wake: Arc<EventFd>,
    dataplane: Dataplane,
}

/// Opens the dataplane in the calling thread's network namespace and the way to it.
///
/// # Errors
/// See [`StartError`].
pub fn new(config: Arc<Config>) -> Result<(Handle, Worker), StartError> {
    let (sender, receiver) = sync_channel(QUEUE);
    let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
        .map_err(|e| StartError::Watch { what: "its own queue", source: e.into() })?;
    let wake = Arc::new(wake);
    let dataplane = Dataplane::new(config)?;
    Ok((Handle { sender, wake: wake.clone() }, Worker { receiver, wake, dataplane }))
}

/// The pause after this one.
fn longer(pause: Option<Duration>) -> Duration {
    pause.map_or(FIRST_PAUSE, |p| (p * 2).min(LONGEST_PAUSE))
}

impl Worker {
    /// Chains whose counters tell of rules: for a reader in another thread.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.dataplane.counted()
    }

    /// For a watchdog: whether the thread that removes connections hangs.
    #[must_use]
    pub fn connections_busy(&self) -> Busy {
        self.dataplane.connections_busy()
    }

    /// Runs until it is told to stop or every [`Handle`] is gone. Rules stay in place.
    pub fn run(mut self, mut report: impl FnMut(Report)) {
        let mut pause: Option<Duration> = None;
        // While it fails, new input may be the cure: tried again, but not at once.
        let mut soonest = Duration::ZERO;
        let mut next: Option<Instant> = None;
        let mut taken = 0;
        let mut large = false;
        loop {
            let mut messages = 0;
            let more = loop {
                match self.receiver.try_recv() {
                    Ok(Command::Messages(batch)) => {
                        messages += batch.len();
                        batch.iter().for_each(|m| self.dataplane.on_message(m));
                    }
                    Ok(Command::Dump(answer)) => {
                        let _ = answer.try_send(self.dataplane.dump());
                    }
                    Err(TryRecvError::Empty) => break false,
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                }
                if messages >= BATCH {
                    break true;
                }
            };
            taken += messages as u64;
            let now = Instant::now();
            let events = self.dataplane.on_kernel_events(now);
            let asked = if messages > 0 { Some(Duration::ZERO) } else { events };
            if let Some(wait) = asked {
                let at = now + wait.max(soonest);
                next = Some(next.map_or(at, |n| n.min(at)));
            }
            if next.is_some_and(|at| at <= now) {
                match self.dataplane.apply(now) {
                    Ok(mut outcome) => {
                        let trouble = outcome.trouble.take().map(|t| Missing {
                            reason: t.to_string(),
                            retry: longer(pause),
                            confined: t.confined(),
                        });
                        pause = trouble.as_ref().map(|t| t.retry);
                        let held_up = trouble.as_ref().is_some_and(|t| !t.confined);
                        soonest = if held_up { FIRST_PAUSE } else { Duration::ZERO };
                        let again = [outcome.again, pause].into_iter().flatten().min();
                        next = again.map(|again| Instant::now() + again);
                        let (stats, took) = (Box::new(self.dataplane.stats()), now.elapsed());
                        if self.dataplane.in_sync() {
                            let statuses = self.dataplane.take_statuses();
                            large |= messages >= MANY || outcome.tables.bytes >= LARGE_BYTES;
                            report(Report::Applied {
                                outcome,
                                stats,
                                took,
                                messages,
                                taken,
                                statuses,
                                trouble,
                            });
                        } else {
                            report(Report::Idle);
                        }
                    }
                    Err(e) => {
                        let retry = longer(pause);
                        pause = Some(retry);
                        soonest = FIRST_PAUSE;
                        next = Some(Instant::now() + retry);
                        report(Report::Failed { reason: e.to_string(), retry });
                    }
                }
            } else {
                report(Report::Idle);
            }
            if !more {
                // Nobody waits for anything now.
                if std::mem::take(&mut large) {
                    memory::give_back();
                }
                self.wait(next);
            }
        }
    }

    fn wait(&mut self, next: Option<Instant>) {
        let wait = next.map_or(HEARTBEAT, |at| at.saturating_duration_since(Instant::now()).min(HEARTBEAT));
        // Rounded up: a timer that is a fraction away is waited for, not polled.
        let millis = i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let all = std::iter::once(self.wake.as_fd()).chain(self.dataplane.monitors());
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
        // Cleared before the queue is looked at: a message that comes now wakes the next wait.
        let _ = self.wake.read();
    }
}
