//! What happens when a datastore's server dies, goes silent, forgets, or changes under a reader: the same for all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libcalico_api::Resource;
use libcalico_datastore::{Datastore, DatastoreError, WatchEvent};
use libcalico_model::Value;
use libcalico_testing::Proxy;

use super::Backend;
use super::contract::{key, next, scope, set};

/// Pings, the attempt to go on, and room for a loaded machine.
const NOTICED: Duration = Duration::from_secs(90);
/// Requests under way at one time.
const AT_ONCE: usize = 16;

/// All of them, one after the other on one server.
pub async fn faults(server: &mut dyn Backend) {
    a_silent_connection_is_given_up_in_seconds(server).await;
    a_killed_server_ends_the_watch_and_is_found_again(server).await;
    a_forgotten_revision_is_told(server).await;
    let names = fill(server).await;
    a_listing_that_is_compacted_halfway_is_whole(server, names.len()).await;
    a_listing_is_of_one_revision_while_objects_change(server, &names).await;
    a_slow_reader_of_a_watch_loses_nothing(server, &names).await;
}

async fn a_silent_connection_is_given_up_in_seconds(server: &mut dyn Backend) {
    let proxy = Proxy::start(server.port()).await;
    let store = server.store_at(proxy.port());
    let from = store.list(&scope()).await.unwrap().revision;
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    proxy.set_silent(true);
    let start = Instant::now();
    let event = tokio::time::timeout(NOTICED, rx.recv()).await.expect("noticed").expect("an event");
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    eprintln!("silence noticed after {:?}", start.elapsed());
    let error = store.list(&scope()).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    proxy.set_silent(false);
    let deadline = Instant::now() + NOTICED;
    while let Err(e) = store.list(&scope()).await {
        assert!(Instant::now() < deadline, "{e}");
    }
}

async fn a_killed_server_ends_the_watch_and_is_found_again(server: &mut dyn Backend) {
    let store = server.store();
    let from = store.list(&scope()).await.unwrap().revision;
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    store.apply(&key("before"), set("before", "10.0.0.0/8")).await.unwrap();
    assert!(matches!(next(&mut rx).await, WatchEvent::Set(..)));
    // A watch that lived for a while is one that the server may have ended in good order.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.kill();
    let event = tokio::time::timeout(NOTICED, rx.recv()).await.expect("noticed").expect("an event");
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    assert!(rx.recv().await.is_none(), "a failure is the last event");
    let error = store.get(&key("before")).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    server.run();
    let deadline = Instant::now() + NOTICED;
    while let Err(e) = store.apply(&key("before"), set("before", "11.0.0.0/8")).await {
        assert!(e.retryable() && Instant::now() < deadline, "{e}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.list(&scope()).await.unwrap().items.len(), 1);
}

async fn a_forgotten_revision_is_told(server: &mut dyn Backend) {
    let store = server.store();
    let from = store.list(&scope()).await.unwrap().revision;
    let mut now = from.clone();
    for net in ["11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"] {
        now = store.apply(&key("x"), set("x", net)).await.unwrap().revision;
    }
    server.forget(&now);
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Compacted(_))), "{event:?}");
    for name in ["before", "x"] {
        store.delete(&key(name), None).await.unwrap();
    }
}

/// Objects for three pages, of the first generation.
async fn fill(server: &dyn Backend) -> Vec<String> {
    let names: Vec<String> = (0..server.three_pages()).map(|i| format!("g{i:05}")).collect();
    let store = server.store();
    futures::stream::iter(&names).for_each_concurrent(AT_ONCE, |name| insist_put(&*store, name, 0)).await;
    names
}

/// Writes an object's generation; a busy server may need to be asked again.
async fn insist_put(store: &dyn Datastore, name: &str, number: usize) {
    insist(async || store.apply(&key(name), generation(name, number)).await).await;
}

async fn insist<T>(call: impl AsyncFn() -> Result<T, DatastoreError>) -> T {
    let deadline = Instant::now() + NOTICED;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(e) => assert!(e.retryable() && Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn generation(name: &str, number: usize) -> Value {
    set(name, &format!("10.{number}.0.0/16"))
}

fn number(value: &Value) -> usize {
    let Value::Resource(r) = value else { panic!("{value:?}") };
    let Resource::NetworkSet(s) = &**r else { panic!("{r:?}") };
    s.spec.nets[0].split('.').nth(1).and_then(|n| n.parse().ok()).unwrap()
}

async fn a_listing_that_is_compacted_halfway_is_whole(server: &mut dyn Backend, count: usize) {
    let proxy = Proxy::start(server.port()).await;
    let store = server.store_at(proxy.port());
    store.get(&key("g00000")).await.unwrap();
    // Half of what came with a whole listing: within the second page, which is twice as large as the first.
    let direct = server.store();
    let list = store.list(&scope()).await.unwrap();
    assert_eq!(list.items.len(), count);
    proxy.set_silent_after(proxy.passed() / 2);
    // Where the silence takes longer than a listing waits, the listing is asked for again.
    let (list, ()) = tokio::join!(insist(async || store.list(&scope()).await), async {
        proxy.silence().await;
        let mut now = direct.apply(&key("g00000"), generation("g00000", 0)).await.unwrap().revision;
        for _ in 0..3 {
            now = direct.apply(&key("g00000"), generation("g00000", 0)).await.unwrap().revision;
        }
        server.compact(&now);
        proxy.set_silent(false);
    });
    assert_eq!(list.items.len(), count);
    assert!(list.items.windows(2).all(|w| w[0].key < w[1].key));
}

/// A writer goes through all objects in order, again and again, and raises each one's number. At any one revision the
/// numbers are those of this round and then those of the last.
async fn a_listing_is_of_one_revision_while_objects_change(server: &mut dyn Backend, names: &[String]) {
    let (store, writer) = (server.store(), server.store());
    let enough = AtomicBool::new(false);
    let write = async {
        for round in 1..100 {
            for name in names {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                insist_put(&*writer, name, round).await;
            }
        }
    };
    let read = async {
        for _ in 0..4 {
            let list = insist(async || store.list(&scope()).await).await;
            let numbers: Vec<usize> = list.items.iter().map(|kv| number(&kv.value)).collect();
            assert_eq!(numbers.len(), names.len());
            assert!(numbers.windows(2).all(|w| w[0] >= w[1]), "two revisions in one listing");
            assert!(numbers[0] - numbers[numbers.len() - 1] <= 1);
        }
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(write, read);
}

async fn a_slow_reader_of_a_watch_loses_nothing(server: &mut dyn Backend, names: &[String]) {
    let store = server.store();
    let from = store.list(&scope()).await.unwrap().revision;
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    // More than the watch keeps for its reader.
    let names = &names[..400];
    for name in names {
        store.apply(&key(name), generation(name, 200)).await.unwrap();
    }
    for name in names {
        let event = next(&mut rx).await;
        let WatchEvent::Set(k, Ok(kv)) = event else { panic!("{event:?}") };
        assert_eq!((k, number(&kv.value)), (key(name), 200));
    }
}
