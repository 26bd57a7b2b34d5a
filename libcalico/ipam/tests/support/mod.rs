//! Datastores that misbehave on purpose, and what must hold of IPAM's data at rest.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::{Datastore, Found, Listing, Read, Result, Scope, WatchEvent, Write};
use libcalico_ipam::block;
use libcalico_model::ipam::{AffinityState, AllocationBlock};
use libcalico_model::{Key, KeyValue, Revision, Value};
use libcalico_net::cidr::IpNet;
use serde_json::json;
use tokio::sync::mpsc;

/// How a datastore behaves towards one client.
#[derive(Default)]
pub struct Behaviour {
    /// Times that other tasks run before each call, taken in turn and repeated.
    pub yields: Vec<usize>,
    /// The call that never returns: before (`false`) or after (`true`) it was done.
    pub dies_at: Option<(usize, bool)>,
    /// Writes of a batch one after the other, as a store without transactions.
    pub one_by_one: bool,
    /// How many writes ago each list from the cache was, taken in turn and repeated; none: the store has no cache.
    pub ages: Vec<u64>,
    /// The host whose client this is, where affinity is strict: it takes no address of another host's block.
    pub strict: Option<&'static str>,
}

/// A client's view of a shared datastore.
pub struct Client {
    inner: Arc<MemoryDatastore>,
    behaviour: Behaviour,
    calls: AtomicUsize,
    cached_lists: AtomicUsize,
    pub died: Mutex<bool>,
}

impl Client {
    pub fn new(inner: &Arc<MemoryDatastore>, behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            behaviour,
            calls: AtomicUsize::new(0),
            cached_lists: AtomicUsize::new(0),
            died: Mutex::new(false),
        })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn call<T>(&self, work: impl Future<Output = T>) -> T {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.behaviour.yields.get(n % self.behaviour.yields.len().max(1)) {
            for _ in 0..*times {
                tokio::task::yield_now().await;
            }
        }
        if self.behaviour.dies_at == Some((n, false)) {
            self.die().await;
        }
        let done = work.await;
        if self.behaviour.dies_at == Some((n, true)) {
            self.die().await;
        }
        done
    }

    /// What a cache says that may be of any age, and of another one in each answer.
    async fn look(&self, reads: &[Read]) -> Result<Vec<Found>> {
        let mut found = self.inner.read_many(reads).await?;
        if self.behaviour.ages.is_empty() {
            return Ok(found);
        }
        for (read, found) in reads.iter().zip(&mut found) {
            if let Read::Cached(scope) = read {
                let n = self.cached_lists.fetch_add(1, Ordering::Relaxed);
                let age = self.behaviour.ages[n % self.behaviour.ages.len()];
                *found = Found::Cached(self.inner.list_earlier(scope, age)?);
            }
        }
        Ok(found)
    }

    /// Asserts that a block that gives its host another address is no other host's.
    async fn judge(&self, write: &Write) {
        let (Some(host), Write::Create(Key::Block(cidr), Value::Block(new))) =
            (self.behaviour.strict, &as_create(write))
        else {
            return;
        };
        let of_host = |b: &AllocationBlock| {
            let mine = format!("{host}-");
            block::allocated(b)
                .filter(|(_, a)| a.handle_id.as_ref().is_some_and(|h| h.starts_with(&mine)))
                .count()
        };
        let before = match self.inner.get(&Key::Block(*cidr)).await.map(|kv| kv.value) {
            Ok(Value::Block(b)) => of_host(&b),
            _ => 0,
        };
        if of_host(new) > before {
            let owner = block::owner_text(new);
            let own = format!("host:{host}");
            assert!(owner.as_ref().is_none_or(|o| *o == own), "{host} takes of {cidr}, which is {owner:?}'s");
        }
    }

    async fn die(&self) {
        *self.died.lock().unwrap() = true;
        std::future::pending::<()>().await;
    }
}

/// A write as one of its value.
fn as_create(write: &Write) -> Write {
    match write {
        Write::Update(kv) => Write::Create(kv.key.clone(), kv.value.clone()),
        other => other.clone(),
    }
}

#[async_trait]
impl Datastore for Client {
    fn atomic(&self) -> bool {
        !self.behaviour.one_by_one
    }
    async fn get(&self, key: &Key) -> Result<KeyValue> {
        self.call(self.inner.get(key)).await
    }
    async fn list(&self, scope: &Scope) -> Result<Listing> {
        self.call(self.inner.list(scope)).await
    }
    async fn read_many(&self, reads: &[Read]) -> Result<Vec<Found>> {
        self.call(self.look(reads)).await
    }
    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.call(self.inner.create(key, value)).await
    }
    async fn update(&self, kv: KeyValue) -> Result<KeyValue> {
        self.call(self.inner.update(kv)).await
    }
    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.call(self.inner.apply(key, value)).await
    }
    async fn delete(&self, key: &Key, revision: Option<&Revision>) -> Result<KeyValue> {
        self.call(self.inner.delete(key, revision)).await
    }
    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        for write in &writes {
            self.judge(write).await;
        }
        if !self.behaviour.one_by_one {
            return self.call(self.inner.write_all(writes)).await;
        }
        let mut revisions = Vec::new();
        for w in writes {
            revisions.push(match w {
                Write::Create(k, v) => self.create(&k, v).await?.revision,
                Write::Update(kv) => self.update(kv).await?.revision,
                Write::Delete(k, r) => self.delete(&k, r.as_ref()).await?.revision,
            });
        }
        Ok(revisions)
    }
    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        self.inner.watch(scope, from).await
    }
}

