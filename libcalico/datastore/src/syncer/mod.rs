//! From the datastore to a stream of updates: list, watch, convert, and after a break send only the difference.
//!
//! ```text
//!  scope 1 ── list + watch ─┐
//!  scope 2 ── list + watch ─┼─▶ core (pure): entries, owners ── Converter ──▶ SyncerEvent (bounded)
//!  scope n ── list + watch ─┘
//! ```
//!
//! In come a datastore, the scopes to follow and a [`Converter`]; out comes a bounded channel of [`SyncerEvent`]. Always
//! holds: `InSync` comes after everything that stood in the datastore and is never taken back; after a lost connection
//! or compaction the scope is listed again and compared, deletions included; a malformed object is an absent one and is
//! logged by name. A slow reader holds back the watches, nothing is dropped. Left out: what the updates mean.

pub mod convert;
mod core;
mod driver;

use std::sync::Arc;

use libcalico_api::Kind;
use libcalico_model::SyncerEvent;
use tokio::sync::mpsc;

pub use self::convert::{Converter, FelixConverter, PassThrough};
use self::core::Core;
use crate::{Datastore, Scope};

/// Events between the syncer and its reader, each of up to [`core::MAX_BATCH`] updates.
const OUTPUT_BUFFER: usize = 32;
/// Listings and watch events between the scopes' tasks and the core.
const INPUT_BUFFER: usize = 64;

/// A syncer that has not started yet.
pub struct Syncer<C> {
    datastore: Arc<dyn Datastore>,
    scopes: Vec<Scope>,
    converter: C,
}

impl<C: Converter> Syncer<C> {
    /// Follows these scopes, as far as the datastore can hold such objects. They
    /// reach the reader as the converter makes them.
    pub fn new(datastore: Arc<dyn Datastore>, mut scopes: Vec<Scope>, converter: C) -> Self {
        scopes.retain(|s| datastore.holds(s));
        Self { datastore, scopes, converter }
    }

    /// Starts on the current runtime. Dropping the receiver ends all of it.
    #[must_use]
    pub fn start(self) -> mpsc::Receiver<SyncerEvent> {
        let (out, reader) = mpsc::channel(OUTPUT_BUFFER);
        let (inputs, input) = mpsc::channel(INPUT_BUFFER);
        let pace = Arc::new(driver::Pace::default());
        for (index, scope) in self.scopes.iter().enumerate() {
            let driver = driver::Driver {
                datastore: self.datastore.clone(),
                scope: scope.clone(),
                index,
                inputs: inputs.clone(),
                pace: pace.clone(),
            };
            tokio::spawn(driver.run());
        }
        tokio::spawn(driver::run_core(Core::new(self.scopes, self.converter), input, out));
        reader
    }
}

/// What Felix calculates with: every kind that bears on policy, routes and Felix's own configuration.
#[must_use]
pub fn felix_scopes() -> Vec<Scope> {
    let mut scopes: Vec<Scope> = [
        Kind::ClusterInformation,
        Kind::FelixConfiguration,
        Kind::BGPConfiguration,
        Kind::Tier,
        Kind::GlobalNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::StagedGlobalNetworkPolicy,
        Kind::StagedNetworkPolicy,
        Kind::StagedKubernetesNetworkPolicy,
        Kind::Profile,
        Kind::GlobalNetworkSet,
        Kind::NetworkSet,
        Kind::HostEndpoint,
        Kind::WorkloadEndpoint,
        Kind::IPPool,
        Kind::Node,
    ]
    .map(Scope::kind)
    .into();
    scopes.extend([Scope::Blocks, Scope::Services, Scope::EndpointSlices, Scope::ClusterNetworkPolicies]);
    scopes
}

/// What a BGP configuration is rendered from. With a host: that host's block affinities alone.
#[must_use]
pub fn bgp_scopes(host: Option<&str>) -> Vec<Scope> {
    let mut scopes: Vec<Scope> =
        [Kind::Node, Kind::BGPPeer, Kind::BGPConfiguration, Kind::BGPFilter, Kind::IPPool]
            .map(Scope::kind)
            .into();
    scopes.push(Scope::Blocks);
    scopes.push(Scope::BlockAffinities { host: host.map(str::to_owned) });
    scopes
}

/// Starts the syncer that Felix reads: stored objects as calculation keys.
#[must_use]
pub fn felix_syncer(datastore: Arc<dyn Datastore>) -> mpsc::Receiver<SyncerEvent> {
    Syncer::new(datastore, felix_scopes(), FelixConverter).start()
}

/// Starts the syncer that confd reads: stored objects as they are.
#[must_use]
pub fn bgp_syncer(datastore: Arc<dyn Datastore>, host: Option<&str>) -> mpsc::Receiver<SyncerEvent> {
    Syncer::new(datastore, bgp_scopes(host), PassThrough).start()
}
