//! Many hosts that assign addresses at once: as tasks with connections of their own, or as processes that are killed.
//!
//! A *worker* is a process for one host. What it was given it says on standard output, one line for each address, so
//! that its parent knows it also when the worker is killed. The address that was being assigned at that moment is
//! released by its handle, as a runtime calls DEL for a container whose ADD did not come back, and asked for anew.
#![allow(dead_code)] // test and benchmark use their own parts

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig};
use libcalico_ipam::check::{Problem, Records, check};
use libcalico_ipam::turns::Turns;
use libcalico_ipam::{AssignRequest, IpamClient, Owner};

use crate::support::State;

/// Tells a process that it is a worker: `endpoint host first last attempt`.
pub const WORKER: &str = "CALICO_IPAM_LOAD_WORKER";

/// Directory of the hosts' queues, where there are any.
pub const QUEUES: &str = "CALICO_IPAM_LOAD_QUEUES";

/// IPAM of a host, with its queue in that directory.
pub fn queued(endpoint: &str, host: &str, directory: &Path) -> IpamClient {
    IpamClient::new(connect(endpoint)).with_turns(Turns::at(&directory.join(host)))
}

pub fn connect(endpoint: &str) -> Arc<EtcdDatastore> {
    Arc::new(EtcdDatastore::new(EtcdConfig { endpoints: vec![endpoint.to_owned()], ..EtcdConfig::default() }))
}

pub fn host_names(hosts: usize) -> Vec<String> {
    (0..hosts).map(|i| format!("node-{i:03}")).collect()
}

/// An address that was given.
#[derive(Clone, Debug)]
pub struct Given {
    pub addr: IpAddr,
    pub handle: String,
    pub conflicts: usize,
    pub took: Duration,
}

impl Given {
    fn line(&self) -> String {
        format!("{} {} {} {}", self.handle, self.addr, self.conflicts, self.took.as_micros())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let handle = words.next()?.to_owned();
        let addr = words.next()?.parse().ok()?;
        let conflicts = words.next()?.parse().ok()?;
        let took = Duration::from_micros(words.next()?.parse().ok()?);
        Some(Self { addr, handle, conflicts, took })
    }
}

async fn assign(client: &IpamClient, host: &str, handle: String) -> Given {
    let begun = Instant::now();
    let request =
        AssignRequest { handle_id: Some(handle.clone()), ..AssignRequest::workload(Owner::host(host)) };
    let got = client.assign(&request).await.unwrap_or_else(|e| panic!("{handle}: {e}"));
    assert_eq!(got.addresses.len(), 1);
    Given { addr: got.addresses[0].addr, handle, conflicts: got.conflicts, took: begun.elapsed() }
}

/// What a run came to.
pub struct Outcome {
    pub given: Vec<Given>,
    pub took: Duration,
    /// Workers that were killed.
    pub kills: usize,
    /// Addresses that a killed worker had been given without being able to say so.
    pub unheard: usize,
}

impl Outcome {
    pub fn conflicts(&self) -> usize {
        self.given.iter().map(|g| g.conflicts).sum()
    }

    pub fn worst(&self) -> usize {
        self.given.iter().map(|g| g.conflicts).max().unwrap_or(0)
    }

    pub fn rate(&self) -> f64 {
        self.given.len() as f64 / self.took.as_secs_f64()
    }

    pub fn at_percent(&self, percent: usize) -> Duration {
        let mut times: Vec<Duration> = self.given.iter().map(|g| g.took).collect();
        times.sort_unstable();
        times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
    }
}

/// Every host as a task with a connection of its own.
pub async fn by_tasks(endpoint: &str, hosts: usize, each: usize) -> Outcome {
    let begun = Instant::now();
    let tasks: Vec<_> = host_names(hosts)
        .into_iter()
        .map(|host| {
            let client = IpamClient::new(connect(endpoint));
            tokio::spawn(async move {
                let mut given = Vec::with_capacity(each);
                for i in 0..each {
                    given.push(assign(&client, &host, format!("{host}.{i}")).await);
                }
                given
            })
        })
        .collect();
    let mut given = Vec::with_capacity(hosts * each);
    for t in tasks {
        given.extend(t.await.unwrap());
    }
    Outcome { given, took: begun.elapsed(), kills: 0, unheard: 0 }
}

