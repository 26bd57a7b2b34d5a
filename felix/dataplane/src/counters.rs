//! How often each rule of a policy matched, from the kernel's own counters.
//!
//! ```text
//!  policy manager ─▶ Counted (chain name → whose rules, chains as rendered)
//!                        │ shared
//!  kernel ──a dump a chain──▶ Reader ─▶ packets and bytes since the last reading, by rule
//!  xtables ──the program──────▶
//! ```
//!
//! Always holds: nobody writes for a reading; a chain is believed only where the kernel's rules are exactly those that
//! were rendered (their tags say so), so a chain that is being replaced is left for the next reading; a rule that was
//! written anew counts from zero. What a rule counted between the last reading and its replacement is lost; with
//! iptables every rule of a chain is replaced where one changes.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use felix_message::{Action, ActivePolicy, ActiveProfile, Rule};

use crate::config::{Backend, Marks};
use crate::driver::iptables::{self, LIMIT, Variant, save};
use crate::driver::{nft::TABLE, tag};
use crate::kernel::command;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::batch::Tag;
use crate::kernel::nft::{NETLINK_NETFILTER, NftFamily, read, xtables};
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

/// What is read of a kernel's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    rule: Id,
    tag: Option<Tag>,
    count: Count,
}

/// A kernel's rule: it keeps its handle; xtables has places alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Handle(u64),
    Place(ChainId, usize),
}

/// Reads counters. Has a socket of its own: reading holds up no writer.
#[derive(Debug)]
pub struct Reader {
    backend: Backend,
    socket: Netlink,
    counted: Counted,
    marks: Marks,
    expected: HashMap<(Family, ChainId), Expected>,
    /// By family and rule: its tag and what it counted.
    last: HashMap<(Family, Id), (Tag, Count)>,
}

/// Chains that rules are counted in, by the names that the kernel has for them.
type Chains = HashMap<String, (Arc<str>, Arc<Entry>)>;

/// What one reading found.
#[derive(Debug, Default)]
struct Found {
    last: HashMap<(Family, Id), (Tag, Count)>,
    counts: BTreeMap<RuleName, Count>,
}

const TABLES: [Table; 3] = [Table::Filter, Table::Mangle, Table::Raw];

