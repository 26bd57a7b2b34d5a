//! How the plugin tells that the API server no longer takes its token.
//!
//! A call of the plugin that is refused (401) leaves an empty file beside the kubeconfig; whoever keeps the kubeconfig
//! sees it within a second and writes a new token. The directory is the one place that both have in common.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Says that the token in that kubeconfig was rejected. Best effort: the call fails anyway. Without a kubeconfig there is
/// nobody to tell.
pub fn report(kubeconfig: impl AsRef<Path>) {
    if kubeconfig.as_ref().is_file() {
        let _ = std::fs::write(marker(kubeconfig.as_ref()), "");
    }
}

/// True where the token was rejected.
#[must_use]
pub fn reported(kubeconfig: &Path) -> bool {
    marker(kubeconfig).exists()
}

/// There is a new token.
pub fn clear(kubeconfig: &Path) {
    let _ = std::fs::remove_file(marker(kubeconfig));
}

fn marker(kubeconfig: &Path) -> PathBuf {
    let mut name = OsString::from(kubeconfig);
    name.push(".rejected");
    PathBuf::from(name)
}
