//! `node diags`, `node checksystem`, `cluster diags`, completions, man pages, the plugin's name.

use std::process::Command;

use crate::common::{Cluster as _, Etcd};

fn calicoctl(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_calicoctl")).args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn list(archive: &std::path::Path) -> String {
    let out = Command::new("tar").arg("-tzf").arg(archive).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn archive_in(dir: &std::path::Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let archive = files.find(|p| p.to_string_lossy().ends_with(".tar.gz")).expect("an archive");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "the directory is gone");
    archive
}

#[test]
fn a_nodes_state_and_logs_are_archived_and_what_is_missing_is_named() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(logs.path().join("cni")).unwrap();
    std::fs::write(logs.path().join("cni/cni.log"), "added").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .args(["node", "diags", "--log-dir", logs.path().to_str().unwrap()])
        .env("TMPDIR", dir.path())
        .env("CALICO_BIRD_SOCKET", "/nonexistent/bird.ctl")
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("Not collected: BGP sessions: "), "{said}");
    let files = list(&archive_in(dir.path()));
    for name in ["logs/cni/cni.log", "processes", "kernel_version", "not-collected.txt"] {
        assert!(files.lines().any(|l| l.ends_with(name)), "{name}: {files}");
    }
}

#[test]
fn a_clusters_objects_are_archived() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&crate::common::dump());
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .args(["cluster", "diags", "--since=1h"])
        .current_dir(dir.path())
        .env("DATASTORE_TYPE", "etcdv3")
        .env("ETCD_ENDPOINTS", etcd.server.endpoint())
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("Not collected: logs of pods: the datastore is etcd"), "{said}");
    let files = list(&archive_in(dir.path()));
    for name in ["resources/ippools.yaml", "resources/workloadendpoints.yaml", "ipam/blocks.txt"] {
        assert!(files.lines().any(|l| l.ends_with(name)), "{name}: {files}");
    }
}

#[test]
fn a_kernel_configuration_may_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    let options = ["NF_TABLES", "NF_CONNTRACK", "NF_NAT", "NFT_CT", "NFT_MASQ", "VETH"];
    std::fs::write(&config, options.map(|o| format!("CONFIG_{o}=y\n")).concat()).unwrap();
    let (code, out, err) = calicoctl(&["node", "checksystem", "--kernel-config", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.ends_with("System meets minimum system requirements to run Calico!\n"), "{out}");
    let (code, _, err) = calicoctl(&["node", "checksystem", "-f", "/nonexistent"]);
    assert!(code == 1 && err.contains("--kernel-config: /nonexistent"), "{err}");
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = calicoctl(&["completion", shell]);
        assert!(code == 0 && script.contains("checksystem") && script.contains("explain"), "{shell}");
    }
    let (_, script, _) = calicoctl(&["completion", "bash"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    std::fs::write(&file, script).unwrap();
    let complete = "source $1; COMP_WORDS=(calicoctl ipam ch); COMP_CWORD=2; _calicoctl calicoctl ch ipam; echo ${COMPREPLY[@]}";
    let out = Command::new("bash").args(["-c", complete, "bash"]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "check\n");
    let pages = dir.path().join("man1");
    assert_eq!(calicoctl(&["man", pages.to_str().unwrap()]).0, 0);
    let page = std::fs::read_to_string(pages.join("calicoctl-ipam-check.1")).unwrap();
    assert!(page.contains("report.json"), "{page}");
}

#[test]
fn as_a_plugin_of_kubectl_it_calls_itself_so() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("kubectl-calico");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_calicoctl"), &link).unwrap();
    let out = Command::new(&link).args(["ipam", "check", "--help"]).output().unwrap();
    let help = String::from_utf8(out.stdout).unwrap();
    assert!(help.contains("Usage: kubectl calico ipam check"), "{help}");
}

#[test]
fn every_command_has_an_example() {
    fn walk(path: &[&str], without: &mut Vec<String>) {
        let (_, help, _) = calicoctl(&[path, &["--help"]].concat());
        let commands: Vec<String> = help
            .lines()
            .skip_while(|l| *l != "Commands:")
            .skip(1)
            .take_while(|l| !l.is_empty())
            // Further indentation goes on with a description.
            .filter_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' ')))
            .filter_map(|l| l.split_whitespace().next().map(str::to_owned))
            .filter(|c| c != "help" && !c.starts_with('-'))
            .collect();
        if commands.is_empty() && !help.contains("Examples:") {
            without.push(path.join(" "));
        }
        for c in &commands {
            walk(&[path, &[c]].concat(), without);
        }
    }
    let mut without = Vec::new();
    walk(&[], &mut without);
    assert_eq!(without, [""; 0]);
}