impl Reader {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn new(counted: Counted, backend: Backend, marks: Marks) -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_NETFILTER)?;
        Ok(Self { backend, socket, counted, marks, expected: HashMap::new(), last: HashMap::new() })
    }

    /// What every rule that stands in the kernel counted since the last reading; rules that counted nothing are there
    /// with zeros.
    ///
    /// # Errors
    /// As the kernel or, with xtables, its program says.
    pub fn read(&mut self) -> io::Result<BTreeMap<RuleName, Count>> {
        let entries: HashMap<Arc<str>, Arc<Entry>> = self.counted.lock().clone();
        self.expected
            .retain(|(_, id), e| entries.get(&id.name).is_some_and(|entry| Arc::ptr_eq(entry, &e.entry)));
        let named = |(name, entry): (Arc<str>, Arc<Entry>)| match self.backend {
            Backend::Nftables => (name.to_string(), (name, entry)),
            Backend::IptablesNft | Backend::IptablesLegacy => (iptables::chain_name(&name), (name, entry)),
        };
        let chains: Chains = entries.into_iter().map(named).collect();
        let mut found = Found { last: HashMap::with_capacity(self.last.len()), ..Found::default() };
        for family in Family::BOTH {
            match self.backend {
                Backend::Nftables => self.nftables(family, &chains, &mut found)?,
                Backend::IptablesNft => self.iptables_nft(family, &chains, &mut found)?,
                Backend::IptablesLegacy => self.iptables_legacy(family, &chains, &mut found)?,
            }
        }
        self.last = found.last;
        Ok(found.counts)
    }

    fn nftables(&mut self, family: Family, chains: &Chains, found: &mut Found) -> io::Result<()> {
        let nft = NftFamily::from(family);
        for c in read::chain_names(&mut self.socket, nft)?.into_iter().filter(|c| c.table == TABLE) {
            let own = TABLES.iter().find_map(|t| {
                let name = c.name.strip_prefix(t.name())?.strip_prefix('-')?;
                chains.get(name).map(|(name, entry)| (ChainId::new(*t, name.clone()), entry))
            });
            let Some((id, entry)) = own else { continue };
            let read = |r: read::RuleCounter| Read {
                rule: Id::Handle(r.handle),
                tag: r.tag,
                count: Count { packets: r.packets, bytes: r.bytes },
            };
            let rules: Vec<Read> =
                read::counters(&mut self.socket, nft, TABLE, &c.name)?.into_iter().map(read).collect();
            self.chain(family, &id, entry, &rules, found);
        }
        Ok(())
    }

    fn iptables_nft(&mut self, family: Family, chains: &Chains, found: &mut Found) -> io::Result<()> {
        let nft = NftFamily::from(family);
        for c in read::chain_names(&mut self.socket, nft)? {
            let Some(table) = TABLES.into_iter().find(|t| t.name() == c.table) else { continue };
            let Some((name, entry)) = chains.get(&c.name) else { continue };
            let read = |r: xtables::XtRule| Read {
                rule: Id::Handle(r.handle),
                tag: r.tag,
                count: Count { packets: r.packets, bytes: r.bytes },
            };
            let rules = xtables::counters(&mut self.socket, nft, &c.table, &c.name)?;
            let rules: Vec<Read> = rules.into_iter().map(read).collect();
            self.chain(family, &ChainId::new(table, name.clone()), entry, &rules, found);
        }
        Ok(())
    }

    fn iptables_legacy(&mut self, family: Family, chains: &Chains, found: &mut Found) -> io::Result<()> {
        if chains.is_empty() || !Variant::Legacy.may_have_tables(family) {
            return Ok(());
        }
        let program = Variant::Legacy.program(family, "save");
        let printed = command::run(&program, &["--counters"], Vec::new(), LIMIT).map_err(io::Error::other)?;
        for ((table, chain), counters) in save::counters(&String::from_utf8_lossy(&printed)) {
            let Some((name, entry)) = chains.get(chain) else { continue };
            let id = ChainId::new(table, name.clone());
            let read = |(place, c): (usize, save::Counter)| Read {
                rule: Id::Place(id.clone(), place),
                tag: c.tag,
                count: Count { packets: c.packets, bytes: c.bytes },
            };
            let rules: Vec<Read> = counters.into_iter().enumerate().map(read).collect();
            self.chain(family, &id, entry, &rules, found);
        }
        Ok(())
    }

    fn chain(&mut self, family: Family, id: &ChainId, entry: &Arc<Entry>, rules: &[Read], found: &mut Found) {
        let (marks, backend) = (&self.marks, self.backend);
        let expected = self.expected.entry((family, id.clone()));
        let expected = expected.or_insert_with(|| expect(backend, family, id, entry, marks));
        if !rules.iter().map(|r| r.tag).eq(expected.tags.iter().map(|t| Some(*t))) {
            // Being replaced: what is known of its rules stays for the next time.
            for r in rules {
                let key = (family, r.rule.clone());
                if let Some(known) = self.last.get(&key) {
                    found.last.insert(key, *known);
                }
            }
            return;
        }
        let named = entry.source.rules(entry.direction);
        for (at, index) in &expected.places {
            let (Some(r), Some(rule)) = (rules.get(*at), named.get(*index)) else { continue };
            let (tag, now, key) = (expected.tags[*at], r.count, (family, r.rule.clone()));
            let before = self.last.get(&key).filter(|(t, _)| *t == tag).map(|(_, n)| *n);
            // A counter that went back was written anew.
            let before = before.filter(|b| b.packets <= now.packets).unwrap_or_default();
            found.last.insert(key, (tag, now));
            let name = RuleName {
                owner: entry.owner.clone(),
                direction: entry.direction,
                index: *index,
                action: action_name(rule.action),
            };
            let sum = found.counts.entry(name).or_default();
            sum.packets += now.packets - before.packets;
            sum.bytes += now.bytes.saturating_sub(before.bytes);
        }
    }
}

fn expect(backend: Backend, family: Family, id: &ChainId, entry: &Arc<Entry>, marks: &Marks) -> Expected {
    let none = Arc::default();
    let chain = entry.chains[family.index()].as_ref().unwrap_or(&none);
    let (tags, ends) = match backend {
        Backend::Nftables => {
            let lowered = lower::programmed(&chain.rules, id.table, marks);
            let tags = lowered.iter().map(|r| tag(text::rule(r, id.table, family).as_bytes())).collect();
            (tags, lower::ends(&chain.rules, marks))
        }
        Backend::IptablesNft | Backend::IptablesLegacy => {
            let cx = iptables::Context { table: id.table, family, marks };
            let mut tags: Vec<Tag> = Vec::new();
            let ends = chain.rules.iter().map(|r| {
                let (lines, before) = iptables::acting(r, cx);
                let first = tags.len() + before;
                tags.extend(lines.iter().map(|l| tag(l.as_bytes())));
                first..tags.len()
            });
            let ends = ends.collect();
            (tags, ends)
        }
    };
    let counted = policy::counted(entry.source.rules(entry.direction), family);
    let places = counted.into_iter().enumerate().flat_map(|(index, at)| {
        let ends = &ends;
        at.into_iter().filter_map(|n| ends.get(n).cloned()).flatten().map(move |place| (place, index))
    });
    let places = places.collect();
    Expected { entry: entry.clone(), tags, places }
}
