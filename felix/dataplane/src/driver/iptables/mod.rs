//! Programs tables with `iptables-restore` and IP sets with netlink.
//!
//! In: [`Desired`]. Out: at most one `iptables-restore --noflush` for each family and apply, with the chains that
//! changed. Always holds: a table is taken whole or not at all; sets are there before rules name them and go after; in
//! the kernel's chains only our own rules are touched; after a refusal everything is read back before the next try.
//! Ours is a chain by its name (`cali-…`), a rule by the tag in its comment, a set by its name (`cali40…`, `cali60…`):
//! so a restarted process finds what stands. Left out: atomicity over tables and sets, which the kernel does not have
//! here; an order is chosen in which what is new is closed until it is whole.
//!
//! - [`names`], [`text`], [`dispatch`]: rules in iptables' words.
//! - [`read`], [`save`]: reading back, from the kernel and by the program. [`plan`]: what differs. [`sets`]: IP sets.
//!   [`watch`]: notifications.

mod dispatch;
mod names;
mod plan;
pub mod read;
pub mod save;
mod sets;
mod text;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use names::chain as chain_name;
use plan::{Known, Plan, Planner};
pub use sets::Sets;
pub use text::{Context, acting, lines};

use crate::config::{Backend, Config};
use crate::driver::desired::{Desired, DesiredTables};
use crate::driver::{Counts, TableDriver, TableError, Written};
use crate::kernel::command::{self, CommandError, Running};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::{self, GROUP_NFTABLES, NETLINK_NETFILTER};
use crate::rule::Family;
use crate::tally::TALLY;

/// Longest time that one program may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the lock that programs of xtables share, seconds.
const LOCK_WAIT: &str = "--wait=20";
/// How soon tables are read again that someone else changed while they were read.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// How soon what could not be removed is tried again.
const REMOVE_AGAIN: Duration = Duration::from_millis(50);

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    Nft,
    Legacy,
}

impl Variant {
    fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// `iptables-nft-save`, `ip6tables-legacy-restore`.
    #[must_use]
    pub fn program(self, family: Family, verb: &str) -> String {
        let version = match family {
            Family::V4 => "",
            Family::V6 => "6",
        };
        format!("ip{version}tables-{}-{verb}", self.word())
    }

    /// True where the kernel may have tables of this kind. Asking loads nothing; the program would.
    #[must_use]
    pub fn may_have_tables(self, family: Family) -> bool {
        let file = match (self, family) {
            (Self::Nft, _) => return true,
            (Self::Legacy, Family::V4) => "ip_tables_names",
            (Self::Legacy, Family::V6) => "ip6_tables_names",
        };
        // Of the thread: it may be in another network namespace than the process.
        let path = Path::new("/proc/thread-self/net").join(file);
        std::fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty())
    }
}

impl From<CommandError> for TableError {
    fn from(e: CommandError) -> Self {
        let hint = match e {
            CommandError::Missing { .. } => "; install iptables or choose another IptablesBackend",
            _ => "",
        };
        Self(format!("{e}{hint}"))
    }
}

/// The driver.
#[derive(Debug)]
pub struct IptablesDriver {
    variant: Variant,
    config: Arc<Config>,
    known: [Known; 2],
    sets: Sets,
    monitor: Option<Netlink>,
    /// For reading, where the kernel can be asked.
    socket: Option<Netlink>,
    /// The next read-back is the program's: it has the words of rules that are not as they should be.
    in_words: bool,
    resync: bool,
    resync_sets: bool,
}

impl IptablesDriver {
    /// Opens sockets in the calling thread's network namespace. Nothing is read or written yet.
    ///
    /// # Errors
    /// Netlink is refused.
    pub fn new(variant: Variant, config: Arc<Config>) -> Result<Self, TableError> {
        let refused =
            |e: std::io::Error| TableError(format!("cannot open netlink: {e}; is CAP_NET_ADMIN there?"));
        let (monitor, socket) = match variant {
            Variant::Nft => {
                let monitor = Netlink::open_monitor(NETLINK_NETFILTER, &[GROUP_NFTABLES]);
                let socket =
                    Netlink::open(NETLINK_NETFILTER).and_then(|s| s.with_timeout(config.netlink_timeout));
                (Some(monitor.map_err(refused)?), Some(socket.map_err(refused)?))
            }
            Variant::Legacy => (None, None),
        };
        let sets = Sets::new(config.netlink_timeout).map_err(refused)?;
        Ok(Self {
            variant,
            config,
            known: [Known::default(), Known::default()],
            sets,
            monitor,
            socket,
            in_words: false,
            resync: true,
            resync_sets: true,
        })
    }