/// Every host as a process; each is killed `kills` times at a random moment and started again where it was.
pub fn by_processes(
    endpoint: &str,
    hosts: usize,
    each: usize,
    kills: usize,
    worker: &(dyn Fn() -> Command + Sync),
) -> Outcome {
    let begun = Instant::now();
    let threads_given = std::thread::scope(|s| {
        let threads: Vec<_> = host_names(hosts)
            .into_iter()
            .enumerate()
            .map(|(n, host)| s.spawn(move || host_with_kills(endpoint, &host, each, kills, n as u64, worker)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let mut outcome = Outcome { given: Vec::new(), took: begun.elapsed(), kills: 0, unheard: 0 };
    for (given, killed, unheard) in threads_given {
        outcome.given.extend(given);
        outcome.kills += killed;
        outcome.unheard += unheard;
    }
    outcome
}

fn host_with_kills(
    endpoint: &str,
    host: &str,
    each: usize,
    kills: usize,
    seed: u64,
    worker: &(dyn Fn() -> Command + Sync),
) -> (Vec<Given>, usize, usize) {
    let random = Random(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let (mut given, mut killed, mut unheard) = (Vec::<Given>::new(), 0, 0);
    for attempt in 0.. {
        let mut child = spawn(worker, endpoint, host, given.len(), each, attempt);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some addresses further on, and then at any moment of the next one's way.
        let after = (attempt < kills).then(|| random.below(each as u64 / 4 + 1));
        let before = given.len();
        let mut doomed = after.map(|n| (n, Duration::from_micros(random.below(6_000))));
        if let Some((0, pause)) = doomed {
            std::thread::sleep(Duration::from_millis(random.below(20)) + pause);
            let _ = child.kill();
            doomed = None;
        }
        for line in lines.map_while(Result::ok) {
            given.extend(Given::parse(&line));
            if let Some((n, pause)) = doomed
                && given.len() - before >= n as usize
            {
                std::thread::sleep(pause);
                let _ = child.kill();
                doomed = None;
            }
        }
        if child.wait().unwrap().success() {
            return (given, killed, unheard);
        }
        killed += 1;
        assert!(killed <= kills, "{host}: a worker failed without being killed");
        // The container whose ADD did not come back.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = handle(host, given.len(), attempt);
        let client = IpamClient::new(connect(endpoint));
        unheard += runtime.block_on(client.release_by_handle(&handle, Vec::new())).unwrap().len();
    }
    unreachable!("attempts do not end")
}

fn handle(host: &str, i: usize, attempt: usize) -> String {
    format!("{host}.{i}.{attempt}")
}

pub fn spawn(
    worker: &(dyn Fn() -> Command + Sync),
    endpoint: &str,
    host: &str,
    first: usize,
    last: usize,
    attempt: usize,
) -> Child {
    worker()
        .env(WORKER, format!("{endpoint} {host} {first} {last} {attempt}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Where this process is a worker: does its work and ends the process.
pub fn serve_as_worker() {
    let Ok(what) = std::env::var(WORKER) else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let [endpoint, host, numbers @ ..] = &words[..] else { panic!("{what}") };
    let number = |i: usize| numbers[i].parse::<usize>().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = match std::env::var_os(QUEUES) {
            Some(directory) => queued(endpoint, host, Path::new(&directory)),
            None => IpamClient::new(connect(endpoint)),
        };
        for i in number(0)..number(1) {
            let given = assign(&client, host, handle(host, i, number(2))).await;
            // One write: a line is whole or not there.
            std::io::stdout().write_all(format!("{}\n", given.line()).as_bytes()).unwrap();
        }
    });
    std::process::exit(0);
}

/// Asserts that the datastore has what was given, no more and no less, and that its records fit together.
pub async fn verify(endpoint: &str, outcome: &Outcome) {
    let store = connect(endpoint);
    let mut given = BTreeMap::new();
    for g in &outcome.given {
        let before = given.insert(g.addr, g.handle.clone());
        assert_eq!(before, None, "{} was given out twice", g.addr);
    }
    let state = State::read(&*store).await;
    state.check_at_rest();
    assert_eq!(state.allocated(), given, "lost or left over");
    let problems = problems(&*store, &outcome.given).await;
    assert_eq!(problems, Vec::new());
}

/// What `ipam check` finds where the given addresses are in use.
async fn problems(store: &dyn Datastore, given: &[Given]) -> Vec<Problem> {
    let mut records = Records::read(store).await.unwrap();
    records.in_use.extend(given.iter().map(|g| (g.addr, format!("Workload({})", g.handle))));
    check(&records).problems
}

/// Numbers that are the same in every run.
pub struct Random(pub AtomicU64);

impl Random {
    pub fn below(&self, limit: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        x % limit.max(1)
    }
}
