//! The loop: events in, file and reload out.
//!
//! Always holds: nothing is rendered before the first snapshot is whole; a burst of updates is rendered once; a reload
//! that could not be delivered (the daemon is not running yet, or refused) is tried again until it is, because a
//! daemon may have read the old file just before it was replaced. Left out: where events come from ([`SyncerEvent`]s
//! arrive on a bounded channel).

use std::path::PathBuf;
use std::time::Duration;

use libcalico_model::SyncerEvent;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::{error, info, warn};

use crate::context::Context;
use crate::control::{ControlError, ControlSocket};
use crate::output::{self, Check, Outcome, OutputError};
use crate::render::{RenderError, Renderer};
use crate::settings::NodeSettings;
use crate::state::State;

/// How long a burst of updates is gathered.
const GATHER: Duration = Duration::from_millis(50);
/// How soon an undelivered reload is tried again.
const RELOAD_RETRY: Duration = Duration::from_secs(1);

/// What to do and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// `CONFDIR/config/bird.cfg`.
    pub file: PathBuf,
    pub check: Option<Check>,
    /// None: nobody is told.
    pub control: Option<ControlSocket>,
    /// Render once and end.
    pub once: bool,
    /// Render at every change. Without it: at the start and at every interval.
    pub watch: bool,
    /// How often the file is compared again with what it should say.
    pub interval: Duration,
    /// Render and check, but write and reload nothing.
    pub noop: bool,
}

/// Why confd ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("the source of updates ended before its first snapshot was whole")]
    SourceEnded,
}

/// The text for a state.
pub fn render(renderer: &Renderer, state: &State, settings: &NodeSettings) -> Result<String, RenderError> {
    renderer.render(&Context::new(state, settings))
}

/// Runs until the source ends, or until the first file where `once` is set. In `watch` mode a failed render or check
/// is logged and repeated at the next change; with `once` it is the result.
pub async fn run(
    mut events: mpsc::Receiver<SyncerEvent>,
    renderer: &Renderer,
    settings: &NodeSettings,
    node_name: &str,
    options: &Options,
) -> Result<(), RunError> {
    let mut state = State::new(node_name);
    while !state.in_sync() {
        let event = events.recv().await.ok_or(RunError::SourceEnded)?;
        state.apply(event);
    }
    info!(node = node_name, "datastore in sync");

    let mut writer = Writer { renderer, settings, options, reload_pending: false, complained: None };
    if options.once {
        writer.write(&state)?;
        writer.reload().await;
        return Ok(());
    }
    writer.write_or_log(&state);
    writer.reload().await;

    let mut tick = interval_at(Instant::now() + options.interval, options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut render_now = false;
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return Ok(()) };
                let changed = state.apply(event) | gather(&mut events, &mut state).await;
                render_now = changed && options.watch;
            }
            _ = tick.tick() => render_now = true,
            () = sleep(RELOAD_RETRY), if writer.reload_pending => {}
        }
        if render_now {
            writer.write_or_log(&state);
        }
        writer.reload().await;
    }
}

/// Takes what follows within a moment, so that a burst is rendered once.
async fn gather(events: &mut mpsc::Receiver<SyncerEvent>, state: &mut State) -> bool {
    let mut changed = false;
    let end = Instant::now() + GATHER;
    while let Ok(Some(event)) = timeout(end.saturating_duration_since(Instant::now()), events.recv()).await {
        changed |= state.apply(event);
    }
    changed
}

struct Writer<'a> {
    renderer: &'a Renderer,
    settings: &'a NodeSettings,
    options: &'a Options,
    reload_pending: bool,
    /// The last complaint, so that the same one is not repeated every interval.
    complained: Option<String>,
}

impl Writer<'_> {
    fn write_or_log(&mut self, state: &State) {
        let complaint = self.write(state).err().map(|e| e.to_string());
        if let Some(text) = complaint.as_ref().filter(|_| complaint != self.complained) {
            error!("{text}");
        }
        self.complained = complaint;
    }

    fn write(&mut self, state: &State) -> Result<(), RunError> {
        let context = Context::new(state, self.settings);
        let text = self.renderer.render(&context)?;
        let file = &self.options.file;
        let check = self.options.check.as_ref();
        if self.options.noop {
            let directory = file.parent().unwrap_or(std::path::Path::new("/"));
            output::check_only(directory, &text, check)?;
            let current = output::is_current(file, &text)?;
            info!(file = %file.display(), would_change = !current, peers = context.peer_count(), "noop");
            return Ok(());
        }
        if output::replace(file, &text, check)? == Outcome::Written {
            info!(file = %file.display(), peers = context.peer_count(), "wrote the BGP configuration");
            self.reload_pending = self.options.control.is_some();
        }
        Ok(())
    }

    async fn reload(&mut self) {
        let Some(control) = self.options.control.as_ref().filter(|_| self.reload_pending) else { return };
        match control.configure().await {
            Ok(reply) => {
                self.reload_pending = false;
                info!(reply = reply.lines.last().map_or("", String::as_str), "BGP daemon reloaded");
            }
            Err(ControlError::NotRunning { .. }) => {}
            Err(ControlError::Refused { code, text, .. }) => {
                // The same file would be refused again; the next one may not be.
                self.reload_pending = false;
                error!(code, text, "the BGP daemon refused the configuration and keeps its old one");
            }
            Err(error) => warn!(%error, "reload failed; it will be tried again"),
        }
    }
}
