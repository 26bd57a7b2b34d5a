//! `node run` with a container runtime that writes down what it is told, completions in their shells, the plugin of
//! kubectl, and a cluster's archive from a real API server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libcalico_testing::{Need, can_run, kubernetes_binary, within};
use serde_json::json;

use crate::common::{Cluster as _, Kubernetes, communicate, run};

fn program(dir: &Path, name: &str, script: &str) {
    let _ = libcalico_testing::script(dir, name, script);
}

/// The command with nothing but `dir` and the system's own tools on the path, as in a container: it leaves the
/// host's settings alone.
fn node_run(dir: &Path, flags: &[&str], env: &[(&str, &str)]) -> crate::common::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calicoctl"));
    command.args([&["node", "run"], flags].concat()).env_clear().env("PATH", dir);
    command.env("CALICO_CTL_CONTAINER", "1").env("ETCD_ENDPOINTS", "http://10.0.0.5:2379");
    command.envs(env.iter().copied());
    communicate(&mut command, "")
}

#[test]
fn a_container_is_started_and_watched() {
    if !can_run(&[Need::Root]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("told");
    let state = |running: &str| {
        let script = format!(
            "echo \"$@\" >> {log}\n[ \"$1\" = run ] && echo \"password $ETCD_PASSWORD\" >> {log}\n\
             [ \"$1\" = inspect ] && echo '{running} 0'\n[ \"$1\" = logs ] && echo 'cannot reach etcd'\nexit 0",
            log = log.display()
        );
        program(dir.path(), "docker", &script);
    };
    state("true");
    let secret = [("ETCD_USERNAME", "calico"), ("ETCD_PASSWORD", "hidden")];
    let out = node_run(dir.path(), &["--name=n1", "--node-image=example/node:1"], &secret);
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    assert!(out.stdout.ends_with("Calico node started successfully\n"), "{}", out.stdout);
    assert!(!out.stdout.contains("hidden"), "{}", out.stdout);
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(
        told.starts_with("rm -f calico-node\nrun --net=host --privileged --name=calico-node -d "),
        "{told}"
    );
    for part in [
        "-e NODENAME=n1 ",
        "-e ETCD_ENDPOINTS=http://10.0.0.5:2379 ",
        " example/node:1\n",
        "password hidden\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    state("false");
    let out = node_run(dir.path(), &[], &[]);
    assert!(
        out.code == 1 && out.stderr.contains("calico/node has terminated"),
        "{}{}",
        out.stdout,
        out.stderr
    );
    assert!(out.stderr.contains("cannot reach etcd"), "{}", out.stderr);
}

#[test]
fn without_a_runtime_the_program_is_started_or_the_next_step_told() {
    if !can_run(&[Need::Root]) {
        return;
    }
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Beside the command under test stands calico-node where it was built too; a copy has nothing beside it.
    let alone = tempfile::tempdir().unwrap();
    let copy = alone.path().join("calicoctl");
    libcalico_testing::copy_program(env!("CARGO_BIN_EXE_calicoctl").as_ref(), &copy);
    let start = |flags: &[&str]| {
        let mut command = Command::new(&copy);
        command.args([&["node", "run"], flags].concat()).env_clear().env("PATH", dir.path());
        command.env("CALICO_CTL_CONTAINER", "1").env("ETCD_ENDPOINTS", "http://10.0.0.5:2379");
        communicate(&mut command, "")
    };
    let out = start(&[]);
    assert_eq!(out.code, 1, "{}", out.stdout);
    assert!(
        out.stderr
            .contains("none of docker, podman, nerdctl and no program calico-node is installed: install"),
        "{}",
        out.stderr
    );
    let out = start(&["--dryrun", "--name=n1"]);
    assert!(out.code == 0 && out.stdout.contains("docker run --net=host --privileged"), "{}", out.stdout);
    // The first goes on for longer than anybody looks at it, the second is waited for.
    let body = "echo \"node $NODENAME at $ETCD_ENDPOINTS\"; [ $NODENAME = n2 ] || exec /bin/sleep 60";
    program(dir.path(), "calico-node", body);
    let log_dir = format!("--log-dir={}", logs.path().display());
    let out = start(&["--name=n1", &log_dir]);
    assert!(out.code == 0 && out.stdout.contains("started successfully"), "{}{}", out.stdout, out.stderr);
    let log = || std::fs::read_to_string(logs.path().join("calico-node.log")).unwrap();
    let line = "node n1 at http://10.0.0.5:2379\n";
    within(Duration::from_secs(60), "its words are in the log", || log() == line);
    let process = out.stdout.rsplit("(process ").next().and_then(|p| p.split(')').next()).unwrap();
    assert!(Command::new("kill").args(["-KILL", process]).status().unwrap().success());
    let out = start(&["--name=n2", "--init-system"]);
    assert!(out.stdout.starts_with("node n2 at "), "in the foreground: {}", out.stdout);
    program(dir.path(), "calico-node", "echo broken; exit 3");
    let out = start(&["--name=n1", &log_dir]);
    assert!(out.code == 1 && out.stderr.contains("broken"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn on_kubernetes_a_daemon_set_runs_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let out = node_run(dir.path(), &["--dryrun"], &[("DATASTORE_TYPE", "kubernetes"), ("KUBECONFIG", "/k")]);
    assert!(out.code == 1 && out.stderr.contains("a DaemonSet runs calico-node"), "{}", out.stderr);
}

#[test]
fn zsh_and_fish_load_their_completions_and_offer_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let write = |shell: &str, file: &str| {
        let out = run(&["completion", shell], "", &[]);
        std::fs::write(dir.path().join(file), out.stdout).unwrap();
    };
    if can_run(&[Need::Program("fish", "fish")]) {
        write("fish", "calicoctl.fish");
        let script = format!("source {}/calicoctl.fish; complete -C 'calicoctl ipam '", dir.path().display());
        let out = Command::new("fish").args(["--no-config", "-c", &script]).output().unwrap();
        let offered = String::from_utf8(out.stdout).unwrap();
        assert!(offered.contains("check\t") && offered.contains("split\t"), "{offered}");
    }
    if can_run(&[Need::Program("zsh", "zsh")]) {
        write("zsh", "_calicoctl");
        let script = format!(
            "fpath=({} $fpath); autoload -Uz compinit && compinit -u -d {}/dump; whence -v _calicoctl; autoload +X _calicoctl && print -r -- $functions[_calicoctl]",
            dir.path().display(),
            dir.path().display()
        );
        let out = Command::new("zsh").args(["-f", "-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(text.contains("_calicoctl is an autoload shell function"), "{text}");
        assert!(text.contains("checksystem") && out.status.success(), "{text}");
    }
}

#[test]
fn kubectl_finds_the_plugin_and_it_works() {
    let Some(k) = Kubernetes::start() else { return };
    let Some(kubectl) = kubernetes_binary("kubectl") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_calicoctl"), dir.path().join("kubectl-calico")).unwrap();
    let kubectl = |args: &[&str], input: &str| {
        let mut command = Command::new(&kubectl);
        command.args(args).env_clear().env("PATH", dir.path()).env("HOME", dir.path());
        // Nothing says which datastore: a kubeconfig is enough.
        command.env("KUBECONFIG", k.kubeconfig());
        communicate(&mut command, input)
    };
    let out = kubectl(
        &["calico", "apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n",
    );
    assert_eq!(out.stdout, "Successfully applied 1 'Tier' resource(s)\n", "{}", out.stderr);
    let out = kubectl(&["get", "tiers.projectcalico.org", "t", "-o", "jsonpath={.spec.order}"], "");
    assert_eq!(out.stdout, "1", "{}", out.stderr);
    let out = kubectl(&["calico", "ipam", "check", "--help"], "");
    assert!(out.stdout.contains("Usage: kubectl calico ipam check"), "{}", out.stdout);
    let out = kubectl(&["calico", "get", "nothing"], "");
    assert_eq!(out.code, 1, "{}", out.stdout);
}

#[test]
fn a_kubernetes_clusters_archive_has_its_objects_and_names_logs_that_cannot_be_had() {
    let Some(k) = Kubernetes::start() else { return };
    k.pod("calico-system", "calico-node-abcde", "node-a", &[("k8s-app", "calico-node")], "172.31.0.1");
    k.create(
        "/api/v1/namespaces/default/secrets",
        &json!({ "metadata": { "name": "s" }, "stringData": { "p": "hidden" } }),
    );
    k.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n",
    );
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_calicoctl"));
    command.args([
        "cluster",
        "diags",
        "--since=1h",
        "--focus-nodes=node-a",
        "--max-logs=1",
        "--skip-temp-dir-cleanup",
    ]);
    command.current_dir(dir.path()).env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.envs(k.environment());
    let out = communicate(&mut command, "");
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    assert!(out.stdout.contains("Collecting 1 logs of Calico's pods"), "{}", out.stdout);
    // No kubelet stands behind this node.
    assert!(
        out.stdout.contains("Not collected: nodes/node-a/calico-system/calico-node-abcde/c.log: "),
        "{}",
        out.stdout
    );
    let mut files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let folder = files.find(|p| p.is_dir()).expect("the files are kept beside the archive");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("resources/tiers.yaml").contains("name: t\n"));
    assert!(read("kubernetes/pods.json").contains("calico-node-abcde"));
    let all = Command::new("grep").args(["-r", "hidden"]).arg(&folder).output().unwrap();
    assert!(all.stdout.is_empty(), "secrets are not collected");
    let out = run(&["cluster", "diags", "--since=yesterday"], "", &k.environment());
    assert!(out.code == 1 && out.stderr.contains("5s, 2m or 3h"), "{}", out.stderr);
}
