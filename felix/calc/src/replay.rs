//! Replays recorded input through a calculation and compares what comes out with what must.
//!
//! In comes the text of a file: either calculation states (a JSON object with `states` and `sequences`), or a recording
//! of our own (a JSON object a line, see [`crate::recording`]). Out goes a [`Report`]: what differs from the outcome
//! that the file expects, and what must not be whatever the file says. The latter is looked for in every file, so that
//! one without an expected outcome is a test as well:
//!
//! - messages that cannot be applied one by one ([`crate::mirror`]);
//! - a result that is another than that of the same objects from scratch, or that outlives them;
//! - rules that say less than the datastore's ([`crate::strictness`]).

use std::collections::BTreeMap;

use felix_message::Message;
use libcalico_model::{Key, Revision, SyncStatus, Update};
use serde::Deserialize;

use crate::graph::{CalcGraph, Config, Stats};
use crate::mirror::Mirror;
use crate::outcome::{Difference, Outcome};
use crate::recording::{Event, LineError, route_source, update};
use crate::strictness::Stored;

/// A file that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the file is neither a recording nor calculation states: {0}")]
    Shape(String),
    #[error("state {state:?}: {reason}")]
    State { state: String, reason: String },
}

/// A file of calculation states.
#[derive(Clone, Debug, Deserialize)]
pub struct StatesFile {
    pub local_host: String,
    pub states: BTreeMap<String, State>,
    pub sequences: Vec<Vec<String>>,
}

/// What stands in the datastore, and what a calculation makes of it.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    pub datastore: Vec<Entry>,
    #[serde(flatten)]
    pub expected: Outcome,
}

/// An object of a state.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    pub key: String,
    #[serde(default)]
    pub value: serde_json::Value,
    /// Plain text, where the value is not JSON.
    #[serde(default)]
    pub raw: Option<String>,
}

impl State {
    /// The objects, or why they cannot be had: a kind that this project does not have yet. Live migrations are left
    /// out: what they change is left out of the comparison too.
    pub fn updates(&self) -> Result<Vec<Update>, String> {
        let live_migration = |e: &&Entry| e.key.contains("/livemigrations/");
        let entries = self.datastore.iter().filter(|e| !live_migration(e));
        entries.map(|e| update(&e.key, Some(&e.value), e.raw.as_deref())).collect()
    }

    /// How the calculation is to be set up for the state.
    #[must_use]
    pub fn config(&self, hostname: &str) -> Config {
        let source = self.datastore.iter().find(|e| e.key == "/calico/v1/config/RouteSource");
        let text = source.and_then(|e| e.raw.as_deref().or_else(|| e.value.as_str()));
        Config { hostname: hostname.to_owned(), route_source: route_source(text), ..Config::default() }
    }

    /// What is expected, without features that the project leaves out: Istio's set of ambient pods.
    #[must_use]
    pub fn expected(&self) -> Outcome {
        let mut expected = self.expected.clone();
        expected.ipsets.remove("all-istio-weps");
        expected
    }
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Steps that were compared.
    pub compared: usize,
    /// States that were left out, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Where something differs from what the file expects, and what.
    pub differences: Vec<(String, Difference)>,
    /// Messages in an order that cannot be applied.
    pub order: Vec<(String, String)>,
    /// Where the result is another than from scratch (which is what is expected then).
    pub unequal: Vec<(String, Difference)>,
    /// Rules that say less than the datastore's.
    pub wider: Vec<(String, String)>,
}

impl Report {
    /// True where everything was compared and nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.skipped.is_empty() && self.differences.is_empty() && self.is_sound()
    }

    /// True where nothing was found that must not be whatever the input is. What a file expects of its own, and states
    /// that cannot be read, are not asked.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.order.is_empty() && self.unequal.is_empty() && self.wider.is_empty()
    }
}

impl std::fmt::Display for Report {
    /// Differences as a diff, then a line that sums up.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (expected, differences) in [("expected", &self.differences), ("from scratch", &self.unequal)] {
            let mut place = None;
            for (at, difference) in differences {
                if place.replace(at) != Some(at) {
                    writeln!(f, "--- {expected}, {at}\n+++ found, {at}")?;
                }
                write!(f, "{difference}")?;
            }
        }
        for (at, error) in &self.order {
            writeln!(f, "order, {at}: {error}")?;
        }
        for (at, error) in &self.wider {
            writeln!(f, "lets more through than the datastore says, {at}: {error}")?;
        }
        for (state, reason) in &self.skipped {
            writeln!(f, "skipped {state:?}: {reason}")?;
        }
        let wrong = self.differences.len() + self.unequal.len() + self.order.len() + self.wider.len();
        writeln!(f, "{} compared, {} skipped, {wrong} differences", self.compared, self.skipped.len())
    }
}