/// Objects for a test: nodes and pools.
pub async fn seed(store: &dyn Datastore, hosts: &[&str], pools: &[(&str, i64)]) {
    for h in hosts {
        put(store, Kind::Node, h, json!({})).await;
    }
    for (i, (cidr, size)) in pools.iter().enumerate() {
        put(store, Kind::IPPool, &format!("pool-{i}"), json!({"cidr": cidr, "blockSize": size})).await;
    }
}

pub async fn put(store: &dyn Datastore, kind: Kind, name: &str, spec: serde_json::Value) {
    let text = json!({"metadata": {"name": name}, "spec": spec}).to_string();
    let resource = Resource::from_json(kind, text.as_bytes()).unwrap();
    store.apply(&Key::resource(kind, "", name), resource.into()).await.unwrap();
}

/// IPAM's data at rest.
#[derive(Debug, Default)]
pub struct State {
    pub blocks: BTreeMap<IpNet, AllocationBlock>,
    pub claims: BTreeMap<(String, IpNet), AffinityState>,
    /// Handle, block, count.
    pub handles: BTreeMap<String, BTreeMap<String, u32>>,
}

impl State {
    pub async fn read(store: &dyn Datastore) -> Self {
        let mut s = Self::default();
        for scope in [Scope::Blocks, Scope::BlockAffinities { host: None }, Scope::Handles] {
            for kv in store.list(&scope).await.unwrap().items {
                match (kv.key, kv.value) {
                    (Key::Block(c), Value::Block(b)) => {
                        s.blocks.insert(c, *b);
                    }
                    (Key::BlockAffinity { host, cidr, .. }, Value::BlockAffinity(a)) => {
                        s.claims.insert((host, cidr), a.state);
                    }
                    (Key::Handle(id), Value::Handle(h)) => {
                        s.handles.insert(id, h.block);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        s
    }

    /// Allocated addresses with their handles.
    pub fn allocated(&self) -> BTreeMap<std::net::IpAddr, String> {
        let mut all = BTreeMap::new();
        for b in self.blocks.values() {
            for (ip, a) in block::allocated(b) {
                let before = all.insert(ip, a.handle_id.clone().unwrap_or_default());
                assert_eq!(before, None, "{ip} is in two blocks");
            }
        }
        all
    }

    /// What holds at every moment, also between the steps of a change and after a crash.
    pub fn check_always(&self) {
        let mut seen = BTreeSet::new();
        for (cidr, b) in &self.blocks {
            assert_eq!(block::check(b), Ok(()), "{cidr}");
            assert!(seen.insert(cidr));
        }
        let cidrs: Vec<&IpNet> = self.blocks.keys().collect();
        for (i, a) in cidrs.iter().enumerate() {
            for b in &cidrs[i + 1..] {
                assert!(!a.contains(*b) && !b.contains(*a), "{a} and {b} overlap");
            }
        }
        let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
        for b in self.blocks.values() {
            for (_, a) in block::allocated(b) {
                if let Some(h) = &a.handle_id {
                    *counts.entry((h.clone(), b.cidr.to_string())).or_default() += 1;
                }
            }
        }
        for ((handle, cidr), n) in counts {
            let has = self.handles.get(&handle).and_then(|h| h.get(&cidr)).copied().unwrap_or(0);
            assert!(has >= n, "handle {handle} has {has} of {cidr}, the block {n}");
        }
        for ((host, cidr), state) in &self.claims {
            if *state == AffinityState::Confirmed {
                let owner = self.blocks.get(cidr).and_then(block::owner_text);
                assert_eq!(owner, Some(format!("host:{host}")), "confirmed claim on {cidr}");
            }
        }
    }

    /// What holds when nobody is at work and nobody has crashed on a store with transactions.
    pub fn check_at_rest(&self) {
        self.check_always();
        let total: u32 = self.handles.values().flat_map(BTreeMap::values).sum();
        assert_eq!(total as usize, self.allocated().len(), "{:?}", self.handles);
        assert!(self.handles.values().all(|h| !h.is_empty()));
        for (cidr, b) in &self.blocks {
            if let Some(host) = block::owner_text(b).and_then(|o| o.strip_prefix("host:").map(str::to_owned))
            {
                assert!(
                    self.claims.contains_key(&(host.clone(), *cidr)),
                    "{host} owns {cidr} without a claim"
                );
            }
        }
    }
}
