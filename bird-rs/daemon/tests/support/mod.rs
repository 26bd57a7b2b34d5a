//! Routers in network namespaces, joined by one bridge: for tests with real daemons and the real kernel.
//!
//! Everything a [`Lab`] made is gone when it is dropped, also after a failed test.
#![allow(dead_code)]

pub mod traffic;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Which daemon a router runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Ours,
    Debian,
}

/// False when the machine cannot run the test; panics instead when CI must.
pub fn can_run() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let bird = fs::exists("/usr/sbin/bird").unwrap_or(false);
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    for (ok, what) in [(root, "needs root"), (bird, "needs Debian's bird2")] {
        if !ok {
            assert!(!ci, "in CI this test {what}");
            eprintln!("skipped: {what}");
            return false;
        }
    }
    true
}

/// Waits until a condition holds, for a minute: how busy the machine is decides nothing.
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited a minute in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().expect("sh runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    prefix: String,
    pub routers: Vec<Router>,
    dir: tempfile::TempDir,
}

impl Lab {
    /// Routers numbered from 0; number i has 10.99.0.(i+1)/24 and fd99::(i+1)/64 on `eth0`.
    pub fn new(daemons: &[Daemon]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("brd{:x}-{number}", std::process::id());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut lab = Self { prefix: prefix.clone(), routers: Vec::new(), dir };
        // What a killed process of the same number left.
        let left = (0..daemons.len()).map(|i| format!("{prefix}r{i}")).chain([format!("{prefix}s")]);
        left.for_each(|ns| drop(Command::new("ip").args(["netns", "del", &ns]).output()));
        run(&format!(
            "ip netns add {prefix}s && ip -n {prefix}s link add br0 type bridge && ip -n {prefix}s link set br0 up"
        ));
        for (i, daemon) in daemons.iter().enumerate() {
            let ns = format!("{prefix}r{i}");
            run(&format!(
                "ip netns add {ns} && ip -n {ns} link set lo up \
                 && ip link add eth0 netns {ns} type veth peer name p{i} netns {prefix}s \
                 && ip -n {prefix}s link set p{i} master br0 up && ip -n {ns} link set eth0 up \
                 && ip -n {ns} addr add 10.99.0.{0}/24 dev eth0 && ip -n {ns} addr add fd99::{0}/64 dev eth0 nodad \
                 && ip netns exec {ns} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
                i + 1
            ));
            let dir = lab.dir.path().join(i.to_string());
            fs::create_dir(&dir).expect("a directory for the router");
            lab.routers.push(Router { ns, dir, daemon: *daemon, child: None, number: i + 1 });
        }
        lab
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for router in &mut self.routers {
            router.kill();
            let _ = Command::new("ip").args(["netns", "del", &router.ns]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &format!("{}s", self.prefix)]).output();
    }
}

pub struct Router {
    pub ns: String,
    pub dir: PathBuf,
    pub daemon: Daemon,
    pub number: usize,
    child: Option<Child>,
}

impl Router {
    pub fn write_config(&self, text: &str) {
        fs::write(self.dir.join("bird.cfg"), text).expect("configuration is written");
    }

    /// Starts the daemon with a configuration.
    pub fn start(&mut self, config: &str, flags: &[&str]) {
        self.write_config(config);
        let program = match self.daemon {
            Daemon::Ours => env!("CARGO_BIN_EXE_bird-rs"),
            Daemon::Debian => "/usr/sbin/bird",
        };
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("log file");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns, program, "-f", "-c"]).arg(self.dir.join("bird.cfg"));
        command.arg("-s").arg(self.socket()).args(flags);
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the daemon starts"));
        wait("the control socket", || self.birdc("show status").contains("up and running"));
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("ctl")
    }

    /// `ip netns exec` replaces itself by the daemon, so the child is the daemon.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn signal(&self, signal: &str) {
        run(&format!("kill -{signal} {}", self.pid()));
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            let end = Instant::now() + Duration::from_secs(60);
            while child.try_wait().expect("child can be waited for").is_none() {
                assert!(Instant::now() < end, "the daemon does not stop");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// The stock client's output.
    pub fn birdc(&self, command: &str) -> String {
        let output = Command::new("/usr/sbin/birdc").arg("-s").arg(self.socket()).arg(command).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    }

    /// Any command within the namespace.
    pub fn exec(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.ns))
    }

    pub fn routes(&self) -> String {
        self.exec("ip route") + &self.exec("ip -6 route")
    }

    pub fn established(&self, protocol: &str) -> bool {
        self.birdc("show protocols").lines().any(|l| l.starts_with(protocol) && l.contains("Established"))
    }

    pub fn wait_established(&self, protocol: &str) {
        wait(&format!("{protocol} of router {} is Established", self.number), || self.established(protocol));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Watches the kernel's routes; the lines seen so far are returned by [`Watch::lines`].
    pub fn watch_routes(&self) -> Watch {
        let path = self.dir.join(format!("watch{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let out = fs::File::create(&path).expect("watch file");
        let child = Command::new("ip")
            .args(["-n", &self.ns, "-o", "monitor", "route"])
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .expect("ip monitor runs");
        std::thread::sleep(Duration::from_millis(300));
        Watch { child, path }
    }
}

pub struct Watch {
    child: Child,
    path: PathBuf,
}

impl Watch {
    /// Changes of the tests' blocks; the kernel's own addresses come and go by themselves.
    pub fn lines(&self) -> String {
        let all = fs::read_to_string(&self.path).unwrap_or_default();
        all.lines()
            .filter(|l| l.contains("10.65.") || l.contains("fd65:"))
            .map(|l| format!("{l}\n"))
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with everything but sessions and routes; short timers.
pub fn base(number: usize) -> String {
    format!(
        "router id 10.99.0.{number};\n\
         protocol device {{ scan time 2; }}\n\
         protocol direct {{ ipv4; ipv6; interface \"eth*\"; }}\n\
         protocol kernel k4 {{ learn; persist; scan time 2; graceful restart; merge paths on; metric 0; \
           ipv4 {{ import all; export filter {{ if source = RTS_DEVICE then reject; \
             if source = RTS_BGP && !defined(krt_metric) then krt_metric = 1024; accept; }}; }}; }}\n\
         protocol kernel k6 {{ learn; persist; scan time 2; graceful restart; merge paths on; metric 0; \
           ipv6 {{ import all; export filter {{ if source = RTS_DEVICE then reject; \
             if source = RTS_BGP && !defined(krt_metric) then krt_metric = 1024; accept; }}; }}; }}\n\
         template bgp peer {{ local as 64512; multihop; graceful restart; connect delay time 1; connect retry time 2; \
           error wait time 1,2; }}\n"
    )
}

/// A session of router `from` to router `to` with both families on it.
pub fn session(from: usize, to: usize, extra: &str) -> String {
    format!(
        "protocol bgp to{to} from peer {{ neighbor 10.99.0.{to} as 64512; source address 10.99.0.{from}; {extra}\n\
         ipv4 {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; }};\n\
         ipv6 {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; }}; }}\n"
    )
}

/// A block of each family, as a node of a cluster has them.
pub fn blocks(number: usize) -> String {
    format!(
        "protocol static s4 {{ ipv4; route 10.65.{number}.0/26 blackhole; }}\n\
         protocol static s6 {{ ipv6; route fd65:{number}::/122 blackhole; }}\n"
    )
}