/// A calculation with a dataplane in memory behind it.
pub struct Runner {
    pub graph: CalcGraph,
    pub mirror: Mirror,
    messages: Vec<Message>,
}

impl Runner {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { graph: CalcGraph::new(config), mirror: Mirror::default(), messages: Vec::new() }
    }

    /// Flushes and applies; says what is wrong with the messages' order.
    pub fn flush(&mut self) -> Result<usize, String> {
        self.messages.clear();
        self.graph.flush(&mut self.messages);
        self.mirror.apply_all(&self.messages).map_err(|e| e.to_string())?;
        Ok(self.messages.len())
    }

    /// The outcome of objects that come all at once.
    pub fn from_scratch(config: Config, updates: impl IntoIterator<Item = Update>) -> Result<Mirror, String> {
        let mut runner = Self::new(config);
        updates.into_iter().for_each(|u| runner.graph.on_update(u));
        runner.graph.on_status(SyncStatus::InSync);
        runner.flush()?;
        Ok(runner.mirror)
    }
}

/// Replays a file's text.
pub fn run(text: &str) -> Result<Report, ReplayError> {
    let first = text.trim_start();
    let single = serde_json::from_str::<serde_json::Value>(first);
    match single {
        Ok(json) if json.get("states").is_some() => {
            let file: StatesFile =
                serde_json::from_value(json).map_err(|e| ReplayError::Shape(e.to_string()))?;
            if file.states.is_empty() {
                return Err(ReplayError::Shape("it has no states".to_owned()));
            }
            Ok(run_states(&file))
        }
        _ => run_recording(text),
    }
}

/// Walks every state and every sequence.
#[must_use]
pub fn run_states(file: &StatesFile) -> Report {
    let mut report = Report::default();
    let single = file.states.keys().map(|name| vec![name.clone()]);
    let walks: Vec<Vec<String>> = single.chain(file.sequences.iter().cloned()).collect();
    for walk in walks {
        walk_states(file, &walk, &mut report);
    }
    report.skipped.sort();
    report.skipped.dedup();
    report
}

fn walk_states(file: &StatesFile, walk: &[String], report: &mut Report) {
    let at = walk.join(" → ");
    let mut session: Option<Session> = None;
    for name in walk {
        let Some(state) = file.states.get(name) else {
            report.skipped.push((name.clone(), "not in the file".to_owned()));
            break;
        };
        let updates = match state.updates() {
            Ok(updates) => updates,
            Err(reason) => {
                report.skipped.push((name.clone(), reason));
                break;
            }
        };
        let session = session.get_or_insert_with(|| Session::new(state.config(&file.local_host)));
        let wanted: BTreeMap<Key, Update> = updates.into_iter().map(|u| (u.key.clone(), u)).collect();
        for update in transition(&session.objects, &wanted) {
            session.update(update);
        }
        for entry in &state.datastore {
            session.stored.set(&entry.key, &entry.value, entry.raw.as_deref());
        }
        session.status(SyncStatus::InSync);
        if !session.flush(&at, report) {
            return;
        }
        compare(&state.expected(), &session.runner.mirror, &at, report);
    }
    if let Some(session) = session {
        session.end(&at, report);
    }
}

/// Updates that lead from some objects to others.
#[must_use]
pub fn transition(from: &BTreeMap<Key, Update>, to: &BTreeMap<Key, Update>) -> Vec<Update> {
    let gone = from.keys().filter(|k| !to.contains_key(*k)).map(deletion);
    let come = to.iter().filter(|(k, u)| from.get(*k) != Some(*u)).map(|(_, u)| u.clone());
    gone.chain(come).collect()
}

fn deletion(key: &Key) -> Update {
    Update { key: key.clone(), value: None, revision: Revision::default() }
}

/// A calculation from its beginning on, with what it was told.
struct Session {
    config: Config,
    runner: Runner,
    objects: BTreeMap<Key, Update>,
    stored: Stored,
    /// What the datastore said last. Before anything was calculated it may still take back that it is in sync.
    in_sync: bool,
}

