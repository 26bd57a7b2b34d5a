//! The init container's job: programs, configuration and credentials of the plugin in the host's directories.
//!
//! ```text
//!  environment ──▶ Settings ─┬─▶ binaries    image's directory ──▶ /opt/cni/bin
//!                            ├─▶ assets      etcd's certificates ──▶ calico-tls/
//!                            ├─▶ token, kubeconfig    TokenRequest ──▶ calico-kubeconfig
//!                            └─▶ conflist    template ──▶ staged, published when Felix is ready (ADR 0005)
//!  keep: once a second ──▶ the above again where something changed, ended or was rejected
//! ```
//!
//! Always holds: every file in a host directory is whole at every moment (written beside it, synced, renamed), so an
//! upgrade never takes a program or a credential from a pod that is being made; a failed installation leaves what
//! stood; whatever can be repeated gives the same result.
//!
//! Left out: Windows.

pub mod assets;
pub mod binaries;
pub mod conflist;
pub mod files;
pub mod keep;
pub mod kubeconfig;
pub mod rejection;
pub mod settings;
pub mod token;

use std::path::PathBuf;

pub use keep::keep;
pub use settings::{Places, Settings};

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{name}={value:?} is not {wanted}")]
    Setting { name: &'static str, value: String, wanted: &'static str },
    #[error("{path}: {source}{}", hint(source))]
    File { path: PathBuf, source: std::io::Error },
    #[error("the image has no {name} in {dir}; is this the right image, or --from the right directory?")]
    NoBinary { name: &'static str, dir: PathBuf },
    #[error("{path} is not what was written; is the disk all right?")]
    Differs { path: PathBuf },
    #[error(
        "no directory for the host's CNI programs can be written: {tried}; mount the host's /opt/cni/bin at one of \
         them, or set UPDATE_CNI_BINARIES=false where the programs are part of the host's image"
    )]
    NoBinDir { tried: String },
    #[error("the CNI configuration from {origin} is not usable: {reason}")]
    Template { origin: String, reason: String },
    #[error("no token for service account {account}: {reason}")]
    Token { account: String, reason: String },
    #[error("Kubernetes API: {0}")]
    Kubernetes(String),
}

fn hint(e: &std::io::Error) -> &'static str {
    match e.kind() {
        std::io::ErrorKind::StorageFull => "; free space on the host's disk, what stood is still there",
        std::io::ErrorKind::PermissionDenied => {
            "; the container must run as root and may need privileged: true"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => "; mount the host's directory writable",
        std::io::ErrorKind::NotFound => "; mount the host's directory there",
        _ => "",
    }
}

/// Result of a step of the installation.
pub type Result<T, E = InstallError> = std::result::Result<T, E>;

/// Installs everything once.
///
/// The order is that of need: programs first, then what they read, and the configuration that makes the runtime call
/// them last.
pub async fn install(settings: &Settings) -> Result<()> {
    binaries::install(settings)?;
    assets::install(settings)?;
    if let Some(access) = token::Access::find(settings).await? {
        let token = access.request().await?;
        kubeconfig::install(settings, &access, &token)?;
    }
    conflist::install(settings)
}

/// Takes everything away again, the configuration first, so that nothing is called that is not there. Plugins that
/// other networks may use as well (portmap, bandwidth …) stay.
///
/// Goes on after an error and reports the first.
pub fn uninstall(settings: &Settings) -> Result<()> {
    let steps = [
        conflist::uninstall(settings),
        kubeconfig::uninstall(settings),
        assets::uninstall(settings),
        binaries::uninstall(settings),
    ];
    let mut first = Ok(());
    for step in steps {
        if let Err(e) = step {
            tracing::warn!(error = %e, "not everything could be removed");
            first = first.and(Err(e));
        }
    }
    first
}
