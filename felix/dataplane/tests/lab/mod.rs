//! Network namespaces for tests: a host with the dataplane in it, and pods behind `cali…` interfaces.
//!
//! Everything is removed when the value goes, also after a failure.
#![allow(dead_code)]

pub mod probe;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_dataplane::driver::Written;
use felix_dataplane::worker::{self, Command as Say, Handle, Report};
use felix_message::{
    Action, ActivePolicy, ActiveProfile, IpSetKind, IpSetMember, IpSetUpdate, Message, PortRange, Rule,
    TierInfo, WorkloadEndpoint,
};
use libcalico_api::num_or_string::Protocol;
use libcalico_model::PolicyKind;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use nix::sched::{CloneFlags, setns};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// True where namespaces can be made. Without root: a note on a person's machine, a failure in CI.
pub fn ready() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let tools = ["ip", "nft", "iptables-nft", "iptables-legacy", "ipset"]
        .iter()
        .all(|t| Command::new(t).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok());
    if root && tools {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root, ip, nft, iptables and ipset");
    eprintln!("skipped: needs root, ip, nft, iptables and ipset");
    false
}

pub fn run(command: &str) -> Output {
    let out = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// A network namespace.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fdx-{}-{n}", std::process::id());
        // What a killed process of the same number left.
        let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        run(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        let me = Self(name);
        // Link-local addresses are there at once.
        me.must("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0");
        me
    }

    /// A namespace with a way out: proxy ARP answers for the pods' gateway only where a route leads to it.
    pub fn host() -> Self {
        let me = Self::new();
        me.must(
            "ip link add up0 type bridge && ip addr add 172.31.0.1/24 dev up0 && ip link set up0 up && \
             ip route add default via 172.31.0.254",
        );
        me
    }

    /// Runs a command inside; output as text, success or not.
    pub fn exec(&self, command: &str) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.0, "sh", "-c", command])
            .stdin(Stdio::null())
            .output()
            .expect("ip netns exec");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    pub fn must(&self, command: &str) -> String {
        let (ok, text) = self.exec(command);
        assert!(ok, "{command}: {text}");
        text
    }

    /// Runs a closure in a thread of the namespace.
    pub fn inside<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/var/run/netns/{}", self.0)).expect("namespace");
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("setns");
            f()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).stderr(Stdio::null()).status();
    }
}

/// A running dataplane.
pub struct Felix {
    pub handle: Handle,
    pub reports: Receiver<Report>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Messages so far.
    sent: AtomicU64,
}

impl Felix {
    /// In sync with these endpoints and the profile `open`, which allows everything.
    pub fn among(host: &Namespace, config: Config, endpoints: Vec<Message>) -> Self {
        let felix = Self::start(host, config);
        let mut messages = vec![profile("open", vec![allow()], vec![allow()])];
        messages.extend(endpoints);
        messages.push(Message::InSync);
        felix.apply(messages);
        felix
    }

    pub fn start(host: &Namespace, config: Config) -> Self {
        Self::start_after(host, config, || {})
    }

    /// `prepare` runs in the dataplane's thread before it.
    pub fn start_after(host: &Namespace, config: Config, prepare: impl FnOnce() + Send + 'static) -> Self {
        let (ready, started) = channel();
        let (report, reports) = channel();
        let thread = host.inside(move || {
            prepare();
            let (handle, worker) = worker::new(Arc::new(config)).expect("dataplane");
            ready.send(handle).unwrap();
            worker.run(|r| {
                let _ = report.send(r);
            });
        });
        Self { handle: started.recv().unwrap(), reports, thread: Some(thread), sent: AtomicU64::new(0) }
    }

    pub fn send(&self, messages: Vec<Message>) {
        self.sent.fetch_add(messages.len() as u64, Ordering::Relaxed);
        self.handle.send(Say::Messages(messages)).unwrap();
    }

    /// Sends, and waits until the kernel has it. Returns operations written to tables.
    pub fn apply(&self, messages: Vec<Message>) -> usize {
        self.write(messages).operations
    }

    /// Sends, and waits until the kernel has it. Returns what was written to tables.
    pub fn write(&self, messages: Vec<Message>) -> Written {
        self.written(messages, false)
    }

    /// Likewise, though some tries fail before.
    pub fn apply_in_the_end(&self, messages: Vec<Message>) {
        self.written(messages, true);
    }

    fn written(&self, messages: Vec<Message>, may_fail: bool) -> Written {
        while self.reports.try_recv().is_ok() {}
        self.send(messages);
        let all = self.sent.load(Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(60);
        let mut written = None;
        loop {
            match self.reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Report::Applied { trouble: Some(t), .. }) => assert!(may_fail, "{}", t.reason),
                Ok(Report::Applied { outcome, taken, .. }) if taken >= all => {
                    // Routes follow, where connections have to be cut before.
                    let written = *written.get_or_insert(outcome.tables);
                    if outcome.held == 0 {
                        return written;
                    }
                }
                Ok(Report::Failed { reason, .. }) => assert!(may_fail, "{reason}"),
                Ok(_) => {}
                Err(e) => panic!("no report: {e}"),
            }
        }
    }

    /// Waits for a failure and returns its reason.
    pub fn failure(&self) -> String {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match self.reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Report::Failed { reason, .. }) => return reason,
                Ok(_) => {}
                Err(e) => panic!("no failure: {e}"),
            }
        }
    }

    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.handle.send(Say::Stop);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

