//! Everything that has labels and addresses: workload endpoints of the whole cluster, this host's endpoints, network
//! sets. Kept small: this is what grows with the cluster.
//!
//! In come endpoints and network sets by key, out go their labels ([`View`]), addresses and named ports, and which
//! items have an address. An item keeps a hash of its key instead of the key, ids of shared labels, profiles and
//! ports, and its addresses; nothing else of a remote endpoint is needed.
//!
//! Always holds: every address of every item is in the index by address exactly once.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::{IpNet, Ipv4Net};
use libcalico_model::Key;
use libcalico_model::backend::EndpointPort;
use sha2::{Digest, Sha224};

use crate::intern::Pool;
use crate::labels::{Labels, View};

/// First bytes of a key's hash: no two keys that anybody can find share them.
pub type KeyHash = [u64; 2];

/// Number of an item.
pub type ItemId = u32;

/// What comes in.
#[derive(Clone, Copy)]
pub struct NewItem<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub profiles: &'a [String],
    pub nets: &'a [IpNet],
    pub ports: &'a [EndpointPort],
}

/// A named port with its protocol's IANA number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NamedPort {
    pub name: Box<str>,
    pub protocol: u8,
    pub port: u16,
}

impl NamedPort {
    /// True where it has the name, and the protocol where one is asked for.
    pub fn is(&self, protocol: Option<u8>, name: &str) -> bool {
        *self.name == *name && protocol.is_none_or(|p| p == self.protocol)
    }
}

/// Addresses of an item, sorted and distinct. One IPv4 address, the usual case, needs no memory of its own.
enum Nets {
    One(Ipv4Net),
    Many(Box<[IpNet]>),
}

impl Nets {
    fn new(nets: &[IpNet]) -> Self {
        if let [IpNet::V4(net)] = nets {
            return Self::One(*net);
        }
        Self::Many(nets.into())
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(nets) => nets.len(),
        }
    }

    fn at(&self, i: u32) -> Option<IpNet> {
        match self {
            Self::One(net) => (i == 0).then_some(IpNet::V4(*net)),
            Self::Many(nets) => nets.get(i as usize).copied(),
        }
    }
}

struct Item {
    key: KeyHash,
    nets: Nets,
    set: u32,
    place_in_set: u32,
    list: u32,
    place_in_list: u32,
    ports: u32,
}

/// The labels and ports of an item, with a reference to each: what an update changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    pub set: u32,
    pub list: u32,
    pub ports: u32,
}

/// See the module's text.
#[derive(Default)]
pub struct Items {
    pub labels: Labels,
    ports: Pool<Box<[NamedPort]>>,
    items: Vec<Option<Item>>,
    free: Vec<ItemId>,
    by_key: HashTable<ItemId>,
    /// Item and place in its addresses.
    by_net: HashTable<(ItemId, u32)>,
    hasher: DefaultHashBuilder,
}

/// Parts are closed by a byte that names cannot have, so that no two keys give one text.
fn hash_key(key: &Key) -> KeyHash {
    let mut hash = Sha224::new();
    let mut part = |text: &str| {
        hash.update(text.as_bytes());
        hash.update([0xff]);
    };
    match key {
        Key::WorkloadEndpoint(k) => [&k.host, &k.orchestrator, &k.workload, &k.endpoint].map(|p| part(p)),
        other => [other.path(), String::new(), String::new(), String::new()].map(|p| part(&p)),
    };
    let digest = hash.finalize();
    let word =
        |i: usize| digest.iter().skip(i * 8).take(8).fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    [word(0), word(1)]
}

impl Items {
    /// The hash by which an item is found.
    pub fn hash(key: &Key) -> KeyHash {
        hash_key(key)
    }

    /// The item of a key.
    pub fn find(&self, key: KeyHash) -> Option<ItemId> {
        self.by_key.find(key[0], |&id| self.item(id).is_some_and(|i| i.key == key)).copied()
    }

    fn item(&self, id: ItemId) -> Option<&Item> {
        self.items.get(id as usize)?.as_ref()
    }

