//! The whole of confd on the in-memory datastore: objects in, file and reload out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use confd::control::ControlSocket;
use confd::output::Check;
use confd::render::Renderer;
use confd::run::{Options, render, run};
use confd::{NodeSettings, State};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::syncer::bgp_syncer;
use libcalico_datastore::{Datastore, resources};
use libcalico_model::ipam::BlockAffinity;
use libcalico_model::{Key, Revision, Update, Value};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// Longest wait for anything: how busy the machine is decides nothing.
const PATIENCE: Duration = Duration::from_secs(60);

struct Confd {
    store: Arc<dyn Datastore>,
    directory: tempfile::TempDir,
    task: JoinHandle<Result<(), confd::run::RunError>>,
}

impl Drop for Confd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn options(directory: &Path) -> Options {
    Options {
        file: directory.join("config/bird.cfg"),
        check: None,
        control: None,
        once: false,
        watch: true,
        interval: Duration::from_secs(600),
        noop: false,
    }
}

async fn node(store: &Arc<dyn Datastore>, name: &str, address: &str) {
    let json =
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"bgp":{{"ipv4Address":"{address}"}}}}}}"#);
    apply(store, Kind::Node, &json).await;
}

async fn apply(store: &Arc<dyn Datastore>, kind: Kind, json: &str) {
    resources::apply(store.as_ref(), Resource::from_json(kind, json.as_bytes()).unwrap()).await.unwrap();
}

impl Confd {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        node(&store, "n1", "10.0.0.1/24").await;
        node(&store, "n2", "10.0.0.2/24").await;
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        change(&mut options);
        let events = bgp_syncer(Arc::clone(&store), Some("n1"));
        let task = tokio::spawn(async move {
            let renderer = Renderer::built_in().unwrap();
            run(events, &renderer, &NodeSettings::default(), "n1", &options).await
        });
        Self { store, directory, task }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("config/bird.cfg")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.text()) {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}\n{}", self.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn objects_become_the_file_and_changes_change_it() {
    let confd = Confd::start(|_| {}).await;
    confd.until("the mesh", |t| t.contains("protocol bgp Mesh_10_0_0_2 ")).await;
    node(&confd.store, "n3", "10.0.0.3/24").await;
    confd.until("a third node", |t| t.contains("protocol bgp Mesh_10_0_0_3 ")).await;
    let block: Key = "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26".parse().unwrap();
    confd.store.create(&block, Value::BlockAffinity(BlockAffinity::default())).await.unwrap();
    confd.until("a block", |t| t.contains("route 10.65.0.0/26 blackhole;")).await;
    confd.store.delete(&Key::resource(Kind::Node, "", "n2"), None).await.unwrap();
    confd.until("a node is gone", |t| !t.contains("Mesh_10_0_0_2")).await;
}

