//! The whole of Felix with a real etcd and the real kernel, in a network namespace of its own.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use support::{BASE, World, ready};

/// With one pod, a recording, and the backend that is found.
fn world() -> World {
    let mut w = World::new(&["a"], &[]);
    w.backend_by_datastore = true;
    let record = w.dir.path().join("record").display().to_string();
    w.environment.push(("CALICO_FELIX_RECORD".to_owned(), record));
    w
}

fn rules(w: &World) -> String {
    w.exec("nft -a list table ip calico | sed 's/packets [0-9]* bytes [0-9]*//'").1
}

#[test]
fn felix_follows_the_datastore_and_survives_its_own_end() {
    if !ready() {
        return;
    }
    let mut w = world();
    w.start();
    w.eventually("ready", || w.ready() && w.live());
    assert!(rules(&w).contains("goto filter-cali-tw-calia"));
    assert!(w.exec("ip route").1.contains("10.65.0.2 dev calia scope link"));

    let policy = r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"np","namespace":"default"},"spec":{"tier":"default","selector":"app == \"a\"","types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}}]}}"#;
    w.put("networkpolicies/default/np", policy);
    w.eventually("the policy's chain", || rules(&w).contains("jump filter-cali-pi-np/default/np "));
    assert!(rules(&w).contains("tcp dport 80"));

    // SIGKILL, SIGTERM: everything stays, and the next Felix finds nothing to change.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let before = rules(&w);
        w.kill(signal);
        assert_eq!(rules(&w), before);
        w.start();
        w.eventually("ready again", || w.ready());
        assert_eq!(rules(&w), before, "{signal}");
    }

    // While the datastore is away nothing changes.
    let before = rules(&w);
    w.etcd.kill().unwrap();
    w.etcd.wait().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rules(&w), before);
    w.start_etcd();
    assert!(w.exec(&format!("etcdctl del {BASE}/networkpolicies/default/np")).0);
    w.eventually("the policy is gone", || !rules(&w).contains("filter-cali-pi-np/default/np"));

    // Dump and replay.
    let felix = env!("CARGO_BIN_EXE_calico-felix");
    let dump = w.exec(&format!("{felix} dump --socket {}", w.dir.path().join("felix.sock").display())).1;
    assert!(dump.contains("FelixHostname = n1 (environment)") && dump.contains("cali-tw-calia"), "{dump}");
    assert!(dump.contains("the kernel has what is believed"), "{dump}");
    let (ok, text) = w.exec(&format!("{felix} replay {}", w.dir.path().join("record").display()));
    assert!(ok, "{text}");
}

