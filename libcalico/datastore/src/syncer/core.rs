//! The syncer's state: what stands in the datastore as far as it was told, and what became of each object.
//!
//! In come listings and changes of stored objects, out go updates of converted keys and the sync status. Pure: no I/O,
//! no clock. Always holds: the outputs are a function of the stored objects alone, whatever order they came in. Where two
//! stored objects make the same output, the one with the smaller key wins, and the other takes its place when it goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::sync::Arc;

use libcalico_model::{Key, KeyValue, Revision, SyncStatus, SyncerEvent, Update, Value};

use super::convert::Converter;
use crate::Scope;

/// Updates in one event.
pub const MAX_BATCH: usize = 256;

/// What the datastore said of one scope.
#[derive(Debug)]
pub enum Input {
    /// Everything in the scope.
    Listing(Vec<KeyValue>),
    Set(KeyValue),
    /// Deleted or malformed.
    Absent(Key),
}

/// One stored object.
struct Entry {
    /// Of its revision and identity: the same fingerprint means the same object.
    fingerprint: u64,
    /// The listing that confirmed it last.
    generation: u64,
    outputs: Vec<Arc<Key>>,
}

/// By stored object: what it makes of an output.
type Claims = BTreeMap<Arc<Key>, (Value, Revision)>;

/// The state of a syncer.
pub struct Core<C> {
    scopes: Vec<Scope>,
    converter: C,
    entries: Vec<HashMap<Arc<Key>, Entry>>,
    listed: Vec<bool>,
    generation: u64,
    /// By contested output: what each stored object makes of it. The first counts.
    claims: HashMap<Arc<Key>, Claims>,
    /// Objects that could not be converted, so that each is logged once.
    broken: HashSet<(Arc<Key>, u64)>,
    pending: Vec<Update>,
    status: Option<SyncStatus>,
}

impl<C: Converter> Core<C> {
    pub fn new(scopes: Vec<Scope>, converter: C) -> Self {
        let pending = converter
            .builtin()
            .into_iter()
            .map(|(key, value)| Update { key, value: Some(value), revision: Revision::default() })
            .collect();
        Self {
            entries: scopes.iter().map(|_| HashMap::new()).collect(),
            listed: vec![false; scopes.len()],
            scopes,
            converter,
            generation: 0,
            claims: HashMap::new(),
            broken: HashSet::new(),
            pending,
            status: None,
        }
    }

    /// The scope's text, for logs.
    pub fn scope(&self, index: usize) -> String {
        self.scopes.get(index).map(Scope::prefix).unwrap_or_default()
    }

    /// True once every scope was listed.
    pub fn in_sync(&self) -> bool {
        self.listed.iter().all(|l| *l)
    }

    /// Takes in what was said of a scope.
    pub fn handle(&mut self, scope: usize, input: Input) {
        match input {
            Input::Listing(items) => self.listing(scope, items),
            Input::Set(kv) => self.set(scope, &kv),
            Input::Absent(key) => self.remove(scope, &key),
        }
    }

    /// What is to be sent now, in order.
    pub fn take_events(&mut self) -> Vec<SyncerEvent> {
        let mut events = Vec::new();
        if self.status.is_none() {
            events.push(self.advance(SyncStatus::WaitForDatastore));
        }
        let started = self.listed.iter().any(|l| *l) || self.in_sync();
        if started && self.status == Some(SyncStatus::WaitForDatastore) {
            events.push(self.advance(SyncStatus::ResyncInProgress));
        }
        // Nothing is sent before the datastore was reached, not even what is built in.
        if started {
            let mut pending = mem::take(&mut self.pending).into_iter().peekable();
            while pending.peek().is_some() {
                events.push(SyncerEvent::Updates(pending.by_ref().take(MAX_BATCH).collect()));
            }
        }
        if self.in_sync() && self.status != Some(SyncStatus::InSync) {
            events.push(self.advance(SyncStatus::InSync));
        }
        events
    }

    fn advance(&mut self, status: SyncStatus) -> SyncerEvent {
        self.status = Some(status);
        SyncerEvent::Status(status)
    }

