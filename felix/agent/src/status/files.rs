//! A file for each workload that is up, in `PREFIX/endpoint-status`: the CNI plugin waits for it before a pod starts
//! (`policy_setup_timeout_seconds`).
//!
//! In: the board. Out: files whose names are the endpoint's, its parts escaped as in a URL's path and parted by blanks,
//! and whose text is JSON, both as upstream's. Always holds: a file is there whole or not at all; what stands in the
//! folder and belongs to no endpoint goes; the folder is read again every ten seconds, and after an error sooner.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use felix_dataplane::status::Status;
use felix_message::WorkloadEndpoint;
use ipnet::{Ipv4Net, Ipv6Net};
use libcalico_model::key::WorkloadEndpointKey;
use serde::Serialize;

use super::{Board, State};
use crate::health::{BEAT, Beat};

/// Name of the folder.
const FOLDER: &str = "endpoint-status";
const REAPPLY: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);

/// The file's name.
#[must_use]
pub fn file_name(key: &WorkloadEndpointKey) -> String {
    [&key.orchestrator, &key.workload, &key.endpoint].map(|part| escaped(part)).join(" ")
}

/// As a segment of a URL's path.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The file's contents; fields in upstream's order, empty ones left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    iface_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ipv4_nets: &'a [Ipv4Net],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ipv6_nets: &'a [Ipv6Net],
}

/// The file's text.
#[must_use]
pub fn file_text(e: &WorkloadEndpoint) -> String {
    let contents = Contents {
        iface_name: &e.interface_name,
        mac: e.mac.as_deref().unwrap_or_default(),
        ipv4_nets: &e.ipv4_nets,
        ipv6_nets: &e.ipv6_nets,
    };
    // Texts and networks can always be written.
    serde_json::to_string(&contents).unwrap_or_default()
}

/// Keeps the folder.
#[derive(Debug)]
pub struct Files {
    prefix: PathBuf,
    /// What is known to stand there; `None`: to be read.
    known: Option<BTreeMap<String, String>>,
}

impl Files {
    /// Files below a folder, usually `/var/run/calico`.
    #[must_use]
    pub fn new(prefix: &Path) -> Self {
        Self { prefix: prefix.to_owned(), known: None }
    }

    /// Makes the folder hold what the board says. Returns how many files were written or removed.
    ///
    /// # Errors
    /// The first that failed; the rest was still tried. The next call reads the folder again.
    pub fn reconcile(&mut self, state: &State) -> io::Result<usize> {
        let folder = self.prefix.join(FOLDER);
        let mut known = match self.known.take() {
            Some(known) => known,
            None => read(&folder)?,
        };
        let up = state.workloads.iter().filter(|(_, (status, _))| *status == Status::Up);
        let wanted: BTreeMap<String, String> =
            up.map(|(key, (_, e))| (file_name(key), file_text(e))).collect();
        let (mut done, mut failed) = (0, None);
        let mut keep = |result: io::Result<()>| match result {
            Ok(()) => {
                done += 1;
                true
            }
            Err(e) => {
                failed.get_or_insert(e);
                false
            }
        };
        for name in known.keys().filter(|n| !wanted.contains_key(*n)).cloned().collect::<Vec<_>>() {
            let gone = std::fs::remove_file(folder.join(&name));
            if keep(gone.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })) {
                known.remove(&name);
            }
        }
        for (name, text) in wanted {
            if known.get(&name) == Some(&text) {
                continue;
            }
            // Beside the folder: nobody takes a half-written file for an endpoint's.
            let new = self.prefix.join(".endpoint-status.new");
            let written =
                std::fs::write(&new, &text).and_then(|()| std::fs::rename(&new, folder.join(&name)));
            if keep(written) {
                known.insert(name, text);
            }
        }
        match failed {
            Some(e) => Err(e),
            None => {
                self.known = Some(known);
                Ok(done)
            }
        }
    }

    /// Follows the board until the task is dropped.
    pub async fn run(mut self, board: Board, beat: Beat) {
        let mut changed = board.watch();
        loop {
            beat.beat();
            let mut pause = REAPPLY;
            if let Some(state) = board.now()
                && let Err(e) = self.reconcile(&state)
            {
                tracing::warn!(folder = %self.prefix.join(FOLDER).display(), error = %e, "files of endpoint status");
                pause = RETRY;
            }
            let until = tokio::time::Instant::now() + pause;
            loop {
                let beat_at = (tokio::time::Instant::now() + BEAT).min(until);
                match tokio::time::timeout_at(beat_at, changed.changed()).await {
                    Ok(Ok(())) => break,
                    // The board is gone.
                    Ok(Err(_)) => return,
                    Err(_) if beat_at < until => beat.beat(),
                    Err(_) => {
                        self.known = None;
                        break;
                    }
                }
            }
        }
    }
}

