//! The main loop: one event at a time into the engine, its actions out to the world.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bird_core::cli::{Reply, Request};
use bird_core::config::Source;
use bird_core::{Action, ConnId, Engine, Event, KernelChange, Options, Time};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cli::Args;
use crate::connection::Connection;
use crate::listener::Listeners;
use crate::monitor::News;
use crate::netlink::Netlink;
use crate::record::Recorder;
use crate::timers::Timers;
use crate::{control, logging, monitor, socket, source};

/// Events that may wait for the engine; their senders wait when it is full.
const QUEUE: usize = 1024;

/// How long after a failed `listen` the next try comes.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

/// News of routes are followed by a scan, at most this share of the time is spent on them: one part in so many.
const SCAN_SHARE: u32 = 10;

/// What reaches the main loop.
pub(crate) enum Input {
    Event(Event),
    Accepted { stream: TcpStream, local: IpAddr, port: u16, remote: IpAddr },
    Kernel(News),
    Control(Request, oneshot::Sender<Reply>),
}

struct Daemon {
    engine: Engine,
    recorder: Recorder,
    timers: Timers,
    conns: HashMap<ConnId, Connection>,
    accepted: HashMap<ConnId, TcpStream>,
    next_accepted: u64,
    listeners: Listeners,
    listen_retry: Option<Instant>,
    /// When kernel tables are to be read because of news.
    scan_due: Option<Instant>,
    /// Before this, no scan because of news: with millions of routes a scan takes its time.
    scan_not_before: Instant,
    netlink: Netlink,
    /// Kernel tables that were asked for: those news concern.
    tables: Vec<(u32, bool)>,
    events: mpsc::Sender<Input>,
    clock: Clock,
    config_path: PathBuf,
    /// Started with `-R`: SIGTERM leaves our routes with the neighbours.
    graceful: bool,
    /// Actions' own consequences, before anything else.
    follow_up: Vec<Event>,
    exit: bool,
}

/// Unix time that only goes forward: the wall clock at start plus the monotonic clock since.
struct Clock {
    base: Time,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { base: Time(u64::try_from(wall.as_micros()).unwrap_or(0)), start: Instant::now() }
    }

    fn now(&self) -> Time {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Time(self.base.0.saturating_add(elapsed))
    }

    fn instant(&self, at: Time) -> Instant {
        self.start + Duration::from_micros(at.since(self.base))
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start: the configuration is not valid, or the control socket cannot be opened.
pub async fn run(args: &Args) -> Result<()> {
    let (source, config) = source::check(&args.config).map_err(|e| anyhow!("{e}"))?;
    logging::init(args, &config.log)?;
    let clock = Clock::new();
    let options = Options {
        recover: args.recover,
        utc_offset_secs: chrono::Local::now().offset().local_minus_utc(),
        hostname: nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let recorder = Recorder::start(args.record.as_deref(), &source, &options, clock.now())?;
    let (events, mut queue) = mpsc::channel(QUEUE);
    control::start(&args.socket, events.clone())
        .with_context(|| format!("cannot open the control socket {}", args.socket.display()))?;
    monitor::start(events.clone()).context("cannot listen to the kernel")?;
    if let Some(path) = &args.pid_file {
        let mut file =
            std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(file, "{}", std::process::id())?;
    }
    tracing::info!(version = bird_core::cli::VERSION, config = %args.config.display(), "started");
    let mut daemon = Daemon {
        engine: Engine::new(config, options, clock.now()),
        recorder,
        timers: Timers::default(),
        conns: HashMap::new(),
        accepted: HashMap::new(),
        next_accepted: ConnId::ACCEPTED,
        listeners: Listeners::default(),
        listen_retry: None,
        scan_due: None,
        scan_not_before: Instant::now(),
        netlink: Netlink::new().context("cannot talk to the kernel")?,
        tables: Vec::new(),
        events,
        clock,
        config_path: args.config.clone(),
        graceful: args.recover,
        follow_up: Vec::new(),
        exit: false,
    };
    daemon.feed(Event::Start);
    daemon.main_loop(&mut queue).await?;
    // Last words to neighbours are on their way in tasks of their own.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for path in [Some(&args.socket), args.pid_file.as_ref()].into_iter().flatten() {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(%error, path = %path.display(), "not removed");
        }
    }
    tracing::info!("shutdown completed");
    Ok(())
}