impl Drop for Felix {
    fn drop(&mut self) {
        self.end();
    }
}

/// A pod: a namespace with `eth0`, whose other end is `cali…` in the host.
pub struct Pod {
    pub ns: Namespace,
    pub interface: String,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

impl Pod {
    pub fn new(host: &Namespace, number: u8) -> Self {
        let ns = Namespace::new();
        let interface = format!("cali{number:x}pod");
        let (v4, v6) = (format!("10.65.0.{number}"), format!("fd00:65::{number:x}"));
        run(&format!(
            "ip link add {interface} netns {host} type veth peer name eth0 netns {pod} && \
             ip -n {host} link set {interface} address ee:ee:ee:ee:ee:ee && ip -n {host} link set {interface} up && \
             ip -n {pod} addr add {v4}/32 dev eth0 && ip -n {pod} addr add {v6}/128 dev eth0 nodad && \
             ip -n {pod} link set eth0 up && \
             ip -n {pod} route add 169.254.1.1 dev eth0 && ip -n {pod} route add default via 169.254.1.1 dev eth0 && \
             ip -n {pod} -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0",
            host = host.0,
            pod = ns.0,
        ));
        Self { ns, interface, v4: v4.parse().unwrap(), v6: v6.parse().unwrap() }
    }

    pub fn key(&self) -> WorkloadEndpointKey {
        WorkloadEndpointKey {
            host: "host".to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: format!("default/{}", self.interface),
            endpoint: "eth0".to_owned(),
        }
    }

    pub fn endpoint(&self, tiers: Vec<TierInfo>, profiles: &[&str]) -> Message {
        let e = WorkloadEndpoint {
            active: true,
            interface_name: self.interface.clone(),
            profiles: profiles.iter().map(|p| (*p).to_owned()).collect(),
            ipv4_nets: vec![format!("{}/32", self.v4).parse().unwrap()],
            ipv6_nets: vec![format!("{}/128", self.v6).parse().unwrap()],
            tiers: tiers.into(),
            ..WorkloadEndpoint::default()
        };
        Message::WorkloadEndpointUpdate(self.key(), Arc::new(e))
    }
}

pub fn policy_key(name: &str) -> PolicyKey {
    PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name: name.to_owned() }
}

pub fn policy(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Message {
    let p = ActivePolicy { tier: "default".to_owned(), inbound, outbound, ..ActivePolicy::default() };
    Message::PolicyUpdate(policy_key(name), Arc::new(p))
}

/// A policy of figures: `pN` lets TCP in to a port from the set [`one_set`], and all out. `selector`: whom it is for.
pub fn one_policy(n: u32, port: u16, selector: &str) -> Message {
    let mut rule = Rule { protocol: Some(Protocol::Number(6)), ..allow() };
    rule.src.ip_sets = vec![format!("s:set{n}").into()];
    rule.dst.ports = vec![PortRange { first: port, last: port }];
    let p = ActivePolicy {
        tier: "default".to_owned(),
        inbound: vec![rule],
        outbound: vec![allow()],
        original_selector: selector.to_owned(),
        ..ActivePolicy::default()
    };
    Message::PolicyUpdate(policy_key(&format!("p{n}")), Arc::new(p))
}

/// Ten addresses.
pub fn one_set(n: u32) -> Message {
    let member = |i: u32| IpSetMember::Net(format!("10.{}.{}.{i}/32", n / 256, n % 256).parse().unwrap());
    Message::IpSetUpdate(IpSetUpdate {
        id: format!("s:set{n}").into(),
        kind: IpSetKind::Net,
        members: (0..10).map(member).collect(),
    })
}

/// Processor time of this process and its children so far: its own, and the kernel's in its name. Says something on a busy
/// machine too.
pub fn cpu() -> (Duration, Duration) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let mut sum = (Duration::ZERO, Duration::ZERO);
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who).expect("getrusage");
        let time = |t: nix::sys::time::TimeVal| Duration::from_micros(t.num_microseconds().cast_unsigned());
        sum.0 += time(usage.user_time());
        sum.1 += time(usage.system_time());
    }
    sum
}

pub fn profile(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Message {
    Message::ProfileUpdate(name.to_owned(), Arc::new(ActiveProfile { inbound, outbound }))
}

pub fn allow() -> Rule {
    Rule { action: Action::Allow, metadata: BTreeMap::new(), ..Rule::default() }
}

pub fn deny() -> Rule {
    Rule { action: Action::Deny, ..Rule::default() }
}

pub fn tier(ingress: &[&str], egress: &[&str]) -> TierInfo {
    let keys = |names: &[&str]| names.iter().map(|n| Arc::new(policy_key(n))).collect();
    TierInfo {
        name: "default".to_owned(),
        ingress: keys(ingress),
        egress: keys(egress),
        ..TierInfo::default()
    }
}

/// Gives a socket room for what comes while its reader is kept waiting, which on a busy machine may be for seconds.
pub fn roomy(socket: &impl std::os::fd::AsFd) {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    setsockopt(socket, RcvBufForce, &(16 << 20)).expect("root may have a large buffer");
}

/// Tries until it holds, for a minute: how busy the machine is decides nothing.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
