//! Keeps the node's daemons running: calico-felix, confd, bird-rs.
//!
//! In come [`ChildSpec`]s; out go running processes, their log lines with the child's name in front, and a [`Status`]
//! for each. Always holds: a child that ends is started again, the sooner the longer it had run; a child that waits
//! for a file is not started before; children end when calico-node does, whatever way it ends ([`spawn`]).
//!
//! Left out: what a child is for and whether it does it (`health`).

pub mod backoff;
pub mod children;
mod log_lines;
mod spawn;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use self::backoff::Backoff;
use self::log_lines::LastLines;

/// How long a child may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a child that waits for a file looks for it.
const FILE_POLL: Duration = Duration::from_millis(100);

/// What to run and how to end it.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// In front of its log lines.
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Added to the environment of calico-node.
    pub environment: Vec<(String, String)>,
    /// Asks the child to end, and ends it when calico-node is gone.
    pub stop_signal: Signal,
    /// Started once this file stands.
    pub wait_for: Option<PathBuf>,
}

/// How a child is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u64,
    /// Why it is not running, with the last lines it said.
    pub trouble: Option<String>,
}

/// A child under supervision.
pub struct Supervised {
    name: &'static str,
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts supervising on the current runtime. The runtime must be of one thread: the kernel ends a child when the
    /// *thread* that started it ends.
    #[must_use]
    pub fn start(spec: ChildSpec) -> Self {
        let (status_sender, status) = watch::channel(Status::default());
        let (stop, stopped) = watch::channel(false);
        let name = spec.name;
        let task = tokio::spawn(supervise(spec, status_sender, stopped));
        Self { name, status, stop, task }
    }

    /// The child's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How the child is, now and later.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends the child and waits for it.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn supervise(spec: ChildSpec, status: watch::Sender<Status>, mut stopped: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    if !wait_for_file(&spec, &mut stopped).await {
        return;
    }
    loop {
        let started = Instant::now();
        let trouble = match spawn::spawn(&spec) {
            Ok(child) => match attend(&spec, child, &status, &mut stopped).await {
                Some(trouble) => trouble,
                None => return,
            },
            Err(e) => format!("cannot start {}: {e}", spec.program.display()),
        };
        let delay = backoff.after(started.elapsed());
        error!(child = spec.name, restart_in = ?delay, "{trouble}");
        status.send_modify(|s| {
            s.pid = None;
            s.trouble = Some(trouble);
        });
        tokio::select! {
            () = sleep(delay) => {}
            () = asked_to_stop(&mut stopped) => return,
        }
    }
}

/// Returns once the supervision is to end.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to ask: the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// True once the file stands, false where the supervision ends first.
async fn wait_for_file(spec: &ChildSpec, stopped: &mut watch::Receiver<bool>) -> bool {
    let Some(file) = &spec.wait_for else { return !*stopped.borrow() };
    if !file.exists() {
        info!(child = spec.name, file = %file.display(), "waits for its file");
    }
    while !file.exists() {
        tokio::select! {
            () = sleep(FILE_POLL) => {}
            () = asked_to_stop(stopped) => return false,
        }
    }
    !*stopped.borrow()
}

/// Follows one life of a child. `None` where it was stopped on purpose, otherwise why it ended.
async fn attend(
    spec: &ChildSpec,
    mut child: Child,
    status: &watch::Sender<Status>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<String> {
    let pid = child.id();
    info!(child = spec.name, pid, "started");
    status.send_modify(|s| {
        s.pid = pid;
        s.starts += 1;
    });
    let lines = LastLines::default();
    let out = child.stdout.take().map(|o| tokio::spawn(log_lines::forward(spec.name, o, lines.clone())));
    let err = child.stderr.take().map(|e| tokio::spawn(log_lines::forward(spec.name, e, lines.clone())));
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = asked_to_stop(stopped) => {
            end(spec, &mut child).await;
            return None;
        }
    };
    // What it said last is often why it ended; a grandchild may hold the pipe, so the wait is short.
    for reader in [out, err].into_iter().flatten() {
        let _ = timeout(Duration::from_millis(200), reader).await;
    }
    Some(trouble(spec.name, &ended, &lines.text()))
}

fn trouble(name: &str, ended: &std::io::Result<ExitStatus>, said: &str) -> String {
    let how = match ended {
        Ok(status) => status.to_string(),
        Err(e) => e.to_string(),
    };
    if said.is_empty() {
        format!("{name} ended ({how})")
    } else {
        format!("{name} ended ({how}); it said last:\n{said}")
    }
}

async fn end(spec: &ChildSpec, child: &mut Child) {
    if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
        let _ = kill(Pid::from_raw(pid), spec.stop_signal);
    }
    if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        warn!(child = spec.name, "did not end within {STOP_TIMEOUT:?}; killed");
        let _ = child.kill().await;
    }
    info!(child = spec.name, "ended");
}
