//! The address sets that active rules refer to, and who is in them.
//!
//! In come references to sets (by selector, by named port, by service) and every change of an item or of a service's
//! endpoints, just before it happens; out go, at a flush, whole sets that are new, and for others what came and went. Members are not stored:
//! who is in a set follows from the items' labels and addresses, so a set costs nothing for each member. What a change
//! may have touched is remembered together with whether it was a member before; at the flush it is asked again.
//!
//! Always holds: what was sent of a set is what it contained at the last flush. A network within another network of
//! the same set is not listed (kernel sets of ranges do not take overlaps); it comes up when the wider one goes.
//! An address that two endpoints have stays until the last of them leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use felix_message::{IpSetDelta, IpSetId, IpSetKind, IpSetMember, IpSetUpdate, Message};
use hashbrown::HashMap;
use ipnet::IpNet;
use libcalico_net::cidr::is_host_net;
use libcalico_net::lpm::LpmMap;
use libcalico_selector::Selector;
use sha2::{Digest, Sha224};

use crate::items::{ItemId, Items, NamedPort};
use crate::labels::{Pair, View};
use crate::selector_index::SelectorIndex;
use crate::slices::{Slice, SliceKey, Slices};

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSpec {
    /// Addresses of what a selector matches.
    Addresses(Selector),
    /// Addresses and ports of a port name, of endpoints that a selector matches; of one protocol or of any.
    NamedPort { selector: Selector, protocol: Option<u8>, name: Box<str> },
    /// Endpoints of a service (`namespace/name`), with or without their ports.
    Service { name: Box<str>, with_ports: bool },
}

impl SetSpec {
    /// Upstream's identifier: equal sets have one.
    pub fn id(&self) -> IpSetId {
        match self {
            Self::Addresses(selector) => selector.unique_id().into(),
            Self::NamedPort { selector, protocol, name } => {
                let protocol = match protocol {
                    Some(6) => "tcp".to_owned(),
                    Some(17) => "udp".to_owned(),
                    Some(132) => "sctp".to_owned(),
                    Some(other) => other.to_string(),
                    None => "any".to_owned(),
                };
                hashed("n", &format!("{},{protocol},{name}", selector.unique_id()))
            }
            Self::Service { name, with_ports: true } => hashed("svc", name),
            Self::Service { name, with_ports: false } => hashed("svcnoport", name),
        }
    }

    fn kind(&self) -> IpSetKind {
        match self {
            Self::Addresses(_) | Self::Service { with_ports: false, .. } => IpSetKind::Net,
            Self::NamedPort { .. } | Self::Service { with_ports: true, .. } => IpSetKind::IpPort,
        }
    }
}

fn hashed(prefix: &str, text: &str) -> IpSetId {
    let mut hash = Sha224::new();
    hash.update(format!("{prefix}:{text}").as_bytes());
    format!("{prefix}:{}", URL_SAFE_NO_PAD.encode(hash.finalize())).into()
}

struct IpSet {
    id: IpSetId,
    spec: SetSpec,
    refs: u32,
    /// Number in the index; none for services.
    selector: Option<u32>,
    /// The dataplane has it.
    sent: bool,
    /// What may have changed since, and whether it was a member.
    touched: HashMap<IpSetMember, bool>,
    /// Networks wider than an address, with how many items have each: only of sets that were sent.
    wide: LpmMap<u32>,
}

/// An item's labels, addresses and ports before or after a change.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub view: View<'a>,
    pub nets: &'a [IpNet],
    pub ports: &'a [NamedPort],
}

/// See the module's text.
#[derive(Default)]
pub struct IpSets {
    sets: Vec<Option<IpSet>>,
    free: Vec<u32>,
    by_id: HashMap<IpSetId, u32>,
    index: SelectorIndex,
    /// Sets that need a look at the next flush.
    dirty: std::collections::BTreeSet<u32>,
    sent: usize,
    slices: Slices,
    /// Sets of services by their services' names.
    by_service: HashMap<Box<str>, Vec<u32>>,
}