impl Session {
    fn new(config: Config) -> Self {
        Self {
            runner: Runner::new(config.clone()),
            config,
            objects: BTreeMap::new(),
            stored: Stored::default(),
            in_sync: false,
        }
    }

    fn update(&mut self, update: Update) {
        if update.value.is_some() {
            self.objects.insert(update.key.clone(), update.clone());
        } else {
            self.objects.remove(&update.key);
        }
        self.runner.graph.on_update(update);
    }

    fn status(&mut self, status: SyncStatus) {
        self.in_sync = status == SyncStatus::InSync;
        self.runner.graph.on_status(status);
    }

    /// False where the messages could not be applied.
    fn flush(&mut self, at: &str, report: &mut Report) -> bool {
        let flushed = self.runner.flush();
        if let Err(error) = &flushed {
            report.order.push((at.to_owned(), error.clone()));
        }
        flushed.is_ok()
    }

    /// What must hold at the end: the result is the one from scratch, and it goes when its objects go.
    fn end(mut self, at: &str, report: &mut Report) {
        let in_sync = self.in_sync || self.runner.mirror.in_sync;
        if !in_sync || !self.flush(at, report) {
            return;
        }
        let found = |problem| (at.to_owned(), problem);
        report.wider.extend(self.stored.wider_in(&self.runner.mirror).into_iter().map(found));
        report.compared += 1;
        let scratch = match Runner::from_scratch(self.config.clone(), self.objects.values().cloned()) {
            Ok(scratch) => scratch,
            Err(error) => {
                report.order.push((format!("{at}, from scratch"), error));
                return;
            }
        };
        let unequal = |expected: &Mirror, found: &Mirror, at: String, report: &mut Report| {
            let differences = expected.differences(found).into_iter();
            report.unequal.extend(differences.map(|d| (at.clone(), d)));
        };
        unequal(&scratch, &self.runner.mirror, at.to_owned(), report);
        let keys: Vec<Key> = self.objects.keys().cloned().collect();
        keys.iter().for_each(|key| self.update(deletion(key)));
        let at = format!("{at}, after everything was deleted");
        if !self.flush(&at, report) {
            return;
        }
        match Runner::from_scratch(self.config.clone(), []) {
            Ok(empty) => unequal(&empty, &self.runner.mirror, at.clone(), report),
            Err(error) => report.order.push((at.clone(), error)),
        }
        let stats = self.runner.graph.stats();
        if stats != Stats::default() {
            let left = Difference {
                subject: "what the calculation still holds".to_owned(),
                expected: Some(format!("{:?}", Stats::default())),
                found: Some(format!("{stats:?}")),
            };
            report.unequal.push((at, left));
        }
    }
}

fn run_recording(text: &str) -> Result<Report, ReplayError> {
    let mut report = Report::default();
    let mut config = Config::default();
    let mut session: Option<Session> = None;
    let mut begun = 1;
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let number = i + 1;
        let event = Event::from_line(line, number)?;
        // A recording goes on where its Felix began anew, with another configuration and the whole datastore again.
        if let Event::Start(_) | Event::End(_) = event
            && let Some(session) = session.take()
        {
            session.end(&format!("lines {begun} to {number}"), &mut report);
        }
        if let Event::Start(start) = event {
            (config, begun) = (start, number);
            continue;
        }
        if let Event::End(_) = event {
            continue;
        }
        let session = session.get_or_insert_with(|| Session::new(config.clone()));
        let at = format!("line {number}");
        match event {
            Event::Start(_) | Event::End(_) => {}
            Event::Update(update) => {
                session.stored.line(&update.key, line);
                session.update(update);
            }
            Event::Status(status) => session.status(status),
            Event::Flush => {
                session.flush(&at, &mut report);
            }
            Event::Expected(expected) => {
                session.flush(&at, &mut report);
                compare(&expected, &session.runner.mirror, &at, &mut report);
            }
        }
    }
    if let Some(session) = session {
        session.end(&format!("line {begun} to the end"), &mut report);
    }
    if report.compared == 0 && report.order.is_empty() {
        let why = "nothing can be compared: it has no events, or never gets in sync with the datastore";
        return Err(ReplayError::Shape(why.to_owned()));
    }
    Ok(report)
}

fn compare(expected: &Outcome, found: &Mirror, at: &str, report: &mut Report) {
    report.compared += 1;
    let differences = Outcome::diff(expected, &Outcome::from(found));
    report.differences.extend(differences.into_iter().map(|d| (at.to_owned(), d)));
}
