//! Daemons are killed and the datastore is stopped while packets flow: nothing may be felt, in either direction:
//! what is allowed goes on, what is denied stays denied.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{
    ETCD, alone, becomes, can_run, config, deny_ingress_to, eventually, expect, inside, machine, pod, up,
};
use e2e::lab::TYPHA_PORT;
use e2e::traffic::{Flow, Pinger, Prober};
use e2e::{Expect, Lab, LabConfig, Pod};
use nix::sys::signal::Signal;

/// The longest silence of a stream that still counts as undisturbed, also where the machine is busy. Lost packets are
/// counted beside it.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a new policy may take to act on a busy machine.
const ACTS: Duration = Duration::from_secs(120);

/// Traffic of three kinds between two nodes.
struct Watch {
    pinger: Pinger,
    flow: Flow,
    prober: Prober,
}

struct Pods {
    client: Pod,
    server: Pod,
    closed: Pod,
}

impl Pods {
    fn make(lab: &Lab) -> Self {
        let pods = Self {
            client: pod(lab, "client", "n1", &[]),
            server: pod(lab, "server", "n2", &[]),
            closed: pod(lab, "closed", "n2", &[("app", "closed")]),
        };
        expect(lab, &pods.client, &pods.closed, Expect::Allow);
        lab.calicoctl(&["apply", "-f", "-"], &deny_ingress_to("closed")).unwrap();
        becomes(lab, &pods.client, &pods.closed, Expect::Deny);
        expect(lab, &pods.client, &pods.server, Expect::Allow);
        pods
    }

    fn watch(&self, lab: &Lab) -> Watch {
        let (from, to) = (inside(&self.client), inside(&self.server));
        let address = self.server.address().unwrap();
        Watch {
            pinger: Pinger::start(lab, &from, address).unwrap(),
            flow: Flow::start(lab, &from, &to, address).unwrap(),
            prober: Prober::start(lab, &from, (self.closed.address().unwrap(), 80).into()),
        }
    }
}

impl Watch {
    fn stop_undisturbed(self, during: &str) {
        let (pings, flow, denied) = (self.pinger.stop(), self.flow.stop(), self.prober.stop().unwrap());
        eprintln!(
            "{during}: {} pings, {} lost; {} MiB, longest silence {:?}; {} denied tries",
            pings.sent,
            pings.lost.len(),
            flow.bytes >> 20,
            flow.longest_silence,
            denied.tries
        );
        assert!(pings.lost.is_empty(), "{during}: pings lost at {:?}", pings.lost);
        assert!(flow.error.is_none(), "{during}: {flow:?}");
        assert!(flow.longest_silence < SILENCE, "{during}: {flow:?}");
        assert!(denied.tries > 1 && denied.breaches.is_empty(), "{during}: {denied:?}");
    }
}