impl IpSets {
    /// Takes a reference to a set; gives its identifier and the handle to release it by.
    pub fn acquire(&mut self, spec: &SetSpec, items: &mut Items) -> (IpSetId, u32) {
        let id = spec.id();
        if let Some((id, &at)) = self.by_id.get_key_value(&id) {
            let id = id.clone();
            if let Some(set) = self.set_mut(at) {
                set.refs += 1;
            }
            return (id, at);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            self.sets.len() as u32 - 1
        });
        let selector = match spec {
            SetSpec::Addresses(selector) | SetSpec::NamedPort { selector, .. } => {
                Some(self.index.add(selector, at, &mut items.labels))
            }
            SetSpec::Service { name, .. } => {
                self.by_service.entry(name.clone()).or_default().push(at);
                None
            }
        };
        self.by_id.insert(id.clone(), at);
        self.sets[at as usize] = Some(IpSet {
            id: id.clone(),
            spec: spec.clone(),
            refs: 1,
            selector,
            sent: false,
            touched: HashMap::new(),
            wide: LpmMap::new(),
        });
        self.dirty.insert(at);
        (id, at)
    }

    /// Gives a reference back. The set stays until the flush.
    pub fn release(&mut self, at: u32) {
        if let Some(set) = self.set_mut(at) {
            set.refs -= 1;
            if set.refs == 0 {
                self.dirty.insert(at);
            }
        }
    }

    fn set(&self, at: u32) -> Option<&IpSet> {
        self.sets.get(at as usize)?.as_ref()
    }

    fn set_mut(&mut self, at: u32) -> Option<&mut IpSet> {
        self.sets.get_mut(at as usize)?.as_mut()
    }

    /// Number of sets.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True where no change can touch what was sent.
    pub fn is_idle(&self) -> bool {
        self.sent == 0
    }

    /// To be called before an item changes: remembers what the change touches.
    pub fn before_change(&mut self, items: &Items, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        if self.is_idle() {
            return;
        }
        let matching =
            |side: &Option<Side<'_>>| side.as_ref().map(|s| self.index.matching(&s.view)).unwrap_or_default();
        let (was_in, will_be_in) = (matching(&old), matching(&new));
        let mut sets: Vec<u32> = was_in.iter().chain(&will_be_in).copied().collect();
        sets.sort_unstable();
        sets.dedup();
        for at in sets {
            let Some(set) = self.set(at).filter(|s| s.sent) else { continue };
            let members = |side: &Option<Side<'_>>, list: &[u32]| match side {
                Some(s) if list.binary_search(&at).is_ok() => members_of(&set.spec, s.nets, s.ports),
                _ => Vec::new(),
            };
            let (before, after) = (members(&old, &was_in), members(&new, &will_be_in));
            let gone: Vec<IpSetMember> =
                before.iter().filter(|m| after.binary_search(m).is_err()).copied().collect();
            let come: Vec<IpSetMember> =
                after.iter().filter(|m| before.binary_search(m).is_err()).copied().collect();
            if !gone.is_empty() || !come.is_empty() {
                self.touch(at, items, &gone, &come);
            }
        }
    }

    /// Sets or removes a slice of a service's endpoints.
    pub fn set_slice(&mut self, key: SliceKey, new: Option<Slice>, items: &Items) {
        let old = self.slices.get(&key).cloned();
        if old == new {
            return;
        }
        let services: Vec<&str> = [&old, &new].into_iter().flatten().map(|s| &*s.service).collect();
        let mut sets: Vec<u32> =
            services.iter().filter_map(|s| self.by_service.get(*s)).flatten().copied().collect();
        sets.sort_unstable();
        sets.dedup();
        for at in sets {
            let Some(set) = self.set(at).filter(|s| s.sent) else { continue };
            let SetSpec::Service { name, with_ports } = &set.spec else { continue };
            let members = |slice: &Option<Slice>| match slice {
                Some(s) if s.service == *name => s.members(*with_ports),
                _ => Vec::new(),
            };
            let touched: Vec<IpSetMember> = members(&old).into_iter().chain(members(&new)).collect();
            for member in touched {
                self.remember(at, items, member);
            }
            self.dirty.insert(at);
        }
        self.slices.set(key, new);
    }

    /// What a change may touch, with whether it is a member now.
    fn remember(&mut self, at: u32, items: &Items, member: IpSetMember) {
        if self.set(at).is_some_and(|s| !s.touched.contains_key(&member)) {
            let was = self.contains(at, items, &member);
            if let Some(set) = self.set_mut(at) {
                set.touched.insert(member, was);
            }
        }
    }

    fn touch(&mut self, at: u32, items: &Items, gone: &[IpSetMember], come: &[IpSetMember]) {
        let wide = |members: &[IpSetMember]| -> Vec<IpNet> {
            members.iter().filter_map(|m| as_net(m).filter(|n| !is_host_net(*n))).collect()
        };
        let (wide_gone, wide_come) = (wide(gone), wide(come));
        let mut touched: Vec<IpSetMember> = gone.iter().chain(come).copied().collect();
        if !wide_gone.is_empty() || !wide_come.is_empty() {
            let changed: LpmMap<()> = wide_gone.iter().chain(&wide_come).map(|n| (*n, ())).collect_lpm();
            touched.extend(
                self.raw_members(at, items)
                    .into_iter()
                    .filter(|m| as_net(m).is_some_and(|n| changed.longest_match(n).is_some())),
            );
        }
        for member in touched {
            self.remember(at, items, member);
        }
        let Some(set) = self.set_mut(at) else { return };
        for net in wide_come {
            add_wide(&mut set.wide, net);
        }
        for net in wide_gone {
            remove_wide(&mut set.wide, net);
        }
        self.dirty.insert(at);
    }

    /// To be called before a profile's labels change, for each item that inherits from it.
    pub fn before_profile_change(&mut self, items: &Items, item: ItemId, profile: u32, labels: &[Pair]) {
        let Some(traits) = items.traits(item) else { return };
        let nets: Vec<IpNet> = items.nets(item).collect();
        let ports = items.ports(traits.ports);
        let old = Side { view: items.view(item), nets: &nets, ports };
        let view = items.labels.view_assuming(traits.set, traits.list, profile, labels);
        self.before_change(items, Some(old), Some(Side { view, ..old }));
    }

    /// True where the dataplane is to have the member.
    fn contains(&self, at: u32, items: &Items, member: &IpSetMember) -> bool {
        let Some(set) = self.set(at) else { return false };
        if let SetSpec::Service { name, .. } = &set.spec {
            return self.slices.contains(name, member);
        }
        let Some(selector) = set.selector else { return false };
        let net = match member {
            IpSetMember::Net(net) => *net,
            IpSetMember::IpPort(addr, ..) => IpNet::from(*addr),
        };
        let covered = matches!(member, IpSetMember::Net(_))
            && set.wide.covering(net).any(|(n, _)| n.prefix_len() < net.prefix_len());
        !covered
            && items.with_net(net).any(|item| {
                let has_port = match (&set.spec, member) {
                    (SetSpec::NamedPort { protocol, name, .. }, IpSetMember::IpPort(_, of, port)) => {
                        items.traits(item).is_some_and(|t| {
                            let mut ports = items.ports(t.ports).iter();
                            ports.any(|p| p.is(*protocol, name) && p.protocol == *of && p.port == *port)
                        })
                    }
                    _ => true,
                };
                has_port && self.index.matches(selector, &items.view(item))
            })
    }

    /// Members by what items say, overlaps and repetitions included.
    fn raw_members(&self, at: u32, items: &Items) -> Vec<IpSetMember> {
        let Some(set) = self.set(at) else { return Vec::new() };
        if let SetSpec::Service { name, with_ports } = &set.spec {
            return self.slices.members(name, *with_ports);
        }
        let Some(selector) = set.selector else { return Vec::new() };
        let mut out = Vec::new();
        let mut nets = Vec::new();
        for item in self.index.items(selector, &items.labels, |i| items.view(i)) {
            nets.clear();
            nets.extend(items.nets(item));
            let ports = items.traits(item).map_or(&[][..], |t| items.ports(t.ports));
            out.append(&mut members_of(&set.spec, &nets, ports));
        }
        out
    }

    /// Messages for new sets and changed ones, in order of their identifiers; then the sets that nobody refers to any
    /// more, to be sent after their last users are gone.
    pub fn flush(&mut self, items: &mut Items, out: &mut Vec<Message>) -> Vec<IpSetId> {
        let mut messages: BTreeMap<IpSetId, Message> = BTreeMap::new();
        let mut removed = Vec::new();
        for at in std::mem::take(&mut self.dirty) {
            let Some(set) = self.set(at) else { continue };
            if set.refs == 0 {
                if set.sent {
                    removed.push(set.id.clone());
                }
                self.drop_set(at, items);
            } else if set.sent {
                if let Some(delta) = self.delta(at, items) {
                    messages.insert(delta.id.clone(), Message::IpSetDelta(delta));
                }
            } else {
                let update = self.snapshot(at, items);
                messages.insert(update.id.clone(), Message::IpSetUpdate(update));
            }
        }
        out.extend(messages.into_values());
        removed.sort_unstable();
        removed
    }

    fn drop_set(&mut self, at: u32, items: &mut Items) {
        let Some(set) = self.sets[at as usize].take() else { return };
        if set.sent {
            self.sent -= 1;
        }
        if let Some(selector) = set.selector {
            self.index.remove(selector, at, &mut items.labels);
        }
        if let SetSpec::Service { name, .. } = &set.spec
            && let Some(sets) = self.by_service.get_mut(name)
        {
            sets.retain(|s| *s != at);
            if sets.is_empty() {
                self.by_service.remove(name);
            }
        }
        self.by_id.remove(&set.id);
        self.free.push(at);
    }

    fn delta(&mut self, at: u32, items: &Items) -> Option<IpSetDelta> {
        let set = self.set_mut(at)?;
        let id = set.id.clone();
        let touched = std::mem::take(&mut set.touched);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (member, was) in touched {
            match (was, self.contains(at, items, &member)) {
                (false, true) => added.push(member),
                (true, false) => removed.push(member),
                _ => {}
            }
        }
        added.sort_unstable();
        removed.sort_unstable();
        (!added.is_empty() || !removed.is_empty()).then_some(IpSetDelta { id, added, removed })
    }

    fn snapshot(&mut self, at: u32, items: &Items) -> IpSetUpdate {
        let mut members = self.raw_members(at, items);
        let mut wide = LpmMap::new();
        for net in members.iter().filter_map(as_net).filter(|n| !is_host_net(*n)) {
            add_wide(&mut wide, net);
        }
        sort_members(&mut members);
        members.dedup();
        if !wide.is_empty() {
            // Sorted by address, then length: what covers a network stands before it.
            let mut last: Option<IpNet> = None;
            members.retain(|m| match (as_net(m), last) {
                (Some(net), Some(wider)) if wider.contains(&net) => false,
                (net, _) => {
                    last = net;
                    true
                }
            });
        }
        self.sent += 1;
        let (id, kind) = match self.set_mut(at) {
            Some(set) => {
                set.sent = true;
                set.wide = wide;
                (set.id.clone(), set.spec.kind())
            }
            None => (Arc::from(""), IpSetKind::Net),
        };
        IpSetUpdate { id, kind, members }
    }
}

