//! The program itself, with upstream's flags, on a real etcd.

use std::process::{Command, Output};

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{ClientConfig, connect, resources};
use libcalico_testing::RealEtcd;

fn confd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confd")).args(arguments).env("NODENAME", "n1").output().unwrap()
}

#[tokio::test]
async fn onetime_renders_from_etcd_and_ends() {
    let Some(etcd) = RealEtcd::start() else { return };
    let endpoint = etcd.endpoint();
    let config =
        ClientConfig::from_lookup(|name| (name == "ETCD_ENDPOINTS").then(|| endpoint.clone())).unwrap();
    let store = connect(&config).await.unwrap();
    for i in [1, 2] {
        let json =
            format!(r#"{{"metadata":{{"name":"n{i}"}},"spec":{{"bgp":{{"ipv4Address":"10.0.0.{i}/24"}}}}}}"#);
        let node = Resource::from_json(Kind::Node, json.as_bytes()).unwrap();
        resources::create(store.as_ref(), node).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let confdir = directory.path().display().to_string();
    let file = directory.path().join("config/bird.cfg");
    let endpoint = etcd.endpoint();
    let common = ["-node", &endpoint, "-confdir", &confdir, "-prefix", "/calico", "-control-socket="];

    let out = confd(&[&common[..], &["-onetime", "-noop=true", "-check-command", "false"]].concat());
    assert!(!out.status.success() && !file.exists(), "a refused file is an error of -onetime");

    let out = confd(&[&common[..], &["-onetime", "-noop", "-check-command=none"]].concat());
    assert!(out.status.success() && !file.exists(), "{}", String::from_utf8_lossy(&out.stderr));

    let out = confd(&[&common[..], &["-onetime", "-interval", "10", "-check-command=none"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(std::fs::read_to_string(&file).unwrap().contains("protocol bgp Mesh_10_0_0_2 "));
}

#[test]
fn a_flag_that_cannot_hold_is_refused() {
    let out = confd(&["-prefix", "/other"]);
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("/calico"));
    assert!(!confd(&["-no-such-flag"]).status.success());
}
