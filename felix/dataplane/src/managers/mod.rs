//! Managers convert messages into desired state. No I/O.
//!
//! In: messages of the calculation, and interfaces. Out: chains, sets, dispatch, routes in [`Outputs`]. Always holds:
//! the desired state is a function of the messages' end result, not of their order or number.

mod ending;
mod endpoint;
mod floating_ip;
mod host;
mod host_endpoint;
mod ip_set;
mod masquerade;
mod policy;
mod policy_group;
mod statics;

use std::sync::Arc;

use felix_message::Message;

use crate::config::Config;
use crate::counters::Counted;
use crate::driver::desired::Desired;
use crate::driver::neighbour::DesiredNeighbours;
use crate::driver::route::DesiredRoutes;
use crate::interfaces::Interfaces;

/// What managers fill and drivers take.
#[derive(Debug, Default)]
pub struct Outputs {
    pub tables: Desired,
    pub routes: DesiredRoutes,
    pub neighbours: DesiredNeighbours,
    /// Whose rules stand in which chain.
    pub counted: Counted,
}

/// A converter.
trait Manager: Send {
    /// Takes a message; ignores what is not its own.
    fn on_message(&mut self, message: &Message, out: &mut Outputs);

    /// Interfaces or their addresses changed.
    fn on_interfaces(&mut self, _interfaces: &Interfaces) {}

    /// Brings `out` up to date with everything taken so far.
    fn resolve(&mut self, _out: &mut Outputs) {}
}

/// All managers.
pub struct Managers {
    all: Vec<Box<dyn Manager>>,
    workloads: endpoint::EndpointManager,
}

impl std::fmt::Debug for Managers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Managers").finish_non_exhaustive()
    }
}

impl Managers {
    /// Without any state.
    #[must_use]
    pub fn new(config: &Arc<Config>) -> Self {
        Self {
            all: vec![
                Box::new(statics::StaticManager::new(config.clone())),
                Box::new(ip_set::IpSetManager),
                Box::new(policy::PolicyManager::new(config.clone())),
                Box::new(host::HostManager::new(config.clone())),
                Box::new(masquerade::MasqueradeManager::new(config.clone())),
                Box::new(host_endpoint::HostEndpointManager::new(config.clone())),
                Box::new(floating_ip::FloatingIpManager::new(config.clone())),
            ],
            workloads: endpoint::EndpointManager::new(config.clone()),
        }
    }

    /// Takes a message.
    pub fn on_message(&mut self, message: &Message, out: &mut Outputs) {
        for m in &mut self.all {
            m.on_message(message, out);
        }
        self.workloads.on_message(message, out);
    }

    /// Interfaces changed.
    pub fn on_interfaces(&mut self, interfaces: &Interfaces) {
        for m in &mut self.all {
            m.on_interfaces(interfaces);
        }
        self.workloads.on_interfaces(interfaces);
    }

    /// Brings `out` up to date.
    pub fn resolve(&mut self, out: &mut Outputs) {
        for m in &mut self.all {
            m.resolve(out);
        }
        self.workloads.resolve(out);
    }

    /// True where an endpoint has this interface.
    #[must_use]
    pub fn has_workload(&self, interface: &str) -> bool {
        self.workloads.has_interface(interface)
    }

    /// True where an update says of a workload nothing new, but for its policies. To be asked before it is taken.
    #[must_use]
    pub fn tells_of_policies_alone(
        &self,
        key: &libcalico_model::key::WorkloadEndpointKey,
        e: &felix_message::WorkloadEndpoint,
    ) -> bool {
        self.workloads.tells_of_policies_alone(key, e)
    }

    /// The interface that a workload claims.
    #[must_use]
    pub fn interface_of(&self, key: &libcalico_model::key::WorkloadEndpointKey) -> Option<&str> {
        self.workloads.interface_of(key)
    }

    /// The workload that has an interface.
    #[must_use]
    pub fn workload_on(&self, interface: &str) -> Option<&libcalico_model::key::WorkloadEndpointKey> {
        self.workloads.winner(interface)
    }

    /// True where the interface's workload may send from addresses of others.
    #[must_use]
    pub fn may_spoof(&self, interface: &str) -> bool {
        self.workloads.may_spoof(interface)
    }
}
