//! Drivers reconcile: what is desired against what the kernel has, in the fewest writes.
//!
//! - [`desired`]: the state that managers fill: chains, sets, dispatch maps of both families.
//! - [`TableDriver`]: programs that state; [`nft`] does it with nf_tables, [`iptables`] with `iptables-restore` and IP
//!   sets, [`memory`] nowhere: for tests. [`backend`] chooses, and removes what the others left.
//! - [`route`]: routes to workloads; [`neighbour`]: their hardware addresses; [`interface`]: sysctls.

pub mod backend;
pub mod desired;
pub mod interface;
pub mod iptables;
pub mod memory;
pub mod neighbour;
pub mod nft;
pub mod route;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use desired::Desired;
use sha2::{Digest as _, Sha256};

use crate::rule::{Family, Table};

/// What a driver did in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Kernel operations in the transaction; zero: nothing had to be written.
    pub operations: usize,
    pub bytes: usize,
    /// Everything was read back before.
    pub resynced: bool,
    /// When to apply again though nothing changes: something could not be removed yet, or someone else wrote meanwhile.
    pub again: Option<Duration>,
}

/// How much stands in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub chains: usize,
    pub rules: usize,
}

/// How much stands in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub tables: [(Table, Size); 4],
    /// Of addresses: those of the calculation, and the dataplane's own.
    pub sets: usize,
    /// Sets for lists in rules.
    pub lists: usize,
    pub maps: usize,
}

impl Default for Counts {
    fn default() -> Self {
        let tables = Table::ALL.map(|t| (t, Size::default()));
        Self { tables, sets: 0, lists: 0, maps: 0 }
    }
}

impl Counts {
    /// Adds a chain.
    pub fn chain(&mut self, table: Table, rules: usize) {
        if let Some((_, size)) = self.tables.iter_mut().find(|(t, _)| *t == table) {
            size.chains += 1;
            size.rules += rules;
        }
    }

    /// Chains of all tables.
    #[must_use]
    pub fn chains(&self) -> usize {
        self.tables.iter().map(|(_, s)| s.chains).sum()
    }

    /// Rules of all tables.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.tables.iter().map(|(_, s)| s.rules).sum()
    }
}

/// Why tables could not be programmed. The old rules stand.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TableError(pub String);

/// Programs chains, sets and dispatch. The seam between backends.
pub trait TableDriver {
    /// Makes the kernel hold what is desired: all of it or, on error, what it held before.
    ///
    /// # Errors
    /// The kernel refused; nothing was changed. The next call reads everything back first.
    fn apply(&mut self, desired: &mut Desired) -> Result<Written, TableError>;

    /// The next [`Self::apply`] reads back everything and mends what differs.
    fn resync(&mut self);

    /// The same for sets alone, where they are read back apart from chains.
    fn resync_sets(&mut self) {
        self.resync();
    }

    /// What stands in the kernel for each family.
    fn counts(&self) -> [Counts; 2];

    /// A listing of what the driver believes to stand in the kernel, and where the kernel has something else: chains as
    /// they were written, members of sets as they are desired.
    fn dump(&mut self, desired: &Desired) -> String;

    /// Readable when the kernel tells of changes to its tables. `None`: this backend is not told.
    fn monitor(&self) -> Option<BorrowedFd<'_>>;

    /// Takes what the kernel told; true where someone else changed what is ours.
    fn drifted(&mut self) -> bool;

    /// Removes all chains and maps of ours that this backend programs, at once in each table; true where nothing was
    /// there, or nothing is left.
    ///
    /// # Errors
    /// The kernel refused.
    fn remove(&mut self) -> Result<bool, TableError>;
}

/// What a dump says of a set whose members in the kernel are others than desired.
fn members_differ(family: Family, set: &str, gone: usize, foreign: usize) -> String {
    let version = family.version();
    format!("IPv{version} members of set {set}: {gone} missing, {foreign} that should not be there")
}

/// The same where something stands in it that no set of ours can hold.
fn members_are_foreign(family: Family, set: &str) -> String {
    format!("IPv{} members of set {set}: something that was never put there", family.version())
}

/// Sixteen characters of the text's hash: a rule's identity.
#[must_use]
pub(crate) fn tag(text: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(text);
    let mut out = [b'_'; 16];
    // 12 bytes make 16 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(&hash[..12], &mut out);
    out
}