impl Daemon {
    async fn main_loop(&mut self, queue: &mut mpsc::Receiver<Input>) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        while !self.exit {
            let next = self.timers.next().map(|at| self.clock.instant(at));
            let next = [next, self.listen_retry, self.scan_due].into_iter().flatten().min();
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = queue.recv() => {
                    if let Some(input) = input {
                        self.input(input);
                    }
                }
                () = timer => self.expire(),
                _ = hangup.recv() => {
                    let reply = self.configure(false, false, None);
                    tracing::info!("SIGHUP: {}", reply.encode().lines().last().unwrap_or(""));
                }
                _ = terminate.recv() => self.feed(Event::Shutdown { graceful: self.graceful }),
                _ = interrupt.recv() => self.feed(Event::Shutdown { graceful: self.graceful }),
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        if self.listen_retry.is_some_and(|at| at <= Instant::now()) {
            let complete = self.listeners.retry(&self.events);
            self.listen_retry = (!complete).then(|| Instant::now() + LISTEN_RETRY);
        }
        if self.scan_due.is_some_and(|at| at <= Instant::now()) {
            self.scan_due = None;
            let begin = Instant::now();
            for (table, ipv6) in self.tables.clone() {
                self.scan_kernel(table, ipv6);
            }
            self.drain();
            self.scan_not_before = Instant::now() + begin.elapsed() * SCAN_SHARE;
        }
        let now = self.clock.now();
        while let Some(timer) = self.timers.expired(now) {
            self.feed(Event::Timer(timer));
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Event(event) => {
                if let Event::Closed { conn, .. } = &event
                    && let Some(connection) = self.conns.remove(conn)
                {
                    connection.close();
                }
                self.feed(event);
            }
            Input::Accepted { stream, local, port, remote } => {
                let conn = ConnId(self.next_accepted);
                self.next_accepted += 1;
                self.accepted.insert(conn, stream);
                self.feed(Event::Incoming { conn, local, port, remote });
                self.accepted.remove(&conn);
            }
            Input::Kernel(news) => {
                if news.interfaces {
                    self.scan_interfaces();
                }
                if news.interfaces || news.routes {
                    // The kernel drops routes of an interface that goes down without a word for each.
                    self.scan_due = Some(self.scan_not_before.max(Instant::now()));
                }
                self.drain();
            }
            Input::Control(request, answer) => {
                let reply = self.control(request);
                // A client that went away does not want its reply.
                let _ = answer.send(reply);
            }
        }
    }

    /// One event and everything that follows from it.
    fn feed(&mut self, event: Event) {
        self.follow_up.push(event);
        self.drain();
    }

    fn drain(&mut self) {
        while !self.follow_up.is_empty() {
            let event = self.follow_up.remove(0);
            let now = self.clock.now();
            self.recorder.write(now, &event);
            for action in self.engine.step(now, event) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Listen(wanted) => {
                let complete = self.listeners.set(wanted, &self.events);
                self.listen_retry = (!complete).then(|| Instant::now() + LISTEN_RETRY);
            }
            Action::Connect(conn, connect) => {
                self.conns.insert(conn, Connection::open(conn, &connect, self.events.clone()));
            }
            Action::Tune(conn, ttl, min_ttl) => self.adopt(conn, ttl, min_ttl),
            Action::Send(conn, data) => {
                if self.conns.get(&conn).is_some_and(|c| !c.send(data)) {
                    self.overflow(conn);
                }
            }
            Action::NotifyWritable(conn) => {
                if self.conns.get(&conn).is_some_and(|c| !c.notify_writable()) {
                    self.overflow(conn);
                }
            }
            Action::Close(conn) => {
                self.accepted.remove(&conn);
                if let Some(connection) = self.conns.remove(&conn) {
                    connection.close();
                }
            }
            Action::SetTimer(timer, at) => self.timers.set(timer, at),
            Action::ClearTimer(timer) => self.timers.clear(timer),
            Action::ScanInterfaces => self.scan_interfaces(),
            Action::ScanKernel { table, ipv6 } => {
                if !self.tables.contains(&(table, ipv6)) {
                    self.tables.push((table, ipv6));
                }
                self.scan_kernel(table, ipv6);
            }
            Action::Kernel { table, changes } => self.write_kernel(table, &changes),
            Action::Exit => self.exit = true,
        }
    }

