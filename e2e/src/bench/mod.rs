//! First figures of a whole lab: how fast policy acts, how fast a pod gets its network, how much memory it takes.
//!
//! In: a lab and a number of rounds. Out: figures with the method they were measured by.
//! What always holds: what is measured is the real path; pods and policies of a run are removed at its end.
//! Left out: comparison with a peer, and load; those are other benchmarks'.

mod beat;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

pub use self::beat::{BEAT, Beat};
use crate::error::Doing;
use crate::kernel::netns;
use crate::lab::ETCD_PORT;
use crate::{Lab, LabError, Place, Pod, PodSpec, Result, names, process};

const NAMESPACE: &str = "bench";
const POLICY: &str = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: bench-deny\n  \
    namespace: bench\nspec:\n  selector: app == 'server'\n  types: [Ingress]\n";

/// A sorted list of times.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts them.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that a share of all is not above (nearest rank); zero without any.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |d: Duration| d.as_secs_f64() * 1000.0;
        let (median, p99) = (millis(self.percentile(50)), millis(self.percentile(99)));
        write!(f, "median {median:.1} ms, p99 {p99:.1} ms (n={})", self.0.len())
    }
}

/// All figures.
#[derive(Clone, Debug)]
pub struct Report {
    pub deny: Times,
    pub allow: Times,
    pub cni_add: Times,
    pub cni_del: Times,
    /// Name of the daemon, smallest and largest resident set in bytes, over all machines.
    pub memory: Vec<(String, u64, u64)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy written to traffic blocked    {}", self.deny)?;
        writeln!(f, "policy deleted to traffic allowed    {}", self.allow)?;
        writeln!(
            f,
            "  method: one UDP packet every {} µs from a pod on one node to a pod on another, never answered, so that\n  \
             each is judged by policy; the time is from sending the write of one NetworkPolicy to etcd until the\n  \
             sending of the first packet that was treated differently",
            BEAT.as_micros()
        )?;
        writeln!(f, "CNI ADD                              {}", self.cni_add)?;
        writeln!(f, "CNI DEL                              {}", self.cni_del)?;
        writeln!(
            f,
            "  method: one after the other on one node, from entering the node's namespaces to the plugin's exit,\n  \
             with calico-ipam and etcd without fsync"
        )?;
        for (name, min, max) in &self.memory {
            let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
            writeln!(f, "memory of {name:<26} {:.1} to {:.1} MiB resident", mib(min), mib(max))?;
        }
        write!(f, "  method: VmRSS after the measurements above, smallest and largest over all machines")
    }
}

impl Lab {
    /// Measures a lab that has at least one node.
    pub fn bench(&self, rounds: usize, progress: &dyn Fn(&str)) -> Result<Report> {
        progress("CNI ADD and DEL");
        let (cni_add, cni_del) = self.bench_cni(rounds)?;
        progress("policy written to traffic changed");
        let (deny, allow) = self.bench_policy(rounds)?;
        Ok(Report { deny, allow, cni_add, cni_del, memory: self.memory()? })
    }

    fn bench_cni(&self, rounds: usize) -> Result<(Times, Times)> {
        let (mut add, mut del) = (Vec::new(), Vec::new());
        // One that is not counted: it gets the node its block and its namespace its profile.
        for round in 0..=rounds {
            let spec = PodSpec::new(NAMESPACE, &format!("pod-{round}"), "n1")?;
            let name = spec.name.clone();
            let pod = self.pod_run(spec)?;
            let taken = self.timed_del(&pod);
            let given = self.timed_add(&pod);
            self.pod_delete(&name)?;
            if round > 0 {
                del.push(taken?);
                add.push(given?);
            }
        }
        Ok((Times::new(add), Times::new(del)))
    }

    fn timed_add(&self, pod: &Pod) -> Result<Duration> {
        let start = Instant::now();
        self.cni_add(pod)?;
        Ok(start.elapsed())
    }

    fn timed_del(&self, pod: &Pod) -> Result<Duration> {
        let start = Instant::now();
        self.cni_del(pod)?;
        Ok(start.elapsed())
    }

    fn bench_policy(&self, rounds: usize) -> Result<(Times, Times)> {
        let nodes: Vec<String> = self.topology().nodes().map(|n| n.name.clone()).collect();
        let (first, last) = (nodes.first(), nodes.last());
        let node = |name: Option<&String>| name.cloned().unwrap_or_default();
        let client = self.pod_run(PodSpec::new(NAMESPACE, "client", &node(first))?)?;
        let measured = self
            .pod_run(PodSpec::new(NAMESPACE, "server", &node(last))?.label("app", "server"))
            .and_then(|server| {
                let result = self.policy_rounds(&client, &server, rounds);
                let policy = self.calicoctl(&["delete", "--skip-not-exists", "-f", "-"], POLICY);
                self.pod_delete(&server.name)?;
                policy?;
                result
            });
        self.pod_delete(&client.name)?;
        measured
    }

