//! The plugin's log file, and warnings on standard error, where the runtime sees them.
//!
//! In come the configuration's `log_*` keys; upstream's defaults. The file is rotated by whichever call finds it too
//! large, by renaming, so that calls at the same time lose no line. A file that cannot be opened never fails a call.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use libcalico_telemetry::{Severity, init_logging_to};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

use crate::netconf::NetConf;

const DEFAULT_FILE: &str = "/var/log/calico/cni/cni.log";
const DEFAULT_MAX_MEGABYTES: u64 = 100;
const DEFAULT_MAX_DAYS: u64 = 30;
const DEFAULT_MAX_COUNT: usize = 10;

/// Starts logging as configured.
pub fn init(component: &'static str, conf: &NetConf) {
    let severity = conf.log_level.parse().unwrap_or(Severity::Info);
    let severity = if conf.log_level.is_empty() { Severity::Info } else { severity };
    let path = Path::new(if conf.log_file_path.is_empty() { DEFAULT_FILE } else { &conf.log_file_path });
    let stderr = std::io::stderr.with_max_level(tracing::Level::WARN);
    let or = |n: u64, default: u64| if n == 0 { default } else { n };
    let count = if conf.log_file_max_count == 0 { DEFAULT_MAX_COUNT } else { conf.log_file_max_count };
    rotate(
        path,
        or(conf.log_file_max_size, DEFAULT_MAX_MEGABYTES) << 20,
        or(conf.log_file_max_age, DEFAULT_MAX_DAYS),
        count,
    );
    let writer = match open(path) {
        Ok(file) => BoxMakeWriter::new(Mutex::new(file).and(stderr)),
        Err(_) => BoxMakeWriter::new(stderr),
    };
    init_logging_to(component, severity, writer);
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Renames a file that is too large and removes renamed ones that are too old or too many.
fn rotate(path: &Path, max_bytes: u64, max_days: u64, max_count: usize) {
    if !path.metadata().is_ok_and(|m| m.len() >= max_bytes) {
        return;
    }
    let Some((dir, stem)) = path.parent().zip(path.file_stem().and_then(|s| s.to_str())) else { return };
    let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let _ = std::fs::rename(path, dir.join(format!("{stem}-{stamp}.log")));
    let mut old = rotated(dir, stem);
    old.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
    let limit = Duration::from_secs(max_days.saturating_mul(86_400));
    for (i, (file, changed)) in old.iter().enumerate() {
        let age = SystemTime::now().duration_since(*changed).unwrap_or_default();
        if i >= max_count || age > limit {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn rotated(dir: &Path, stem: &str) -> Vec<(PathBuf, SystemTime)> {
    let prefix = format!("{stem}-");
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| {
            e.file_name().to_str().is_some_and(|n| {
                n.strip_prefix(&prefix)
                    .and_then(|r| r.strip_suffix(".log"))
                    .is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
            })
        })
        .filter_map(|e| Some((e.path(), e.metadata().ok()?.modified().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cni.log");
        for n in 0..5 {
            std::fs::write(&path, [b'x'; 10]).unwrap();
            std::fs::write(dir.path().join(format!("cni-{n}.log")), "old").unwrap();
            rotate(&path, 10, 30, 3);
        }
        assert!(!path.exists());
        assert_eq!(rotated(dir.path(), "cni").len(), 3);
        std::fs::write(&path, "small").unwrap();
        rotate(&path, 10, 30, 3);
        assert!(path.exists());
    }
}