/// Removes what stands in the folder below `prefix`, which is not used any more: nobody keeps it true from now on.
/// Returns how many files went.
///
/// # Errors
/// The first that could not be removed; the rest was still tried.
pub fn retire(prefix: &Path) -> io::Result<usize> {
    let state = State { whole: true, ..State::default() };
    match std::fs::exists(prefix.join(FOLDER)) {
        Ok(false) => Ok(0),
        Ok(true) | Err(_) => Files::new(prefix).reconcile(&state),
    }
}

/// What stands in the folder, which is made where it is absent.
fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    std::fs::create_dir_all(folder)?;
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        // What cannot be read is written again or removed.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        out.insert(entry.file_name().to_string_lossy().into_owned(), text);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key(workload: &str) -> WorkloadEndpointKey {
        WorkloadEndpointKey {
            host: "n1".to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: workload.to_owned(),
            endpoint: "eth0".to_owned(),
        }
    }

    fn endpoint(addr: &str) -> Arc<WorkloadEndpoint> {
        Arc::new(WorkloadEndpoint {
            active: true,
            interface_name: "cali12".to_owned(),
            mac: Some("ee:ee:ee:ee:ee:ee".to_owned()),
            ipv4_nets: vec![addr.parse().unwrap()],
            ..WorkloadEndpoint::default()
        })
    }

    #[test]
    fn a_files_name_and_text_are_upstreams() {
        assert_eq!(file_name(&key("default/pod-1")), "k8s default%2Fpod-1 eth0");
        assert_eq!(file_name(&key("a b%c;ü")), "k8s a%20b%25c%3B%C3%BC eth0");
        let text = r#"{"ifaceName":"cali12","mac":"ee:ee:ee:ee:ee:ee","ipv4Nets":["10.65.0.2/32"]}"#;
        assert_eq!(file_text(&endpoint("10.65.0.2/32")), text);
    }

    #[test]
    fn a_folder_that_is_not_used_any_more_says_of_nobody_that_it_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State { whole: true, ..State::default() };
        state.workloads.insert(key("a"), (Status::Up, endpoint("10.0.0.1/32")));
        assert_eq!(Files::new(dir.path()).reconcile(&state).unwrap(), 1);
        assert_eq!(retire(dir.path()).unwrap(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 0);
        // One that never was is not made.
        let other = dir.path().join("other");
        assert_eq!(retire(&other).unwrap(), 0);
        assert!(!other.exists());
    }

    #[test]
    fn the_folder_holds_those_that_are_up_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path());
        let mut state = State { whole: true, ..State::default() };
        state.workloads.insert(key("a"), (Status::Up, endpoint("10.0.0.1/32")));
        state.workloads.insert(key("b"), (Status::Down, endpoint("10.0.0.2/32")));
        let folder = dir.path().join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("k8s gone eth0"), "{}").unwrap();
        let list = || {
            let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(files.reconcile(&state).unwrap(), 2);
        assert_eq!(list(), ["k8s a eth0"]);
        assert_eq!(files.reconcile(&state).unwrap(), 0);
        state.workloads.insert(key("b"), (Status::Up, endpoint("10.0.0.2/32")));
        state.workloads.remove(&key("a"));
        assert_eq!(files.reconcile(&state).unwrap(), 2);
        assert_eq!(list(), ["k8s b eth0"]);
    }
}
