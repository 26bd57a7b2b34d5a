//! Processes of a lab: starting daemons, finding what runs in a namespace, ending it.
//!
//! In: a command and the namespace it belongs to. Out: a daemon in its own session with its output in a file.
//! What always holds: a process is found by the network namespace it is in, never by its name alone, and killed
//! by its pid after its start time was compared, so no process of anybody else is ever hit. That also finds what
//! daemons started and what a killed `lab up` had no time to write down.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::Doing;
use crate::kernel::netns;
use crate::{LabError, Result};

/// A process and when it started: together they name it for good, unlike the pid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The identity of a running process; none when it has ended or is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_time: stat.start_time })
    }

    /// Whether this very process still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to this very process; nothing happens when it has ended.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            result => result.doing(|| format!("sending {signal} to process {}", self.pid)),
        }
    }

    /// Waits until this very process has ended.
    pub fn wait_gone(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// A process found in a namespace.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: ProcessId,
    /// The kernel's name for it, at most 15 characters.
    pub name: String,
    pub parent: i32,
    /// Memory it holds itself, in bytes.
    pub rss_bytes: u64,
}

struct Stat {
    /// Of the first thread.
    zombie: bool,
    name: String,
    parent: i32,
    start_time: u64,
}

/// What `/proc` says of a process; none when it has ended. A killed process's first thread may be a zombie while
/// others still hold its sockets: only with the last of them has it ended.
fn stat(pid: i32) -> Option<Stat> {
    let stat = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let others = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) > 1;
    (!stat.zombie || others()).then_some(stat)
}

/// Reads `/proc/PID/stat`. The name may hold spaces and brackets, so fields are counted from the last closing
/// bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let zombie = matches!(*fields.first()?, "Z" | "X");
    // `tail` begins at field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { zombie, name, parent: i32::try_from(field(4)?).ok()?, start_time: field(22)? })
}

/// All processes whose network namespace is one of `namespaces`, by namespace. The calling process is left out.
pub fn find_in(namespaces: &[String]) -> Result<HashMap<String, Vec<Found>>> {
    let wanted: HashMap<u64, &String> =
        namespaces.iter().filter_map(|name| Some((netns::inode(name)?, name))).collect();
    let mut found: HashMap<String, Vec<Found>> = HashMap::new();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for entry in fs::read_dir("/proc").doing(|| "reading /proc".to_owned())? {
        let Some(pid) = entry.ok().and_then(|e| e.file_name().to_str()?.parse::<i32>().ok()) else {
            continue;
        };
        // Processes come and go while we look; what cannot be read any more is gone.
        let Some(name) = netns_inode_of(pid).and_then(|inode| wanted.get(&inode)) else { continue };
        if pid == own {
            continue;
        }
        let Some(stat) = stat(pid) else { continue };
        found.entry((*name).clone()).or_default().push(Found {
            id: ProcessId { pid, start_time: stat.start_time },
            name: stat.name,
            parent: stat.parent,
            rss_bytes: rss_bytes(pid),
        });
    }
    for list in found.values_mut() {
        list.sort_by_key(|p| p.id.pid);
    }
    Ok(found)
}

/// The network namespace of a process's first thread that still has one: a zombie has none.
fn netns_inode_of(pid: i32) -> Option<u64> {
    let inode = |dir: std::path::PathBuf| -> Option<u64> {
        let link = fs::read_link(dir.join("ns/net")).ok()?;
        link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    };
    inode(format!("/proc/{pid}").into()).or_else(|| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        threads.filter_map(|thread| inode(thread.ok()?.path())).next()
    })
}

fn rss_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Ends every process in the namespaces, again and again until none is left: supervisors may still be starting
/// new ones when the first round passes.
pub fn end_all_in(namespaces: &[String], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let found = find_in(namespaces)?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seen: Vec<String> =
                found.values().flatten().map(|p| format!("{} ({})", p.name, p.id.pid)).collect();
            return Err(LabError::Timeout {
                what: "the lab's processes to end".to_owned(),
                seconds: limit.as_secs(),
                seen: seen.join(", "),
            });
        }
        for process in found.values().flatten() {
            process.id.signal(Signal::SIGKILL)?;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The last lines of a log file, for error messages.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    if all.is_empty() {
        return "(empty)".to_owned();
    }
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 1000 99 0 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.start_time), ("a) b (c", 7, 12345));
    }

    #[test]
    fn a_zombie_is_told_from_a_living_process_and_garbage_is_nothing() {
        assert!(
            parse_stat("42 (x) Z 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0").unwrap().zombie
        );
        assert!(
            !parse_stat("42 (x) R 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0").unwrap().zombie
        );
        assert!(parse_stat("garbage").is_none());
        assert!(parse_stat("").is_none());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.alive());
        let earlier = ProcessId { start_time: own.start_time - 1, ..own };
        assert!(!earlier.alive());
        earlier.signal(Signal::SIGKILL).unwrap();
    }
}
