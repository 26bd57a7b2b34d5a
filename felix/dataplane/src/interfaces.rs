//! What interfaces there are, with their addresses: kept up to date from notifications.
//!
//! In: read-backs and events of rtnetlink. Out: the interfaces, and the names of those that changed. Always holds: the
//! same notifications in any order that the kernel may send them lead to what a read-back gives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::kernel::route::{Event, Link};

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: Arc<str>,
    pub up: bool,
    pub addresses: BTreeSet<IpAddr>,
}

/// All interfaces.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    by_index: BTreeMap<u32, Interface>,
    names: HashMap<Arc<str>, u32>,
    version: u64,
}

impl Interfaces {
    /// From a read-back.
    #[must_use]
    pub fn new(links: Vec<Link>, addresses: Vec<(u32, IpAddr)>) -> Self {
        let mut me = Self::default();
        for l in links {
            me.link(&l);
        }
        for (index, addr) in addresses {
            if let Some(i) = me.by_index.get_mut(&index) {
                i.addresses.insert(addr);
            }
        }
        me
    }

    /// Another number after each change. After a read-back it begins anew.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All, by index.
    pub fn all(&self) -> impl Iterator<Item = &Interface> {
        self.by_index.values()
    }

    /// By index.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<&Interface> {
        self.by_index.get(&index)
    }

    /// By name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.names.get(name).and_then(|i| self.by_index.get(i))
    }

    /// By name, where it is up.
    #[must_use]
    pub fn up(&self, name: &str) -> Option<&Interface> {
        self.by_name(name).filter(|i| i.up)
    }

    /// Takes a notification; returns the interface's name where something changed.
    pub fn on_event(&mut self, event: &Event) -> Option<Arc<str>> {
        let changed = self.take(event);
        self.version += u64::from(changed.is_some());
        changed
    }

    fn take(&mut self, event: &Event) -> Option<Arc<str>> {
        match event {
            Event::Link(l) => self.link(l),
            Event::LinkGone(l) => {
                let gone = self.by_index.remove(&l.index)?;
                if self.names.get(&gone.name) == Some(&l.index) {
                    self.names.remove(&gone.name);
                }
                Some(gone.name)
            }
            Event::Addr { index, addr, present } => {
                let i = self.by_index.get_mut(index)?;
                let changed = if *present { i.addresses.insert(*addr) } else { i.addresses.remove(addr) };
                changed.then(|| i.name.clone())
            }
            Event::Route(..) => None,
        }
    }

    fn link(&mut self, l: &Link) -> Option<Arc<str>> {
        if let Some(i) = self.by_index.get_mut(&l.index) {
            if *i.name == *l.name && i.up == l.up {
                return None;
            }
            if *i.name != *l.name {
                self.names.remove(&i.name);
                i.name = l.name.as_str().into();
            }
            i.up = l.up;
            self.names.insert(i.name.clone(), l.index);
            return Some(i.name.clone());
        }
        let name: Arc<str> = l.name.as_str().into();
        self.names.insert(name.clone(), l.index);
        let new = Interface { index: l.index, name: name.clone(), up: l.up, addresses: BTreeSet::new() };
        self.by_index.insert(l.index, new);
        Some(name)
    }
}
