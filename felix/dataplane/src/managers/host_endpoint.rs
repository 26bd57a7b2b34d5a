//! Host endpoints: which one applies to which interface, and their chains and dispatch.
//!
//! Always holds: of the endpoints that name an interface or are found by its address the one with the smallest name
//! applies, before any for `*`; as upstream chooses. Workload interfaces never have a host endpoint of their own; one for
//! `*` stands for every interface there is, the loopback included, so that what arrives from or is sent on to workloads
//! passes its policies for that too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use felix_message::{HostEndpoint, Message};

use super::{Manager, Outputs};
use crate::config::Config;
use crate::interfaces::Interfaces;
use crate::render::{endpoint, names};
use crate::rule::{Action, Chain, ChainId, Match, Rule, Table};

pub struct HostEndpointManager {
    config: Arc<Config>,
    endpoints: BTreeMap<String, Arc<HostEndpoint>>,
    /// Host interfaces with their addresses.
    interfaces: BTreeMap<Arc<str>, BTreeSet<std::net::IpAddr>>,
    programmed: BTreeSet<ChainId>,
    dirty: bool,
}

/// A dispatch chain.
struct Dispatch {
    table: Table,
    name: &'static str,
    /// It looks at the incoming interface, else at the outgoing one.
    incoming: bool,
    /// Of the chains it leads to.
    prefix: &'static str,
    /// The endpoint for `*` is for workloads' interfaces too: what is forwarded, or not translated yet. The host's own
    /// traffic with its workloads meets no policy of the host.
    workloads: bool,
}

const fn dispatch_chain(
    table: Table,
    name: &'static str,
    incoming: bool,
    prefix: &'static str,
    workloads: bool,
) -> Dispatch {
    Dispatch { table, name, incoming, prefix, workloads }
}

const DISPATCH: [Dispatch; 8] = [
    dispatch_chain(Table::Filter, "cali-from-host-endpoint", true, "cali-fh-", false),
    dispatch_chain(Table::Filter, "cali-to-host-endpoint", false, "cali-th-", false),
    dispatch_chain(Table::Filter, "cali-from-hep-forward", true, "cali-fhfw-", true),
    dispatch_chain(Table::Filter, "cali-to-hep-forward", false, "cali-thfw-", true),
    dispatch_chain(Table::Raw, "cali-from-host-endpoint", true, "cali-fh-", false),
    dispatch_chain(Table::Raw, "cali-to-host-endpoint", false, "cali-th-", false),
    dispatch_chain(Table::Mangle, "cali-from-host-endpoint", true, "cali-fh-", true),
    dispatch_chain(Table::Mangle, "cali-to-host-endpoint", false, "cali-th-", false),
];

impl HostEndpointManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            endpoints: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            programmed: BTreeSet::new(),
            dirty: true,
        }
    }

    fn find(&self, interface: &str, addresses: &BTreeSet<std::net::IpAddr>) -> Option<&Arc<HostEndpoint>> {
        self.endpoints.values().find(|e| match &*e.interface_name {
            "" => e.expected_addrs.iter().any(|a| addresses.contains(a)),
            name => name == interface,
        })
    }
}

impl Manager for HostEndpointManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::HostEndpointUpdate(name, e) => {
                self.endpoints.insert(name.clone(), e.clone());
                self.dirty = true;
            }
            Message::HostEndpointRemove(name) => self.dirty |= self.endpoints.remove(name).is_some(),
            _ => {}
        }
    }

    fn on_interfaces(&mut self, interfaces: &Interfaces) {
        let now: BTreeMap<_, _> = interfaces
            .all()
            .filter(|i| self.config.is_host_interface(&i.name))
            .map(|i| (i.name.clone(), i.addresses.clone()))
            .collect();
        if now != self.interfaces {
            self.interfaces = now;
            self.dirty |= !self.endpoints.is_empty();
        }
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let any = self.endpoints.values().find(|e| e.interface_name == "*").cloned();
        let mut chains: BTreeMap<ChainId, Arc<Chain>> = BTreeMap::new();
        let mut add = |interface: &str, e: &HostEndpoint| {
            let new = endpoint::host(interface, e, &self.config);
            chains.extend(new.into_iter().map(|(id, c)| (id, Arc::new(c))));
        };
        let mut named = Vec::new();
        for (interface, addresses) in &self.interfaces {
            if let Some(e) = self.find(interface, addresses) {
                add(interface, e);
                named.push(interface.clone());
            }
        }
        // An interface that is named and not there yet is closed from its first packet on.
        for e in self.endpoints.values() {
            let name: Arc<str> = e.interface_name.as_str().into();
            if !name.is_empty()
                && &*name != "*"
                && !self.interfaces.contains_key(&name)
                && !named.contains(&name)
            {
                add(&name, e);
                named.push(name);
            }
        }
        named.sort();
        if let Some(e) = &any {
            add(names::ANY_INTERFACE, e);
        }
        for d in DISPATCH {
            let rules = dispatch(&named, any.is_some(), &self.config, &d);
            chains.insert(ChainId::new(d.table, d.name), Arc::new(Chain::new(rules)));
        }
        for family in self.config.families() {
            let tables = out.tables.family(*family);
            for (id, chain) in &chains {
                tables.set_chain(id.clone(), chain.clone());
            }
            for id in self.programmed.iter().filter(|id| !chains.contains_key(id)) {
                tables.remove_chain(id);
            }
        }
        self.programmed = chains.into_keys().collect();
    }
}

fn dispatch(named: &[Arc<str>], any: bool, config: &Config, d: &Dispatch) -> Vec<Rule> {
    let on = |name: Arc<str>| if d.incoming { Match::InInterface(name) } else { Match::OutInterface(name) };
    let goto = |interface: &str| Action::Goto(names::endpoint_chain(d.prefix, interface).into());
    let mut out: Vec<Rule> =
        named.iter().map(|name| Rule::when(vec![on(name.clone())], goto(name))).collect();
    if any {
        let workloads = config.interface_prefixes.iter().filter(|_| !d.workloads);
        out.extend(workloads.map(|p| Rule::when(vec![on(format!("{p}+").into())], Action::Return)));
        out.push(Rule::always(goto(names::ANY_INTERFACE)));
    }
    out
}
