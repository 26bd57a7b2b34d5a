//! `calico-typha`: settings, datastore, server, health, metrics, and a gentle end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use calico_typha::config::{DEFAULT_CONFIG_FILE, Settings};
use calico_typha::metrics::Metrics;
use calico_typha::server::{self, RunningServer};
use calico_typha::{SyncerKind, server::ServerError};
use clap::Parser;
use libcalico_datastore::connect;
use libcalico_datastore::syncer::{bgp_syncer, felix_syncer};
use libcalico_telemetry::{
    HealthAggregator, HealthReport, Reporter, Severity, init_logging, new_registry, serve_health,
    serve_metrics,
};
use tokio::signal::unix::{SignalKind, signal};

/// Name of the part that reports this process's health.
const HEALTH_NAME: &str = "Typha";
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the datastore's contents to many Felixes and confds over one watch.
///
/// Settings are read from the environment (TYPHA_…) and, below that, from the configuration file.
/// Example: ETCD_ENDPOINTS=http://127.0.0.1:2379 TYPHA_SERVERPORT=5473 calico-typha
#[derive(Parser)]
#[command(name = "calico-typha", version)]
struct Args {
    /// Configuration file; it need not exist.
    #[arg(short = 'c', long = "config-file", default_value = DEFAULT_CONFIG_FILE)]
    config_file: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let log = init_logging("typha", Severity::Info);
    let (settings, warnings) = Settings::load(&args.config_file).context("reading the settings")?;
    log.set_severity(settings.log_severity);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), datastore = ?settings.datastore, "starting");
    let registry = new_registry();
    let metrics = Metrics::new(&registry).context("registering metrics")?;
    let datastore = connect(&settings.datastore).await?;
    let sources = vec![
        (SyncerKind::Felix, felix_syncer(datastore.clone())),
        (SyncerKind::Bgp, bgp_syncer(datastore, None)),
    ];
    let server = serve(&settings, sources, metrics).await?;
    let health = Arc::new(HealthAggregator::new());
    health.register(HEALTH_NAME, Reporter { live: true, ready: true, timeout: Some(HEALTH_TIMEOUT) });
    let _health_server = match &settings.health {
        Some((host, port)) => Some(serve_health(host, *port, health.clone()).await?),
        None => None,
    };
    let _metrics_server = match &settings.metrics {
        Some((host, port)) => {
            // Clients need Typha more than anyone needs its figures, as upstream has it.
            serve_metrics(host, *port, registry, settings.metrics_tls.as_ref())
                .await
                .inspect_err(|error| tracing::error!(%error, "metrics are not served"))
                .ok()
        }
        None => None,
    };
    let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => report(&health, &server),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    health.report(HEALTH_NAME, HealthReport { live: true, ready: false }, "shutting down");
    // A second signal ends it at once.
    tokio::select! {
        () = server.shutdown() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn serve(
    settings: &Settings,
    sources: Vec<(SyncerKind, tokio::sync::mpsc::Receiver<libcalico_model::SyncerEvent>)>,
    metrics: Metrics,
) -> Result<RunningServer, ServerError> {
    server::start(settings.server.clone(), sources, metrics).await
}

fn report(health: &HealthAggregator, server: &RunningServer) {
    let ready = server.in_sync();
    let detail = if ready { "" } else { "waiting for the datastore" };
    health.report(HEALTH_NAME, HealthReport { live: true, ready }, detail);
}
