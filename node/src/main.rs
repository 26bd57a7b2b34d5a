//! The `calico-node` program: flags, then start-up and supervision.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use calico_node::environment::{Backend, Environment};
use calico_node::health::{self, FelixHealth, Question, Watched};
use calico_node::supervise::children::{self, Paths, beside};
use calico_node::supervise::{ChildSpec, Supervised};
use calico_node::{cleanup, cni, condition, startup};
use clap::Parser;
use confd::go_flags;
use libcalico_api::CALICO_VERSION;
use libcalico_datastore::{ClientConfig, Datastore, DatastoreType, connect};
use libcalico_telemetry::{HealthAggregator, Severity, init_logging, serve_health};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// Makes this host a Calico node: detects its address, registers it, and runs calico-felix, confd and bird-rs.
///
/// Without a flag: start-up, then supervision until SIGTERM. Settings are upstream's environment variables: NODENAME,
/// IP, IP6, IP_AUTODETECTION_METHOD, AS, CALICO_IPV4POOL_CIDR, ETCD_ENDPOINTS … Flags may have one dash or two.
#[derive(Debug, Parser)]
#[command(name = "calico-node", version, disable_version_flag = true)]
struct Arguments {
    /// Print the version of Calico whose interfaces this is.
    #[arg(short = 'v', long = "version")]
    version: bool,
    /// Start-up alone: register the node, then end.
    #[arg(long)]
    startup: bool,
    /// Run calico-felix in place of this process.
    #[arg(long)]
    felix: bool,
    /// Run confd in place of this process.
    #[arg(long)]
    confd: bool,
    /// Tell Kubernetes that this node's network is going away.
    #[arg(long)]
    shutdown: bool,
    /// Exit 0 where calico-felix is ready.
    #[arg(long)]
    felix_ready: bool,
    /// Exit 0 where calico-felix is live.
    #[arg(long)]
    felix_live: bool,
    /// Exit 0 where bird-rs is ready: a session is established, or none is configured.
    #[arg(long, alias = "bird6-ready")]
    bird_ready: bool,
    /// Exit 0 where bird-rs answers.
    #[arg(long, alias = "bird6-live")]
    bird_live: bool,
    /// Exit 0 where all of this node is ready.
    #[arg(long)]
    readiness: bool,
    /// Exit 0 where all of this node is live.
    #[arg(long)]
    liveness: bool,
    /// Remove what Calico left in this host's kernel.
    #[arg(long)]
    cleanup: bool,
    /// The calico-felix program; without it the one beside this program, or in PATH.
    #[arg(long, value_name = "PROGRAM")]
    felix_path: Option<PathBuf>,
    /// The confd program.
    #[arg(long, value_name = "PROGRAM")]
    confd_path: Option<PathBuf>,
    /// The bird-rs program.
    #[arg(long, value_name = "PROGRAM")]
    bird_path: Option<PathBuf>,
    /// confd's directory.
    #[arg(long, default_value = "/etc/calico/confd")]
    confdir: PathBuf,
    /// The BGP daemon's control socket.
    #[arg(long, default_value = "/var/run/calico/bird.ctl")]
    control_socket: PathBuf,
    /// Where /liveness and /readiness of the whole node are served.
    #[arg(long, env = "CALICO_NODE_HEALTHHOST", default_value = "127.0.0.1")]
    health_host: String,
    /// Port of the same; 0: not served.
    #[arg(long, env = "CALICO_NODE_HEALTHPORT", default_value_t = 9096)]
    health_port: u16,
}