    /// What stands in both families' tables.
    fn read_back(&mut self) -> Result<[Known; 2], TableError> {
        let families = self.config.families();
        match &mut self.socket {
            Some(socket) if !self.in_words => {
                let mut out = [Known::default(), Known::default()];
                for (family, known) in Family::BOTH.into_iter().zip(&mut out) {
                    match read::tables(socket, family) {
                        Ok(saved) => *known = Known::read(saved),
                        Err(e) if !families.contains(&family) => {
                            tracing::debug!(error = %e, "tables of a family that is off cannot be read");
                        }
                        Err(e) => return Err(unread(e)),
                    }
                }
                Ok(out)
            }
            _ => self.read_in_words(),
        }
    }

    /// What `iptables-save` prints for both families.
    fn read_in_words(&self) -> Result<[Known; 2], TableError> {
        let start = |family: Family| -> Result<Option<Running>, TableError> {
            if !self.variant.may_have_tables(family) {
                return Ok(None);
            }
            let program = self.variant.program(family, "save");
            match command::start(&program, &[], Vec::new(), LIMIT) {
                // A host without IPv6 has no program for it.
                Err(CommandError::Missing { .. }) if !self.enabled(family) => Ok(None),
                other => Ok(Some(other?)),
            }
        };
        let running = [start(Family::V4)?, start(Family::V6)?];
        let mut out = [Known::default(), Known::default()];
        for (running, (family, known)) in running.into_iter().zip(Family::BOTH.into_iter().zip(&mut out)) {
            let Some(running) = running else { continue };
            match running.finish() {
                Ok(printed) => *known = Known::read(save::parse(&String::from_utf8_lossy(&printed))),
                Err(e) if !self.enabled(family) => {
                    tracing::debug!(error = %e, "tables of a family that is off cannot be read");
                }
                Err(e) => return Err(unread(e)),
            }
        }
        Ok(out)
    }

    fn enabled(&self, family: Family) -> bool {
        self.config.families().contains(&family)
    }

    fn try_apply(&mut self, desired: &mut Desired) -> Result<Written, TableError> {
        let resynced = self.resync;
        let mut foreign = self.drifted();
        if resynced {
            self.known = self.read_back()?;
        }
        let sets = self.sets.apply(desired, &self.config, self.resync_sets)?;
        let mut plans = Family::BOTH.map(|f| self.plan(f, desired, resynced));
        if plans.iter().any(|p| p.blind) {
            // Seldom: a rule of ours that is not as wanted, or not by this version, in a kernel's chain.
            self.known = self.read_in_words()?;
            plans = Family::BOTH.map(|f| self.plan(f, desired, true));
        }
        let (operations, bytes, written) = self.restore(&plans)?;
        foreign |= self.wrote_beside_us(written);
        for (known, plan) in self.known.iter_mut().zip(plans) {
            plan.done(known);
        }
        let removed = self.sets.remove_gone()?;
        self.resync = foreign;
        self.resync_sets = false;
        self.in_words = false;
        for t in &mut desired.families {
            t.changes_done();
        }
        let again = match (foreign, removed) {
            // Who writes on and on, while we only read, is not to keep us busy.
            (true, _) => Some(if written.contains(&true) { Duration::ZERO } else { READ_AGAIN }),
            (false, false) => Some(REMOVE_AGAIN),
            (false, true) => None,
        };
        Ok(Written { operations: sets.operations + operations, bytes: sets.bytes + bytes, resynced, again })
    }

    fn plan(&self, family: Family, desired: &Desired, everything: bool) -> Plan {
        let (known, tables) = (&self.known[family.index()], &desired.families[family.index()]);
        let planner = Planner::new(family, &self.config, known, tables);
        match (self.enabled(family), everything) {
            (true, true) => planner.everything(),
            (true, false) => planner.changes(),
            (false, true) => planner.nothing(),
            (false, false) => Plan::default(),
        }
    }

