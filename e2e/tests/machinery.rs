//! The laboratory itself, before any Calico is in it: wires, isolation, commands, traffic, and that nothing stays.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{bin_dir, can_run, config, eventually, machine};
use e2e::kernel::netns;
use e2e::probe::Protocol;
use e2e::state::StateDir;
use e2e::traffic::{Flow, Pinger, Prober};
use e2e::{Expect, Lab, LabConfig, LabError, Seen, Target};

fn probe(lab: &Lab, from: &str, to: &str, protocol: Protocol, expect: Expect) {
    let report = lab.probe(&machine(from), &Target::parse(to).unwrap(), protocol, Some(expect)).unwrap();
    assert!(report.matches(expect), "{from} → {to}: {report}, expected {expect}");
}

/// Folders of Calico that a lab must not make on the host.
const HOST: [&str; 8] = [
    "/etc/calico",
    "/etc/cni",
    "/opt/cni",
    "/run/calico",
    "/var/lib/calico",
    "/var/lib/cni",
    "/var/lib/etcd/lab",
    "/var/log/calico",
];

/// What must be the same before and after a lab.
fn traces(lab: &str) -> (Vec<String>, bool, Vec<bool>) {
    let on_host = HOST.iter().map(|path| Path::new(path).exists()).collect();
    (netns::list(&format!("lab-{lab}-")).unwrap(), StateDir::of(lab).exists(), on_host)
}

#[test]
fn machines_reach_each_other_over_switch_and_router_and_nothing_stays_behind() {
    if !can_run(&[]) {
        return;
    }
    let config = LabConfig { subnets: 2, ..config("tm1") };
    let before = traces("tm1");
    assert!(before.0.is_empty() && !before.1);
    let lab = Lab::bare(config).unwrap();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        // n1 and n3 share a subnet, n2 is behind the router.
        for to in ["n3", "n2", "outside", "[fd00:31:0:1::2]:80"] {
            probe(&lab, "n1", to, protocol, Expect::Allow);
        }
        // An address that is routed to nobody: the outside has no way to pods.
        probe(&lab, "outside", "n1", protocol, Expect::Allow);
    }
    let seen =
        lab.probe(&machine("n1"), &Target::parse("outside").unwrap(), Protocol::Tcp, None).unwrap().seen;
    assert_eq!(seen, Seen::Answered { by: "outside".to_owned(), source: "172.31.0.1".parse().unwrap() });
    let closed = Target::parse("n2:81").unwrap();
    let report = lab.probe(&machine("n1"), &closed, Protocol::Tcp, Some(Expect::Deny)).unwrap();
    assert_eq!(report.seen, Seen::Refused);
    drop(lab);
    assert_eq!(traces("tm1"), before);
}

#[test]
fn a_machine_has_its_own_files_and_hostname_and_cannot_change_the_hosts() {
    if !can_run(&[]) {
        return;
    }
    let lab = Lab::bare(LabConfig { nodes: 2, ..config("tm2") }).unwrap();
    let run =
        |place: &str, script: &str| lab.exec(&machine(place), &["sh", "-c", script], "some input").unwrap();
    for dir in
        ["/etc/calico", "/var/run/calico", "/run/calico", "/var/lib/calico", "/opt/cni/bin", "/etc/cni/net.d"]
    {
        let file = format!("{dir}/lab-test");
        assert_eq!(run("n1", &format!("cat > {file}")).code, 0, "{dir}");
        assert_eq!(run("n1", &format!("cat {file}")).stdout, "some input", "{dir}");
        assert_ne!(run("n2", &format!("cat {file}")).code, 0, "{dir} is shared");
        assert!(!Path::new(&file).exists(), "{file} is on the host");
    }
    for dir in ["/etc", "/var/lib", "/opt", "/var/log"] {
        assert_ne!(run("n1", &format!("touch {dir}/lab-test")).code, 0, "{dir} can be written");
    }
    assert_eq!(run("n1", "hostname").stdout, "n1\n");
    assert_eq!(run("n1", "ls /sys/class/net").stdout, "eth0\nlo\n");
    assert_eq!(run("infra", "exit 7").code, 7);
    let env = run("infra", "env").stdout;
    assert!(env.contains("DATASTORE_TYPE=etcdv3\n"), "{env}");
    assert!(env.contains("ETCD_ENDPOINTS=http://172.31.0.250:2379\n"), "{env}");
}

