//! Which endpoints are up: programmed, with an interface that carries traffic.
//!
//! In: messages and interfaces. Out: changes since they were last asked for, for reports to the datastore and for the
//! files that the CNI plugin waits for. Always holds: an endpoint is up only after an apply that left the kernel with its
//! policy (the cycle asks after such an apply, never before), its interface set up and its routes; what others' messages
//! mean for it, who share its interface, is looked at too; the words are upstream's.

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
    /// Interfaces all of whose endpoints are to be looked at.
    dirty_interfaces: BTreeSet<String>,
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
                // Another one may have had the interface until now.
                self.dirty_interfaces.insert(e.interface_name.clone());
                self.replaced(key, Some(e));
            }
            Message::WorkloadEndpointRemove(key) => self.replaced(key, None),
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

    fn replaced(&mut self, key: &WorkloadEndpointKey, new: Option<Arc<WorkloadEndpoint>>) {
        self.dirty.insert(key.clone());
        let old = match new {
            Some(e) => self.workloads.insert(key.clone(), e),
            None => self.workloads.remove(key),
        };
        // Another one may have the interface from now on.
        self.dirty_interfaces.extend(old.map(|e| e.interface_name.clone()));
    }

    /// An interface came, went or changed, or what stands on it did.
    pub fn on_interface(&mut self, name: &str) {
        self.dirty_hosts = true;
        self.dirty_interfaces.insert(name.to_owned());
    }

    /// Interfaces were read anew.
    pub fn on_all_interfaces(&mut self) {
        self.dirty_hosts = true;
        self.dirty.extend(self.workloads.keys().cloned());
    }

    /// What changed. To be asked after policy was programmed. `broken`: interfaces that lack a setting or a route.
    pub fn changes(
        &mut self,
        managers: &Managers,
        interfaces: &Interfaces,
        broken: &BTreeSet<Arc<str>>,
    ) -> Vec<Change> {
        let mut out = Vec::new();
        let names = std::mem::take(&mut self.dirty_interfaces);
        if !names.is_empty() {
            let on = self.workloads.iter().filter(|(_, e)| names.contains(&e.interface_name));
            self.dirty.extend(on.map(|(key, _)| key.clone()));
        }
        for key in std::mem::take(&mut self.dirty) {
            let Some(e) = self.workloads.get(&key) else {
                if self.reported.remove(&key).is_some() {
                    out.push(Change::Workload(key, None));
                }
                continue;
            };
            let name = e.interface_name.as_str();
            let carries = interfaces.up(name).is_some() && !broken.contains(name);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::kernel::route::Link;
    use crate::managers::Outputs;

    fn key(name: &str) -> WorkloadEndpointKey {
        let text = |t: &str| t.to_owned();
        WorkloadEndpointKey {
            host: text("h"),
            orchestrator: text("k8s"),
            workload: text(name),
            endpoint: text("eth0"),
        }
    }

    fn on(name: &str, interface: &str) -> Message {
        let e = WorkloadEndpoint {
            active: true,
            interface_name: interface.to_owned(),
            ..WorkloadEndpoint::default()
        };
        Message::WorkloadEndpointUpdate(key(name), Arc::new(e))
    }

    struct World {
        managers: Managers,
        outputs: Outputs,
        tracker: StatusTracker,
        interfaces: Interfaces,
    }

    impl World {
        fn new() -> Self {
            let link = |index, name: &str| Link { index, name: name.to_owned(), up: true };
            Self {
                managers: Managers::new(&Arc::new(Config::default())),
                outputs: Outputs::default(),
                tracker: StatusTracker::default(),
                interfaces: Interfaces::new(vec![link(1, "cali1"), link(2, "cali2")], vec![]),
            }
        }

        /// Whose status changed to what.
        fn say(&mut self, messages: &[Message], broken: &[&str]) -> Vec<(String, Option<Status>)> {
            for m in messages {
                self.tracker.on_message(m);
                self.managers.on_message(m, &mut self.outputs);
            }
            let broken = broken.iter().map(|b| Arc::from(*b)).collect();
            let changes = self.tracker.changes(&self.managers, &self.interfaces, &broken);
            let told = changes.into_iter().filter_map(|c| match c {
                Change::Workload(key, status) => Some((key.workload, status.map(|(s, _)| s))),
                Change::Host(..) => None,
            });
            told.collect()
        }
    }

    #[test]
    fn who_takes_an_interface_over_comes_up_when_the_other_one_leaves_it() {
        let (up, down) = (Some(Status::Up), Some(Status::Down));
        for leaves in [Message::WorkloadEndpointRemove(key("a")), on("a", "cali2")] {
            let mut w = World::new();
            let both = w.say(&[on("a", "cali1"), on("b", "cali1")], &[]);
            assert_eq!(both, [("a".to_owned(), up), ("b".to_owned(), down)]);
            let after = w.say(&[leaves], &[]);
            assert!(after.contains(&("b".to_owned(), up)), "{after:?}");
            // And the other way round.
            let back = w.say(&[on("a", "cali1")], &[]);
            assert!(back.contains(&("b".to_owned(), down)), "{back:?}");
        }
    }

    #[test]
    fn an_endpoint_whose_interface_lacks_something_is_down_until_it_does_not() {
        let (up, down) = (Some(Status::Up), Some(Status::Down));
        let mut w = World::new();
        let first = w.say(&[on("a", "cali1"), on("b", "cali2")], &["cali1"]);
        assert_eq!(first, [("a".to_owned(), down), ("b".to_owned(), up)]);
        w.tracker.on_interface("cali1");
        assert_eq!(w.say(&[], &[]), [("a".to_owned(), up)]);
    }
}
