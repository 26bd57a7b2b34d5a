//! A lab's folder below `/run/calico-lab`: what is known about it between commands.
//!
//! In and out: the configuration, one file for each pod and each daemon, every machine's private folders and
//! logs. What always holds: a file is written before the thing it tells of is made, and replaced atomically.
//! `down` needs none of it: see [`crate::lab`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Doing;
use crate::kernel::mounts::MachineRoot;
use crate::process::ProcessId;
use crate::{LabError, PodName, Result};

const ROOT: &str = "/run/calico-lab";

/// A daemon the lab itself started, with all that is needed to start it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonRecord {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub log: PathBuf,
    /// None between the writing of this record and the start.
    pub id: Option<ProcessId>,
}

/// The folder of one lab.
#[derive(Clone, Debug)]
pub struct StateDir {
    name: String,
    path: PathBuf,
}

impl StateDir {
    /// Where the lab of that name has or would have its folder.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), path: Path::new(ROOT).join(name) }
    }

    /// Makes the folder; fails when the name is taken.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(ROOT).doing(|| format!("making {ROOT}"))?;
        match fs::create_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(LabError::Exists { name: self.name.clone() })
            }
            result => result.doing(|| format!("making {}", self.path.display())),
        }
    }

    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Removes the folder, and the folder of all labs when this was the last one.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).doing(|| format!("removing {}", self.path.display()));
            }
            _ => {}
        }
        // Not empty while other labs stand: that is no error.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }

    /// Takes the lab's lock: `exclusive` to make or remove the lab, else shared to change something in it. The
    /// kernel gives it back when the holder ends, however it ends.
    pub fn lock(&self, exclusive: bool, limit: Duration) -> Result<File> {
        self.lock_file(&self.path.join("lock"), exclusive, limit)
    }

    /// Takes the lock of one namespace of pods, exclusively.
    pub fn lock_namespace(&self, namespace: &str, limit: Duration) -> Result<File> {
        let path = self.path.join(format!("namespace-{namespace}.lock"));
        self.lock_file(&path, true, limit)
    }

    fn lock_file(&self, path: &Path, exclusive: bool, limit: Duration) -> Result<File> {
        let file = match File::options().create(true).truncate(false).write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(LabError::NotFound { name: self.name.clone() });
            }
            result => result.doing(|| format!("opening {}", path.display()))?,
        };
        let deadline = Instant::now() + limit;
        loop {
            let taken = if exclusive { file.try_lock() } else { file.try_lock_shared() };
            match taken {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(LabError::Busy { name: self.name.clone() });
                }
                Err(fs::TryLockError::Error(e)) => {
                    return Err(e).doing(|| format!("locking {}", path.display()));
                }
            }
        }
    }

    /// The file with the lab's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("lab.json")
    }

    /// A machine's private folders and logs.
    pub fn machine(&self, machine: &str) -> MachineRoot {
        MachineRoot(self.path.join(machine))
    }

    /// The file that tells of a daemon the lab started.
    pub fn daemon_file(&self, machine: &str, process: &str) -> PathBuf {
        self.path.join(machine).join("daemons").join(format!("{process}.json"))
    }

    /// The log of a daemon the lab started.
    pub fn daemon_log(&self, machine: &str, process: &str) -> PathBuf {
        self.machine(machine).0.join("log").join(format!("{process}.log"))
    }

    /// All daemons the lab started on a machine, by name.
    pub fn daemons(&self, machine: &str) -> Result<Vec<(String, DaemonRecord)>> {
        let dir = self.path.join(machine).join("daemons");
        let mut daemons = Vec::new();
        for name in json_files(&dir) {
            let record = read_json(&dir.join(format!("{name}.json")))?;
            daemons.push((name, record));
        }
        Ok(daemons)
    }

    /// The file that tells of a pod.
    pub fn pod_file(&self, pod: &PodName) -> PathBuf {
        self.path.join("pods").join(&pod.namespace).join(format!("{}.json", pod.name))
    }

    /// The log of a pod's server.
    pub fn pod_log(&self, pod: &PodName) -> PathBuf {
        self.path.join("pods").join(&pod.namespace).join(format!("{}.log", pod.name))
    }

    /// A file that is there when a namespace's profile has been made.
    pub fn namespace_file(&self, namespace: &str) -> PathBuf {
        self.path.join("namespaces").join(format!("{namespace}.json"))
    }

    /// All pods that have a file, sorted.
    pub fn pods(&self) -> Vec<PodName> {
        let dir = self.path.join("pods");
        let mut pods: Vec<PodName> = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .flat_map(|namespace| {
                json_files(&dir.join(&namespace))
                    .into_iter()
                    .filter_map(move |name| PodName::new(&namespace, &name).ok())
            })
            .collect();
        pods.sort();
        pods
    }
}

/// Names of the `.json` files in a folder, without the ending, sorted; none when there is no folder.
fn json_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Reads a state file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).doing(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|source| LabError::State { path: path.to_owned(), source })
}

/// Writes a state file; a reader sees the old or the new one, never a part.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|source| LabError::State { path: path.to_owned(), source })?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).doing(|| format!("making {}", dir.display()))?;
    }
    // Of its own name, because another process may be writing the same file.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("{}-{count}.new", std::process::id()));
    fs::write(&new, text).doing(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).doing(|| format!("replacing {}", path.display()))
}
