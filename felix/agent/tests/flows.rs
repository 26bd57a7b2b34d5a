//! A whole Felix with a real etcd, two pods and real packets: status of endpoints, counters of rules, established flows,
//! and no window in which a denied packet passes or an allowed one is lost.
//!
//! `CALICO_WINDOW_ROUNDS`: how many changes the test of windows makes (default 60; 1000 by hand).

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static NEXT: AtomicU32 = AtomicU32::new(0);
const BASE: &str = "/calico/resources/v3/projectcalico.org";
const PORT: u16 = 8080;

fn ready() -> bool {
    let tools = ["ip -V", "nft -v", "etcd --version", "etcdctl version"].iter().all(|t| {
        let mut words = t.split(' ');
        let program = words.next().unwrap_or_default();
        Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if nix::unistd::geteuid().is_root() && tools {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root, ip, nft, etcd and etcdctl");
    eprintln!("skipped: needs root, ip, nft, etcd and etcdctl");
    false
}

fn sh(command: &str) {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A host with pods `a` (10.65.0.2), `b` (.3) and `c` (.4), etcd in the host's namespace.
struct World {
    ns: String,
    pods: Vec<String>,
    dir: tempfile::TempDir,
    etcd: Child,
    felix: Option<Child>,
    environment: Vec<(String, String)>,
    /// Left to the datastore instead of nftables for good.
    backend_by_datastore: bool,
}

/// `FelixConfiguration` of each backend.
const BACKENDS: [&str; 3] = [
    r#""nftablesMode":"Enabled""#,
    r#""nftablesMode":"Disabled","iptablesBackend":"NFT""#,
    r#""nftablesMode":"Disabled","iptablesBackend":"Legacy""#,
];

impl World {
    fn new(environment: &[(&str, &str)]) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let ns = format!("fdp-f{}-{n}", std::process::id());
        sh(&format!(
            "ip netns add {ns} && ip -n {ns} link set lo up && ip -n {ns} link add up0 type bridge && \
             ip -n {ns} addr add 172.31.0.1/24 dev up0 && ip -n {ns} link set up0 up && \
             ip -n {ns} route add default via 172.31.0.254"
        ));
        let mut pods = Vec::new();
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            let (pod, addr, mac) = (format!("{ns}{name}"), format!("10.65.0.{}", i + 2), i + 2);
            sh(&format!(
                "ip netns add {pod} && ip -n {pod} link set lo up && \
                 ip link add cali{name} netns {ns} type veth peer name eth0 netns {pod} && \
                 ip -n {ns} link set cali{name} address ee:ee:ee:ee:ee:ee && ip -n {ns} link set cali{name} up && \
                 ip -n {pod} link set eth0 address 02:00:00:00:00:{mac:02x} && \
                 ip -n {pod} addr add {addr}/32 dev eth0 && ip -n {pod} link set eth0 up && \
                 ip -n {pod} route add 169.254.1.1 dev eth0 && ip -n {pod} route add default via 169.254.1.1 dev eth0"
            ));
            pods.push(pod);
        }
        let dir = tempfile::tempdir().unwrap();
        let etcd = Command::new("ip")
            .args(["netns", "exec", &ns, "etcd", "--log-level", "error", "--unsafe-no-fsync", "--data-dir"])
            .arg(dir.path().join("etcd"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let me = Self { ns, pods, dir, etcd, felix: None, environment, backend_by_datastore: false };
        me.eventually("etcd answers", || me.exec("etcdctl endpoint health").0);
        me.put("tiers/default", r#"{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"order":1000000,"defaultAction":"Deny"}}"#);
        me.put("nodes/n1", r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"172.31.0.1/24"}}}"#);
        me.put("profiles/open", r#"{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"open"},"spec":{"ingress":[{"action":"Allow"}],"egress":[{"action":"Allow"}]}}"#);
        for name in ["a", "b", "c"] {
            me.pod(name);
        }
        me
    }

    fn pod(&self, name: &str) {
        let addr = name.as_bytes()[0] - b'a' + 2;
        self.put(&format!("workloadendpoints/default/n1-k8s-{name}-eth0"), &format!(
            r#"{{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{{"name":"n1-k8s-{name}-eth0","namespace":"default","labels":{{"app":"{name}"}}}},"spec":{{"orchestrator":"k8s","node":"n1","pod":"{name}","endpoint":"eth0","ipNetworks":["10.65.0.{addr}/32"],"profiles":["open"],"interfaceName":"cali{name}","mac":"02:00:00:00:00:{addr:02x}"}}}}"#
        ));
    }

    /// One of [`BACKENDS`].
    fn backend(&self, settings: &str) {
        self.put("felixconfigurations/default", &format!(
            r#"{{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{{"name":"default"}},"spec":{{{settings}}}}}"#
        ));
    }

    /// A policy on a pod's ingress with these rules, as JSON.
    fn policy(&self, name: &str, rules: &str) {
        self.put(&format!("networkpolicies/default/{name}"), &format!(
            r#"{{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","namespace":"default"}},"spec":{{"tier":"default","selector":"app == \"{name}\"","types":["Ingress"],"ingress":[{rules}]}}}}"#
        ));
    }

    fn exec(&self, command: &str) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.ns, "sh", "-c", command])
            .env("ETCDCTL_API", "3")
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn put(&self, key: &str, json: &str) {
        let (ok, text) = self.exec(&format!("etcdctl put {BASE}/{key} '{json}'"));
        assert!(ok, "{text}");
    }

    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let mode = (!self.backend_by_datastore).then_some(("FELIX_NFTABLESMODE", "Enabled"));
        let child = Command::new("ip")
            .args(["netns", "exec", &self.ns, env!("CARGO_BIN_EXE_calico-felix")])
            .env("FELIX_FELIXHOSTNAME", "n1")
            .envs(mode)
            .env("FELIX_HEALTHENABLED", "true")
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", self.dir.path())
            .env("ETCD_ENDPOINTS", "http://127.0.0.1:2379")
            .env("DATASTORE_TYPE", "etcdv3")
            .env("CALICO_FELIX_SOCKET", self.dir.path().join("felix.sock"))
            .envs(self.environment.iter().cloned())
            .stderr(log.unwrap())
            .spawn();
        self.felix = Some(child.unwrap());
    }

    fn kill(&mut self, signal: Signal) {
        let Some(mut child) = self.felix.take() else { return };
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        child.wait().unwrap();
    }

    fn http(&self, port: u16, path: &'static str) -> String {
        self.inside_host(move || {
            let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
            let _ = s.set_read_timeout(Some(Duration::from_secs(2)));
            let _ = write!(s, "GET {path} HTTP/1.0\r\n\r\n");
            let mut text = String::new();
            let _ = s.read_to_string(&mut text);
            text
        })
    }

    fn ready(&self) -> bool {
        self.http(9099, "/readiness").contains(" 200 ")
    }

    fn inside_host<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        inside(&self.ns, f).join().unwrap()
    }

    #[track_caller]
    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(40);
        while !holds() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "never: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.felix.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for ns in self.pods.iter().chain([&self.ns]) {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

fn inside<T: Send + 'static>(ns: &str, f: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    let file = std::fs::File::open(format!("/var/run/netns/{ns}")).unwrap();
    std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        f()
    })
}

