//! `cnitool`, the CNI project's own driver, calls the plugin as a runtime does: every command in every
//! version, and the plugins that follow ours in a list.

mod support;

use serde_json::{Value, json};
use support::driver::Driver;
use support::kube::have_plugin;
use support::{NetNs, run};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn every_command_works_in_every_version() {
    let Some(d) = Driver::new() else { return };
    for version in VERSIONS {
        d.configure(version, &[]);
        let pods = [NetNs::new(), NetNs::new()];
        let paths = [pods[0].path(), pods[1].path()];
        let say = |what: &str, e: String| -> ! { panic!("{version} {what}: {e}") };
        d.call("status", &paths[0]).unwrap_or_else(|e| say("STATUS", e));

        let mut addresses = Vec::new();
        for path in &paths {
            let result = d.call("add", path).unwrap_or_else(|e| say("ADD", e));
            let result: Value = serde_json::from_str(&result).unwrap();
            assert_eq!(result["cniVersion"], version);
            addresses.push(result["ips"][0]["address"].as_str().unwrap().to_owned());
        }
        assert_ne!(addresses[0], addresses[1]);
        assert!(pods[0].exec("ip -4 address show eth0").contains(&addresses[0]), "{version}: {addresses:?}");

        // Before 0.4.0 there is no CHECK, and libcni says so by itself.
        match d.call("check", &paths[0]) {
            Ok(_) => assert!(version >= "0.4.0"),
            Err(e) => {
                assert!(version < "0.4.0" && e.contains("does not support the CHECK"), "{version}: {e}");
            }
        }
        if version >= "0.4.0" {
            run("ip", &["-n", &pods[0].name, "address", "flush", "dev", "eth0"]);
            let e = d.call("check", &paths[0]).unwrap_err();
            assert!(e.contains(addresses[0].trim_end_matches("/32")), "{version}: {e}");
        }

        for _ in 0..2 {
            d.call("del", &paths[0]).unwrap_or_else(|e| say("DEL", e));
        }
        assert_eq!(d.machine.allocated().len(), 1, "{version}");
        assert_eq!(pods[0].exec("ip -o link show eth0"), "");

        // cnitool names no valid attachment: everything of this network is to go.
        d.call("gc", &paths[1]).unwrap_or_else(|e| say("GC", e));
        d.machine.assert_clean();
    }
}

#[test]
fn errors_reach_the_runtime_with_what_to_do() {
    let Some(mut d) = Driver::new() else { return };
    d.configure("1.1.0", &[]);
    let pod = NetNs::new();
    let missing = d.call("add", "/run/netns/cnit-nothing").unwrap_err();
    assert!(missing.contains("cnit-nothing"), "{missing}");
    d.machine.stop_etcd();
    let begun = std::time::Instant::now();
    for command in ["add", "status"] {
        let e = d.call(command, &pod.path()).unwrap_err();
        assert!(e.contains("127.0.0.1:2379") && e.contains("check that it runs"), "{command}: {e}");
    }
    assert!(begun.elapsed().as_secs() < 600, "{:?}", begun.elapsed());
    d.machine.start_etcd();
    d.call("add", &pod.path()).unwrap();
    d.call("del", &pod.path()).unwrap();
    d.machine.assert_clean();
}

/// What `calico.yaml` has after `calico`, and `tuning`.
#[test]
fn plugins_that_follow_in_the_list_find_what_they_need() {
    if !["portmap", "bandwidth", "tuning"].iter().all(|p| have_plugin(p)) {
        return;
    }
    let Some(d) = Driver::new() else { return };
    let (host, pod) = (&d.machine.ns, NetNs::new());
    let data = d.machine.dir.path().join("tuning");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let others = [
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "dataDir": data}),
    ];
    let all: Vec<Value> = std::iter::once(portmap).chain(others.clone()).collect();
    d.configure("1.0.0", &all);
    // A host has an address and a way out: for those it answers its pods' ARP.
    run("ip", &["-n", &host.name, "link", "add", "out0", "type", "veth", "peer", "out1"]);
    run("ip", &["-n", &host.name, "address", "add", "192.0.2.10/24", "dev", "out0"]);
    for end in ["out0", "out1"] {
        run("ip", &["-n", &host.name, "link", "set", end, "up"]);
    }
    run("ip", &["-n", &host.name, "route", "add", "default", "via", "192.0.2.1"]);
    let capabilities = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
    });
    let call = |command: &str| d.call_with(command, &pod.path(), &capabilities);

    let result: Value = serde_json::from_str(&call("add").unwrap()).unwrap();
    let interface = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    assert!(interface.starts_with("cali"), "{result}");
    assert_eq!(pod.sysctl("core/somaxconn"), "500");
    // The host's port is the pod's.
    let listener = pod.enter(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap());
    let connect = || {
        let address = "192.0.2.10:8080".parse().unwrap();
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(60)).map(|_| ())
    };
    host.enter(connect).unwrap();
    drop(listener);
    // Both ways are slowed down: at the host's end, and at a device that has what comes out of it.
    let limits = host.exec("tc qdisc show");
    assert_eq!(limits.matches("qdisc tbf").count(), 2, "{limits}");
    assert!(limits.contains(&format!("dev {interface}")), "{limits}");
    // portmap's own CHECK wants rules for IPv6 of a pod that has none, where the host has ip6tables.
    d.configure("1.0.0", &others);
    call("check").unwrap();
    d.configure("1.0.0", &all);

    for _ in 0..2 {
        call("del").unwrap();
    }
    assert_eq!(host.exec("ip -o link show type ifb"), "");
    assert!(host.enter(connect).is_err());
    run("ip", &["-n", &host.name, "link", "del", "out0"]);
    d.machine.assert_clean();
}