#[tokio::test]
async fn the_daemon_is_told_of_each_new_file_and_only_then() {
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("bird.ctl");
    let told = Arc::new(AtomicUsize::new(0));
    // The daemon starts after the first file is there, as it does under calico-node.
    let control = ControlSocket::new(&path);
    let confd = Confd::start(|o| o.control = Some(control)).await;
    confd.until("the first file", |t| !t.is_empty()).await;
    let listener = UnixListener::bind(&path).unwrap();
    let count = Arc::clone(&told);
    let daemon = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(b"0001 BIRD 2.0.12 ready.\n").await.unwrap();
            let mut line = String::new();
            BufReader::new(read).read_line(&mut line).await.unwrap();
            assert_eq!(line, "configure\n");
            count.fetch_add(1, Ordering::SeqCst);
            write.write_all(b"0003 Reconfigured\n").await.unwrap();
        }
    });
    let until_told = |n: usize| {
        let told = Arc::clone(&told);
        async move {
            let end = Instant::now() + PATIENCE;
            while told.load(Ordering::SeqCst) < n {
                assert!(Instant::now() < end, "told {} times, not {n}", told.load(Ordering::SeqCst));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    until_told(1).await;
    node(&confd.store, "n3", "10.0.0.3/24").await;
    until_told(2).await;
    // A change that the file does not show.
    apply(
        &confd.store,
        Kind::Node,
        r#"{"metadata":{"name":"n3","labels":{"rack":"r1"}},"spec":{"bgp":{"ipv4Address":"10.0.0.3/24"}}}"#,
    )
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(told.load(Ordering::SeqCst), 2);
    daemon.abort();
}

#[tokio::test]
async fn a_file_that_the_check_refuses_replaces_nothing() {
    let checks = tempfile::tempdir().unwrap();
    let body = "if grep -q 10_0_0_3 \"$3\"; then echo 'no third node' >&2; exit 1; fi";
    let program = libcalico_testing::script(checks.path(), "check", body);
    let confd = Confd::start(|o| o.check = Some(Check::program(&program))).await;
    confd.until("the mesh", |t| t.contains("Mesh_10_0_0_2")).await;
    let good = confd.text();
    node(&confd.store, "n3", "10.0.0.3/24").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(confd.text(), good);
    confd.store.delete(&Key::resource(Kind::Node, "", "n3"), None).await.unwrap();
    node(&confd.store, "n4", "10.0.0.4/24").await;
    confd.until("the next good file", |t| t.contains("Mesh_10_0_0_4")).await;
}

#[tokio::test]
async fn a_file_that_someone_changed_is_put_right() {
    let confd = Confd::start(|o| o.interval = Duration::from_millis(200)).await;
    confd.until("the mesh", |t| t.contains("Mesh_10_0_0_2")).await;
    let good = confd.text();
    fs::write(confd.file(), "router id 1.2.3.4;\n").unwrap();
    confd.until("the right text", |t| t == good).await;
}

#[tokio::test]
async fn onetime_ends_after_the_first_file() {
    let mut confd = Confd::start(|o| o.once = true).await;
    (&mut confd.task).await.unwrap().unwrap();
    assert!(confd.text().contains("Mesh_10_0_0_2"));
}

#[tokio::test]
async fn noop_writes_nothing() {
    let mut confd = Confd::start(|o| {
        o.once = true;
        o.noop = true;
    })
    .await;
    (&mut confd.task).await.unwrap().unwrap();
    assert!(!confd.file().exists());
}

#[tokio::test]
async fn a_template_in_confdir_wins_and_a_broken_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bird.cfg.j2"), "router id {{ router_id }}; # mine\n").unwrap();
    let renderer = Renderer::with_overrides(Some(directory.path())).unwrap();
    let text = render(&renderer, &State::new("n1"), &NodeSettings::default()).unwrap();
    assert!(text.ends_with("; # mine\n"), "{text}");
    fs::write(directory.path().join("bird.cfg.j2"), "{{ no_such_name }}").unwrap();
    let renderer = Renderer::with_overrides(Some(directory.path())).unwrap();
    let error = render(&renderer, &State::new("n1"), &NodeSettings::default()).unwrap_err().to_string();
    assert!(error.contains("bird.cfg.j2"), "{error}");
    fs::write(directory.path().join("peer.cfg.j2"), "{% if %}").unwrap();
    assert!(Renderer::with_overrides(Some(directory.path())).is_err());
}

fn object(kind: Kind, json: &str) -> Update {
    let resource = Resource::from_json(kind, json.as_bytes()).unwrap();
    let key = Key::resource(kind, "", &resource.metadata().name);
    Update { key, value: Some(resource.into()), revision: Revision::default() }
}

/// Objects with every feature that the order of events could show in.
fn cluster() -> Vec<Update> {
    let mut all: Vec<Update> = (1..=5)
        .map(|i| {
            let extra = if i == 2 { r#","routeReflectorClusterID":"10.0.0.1""# } else { "" };
            object(
                Kind::Node,
                &format!(
                    r#"{{"metadata":{{"name":"n{i}","labels":{{"i":"{i}"}}}},"spec":{{"bgp":{{"ipv4Address":"10.0.0.{i}/24","ipv6Address":"fd00::{i}/64"{extra}}}}}}}"#
                ),
            )
        })
        .collect();
    all.extend([
        object(Kind::BGPPeer, r#"{"metadata":{"name":"a"},"spec":{"nodeSelector":"all()","peerSelector":"i == '2'"}}"#),
        object(Kind::BGPPeer, r#"{"metadata":{"name":"b"},"spec":{"peerIP":"10.0.0.3","asNumber":64512,"filters":["f"]}}"#),
        object(Kind::BGPPeer, r#"{"metadata":{"name":"c"},"spec":{"peerIP":"10.0.0.3","asNumber":64513}}"#),
        object(Kind::BGPPeer, r#"{"metadata":{"name":"d"},"spec":{"node":"n1","peerIP":"10.9.9.9","asNumber":65000,"reachableBy":"10.0.0.254"}}"#),
        object(Kind::BGPFilter, r#"{"metadata":{"name":"f"},"spec":{"importV4":[{"cidr":"10.0.0.0/8","matchOperator":"In","action":"Reject"}]}}"#),
        object(Kind::BGPConfiguration, r#"{"metadata":{"name":"default"},"spec":{"listenPort":1790,"communities":[{"name":"x","value":"1:2"}],"prefixAdvertisements":[{"cidr":"10.65.0.0/16","communities":["x","3:4"]}]}}"#),
        object(Kind::BGPConfiguration, r#"{"metadata":{"name":"node.n3"},"spec":{"listenPort":1791}}"#),
        object(Kind::IPPool, r#"{"metadata":{"name":"p1"},"spec":{"cidr":"10.65.0.0/16","vxlanMode":"Always"}}"#),
        object(Kind::IPPool, r#"{"metadata":{"name":"p2"},"spec":{"cidr":"10.64.0.0/16","disableBGPExport":true}}"#),
    ]);
    for block in ["10.65.0.0/26", "10.65.0.64/26", "fd65::/122"] {
        let key = Key::BlockAffinity {
            affinity_type: "host".into(),
            host: "n1".into(),
            cidr: block.parse().unwrap(),
        };
        let value = Some(Value::BlockAffinity(BlockAffinity::default()));
        all.push(Update { key, value, revision: Revision::default() });
    }
    all
}

fn rendered(updates: impl IntoIterator<Item = Update>) -> String {
    let mut state = State::new("n1");
    for update in updates {
        state.update(update);
    }
    render(&Renderer::built_in().unwrap(), &state, &NodeSettings::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_file_does_not_depend_on_the_order_of_events(
        order in Just((0..cluster().len()).collect::<Vec<_>>()).prop_shuffle(),
        repeated in proptest::collection::vec(0..17usize, 0..6),
        removed_first in proptest::collection::vec(0..17usize, 0..6),
    ) {
        let all = cluster();
        let straight = rendered(all.clone());
        // Some come early, go away, and come again; some come twice.
        let early = removed_first.iter().flat_map(|i| {
            let u = all[*i].clone();
            [u.clone(), Update { value: None, ..u }]
        });
        let twice = repeated.iter().map(|i| all[*i].clone());
        let shuffled = order.iter().map(|i| all[*i].clone());
        prop_assert_eq!(rendered(early.chain(shuffled).chain(twice)), straight);
    }
}
