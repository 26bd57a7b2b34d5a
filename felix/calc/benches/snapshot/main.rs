//! How long the calculation takes and how much it keeps, at the sizes where upstream's benchmarks measure it.
//!
//! Each workload is named in full. Time is what the calculation takes (on the wall, and of the processor, which is
//! what counts on a machine that does other work too): inputs are made before the clock runs. Memory is
//! the heap that is live after the flush, without the inputs, counted by the allocator below; the peak has the
//! messages in it. Shapes follow upstream's `BenchmarkSnapshot200Local…`: endpoints with five labels of 10 to 40 values
//! and one of 30 marker labels, in 100 namespaces; policies that select by marker with five rules by marker; network
//! sets of 1 to 1,000 addresses with a policy each that applies everywhere. With `PEER=DIR` upstream's own benchmarks of
//! the two run in between ([`peer`]).

#![allow(unsafe_code)] // the counting allocator

mod peer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use felix_calc::{CalcGraph, Config};
use felix_message::Message;
use ipnet::{IpNet, Ipv4Net};
use libcalico_api::profile::{Profile, ProfileSpec};
use libcalico_api::{Kind, Object, Resource};
use libcalico_model::backend::{NetworkSet, Policy, ProfileRules, Rule, WorkloadEndpoint};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, PolicyKind, Revision, SyncStatus, Update, Value};
use peer::Figures;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator unchanged; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAMESPACES: usize = 100;
const LOCAL: &str = "localhost";

fn update(key: Key, value: Value) -> Update {
    Update { key, value: Some(value), revision: Revision::default() }
}

fn marker(i: usize) -> String {
    format!("calico/Marker-{}", i % 30)
}

fn endpoint_key(host: &str, i: usize) -> Key {
    Key::WorkloadEndpoint(WorkloadEndpointKey {
        host: host.to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: format!("wep-{i}"),
        endpoint: "eth0".to_owned(),
    })
}

fn endpoint(host: &str, i: usize, seed: usize) -> Update {
    let mut labels: BTreeMap<String, String> =
        [10, 11, 20, 30, 40].iter().map(|n| (format!("one-in-{n}"), format!("value-{}", seed % n))).collect();
    labels.insert(marker(seed), "true".to_owned());
    let value = WorkloadEndpoint {
        state: "active".to_owned(),
        name: format!("cali{i}"),
        labels,
        profile_ids: vec![format!("kns.namespace-{}", i % NAMESPACES)],
        ipv4_nets: vec![Ipv4Net::from(Ipv4Addr::from(0x0a00_0001 + seed as u32))],
        ..WorkloadEndpoint::default()
    };
    update(endpoint_key(host, i), Value::WorkloadEndpoint(Arc::new(value)))
}

fn policy(name: String, selector: String, sources: impl Iterator<Item = String>) -> Update {
    let rule = |src_selector| Rule { action: "allow".to_owned(), src_selector, ..Rule::default() };
    let value = Policy {
        tier: "default".to_owned(),
        selector,
        inbound_rules: sources.map(rule).collect(),
        ..Policy::default()
    };
    let key = PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name };
    update(Key::Policy(key), Value::Policy(Arc::new(value)))
}

fn tag_policy(i: usize) -> Update {
    let sources = (0..5).map(move |j| format!("has({})", marker(i + j)));
    policy(format!("tag-pol-{i}"), format!("has({})", marker(i)), sources)
}

fn namespace(i: usize) -> [Update; 2] {
    let name = format!("kns.namespace-{i}");
    let mut profile: Profile = Object::default();
    profile.metadata.name.clone_from(&name);
    let label = ("pcns.projectcalico.org/name".to_owned(), format!("namespace-{i}"));
    profile.spec = ProfileSpec { labels_to_apply: [label].into(), ..ProfileSpec::default() };
    [
        update(Key::resource(Kind::Profile, "", name.as_str()), Resource::from(profile).into()),
        update(Key::ProfileRules(name), Value::ProfileRules(Arc::new(ProfileRules::default()))),
    ]
}

fn network_set(i: usize, next: &mut u32) -> [Update; 2] {
    const SIZES: [usize; 10] = [1, 1, 1, 1, 2, 3, 4, 5, 100, 1000];
    let name = format!("network-set-{i}");
    let size = SIZES[i % SIZES.len()];
    let nets = (0..size)
        .map(|_| {
            *next += 1;
            IpNet::from(std::net::IpAddr::V4(Ipv4Addr::from(*next)))
        })
        .collect();
    let labels = [("network-set-name".to_owned(), name.clone())].into();
    let set = NetworkSet { nets, labels, ..NetworkSet::default() };
    let source = format!("network-set-name == '{name}'");
    [
        update(Key::NetworkSet(name), Value::NetworkSet(Arc::new(set))),
        policy(format!("network-set-pol-{i}"), "all()".to_owned(), std::iter::once(source)),
    ]
}

/// Time that this thread has had the processor.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    Duration::from_nanos(nanos)
}

