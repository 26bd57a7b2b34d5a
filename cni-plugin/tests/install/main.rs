//! The installer as a process: programs, configuration and credentials in directories that stand for a host's.

mod host;
mod programs;
mod token;

use std::fs;
use std::time::Duration;

use host::{Felix, Host};
use libcalico_testing::within;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn everything_is_on_the_host_once_felix_is_ready() {
    let (host, felix) = (Host::new(), Felix::start());
    let mut installer = host.start(&[("FELIX_HEALTHPORT", &felix.port())]);
    within(SOON, "the programs", || host.bin("calico").is_file() && host.bin("portmap").is_file());
    within(SOON, "the configuration waits", || host.net("calico-staged/10-calico.conflist").is_file());
    within(SOON, "Felix is asked", || felix.asked() > 1);
    assert!(host.configurations().is_empty(), "Felix is not ready");
    felix.be_ready();
    within(SOON, "the configuration", || host.configurations() == ["10-calico.conflist"]);
    assert!(!host.bin("install").exists(), "the host does not need the installer");
    assert_eq!(host.mode(&host.net("10-calico.conflist")), 0o600);
    assert_eq!(host.mode(&host.bin("calico")), 0o755);
    installer.end();
    // The next version's init container, with this node in use.
    host.run(&[("SLEEP", "false"), ("CNI_MTU", "1400")]).unwrap();
    let conf = fs::read_to_string(host.net("10-calico.conflist")).unwrap();
    assert!(conf.contains("\"mtu\": 1400"), "{conf}");
}

#[test]
fn an_init_container_ends_and_the_node_goes_on_where_it_stopped() {
    let (host, felix) = (Host::new(), Felix::start());
    felix.be_ready();
    let secret = host.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("etcd-ca"), "one").unwrap();
    let assets = secret.display().to_string();
    host.run(&[("SLEEP", "false"), ("TLS_ASSETS_DIR", &assets)]).unwrap();
    assert!(host.configurations().is_empty(), "it does not wait for Felix, and does not publish either");
    fs::write(secret.join("etcd-ca"), "two").unwrap();
    let places = cni_plugin::install::Places { host_net_dir: host.net(""), ..Default::default() };
    let port = felix.port();
    let settings = cni_plugin::install::Settings::from_lookup(places, |n| match n {
        "FELIX_HEALTHPORT" => Some(port.clone()),
        "TLS_ASSETS_DIR" => Some(assets.clone()),
        _ => None,
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kept = cni_plugin::install::keep(&settings);
        let copy = host.net("calico-tls/etcd-ca");
        let done = || {
            let copied = fs::read_to_string(&copy).is_ok_and(|text| text == "two");
            copied && !host.configurations().is_empty()
        };
        let all = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let either = async {
            tokio::select! {
                _ = kept => {}
                () = all => {}
            }
        };
        let _ = tokio::time::timeout(SOON, either).await;
    });
    assert_eq!(host.configurations(), ["10-calico.conflist"]);
    let copy = fs::read_to_string(host.net("calico-tls/etcd-ca")).unwrap();
    assert_eq!(copy, "two", "what changed between the two is seen");
}

#[test]
fn certificates_follow_the_secret() {
    let (host, felix) = (Host::new(), Felix::start());
    let secret = host.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("etcd-ca"), "one").unwrap();
    let template = r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"calico","etcd_ca_cert_file":
        "__ETCD_CA_CERT_FILE__","etcd_key_file":"__ETCD_KEY_FILE__","mtu":__CNI_MTU__}]}"#;
    let set = [
        ("TLS_ASSETS_DIR", secret.to_str().unwrap()),
        ("CNI_NETWORK_CONFIG", template),
        ("CNI_CONF_PUBLISH", "now"),
        ("FELIX_HEALTHPORT", &felix.port()),
    ];
    let _installer = host.start(&set);
    within(SOON, "the configuration", || !host.configurations().is_empty());
    let conf: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(host.net("10-calico.conflist")).unwrap()).unwrap();
    assert_eq!(conf["plugins"][0]["etcd_ca_cert_file"], "/etc/cni/net.d/calico-tls/etcd-ca");
    assert_eq!(conf["plugins"][0]["etcd_key_file"], "");
    let copy = host.net("calico-tls/etcd-ca");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "one");
    fs::write(secret.join("new"), "two").unwrap();
    fs::rename(secret.join("new"), secret.join("etcd-ca")).unwrap();
    within(SOON, "the new certificate", || fs::read_to_string(&copy).is_ok_and(|t| t == "two"));
}

#[test]
fn uninstalling_leaves_a_host_as_it_was() {
    let host = Host::new();
    fs::write(host.net("99-loopback.conf"), "{}").unwrap();
    host.run(&[("SLEEP", "false"), ("CNI_CONF_PUBLISH", "now")]).unwrap();
    assert_eq!(host.configurations(), ["10-calico.conflist", "99-loopback.conf"]);
    host.run_with(&["--uninstall"], &[]).unwrap();
    host.run_with(&["--uninstall"], &[]).unwrap();
    assert_eq!(host.all_below("net.d"), ["99-loopback.conf"]);
    assert_eq!(host.all_below("bin"), ["portmap"], "other networks may use it");
}

#[test]
fn what_cannot_work_is_told_with_what_to_do_and_changes_nothing() {
    let host = Host::new();
    let quiet = [("SLEEP", "false"), ("CNI_CONF_PUBLISH", "now")];
    host.run(&quiet).unwrap();
    let before = fs::read_to_string(host.net("10-calico.conflist")).unwrap();
    let with = |more: &[(&'static str, &'static str)]| {
        let all: Vec<_> = quiet.iter().chain(more).copied().collect();
        host.run(&all).unwrap_err()
    };
    let no_json = with(&[("CNI_NETWORK_CONFIG", "{\"plugins\": [")]);
    assert!(no_json.contains("CNI_NETWORK_CONFIG") && no_json.contains("JSON"), "{no_json}");
    let no_file = with(&[("CNI_NETWORK_CONFIG_FILE", "/nowhere/conf")]);
    assert!(no_file.contains("/nowhere/conf"), "{no_file}");
    let no_flag = with(&[("UPDATE_CNI_BINARIES", "perhaps")]);
    assert!(no_flag.contains("UPDATE_CNI_BINARIES") && no_flag.contains("true or false"), "{no_flag}");
    assert_eq!(fs::read_to_string(host.net("10-calico.conflist")).unwrap(), before);
    fs::remove_file(host.path("image/calico-ipam")).unwrap();
    let no_program = with(&[]);
    assert!(no_program.contains("calico-ipam") && no_program.contains("--from"), "{no_program}");
}
