//! Drivers reconcile: what is desired against what the kernel has, in the fewest writes.
//!
//! - [`desired`]: the state that managers fill: chains, sets, dispatch maps of both families.
//! - [`TableDriver`]: programs that state; [`nft`] does it with nf_tables.
//! - [`route`]: routes to workloads; [`interface`]: sysctls.

pub mod desired;
pub mod interface;
pub mod nft;
pub mod route;

use desired::Desired;

/// What a driver did in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Kernel operations in the transaction; zero: nothing had to be written.
    pub operations: usize,
    pub bytes: usize,
    /// Everything was read back before.
    pub resynced: bool,
}

/// How much stands in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub chains: usize,
    pub rules: usize,
    pub sets: usize,
    pub maps: usize,
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

    /// What stands in the kernel for each family.
    fn counts(&self) -> [Counts; 2];

    /// A listing of what the driver believes to stand in the kernel, and where the kernel has something else.
    fn dump(&mut self) -> String;
}
