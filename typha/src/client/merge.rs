//! What a client has handed on, so that after a new connection it hands on only the difference.
//!
//! In come a server's messages, out go events for the reader. Pure. Always holds: the reader's view is the server's once
//! a snapshot is whole; keys that a new snapshot does not have are deleted when it is whole and not before; the status
//! never goes back.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use calico_proto::typha as proto;
use libcalico_datastore::stamp;
use libcalico_model::{Key, Revision, SyncStatus, SyncerEvent, Update, Value};

#[derive(Debug)]
struct Known {
    /// Of the value's bytes and revision.
    fingerprint: u64,
    /// The connection that confirmed it last.
    connection: u64,
}

/// What was handed on so far.
#[derive(Debug, Default)]
pub struct Merge {
    known: HashMap<Key, Known>,
    connection: u64,
    /// The present connection's snapshot is whole.
    whole: bool,
    status: Option<SyncStatus>,
}

impl Merge {
    /// A new connection: a new snapshot follows.
    pub fn connected(&mut self) {
        self.connection += 1;
        self.whole = false;
    }

    /// Keys that the reader has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes in updates.
    pub fn updates(&mut self, updates: proto::Updates) -> Option<SyncerEvent> {
        let changed: Vec<Update> = updates.updates.into_iter().filter_map(|u| self.update(u)).collect();
        (!changed.is_empty()).then_some(SyncerEvent::Updates(changed))
    }

    fn update(&mut self, update: proto::Update) -> Option<Update> {
        let key: Key = match update.key.parse() {
            Ok(k) => k,
            Err(e) => {
                // A newer server may send what an older client does not know.
                tracing::debug!(error = %e, "key of an unknown kind passed over");
                return None;
            }
        };
        let revision = Revision(update.revision);
        let value = update.value.and_then(|bytes| {
            let fingerprint = fingerprint(&bytes, &revision);
            match Value::parse(&key, &bytes) {
                Ok(value) => Some((stamp(value, &revision), fingerprint)),
                Err(e) => {
                    tracing::warn!(error = %e, "malformed value from the server is treated as absent");
                    None
                }
            }
        });
        match value {
            Some((value, fingerprint)) => {
                let known = Known { fingerprint, connection: self.connection };
                if let Some(before) = self.known.get_mut(&key) {
                    if before.fingerprint == fingerprint {
                        before.connection = self.connection;
                        return None;
                    }
                    *before = known;
                } else {
                    self.known.insert(key.clone(), known);
                }
                Some(Update { key, value: Some(value), revision })
            }
            None => {
                self.known.remove(&key)?;
                Some(Update { key, value: None, revision })
            }
        }
    }

    /// Takes in a status: what the reader is told, in order.
    pub fn status(&mut self, status: SyncStatus) -> Vec<SyncerEvent> {
        let mut events = Vec::new();
        if status == SyncStatus::InSync && !self.whole {
            self.whole = true;
            let connection = self.connection;
            let gone: Vec<Key> = self
                .known
                .iter()
                .filter(|(_, k)| k.connection != connection)
                .map(|(k, _)| k.clone())
                .collect();
            for key in &gone {
                self.known.remove(key);
            }
            if !gone.is_empty() {
                let deletions =
                    gone.into_iter().map(|key| Update { key, value: None, revision: Revision::default() });
                events.push(SyncerEvent::Updates(deletions.collect()));
            }
        }
        if self.status.is_none_or(|s| rank(status) > rank(s)) {
            self.status = Some(status);
            events.push(SyncerEvent::Status(status));
        }
        events
    }
}

fn rank(status: SyncStatus) -> u8 {
    match status {
        SyncStatus::WaitForDatastore => 0,
        SyncStatus::ResyncInProgress => 1,
        SyncStatus::InSync => 2,
    }
}

