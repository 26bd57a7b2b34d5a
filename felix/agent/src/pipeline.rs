//! The wiring of Felix.
//!
//! ```text
//!  Typha | datastore ──SyncerEvent──▶ recorder ─▶ CalcGraph ──Vec<Message>──▶ dataplane thread ──▶ kernel
//!        (bounded)                       │            │  (bounded, the calculation waits)  │
//!                                        ▼            └─ ConfigUpdate ─▶ configuration     └─ reports ─▶ health, metrics
//!                                     a file                   │
//!                                                 live change, or the session begins anew
//! ```
//!
//! One thread runs the calculation with everything that waits (tokio, current thread), one the dataplane. Always holds:
//! messages are asked for as soon as no further update waits; nothing reaches the dataplane before the datastore is in
//! sync and says that it is ready (`ClusterInformation`'s `datastoreReady`): an empty datastore, a locked one or half of
//! an import change no rule; a configuration that cannot change live begins a new session in place: the old dataplane
//! goes on until the datastore is in sync again, and the new one then writes what differs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use felix_calc::{CalcGraph, RouteSource};
use felix_dataplane::config::Backend;
use felix_dataplane::driver::backend::{self, IptablesMode, NftablesMode};
use felix_dataplane::worker::Command;
use felix_message::{ConfigUpdate, Message};
use libcalico_model::{Key, SyncStatus, SyncerEvent, Value as Stored};
use libcalico_telemetry::{HttpServer, LogHandle, Severity};
use tokio::sync::mpsc;

use crate::config::value::Value;
use crate::config::{self, Config, ConfigError, Listen, Raw, Resolved, Source};
use crate::control::{self, Question};
use crate::dataplane::{Arrivals, DataplaneThread, Surroundings};
use crate::health::{Health, Timeouts};
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::source::{self, SourceError};

/// Updates that are calculated before messages are asked for, though more wait.
const BATCH: usize = 100_000;
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether kube-proxy filters by other means than before; upstream's interval.
const BACKEND_CHECK: Duration = Duration::from_secs(15);

/// Why Felix cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Dataplane(#[from] felix_dataplane::apply::StartError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the source of updates has ended")]
    SourceEnded,
    #[error("cannot start a thread or watch signals: {0}")]
    System(std::io::Error),
}

/// What stays through sessions.
#[derive(Debug)]
pub struct Felix {
    local: Raw,
    machine: String,
    /// Goes on through all sessions.
    recorder: Option<Recorder>,
    log: LogHandle,
    started: Instant,
    questions: Option<mpsc::Receiver<Question>>,
    /// The dataplane of the session before: it goes on until the new one is in sync.
    previous: Option<DataplaneThread>,
    /// The chosen backend, and by which settings.
    backend: Cell<Option<((NftablesMode, IptablesMode), Backend)>>,
    /// The configuration that was last logged: what stays the same is not said again.
    told: RefCell<Option<Resolved>>,
    /// Figures of the session before: their counters go on.
    metrics: Option<Metrics>,
}

/// How a session ended.
enum End {
    Stop,
    /// Configuration of the datastore that the next session begins with.
    Restart(ConfigUpdate),
}

/// Typed configuration with its origin.
struct Effective {
    resolved: Resolved,
    config: Config,
    calc: felix_calc::Config,
}

impl Felix {
    /// `local`: parameters of file and environment.
    #[must_use]
    pub fn new(local: Raw, machine: String, recorder: Option<Recorder>, log: LogHandle) -> Self {
        Self {
            local,
            machine,
            recorder,
            log,
            started: Instant::now(),
            questions: None,
            previous: None,
            backend: Cell::new(None),
            told: RefCell::new(None),
            metrics: None,
        }
    }

    /// Logs by the configuration's severity what is new in it.
    fn tell(&self, new: &Effective) {
        set_severity(&self.log, &new.config);
        let before = self.told.replace(Some(new.resolved.clone()));
        new.resolved.log_changes(before.as_ref());
    }

