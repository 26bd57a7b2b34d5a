//! Supervision with programs that fake the daemons, alone and under the real calico-node.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use calico_node::supervise::{ChildSpec, Status, Supervised};
use libcalico_testing::{RealEtcd, script, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::runs;
use tokio::time::timeout;

fn spec(program: PathBuf) -> ChildSpec {
    ChildSpec {
        name: "fake",
        program,
        arguments: Vec::new(),
        environment: vec![("FAKE".to_owned(), "yes".to_owned())],
        stop_signal: Signal::SIGTERM,
        wait_for: None,
    }
}

async fn until(child: &Supervised, what: impl Fn(&Status) -> bool) -> Status {
    let mut status = child.status();
    let found = timeout(Duration::from_secs(60), status.wait_for(what)).await;
    found.expect("within a minute").unwrap().clone()
}

#[tokio::test]
async fn a_child_that_ends_is_started_again_and_its_last_words_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "fake", "echo $FAKE; echo no such table >&2; exit 3");
    let child = Supervised::start(spec(program));
    // A busy machine may need more than one of its ends to read what it said last.
    let words = ["exit status: 3", "no such table", "yes"];
    let told = |s: &Status| s.trouble.as_ref().is_some_and(|t| words.iter().all(|w| t.contains(w)));
    until(&child, |s| s.starts >= 2 && told(s)).await;
    child.stop().await;
}

#[tokio::test]
async fn a_program_that_is_missing_is_said_by_name() {
    let child = Supervised::start(spec("/nonexistent/felix".into()));
    let status = until(&child, |s| s.trouble.is_some()).await;
    assert!(status.trouble.unwrap().contains("/nonexistent/felix"));
    child.stop().await;
}

#[tokio::test]
async fn a_child_is_not_started_before_its_file_stands() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bird.cfg");
    let program = script(directory.path(), "fake", "exec sleep 600");
    let child = Supervised::start(ChildSpec { wait_for: Some(file.clone()), ..spec(program) });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(child.status().borrow().starts, 0);
    fs::write(&file, "").unwrap();
    until(&child, |s| s.pid.is_some()).await;
    child.stop().await;
}

#[tokio::test]
async fn a_child_that_does_not_listen_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "fake", "trap '' TERM; echo ready; while :; do sleep 1; done");
    let child = Supervised::start(spec(program));
    let pid = until(&child, |s| s.pid.is_some()).await.pid.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    child.stop().await;
    assert!(!runs(pid));
}

/// calico-node with fake daemons that leave their process id in a file.
struct Node {
    child: Child,
    directory: tempfile::TempDir,
}

impl Node {
    fn start(etcd: &RealEtcd) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let fake = |name: &str, before: &str| {
            let pid = root.join(format!("{name}.pid"));
            script(root, name, &format!("{before}\necho $$ > {}\nexec sleep 600", pid.display()))
        };
        let config = root.join("etc/config");
        let felix = fake("felix", &format!("echo $FELIX_FELIXHOSTNAME > {}/name", root.display()));
        // Slow on purpose: bird must wait for what it writes.
        let confd = fake(
            "confd",
            &format!("sleep 0.3; mkdir -p {0}; echo rendered > {0}/bird.cfg", config.display()),
        );
        let bird = fake("bird", &format!("cp {}/bird.cfg {}/seen", config.display(), root.display()));
        let child = Command::new(env!("CARGO_BIN_EXE_calico-node"))
            .arg("-felix-path")
            .arg(felix)
            .arg("-confd-path")
            .arg(confd)
            .arg("-bird-path")
            .arg(bird)
            .arg("-confdir")
            .arg(root.join("etc"))
            .arg("-control-socket")
            .arg(root.join("run/bird.ctl"))
            .args(["-health-port", "0"])
            .env("NODENAME", "fake-node")
            .env("IP", "10.1.0.9/24")
            .env("ETCD_ENDPOINTS", etcd.endpoint())
            .env("CALICO_NODENAME_FILE", root.join("nodename"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pids(&self) -> Vec<u32> {
        ["felix", "confd", "bird"]
            .map(|name| {
                let file = self.file(&format!("{name}.pid"));
                within(Duration::from_secs(60), name, || read_pid(&file).is_some());
                read_pid(&file).unwrap()
            })
            .into()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_pid(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[test]
fn sigterm_ends_the_daemons_and_is_success() {
    let Some(etcd) = RealEtcd::start() else { return };
    let mut node = Node::start(&etcd);
    let pids = node.pids();
    assert!(pids.iter().all(|p| runs(*p)));
    assert_eq!(fs::read_to_string(node.file("name")).unwrap().trim(), "fake-node");
    assert_eq!(fs::read_to_string(node.file("seen")).unwrap().trim(), "rendered");
    node.signal(Signal::SIGTERM);
    let status = node.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(pids.iter().all(|p| !runs(*p)));
}

#[test]
fn a_daemon_that_is_killed_is_back() {
    let Some(etcd) = RealEtcd::start() else { return };
    let node = Node::start(&etcd);
    let [felix, _, bird] = node.pids()[..] else { panic!() };
    for (name, pid) in [("felix", felix), ("bird", bird)] {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        let file = node.file(&format!("{name}.pid"));
        within(Duration::from_secs(60), name, || read_pid(&file).is_some_and(|p| p != pid && runs(p)));
    }
}

#[test]
fn no_daemon_outlives_a_killed_calico_node() {
    let Some(etcd) = RealEtcd::start() else { return };
    let node = Node::start(&etcd);
    let pids = node.pids();
    node.signal(Signal::SIGKILL);
    within(Duration::from_secs(60), "the daemons end", || pids.iter().all(|p| !runs(*p)));
}