fn fingerprint(bytes: &[u8], revision: &Revision) -> u64 {
    let mut h = DefaultHasher::new();
    bytes.hash(&mut h);
    revision.hash(&mut h);
    h.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::cache::{Cache, Limits, Message};
    use crate::session::{Patience, Session, Step};

    fn update(name: &str, value: Option<&str>) -> proto::Update {
        proto::Update {
            key: format!("/calico/v1/config/{name}"),
            value: value.map(|v| v.to_owned().into_bytes().into()),
            revision: String::new(),
        }
    }

    fn batch(updates: &[(&str, Option<&str>)]) -> proto::Updates {
        proto::Updates { updates: updates.iter().map(|(n, v)| update(n, *v)).collect() }
    }

    fn names(event: Option<&SyncerEvent>) -> Vec<String> {
        match event {
            Some(SyncerEvent::Updates(u)) => {
                let mut v: Vec<String> = u
                    .iter()
                    .map(|u| format!("{}{}", u.key, if u.value.is_some() { "" } else { "-" }))
                    .collect();
                v.sort();
                v
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_second_snapshot_is_handed_on_as_a_difference() {
        let mut m = Merge::default();
        m.connected();
        m.updates(batch(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
        assert_eq!(m.status(SyncStatus::InSync), [SyncerEvent::Status(SyncStatus::InSync)]);
        m.connected();
        // The server is not whole itself yet: nothing is deleted, the status stays.
        assert!(m.status(SyncStatus::ResyncInProgress).is_empty());
        let event = m.updates(batch(&[("a", Some("1")), ("b", Some("2"))]));
        assert_eq!(names(event.as_ref()), ["/calico/v1/config/b"]);
        let events = m.status(SyncStatus::InSync);
        assert_eq!(names(events.first()), ["/calico/v1/config/c-"]);
        assert_eq!((events.len(), m.len()), (1, 2));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_absent() {
        let mut m = Merge::default();
        m.connected();
        let mut odd = update("a", Some("1"));
        odd.key = "/calico/v9/new".to_owned();
        assert!(m.updates(proto::Updates { updates: vec![odd] }).is_none());
        let tier = |v: &str| proto::Update {
            key: "/calico/v1/policy/tier/t/metadata".to_owned(),
            value: Some(v.to_owned().into_bytes().into()),
            revision: "3".to_owned(),
        };
        assert!(m.updates(proto::Updates { updates: vec![tier("nonsense")] }).is_none());
        assert!(m.updates(proto::Updates { updates: vec![tier("{}")] }).is_some());
        let event = m.updates(proto::Updates { updates: vec![tier("nonsense")] });
        assert_eq!(names(event.as_ref()), ["/calico/v1/policy/tier/t/metadata-"]);
    }

    #[test]
    fn a_deletion_of_what_is_not_known_is_not_handed_on() {
        let mut m = Merge::default();
        m.connected();
        assert!(m.updates(batch(&[("a", None)])).is_none());
    }

    /// One thing that happens on the way from the datastore to a reader.
    #[derive(Clone, Debug)]
    enum Op {
        /// Key, and value or deletion.
        Change(u8, Option<u8>),
        /// The client takes so many steps.
        Steps(u8),
        /// The connection is lost; a new session begins.
        Reconnect,
        /// Typha itself starts again, with a part of the datastore and then all of it.
        Restart,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => (0..6u8, prop::option::of(0..3u8)).prop_map(|(k, v)| Op::Change(k, v)),
            5 => (0..5u8).prop_map(Op::Steps),
            1 => Just(Op::Reconnect),
            1 => Just(Op::Restart),
        ]
    }

    fn change(key: u8, value: Option<u8>) -> SyncerEvent {
        SyncerEvent::Updates(vec![Update {
            key: Key::GlobalConfig(key.to_string()),
            value: value.map(|v| Value::Text(v.to_string())),
            revision: Revision::default(),
        }])
    }

    /// A reader behind a client behind a session behind a cache.
    struct World {
        cache: Cache,
        session: Session,
        merge: Merge,
        view: BTreeMap<String, Vec<u8>>,
        said_in_sync: usize,
        now: Instant,
    }

    impl World {
        fn cache(now: Instant, state: &BTreeMap<u8, u8>) -> Cache {
            let limits = Limits { batch: 2, keep: Duration::from_secs(60), log_bytes: 400 };
            let mut cache = Cache::new(limits);
            cache.handle(SyncerEvent::Status(SyncStatus::ResyncInProgress), now);
            for (k, v) in state {
                cache.handle(change(*k, Some(*v)), now);
            }
            cache.handle(SyncerEvent::Status(SyncStatus::InSync), now);
            cache
        }

        fn session(cache: &mut Cache, now: Instant) -> Session {
            let long = Duration::from_secs(3600);
            let patience =
                Patience { max_fall_behind: long, grace: long, ping_interval: long, pong_timeout: long };
            Session::new(cache, patience, now)
        }

        fn reconnect(&mut self) {
            self.session = Self::session(&mut self.cache, self.now);
            self.merge.connected();
        }

        /// False where the client is up to date.
        fn step(&mut self) -> bool {
            let events = match self.session.step(&self.cache, self.now) {
                Step::Send(Message::Updates(bytes, _)) => {
                    self.merge.updates(proto::Updates::decode(bytes).unwrap()).into_iter().collect()
                }
                Step::Send(Message::Status(s)) => self.merge.status(s),
                Step::Drop(_) => {
                    self.reconnect();
                    return true;
                }
                Step::Ping(_) | Step::WaitUntil(_) => return false,
            };
            for event in events {
                match event {
                    SyncerEvent::Status(SyncStatus::InSync) => self.said_in_sync += 1,
                    SyncerEvent::Status(_) => {}
                    SyncerEvent::Updates(updates) => {
                        for u in updates {
                            match u.value {
                                Some(v) => self.view.insert(u.key.path(), v.to_bytes()),
                                None => self.view.remove(&u.key.path()),
                            };
                        }
                    }
                }
            }
            true
        }
    }

    proptest! {
        /// Through lost connections, forgotten changes and restarts of Typha, a reader ends with what is stored.
        #[test]
        fn a_reader_ends_with_what_is_stored(ops in prop::collection::vec(op(), 0..80)) {
            let now = Instant::now();
            let mut truth = BTreeMap::new();
            let mut cache = World::cache(now, &truth);
            let session = World::session(&mut cache, now);
            let merge = Merge::default();
            let mut w = World { cache, session, merge, view: BTreeMap::new(), said_in_sync: 0, now };
            w.merge.connected();
            for op in ops {
                match op {
                    Op::Change(k, v) => {
                        match v {
                            Some(v) => truth.insert(k, v),
                            None => truth.remove(&k),
                        };
                        w.cache.handle(change(k, v), now);
                    }
                    Op::Steps(n) => {
                        for _ in 0..n {
                            w.step();
                        }
                    }
                    Op::Reconnect => w.reconnect(),
                    Op::Restart => {
                        w.cache = World::cache(now, &truth);
                        w.reconnect();
                    }
                }
            }
            while w.step() {}
            let expected: BTreeMap<String, Vec<u8>> = truth
                .iter()
                .map(|(k, v)| (Key::GlobalConfig(k.to_string()).path(), v.to_string().into_bytes()))
                .collect();
            prop_assert_eq!(&w.view, &expected);
            prop_assert_eq!(w.said_in_sync, 1);
            prop_assert_eq!(w.merge.len(), expected.len());
        }

        #[test]
        fn any_bytes_from_a_server_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut m = Merge::default();
            m.connected();
            if let Ok(updates) = proto::Updates::decode(bytes.as_slice()) {
                m.updates(updates);
            }
        }
    }
}
