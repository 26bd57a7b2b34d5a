//! The lab as a container runtime, with a stand-in for every product binary: what a plugin is told, in which order,
//! and what is left when it fails. (Real plugins are what every other test uses.)

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use common::{ETCD, bin_dir, can_run, config, up};
use e2e::kernel::netns;
use e2e::probe::Protocol;
use e2e::{Expect, Lab, LabConfig, LabError, Place, PodName, PodSpec, Target};
use serde_json::{Value, json};

/// Wires a pod up with plain routes, and writes down what it was asked.
const PLUGIN: &str = r#"#!/bin/sh
{ cat; echo; } > "$RECORD/$CNI_COMMAND.stdin"
env | grep -e ^CNI_ | sort > "$RECORD/$CNI_COMMAND.env"
ns=$(basename "$CNI_NETNS")
case "$CNI_COMMAND $CNI_ARGS" in
ADD*POD_NAME=bad*) echo '{"code": 11, "msg": "no address", "details": "pool is full"}'; exit 1;;
ADD*) set -e
  ip link add cali0 type veth peer name eth0 netns "$ns"
  ip link set cali0 up; ip route add 10.65.0.7/32 dev cali0
  for key in proxy_arp forwarding; do echo 1 > /proc/sys/net/ipv4/conf/cali0/$key; done
  ip -n "$ns" link set eth0 up; ip -n "$ns" addr add 10.65.0.7/32 dev eth0
  ip -n "$ns" route add 169.254.1.1 dev eth0; ip -n "$ns" route add default via 169.254.1.1
  echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.65.0.7/32"}]}';;
DEL*) ip link del cali0 2>/dev/null; exit 0;;
esac
"#;

struct Binaries(PathBuf);

impl Binaries {
    fn new(lab: &str, node: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lab-runtime-{lab}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        symlink(bin_dir().join("lab"), dir.join("lab")).unwrap();
        let plugin = PLUGIN.replace("$RECORD", &dir.display().to_string());
        let calicoctl = format!("#!/bin/sh\ncat >> {}/calicoctl.stdin\n", dir.display());
        for (name, script) in [
            ("calico", plugin.as_str()),
            ("calico-node", node),
            ("calicoctl", &calicoctl),
            ("calico-ipam", "#!/bin/sh\n"),
            ("calico-felix", "#!/bin/sh\n"),
            ("confd", "#!/bin/sh\n"),
            ("bird-rs", "#!/bin/sh\n"),
        ] {
            fs::write(dir.join(name), script).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(dir)
    }

    fn recorded(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn nothing_left_of_pods(lab: &Lab) {
    assert!(lab.state().pods().is_empty());
    assert!(netns::list(&format!("lab-{}-p-", lab.name())).unwrap().is_empty());
}

#[test]
fn plugins_are_told_what_a_runtime_tells_and_a_failing_one_leaves_no_pod() {
    if !can_run(&[ETCD]) {
        return;
    }
    let binaries =
        Binaries::new("tc", "#!/bin/sh\ncase \"$1\" in -felix-ready) exit 0;; esac\nexec sleep 1000\n");
    let lab = up(LabConfig { nodes: 1, typha: 0, bin_dir: Some(binaries.0.clone()), ..config("tc") });
    let node = Place::Machine("n1".to_owned());
    let spec = PodSpec::new("ns", "web", "1").unwrap().label("app", "web").serve(80).serve(81);
    let pod = lab.pod_run(spec.clone()).unwrap();
    assert_eq!(pod.address(), Some("10.65.0.7".parse().unwrap()));
    for (to, protocol) in [("ns/web", Protocol::Tcp), ("ns/web:81", Protocol::Udp)] {
        let report = lab.probe(&node, &Target::parse(to).unwrap(), protocol, Some(Expect::Allow)).unwrap();
        assert!(report.matches(Expect::Allow), "{report}");
    }
    let env = binaries.recorded("ADD.env");
    let netns = lab.netns_of(&Place::Pod(pod.name.clone()));
    assert!(env.contains(&format!("CNI_NETNS=/run/netns/{netns}\n")), "{env}");
    assert!(env.contains(&format!("CNI_CONTAINERID={}\n", pod.container_id)), "{env}");
    assert!(env.contains(";K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID="), "{env}");
    assert!(env.contains("CNI_IFNAME=eth0\n") && env.contains("CNI_PATH=/opt/cni/bin\n"), "{env}");
    let asked: Value = serde_json::from_str(&binaries.recorded("ADD.stdin")).unwrap();
    assert_eq!(asked["args"]["labels"], json!([{"key": "app", "value": "web"}]));
    assert_eq!(asked["nodename"], "n1");
    assert!(asked.get("prevResult").is_none());
    assert!(binaries.recorded("calicoctl.stdin").contains("name: kns.ns\n"));

    assert!(matches!(lab.pod_run(spec), Err(LabError::PodExists { .. })));
    lab.pod_delete(&pod.name).unwrap();
    let asked: Value = serde_json::from_str(&binaries.recorded("DEL.stdin")).unwrap();
    assert_eq!(asked["prevResult"]["ips"][0]["address"], "10.65.0.7/32");
    nothing_left_of_pods(&lab);

    let error = lab.pod_run(PodSpec::new("ns", "bad", "n1").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin calico ADD for pod ns/bad failed: no address pool is full");
    nothing_left_of_pods(&lab);
    assert!(matches!(lab.pod_delete(&PodName::new("ns", "bad").unwrap()), Err(LabError::NoSuchPod { .. })));
    assert!(lab.pod_run(PodSpec::new("ns", "web", "n9").unwrap()).is_err());
    assert!(!Path::new("/opt/cni").exists() || !Path::new("/opt/cni/bin/calico").is_symlink());
}

#[test]
fn a_daemon_that_ends_is_told_with_its_last_words_and_nothing_stays() {
    if !can_run(&[ETCD]) {
        return;
    }
    let binaries = Binaries::new("td", "#!/bin/sh\nif [ -z \"$1\" ]; then echo no luck >&2; fi; exit 1\n");
    let config = LabConfig { nodes: 1, typha: 0, bin_dir: Some(binaries.0.clone()), ..config("td") };
    let error = Lab::up_or_down(config, &|_| {}).unwrap_err();
    assert!(
        matches!(&error, LabError::Daemon { machine, tail, .. } if machine == "n1" && tail == "no luck"),
        "{error}"
    );
    assert!(netns::list("lab-td-").unwrap().is_empty());
}