    /// Takes references to the labels, profiles and ports of an item to come.
    pub fn acquire(&mut self, new: &NewItem<'_>) -> Traits {
        let mut ports: Vec<NamedPort> = new
            .ports
            .iter()
            .filter_map(|p| {
                let protocol = p.protocol.number()?;
                Some(NamedPort { name: p.name.as_str().into(), protocol, port: p.port })
            })
            .collect();
        ports.sort_unstable_by(|a, b| (&a.name, a.protocol, a.port).cmp(&(&b.name, b.protocol, b.port)));
        ports.dedup();
        let ports = ports.into_boxed_slice();
        Traits {
            set: self.labels.acquire_set(new.labels),
            list: self.labels.acquire_list(new.profiles),
            ports: self.ports.acquire(&*ports, || ports.clone()).id,
        }
    }

    /// Gives the references of [`Self::acquire`] back.
    pub fn release(&mut self, traits: Traits) {
        self.labels.release_set(traits.set);
        self.labels.release_list(traits.list);
        self.ports.release(traits.ports);
    }

    /// Puts an item in, with its networks without host bits, sorted and distinct. It takes the references over.
    pub fn insert(&mut self, key: KeyHash, nets: &[IpNet], traits: Traits) -> ItemId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.items.push(None);
            self.items.len() as ItemId - 1
        });
        let (place_in_set, place_in_list) = self.labels.join(id, traits.set, traits.list);
        let nets = Nets::new(nets);
        let count = nets.len() as u32;
        let Traits { set, list, ports } = traits;
        self.items[id as usize] = Some(Item { key, nets, set, place_in_set, list, place_in_list, ports });
        let items = &self.items;
        self.by_key.insert_unique(key[0], id, |&i| items[i as usize].as_ref().map_or(0, |i| i.key[0]));
        let hasher = &self.hasher;
        let hash = |&(i, n): &(ItemId, u32)| {
            let net = items[i as usize].as_ref().and_then(|item| item.nets.at(n));
            net.map_or(0, |net| hasher.hash_one(net))
        };
        for n in 0..count {
            self.by_net.insert_unique(hash(&(id, n)), (id, n), hash);
        }
        id
    }

    /// Takes an item out with its references.
    pub fn remove(&mut self, id: ItemId) {
        let Some(item) = self.item(id) else { return };
        let (key, traits) = (item.key, self.traits(id));
        let hashes: Vec<u64> = self.nets(id).map(|net| self.hasher.hash_one(net)).collect();
        for (n, hash) in hashes.into_iter().enumerate() {
            let n = n as u32;
            if let Ok(entry) = self.by_net.find_entry(hash, |&e| e == (id, n)) {
                entry.remove();
            }
        }
        if let Ok(entry) = self.by_key.find_entry(key[0], |&i| i == id) {
            entry.remove();
        }
        let Some(item) = self.items[id as usize].take() else { return };
        if let Some(moved) = self.labels.leave_set(item.set, item.place_in_set)
            && let Some(moved) = self.items[moved as usize].as_mut()
        {
            moved.place_in_set = item.place_in_set;
        }
        if let Some(moved) = self.labels.leave_list(item.list, item.place_in_list)
            && let Some(moved) = self.items[moved as usize].as_mut()
        {
            moved.place_in_list = item.place_in_list;
        }
        if let Some(traits) = traits {
            self.release(traits);
        }
        self.free.push(id);
    }

    /// Ids of an item's labels, profiles and ports.
    pub fn traits(&self, id: ItemId) -> Option<Traits> {
        self.item(id).map(|i| Traits { set: i.set, list: i.list, ports: i.ports })
    }

    /// An item's labels.
    pub fn view(&self, id: ItemId) -> View<'_> {
        let (set, list) = self.item(id).map_or((u32::MAX, u32::MAX), |i| (i.set, i.list));
        self.labels.view(set, list)
    }

    /// An item's addresses, sorted.
    pub fn nets(&self, id: ItemId) -> impl Iterator<Item = IpNet> + '_ {
        self.item(id).into_iter().flat_map(|i| (0..i.nets.len() as u32).filter_map(|n| i.nets.at(n)))
    }

    /// The ports of an id.
    pub fn ports(&self, ports: u32) -> &[NamedPort] {
        self.ports.get(ports).map_or(&[], |p| p)
    }

    /// Items that have exactly this address.
    pub fn with_net(&self, net: IpNet) -> impl Iterator<Item = ItemId> + '_ {
        let hits = self.by_net.iter_hash(self.hasher.hash_one(net));
        hits.filter(move |&&(id, n)| self.item(id).is_some_and(|i| i.nets.at(n) == Some(net)))
            .map(|&(id, _)| id)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }
}