/// Kills a daemon everywhere it runs and waits until it is back.
fn kill_everywhere(lab: &Lab, daemons: &[&str]) {
    let places = |daemon: &str| if daemon == "calico-typha" { vec!["infra"] } else { vec!["n1", "n2"] };
    let all: Vec<(&str, &str)> =
        daemons.iter().flat_map(|&d| places(d).into_iter().map(move |place| (place, d))).collect();
    let killed: Vec<_> =
        all.iter().map(|(place, d)| lab.kill_process(place, d, Signal::SIGKILL).unwrap()).collect();
    if daemons.contains(&"calico-typha") {
        // Typha has no supervisor of ours: a cluster's kubelet would start it again.
        let gone = killed.iter().flatten().all(|id| id.wait_gone(Duration::from_secs(180)));
        assert!(gone, "a killed daemon is still there");
        lab.restart_daemon("infra", "typha").unwrap();
    }
    for ((place, daemon), killed) in all.iter().zip(&killed) {
        eventually(&format!("{daemon} on {place} to be back"), Duration::from_secs(180), || {
            let now = lab.processes(place, daemon).unwrap();
            let back = now.iter().any(|p| !killed.contains(&p.id));
            if back { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
    for node in ["n1", "n2"] {
        eventually(&format!("{node} to be ready"), Duration::from_secs(180), || {
            lab.node_ready(node).unwrap()
        });
    }
}

#[test]
fn killing_daemons_loses_no_packet_and_opens_no_door() {
    if !can_run(&[ETCD]) {
        return;
    }
    let _alone = alone();
    let lab = up(LabConfig { nodes: 2, ..config("tr1") });
    let pods = Pods::make(&lab);
    for node in ["n1", "n2"] {
        eventually(&format!("{node} to follow Typha"), Duration::from_secs(180), || {
            let sockets = lab.exec_ok(&machine(node), &["cat", "/proc/net/tcp"], "").unwrap();
            // Column 3 is the remote address with the port in hexadecimal, column 4 the state; 01 is established.
            let words = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let typha = format!(":{TYPHA_PORT:04X}");
            let found = words.filter(|w| w.len() > 3).any(|w| w[2].ends_with(&typha) && w[3] == "01");
            if found { Ok(()) } else { Err("no connection to its port".to_owned()) }
        });
    }
    let all = ["calico-felix", "bird-rs", "confd", "calico-typha"];
    for daemons in [&all[0..1], &all[1..2], &all[2..3], &all[3..4], &all[..]] {
        let watch = pods.watch(&lab);
        thread::sleep(Duration::from_millis(500));
        kill_everywhere(&lab, daemons);
        thread::sleep(Duration::from_secs(1));
        watch.stop_undisturbed(&format!("SIGKILL of {}", daemons.join(", ")));
    }
    // The restarted daemons still do their work.
    lab.calicoctl(&["delete", "-f", "-"], &deny_ingress_to("closed")).unwrap();
    becomes(&lab, &pods.client, &pods.closed, Expect::Allow);
}

#[test]
fn a_datastore_that_is_away_changes_nothing_and_is_followed_at_once_when_it_is_back() {
    if !can_run(&[ETCD]) {
        return;
    }
    let _alone = alone();
    let lab = up(LabConfig { nodes: 2, ..config("tr2") });
    let pods = Pods::make(&lab);
    let away: u64 = std::env::var("LAB_ETCD_OUTAGE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(15);
    let start = Instant::now();
    let watch = pods.watch(&lab);
    let began = start.elapsed();
    let stopped = lab.kill_process("infra", "etcd", Signal::SIGTERM).unwrap();
    assert!(stopped.iter().all(|id| id.wait_gone(Duration::from_secs(180))));
    thread::sleep(Duration::from_secs(away));
    lab.restart_daemon("infra", "etcd").unwrap();
    eventually("etcd to answer", Duration::from_secs(180), || {
        let health = lab.exec(&machine("infra"), &["etcdctl", "endpoint", "health"], "").unwrap();
        if health.code == 0 { Ok(()) } else { Err(health.stderr) }
    });
    // The denied pair is opened: the prober's first answer shows when the policy was gone.
    let changed = start.elapsed();
    lab.calicoctl(&["delete", "-f", "-"], &deny_ingress_to("closed")).unwrap();
    eventually("the new policy to act", ACTS, || {
        if watch.prober.breached() { Ok(()) } else { Err("nothing is answered".to_owned()) }
    });
    let (pings, flow, denied) = (watch.pinger.stop(), watch.flow.stop(), watch.prober.stop().unwrap());
    assert!(pings.lost.is_empty(), "pings lost at {:?}", pings.lost);
    assert!(flow.error.is_none() && flow.longest_silence < SILENCE, "{flow:?}");
    let Some((opened, _)) = denied.breaches.first() else {
        panic!("the new policy did not act; {} tries", denied.tries)
    };
    let after = opened.saturating_sub(changed);
    eprintln!("etcd away for {away} s; the next policy acted {after:?} after calicoctl was called");
    // Denied until then. The prober's clock began a moment after the test's.
    let early = changed.saturating_sub(began);
    assert!(*opened > early, "opened at {opened:?}, written after {changed:?}");
}