#[test]
fn traffic_generators_tell_a_quiet_line_from_a_disturbed_one() {
    if !can_run(&[]) {
        return;
    }
    let lab = Lab::bare(LabConfig { nodes: 2, ..config("tm3") }).unwrap();
    let (n1, n2) = (machine("n1"), machine("n2"));
    let to = "172.31.0.2".parse().unwrap();
    let start = || (Pinger::start(&lab, &n1, to).unwrap(), Flow::start(&lab, &n1, &n2, to).unwrap());

    let (pinger, flow) = start();
    thread::sleep(Duration::from_secs(1));
    let (pings, stream) = (pinger.stop(), flow.stop());
    assert!(pings.sent >= 2 && pings.lost.is_empty(), "{pings:?}");
    assert!(stream.error.is_none() && stream.bytes > 0, "{stream:?}");

    let (pinger, flow) = start();
    let set = |state: &str| lab.exec_ok(&machine("fab"), &["ip", "link", "set", "p-n2", state], "").unwrap();
    set("down");
    thread::sleep(Duration::from_secs(2));
    set("up");
    thread::sleep(Duration::from_secs(1));
    let (pings, stream) = (pinger.stop(), flow.stop());
    assert!(pings.lost.len() >= 2, "{} lost of {}", pings.lost.len(), pings.sent);
    assert!(stream.longest_silence > Duration::from_millis(1500), "{stream:?}");

    let open = Prober::start(&lab, &n1, (to, 80).into());
    let closed = Prober::start(&lab, &n1, "172.31.0.77:80".parse().unwrap());
    eventually("an answer", Duration::from_secs(180), || {
        if open.breached() { Ok(()) } else { Err("none".to_owned()) }
    });
    assert!(!open.stop().unwrap().breaches.is_empty());
    thread::sleep(Duration::from_secs(1));
    let closed = closed.stop().unwrap();
    assert!(
        closed.tries > 1 && closed.breaches.iter().all(|(_, seen)| matches!(seen, Seen::Failed(_))),
        "{closed:?}"
    );
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_standing_lab_left_alone() {
    if !can_run(&[]) {
        return;
    }
    let lab = Lab::bare(LabConfig { nodes: 1, ..config("tm4") }).unwrap();
    let second = LabConfig { bin_dir: Some(bin_dir()), ..LabConfig::named("tm4") };
    assert!(matches!(Lab::bare(second.clone()), Err(LabError::Exists { .. })));
    assert!(matches!(Lab::up_or_down(second, &|_| {}), Err(LabError::Exists { .. })));
    probe(&lab, "n1", "outside", Protocol::Tcp, Expect::Allow);
    assert!(matches!(Lab::attach("tm4none"), Err(LabError::NotFound { .. })));
    assert!(matches!(Lab::down("tm4none"), Err(LabError::NotFound { .. })));
}

#[test]
fn down_ends_processes_that_nobody_wrote_down() {
    if !can_run(&[]) {
        return;
    }
    let lab = Lab::bare(LabConfig { nodes: 1, ..config("tm5") }).unwrap();
    lab.exec_ok(&machine("n1"), &["sh", "-c", "setsid sleep 1234 >/dev/null 2>&1 &"], "").unwrap();
    let sleeping = || lab.processes("n1", "sleep").unwrap();
    // The shell returns before its child has become `sleep`.
    eventually("sleep to run", Duration::from_secs(180), || {
        if sleeping().len() == 1 { Ok(()) } else { Err(format!("{:?}", sleeping())) }
    });
    let process = sleeping()[0].id;
    drop(lab);
    assert!(!process.alive());
}

#[test]
fn what_a_killed_up_left_is_removed_by_down() {
    if !can_run(&[]) {
        return;
    }
    let lab = bin_dir().join("lab");
    let before = {
        let _ = Lab::down("tm6");
        traces("tm6")
    };
    // Killed at different moments: while machines are made, and later while something is waited for.
    for millis in [5, 30, 80, 150, 300, 800, 1500, 2500] {
        let mut up = Command::new(&lab)
            .args(["up", "--name", "tm6", "--nodes", "3"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        up.kill().unwrap();
        up.wait().unwrap();
        let start = Instant::now();
        match Lab::down("tm6") {
            Ok(()) | Err(LabError::NotFound { .. }) => {}
            Err(e) => panic!("after {millis} ms: {e}"),
        }
        assert_eq!(traces("tm6"), before, "after {millis} ms");
        assert!(start.elapsed() < Duration::from_secs(300), "down took {:?}", start.elapsed());
    }
}
