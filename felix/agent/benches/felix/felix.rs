//! One running Felix, ours or the peer's: started alike, asked alike.
//!
//! Its environment holds what both know; its files are in the machine's folder; its standard error is a log there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::kernel::netns;
use e2e::process;

use super::machine::{Machine, NODE};

/// How often it is asked whether it is ready.
const BEAT: Duration = Duration::from_millis(2);
/// Where both listen.
const HEALTH: u16 = 9099;
const METRICS: u16 = 9091;

/// How tables are programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Nftables,
    /// The nft variant: the only one whose changes can be seen.
    Iptables,
}

impl Backend {
    pub const ALL: [Self; 2] = [Self::Nftables, Self::Iptables];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    fn environment(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Nftables => [("FELIX_NFTABLESMODE", "Enabled"), ("FELIX_IPTABLESBACKEND", "NFT")],
            Self::Iptables => [("FELIX_NFTABLESMODE", "Disabled"), ("FELIX_IPTABLESBACKEND", "NFT")],
        }
    }
}

/// A `calico-felix`.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    ours: bool,
}

impl Program {
    pub fn ours(path: PathBuf) -> Self {
        Self { path, ours: true }
    }

    pub fn peer(path: PathBuf) -> Self {
        Self { path, ours: false }
    }

    pub fn is_ours(&self) -> bool {
        self.ours
    }

    pub fn name(&self) -> &'static str {
        if self.ours { "ours" } else { "upstream" }
    }

    /// Starts it on a machine.
    pub fn start(&self, machine: &Machine, backend: Backend) -> Result<Felix> {
        let log = machine.dir().join(format!("{}.log", self.name()));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let started = Instant::now();
        // `ip netns exec` gives it mounts of its own and becomes the program: one process.
        let child = Command::new("ip")
            .args(["netns", "exec", machine.ns()])
            .arg(&self.path)
            .arg("--config-file")
            .arg(machine.dir().join("felix.cfg"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DATASTORE_TYPE", "etcdv3")
            .env("ETCD_ENDPOINTS", machine.etcd())
            .env("FELIX_DATASTORETYPE", "etcdv3")
            .env("FELIX_ETCDENDPOINTS", machine.etcd())
            .env("FELIX_FELIXHOSTNAME", NODE)
            .env("FELIX_HEALTHENABLED", "true")
            .env("FELIX_HEALTHHOST", "127.0.0.1")
            .env("FELIX_PROMETHEUSMETRICSENABLED", "true")
            .env("FELIX_PROMETHEUSMETRICSHOST", "127.0.0.1")
            .env("FELIX_IPINIPENABLED", "false")
            .env("FELIX_VXLANENABLED", "false")
            .env("FELIX_LOGFILEPATH", "none")
            .env("FELIX_LOGSEVERITYFILE", "none")
            .env("FELIX_LOGSEVERITYSYS", "none")
            .env("FELIX_LOGSEVERITYSCREEN", "warning")
            .env("FELIX_USAGEREPORTINGENABLED", "false")
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", machine.dir().join("status"))
            .env("CALICO_FELIX_SOCKET", machine.dir().join("felix.sock"))
            .envs(backend.environment())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        Ok(Felix { child, started, log, ns: machine.ns().to_owned() })
    }
}

/// A process. Killed when it is dropped.
pub struct Felix {
    child: Child,
    pub started: Instant,
    log: PathBuf,
    ns: String,
}

impl Drop for Felix {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Felix {
    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it says that it is ready, then `and` until that holds too; `and` is asked at every beat and told
    /// whether it is ready. Returns the time from the start until it was ready.
    pub fn wait_ready(
        &mut self,
        limit: Duration,
        mut and: impl FnMut(bool, &Usage) -> bool + Send,
    ) -> Result<Duration> {
        let ns = self.ns.clone();
        let mut ready = None;
        netns::within(&ns, || {
            Ok(loop {
                if let Ok(Some(status)) = self.child.try_wait() {
                    break Err(anyhow::anyhow!("it ended, {status}:\n{}", process::tail(&self.log, 10)));
                }
                if ready.is_none() && says_ready() {
                    ready = Some(self.started.elapsed());
                }
                let Ok(usage) = self.usage() else { continue };
                let whole = and(ready.is_some(), &usage);
                if let (Some(ready), true) = (ready, whole) {
                    break Ok(ready);
                }
                if self.started.elapsed() > limit {
                    let log = process::tail(&self.log, 10);
                    break Err(anyhow::anyhow!("not ready after {limit:?} (ready: {ready:?}):\n{log}"));
                }
                std::thread::sleep(BEAT);
            })
        })?
    }

    /// How long all its applies took together until now, as it says itself.
    pub fn applies(&self) -> Result<Duration> {
        let text = netns::within(&self.ns, || Ok(get(METRICS, "/metrics")))?.context("no metrics")?;
        let sum = text.lines().find_map(|l| l.strip_prefix("felix_int_dataplane_apply_time_seconds_sum "));
        let seconds: f64 = sum.context("no apply time among the metrics")?.trim().parse()?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// What it used until now.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of itself and of its children that have ended.
    pub cpu: Duration,
    pub rss_bytes: u64,
    pub peak_bytes: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(dir.join("stat"))?;
        let (_, tail) = stat.rsplit_once(')').context("no name in stat")?;
        // Fields 14 to 17: in user and in system mode, then the same of children. `tail` begins at field 3.
        let ticks: u64 =
            tail.split_whitespace().skip(11).take(4).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
        let status = std::fs::read_to_string(dir.join("status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        // USER_HZ is 100 on every architecture that matters.
        Ok(Self {
            cpu: Duration::from_millis(ticks * 10),
            rss_bytes: kib("VmRSS:"),
            peak_bytes: kib("VmHWM:"),
        })
    }
}

/// Asks the readiness endpoint of the calling thread's namespace.
fn says_ready() -> bool {
    let answer = get(HEALTH, "/readiness").unwrap_or_default();
    answer.lines().next().is_some_and(|l| l.contains(" 200") || l.contains(" 204"))
}

/// What a server of the calling thread's namespace answers, head and body.
fn get(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: felix\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// What a program of the system prints, run inside a namespace.
pub fn output(ns: &str, argv: &[&str]) -> Result<String> {
    let out = Command::new("ip").args(["netns", "exec", ns]).args(argv).output()?;
    ensure!(out.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs `ip -batch` inside a namespace.
pub fn ip_batch(ns: &str, lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", ns, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(lines.as_bytes())?;
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("ip -batch: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// Writes a file of `/proc/sys` inside a namespace.
pub fn sysctl(ns: &str, file: &Path, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(file);
    netns::within(ns, || {
        std::fs::write(&path, value).map_err(|e| e2e::LabError::io(format!("writing {}", path.display()), e))
    })?;
    Ok(())
}