    fn listing(&mut self, scope: usize, items: Vec<KeyValue>) {
        self.generation += 1;
        for kv in items {
            self.set(scope, &kv);
        }
        let generation = self.generation;
        let Some(entries) = self.entries.get(scope) else { return };
        let gone: Vec<Arc<Key>> =
            entries.iter().filter(|(_, e)| e.generation != generation).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.remove(scope, &key);
        }
        if let Some(listed) = self.listed.get_mut(scope) {
            *listed = true;
        }
    }

    fn set(&mut self, scope: usize, kv: &KeyValue) {
        let fingerprint = fingerprint(kv);
        let generation = self.generation;
        let Some(entries) = self.entries.get_mut(scope) else { return };
        let (key, previous) = match entries.get_key_value(&kv.key) {
            Some((key, e)) if e.fingerprint == fingerprint => {
                let key = key.clone();
                if let Some(e) = entries.get_mut(&key) {
                    e.generation = generation;
                }
                return;
            }
            Some((key, _)) => (key.clone(), true),
            None => (Arc::new(kv.key.clone()), false),
        };
        let old =
            if previous { entries.remove(&key).map(|e| e.outputs).unwrap_or_default() } else { Vec::new() };
        let made = match self.converter.convert(kv) {
            Ok(made) => made,
            Err(reason) => {
                if self.broken.insert((key.clone(), fingerprint)) {
                    tracing::warn!(key = %key, reason, "object that cannot be used is treated as absent");
                }
                Vec::new()
            }
        };
        let mut outputs = Vec::with_capacity(made.len());
        for (output, value) in made {
            let output = if output == *key { key.clone() } else { Arc::new(output) };
            self.produce(&key, &output, value, &kv.revision);
            outputs.push(output);
        }
        for output in old {
            if !outputs.contains(&output) {
                self.retract(&key, &output);
            }
        }
        if let Some(entries) = self.entries.get_mut(scope) {
            entries.insert(key, Entry { fingerprint, generation, outputs });
        }
    }

    fn remove(&mut self, scope: usize, key: &Key) {
        let Some((key, entry)) = self.entries.get_mut(scope).and_then(|e| e.remove_entry(key)) else {
            return;
        };
        for output in &entry.outputs {
            self.retract(&key, output);
        }
        if !self.broken.is_empty() {
            self.broken.retain(|(k, _)| *k != key);
        }
    }

    /// A stored object makes an output.
    fn produce(&mut self, stored: &Arc<Key>, output: &Arc<Key>, value: Value, revision: &Revision) {
        if contested(output) {
            let claims = self.claims.entry(output.clone()).or_default();
            claims.insert(stored.clone(), (value.clone(), revision.clone()));
            if let Some((winner, _)) = claims.first_key_value().filter(|(k, _)| *k != stored) {
                tracing::warn!(key = %output, kept = %winner, ignored = %stored, "two objects stand for the same thing");
                return;
            }
        }
        let key = Key::clone(output);
        self.pending.push(Update { key, value: Some(value), revision: revision.clone() });
    }

    /// A stored object no longer makes an output.
    fn retract(&mut self, stored: &Arc<Key>, output: &Arc<Key>) {
        let mut update = Update { key: Key::clone(output), value: None, revision: Revision::default() };
        if let Some(claims) = self.claims.get_mut(output) {
            let won = claims.first_key_value().is_some_and(|(k, _)| k == stored);
            claims.remove(stored);
            match claims.first_key_value() {
                None => {
                    self.claims.remove(output);
                }
                Some(_) if !won => return,
                Some((_, (value, revision))) => {
                    update.value = Some(value.clone());
                    update.revision = revision.clone();
                }
            }
        }
        self.pending.push(update);
    }
}

/// Outputs that two stored objects can both make: pools of one CIDR.
fn contested(output: &Key) -> bool {
    matches!(output, Key::IpPool(_))
}

