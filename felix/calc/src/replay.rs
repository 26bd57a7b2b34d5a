//! Replays recorded input through a calculation and compares what comes out with what was expected.
//!
//! In comes the text of a file: either calculation states (a JSON object with `states` and `sequences`), or a recording
//! of our own (a JSON object a line, see [`crate::recording`]). Out goes a [`Report`] with every difference. A
//! recording is also calculated from scratch from its last objects; a difference between the two is reported too, so
//! that a recording without an expected outcome is a test as well.

use std::collections::BTreeMap;

use felix_message::Message;
use libcalico_model::{Key, SyncStatus, Update};
use serde::Deserialize;

use crate::graph::{CalcGraph, Config};
use crate::mirror::Mirror;
use crate::outcome::{Difference, Outcome};
use crate::recording::{Event, LineError, route_source, update};

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
    /// Where something differs, and what.
    pub differences: Vec<(String, Difference)>,
    /// Messages in an order that cannot be applied.
    pub order: Vec<(String, String)>,
}

impl Report {
    /// True where nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.order.is_empty()
    }
}

impl std::fmt::Display for Report {
    /// Differences as a diff, then a line that sums up.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut place = None;
        for (at, difference) in &self.differences {
            if place.replace(at) != Some(at) {
                writeln!(f, "--- expected, {at}\n+++ found, {at}")?;
            }
            write!(f, "{difference}")?;
        }
        for (at, error) in &self.order {
            writeln!(f, "order, {at}: {error}")?;
        }
        for (state, reason) in &self.skipped {
            writeln!(f, "skipped {state:?}: {reason}")?;
        }
        let wrong = self.differences.len() + self.order.len();
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
            let file = serde_json::from_value(json).map_err(|e| ReplayError::Shape(e.to_string()))?;
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
    let mut runner: Option<Runner> = None;
    let mut present: BTreeMap<Key, Update> = BTreeMap::new();
    for name in walk {
        let Some(state) = file.states.get(name) else {
            report.skipped.push((name.clone(), "not in the file".to_owned()));
            return;
        };
        let updates = match state.updates() {
            Ok(updates) => updates,
            Err(reason) => {
                report.skipped.push((name.clone(), reason));
                return;
            }
        };
        let runner = runner.get_or_insert_with(|| Runner::new(state.config(&file.local_host)));
        let wanted: BTreeMap<Key, Update> = updates.into_iter().map(|u| (u.key.clone(), u)).collect();
        for update in transition(&present, &wanted) {
            runner.graph.on_update(update);
        }
        runner.graph.on_status(SyncStatus::InSync);
        present = wanted;
        let at = walk.join(" → ");
        if let Err(error) = runner.flush() {
            report.order.push((at, error));
            return;
        }
        report.compared += 1;
        let differences = Outcome::diff(&state.expected(), &Outcome::from(&runner.mirror));
        report.differences.extend(differences.into_iter().map(|d| (at.clone(), d)));
    }
}

/// Updates that lead from some objects to others.
#[must_use]
pub fn transition(from: &BTreeMap<Key, Update>, to: &BTreeMap<Key, Update>) -> Vec<Update> {
    let gone = from.keys().filter(|k| !to.contains_key(*k)).map(|k| Update {
        key: k.clone(),
        value: None,
        revision: libcalico_model::Revision::default(),
    });
    let come = to.iter().filter(|(k, u)| from.get(*k) != Some(*u)).map(|(_, u)| u.clone());
    gone.chain(come).collect()
}

fn run_recording(text: &str) -> Result<Report, ReplayError> {
    let mut report = Report::default();
    let mut config = Config::default();
    let mut runner: Option<Runner> = None;
    let mut objects: BTreeMap<Key, Update> = BTreeMap::new();
    let mut in_sync = false;
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let event = Event::from_line(line, i + 1)?;
        if let Event::Start(start) = event {
            config = start;
            continue;
        }
        let runner = runner.get_or_insert_with(|| Runner::new(config.clone()));
        match event {
            Event::Start(_) => {}
            Event::Update(update) => {
                if update.value.is_some() {
                    objects.insert(update.key.clone(), update.clone());
                } else {
                    objects.remove(&update.key);
                }
                runner.graph.on_update(update);
            }
            Event::Status(status) => {
                in_sync |= status == SyncStatus::InSync;
                runner.graph.on_status(status);
            }
            Event::Flush => flush_at(runner, &format!("line {}", i + 1), &mut report),
            Event::Expected(expected) => {
                flush_at(runner, &format!("line {}", i + 1), &mut report);
                compare(&expected, &runner.mirror, &format!("line {}", i + 1), &mut report);
            }
        }
    }
    let Some(mut runner) = runner else {
        return Err(ReplayError::Shape("it has no events".to_owned()));
    };
    if in_sync {
        flush_at(&mut runner, "the end", &mut report);
        match Runner::from_scratch(config, objects.into_values()) {
            Ok(scratch) => compare(&Outcome::from(&scratch), &runner.mirror, "from scratch", &mut report),
            Err(error) => report.order.push(("from scratch".to_owned(), error)),
        }
    }
    Ok(report)
}

fn flush_at(runner: &mut Runner, at: &str, report: &mut Report) {
    if let Err(error) = runner.flush() {
        report.order.push((at.to_owned(), error));
    }
}

fn compare(expected: &Outcome, found: &Mirror, at: &str, report: &mut Report) {
    report.compared += 1;
    let differences = Outcome::diff(expected, &Outcome::from(found));
    report.differences.extend(differences.into_iter().map(|d| (at.to_owned(), d)));
}
