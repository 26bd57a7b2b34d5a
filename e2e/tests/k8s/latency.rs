//! How long a NetworkPolicy takes from the API server to the packets.
//!
//! A client connects again and again from its pod's network namespace. What counts is the time from sending the write
//! to the first connection that is treated otherwise, as upstream was measured (median 16 ms). It is printed; what
//! fails the check is a policy that does not act at all, or a connection that comes through after one that was refused.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::LabError;
use e2e::k8s::Cluster;
use e2e::kernel::netns;

use crate::support::{SOON, Space, two_nodes, wait};

const ROUNDS: usize = 40;
/// A connection over one switch that is not answered within this is blocked.
const ANSWER: Duration = Duration::from_millis(30);
/// Pause between rounds.
const REST: Duration = Duration::from_millis(300);
/// Name of the control plane's network namespace.
const CONTROL_PLANE: &str = "kcp";

pub fn policy(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-latency");
    space.server("client", &one);
    space.server("web", &two);
    space.ready(&["client", "web"]);
    let web: SocketAddr = format!("{}:8080", space.seen("web").address).parse().unwrap();
    space.reaches("client", &web.to_string());
    let client = process_with(&space.seen("client").address);
    let api = Api::start(cluster);
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", space.name);
    let deny = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny"},
        "spec":{"podSelector":{"matchLabels":{"app":"web"}},"policyTypes":["Ingress"]}}"#;
    let mut connection = api.connect();
    let times = netns::within_process(client, || {
        let (mut blocked, mut open) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            connection.call("POST", &path, deny);
            blocked.push(until(start, || !connects(web)));
            assert!(!connects(web), "a connection came through after one was blocked");
            std::thread::sleep(REST);
            let start = Instant::now();
            connection.call("DELETE", &format!("{path}/deny"), "");
            open.push(until(start, || connects(web)));
            std::thread::sleep(REST);
        }
        Ok::<_, LabError>([("written to blocked", blocked), ("deleted to open", open)])
    });
    for (what, mut times) in times.unwrap() {
        times.sort();
        let at = |part: usize| times[ROUNDS * part / 100];
        println!("        {what}: median {:.1?}, p90 {:.1?}, most {:.1?}", at(50), at(90), times[ROUNDS - 1]);
    }
}

fn connects(to: SocketAddr) -> bool {
    TcpStream::connect_timeout(&to, ANSWER).is_ok()
}

/// The time until a try that saw it was begun.
fn until(start: Instant, mut holds: impl FnMut() -> bool) -> Duration {
    loop {
        let begun = start.elapsed();
        assert!(begun < SOON, "it never acted");
        if holds() {
            return begun;
        }
    }
}

/// A process whose network namespace has this address.
fn process_with(address: &str) -> u32 {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let own = |pid: &u32| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
        let mut lines = table.lines().peekable();
        while let Some(line) = lines.next() {
            let local = lines.peek().is_some_and(|next| next.contains("host LOCAL"));
            if local && line.trim_start_matches([' ', '|', '-']) == address {
                return true;
            }
        }
        false
    };
    pids.into_iter().find(own).unwrap_or_else(|| panic!("no process has {address}"))
}

/// The API server behind kubectl's proxy, which speaks plain HTTP.
struct Api {
    proxy: std::process::Child,
    address: SocketAddr,
}

impl Api {
    fn start(cluster: &Cluster) -> Self {
        let address: SocketAddr = "127.0.0.1:8901".parse().unwrap();
        let proxy = cluster.kubectl_background(&["proxy", &format!("--port={}", address.port())]).unwrap();
        let api = Self { proxy, address };
        wait("kubectl's proxy", || {
            netns::within(CONTROL_PLANE, || Ok(TcpStream::connect(address).map(drop)))
                .map_err(|e| e.to_string())?
                .map_err(|e| e.to_string())
        });
        api
    }

    fn connect(&self) -> Connection {
        let stream = netns::within(CONTROL_PLANE, || Ok(TcpStream::connect(self.address))).unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(BufReader::new(stream))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// One HTTP connection, kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn call(&mut self, method: &str, path: &str, body: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.contains(" 20"), "{method} {path}: {line}");
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header).unwrap();
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(n) = header.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
    }
}