    /// An accepted connection that the engine takes.
    fn adopt(&mut self, conn: ConnId, ttl: u8, min_ttl: Option<u8>) {
        let Some(stream) = self.accepted.remove(&conn) else { return };
        let peer = stream.peer_addr().map(crate::connection::plain);
        let tuned = stream.set_nodelay(true).and(peer).and_then(|peer| {
            let socket = SockRef::from(&stream);
            socket::set_ttl(&socket, peer, ttl, min_ttl)
        });
        if let Err(error) = tuned {
            tracing::warn!(%error, "cannot set options of a connection");
        }
        self.conns.insert(conn, Connection::accepted(conn, stream, self.events.clone()));
    }

    fn overflow(&mut self, conn: ConnId) {
        if let Some(connection) = self.conns.remove(&conn) {
            connection.close();
            self.follow_up.push(Event::Closed { conn, reason: "Neighbor does not read".into() });
        }
    }

    // --- kernel ---

    fn scan_interfaces(&mut self) {
        match self.netlink.interfaces() {
            Ok(all) => self.follow_up.push(Event::Interfaces(all)),
            Err(error) => tracing::error!(%error, "cannot read interfaces"),
        }
    }

    fn scan_kernel(&mut self, table: u32, ipv6: bool) {
        match self.netlink.routes(table, ipv6) {
            Ok(routes) => self.follow_up.push(Event::KernelRoutes { table, ipv6, routes }),
            Err(error) => tracing::error!(%error, table, ipv6, "cannot read routes"),
        }
    }

    fn write_kernel(&mut self, table: u32, changes: &[KernelChange]) {
        match self.netlink.apply(table, changes) {
            Ok(failures) if failures.is_empty() => {}
            Ok(failures) => self.follow_up.push(Event::KernelFailed { table, failures }),
            Err(error) => tracing::error!(%error, table, "cannot write routes; the next scan tries again"),
        }
    }

    // --- control ---

    fn control(&mut self, request: Request) -> Reply {
        if let Some(reply) = self.engine.answer(self.clock.now(), &request) {
            return reply;
        }
        match request {
            Request::Configure { check, soft, file } => self.configure(check, soft, file),
            Request::Protocol(command) => {
                let reply = self.engine.acknowledge(&command);
                if reply.code() < 8000 {
                    self.feed(Event::Command(command));
                }
                reply
            }
            Request::GracefulRestart => {
                self.feed(Event::Shutdown { graceful: true });
                Reply::end(25, "Graceful restart requested")
            }
            Request::Down => {
                self.feed(Event::Shutdown { graceful: false });
                Reply::end(7, "Shutdown requested")
            }
            _ => Reply::end(9001, "syntax error"),
        }
    }

    /// Reads the configuration again. A broken one changes nothing.
    fn configure(&mut self, check: bool, soft: bool, file: Option<String>) -> Reply {
        let path = file.map_or_else(|| self.config_path.clone(), PathBuf::from);
        let reading = format!("Reading configuration from {}", path.display());
        let reply = match source::check(&path) {
            Err(message) => {
                tracing::error!("{message}");
                Reply::end(8002, message)
            }
            Ok(_) if check => Reply::end(20, "Configuration OK"),
            Ok((source, _)) => self.reconfigure(source, soft),
        };
        reply.with(2, reading)
    }

    fn reconfigure(&mut self, source: Source, soft: bool) -> Reply {
        self.feed(Event::Configure { source, soft });
        Reply::end(3, "Reconfigured")
    }
}
