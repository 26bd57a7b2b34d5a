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

    /// Takes a notification; returns the names of what changed: of an interface with a new name the old one too.
    pub fn on_event(&mut self, event: &Event) -> Vec<Arc<str>> {
        let changed = self.take(event);
        self.version += u64::from(!changed.is_empty());
        changed
    }

    fn take(&mut self, event: &Event) -> Vec<Arc<str>> {
        match event {
            Event::Link(l) => self.link(l),
            Event::LinkGone(l) => {
                let Some(gone) = self.by_index.remove(&l.index) else { return Vec::new() };
                self.forget_name(&gone.name, l.index);
                vec![gone.name]
            }
            Event::Addr { index, addr, present } => {
                let Some(i) = self.by_index.get_mut(index) else { return Vec::new() };
                let changed = if *present { i.addresses.insert(*addr) } else { i.addresses.remove(addr) };
                if changed { vec![i.name.clone()] } else { Vec::new() }
            }
            Event::Route(..) => Vec::new(),
        }
    }

    /// The interface has the name no longer. Another one may have it by now.
    fn forget_name(&mut self, name: &Arc<str>, index: u32) {
        if self.names.get(name) == Some(&index) {
            self.names.remove(name);
        }
    }

    fn link(&mut self, l: &Link) -> Vec<Arc<str>> {
        if let Some(i) = self.by_index.get_mut(&l.index) {
            if *i.name == *l.name && i.up == l.up {
                return Vec::new();
            }
            i.up = l.up;
            let (old, new): (_, Arc<str>) = (i.name.clone(), l.name.as_str().into());
            i.name = new.clone();
            let mut changed = vec![new.clone()];
            if old != new {
                self.forget_name(&old, l.index);
                changed.push(old);
            }
            self.names.insert(new, l.index);
            return changed;
        }
        let name: Arc<str> = l.name.as_str().into();
        self.names.insert(name.clone(), l.index);
        let new = Interface { index: l.index, name: name.clone(), up: l.up, addresses: BTreeSet::new() };
        self.by_index.insert(l.index, new);
        vec![name]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Event {
        Event::Link(Link { index, name: name.to_owned(), up: true })
    }

    #[test]
    fn a_name_that_another_interface_took_over_stays_its_own() {
        let mut all = Interfaces::default();
        all.on_event(&link(1, "cali1"));
        // The second one took the name; that the first one has another now is told later.
        all.on_event(&link(2, "cali1"));
        let changed = all.on_event(&link(1, "old"));
        assert_eq!(changed.iter().map(|n| &**n).collect::<Vec<_>>(), ["old", "cali1"]);
        assert_eq!(all.by_name("cali1").map(|i| i.index), Some(2));
        assert_eq!(all.by_name("old").map(|i| i.index), Some(1));
        assert!(all.on_event(&link(1, "old")).is_empty());
    }
}