/// Two writes never share it: a revision is used once in a datastore's life, and what was made anew in a datastore that
/// was wiped has a new identity.
fn fingerprint(kv: &KeyValue) -> u64 {
    let mut h = DefaultHasher::new();
    kv.revision.hash(&mut h);
    match &kv.value {
        Value::Resource(r) => r.metadata().uid.hash(&mut h),
        Value::Block(b) => b.sequence_number.hash(&mut h),
        _ => {}
    }
    h.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use libcalico_api::{Kind, Resource};
    use proptest::prelude::*;

    use super::*;
    use crate::syncer::{FelixConverter, felix_scopes};

    /// One thing that happens to the datastore, and whether the watch tells of it.
    #[derive(Clone, Debug)]
    enum Op {
        Set {
            object: usize,
            variant: usize,
            told: bool,
        },
        Delete {
            object: usize,
            told: bool,
        },
        /// Told twice, as a watch from an older revision does.
        Repeat {
            object: usize,
        },
        Relist,
    }

    /// Few objects that get in each other's way: pools of one network, good and bad sets, a node, a policy.
    fn object(object: usize, variant: usize) -> (Kind, &'static str, &'static str, String) {
        let cidr = ["10.0.0.0/16", "10.1.0.0/16", "nonsense"][variant % 3];
        match object {
            0 => (Kind::IPPool, "", "a", format!(r#"{{"cidr":"{cidr}","natOutgoing":true}}"#)),
            1 => (Kind::IPPool, "", "b", format!(r#"{{"cidr":"{cidr}"}}"#)),
            2 => (Kind::IPPool, "", "c", format!(r#"{{"cidr":"{cidr}","disabled":true}}"#)),
            3 => (Kind::GlobalNetworkSet, "", "s", format!(r#"{{"nets":["{cidr}"]}}"#)),
            4 => (Kind::NetworkSet, "ns", "s", format!(r#"{{"nets":["{cidr}"]}}"#)),
            5 => (
                Kind::Node,
                "",
                "n",
                format!(r#"{{"bgp":{{"ipv4Address":"{cidr}"}},"ipv4VXLANTunnelAddr":"10.9.0.{variant}"}}"#),
            ),
            _ => (
                Kind::NetworkPolicy,
                "ns",
                "p",
                format!(
                    r#"{{"selector":"a == 'b'","ingress":[{{"action":"Deny","source":{{"nets":["{cidr}"]}}}}]}}"#
                ),
            ),
        }
    }

    fn stored(index: usize, variant: usize, revision: u64) -> KeyValue {
        let (kind, ns, name, spec) = object(index, variant);
        let json =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"{ns}","uid":"{index}"}},"spec":{spec}}}"#);
        let resource = Resource::from_json(kind, json.as_bytes()).unwrap();
        let key = Key::resource(kind, ns, name);
        KeyValue { key, value: resource.into(), revision: Revision(revision.to_string()) }
    }

    fn scope_of(key: &Key) -> usize {
        felix_scopes().iter().position(|s| s.contains(key)).unwrap()
    }

    fn fold(events: Vec<SyncerEvent>, view: &mut BTreeMap<String, Vec<u8>>) {
        for event in events {
            let SyncerEvent::Updates(updates) = event else { continue };
            for u in updates {
                match u.value {
                    Some(v) => view.insert(u.key.path(), v.to_bytes()),
                    None => view.remove(&u.key.path()),
                };
            }
        }
    }

    fn relist(core: &mut Core<FelixConverter>, truth: &BTreeMap<Key, KeyValue>) {
        for (i, scope) in felix_scopes().iter().enumerate() {
            let items = truth.values().filter(|kv| scope.contains(&kv.key)).cloned().collect();
            core.handle(i, Input::Listing(items));
        }
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..7usize, 0..3usize, any::<bool>())
                .prop_map(|(object, variant, told)| Op::Set { object, variant, told }),
            2 => (0..7usize, any::<bool>()).prop_map(|(object, told)| Op::Delete { object, told }),
            1 => (0..7usize).prop_map(|object| Op::Repeat { object }),
            1 => Just(Op::Relist),
        ]
    }

    proptest! {
        /// Whatever the reader was told, and however often, in the end it has what a new reader gets.
        #[test]
        fn the_view_is_a_function_of_what_is_stored(ops in prop::collection::vec(op(), 0..60)) {
            let mut core = Core::new(felix_scopes(), FelixConverter);
            let mut truth: BTreeMap<Key, KeyValue> = BTreeMap::new();
            let mut view = BTreeMap::new();
            for (revision, op) in (1u64..).zip(ops) {
                match op {
                    Op::Set { object, variant, told } => {
                        let kv = stored(object, variant, revision);
                        truth.insert(kv.key.clone(), kv.clone());
                        if told {
                            core.handle(scope_of(&kv.key), Input::Set(kv));
                        }
                    }
                    Op::Delete { object, told } => {
                        let key = stored(object, 0, 0).key;
                        truth.remove(&key);
                        if told {
                            core.handle(scope_of(&key), Input::Absent(key));
                        }
                    }
                    Op::Repeat { object } => {
                        let key = stored(object, 0, 0).key;
                        if let Some(kv) = truth.get(&key) {
                            core.handle(scope_of(&key), Input::Set(kv.clone()));
                        }
                    }
                    Op::Relist => relist(&mut core, &truth),
                }
                fold(core.take_events(), &mut view);
            }
            relist(&mut core, &truth);
            fold(core.take_events(), &mut view);
            let mut fresh = Core::new(felix_scopes(), FelixConverter);
            relist(&mut fresh, &truth);
            let mut expected = BTreeMap::new();
            fold(fresh.take_events(), &mut expected);
            prop_assert_eq!(&view, &expected);
            // And a listing that says nothing new sends nothing.
            relist(&mut core, &truth);
            prop_assert_eq!(core.take_events(), Vec::new());
        }
    }
}
