//! Waiting until the parts of a lab do their work, with a limit, and telling why when they do not.
//!
//! What always holds: a daemon that has ended is told at once, with the end of its log; nothing waits for ever.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::kernel::netns;
use crate::lab::{ETCD_PORT, Lab};
use crate::process::{self, ProcessId};
use crate::state::{DaemonRecord, read_json};
use crate::{LabError, Place, Result, bird_control, names};

/// How long one daemon may take to become ready.
const DAEMON_LIMIT: Duration = Duration::from_secs(180);
/// How long all BGP sessions may take: a connection refused at first is tried again after some seconds.
const MESH_LIMIT: Duration = Duration::from_secs(180);
const SERVER_LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(100);
const LOG_LINES: usize = 20;

/// Asks again and again until there is a value; the last `Err` says what was seen instead.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask()? {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                return Err(LabError::Timeout { what: what.to_owned(), seconds: limit.as_secs(), seen });
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

impl Lab {
    /// Waits until a condition on a daemon holds; fails early when the daemon has ended.
    fn wait_daemon(
        &self,
        machine: &str,
        process: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Result<std::result::Result<(), String>>,
    ) -> Result<()> {
        let record: DaemonRecord = read_json(&self.state().daemon_file(machine, process))?;
        let failed = |what: String| LabError::Daemon {
            machine: machine.to_owned(),
            process: process.to_owned(),
            what,
            tail: process::tail(&record.log, LOG_LINES),
            log: record.log.clone(),
        };
        let waited = wait_for(process, limit, || {
            if !record.id.is_some_and(ProcessId::alive) {
                return Err(failed("has ended".to_owned()));
            }
            ready()
        });
        waited.map_err(|e| match e {
            LabError::Timeout { seconds, seen, .. } => {
                failed(format!("is not ready after {seconds} s: {seen}"))
            }
            other => other,
        })
    }

    pub(crate) fn wait_etcd(&self) -> Result<()> {
        self.wait_http("infra", "etcd", (self.infra_v4(), ETCD_PORT).into(), "/health")
    }

    /// Waits until a daemon's HTTP endpoint answers 200 from inside its machine.
    pub(crate) fn wait_http(
        &self,
        machine: &str,
        process: &str,
        address: SocketAddr,
        path: &str,
    ) -> Result<()> {
        let ns = names::machine_netns(self.name(), machine);
        self.wait_daemon(machine, process, DAEMON_LIMIT, || {
            netns::within(&ns, || {
                Ok(match http_status(address, path) {
                    Ok(200) => Ok(()),
                    Ok(status) => Err(format!("http://{address}{path} answers {status}")),
                    Err(e) => Err(format!("http://{address}{path}: {e}")),
                })
            })
        })
    }

    /// What calico-node says about itself, its Felix and its BGP daemon.
    pub fn node_ready(&self, node: &str) -> Result<std::result::Result<(), String>> {
        let program = self.program("calico-node")?.display().to_string();
        let place = Place::Machine(node.to_owned());
        let output = self.exec(&place, &[&program, "-felix-ready", "-bird-ready"], "")?;
        Ok(if output.code == 0 {
            Ok(())
        } else {
            let said = format!("{} {}", output.stdout.trim(), output.stderr.trim());
            Err(said.trim().to_owned())
        })
    }

    pub(crate) fn wait_node(&self, node: &str) -> Result<()> {
        self.wait_daemon(node, "calico-node", DAEMON_LIMIT, || self.node_ready(node))
    }

    /// The BGP sessions on a node: established ones and all there are; the error says why they are not known.
    pub fn bgp(&self, node: &str) -> std::result::Result<(usize, usize), String> {
        let socket = self.state().machine(node).outside("/run/calico/bird.ctl");
        let sessions =
            bird_control::bgp_sessions(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        Ok((sessions.iter().filter(|s| s.state == "Established").count(), sessions.len()))
    }

    /// Waits until every node has a session with every other one; returns how many there are, each counted once.
    pub(crate) fn wait_mesh(&self) -> Result<usize> {
        let nodes = self.topology().nodes().count();
        if nodes < 2 {
            return Ok(0);
        }
        let families = if self.config().ipv6 { 2 } else { 1 };
        let wanted = (nodes - 1) * families;
        let mut ends = 0;
        for node in self.topology().nodes() {
            self.wait_daemon(&node.name, "calico-node", MESH_LIMIT, || {
                Ok(match self.bgp(&node.name) {
                    Ok((up, all)) if up >= wanted && up == all => {
                        ends += up;
                        Ok(())
                    }
                    Ok((up, all)) => {
                        Err(format!("{up} of {wanted} BGP sessions established ({all} configured)"))
                    }
                    Err(e) => Err(e),
                })
            })?;
        }
        Ok(ends / 2)
    }

    /// Waits until a server answers inside its own namespace.
    pub(crate) fn wait_served(&self, place: &Place, port: u16, log: &Path) -> Result<()> {
        let ns = self.netns_of(place);
        let waited = wait_for("its server", SERVER_LIMIT, || {
            netns::within(&ns, || {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                Ok(TcpStream::connect_timeout(&address, TICK).map(drop).map_err(|e| e.to_string()))
            })
        });
        waited.map_err(|e| match e {
            LabError::Timeout { seconds, seen, .. } => LabError::Daemon {
                machine: place.to_string(),
                process: "server".to_owned(),
                what: format!("does not answer at port {port} after {seconds} s: {seen}"),
                log: log.to_owned(),
                tail: process::tail(log, LOG_LINES),
            },
            other => other,
        })
    }
}

/// The status code of a GET request.
pub fn http_status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no HTTP answer"))
}
