//! A whole Felix with a real etcd, two pods and real packets: status of endpoints, counters of rules, established flows,
//! and no window in which a denied packet passes or an allowed one is lost.
//!
//! `CALICO_WINDOW_ROUNDS`: how many changes the test of windows makes (default 60; 1000 by hand).

mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use support::{BASE, WAIT, World, inside, ready};

const PORT: u16 = 8080;
const PODS: [&str; 3] = ["a", "b", "c"];

/// `FelixConfiguration` of each backend.
const BACKENDS: [&str; 3] = [
    r#""nftablesMode":"Enabled""#,
    r#""nftablesMode":"Disabled","iptablesBackend":"NFT""#,
    r#""nftablesMode":"Disabled","iptablesBackend":"Legacy""#,
];

fn addr(name: &str, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 65, 0, name.as_bytes()[0] - b'a' + 2)), port)
}

fn addr6(name: &str, port: u16) -> SocketAddr {
    let host = u16::from(name.as_bytes()[0] - b'a' + 2);
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x65, 0, 0, 0, 0, 0, host)), port)
}

/// Answers TCP lines and UDP datagrams in a pod until `stop`.
fn serve(ns: &str, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let stop = stop.clone();
    let (up, started) = std::sync::mpsc::channel();
    let thread = inside(ns, move || {
        // Of both families.
        let tcp = TcpListener::bind(("::", PORT)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind(("::", PORT)).unwrap();
        udp.set_nonblocking(true).unwrap();
        // On a busy machine this thread may be kept waiting for seconds, and those who send go on.
        setsockopt(&udp, RcvBufForce, &(16 << 20)).unwrap();
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
        let s = inside(ns, move || TcpStream::connect_timeout(&to, WAIT).unwrap());
        Self(s.join().unwrap())
    }

    fn goes_on(&mut self) -> bool {
        self.echoes(WAIT)
    }

    fn echoes(&mut self, within: Duration) -> bool {
        self.0.set_read_timeout(Some(within)).unwrap();
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
    let mut w = World::new(
        &PODS,
        &[
            ("FELIX_ENDPOINTREPORTINGENABLED", "true"),
            ("FELIX_PROMETHEUSMETRICSENABLED", "true"),
            ("FELIX_REPORTINGINTERVALSECS", "1"),
        ],
    );
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
    let series = "felix_policy_rule_packets_total{action=\"allow\",direction=\"ingress\",kind=\"np\",namespace=\"default\",policy=\"b\",rule=\"0\",tier=\"default\"} ";
    // One, or more where the kernel asked for the connection again.
    let counted =
        |line: &str| line.strip_prefix(series).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 1);
    w.eventually("the rule's counter", || w.http(9091, "/metrics").lines().any(counted));
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
        let mut w = World::new(&PODS, &[("FELIX_ESTABLISHEDFLOWENFORCEMENT", setting)]);
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
            w.eventually("the flow is cut", || !denied.echoes(Duration::from_secs(1)));
        } else {
            std::thread::sleep(Duration::from_secs(2));
            assert!(denied.goes_on(), "it goes on, as with upstream");
        }
        assert!(allowed.goes_on(), "a flow that is allowed goes on");
        stop.store(true, Ordering::Relaxed);
        servers.into_iter().for_each(|s| s.join().unwrap());
    }
}

/// Sends a datagram now and then (`every`) from a port of its own each, so each is a new flow, until `stop`. Gives how
/// many were sent, and how many came back within `wait`.
fn prober(
    ns: &str,
    to: SocketAddr,
    every: Duration,
    wait: Duration,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<(u32, u32)> {
    let stop = stop.clone();
    inside(ns, move || {
        let (mut sent, mut answered) = (0, 0);
        let mut open: std::collections::VecDeque<(Instant, UdpSocket)> = std::collections::VecDeque::new();
        let mut buf = [0; 8];
        loop {
            let ended = stop.load(Ordering::Relaxed);
            if !ended {
                let s = UdpSocket::bind(any_of(to)).unwrap();
                s.set_nonblocking(true).unwrap();
                if s.send_to(b"x", to).is_ok() {
                    sent += 1;
                    open.push_back((Instant::now(), s));
                }
            }
            open.retain(|(at, s)| {
                let answer = s.recv_from(&mut buf).is_ok();
                answered += u32::from(answer);
                !answer && at.elapsed() < wait
            });
            if ended && open.is_empty() {
                return (sent, answered);
            }
            std::thread::sleep(every);
        }
    })
}

/// Any address of the family, and any port.
fn any_of(to: SocketAddr) -> SocketAddr {
    let any =
        if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(any, 0)
}

/// True where a datagram is answered, within a second.
fn answers(ns: &str, to: SocketAddr) -> bool {
    let thread = inside(ns, move || {
        let s = UdpSocket::bind(any_of(to)).unwrap();
        s.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        s.send_to(b"x", to).is_ok() && s.recv_from(&mut [0; 8]).is_ok()
    });
    thread.join().unwrap()
}

#[test]
fn no_packet_is_lost_and_none_leaks_while_policy_pods_and_backends_change_and_felix_is_killed() {
    if !ready() {
        return;
    }
    let rounds: u32 = std::env::var("CALICO_WINDOW_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(60);
    let mut w = World::new(&PODS, &[]);
    w.add_ipv6(&PODS);
    w.backend_by_datastore = true;
    w.backend(BACKENDS[0]);
    w.policy("b", ALLOW);
    w.policy("c", DENY);
    w.start();
    w.eventually("ready", || w.ready());
    let stop = Arc::new(AtomicBool::new(false));
    let servers = [serve(&w.pods[1], &stop), serve(&w.pods[2], &stop)];
    let probing = Arc::new(AtomicBool::new(false));
    // Neighbours have to be found first.
    for to in [addr("b", PORT), addr6("b", PORT)] {
        w.eventually("an answer", || answers(&w.pods[0], to));
    }
    // Nearly all of those that are denied wait for nothing: each costs a socket meanwhile.
    let short = Duration::from_secs(3);
    let probe = |to, every_ms, wait| prober(&w.pods[0], to, Duration::from_millis(every_ms), wait, &probing);
    let allowed = [probe(addr("b", PORT), 1, WAIT), probe(addr6("b", PORT), 5, WAIT)];
    let denied = [probe(addr("c", PORT), 1, short), probe(addr6("c", PORT), 5, short)];
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
    let allowed = allowed.map(|p| p.join().unwrap());
    let denied = denied.map(|p| p.join().unwrap());
    stop.store(true, Ordering::Relaxed);
    servers.into_iter().for_each(|s| s.join().unwrap());
    for (family, (sent, answered), (tried, leaked)) in
        [("IPv4", allowed[0], denied[0]), ("IPv6", allowed[1], denied[1])]
    {
        eprintln!(
            "{rounds} changes, {family}: {answered} of {sent} came through, {leaked} of {tried} leaked"
        );
        assert!(sent > 100 && tried > 100, "{family}: {sent} {tried}");
        assert_eq!((sent - answered, leaked), (0, 0), "{family}: lost of {sent}, leaked of {tried}");
    }
}
