//! Where the command finds its datastore: file, environment, kubeconfig; TLS, users and passwords.

use std::path::Path;

use libcalico_testing::{Pki, RealEtcd};

use crate::common::{Cluster as _, Etcd, Kubernetes, run};

fn marked(etcd: &Etcd, name: &str) {
    let text =
        format!("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: {name}}}\n");
    etcd.ok(&["apply", "-f", "-"], &text);
}

fn file(dir: &Path, spec: &str) -> String {
    let path = dir.join("calicoctl.cfg");
    let text = format!("apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n{spec}");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn the_file_wins_over_the_environment_and_etcd_over_a_kubeconfig() {
    let (Some(a), Some(b)) = (Etcd::start(), Etcd::start()) else { return };
    marked(&a, "in-a");
    marked(&b, "in-b");
    let dir = tempfile::tempdir().unwrap();
    let config =
        file(dir.path(), &format!("  datastoreType: etcdv3\n  etcdEndpoints: {}\n", a.server.endpoint()));
    let (in_b, in_a) = (b.server.endpoint(), a.server.endpoint());
    let get = |args: &[&str], pairs: &[(&str, &str)]| {
        let out = run(&[&["get", "globalnetworksets"], args].concat(), "", &env(pairs));
        assert_eq!(out.code, 0, "{args:?} {pairs:?}: {}", out.stderr);
        out.stdout
    };
    let names = [("ETCD_ENDPOINTS", in_b.as_str())];
    assert!(get(&[], &names).contains("in-b"), "the environment");
    assert!(get(&["-c", &config], &names).contains("in-a"), "the file");
    let both = [("ETCD_ENDPOINTS", in_b.as_str()), ("CALICO_ETCD_ENDPOINTS", in_a.as_str())];
    assert!(get(&[], &both).contains("in-a"), "the prefixed variable");
    let with_kubeconfig = [("ETCD_ENDPOINTS", in_b.as_str()), ("KUBECONFIG", "/nonexistent")];
    assert!(get(&[], &with_kubeconfig).contains("in-b"), "endpoints of etcd");
    for (spec, told) in [
        ("  datastoreType: consul\n", "\"consul\" is not etcdv3 or kubernetes"),
        ("  etcdEndpoints: 127.0.0.1:2379\n", "does not start with http:// or https://"),
    ] {
        let out = run(&["get", "nodes", "-c", &file(dir.path(), spec)], "", &[]);
        assert!(out.code == 1 && out.stderr.contains(told), "{spec}: {}{}", out.stdout, out.stderr);
    }
    let out = run(&["get", "nodes", "-c", "/nonexistent/calicoctl.cfg"], "", &[]);
    assert!(out.code == 1 && out.stderr.contains("/nonexistent/calicoctl.cfg"), "{}", out.stderr);
}

#[test]
fn a_kubeconfig_and_its_contexts_are_enough() {
    let Some(k) = Kubernetes::start() else { return };
    k.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: here}\n",
    );
    let out = run(&["get", "gns"], "", &env(&[("KUBECONFIG", k.kubeconfig())]));
    assert!(out.stdout.contains("here"), "{}{}", out.stdout, out.stderr);
    let dir = tempfile::tempdir().unwrap();
    let config =
        file(dir.path(), &format!("  datastoreType: kubernetes\n  kubeconfig: {}\n", k.kubeconfig()));
    let out = run(&["get", "gns", "-c", &config], "", &env(&[("ETCD_ENDPOINTS", "http://127.0.0.1:1")]));
    assert!(out.stdout.contains("here"), "{}{}", out.stdout, out.stderr);
    let out = run(&["get", "gns", "--context", "elsewhere"], "", &env(&[("KUBECONFIG", k.kubeconfig())]));
    assert!(out.code == 1 && out.stderr.contains("elsewhere"), "{}{}", out.stdout, out.stderr);
    let out = run(&["get", "gns", "--context", "c"], "", &env(&[("KUBECONFIG", k.kubeconfig())]));
    assert!(out.stdout.contains("here"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn etcd_with_tls_wants_a_certificate_and_gets_it_by_file_or_environment() {
    let pki = Pki::new();
    let Some(etcd) = RealEtcd::start_tls(&pki) else { return };
    let (endpoint, path) = (etcd.endpoint(), |p: std::path::PathBuf| p.to_str().unwrap().to_owned());
    let (ca, cert, key) = (path(pki.cert("ca")), path(pki.cert("client")), path(pki.key("client")));
    let whole = env(&[
        ("ETCD_ENDPOINTS", endpoint.as_str()),
        ("ETCD_CA_CERT_FILE", &ca),
        ("ETCD_CERT_FILE", &cert),
        ("ETCD_KEY_FILE", &key),
    ]);
    let tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n";
    let out = run(&["apply", "-f", "-"], tier, &whole);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let dir = tempfile::tempdir().unwrap();
    let config = file(
        dir.path(),
        &format!(
            "  etcdEndpoints: {endpoint}\n  etcdCACertFile: {ca}\n  etcdCertFile: {cert}\n  etcdKeyFile: {key}\n"
        ),
    );
    let out = run(&["get", "tiers", "-c", &config], "", &[]);
    assert!(out.stdout.contains("\nt "), "{}{}", out.stdout, out.stderr);
    let without = env(&[("ETCD_ENDPOINTS", endpoint.as_str()), ("ETCD_CA_CERT_FILE", &ca)]);
    let out = run(&["get", "tiers"], "", &without);
    assert!(out.code == 1 && out.stderr.contains(&endpoint), "{}{}", out.stdout, out.stderr);
    let missing = env(&[("ETCD_ENDPOINTS", endpoint.as_str()), ("ETCD_CA_CERT_FILE", "/nonexistent/ca.pem")]);
    let out = run(&["get", "tiers"], "", &missing);
    assert!(out.code == 1 && out.stderr.contains("/nonexistent/ca.pem"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn etcd_with_users_wants_the_right_password() {
    let Some(etcd) = RealEtcd::start_auth("secret") else { return };
    let endpoint = etcd.endpoint();
    let with = |password: &str| {
        env(&[("ETCD_ENDPOINTS", endpoint.as_str()), ("ETCD_USERNAME", "root"), ("ETCD_PASSWORD", password)])
    };
    let tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n";
    let out = run(&["apply", "-f", "-"], tier, &with("secret"));
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(run(&["get", "tiers"], "", &with("secret")).stdout.contains("\nt "));
    let out = run(&["get", "tiers"], "", &with("wrong"));
    assert!(out.code == 1 && out.stderr.contains("refused the credentials"), "{}{}", out.stdout, out.stderr);
    let out = run(&["get", "tiers"], "", &env(&[("ETCD_ENDPOINTS", endpoint.as_str())]));
    assert!(out.code == 1 && !out.stderr.is_empty(), "{}{}", out.stdout, out.stderr);
}

#[test]
fn a_datastore_that_is_not_there_is_told_by_its_address_within_seconds() {
    let start = std::time::Instant::now();
    let out = run(&["get", "nodes"], "", &env(&[("ETCD_ENDPOINTS", "http://127.0.0.1:1")]));
    assert!(out.code == 1 && out.stderr.contains("http://127.0.0.1:1"), "{}", out.stderr);
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}