    /// The backend that the configuration comes to. What was chosen stays while the configuration says the same, until
    /// [`Self::look_for_backend`] finds another.
    fn backend(&self, resolved: &Resolved) -> Backend {
        let modes = config::backend_modes(resolved);
        if let Some((of, backend)) = self.backend.get()
            && of == modes
        {
            return backend;
        }
        let backend = backend::detect(modes.0, modes.1, None);
        tracing::info!(?modes, ?backend, "backend of tables chosen");
        self.backend.set(Some((modes, backend)));
        backend
    }

    /// True where the host's other programs now call for another backend.
    fn look_for_backend(&self) -> bool {
        let Some((modes, now)) = self.backend.get() else { return false };
        if modes.0 != NftablesMode::Auto {
            return false;
        }
        let backend = backend::detect(modes.0, modes.1, Some(now));
        if backend != now {
            tracing::info!(?now, ?backend, "other programs of the host call for another backend of tables");
            self.backend.set(Some((modes, backend)));
        }
        backend != now
    }

    fn effective(&self, datastore: &ConfigUpdate) -> Result<Effective, ConfigError> {
        let mut raw = self.local.clone();
        let pairs = |m: &std::collections::BTreeMap<String, String>| {
            m.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
        };
        raw.set(Source::GlobalDatastore, pairs(&datastore.global));
        raw.set(Source::PerSelectorDatastore, pairs(&datastore.per_selector));
        raw.set(Source::PerHostDatastore, pairs(&datastore.per_host));
        let resolved = raw.resolve()?;
        let config = Config::from_resolved(&resolved, &self.machine, self.backend(&resolved));
        let calc = felix_calc::Config {
            hostname: config.hostname.clone(),
            route_source: match resolved.text("RouteSource") {
                "WorkloadIPs" => RouteSource::WorkloadIps,
                _ => RouteSource::CalicoIpam,
            },
            ipip_enabled: resolved.bool("IpInIpEnabled"),
            vxlan_enabled: resolved.bool("VXLANEnabled"),
        };
        Ok(Effective { resolved, config, calc })
    }

    /// Runs until SIGTERM or SIGINT. Rules stay in place.
    ///
    /// # Errors
    /// What a person has to mend.
    pub async fn run(mut self) -> Result<(), RunError> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).map_err(RunError::System)?;
        let mut int = signal(SignalKind::interrupt()).map_err(RunError::System)?;
        self.questions = control::serve(&control::path());
        let mut datastore = ConfigUpdate::default();
        loop {
            let end = tokio::select! {
                end = self.session(&datastore) => end?,
                _ = term.recv() => End::Stop,
                _ = int.recv() => End::Stop,
            };
            match end {
                End::Stop => {
                    tracing::info!("stopping; rules and routes stay in place");
                    return Ok(());
                }
                End::Restart(config) => {
                    tracing::info!("configuration changed; starting over in place");
                    datastore = config;
                }
            }
        }
    }

    async fn session(&mut self, datastore: &ConfigUpdate) -> Result<End, RunError> {
        let effective = self.effective(datastore)?;
        let backend = effective.config.dataplane.backend;
        let metrics = match &self.metrics {
            Some(before) => before.renewed(backend)?,
            None => Metrics::new(&effective.config.hostname, backend)?,
        };
        let mut session = Session::start(self, effective, metrics).await?;
        let mut questions = self.questions.take();
        session.previous = self.previous.take();
        session.datastore = datastore.clone();
        session.recorder = self.recorder.take();
        if let Some(r) = &mut session.recorder {
            r.begin(&session.effective.calc);
        }
        let end = session.run(self, &mut questions).await;
        self.metrics = Some(session.metrics.clone());
        self.questions = questions;
        self.recorder = session.recorder.take();
        self.previous = session.dataplane.take().or(session.previous.take());
        end
    }
}