/// What an item with these addresses and ports brings to a set that it is in. Sorted, distinct.
fn members_of(spec: &SetSpec, nets: &[IpNet], ports: &[NamedPort]) -> Vec<IpSetMember> {
    match spec {
        SetSpec::Addresses(_) => nets.iter().map(|n| IpSetMember::Net(*n)).collect(),
        SetSpec::NamedPort { protocol, name, .. } => {
            let mut out: Vec<IpSetMember> = Vec::new();
            for net in nets.iter().filter(|n| is_host_net(**n)) {
                let ports = ports.iter().filter(|p| p.is(*protocol, name));
                out.extend(ports.map(|p| IpSetMember::IpPort(net.addr(), p.protocol, p.port)));
            }
            out.sort_unstable();
            out.dedup();
            out
        }
        SetSpec::Service { .. } => Vec::new(),
    }
}

/// By family, address and length, as `IpSetMember` is ordered: comparing numbers is several times as fast as
/// comparing the bytes of addresses, and there may be hundreds of thousands.
fn sort_members(members: &mut [IpSetMember]) {
    members.sort_unstable_by_key(|m| match m {
        IpSetMember::Net(IpNet::V4(n)) => (0, u128::from(u32::from(n.addr())), n.prefix_len(), 0),
        IpSetMember::Net(IpNet::V6(n)) => (1, u128::from(n.addr()), n.prefix_len(), 0),
        IpSetMember::IpPort(std::net::IpAddr::V4(a), proto, port) => {
            (2, u128::from(u32::from(*a)), *proto, *port)
        }
        IpSetMember::IpPort(std::net::IpAddr::V6(a), proto, port) => (3, u128::from(*a), *proto, *port),
    });
}

fn as_net(member: &IpSetMember) -> Option<IpNet> {
    match member {
        IpSetMember::Net(net) => Some(*net),
        IpSetMember::IpPort(..) => None,
    }
}

fn add_wide(wide: &mut LpmMap<u32>, net: IpNet) {
    match wide.get_mut(net) {
        Some(count) => *count += 1,
        None => {
            wide.insert(net, 1);
        }
    }
}

fn remove_wide(wide: &mut LpmMap<u32>, net: IpNet) {
    if let Some(count) = wide.get_mut(net) {
        *count -= 1;
        if *count == 0 {
            wide.remove(net);
        }
    }
}

/// Collects networks into a map.
trait CollectLpm {
    fn collect_lpm(self) -> LpmMap<()>;
}

impl<I: Iterator<Item = (IpNet, ())>> CollectLpm for I {
    fn collect_lpm(self) -> LpmMap<()> {
        let mut map = LpmMap::new();
        self.for_each(|(net, ())| {
            map.insert(net, ());
        });
        map
    }
}
