//! etcd's certificates: from the secret that is mounted into the pod to the host's `calico-tls` directory.
//!
//! In come up to three files, out go copies with their permissions. Always holds: a file that the secret has is never
//! away from the host; one that the secret lost goes, so that a configuration without TLS does not find old keys.

use std::fs;
use std::path::PathBuf;

use super::files::{self, at};
use super::{Result, Settings};

/// Names of the files, in the secret and on the host.
pub const NAMES: [&str; 3] = ["etcd-ca", "etcd-cert", "etcd-key"];
/// Their directory beside the configuration.
pub const DIR: &str = "calico-tls";

/// Copies what is there. True where something changed.
pub fn install(settings: &Settings) -> Result<bool> {
    let host = host_dir(settings);
    let have: Vec<&str> = NAMES.into_iter().filter(|n| settings.tls_assets_dir.join(n).is_file()).collect();
    if have.is_empty() && !host.exists() {
        return Ok(false);
    }
    let mut changed = false;
    if !have.is_empty() {
        files::make_dir(&host, 0o700)?;
        files::sweep(&host);
    }
    for name in NAMES {
        let to = host.join(name);
        changed |= match have.contains(&name) {
            true => files::copy(&settings.tls_assets_dir.join(name), &to)?,
            false => files::remove(&to)?,
        };
    }
    if changed {
        tracing::info!(dir = %host.display(), files = ?have, "etcd's certificates are on the host");
    }
    Ok(changed)
}

/// The path of a file as the plugin will see it, empty where there is none.
#[must_use]
pub fn path_on_host(settings: &Settings, name: &str) -> String {
    match host_dir(settings).join(name).is_file() {
        true => format!("{}/{DIR}/{name}", settings.net_dir),
        false => String::new(),
    }
}

/// Removes the copies.
pub fn uninstall(settings: &Settings) -> Result<()> {
    let host = host_dir(settings);
    match fs::remove_dir_all(&host) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(&host)(e)),
        _ => Ok(()),
    }
}

fn host_dir(settings: &Settings) -> PathBuf {
    settings.places.host_net_dir.join(DIR)
}
