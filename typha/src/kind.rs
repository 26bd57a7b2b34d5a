//! Which streams Typha serves.

use std::fmt;
use std::str::FromStr;

/// A stream: who it is for decides what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncerKind {
    /// Calculation keys, for Felix.
    Felix,
    /// Stored objects that a BGP configuration is made of, for confd.
    Bgp,
}

impl SyncerKind {
    /// Every stream.
    pub const ALL: [Self; 2] = [Self::Felix, Self::Bgp];

    /// The word in hellos and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Felix => "felix",
            Self::Bgp => "bgp",
        }
    }
}

impl fmt::Display for SyncerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a stream of this server; it serves felix and bgp")]
pub struct UnknownKind(pub String);

impl FromStr for SyncerKind {
    type Err = UnknownKind;

    fn from_str(s: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|k| k.name() == s).ok_or_else(|| UnknownKind(s.to_owned()))
    }
}
