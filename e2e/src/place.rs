//! Doing things inside a place of the lab: a machine or a pod.
//!
//! In: a place and a command. Out: its exit code and output, or a daemon.
//! What always holds: the command is in the place's network namespace from its first instruction; on machines it
//! sees the machine's own files; the calling thread stays where it was.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::error::Doing;
use crate::kernel::{mounts, netns, session};
use crate::lab::{ETCD_PORT, Lab};
use crate::process::ProcessId;
use crate::state::{DaemonRecord, write_json};
use crate::{LabError, PodName, Result, names};

/// The namespace that holds the switches and the router.
pub const FABRIC: &str = "fab";

/// Somewhere a command can run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A node, `infra`, `outside`, or the fabric.
    Machine(String),
    Pod(PodName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(name) => f.write_str(name),
            Self::Pod(pod) => pod.fmt(f),
        }
    }
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 and the signal's number when it was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    /// The place a person means: `NS/NAME`, a node, `infra`, `outside`, or `fab`.
    pub fn place(&self, text: &str) -> Result<Place> {
        if text.contains('/') {
            let pod: PodName = text.parse()?;
            self.pod(&pod)?;
            return Ok(Place::Pod(pod));
        }
        if text == FABRIC || self.topology().machine(text).is_some() {
            return Ok(Place::Machine(text.to_owned()));
        }
        let machines = self.topology().machines.iter().map(|m| m.name.clone());
        let pods = self.state().pods().into_iter().map(|p| p.to_string());
        let known = machines.chain(pods).collect::<Vec<_>>().join(", ");
        Err(LabError::UnknownPlace { place: text.to_owned(), known })
    }

    /// The network namespace of a place.
    pub fn netns_of(&self, place: &Place) -> String {
        match place {
            Place::Machine(name) => names::machine_netns(self.name(), name),
            Place::Pod(pod) => names::pod_netns(self.name(), pod),
        }
    }

    /// Runs `work` on a thread inside the place's namespaces; what it spawns stays there.
    pub fn within<T: Send>(&self, place: &Place, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::within(&self.netns_of(place), || {
            match place {
                Place::Machine(name) if name != FABRIC => self.state().machine(name).enter(name)?,
                _ => mounts::own_mounts()?,
            }
            work()
        })
    }

    /// What every command on a machine finds in its environment: where the datastore is, and the binaries.
    pub fn environment(&self) -> Vec<(String, String)> {
        let etcd = format!("http://{}:{ETCD_PORT}", self.infra_v4());
        let path = std::env::var("PATH")
            .unwrap_or_else(|_| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        [
            ("PATH", format!("{}:{path}", self.bin_dir().display())),
            ("DATASTORE_TYPE", "etcdv3".to_owned()),
            ("ETCD_ENDPOINTS", etcd.clone()),
            ("ETCDCTL_API", "3".to_owned()),
            ("ETCDCTL_ENDPOINTS", etcd),
            // Its own are two and five seconds, which a busy machine may take.
            ("ETCDCTL_DIAL_TIMEOUT", "30s".to_owned()),
            ("ETCDCTL_COMMAND_TIMEOUT", "60s".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Runs a command for a person: terminal and environment are passed on. Returns the exit code.
    pub fn exec_attached(&self, place: &Place, argv: &[String]) -> Result<i32> {
        let status = self.within(place, || {
            let mut child = command(argv)
                .envs(self.environment())
                .spawn()
                .doing(|| format!("starting {}", argv.join(" ")))?;
            child.wait().doing(|| format!("waiting for {}", argv.join(" ")))
        })?;
        Ok(exit_code(status))
    }

    /// Runs a command and collects what it prints.
    pub fn exec(&self, place: &Place, argv: &[&str], input: &str) -> Result<Output> {
        self.exec_env(place, argv, &[], input)
    }

    /// As [`Lab::exec`], with more environment.
    pub fn exec_env(
        &self,
        place: &Place,
        argv: &[&str],
        env: &[(String, String)],
        input: &str,
    ) -> Result<Output> {
        let argv: Vec<String> = argv.iter().map(|&a| a.to_owned()).collect();
        self.within(place, || {
            let mut child = command(&argv)
                .envs(self.environment())
                .envs(env.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .doing(|| format!("starting {}", argv.join(" ")))?;
            let stdin = child.stdin.take();
            let output = thread::scope(|scope| {
                scope.spawn(move || {
                    // A command that does not read its input closes the pipe: no error of ours.
                    stdin.map(|mut pipe| pipe.write_all(input.as_bytes()))
                });
                child.wait_with_output()
            })
            .doing(|| format!("waiting for {}", argv.join(" ")))?;
            Ok(Output {
                code: exit_code(output.status),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        })
    }

    /// As [`Lab::exec`], where anything but success is an error. Returns what it printed.
    pub fn exec_ok(&self, place: &Place, argv: &[&str], input: &str) -> Result<String> {
        let output = self.exec(place, argv, input)?;
        if output.code == 0 {
            return Ok(output.stdout);
        }
        let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
        Err(LabError::Command {
            command: argv.join(" "),
            place: place.to_string(),
            code: output.code,
            stderr: said.trim().to_owned(),
        })
    }

    /// Starts a daemon on a machine and remembers how.
    pub(crate) fn start_daemon(
        &self,
        machine: &str,
        process: &str,
        argv: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<()> {
        let log = self.state().daemon_log(machine, process);
        let record = DaemonRecord { argv, env, log, id: None };
        self.start_recorded(machine, process, record)
    }

    /// Starts a daemon again as it was started the first time, after it ended. Its log goes on.
    pub fn restart_daemon(&self, machine: &str, process: &str) -> Result<()> {
        let record: DaemonRecord = crate::state::read_json(&self.state().daemon_file(machine, process))?;
        if record.id.is_some_and(ProcessId::alive) {
            return Ok(());
        }
        self.start_recorded(machine, process, record)
    }

    fn start_recorded(&self, machine: &str, process: &str, mut record: DaemonRecord) -> Result<()> {
        let file = self.state().daemon_file(machine, process);
        record.id = None;
        write_json(&file, &record)?;
        let place = Place::Machine(machine.to_owned());
        let id = self.spawn(&place, &record.argv, &record.env, &record.log)?;
        record.id = Some(id);
        write_json(&file, &record)
    }

    /// Starts a process in a session of its own with its output appended to `log`.
    pub(crate) fn spawn(
        &self,
        place: &Place,
        argv: &[String],
        env: &[(String, String)],
        log: &Path,
    ) -> Result<ProcessId> {
        let open = || File::options().create(true).append(true).open(log);
        let stdout = open().doing(|| format!("opening {}", log.display()))?;
        let stderr = open().doing(|| format!("opening {}", log.display()))?;
        let mut child = self.within(place, || {
            let mut command = command(argv);
            session::in_new_session(&mut command);
            command
                .env_clear()
                .envs(env.iter().map(|(name, value)| (name, value)))
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(stderr)
                .spawn()
                .doing(|| format!("starting {}", argv.join(" ")))
        })?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        // It cannot be reaped before the thread below waits, so its identity can still be read.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_time: 0 });
        // A test keeps running for long: without this its ended daemons would stay as zombies.
        thread::spawn(move || child.wait());
        Ok(id)
    }
}

fn command(argv: &[String]) -> Command {
    let (program, args) = argv.split_first().map_or(("true", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
