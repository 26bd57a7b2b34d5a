//! Addresses of nodes: all of them, and this one's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::{HostMetadata, IpSetKind, IpSetMember, Message};
use ipnet::IpNet;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::interfaces::Interfaces;
use crate::render::base::{ALL_HOSTS, THIS_HOST};
use crate::rule::Family;

pub struct HostManager {
    config: Arc<Config>,
    hosts: BTreeMap<String, HostMetadata>,
    own: BTreeSet<IpAddr>,
    dirty: bool,
}

impl HostManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, hosts: BTreeMap::new(), own: BTreeSet::new(), dirty: true }
    }
}

impl Manager for HostManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::HostMetadataUpdate(h) => {
                self.hosts.insert(h.hostname.clone(), h.clone());
                self.dirty = true;
            }
            Message::HostMetadataRemove(name) => self.dirty |= self.hosts.remove(name).is_some(),
            _ => {}
        }
    }

    fn on_interfaces(&mut self, interfaces: &Interfaces) {
        let own: BTreeSet<IpAddr> = interfaces
            .all()
            .filter(|i| self.config.is_host_interface(&i.name))
            .flat_map(|i| i.addresses.iter().copied())
            .collect();
        self.dirty |= own != self.own;
        self.own = own;
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        for family in self.config.families() {
            let all: Vec<IpSetMember> = self
                .hosts
                .values()
                .flat_map(|h| {
                    let v4 = h.ipv4_addr.map(|n| IpAddr::V4(n.addr()));
                    [v4, h.ipv6_addr.map(|n| IpAddr::V6(n.addr()))]
                })
                .flatten()
                .filter(|a| Family::of(a) == *family)
                .map(|a| IpSetMember::Net(IpNet::from(a)))
                .collect();
            let own = self.own.iter().filter(|a| Family::of(a) == *family);
            let own: Vec<_> = own.map(|a| IpSetMember::Net(IpNet::from(*a))).collect();
            let tables = out.tables.family(*family);
            tables.set_set(&ALL_HOSTS, IpSetKind::Net, all);
            tables.set_set(&THIS_HOST, IpSetKind::Ip, own);
        }
    }
}