impl Arguments {
    fn paths(&self) -> Paths {
        let program = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| beside(name));
        Paths {
            felix: program(&self.felix_path, "calico-felix"),
            confd: program(&self.confd_path, "confd"),
            bird: program(&self.bird_path, "bird-rs"),
            confdir: self.confdir.clone(),
            control_socket: self.control_socket.clone(),
        }
    }

    fn asks_for_health(&self) -> bool {
        self.felix_ready
            || self.felix_live
            || self.bird_ready
            || self.bird_live
            || self.readiness
            || self.liveness
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(go_flags::normalize(std::env::args_os()));
    if arguments.version {
        println!("{CALICO_VERSION}");
        return ExitCode::SUCCESS;
    }
    let severity = std::env::var("CALICO_STARTUP_LOGLEVEL").ok().and_then(|l| l.parse().ok());
    // A probe's answer is what it prints at its end.
    let default = if arguments.asks_for_health() { Severity::Error } else { Severity::Info };
    init_logging("node", severity.unwrap_or(default));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if arguments.asks_for_health() => {
            eprintln!("calico/node is not healthy: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = arguments.paths();
    if arguments.cleanup {
        return Ok(cleanup::run(&paths.bird_config())?);
    }
    // One thread: children are tied to the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if arguments.asks_for_health() {
        return runtime.block_on(probe(arguments, &paths));
    }
    let environment = Environment::from_env()?;
    if arguments.felix {
        return become_child(&children::felix(&paths, &environment.node_name));
    }
    if arguments.confd {
        return become_child(&children::confd(&paths, &environment.node_name));
    }
    runtime.block_on(async {
        let config = ClientConfig::from_env()?;
        if arguments.shutdown {
            return network_available(&config, &environment, false).await;
        }
        let store = connect(&config).await.context("datastore")?;
        if arguments.startup {
            startup::run(&store, &environment).await?;
            return network_available(&config, &environment, true).await;
        }
        node(arguments, &paths, config, store, environment).await
    })
}

/// Tells Kubernetes whether this node has a network, where that is Calico's to say.
async fn network_available(
    config: &ClientConfig,
    environment: &Environment,
    available: bool,
) -> anyhow::Result<()> {
    if config.datastore_type != DatastoreType::Kubernetes || environment.backend == Backend::None {
        return Ok(());
    }
    let node = environment.kubernetes_node.as_ref().unwrap_or(&environment.node_name);
    Ok(condition::set(&config.kubernetes, node, available).await?)
}

/// Becomes the program, as a container's single process.
fn become_child(spec: &ChildSpec) -> anyhow::Result<()> {
    let environment = spec.environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
    let error = std::process::Command::new(&spec.program).args(&spec.arguments).envs(environment).exec();
    Err(error).with_context(|| format!("cannot run {}", spec.program.display()))
}

async fn probe(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    let routes = std::env::var("CALICO_NETWORKING_BACKEND").is_ok_and(|b| !b.is_empty() && b != "bird");
    let all = |asked: bool, with_bird: bool| (asked, asked && (!with_bird || !routes));
    let (felix_ready, felix_live) = (
        arguments.felix_ready || all(arguments.readiness, false).1,
        arguments.felix_live || all(arguments.liveness, false).1,
    );
    let (bird_ready, bird_live) = (
        arguments.bird_ready || all(arguments.readiness, true).1,
        arguments.bird_live || all(arguments.liveness, true).1,
    );
    let felix = FelixHealth::from_env();
    let mut wrong = Vec::new();
    for (asked, question) in [(felix_live, Question::Live), (felix_ready, Question::Ready)] {
        if asked {
            wrong.extend(health::felix(&felix, question).await.err());
        }
    }
    for (asked, question) in [(bird_live, Question::Live), (bird_ready, Question::Ready)] {
        if asked {
            wrong.extend(health::bird(&paths.control_socket, question).await.err());
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(wrong.join("; "))) }
}

/// Start-up, then supervision until a signal.
async fn node(
    arguments: &Arguments,
    paths: &Paths,
    config: ClientConfig,
    store: Arc<dyn Datastore>,
    environment: Environment,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let first = tokio::select! {
        first = first_startup(&store, &environment) => first?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if let Some(directory) = paths.control_socket.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let later = tokio::spawn(keep_up(first, config, Arc::clone(&store), environment.clone()));
    let running: Vec<Supervised> = children::specs(paths, environment.backend, &environment.node_name)
        .into_iter()
        .map(Supervised::start)
        .collect();

    let keeper = cni::start();

    let aggregator = Arc::new(HealthAggregator::new());
    let bgp = environment.backend == Backend::Bird;
    let watched = Watched {
        felix: FelixHealth::from_env(),
        bird_socket: bgp.then(|| paths.control_socket.clone()),
        bird_config: bgp.then(|| paths.bird_config()),
        children: running.iter().map(|c| (c.name(), c.status())).collect(),
    };
    let watcher = tokio::spawn(health::watch(watched, Arc::clone(&aggregator)));
    let server = match arguments.health_port {
        0 => None,
        // A node without its probe is better than none: the flags still answer.
        port => serve_health(&arguments.health_host, port, aggregator)
            .await
            .inspect_err(|error| warn!(%error, "the node's health is not served"))
            .ok(),
    };

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("ending");
    drop(server);
    watcher.abort();
    later.abort();
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    // In the reverse order of their start. Felix last: policy is kept up to date to the end.
    let mut running = running;
    while let Some(child) = running.pop() {
        child.stop().await;
    }
    Ok(())
}

/// How long a host that was a node before waits for the datastore.
const FIRST_STARTUP: Duration = Duration::from_secs(5);

/// What the first try of start-up came to.
enum First {
    Done,
    /// The datastore is away, but this host was set up before.
    Later,
}

/// A host that was a node before goes on being one while the datastore is away: its daemons have what they need to keep
/// traffic flowing, and a restart must not take that from them.
async fn first_startup(store: &Arc<dyn Datastore>, environment: &Environment) -> anyhow::Result<First> {
    let known = std::fs::read_to_string(&environment.nodename_file)
        .is_ok_and(|name| name.trim() == environment.node_name);
    let mut patient = environment.clone();
    patient.wait_for_datastore &= !known;
    let later = |why: &str| {
        warn!(
            "the datastore is away ({why}); this host was set up before: its daemons start, and start-up is repeated"
        );
        Ok(First::Later)
    };
    // Neighbours keep this node's routes for a graceful restart's time, which must not pass in waiting.
    let limit = if known { FIRST_STARTUP } else { Duration::MAX };
    match tokio::time::timeout(limit, startup::run(store, &patient)).await {
        Ok(Ok(())) => Ok(First::Done),
        Ok(Err(error)) if known && error.is_unreachable() => later(&error.to_string()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => later("no answer"),
    }
}

/// Repeats start-up where it could not be done yet, tells Kubernetes, then follows the host's addresses.
async fn keep_up(first: First, config: ClientConfig, store: Arc<dyn Datastore>, environment: Environment) {
    if matches!(first, First::Later) {
        while let Err(error) = startup::run(&store, &environment).await {
            if !error.is_unreachable() {
                warn!(%error, "start-up failed; it is repeated");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    if let Err(error) = network_available(&config, &environment, true).await {
        warn!("{error:#}");
    }
    startup::watch_addresses(store, environment).await;
}