    /// Runs one program for each family that changes. Returns commands, bytes and which families were written.
    fn restore(&self, plans: &[Plan; 2]) -> Result<(usize, usize, [bool; 2]), TableError> {
        let (mut operations, mut bytes, mut written) = (0, 0, [false; 2]);
        let mut started = Vec::new();
        for (family, plan) in Family::BOTH.into_iter().zip(plans) {
            let (input, commands) = plan.input();
            if commands == 0 {
                continue;
            }
            operations += commands;
            bytes += input.len();
            written[family.index()] = true;
            for (table, lines) in plan.operations() {
                TALLY.restore_lines(family, table).add(lines);
            }
            let input = Arc::new(input.into_bytes());
            let program = self.variant.program(family, "restore");
            TALLY.table_calls.add(1);
            let failed = |e: CommandError| {
                TALLY.table_errors.add(1);
                refused(e, &input)
            };
            let running = command::start(&program, &["--noflush", LOCK_WAIT], input.clone(), LIMIT);
            let running = running.map_err(failed)?;
            if self.variant == Variant::Legacy {
                // One would wait for the other's lock.
                running.finish().map_err(failed)?;
            } else {
                started.push((running, input));
            }
        }
        // Both end before either is judged: nothing runs on behind our back.
        let ends: Vec<_> = started.into_iter().map(|(r, input)| (r.finish(), input)).collect();
        TALLY.table_errors.add(ends.iter().filter(|(end, _)| end.is_err()).count());
        for (end, input) in ends {
            end.map_err(|e| refused(e, &input))?;
        }
        Ok((operations, bytes, written))
    }

    /// True where, besides the one program that we ran for a family (`written`), someone else changed what is ours.
    fn wrote_beside_us(&mut self, written: [bool; 2]) -> bool {
        let mut ports: [BTreeSet<u32>; 2] = Default::default();
        let Some(monitor) = &mut self.monitor else { return false };
        let lost = monitor.drain(|m| {
            if let Some(t) = watch::touch(&m) {
                ports[t.family.index()].insert(t.port);
            }
        });
        lost.is_err() || ports.iter().zip(written).any(|(p, written)| p.len() > usize::from(written))
    }