/// One run with one configuration.
struct Session {
    effective: Effective,
    source: mpsc::Receiver<SyncerEvent>,
    graph: CalcGraph,
    recorder: Option<Recorder>,
    health: Health,
    metrics: Metrics,
    servers: Vec<HttpServer>,
    dataplane: Option<DataplaneThread>,
    previous: Option<DataplaneThread>,
    in_sync: bool,
    /// `datastoreReady`. `None`: nobody has said it, as in a datastore that has not been initialised.
    ready: Option<bool>,
    /// Updates are held back since the datastore is not ready.
    holding: bool,
    out: Vec<Message>,
    /// The datastore's configuration as it was last taken.
    datastore: ConfigUpdate,
    arrivals: Arrivals,
}

impl Session {
    async fn start(felix: &Felix, effective: Effective, metrics: Metrics) -> Result<Self, RunError> {
        felix.tell(&effective);
        let source = source::start(&effective.config, &effective.resolved).await?;
        let mut me = Self {
            health: Health::new(&health_timeouts(&effective.resolved)),
            metrics,
            graph: CalcGraph::new(effective.calc.clone()),
            effective,
            source,
            recorder: None,
            servers: Vec::new(),
            dataplane: None,
            previous: None,
            in_sync: false,
            ready: None,
            holding: false,
            out: Vec::new(),
            datastore: ConfigUpdate::default(),
            arrivals: Arrivals::default(),
        };
        me.serve().await?;
        Ok(me)
    }

    /// Serves health and metrics where configured. A port that is taken is a warning: policy comes first.
    async fn serve(&mut self) -> Result<(), RunError> {
        self.servers.clear();
        // Given back to the system before they are asked for again.
        tokio::task::yield_now().await;
        let Config { health, metrics, metrics_tls, process_metrics, .. } = &self.effective.config;
        if let Some(Listen { host, port }) = health {
            match libcalico_telemetry::serve_health(host, *port, self.health.aggregator.clone()).await {
                Ok(s) => self.servers.push(s),
                Err(e) => tracing::error!(error = %e, "health is not served"),
            }
        }
        if let Some(Listen { host, port }) = metrics {
            let registry = self.metrics.registry(*process_metrics)?;
            match libcalico_telemetry::serve_metrics(host, *port, registry, metrics_tls.as_ref()).await {
                Ok(s) => self.servers.push(s),
                Err(e) => tracing::error!(error = %e, "metrics are not served"),
            }
        }
        Ok(())
    }