/// Both clocks.
#[derive(Clone, Copy)]
struct Clock(Instant, Duration);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu_time())
    }

    fn elapsed(self) -> (Duration, Duration) {
        (self.0.elapsed(), cpu_time().saturating_sub(self.1))
    }
}

/// A calculation with a clock that runs only while it works.
struct Bench {
    graph: CalcGraph,
    out: Vec<Message>,
    spent: Duration,
    cpu: Duration,
    messages: usize,
    base: usize,
}

impl Bench {
    fn new() -> Self {
        let base = LIVE.load(Ordering::Relaxed);
        PEAK.store(base, Ordering::Relaxed);
        let graph = CalcGraph::new(Config { hostname: LOCAL.to_owned(), ..Config::default() });
        Self { graph, out: Vec::new(), spent: Duration::ZERO, cpu: Duration::ZERO, messages: 0, base }
    }

    /// Feeds updates in pieces, so that not all of the input is in memory at a time.
    fn feed(&mut self, mut updates: impl Iterator<Item = Update>) {
        loop {
            let piece: Vec<Update> = updates.by_ref().take(5_000).collect();
            if piece.is_empty() {
                return;
            }
            // Whoever decoded the values frees them: upstream's benchmark holds its inputs too.
            let held: Vec<Option<Value>> = piece.iter().map(|u| u.value.clone()).collect();
            let clock = Clock::start();
            piece.into_iter().for_each(|u| self.graph.on_update(u));
            self.count(clock);
            drop(held);
        }
    }

    fn count(&mut self, clock: Clock) {
        let (wall, cpu) = clock.elapsed();
        self.spent += wall;
        self.cpu += cpu;
    }

    fn flush(&mut self) {
        let clock = Clock::start();
        self.graph.on_status(SyncStatus::InSync);
        self.graph.flush(&mut self.out);
        self.count(clock);
        self.messages += self.out.len();
        self.out.clear();
    }

    fn report(&self, name: &str) -> Figures {
        let mib = |bytes: usize| bytes.saturating_sub(self.base) as f64 / f64::from(1 << 20);
        let (live, peak) = (LIVE.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed));
        let ours = Figures { seconds: self.spent.as_secs_f64(), live_mib: mib(live), peak_mib: mib(peak) };
        println!(
            "{name}: {:.3} s, {:.3} s of CPU, live heap {:.0} MiB, peak {:.0} MiB, {} messages, {:?}",
            ours.seconds,
            self.cpu.as_secs_f64(),
            ours.live_mib,
            ours.peak_mib,
            self.messages,
            self.graph.stats(),
        );
        ours
    }
}

fn tag_snapshot() -> Bench {
    let mut bench = Bench::new();
    bench.feed((0..10_000).map(tag_policy));
    bench.feed((0..NAMESPACES).flat_map(namespace));
    bench.feed((0..250_000).map(|i| endpoint("remotehost", i, i)));
    bench.feed((0..200).map(|i| endpoint(LOCAL, i, 250_000 + i)));
    bench.flush();
    bench
}

fn latency(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |q: usize| times.get(times.len() * q / 100).map_or(0.0, Duration::as_secs_f64) * 1e6;
    println!("{name}: median {:.0} µs, p99 {:.0} µs of {}", at(50), at(99), times.len());
}

/// A change and its flush.
fn one(bench: &mut Bench, u: Update) -> Duration {
    let start = Instant::now();
    bench.graph.on_update(u);
    bench.graph.flush(&mut bench.out);
    bench.out.clear();
    start.elapsed()
}

fn tags() {
    let ours = tag_snapshot().report("snapshot_200_local_250k_total_10k_policies");
    peer::beside("BenchmarkSnapshot200Local250kTotal10000TagPols", ours);
}

fn churn() {
    let mut bench = tag_snapshot();
    let updates: Vec<Update> =
        (0..50_000).map(|n| endpoint("remotehost", (n * 7919) % 250_000, 300_000 + n)).collect();
    let start = Instant::now();
    for batch in updates.chunks(100) {
        batch.iter().for_each(|u| bench.graph.on_update(u.clone()));
        bench.graph.flush(&mut bench.out);
    }
    let rate = 50_000.0 / start.elapsed().as_secs_f64();
    let messages = bench.out.len();
    println!(
        "endpoint_churn_50k_updates_in_batches_of_100_among_250k: {rate:.0} updates/s, {messages} messages"
    );
    bench.out.clear();

    // A hundred a flush, a hundred flushes a second: what share of a processor that takes, and how long each waits.
    let clock = Clock::start();
    let times: Vec<Duration> = (0..300)
        .map(|round| {
            let batch: Vec<Update> = (0..100)
                .map(|n| {
                    endpoint("remotehost", (round * 100 + n) * 7919 % 250_000, 500_000 + round * 100 + n)
                })
                .collect();
            let start = Instant::now();
            batch.into_iter().for_each(|u| bench.graph.on_update(u));
            bench.graph.flush(&mut bench.out);
            bench.out.clear();
            let took = start.elapsed();
            std::thread::sleep(Duration::from_millis(10).saturating_sub(took));
            took
        })
        .collect();
    let (wall, cpu) = clock.elapsed();
    println!(
        "endpoint_churn_at_10k_updates_a_second_among_250k: {:.0} updates/s, {:.1} % of a processor",
        30_000.0 / wall.as_secs_f64(),
        100.0 * cpu.as_secs_f64() / wall.as_secs_f64(),
    );
    latency("endpoint_churn_at_10k_updates_a_second_among_250k, a batch of 100", times);

    let times = (0..500).map(|n| one(&mut bench, endpoint("remotehost", n, 400_000 + n))).collect();
    latency("one_endpoint_changed_among_250k", times);
    let times = (0..200).map(|n| one(&mut bench, tag_policy(20_000 + n))).collect();
    latency("one_policy_more_among_10k_on_200_local", times);
    let fresh = |n: usize| {
        let value = n % 40;
        let source =
            format!("one-in-40 == 'value-{value}' && pcns.projectcalico.org/name == 'namespace-{n}'");
        policy(format!("fresh-{n}"), "all()".to_owned(), std::iter::once(source))
    };
    let times = (0..100).map(|n| one(&mut bench, fresh(n))).collect();
    latency("one_policy_with_a_new_selector_among_250k_endpoints", times);
}

