//! Values that many objects share, kept once and named by a small number.
//!
//! In come values, out go ids (`u32`) that stand for them while somebody holds a reference. Always holds: two equal
//! values have one id at a time; an id is given out again only after its last reference was released. A hundred
//! thousand pods of one deployment share one set of labels, and each label's text stands in memory once.
//!
//! Left out: what the values mean.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Reference-counted values with ids. `T` is an owned form such as `Box<str>`; look-ups take its borrowed form.
pub struct Pool<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

struct Slot<T> {
    value: Option<T>,
    refs: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

/// What [`Pool::acquire`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    pub id: u32,
    /// The value was not there before.
    pub fresh: bool,
}

impl<T: Hash + Eq> Pool<T> {
    /// The id of a value that somebody holds.
    pub fn find<Q>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(value);
        self.table.find(hash, |&id| self.get(id).is_some_and(|v| v.borrow() == value)).copied()
    }

    /// Takes a reference to a value; `make` gives its owned form where it is new.
    pub fn acquire<Q>(&mut self, value: &Q, make: impl FnOnce() -> T) -> Acquired
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(id) = self.find(value) {
            self.retain(id);
            return Acquired { id, fresh: false };
        }
        let slot = Slot { value: Some(make()), refs: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        let hash = self.hasher.hash_one(value);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hash, id, |&id| {
            slots[id as usize].value.as_ref().map_or(0, |v| hasher.hash_one(v))
        });
        Acquired { id, fresh: true }
    }

    /// Takes one more reference.
    pub fn retain(&mut self, id: u32) {
        self.slots[id as usize].refs += 1;
    }

    /// Gives a reference back; the value itself where it was the last one.
    pub fn release(&mut self, id: u32) -> Option<T> {
        let slot = &mut self.slots[id as usize];
        slot.refs -= 1;
        if slot.refs > 0 {
            return None;
        }
        let value = slot.value.take()?;
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&value), |&i| i == id) {
            entry.remove();
        }
        self.free.push(id);
        Some(value)
    }

    /// The value of an id that somebody holds.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.value.as_ref()
    }

    /// Ids in use and their values.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| Some((i as u32, s.value.as_ref()?)))
    }
}
