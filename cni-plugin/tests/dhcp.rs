//! Addresses from a DHCP server: the CNI project's own `dhcp` plugin with its daemon, and dnsmasq on the host.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libcalico_testing::{Need, can_run, within};
use serde_json::{Value, json};
use support::kube::{cni_path, have_plugin};
use support::{Answer, Machine, NetNs, environment, run};

/// The server's own interface. Pods' interfaces have no address of the range; dnsmasq treats them as if they were it.
const BRIDGE: &str = "lease0";

struct Daemons(Vec<Child>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// dnsmasq and the plugin's daemon, which listens on `socket`.
fn daemons(m: &Machine, socket: &Path) -> Daemons {
    let ns = &m.ns.name;
    run("ip", &["-n", ns, "link", "add", BRIDGE, "type", "veth", "peer", "lease0p"]);
    run("ip", &["-n", ns, "address", "add", "10.79.0.1/24", "dev", BRIDGE]);
    for end in [BRIDGE, "lease0p"] {
        run("ip", &["-n", ns, "link", "set", end, "up"]);
    }
    let dhcp = cni_path().split(':').map(|d| Path::new(d).join("dhcp")).find(|p| p.is_file()).unwrap();
    let all = m.ns.enter(|| {
        let server = start(
            Command::new("dnsmasq")
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--port=0",
                    "--user=root",
                    "--pid-file",
                ])
                .arg(format!("--interface={BRIDGE}"))
                .arg(format!("--bridge-interface={BRIDGE},cali*"))
                .args([
                    "--dhcp-range=10.79.0.10,10.79.0.50,255.255.255.0,10m",
                    "--dhcp-authoritative",
                    "--no-ping",
                ])
                .arg(format!("--dhcp-leasefile={}", m.dir.path().join("leases").display())),
        );
        let client = start(Command::new(dhcp).args(["daemon", "-socketpath"]).arg(socket));
        vec![server, client]
    });
    let all = Daemons(all);
    let deadline = Instant::now() + Duration::from_secs(60);
    let served = || m.ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default());
    // Port 67.
    while !socket.exists() || !served().contains(":0043 ") {
        assert!(Instant::now() < deadline, "dnsmasq or the plugin's daemon did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    all
}

#[test]
fn a_lease_is_taken_for_the_pod_and_given_back() {
    let needs = [Need::Root, Need::Etcd, Need::Program("dnsmasq", "dnsmasq-base")];
    if !can_run(&needs) || !have_plugin("dhcp") {
        return;
    }
    let m = Machine::new();
    m.seed(&[]);
    let socket = m.dir.path().join("dhcp.sock");
    let conf = m.conf("1.0.0", |c| c["ipam"] = json!({"type": "dhcp", "daemonSocketPath": socket}));
    let pod = NetNs::new();
    let netns = pod.path();
    let path = cni_path();
    let call = |command: &str, conf: &Value| -> Answer {
        let mut env = environment(command, "c1", &netns);
        env.retain(|(name, _)| *name != "CNI_PATH");
        env.push(("CNI_PATH", &path));
        m.call_with("calico", conf, &env)
    };
    let leases = || std::fs::read_to_string(m.dir.path().join("leases")).unwrap_or_default();

    // Without the daemon: told, and nothing is left.
    let e = call("ADD", &conf);
    assert_eq!(e.code(), 101, "{e:?}");
    assert!(e.text.contains("dhcp.sock"), "{}", e.text);
    assert_eq!(pod.exec("ip -o link show eth0"), "");
    m.assert_clean();

    let _daemons = daemons(&m, &socket);
    let result = call("ADD", &conf).success();
    let address = result.address();
    assert!(address.starts_with("10.79.0.") && address.ends_with("/32"), "{address}");
    let bare = address.trim_end_matches("/32");
    within(Duration::from_secs(60), "the server wrote it down", || leases().contains(bare));
    assert!(pod.exec("ip -4 address show eth0").contains(&address));
    assert!(m.ns.exec("ip route").contains(&format!("{bare} dev calic1")));
    let dump = m.dump();
    let endpoint = dump.iter().find(|(k, _)| k.contains("workloadendpoints")).unwrap().1;
    assert_eq!(endpoint["spec"]["ipNetworks"], json!([address]));
    let mac = endpoint["spec"]["mac"].as_str().unwrap();
    assert!(leases().contains(mac), "{mac}: {}", leases());

    let with_result = m.conf("1.0.0", |c| {
        c["ipam"] = conf["ipam"].clone();
        c["prevResult"] = result.json();
    });
    call("CHECK", &with_result).success();
    for _ in 0..2 {
        call("DEL", &conf).success();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while leases().contains(bare) {
        assert!(Instant::now() < deadline, "the lease was not given back: {}", leases());
        std::thread::sleep(Duration::from_millis(50));
    }
    run("ip", &["-n", &m.ns.name, "link", "del", BRIDGE]);
    m.assert_clean();
}