    fn policy_rounds(&self, client: &Pod, server: &Pod, rounds: usize) -> Result<(Times, Times)> {
        // Our own calicoctl writes it once; the key and value it made are what every round writes.
        self.calicoctl(&["apply", "-f", "-"], POLICY)?;
        let etcd = Etcd::new(self);
        let (key, value) =
            etcd.find("/calico/resources/v3/projectcalico.org/networkpolicies/", "bench-deny")?;
        etcd.delete(&key)?;
        let address = server.address().ok_or_else(|| LabError::NoSuchPod { pod: server.name.to_string() })?;
        let netns_of = |pod: &Pod| self.netns_of(&Place::Pod(pod.name.clone()));
        let beat = Beat::start(&netns_of(client), &netns_of(server), address)?;
        beat.wait_change(Instant::now(), true)?;
        let (mut deny, mut allow) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let start = Instant::now();
            etcd.put(&key, &value)?;
            deny.push(beat.wait_change(start, false)?);
            // Some packets more, so that the next change starts from quiet.
            thread::sleep(BEAT * 100);
            let start = Instant::now();
            etcd.delete(&key)?;
            allow.push(beat.wait_change(start, true)?);
            thread::sleep(BEAT * 100);
        }
        Ok((Times::new(deny), Times::new(allow)))
    }

    fn memory(&self) -> Result<Vec<(String, u64, u64)>> {
        let machines: Vec<String> =
            self.topology().machines.iter().map(|m| names::machine_netns(self.name(), &m.name)).collect();
        let mut memory: Vec<(String, u64, u64)> = Vec::new();
        for process in process::find_in(&machines)?.values().flatten().filter(|p| p.name != "lab") {
            match memory.iter_mut().find(|(name, ..)| *name == process.name) {
                Some((_, min, max)) => {
                    *min = (*min).min(process.rss_bytes);
                    *max = (*max).max(process.rss_bytes);
                }
                None => memory.push((process.name.clone(), process.rss_bytes, process.rss_bytes)),
            }
        }
        memory.sort();
        Ok(memory)
    }
}

/// etcd's JSON gateway, spoken from inside `infra`: a write without the start-up time of a command.
struct Etcd {
    ns: String,
    address: SocketAddr,
}

impl Etcd {
    fn new(lab: &Lab) -> Self {
        Self { ns: names::machine_netns(lab.name(), "infra"), address: (lab.infra_v4(), ETCD_PORT).into() }
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let what = || format!("asking etcd to {method}");
        let text = netns::within(&self.ns, || {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(2)).doing(what)?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).doing(what)?;
            let head = format!(
                "POST /v3/kv/{method} HTTP/1.0\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).doing(what)?;
            let mut text = String::new();
            stream.read_to_string(&mut text).doing(what)?;
            Ok(text)
        })?;
        let (head, answer) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if !head.contains(" 200 ") {
            return Err(LabError::io(what(), std::io::Error::other(text)));
        }
        serde_json::from_str(answer).map_err(|e| LabError::io(what(), std::io::Error::other(e)))
    }

    fn put(&self, key: &str, value: &str) -> Result<()> {
        self.call("put", &json!({"key": BASE64.encode(key), "value": BASE64.encode(value)})).map(drop)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.call("deleterange", &json!({"key": BASE64.encode(key)})).map(drop)
    }

    /// The first key below `prefix` that ends with `suffix`, and its value.
    fn find(&self, prefix: &str, suffix: &str) -> Result<(String, String)> {
        // One more than '/': the end of the range of all keys below.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let answer =
            self.call("range", &json!({"key": BASE64.encode(prefix), "range_end": BASE64.encode(end)}))?;
        let text = |kv: &Value, field: &str| {
            let bytes = BASE64.decode(kv.get(field)?.as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let pairs = answer.get("kvs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut pairs = pairs.iter().filter_map(|kv| Some((text(kv, "key")?, text(kv, "value")?)));
        pairs.find(|(key, _)| key.ends_with(suffix)).ok_or_else(|| LabError::Timeout {
            what: format!("a key {prefix}…{suffix} in etcd"),
            seconds: 0,
            seen: "none".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.percentile(50), Duration::from_millis(100));
        assert_eq!(times.percentile(99), Duration::from_millis(198));
        assert_eq!(Times::new(Vec::new()).percentile(99), Duration::ZERO);
        assert_eq!(Times::new(vec![Duration::from_millis(7)]).percentile(50), Duration::from_millis(7));
    }
}