    /// True where tables may hold something of ours.
    fn may_be_there(&self) -> Result<bool, TableError> {
        if self.variant == Variant::Legacy {
            return Ok(Family::BOTH.into_iter().any(|f| self.variant.may_have_tables(f)));
        }
        let mut socket = Netlink::open(NETLINK_NETFILTER).map_err(|e| TableError(e.to_string()))?;
        for family in Family::BOTH {
            let chains = nft::read::chain_names(&mut socket, family.into());
            let chains = chains.map_err(|e| TableError(format!("cannot list chains: {e}")))?;
            if chains.iter().any(|c| c.name.starts_with(names::CHAIN_PREFIX)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn unread(e: impl std::fmt::Display) -> TableError {
    TALLY.read_errors.add(1);
    TableError(format!("cannot read back: {e}"))
}

/// The program's message with the line that it is about.
fn refused(e: CommandError, input: &[u8]) -> TableError {
    let CommandError::Failed { program, stderr, .. } = &e else { return e.into() };
    let input = String::from_utf8_lossy(input);
    let number = stderr.split("line ").skip(1).find_map(|rest| {
        let digits: String =
            rest.trim_start_matches(['n', 'o', '.', ' ']).chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok()
    });
    let line = number.and_then(|n| input.lines().nth(n.saturating_sub(1)));
    match line {
        Some(line) => TableError(format!("{program} refused \"{line}\": {stderr}")),
        None => e.into(),
    }
}

impl TableDriver for IptablesDriver {
    fn apply(&mut self, desired: &mut Desired) -> Result<Written, TableError> {
        if !self.resync && !self.resync_sets && desired.families.iter().all(|t| t.changes().is_empty()) {
            let again = if self.sets.remove_gone()? { None } else { Some(REMOVE_AGAIN) };
            return Ok(Written { again, ..Written::default() });
        }
        let result = self.try_apply(desired);
        if result.is_err() {
            self.resync();
            self.in_words = true;
        }
        result
    }

    fn resync(&mut self) {
        self.resync = true;
        self.resync_sets = true;
    }

    fn resync_sets(&mut self) {
        self.resync_sets = true;
    }

    fn counts(&self) -> [Counts; 2] {
        Family::BOTH.map(|f| {
            let known = &self.known[f.index()];
            let mut out = Counts { sets: self.sets.count(f), maps: known.trees(), ..Counts::default() };
            for (table, t) in &known.tables {
                t.chains.values().for_each(|c| out.chain(*table, c.rules));
                // Our rules in the kernel's chains.
                if let Some((_, size)) = out.tables.iter_mut().find(|(name, _)| name == table) {
                    size.rules += t.kernel.values().map(|k| k.own.len()).sum::<usize>();
                }
            }
            out
        })
    }

    fn dump(&mut self, desired: &Desired) -> String {
        let mut out = String::new();
        for (family, known) in Family::BOTH.into_iter().zip(&self.known) {
            let _ = writeln!(out, "{}:", self.variant.program(family, "restore"));
            for (table, t) in &known.tables {
                for (name, chain) in t.chains.iter().collect::<BTreeMap<_, _>>() {
                    let _ = writeln!(out, "  chain {} {name}: {} rules", table.name(), chain.rules);
                }
            }
            for name in self.sets.names(family) {
                let _ = writeln!(out, "  set {name}");
            }
        }
        let differences = self.read_back().and_then(|kernel| {
            let mut all = differences(&self.known, &kernel);
            all.extend(self.sets.differences(desired, &self.config)?);
            Ok(all)
        });
        match differences {
            Ok(all) if all.is_empty() => out.push_str("the kernel has what is believed\n"),
            Ok(all) => all.iter().for_each(|d| {
                let _ = writeln!(out, "differs: {d}");
            }),
            Err(e) => {
                let _ = writeln!(out, "the kernel cannot be read: {e}");
            }
        }
        out
    }

    fn monitor(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(|m| m.as_fd())
    }

    fn drifted(&mut self) -> bool {
        let mut touched = false;
        let Some(monitor) = &mut self.monitor else { return false };
        let lost = monitor.drain(|m| touched |= watch::touch(&m).is_some());
        touched || lost.is_err()
    }

    fn remove(&mut self) -> Result<bool, TableError> {
        if !self.may_be_there()? {
            return Ok(true);
        }
        self.resync();
        self.known = self.read_in_words()?;
        if self.known.iter().all(Known::is_empty) {
            return Ok(true);
        }
        tracing::info!(backend = self.variant.word(), "rules of this iptables are removed");
        let nothing = DesiredTables::default();
        let plans =
            Family::BOTH.map(|f| Planner::new(f, &self.config, &self.known[f.index()], &nothing).nothing());
        self.restore(&plans)?;
        Ok(true)
    }
}

/// What is believed beside what was read.
fn differences(believed: &[Known; 2], kernel: &[Known; 2]) -> Vec<String> {
    let mut out = Vec::new();
    for (family, (b, k)) in Family::BOTH.iter().zip(believed.iter().zip(kernel)) {
        for table in b.tables.keys().chain(k.tables.keys()).collect::<BTreeSet<_>>() {
            let none = plan::KnownTable::default();
            let (b, k) = (b.tables.get(table).unwrap_or(&none), k.tables.get(table).unwrap_or(&none));
            let say = |name: &str| format!("IPv{} chain {} {name}", family.version(), table.name());
            for name in b.chains.keys().chain(k.chains.keys()).collect::<BTreeSet<_>>() {
                if b.chains.get(name) != k.chains.get(name) {
                    out.push(say(name));
                }
            }
            for name in b.kernel.keys().chain(k.kernel.keys()).collect::<BTreeSet<_>>() {
                let places = |t: &plan::KnownTable| {
                    t.kernel
                        .get(name)
                        .map(|c| c.own.iter().map(|o| (o.at, o.tag)).collect::<Vec<_>>())
                        .unwrap_or_default()
                };
                if places(b) != places(k) {
                    out.push(say(name));
                }
            }
        }
    }
    out
}

/// What `iptables-restore` would be given for a family's tables where nothing stands: for dumps and tests.
#[must_use]
pub fn input(family: Family, config: &Config, tables: &DesiredTables) -> String {
    Planner::new(family, config, &Known::default(), tables).everything().input().0
}

/// The driver's variant for a backend; `None`: it is not iptables.
#[must_use]
pub fn variant(backend: Backend) -> Option<Variant> {
    match backend {
        Backend::Nftables => None,
        Backend::IptablesNft => Some(Variant::Nft),
        Backend::IptablesLegacy => Some(Variant::Legacy),
    }
}
