//! What start-up leaves on the host for the CNI plugin: the node's name and the workloads' MTU.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::autodetect::{Interface, mtu_of};

/// Interfaces that carry traffic between hosts, where FelixConfiguration says no other.
const MTU_INTERFACES: &str = r"^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)";
const IPIP_OVERHEAD: u32 = 20;
const VXLAN_OVERHEAD: u32 = 50;
const VXLAN_V6_OVERHEAD: u32 = 70;
const WIREGUARD_OVERHEAD: u32 = 60;
/// MTU where no interface says one.
const DEFAULT_MTU: u32 = 1500;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; calico-node must be able to write there")]
pub struct FileError {
    path: String,
    source: std::io::Error,
}

/// What takes space in each packet between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encapsulations {
    pub ipip: bool,
    pub vxlan: bool,
    pub vxlan_v6: bool,
    pub wireguard: bool,
}

/// The workloads' MTU: the smallest of the host's interfaces less the largest overhead in use.
#[must_use]
pub fn workload_mtu(host_mtu: Option<u32>, used: Encapsulations) -> u32 {
    let overhead = [
        (used.ipip, IPIP_OVERHEAD),
        (used.vxlan, VXLAN_OVERHEAD),
        (used.vxlan_v6, VXLAN_V6_OVERHEAD),
        (used.wireguard, WIREGUARD_OVERHEAD),
    ]
    .into_iter()
    .filter_map(|(used, overhead)| used.then_some(overhead))
    .max();
    host_mtu.unwrap_or(DEFAULT_MTU).saturating_sub(overhead.unwrap_or(0))
}

/// The smallest MTU of the interfaces whose names match; a pattern that is none is upstream's.
#[must_use]
pub fn host_mtu(interfaces: &[Interface], pattern: Option<&str>) -> Option<u32> {
    let expression = pattern.and_then(|p| Regex::new(p).ok()).or_else(|| Regex::new(MTU_INTERFACES).ok())?;
    interfaces.iter().filter(|i| expression.is_match(&i.name)).filter_map(|i| mtu_of(&i.name)).min()
}

/// Writes a small file by rename, where it does not say so yet. No newline at the end, as upstream's readers expect.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let error = |source| FileError { path: path.display().to_string(), source };
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(error)?;
    }
    let new = path.with_extension(format!("tmp{}", std::process::id()));
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_overhead_counts_once() {
        let used = Encapsulations { ipip: true, vxlan: true, ..Encapsulations::default() };
        assert_eq!(workload_mtu(Some(9001), used), 8951);
        assert_eq!(workload_mtu(None, Encapsulations::default()), 1500);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lib/nodename");
        write(&path, "node-a").unwrap();
        write(&path, "node-b").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "node-b");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
