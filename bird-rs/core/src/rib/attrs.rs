//! Attributes of routes, each distinct set stored once.

use std::collections::HashSet;
use std::sync::Arc;

use bird_wire::PathAttributes;

/// Attributes of a route: those of BGP, and those of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Attrs {
    /// BGP's.
    pub bgp: PathAttributes,
    /// Metric in the kernel.
    pub krt_metric: Option<u32>,
    /// Protocol number in the kernel.
    pub krt_source: Option<u32>,
}

/// Hands out one shared copy of each distinct set of attributes: a full table has millions of routes and a few
/// thousand sets.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashSet<Arc<Attrs>>,
    sweep_at: usize,
}

/// Below this many sets nothing is swept.
const SWEEP_MINIMUM: usize = 1024;

impl Interner {
    /// The shared copy of these attributes.
    pub fn intern(&mut self, attrs: Attrs) -> Arc<Attrs> {
        if let Some(shared) = self.known.get(&attrs) {
            return shared.clone();
        }
        // Sets that nobody uses go when the store has doubled since the last sweep: amortized constant cost.
        if self.known.len() >= self.sweep_at.max(SWEEP_MINIMUM) {
            self.known.retain(|a| Arc::strong_count(a) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let shared = Arc::new(attrs);
        self.known.insert(shared.clone());
        shared
    }

    /// How many distinct sets are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