/// Stateful sets name each pod in a label: nothing of it can be shared.
fn own_labels() {
    let mut bench = Bench::new();
    bench.feed((0..NAMESPACES).flat_map(namespace));
    bench.feed((0..250_000).map(|i| {
        let mut update = endpoint("remotehost", i, i);
        if let Some(Value::WorkloadEndpoint(w)) = &mut update.value {
            let name = ("statefulset.kubernetes.io/pod-name".to_owned(), format!("pod-of-some-set-{i}"));
            Arc::make_mut(w).labels.extend([name]);
        }
        update
    }));
    bench.flush();
    bench.report("snapshot_250k_remote_endpoints_each_with_a_label_of_its_own");
}

fn network_sets() {
    let mut bench = Bench::new();
    let mut next = 0x0b00_0000;
    bench.feed((0..NAMESPACES).flat_map(namespace));
    bench.feed((0..10_000).map(|i| endpoint("remotehost", i, i)));
    bench.feed((0..10_000).flat_map(|i| network_set(i, &mut next)));
    bench.feed((0..200).map(|i| endpoint(LOCAL, i, 250_000 + i)));
    bench.flush();
    let ours = bench.report("snapshot_200_local_10k_total_10k_network_sets_with_policies");
    drop(bench);
    peer::beside("BenchmarkSnapshot200Local10kTotal10000NetsetPols", ours);
}

/// Every policy applies to every endpoint.
fn all_to_all() {
    let mut bench = Bench::new();
    let on_all = |i: usize| {
        policy(format!("pol-{i}"), "all()".to_owned(), std::iter::once(format!("has({})", marker(i))))
    };
    bench.feed((0..1_000).map(on_all));
    bench.feed((0..1_000).map(|i| endpoint(LOCAL, i, i)));
    bench.flush();
    bench.report("snapshot_1000_local_under_1000_policies_each");
    let times = (0..100).map(|n| one(&mut bench, on_all(1_000 + n))).collect();
    latency("one_policy_more_on_1000_local_under_1000_policies_each", times);
}

/// 2,000 policies with a set each, on a local endpoint each: what one member more or less of one set takes.
fn members() {
    let mut bench = Bench::new();
    let named = |mut u: Update, name: String| {
        if let Some(Value::WorkloadEndpoint(w)) = &mut u.value {
            Arc::make_mut(w).labels.insert("role".to_owned(), name);
        }
        u
    };
    bench.feed((0..2_000).map(|i| {
        let source = std::iter::once(format!("role == 'peer-{i}'"));
        policy(format!("pol-{i}"), format!("role == 'local-{i}'"), source)
    }));
    bench.feed((0..2_000).map(|i| named(endpoint(LOCAL, i, i), format!("local-{i}"))));
    bench.feed(
        (0..20_000).map(|i| named(endpoint("remotehost", i, 10_000 + i), format!("peer-{}", i % 2_000))),
    );
    bench.flush();
    bench.report("snapshot_2000_local_under_a_policy_with_a_set_each_22k_total");
    let times = (0..2_000)
        .map(|n| {
            one(&mut bench, named(endpoint("remotehost", n, 10_000 + n), format!("peer-{}", (n + 1) % 2_000)))
        })
        .collect();
    latency("one_member_moved_among_2000_sets_and_2000_policies", times);
}

/// `cargo bench -p felix-calc -- WORD` runs those whose name has the word.
fn main() {
    let word = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let benches: [(&str, fn()); 6] = [
        ("tags", tags),
        ("churn", churn),
        ("own_labels", own_labels),
        ("network_sets", network_sets),
        ("all_to_all", all_to_all),
        ("members", members),
    ];
    for (_, run) in benches.iter().filter(|(name, _)| name.contains(&word)) {
        run();
    }
}
