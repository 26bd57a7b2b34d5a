//! `install`: puts the plugin's programs, configuration and credentials into the host's directories, as an init
//! container does, or takes them away. See `cni_plugin::install`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cni_plugin::install::{self, Places, Settings};
use libcalico_telemetry::{Severity, init_logging};
use tokio::signal::unix::{SignalKind, signal};

/// Installs the Calico CNI plugin on this host.
///
/// Settings are upstream's environment variables: CNI_NETWORK_CONFIG or CNI_NETWORK_CONFIG_FILE, CNI_CONF_NAME,
/// CNI_OLD_CONF_NAME, CNI_NET_DIR, CNI_MTU, KUBECFG_FILE_NAME, TLS_ASSETS_DIR, SKIP_CNI_BINARIES, UPDATE_CNI_BINARIES,
/// SLEEP, LOG_LEVEL, ETCD_ENDPOINTS, KUBERNETES_SERVICE_HOST, CALICO_CNI_SERVICE_ACCOUNT, CNI_TOKEN_REFRESH_INTERVAL …
///
/// The configuration waits in calico-staged/ until Felix is ready; CNI_CONF_PUBLISH=now gives it to the runtime at once.
///
/// Example: install --host-bin-dir /opt/cni/bin --host-net-dir /etc/cni/net.d
#[derive(Debug, Parser)]
#[command(name = "install", version)]
struct Arguments {
    /// Remove what was installed.
    #[arg(long)]
    uninstall: bool,
    /// The directory that has the programs.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The host's directory for programs; may be repeated [default: /host/opt/cni/bin, /host/secondary-bin-dir].
    #[arg(long, value_name = "DIR")]
    host_bin_dir: Vec<PathBuf>,
    /// The host's directory for configurations [default: /host/etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    host_net_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging("cni-installer", Severity::Info);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut places = Places::default();
    if let Some(dir) = arguments.from {
        places.image_bin_dir = dir;
    }
    if !arguments.host_bin_dir.is_empty() {
        places.host_bin_dirs = arguments.host_bin_dir;
    }
    if let Some(dir) = arguments.host_net_dir {
        places.host_net_dir = dir;
    }
    let settings = Settings::from_env(places)?;
    if arguments.uninstall {
        return Ok(install::uninstall(&settings)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let work = async {
            install::install(&settings).await?;
            tracing::info!(sleep = settings.sleep, "the plugin is installed");
            if settings.sleep {
                install::keep(&settings).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            done = work => done,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}
