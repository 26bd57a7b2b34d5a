//! Which endpoints are up: programmed, with an interface that carries traffic.
//!
//! In: messages and interfaces. Out: changes since they were last asked for, for reports to the datastore and for the
//! files that the CNI plugin waits for. Always holds: an endpoint is up only after an apply that left the kernel with its
//! policy (the cycle asks after a whole apply, never before); the words are upstream's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use felix_message::{HostEndpoint, Message, WorkloadEndpoint};
use libcalico_model::key::WorkloadEndpointKey;

use crate::interfaces::Interfaces;
use crate::managers::Managers;

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Up,
    Down,
    /// A host endpoint that no interface fits.
    Error,
}

impl Status {
    /// The word in the datastore.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Error => "error",
        }
    }
}

/// An endpoint's status changed; `None`: the endpoint is gone. Of the endpoint everything is told but its policies.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Workload(WorkloadEndpointKey, Option<(Status, Arc<WorkloadEndpoint>)>),
    Host(String, Option<Status>),
}

/// Keeps what was reported.
#[derive(Debug, Default)]
pub struct StatusTracker {
    workloads: HashMap<WorkloadEndpointKey, Arc<WorkloadEndpoint>>,
    hosts: BTreeMap<String, Arc<HostEndpoint>>,
    dirty: BTreeSet<WorkloadEndpointKey>,
    dirty_hosts: bool,
    reported: HashMap<WorkloadEndpointKey, (Status, Arc<WorkloadEndpoint>)>,
    reported_hosts: BTreeMap<String, Status>,
}

impl StatusTracker {
    /// Takes a message. One that tells of an endpoint's policies alone need not come here.
    pub fn on_message(&mut self, message: &Message) {
        match message {
            Message::WorkloadEndpointUpdate(key, e) => {
                // Nobody who is told wants the policies: lists that are long replaced must not live on here.
                let e = Arc::new(WorkloadEndpoint { tiers: Arc::default(), ..(**e).clone() });
                self.workloads.insert(key.clone(), e);
                self.dirty.insert(key.clone());
            }
            Message::WorkloadEndpointRemove(key) => {
                self.workloads.remove(key);
                self.dirty.insert(key.clone());
            }
            Message::HostEndpointUpdate(name, e) => {
                self.hosts.insert(name.clone(), e.clone());
                self.dirty_hosts = true;
            }
            Message::HostEndpointRemove(name) => {
                self.hosts.remove(name);
                self.dirty_hosts = true;
            }
            _ => {}
        }
    }

    /// An interface came, went or changed.
    pub fn on_interface(&mut self, name: &str) {
        self.dirty_hosts = true;
        let on = self.workloads.iter().filter(|(_, e)| e.interface_name == name);
        self.dirty.extend(on.map(|(key, _)| key.clone()));
    }

    /// Interfaces were read anew.
    pub fn on_all_interfaces(&mut self) {
        self.dirty_hosts = true;
        self.dirty.extend(self.workloads.keys().cloned());
    }

    /// What changed. To be asked after everything was programmed.
    pub fn changes(&mut self, managers: &Managers, interfaces: &Interfaces) -> Vec<Change> {
        let mut out = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let Some(e) = self.workloads.get(&key) else {
                if self.reported.remove(&key).is_some() {
                    out.push(Change::Workload(key, None));
                }
                continue;
            };
            let carries = interfaces.up(&e.interface_name).is_some();
            let chosen = managers.workload_on(&e.interface_name) == Some(&key);
            let status = if e.active && carries && chosen { Status::Up } else { Status::Down };
            // The same words about the same endpoint: nothing to tell.
            if self.reported.get(&key).is_some_and(|(s, old)| *s == status && **old == **e) {
                continue;
            }
            self.reported.insert(key.clone(), (status, e.clone()));
            out.push(Change::Workload(key, Some((status, e.clone()))));
        }
        if std::mem::take(&mut self.dirty_hosts) {
            self.host_changes(interfaces, &mut out);
        }
        out
    }

    fn host_changes(&mut self, interfaces: &Interfaces, out: &mut Vec<Change>) {
        let gone: Vec<String> =
            self.reported_hosts.keys().filter(|n| !self.hosts.contains_key(*n)).cloned().collect();
        for name in gone {
            self.reported_hosts.remove(&name);
            out.push(Change::Host(name, None));
        }
        for (name, e) in &self.hosts {
            let status = host_status(e, interfaces);
            if self.reported_hosts.insert(name.clone(), status) != Some(status) {
                out.push(Change::Host(name.clone(), Some(status)));
            }
        }
    }
}

fn host_status(e: &HostEndpoint, interfaces: &Interfaces) -> Status {
    if e.interface_name == "*" {
        return Status::Up;
    }
    let fits = |i: &&crate::interfaces::Interface| {
        if e.interface_name.is_empty() {
            e.expected_addrs.iter().any(|a| i.addresses.contains(a))
        } else {
            *i.name == *e.interface_name
        }
    };
    let mut fitting = interfaces.all().filter(fits).peekable();
    if fitting.peek().is_none() {
        return Status::Error;
    }
    if fitting.any(|i| i.up) { Status::Up } else { Status::Down }
}
