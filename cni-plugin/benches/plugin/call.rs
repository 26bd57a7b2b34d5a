//! One call of a plugin as a process, with what the kernel says it used.
//!
//! Between the benchmark and the plugin stands a *launcher*: this program again, started anew for each call. The kernel
//! counts what a process held before `exec` to its peak memory; a launcher holds next to nothing, a benchmark that has
//! run for a while more than the plugin itself.
#![allow(unsafe_code)] // wait4

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, setns};

/// First argument of a launcher.
const LAUNCH: &str = "--launch";

/// What a call took.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub took: Duration,
    pub cpu: Duration,
    pub peak_kb: u64,
}

/// A pod for a plugin.
pub struct Job {
    pub stdin: String,
    pub container: String,
    pub netns: String,
    pub args: String,
    /// The object's name where the datastore is Kubernetes.
    pub pod: Option<String>,
}

/// Calls the plugin for all pods at the same moment, from within the host's namespace. A call that fails ends the
/// benchmark: a figure of it would mean nothing.
pub fn each_pod(host: &str, program: &Path, command: &str, jobs: &[Job]) -> Vec<Call> {
    std::thread::scope(|s| {
        let inside = s.spawn(|| {
            setns(File::open(host).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let mut launchers: Vec<_> =
                jobs.iter().map(|job| Launcher::start(program, command, job)).collect();
            // All are ready: what they wait for is their configuration.
            for (launcher, job) in launchers.iter_mut().zip(jobs) {
                launcher.go(&job.stdin);
            }
            launchers.into_iter().map(Launcher::finish).collect()
        });
        inside.join().unwrap()
    })
}

struct Launcher {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    what: String,
}

impl Launcher {
    fn start(program: &Path, command: &str, job: &Job) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(LAUNCH)
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &job.container)
            .env("CNI_NETNS", &job.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", &job.args)
            .env("CNI_PATH", program.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        Self { child, said, what: format!("{} {command} {}", program.display(), job.container) }
    }

    fn go(&mut self, stdin: &str) {
        self.child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    }

    fn finish(mut self) -> Call {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}: {said}", self.what);
        let mut numbers = said.split_whitespace().map(|n| n.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (took, cpu, peak_kb) = (next(), next(), next());
        Call { took: Duration::from_micros(took), cpu: Duration::from_micros(cpu), peak_kb }
    }
}

/// Where this process is a launcher: makes its call, prints microseconds from start to end, microseconds of processor
/// time and peak kilobytes, and ends.
pub fn serve_as_launcher() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|a| a != LAUNCH) {
        return;
    }
    let program = arguments.next().unwrap();
    println!("ready");
    let mut conf = Vec::new();
    std::io::stdin().read_to_end(&mut conf).unwrap();
    let begun = Instant::now();
    let (ok, said, usage) = run(Path::new(&program), &conf);
    let took = begun.elapsed().as_micros();
    let micros = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    match ok {
        true => println!("{took} {} {}", micros(usage.ru_utime) + micros(usage.ru_stime), usage.ru_maxrss),
        false => println!("{said}"),
    }
    std::process::exit(i32::from(!ok));
}

#[allow(clippy::zombie_processes)] // wait4 is the wait
fn run(program: &Path, conf: &[u8]) -> (bool, String, libc::rusage) {
    let command =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = command.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    // A plugin that ends before it has read everything says why on its standard output.
    let _ = child.stdin.take().unwrap().write_all(conf);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let id = child.id() as libc::pid_t;
    let mut status = 0;
    // SAFETY: all zeroes is a value of this struct of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call; the process is a child that nobody else waits for.
    let waited = unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, id);
    (libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, said, usage)
}
