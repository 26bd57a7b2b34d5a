//! Programs: `calico`, `calico-ipam` and the standard plugins of the image, in each of the host's directories.
//!
//! In come the image's directory and settings, out go programs. Always holds: a name that a runtime may call leads to
//! a whole program, the old or the new one; `calico` comes last, when everything it may call stands. A directory that
//! cannot be written is skipped, as upstream does, unless none is left.

use std::fs;
use std::path::Path;

use super::files::{self, at};
use super::{InstallError, Result, Settings};

/// What is ours. The order is that of need.
const OWN: [&str; 2] = ["calico-ipam", "calico"];
/// This program, which the host does not need.
const INSTALLER: &str = "install";

/// Copies the programs.
pub fn install(settings: &Settings) -> Result<()> {
    let image = &settings.places.image_bin_dir;
    for name in OWN {
        if !image.join(name).is_file() {
            return Err(InstallError::NoBinary { name, dir: image.clone() });
        }
    }
    let others = others(settings)?;
    let (mut written, mut tried) = (false, Vec::new());
    for dir in &settings.places.host_bin_dirs {
        if let Err(e) = files::writable(dir) {
            tracing::info!(dir = %dir.display(), reason = %e, "the directory cannot be written, skipping it");
            tried.push(format!("{}: {e}", dir.display()));
            continue;
        }
        files::sweep(dir);
        for name in others.iter().map(String::as_str).chain(OWN) {
            let (from, to) = (image.join(name), dir.join(name));
            if to.exists() && !settings.update_binaries {
                tracing::info!(file = %to.display(), "stands already, and UPDATE_CNI_BINARIES is false");
            } else if files::copy(&from, &to)? {
                tracing::info!(file = %to.display(), "installed");
            }
        }
        written = true;
    }
    let stand = |dir: &Path| OWN.iter().all(|name| dir.join(name).is_file());
    if written {
        return Ok(());
    }
    if !settings.update_binaries && settings.places.host_bin_dirs.iter().any(|d| stand(d)) {
        tracing::info!("the programs are part of the host's image, and UPDATE_CNI_BINARIES is false");
        return Ok(());
    }
    Err(InstallError::NoBinDir { tried: tried.join("; ") })
}

/// Names of the image's other plugins, but those that are to be skipped.
fn others(settings: &Settings) -> Result<Vec<String>> {
    let image = &settings.places.image_bin_dir;
    let mut names = Vec::new();
    for entry in fs::read_dir(image).map_err(at(image))? {
        let entry = entry.map_err(at(image))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let wanted = !OWN.contains(&name.as_str()) && name != INSTALLER && !name.starts_with('.');
        if wanted && !settings.skip_binaries.contains(&name) && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes our own programs. A directory that is not there has none.
pub fn uninstall(settings: &Settings) -> Result<()> {
    for dir in &settings.places.host_bin_dirs {
        // The other way round: `calico` calls the rest.
        for name in OWN.iter().rev() {
            let path = dir.join(name);
            if files::remove(&path)? {
                tracing::info!(file = %path.display(), "removed");
            }
        }
    }
    Ok(())
}
