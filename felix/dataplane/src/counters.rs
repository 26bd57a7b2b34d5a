//! How often each rule of a policy matched, from the kernel's own counters.
//!
//! ```text
//!  policy manager ─▶ Counted (chain name → whose rules, chains as rendered)
//!                        │ shared
//!  kernel ──a dump a chain──▶ Reader ─▶ packets and bytes since the last reading, by rule
//! ```
//!
//! Always holds: nobody writes for a reading; a chain is believed only where the kernel's rules are exactly those that
//! were rendered (their tags say so), so a chain that is being replaced is left for the next reading; a rule that was
//! written anew counts from zero. What a rule counted between the last reading and its replacement is lost. Left out:
//! the iptables backends.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use felix_message::{Action, ActivePolicy, ActiveProfile, Rule};

use crate::config::Marks;
use crate::driver::{nft::TABLE, tag};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::batch::Tag;
use crate::kernel::nft::read::{self, RuleCounter};
use crate::kernel::nft::{NETLINK_NETFILTER, NftFamily};
use crate::render::identity::Owner;
use crate::render::names::Direction;
use crate::render::{lower, policy, text};
use crate::rule::{Chain, ChainId, Family, Table};

/// Where rules come from. Shared with the message: no copy.
#[derive(Clone, Debug)]
pub enum Source {
    Policy(Arc<ActivePolicy>),
    Profile(Arc<ActiveProfile>),
}

impl Source {
    /// Rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match (self, direction) {
            (Self::Policy(p), Direction::Ingress) => &p.inbound,
            (Self::Policy(p), Direction::Egress) => &p.outbound,
            (Self::Profile(p), Direction::Ingress) => &p.inbound,
            (Self::Profile(p), Direction::Egress) => &p.outbound,
        }
    }
}

/// A chain whose counters mean something.
#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    direction: Direction,
    source: Source,
    chains: [Option<Arc<Chain>>; 2],
}

/// Chains of policies and profiles, by name without the table. Cheap to clone: clones share.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<HashMap<Arc<str>, Arc<Entry>>>>);

impl Counted {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chain was rendered.
    pub fn set(
        &self,
        name: &Arc<str>,
        owner: &Owner,
        direction: Direction,
        source: Source,
        chains: [Option<Arc<Chain>>; 2],
    ) {
        let entry = Entry { owner: owner.clone(), direction, source, chains };
        self.lock().insert(name.clone(), Arc::new(entry));
    }

    /// A chain is gone.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }
}

/// A rule of a policy or profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleName {
    pub owner: Owner,
    pub direction: Direction,
    /// Place in the policy's list, from zero.
    pub index: usize,
    pub action: ActionName,
}

/// What the rule does, as a word.
pub type ActionName = &'static str;

fn action_name(action: Action) -> ActionName {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Log => "log",
        Action::Pass => "pass",
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// What is worked out of an [`Entry`] once.
#[derive(Debug)]
struct Expected {
    entry: Arc<Entry>,
    tags: Vec<Tag>,
    /// For each kernel rule that counts: its place, and the rule's place in the policy.
    places: Vec<(usize, usize)>,
}

/// Reads counters. Has a socket of its own: reading holds up no writer.
#[derive(Debug)]
pub struct Reader {
    socket: Netlink,
    counted: Counted,
    marks: Marks,
    expected: HashMap<(Family, Table, Arc<str>), Expected>,
    /// By family and handle: the rule's tag and what it counted.
    last: HashMap<(Family, u64), (Tag, Count)>,
}

const TABLES: [Table; 3] = [Table::Filter, Table::Mangle, Table::Raw];

impl Reader {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn new(counted: Counted, marks: Marks) -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_NETFILTER)?;
        Ok(Self { socket, counted, marks, expected: HashMap::new(), last: HashMap::new() })
    }

    /// What every rule that stands in the kernel counted since the last reading; rules that counted nothing are there
    /// with zeros.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn read(&mut self) -> io::Result<BTreeMap<RuleName, Count>> {
        let entries: HashMap<Arc<str>, Arc<Entry>> = self.counted.lock().clone();
        self.expected
            .retain(|(_, _, name), e| entries.get(name).is_some_and(|entry| Arc::ptr_eq(entry, &e.entry)));
        let mut out = BTreeMap::new();
        let mut last = HashMap::with_capacity(self.last.len());
        for family in Family::BOTH {
            let nft = NftFamily::from(family);
            for c in read::chain_names(&mut self.socket, nft)?.into_iter().filter(|c| c.table == TABLE) {
                let found = TABLES.iter().find_map(|t| {
                    let name = c.name.strip_prefix(t.name())?.strip_prefix('-')?;
                    entries.get_key_value(name).map(|(name, entry)| (*t, name, entry))
                });
                let Some((table, name, entry)) = found else { continue };
                let counters = read::counters(&mut self.socket, nft, TABLE, &c.name)?;
                let id = ChainId::new(table, name.clone());
                self.chain(family, &id, entry, &counters, &mut last, &mut out);
            }
        }
        self.last = last;
        Ok(out)
    }

    fn chain(
        &mut self,
        family: Family,
        id: &ChainId,
        entry: &Arc<Entry>,
        counters: &[RuleCounter],
        last: &mut HashMap<(Family, u64), (Tag, Count)>,
        out: &mut BTreeMap<RuleName, Count>,
    ) {
        let key = (family, id.table, id.name.clone());
        let marks = &self.marks;
        let expected = self.expected.entry(key).or_insert_with(|| expect(family, id, entry, marks));
        if !counters.iter().map(|c| c.tag).eq(expected.tags.iter().map(|t| Some(*t))) {
            // Being replaced: what is known of its rules stays for the next time.
            for c in counters {
                if let Some(known) = self.last.get(&(family, c.handle)) {
                    last.insert((family, c.handle), *known);
                }
            }
            return;
        }
        let rules = entry.source.rules(entry.direction);
        for (at, index) in &expected.places {
            let (Some(c), Some(rule)) = (counters.get(*at), rules.get(*index)) else { continue };
            let tag = expected.tags[*at];
            let now = Count { packets: c.packets, bytes: c.bytes };
            let before = self.last.get(&(family, c.handle)).filter(|(t, _)| *t == tag).map(|(_, n)| *n);
            // A counter that went back was written anew.
            let before = before.filter(|b| b.packets <= now.packets).unwrap_or_default();
            last.insert((family, c.handle), (tag, now));
            let name = RuleName {
                owner: entry.owner.clone(),
                direction: entry.direction,
                index: *index,
                action: action_name(rule.action),
            };
            let sum = out.entry(name).or_default();
            sum.packets += now.packets - before.packets;
            sum.bytes += now.bytes.saturating_sub(before.bytes);
        }
    }
}

fn expect(family: Family, id: &ChainId, entry: &Arc<Entry>, marks: &Marks) -> Expected {
    let none = Arc::default();
    let chain = entry.chains[family.index()].as_ref().unwrap_or(&none);
    let lowered = lower::programmed(&chain.rules, marks);
    let tags = lowered.iter().map(|r| tag(text::rule(r, id.table, family).as_bytes())).collect();
    let ends = lower::ends(&chain.rules, marks);
    let counted = policy::counted(entry.source.rules(entry.direction), family);
    let places = counted.into_iter().enumerate().flat_map(|(index, at)| {
        let ends = &ends;
        at.into_iter().filter_map(|n| ends.get(n).cloned()).flatten().map(move |place| (place, index))
    });
    let places = places.collect();
    Expected { entry: entry.clone(), tags, places }
}