fn addr(name: &str, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 65, 0, name.as_bytes()[0] - b'a' + 2)), port)
}

/// Answers TCP lines and UDP datagrams in a pod until `stop`.
fn serve(ns: &str, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let stop = stop.clone();
    let (up, started) = std::sync::mpsc::channel();
    let thread = inside(ns, move || {
        let tcp = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        udp.set_nonblocking(true).unwrap();
        up.send(()).unwrap();
        let mut streams: Vec<TcpStream> = Vec::new();
        let mut buf = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((s, _)) = tcp.accept() {
                s.set_nonblocking(true).unwrap();
                streams.push(s);
            }
            for s in &mut streams {
                if let Ok(n) = s.read(&mut buf) {
                    let _ = s.write_all(&buf[..n]);
                }
            }
            while let Ok((n, from)) = udp.recv_from(&mut buf) {
                let _ = udp.send_to(&buf[..n], from);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    started.recv().unwrap();
    thread
}

/// A TCP connection from a pod; says whether an echo still comes.
struct Talk(TcpStream);

impl Talk {
    fn begin(ns: &str, to: SocketAddr) -> Self {
        let s = inside(ns, move || TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap());
        let s = s.join().unwrap();
        s.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        Self(s)
    }

    fn goes_on(&mut self) -> bool {
        let mut byte = [7];
        self.0.write_all(&byte).is_ok() && self.0.read_exact(&mut byte).is_ok()
    }
}

const DENY: &str = r#"{"action":"Deny"}"#;
const ALLOW: &str = r#"{"action":"Allow"}"#;

#[test]
fn status_and_counters_tell_what_holds() {
    if !ready() {
        return;
    }
    let mut w = World::new(&[
        ("FELIX_ENDPOINTREPORTINGENABLED", "true"),
        ("FELIX_PROMETHEUSMETRICSENABLED", "true"),
        ("FELIX_REPORTINGINTERVALSECS", "1"),
    ]);
    w.policy("b", r#"{"action":"Allow","protocol":"TCP","destination":{"ports":[8080]}}"#);
    w.start();
    w.eventually("ready", || w.ready());
    let file = |name: &str| w.dir.path().join("endpoint-status").join(format!("k8s default%2F{name} eth0"));
    w.eventually("a file for each pod", || ["a", "b", "c"].iter().all(|n| file(n).exists()));
    let text = std::fs::read_to_string(file("b")).unwrap();
    assert_eq!(text, r#"{"ifaceName":"calib","mac":"02:00:00:00:00:03","ipv4Nets":["10.65.0.3/32"]}"#);
    let status = "/calico/felix/v2/no-region/host/n1";
    let get = |key: &str| w.exec(&format!("etcdctl get --print-value-only {status}{key}")).1;
    w.eventually("status in etcd", || {
        get("/workload/k8s/default%2fb/endpoint/eth0") == "{\"status\":\"up\"}\n"
    });
    w.eventually("Felix's own status", || get("/status").contains("\"uptime\":"));
    assert!(get("/last_reported_status").contains("\"first_update\":"));
    assert!(w.exec("ip neigh show dev calib").1.contains("10.65.0.3 lladdr 02:00:00:00:00:03 PERMANENT"));

    // An interface that goes down takes its file along.
    w.exec("ip link set calic down");
    w.eventually("the pod is down", || !file("c").exists());
    w.eventually("and told so", || {
        get("/workload/k8s/default%2fc/endpoint/eth0") == "{\"status\":\"down\"}\n"
    });
    w.exec("ip link set calic up");
    w.eventually("the pod is up", || file("c").exists());

    let stop = Arc::new(AtomicBool::new(false));
    let server = serve(&w.pods[1], &stop);
    assert!(Talk::begin(&w.pods[0], addr("b", PORT)).goes_on());
    let series = "felix_policy_rule_packets_total{action=\"allow\",direction=\"ingress\",kind=\"np\",namespace=\"default\",policy=\"b\",rule=\"0\",tier=\"default\"} 1";
    w.eventually("the rule's counter", || w.http(9091, "/metrics").contains(series));
    let metrics = w.http(9091, "/metrics");
    assert!(metrics.contains("felix_route_table_num_routes{table=\"main\"} 3"), "{metrics}");
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap();
    let dump = w.exec(&format!(
        "{} dump --socket {}",
        env!("CARGO_BIN_EXE_calico-felix"),
        w.dir.path().join("felix.sock").display()
    ));
    assert!(dump.1.contains("route 10.65.0.3/32 over calib") && !dump.1.contains("differs"), "{}", dump.1);
}

#[test]
fn an_established_flow_is_cut_by_a_new_policy_only_where_that_is_configured() {
    if !ready() {
        return;
    }
    for (setting, cut) in [("Enabled", true), ("Disabled", false)] {
        let mut w = World::new(&[("FELIX_ESTABLISHEDFLOWENFORCEMENT", setting)]);
        w.start();
        w.eventually("ready", || w.ready());
        let stop = Arc::new(AtomicBool::new(false));
        let servers = [serve(&w.pods[1], &stop), serve(&w.pods[2], &stop)];
        let mut denied = Talk::begin(&w.pods[0], addr("b", PORT));
        let mut allowed = Talk::begin(&w.pods[0], addr("c", PORT));
        assert!(denied.goes_on() && allowed.goes_on());
        w.policy("c", ALLOW);
        w.policy("b", DENY);
        if cut {
            w.eventually("the flow is cut", || !denied.goes_on());
        } else {
            std::thread::sleep(Duration::from_secs(2));
            assert!(denied.goes_on(), "it goes on, as with upstream");
        }
        assert!(allowed.goes_on(), "a flow that is allowed goes on");
        stop.store(true, Ordering::Relaxed);
        servers.into_iter().for_each(|s| s.join().unwrap());
    }
}

/// Sends a datagram a millisecond from a port of its own each, so each is a new flow; counts what comes back.
fn prober(
    ns: &str,
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
    sent: &Arc<AtomicU32>,
    answered: &Arc<AtomicU32>,
) -> std::thread::JoinHandle<()> {
    let (stop, sent, answered) = (stop.clone(), sent.clone(), answered.clone());
    inside(ns, move || {
        let mut open: std::collections::VecDeque<(Instant, UdpSocket)> = std::collections::VecDeque::new();
        let mut buf = [0; 8];
        loop {
            let ended = stop.load(Ordering::Relaxed);
            if !ended {
                let s = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
                s.set_nonblocking(true).unwrap();
                if s.send_to(b"x", to).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                    open.push_back((Instant::now(), s));
                }
            }
            open.retain(|(at, s)| {
                let answer = s.recv_from(&mut buf).is_ok();
                answered.fetch_add(u32::from(answer), Ordering::Relaxed);
                !answer && at.elapsed() < Duration::from_secs(3)
            });
            if ended && open.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

#[test]
fn no_packet_is_lost_and_none_leaks_while_policy_pods_and_backends_change_and_felix_is_killed() {
    if !ready() {
        return;
    }
    let rounds: u32 = std::env::var("CALICO_WINDOW_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(60);
    let mut w = World::new(&[]);
    w.backend_by_datastore = true;
    w.backend(BACKENDS[0]);
    w.policy("b", ALLOW);
    w.policy("c", DENY);
    w.start();
    w.eventually("ready", || w.ready());
    let stop = Arc::new(AtomicBool::new(false));
    let servers = [serve(&w.pods[1], &stop), serve(&w.pods[2], &stop)];
    let probing = Arc::new(AtomicBool::new(false));
    let counters: [Arc<AtomicU32>; 4] = std::array::from_fn(|_| Arc::default());
    let [sent, answered, tried, leaked] = &counters;
    let probers = [
        prober(&w.pods[0], addr("b", PORT), &probing, sent, answered),
        prober(&w.pods[0], addr("c", PORT), &probing, tried, leaked),
    ];
    let mut seed = std::process::id();
    let mut random = move |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % n
    };
    for round in 0..rounds {
        let filler: String = (0..random(4))
            .map(|_| {
                let (port, other) = (1 + random(1000), 2000 + random(1000));
                format!(r#"{{"action":"Deny","protocol":"TCP","destination":{{"ports":[{port},"{other}:{}"]}}}},"#, other + 9)
            })
            .collect();
        match random(5) {
            0 => w.policy("c", &format!("{filler}{DENY}")),
            // Pods beside those that talk: they come and go.
            1 => {
                let name = char::from(b'd' + u8::try_from(random(8)).unwrap());
                w.pod(&name.to_string());
            }
            2 => {
                let name = char::from(b'd' + u8::try_from(random(8)).unwrap());
                w.exec(&format!("etcdctl del {BASE}/workloadendpoints/default/n1-k8s-{name}-eth0"));
            }
            _ => w.policy("b", &format!("{filler}{ALLOW}")),
        }
        std::thread::sleep(Duration::from_millis(u64::from(random(15))));
        if round % 20 == 15 {
            // Whether or not it gets there before the next change, or before it is killed.
            w.backend(BACKENDS[random(3) as usize]);
            if random(2) == 0 {
                std::thread::sleep(Duration::from_millis(u64::from(random(2000))));
            }
        }
        if round % 10 == 9 {
            // At any moment: also while it is still programming, just after it began.
            w.kill(if random(4) == 0 { Signal::SIGTERM } else { Signal::SIGKILL });
            w.start();
            if random(2) == 0 {
                w.eventually("ready again", || w.ready());
            } else {
                std::thread::sleep(Duration::from_millis(u64::from(random(400))));
                w.kill(Signal::SIGKILL);
                w.start();
            }
        }
    }
    w.eventually("ready in the end", || w.ready());
    probing.store(true, Ordering::Relaxed);
    probers.into_iter().for_each(|p| p.join().unwrap());
    stop.store(true, Ordering::Relaxed);
    servers.into_iter().for_each(|s| s.join().unwrap());
    let [sent, answered, tried, leaked] = counters.map(|c| c.load(Ordering::Relaxed));
    eprintln!("{rounds} changes: {answered} of {sent} came through, {leaked} of {tried} leaked");
    assert!(sent > 100 && tried > 100, "{sent} {tried}");
    assert_eq!((sent - answered, leaked), (0, 0), "lost of {sent}, leaked of {tried}");
}