/// An empty datastore in the place of the right one, a locked one, half of an import: none of it takes a rule away.
#[test]
fn rules_stay_while_the_datastore_is_not_ready() {
    if !ready() {
        return;
    }
    let mut w = world();
    w.policy("a", r#"{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}}"#);
    w.start();
    let policy = |w: &World| rules(w).contains("filter-cali-pi-np/default/a ");
    w.eventually("the policy's chain", || w.ready() && policy(&w));

    // Updates come in order: what is written behind the lock is not taken, though it was seen.
    let pod = |w: &World| rules(w).contains("goto filter-cali-tw-calia");
    let remove = |w: &World, key: &str| assert!(w.exec(&format!("etcdctl del {BASE}/{key}")).0, "{key}");
    w.datastore_ready(false);
    remove(&w, "networkpolicies/default/a");
    remove(&w, "workloadendpoints/default/n1-k8s-a-eth0");
    w.eventually("not ready", || w.http(9099, "/readiness").contains("datastoreReady: false"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(policy(&w) && pod(&w) && w.live());
    w.pod("a");
    w.datastore_ready(true);
    w.eventually("the policy is gone, the pod came back", || w.ready() && !policy(&w));
    assert!(pod(&w));

    // A Felix that starts over a datastore nobody has initialised.
    w.policy("a", r#"{"action":"Allow"}"#);
    w.eventually("the policy's chain", || policy(&w));
    w.kill(Signal::SIGKILL);
    assert!(w.exec("etcdctl del --prefix /calico").0);
    w.start();
    w.eventually("not ready", || w.http(9099, "/readiness").contains("has not been initialised"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(policy(&w) && pod(&w) && w.live());
    w.datastore_ready(true);
    w.eventually("what is gone is removed", || w.ready() && !policy(&w) && !pod(&w));
}

/// The container of a node is not begun anew, with its routes, for a datastore that is away.
#[test]
fn felix_lives_while_it_waits_for_its_first_datastore() {
    if !ready() {
        return;
    }
    let mut w = world();
    let overrides = "InternalDataplaneMainLoop=11s,CalculationGraph=11s";
    w.environment.push(("FELIX_HEALTHTIMEOUTOVERRIDES".to_owned(), overrides.to_owned()));
    w.etcd.kill().unwrap();
    w.etcd.wait().unwrap();
    w.start();
    w.eventually("health is served", || w.live());
    let waited = std::time::Instant::now();
    while waited.elapsed() < Duration::from_secs(15) {
        assert!(w.live(), "{}", w.http(9099, "/liveness"));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(!w.ready());
    w.start_etcd();
    w.eventually("ready", || w.ready() && w.live());
}

#[test]
fn a_changed_configuration_is_taken_in_place() {
    if !ready() {
        return;
    }
    let mut w = world();
    for (name, value) in [("METRICS", "true"), ("PROCESSMETRICS", "false")] {
        w.environment.push((format!("FELIX_PROMETHEUS{name}ENABLED"), value.to_owned()));
    }
    w.start();
    w.eventually("ready", || w.ready());
    let to_host = |w: &World| w.exec("nft list chain ip calico filter-cali-wl-to-host").1;
    assert!(to_host(&w).contains("drop"));
    let pid = w.felix.as_ref().unwrap().id();
    w.put("felixconfigurations/default", r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"defaultEndpointToHostAction":"Accept","ipipMTU":1400,"bpfEnabled":true}}"#);
    w.eventually("the host accepts", || to_host(&w).contains("accept"));
    w.put("felixconfigurations/node.n1", r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"node.n1"},"spec":{"defaultEndpointToHostAction":"Drop"}}"#);
    w.eventually("the node's own word wins", || to_host(&w).contains("drop"));
    w.eventually("ready", || w.ready());
    assert_eq!(w.felix.as_ref().unwrap().id(), pid);
    assert!(w.felix.as_mut().unwrap().try_wait().unwrap().is_none(), "the process went on");
    // Counters go on: three sessions asked the datastore for everything, each at its beginning.
    w.eventually("counters go on, without figures of the process", || {
        let text = w.http(9091, "/metrics");
        let resyncs = text.lines().find_map(|l| l.strip_prefix("felix_resyncs_started "));
        resyncs.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 3) && !text.contains("\nprocess_")
    });
    // What has no effect is said by name, once, though the configuration was taken three times.
    let log = std::fs::read_to_string(w.dir.path().join("log")).unwrap();
    for (parameter, field) in [("IpInIpMtu", "ipipMTU"), ("BPFEnabled", "bpfEnabled")] {
        let said = log.lines().filter(|l| l.contains("no feature here uses") && l.contains(parameter));
        let said: Vec<&str> = said.collect();
        assert_eq!(said.len(), 1, "{log}");
        assert!(said[0].contains("WARNING") && said[0].contains(field), "{}", said[0]);
    }
    // What would end the start ends Felix later too, with a reason; rules stay.
    let before = to_host(&w);
    w.put("felixconfigurations/node.n1", r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"node.n1"},"spec":{"nftablesMarkMask":458752}}"#);
    w.eventually("Felix ends", || !w.live());
    assert!(!w.felix.as_mut().unwrap().wait().unwrap().success());
    let log = std::fs::read_to_string(w.dir.path().join("log")).unwrap();
    let reason = log.lines().find(|l| l.contains("NftablesMarkMask") && l.contains("needs 5 bits"));
    assert!(reason.is_some_and(|l| l.contains("FelixConfiguration of this node")), "{log}");
    assert_eq!(to_host(&w), before);
}

#[test]
fn a_changed_backend_is_switched_in_place() {
    if !ready() {
        return;
    }
    let mut w = world();
    w.start();
    w.eventually("ready", || w.ready());
    let pid = w.felix.as_ref().unwrap().id();
    // What stands of ours: a table of our own, chains in iptables' of either kind, IP sets.
    let standing = || {
        let has = |command: &str, word: &str| w.exec(command).1.contains(word);
        [
            has("nft list tables", "ip calico"),
            has("iptables-nft-save 2>/dev/null", "-A cali-from-wl-dispatch -i calia"),
            has("iptables-legacy-save", ":cali-tw-calia"),
            has("ipset list -n", "cali40"),
        ]
    };
    let configure = |spec: &str| {
        let head = r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"}"#;
        w.put("felixconfigurations/default", &format!(r#"{head},"spec":{{{spec}}}}}"#));
    };
    assert_eq!(standing(), [true, false, false, false], "nobody uses iptables here");
    configure(r#""nftablesMode":"Disabled","iptablesBackend":"NFT""#);
    w.eventually("iptables-nft alone", || standing() == [false, true, false, true]);
    configure(r#""nftablesMode":"Disabled","iptablesBackend":"Legacy","chainInsertMode":"Append""#);
    w.eventually("iptables-legacy alone", || standing() == [false, false, true, true]);
    configure(r#""nftablesMode":"Enabled""#);
    w.eventually("nftables alone", || standing() == [true, false, false, false]);
    w.eventually("ready", || w.ready());
    assert_eq!(w.felix.as_ref().unwrap().id(), pid);
}
