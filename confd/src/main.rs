//! The `confd` program: flags and environment, then [`confd::run::run`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgAction, Parser};
use confd::control::ControlSocket;
use confd::output::Check;
use confd::render::Renderer;
use confd::run::{Options, run};
use confd::{NodeSettings, go_flags, source};
use libcalico_datastore::syncer::bgp_syncer;
use libcalico_datastore::{ClientConfig, DatastoreError, config::parse_endpoints, connect};
use libcalico_model::SyncerEvent;
use libcalico_telemetry::{Severity, init_logging};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Renders the BGP daemon's configuration from the datastore and reloads the daemon.
///
/// Updates come from Typha where CONFD_TYPHAADDR or FELIX_TYPHAADDR is set, else from the datastore that DATASTORE_TYPE,
/// ETCD_ENDPOINTS and upstream's other variables say. NODENAME says whose file is
/// made. CALICO_ROUTER_ID is an address, or "hash". Flags may have one dash or two.
#[derive(Debug, Parser)]
#[command(name = "confd", version)]
struct Arguments {
    /// Render once, when the datastore is in sync, and end.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    onetime: bool,
    /// Render at every change.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    watch: bool,
    /// Seconds between looks at the file: what someone changed or removed by hand is put right.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Render and check, but write and reload nothing.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    noop: bool,
    /// etcd endpoint, in place of ETCD_ENDPOINTS; may be repeated.
    #[arg(long)]
    node: Vec<String>,
    /// Where the keys begin. Calico's keys begin with /calico and nowhere else.
    #[arg(long, default_value = "/calico")]
    prefix: String,
    /// Directory of templates/ (files in it win over the built-in ones) and config/ (the rendered file).
    #[arg(long, default_value = "/etc/calico/confd")]
    confdir: PathBuf,
    /// CalicoAPIConfig file that says where the datastore is; without it the environment does.
    #[arg(long)]
    calicoconfig: Option<PathBuf>,
    /// The BGP daemon's control socket; empty: nobody is told of a new file.
    #[arg(long, env = "BIRD_CONTROL_SOCKET", default_value = "/var/run/calico/bird.ctl")]
    control_socket: String,
    /// Judges a new file, {file}, by its exit code before it replaces the old one. "none": no check. Without this flag:
    /// `bird-rs -p -c {file}` where bird-rs stands beside this program or in PATH, else `bird -p -c {file}`.
    #[arg(long, env = "CONFD_CHECK_COMMAND")]
    check_command: Option<String>,
    /// panic, fatal, error, warning, info, debug.
    #[arg(long, env = "BGP_LOGSEVERITYSCREEN", default_value = "info")]
    log_level: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(go_flags::normalize(std::env::args_os()));
    let severity = arguments.log_level.parse::<Severity>().unwrap_or_default();
    init_logging("confd", severity);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(start(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.prefix.trim_end_matches('/') != "/calico" {
        bail!("-prefix {:?}: Calico's keys begin with /calico", arguments.prefix);
    }
    let settings = NodeSettings::from_lookup(|name| std::env::var(name).ok())?;
    let node_name = node_name()?;
    let renderer = Renderer::with_overrides(Some(&arguments.confdir.join("templates")))?;
    let events = events(arguments, &node_name).await?;
    let control_socket = (!arguments.control_socket.is_empty() && !arguments.noop)
        .then(|| ControlSocket::new(Path::new(&arguments.control_socket)));
    let options = Options {
        file: arguments.confdir.join("config/bird.cfg"),
        check: check(arguments.check_command.as_deref()),
        control: control_socket,
        once: arguments.onetime,
        watch: arguments.watch,
        interval: Duration::from_secs(arguments.interval),
        noop: arguments.noop,
    };
    tracing::info!(node = node_name, file = %options.file.display(), check = ?options.check, "starting");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = run(events, &renderer, &settings, &node_name, &options) => Ok(ended?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Typha, unless the command line says where the datastore is.
async fn events(arguments: &Arguments, node_name: &str) -> anyhow::Result<mpsc::Receiver<SyncerEvent>> {
    let said = !arguments.node.is_empty() || arguments.calicoconfig.is_some();
    if let Some(typha) = source::typha_config(|name| std::env::var(name).ok(), node_name)?.filter(|_| !said) {
        tracing::info!(addresses = ?typha.addresses, "updates come from Typha");
        return Ok(source::follow_typha(typha)?);
    }
    let config = client_config(arguments).context("datastore")?;
    tracing::info!("updates come straight from the datastore");
    Ok(bgp_syncer(connect(&config).await.context("datastore")?, Some(node_name)))
}

fn client_config(arguments: &Arguments) -> Result<ClientConfig, DatastoreError> {
    let mut config = ClientConfig::load(arguments.calicoconfig.as_deref())?;
    if !arguments.node.is_empty() {
        config.etcd.endpoints = parse_endpoints(&arguments.node.join(","))?;
    }
    Ok(config)
}

fn node_name() -> anyhow::Result<String> {
    if let Ok(name) = std::env::var("NODENAME")
        && !name.trim().is_empty()
    {
        return Ok(name.trim().to_owned());
    }
    let host = nix::unistd::gethostname().context("host name")?;
    Ok(host.to_string_lossy().trim().to_ascii_lowercase())
}

fn check(command: Option<&str>) -> Option<Check> {
    match command {
        Some("none") => None,
        Some(text) => Check::parse(text),
        None => {
            let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.join("bird-rs")));
            let path = std::env::var_os("PATH").unwrap_or_default();
            let in_path =
                |name: &str| std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file());
            let found =
                beside.filter(|p| p.is_file()).or_else(|| in_path("bird-rs")).or_else(|| in_path("bird"));
            if found.is_none() {
                tracing::warn!(
                    "neither bird-rs nor bird is installed: new files are not checked before they are used"
                );
            }
            found.map(|program| Check::program(&program))
        }
    }
}