    async fn run(
        &mut self,
        felix: &Felix,
        questions: &mut Option<mpsc::Receiver<Question>>,
    ) -> Result<End, RunError> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut backend = tokio::time::interval(BACKEND_CHECK);
        backend.reset();
        loop {
            tokio::select! {
                event = self.source.recv() => {
                    let event = event.ok_or(RunError::SourceEnded)?;
                    if let Some(end) = self.on_event(felix, event).await? {
                        return Ok(end);
                    }
                }
                question = ask(questions) => self.answer(question),
                _ = backend.tick() => {
                    if felix.look_for_backend() {
                        return Ok(End::Restart(self.datastore.clone()));
                    }
                }
                _ = heartbeat.tick() => {
                    if self.dataplane.as_ref().is_some_and(DataplaneThread::finished) {
                        return Err(RunError::System(std::io::Error::other("the dataplane's thread has ended")));
                    }
                }
            }
            self.alive();
        }
    }

    /// A sign of life. While the dataplane has not been started, nothing else speaks for it.
    fn alive(&self) {
        let waits = self.waits_for();
        self.health.calculation(waits);
        if self.dataplane.is_none() {
            self.health.dataplane(false, waits);
        }
    }

    /// Why nothing is calculated yet.
    fn waits_for(&self) -> Option<&'static str> {
        match (self.in_sync, self.ready) {
            (false, _) => Some("waiting for the datastore"),
            (true, Some(true)) => None,
            (true, Some(false)) => {
                Some("the datastore is locked (ClusterInformation has datastoreReady: false)")
            }
            (true, None) => {
                Some("the datastore has not been initialised (no datastoreReady in ClusterInformation)")
            }
        }
    }

    /// True where what has come must wait until the datastore is ready: rules stay as they are.
    fn holds(&mut self) -> bool {
        let reason = self.waits_for().filter(|_| self.in_sync);
        if reason.is_some() != self.holding {
            match reason {
                Some(why) => tracing::warn!("rules stay as they are: {why}"),
                None => tracing::info!("the datastore is ready"),
            }
        }
        self.holding = reason.is_some();
        self.holding
    }

    async fn on_event(&mut self, felix: &Felix, first: SyncerEvent) -> Result<Option<End>, RunError> {
        let started = Instant::now();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(event) = next {
            taken += self.take(event);
            next = if taken < BATCH { self.source.try_recv().ok() } else { None };
        }
        if self.holds() {
            return Ok(None);
        }
        let mut out = std::mem::take(&mut self.out);
        self.graph.flush(&mut out);
        if let Some(r) = &mut self.recorder {
            r.flush();
        }
        self.metrics.calculated(started.elapsed(), &out, self.graph.stats());
        if out.is_empty() {
            return Ok(None);
        }
        for m in &out {
            if let Message::ConfigUpdate(update) = m
                && let Some(end) = self.on_config(felix, update).await?
            {
                return Ok(Some(end));
            }
        }
        self.send(felix, out).await?;
        Ok(None)
    }

    fn take(&mut self, event: SyncerEvent) -> usize {
        if let Some(r) = &mut self.recorder {
            r.event(&event);
        }
        match event {
            SyncerEvent::Status(status) => {
                self.in_sync |= status == SyncStatus::InSync;
                self.metrics.status(match status {
                    SyncStatus::WaitForDatastore => 1,
                    SyncStatus::ResyncInProgress => 2,
                    SyncStatus::InSync => 3,
                });
                self.graph.on_status(status);
                1
            }
            SyncerEvent::Updates(updates) => {
                let n = updates.len();
                for u in updates {
                    self.metrics.update(kind_of(&u.key));
                    if let (Key::WorkloadEndpoint(key), true) = (&u.key, self.in_sync)
                        && key.host == self.effective.config.hostname
                    {
                        self.arrivals.seen(key, u.value.is_some(), Instant::now());
                    }
                    if let Key::Ready = u.key {
                        self.ready = match u.value {
                            Some(Stored::Ready(ready)) => Some(ready),
                            _ => None,
                        };
                    }
                    self.graph.on_update(u);
                }
                n
            }
        }
    }

    /// Takes the datastore's configuration. Before the dataplane runs most of it can still be taken as it comes.
    async fn on_config(&mut self, felix: &Felix, update: &ConfigUpdate) -> Result<Option<End>, RunError> {
        let new = felix.effective(update)?;
        felix.tell(&new);
        let old = &self.effective;
        let same = Config { log_severity: String::new(), ..new.config.clone() }
            == Config { log_severity: String::new(), ..old.config.clone() };
        let timeouts = |e: &Effective| health_timeouts(&e.resolved);
        let restart =
            new.calc != old.calc || timeouts(&new) != timeouts(old) || (self.dataplane.is_some() && !same);
        if restart {
            return Ok(Some(End::Restart(update.clone())));
        }
        self.effective = new;
        self.datastore.clone_from(update);
        if !same {
            self.metrics = self.metrics.renewed(self.effective.config.dataplane.backend)?;
            self.serve().await?;
        }
        Ok(None)
    }

    async fn send(&mut self, felix: &Felix, messages: Vec<Message>) -> Result<(), RunError> {
        if self.dataplane.is_none() {
            // Two must not write at a time; the rules stand meanwhile.
            if let Some(previous) = self.previous.take() {
                previous.give_way(&self.effective.config).await;
            }
            let around = Surroundings {
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                arrivals: self.arrivals.clone(),
                started: felix.started,
                etcd: source::etcd(&self.effective.resolved),
            };
            self.dataplane = Some(DataplaneThread::start(&self.effective.config, around)?);
        }
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        dataplane.announce(&messages);
        let mut command = Command::Messages(messages);
        loop {
            match dataplane.try_send(command)? {
                None => return Ok(()),
                Some(back) => command = back,
            }
            // Full: the dataplane is behind. No more input is taken meanwhile; health still answers.
            self.alive();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn answer(&self, question: Question) {
        use std::fmt::Write as _;
        let mut text = String::from("configuration:\n");
        for (name, e) in self.effective.resolved.iter() {
            if e.source != Source::Default {
                let _ = writeln!(text, "  {name} = {} ({})", e.raw, e.source);
            }
        }
        let state = self.waits_for().unwrap_or("in sync");
        let _ = writeln!(text, "calculation: {state}, {:?}", self.graph.stats());
        let Some(dataplane) = &self.dataplane else {
            let _ = question.send(text + "dataplane: not started\n");
            return;
        };
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        if matches!(dataplane.try_send(Command::Dump(sender)), Ok(None)) {
            // The answer comes from another thread; this one goes on.
            tokio::task::spawn_blocking(move || {
                let dump = receiver.recv_timeout(Duration::from_secs(8));
                let _ = question.send(text + &dump.unwrap_or_else(|_| "dataplane: busy\n".to_owned()));
            });
        } else {
            let _ = question.send(text + "dataplane: busy\n");
        }
    }
}

/// The next question; without a socket: none ever.
async fn ask(questions: &mut Option<mpsc::Receiver<Question>>) -> Question {
    if let Some(receiver) = questions
        && let Some(question) = receiver.recv().await
    {
        return question;
    }
    std::future::pending().await
}

fn set_severity(log: &LogHandle, config: &Config) {
    if let Ok(severity) = config.log_severity.parse::<Severity>() {
        log.set_severity(severity);
    }
}

/// Longest silences of the loops: `DataplaneWatchdogTimeout`, and `HealthTimeoutOverrides` by the loops' names.
fn health_timeouts(r: &Resolved) -> Timeouts {
    Timeouts {
        dataplane: r.duration("DataplaneWatchdogTimeout"),
        overrides: match r.raw_value("HealthTimeoutOverrides") {
            Value::Durations(all) => all.clone(),
            _ => BTreeMap::new(),
        },
    }
}

/// A key's kind as a label.
fn kind_of(key: &Key) -> &'static str {
    match key {
        Key::Resource(_) => "Resource",
        Key::Block(_) => "BlockKey",
        Key::BlockAffinity { .. } => "BlockAffinityKey",
        Key::Handle(_) => "IPAMHandleKey",
        Key::IpamConfig => "IPAMConfigKey",
        Key::WorkloadEndpoint(_) => "WorkloadEndpointKey",
        Key::HostEndpoint { .. } => "HostEndpointKey",
        Key::Policy(_) => "PolicyKey",
        Key::ProfileRules(_) => "ProfileRulesKey",
        Key::Tier(_) => "TierKey",
        Key::IpPool(_) => "IPPoolKey",
        Key::NetworkSet(_) => "NetworkSetKey",
        Key::HostIp(_) => "HostIPKey",
        Key::HostConfig { .. } => "HostConfigKey",
        Key::GlobalConfig(_) => "GlobalConfigKey",
        Key::Wireguard(_) => "WireguardKey",
        Key::Service { .. } | Key::EndpointSlice { .. } | Key::ClusterNetworkPolicy(_) => "Resource",
        Key::Ready => "ReadyFlagKey",
    }
}
