//! A dataplane in memory: what stands after the messages were applied one by one.
//!
//! In come messages, out go the tables that a dataplane would have, or the first message that breaks the rules of the
//! stream: a reference to something that was not sent, a removal while somebody still refers to it, a member that is
//! added twice or was never there. For replay, dumps and tests; the real dataplane keeps its own books.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use felix_message::{
    ActivePolicy, ActiveProfile, ConfigUpdate, Encapsulation, GlobalBgpConfig, HostEndpoint, HostMetadata,
    IpPool, IpSetDelta, IpSetId, IpSetKind, IpSetMember, Message, Route, Rule, Service, ServiceName,
    TierInfo, Vtep, WorkloadEndpoint,
};
use ipnet::IpNet;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};

use crate::outcome::Difference;

/// A message that cannot be applied where it came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("{user} refers to {what}, which was not sent")]
    Dangling { user: String, what: String },
    #[error("{what} was removed while {user} refers to it")]
    InUse { user: String, what: String },
    #[error("{0} was removed or changed without having been sent")]
    Unknown(String),
    #[error("IP set {id}: {member} {problem}")]
    Member { id: String, member: String, problem: &'static str },
    #[error("{0} was sent before the datastore was in sync")]
    Early(String),
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mirror {
    pub config: ConfigUpdate,
    pub in_sync: bool,
    pub ip_sets: BTreeMap<IpSetId, (IpSetKind, BTreeSet<IpSetMember>)>,
    pub policies: BTreeMap<PolicyKey, Arc<ActivePolicy>>,
    pub profiles: BTreeMap<String, Arc<ActiveProfile>>,
    pub workloads: BTreeMap<WorkloadEndpointKey, Arc<WorkloadEndpoint>>,
    pub hosts: BTreeMap<String, Arc<HostEndpoint>>,
    pub metadata: BTreeMap<String, HostMetadata>,
    pub pools: BTreeMap<IpNet, IpPool>,
    pub routes: BTreeMap<IpNet, Route>,
    pub vteps: BTreeMap<String, Vtep>,
    pub encapsulation: Encapsulation,
    pub services: BTreeMap<ServiceName, Service>,
    pub bgp: GlobalBgpConfig,
}

impl Mirror {
    /// Applies messages in order.
    pub fn apply_all(&mut self, messages: &[Message]) -> Result<(), OrderError> {
        messages.iter().try_for_each(|m| self.apply(m))
    }

    /// Applies one message.
    pub fn apply(&mut self, message: &Message) -> Result<(), OrderError> {
        match message {
            Message::ConfigUpdate(c) => self.config = c.clone(),
            Message::InSync => self.in_sync = true,
            Message::IpSetUpdate(u) => {
                check_overlaps(&u.id, u.members.iter().copied())?;
                self.ip_sets.insert(u.id.clone(), (u.kind, u.members.iter().copied().collect()));
            }
            Message::IpSetDelta(delta) => self.apply_delta(delta)?,
            Message::IpSetRemove(id) => {
                self.unused_set(id)?;
                known(self.ip_sets.remove(id), || format!("IP set {id}"))?;
            }
            Message::PolicyUpdate(key, policy) => {
                self.sets_are_there(&name(key), policy.inbound.iter().chain(&policy.outbound))?;
                self.policies.insert(key.clone(), policy.clone());
            }
            Message::PolicyRemove(key) => {
                let lists = |t: &TierInfo| t.ingress.iter().chain(&t.egress).any(|k| **k == *key);
                if let Some(user) = self.user_of(lists) {
                    return Err(OrderError::InUse { user, what: name(key) });
                }
                known(self.policies.remove(key), || name(key))?;
            }
            Message::ProfileUpdate(key, profile) => {
                let user = format!("profile {key}");
                self.sets_are_there(&user, profile.inbound.iter().chain(&profile.outbound))?;
                self.profiles.insert(key.clone(), profile.clone());
            }
            Message::ProfileRemove(key) => {
                let what = format!("profile {key}");
                let in_workload = self.workloads.iter().find(|(_, w)| w.profiles.contains(key));
                let user = in_workload.map(|(k, _)| format!("{k:?}")).or_else(|| {
                    self.hosts.iter().find(|(_, h)| h.profiles.contains(key)).map(|(k, _)| k.clone())
                });
                if let Some(user) = user {
                    return Err(OrderError::InUse { user, what });
                }
                known(self.profiles.remove(key), || what)?;
            }
            Message::WorkloadEndpointUpdate(key, w) => {
                self.policies_are_there(&format!("{key:?}"), &w.profiles, w.tiers.iter())?;
                self.workloads.insert(key.clone(), w.clone());
            }
            Message::WorkloadEndpointRemove(key) => {
                known(self.workloads.remove(key), || format!("{key:?}"))?;
            }
            Message::HostEndpointUpdate(key, h) => {
                self.policies_are_there(key, &h.profiles, host_tiers(h))?;
                self.hosts.insert(key.clone(), h.clone());
            }
            Message::HostEndpointRemove(key) => {
                known(self.hosts.remove(key), || format!("host endpoint {key}"))?;
            }
            other => self.apply_network(other)?,
        }
        Ok(())
    }

    /// What `found` has otherwise, to the last rule; nothing where both are equal.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        if self == found {
            return Vec::new();
        }
        let (expected, found) = (self.texts(), found.texts());
        let subjects: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let differs = subjects.into_iter().filter(|s| expected.get(*s) != found.get(*s));
        let difference = |s: &String| Difference {
            subject: s.clone(),
            expected: expected.get(s).cloned(),
            found: found.get(s).cloned(),
        };
        differs.map(difference).collect()
    }

    /// Every entry of every table, by subject.
    fn texts(&self) -> BTreeMap<String, String> {
        fn table<K: std::fmt::Debug, V: std::fmt::Debug>(
            out: &mut BTreeMap<String, String>,
            kind: &str,
            of: &BTreeMap<K, V>,
        ) {
            out.extend(of.iter().map(|(k, v)| (format!("{kind} {k:?}"), format!("{v:?}"))));
        }
        let mut out = BTreeMap::new();
        table(&mut out, "IP set", &self.ip_sets);
        table(&mut out, "policy", &self.policies);
        table(&mut out, "profile", &self.profiles);
        table(&mut out, "workload endpoint", &self.workloads);
        table(&mut out, "host endpoint", &self.hosts);
        table(&mut out, "host", &self.metadata);
        table(&mut out, "pool", &self.pools);
        table(&mut out, "route", &self.routes);
        table(&mut out, "VTEP", &self.vteps);
        table(&mut out, "service", &self.services);
        out.insert("configuration".to_owned(), format!("{:?}", self.config));
        out.insert("in sync".to_owned(), self.in_sync.to_string());
        out.insert("encapsulation".to_owned(), format!("{:?}", self.encapsulation));
        out.insert("BGP configuration".to_owned(), format!("{:?}", self.bgp));
        out
    }

    /// Messages that refer to nothing.
    fn apply_network(&mut self, message: &Message) -> Result<(), OrderError> {
        match message {
            Message::HostMetadataUpdate(m) => {
                self.metadata.insert(m.hostname.clone(), m.clone());
            }
            Message::HostMetadataRemove(host) => {
                known(self.metadata.remove(host), || format!("host {host}"))?;
            }
            Message::PoolUpdate(net, pool) => {
                self.pools.insert(*net, pool.clone());
            }
            Message::PoolRemove(net) => known(self.pools.remove(net), || format!("pool {net}"))?,
            Message::RouteUpdate(route) => {
                self.routes.insert(route.dst, route.clone());
            }
            Message::RouteRemove(net) => known(self.routes.remove(net), || format!("route {net}"))?,
            Message::VtepUpdate(vtep) => {
                self.vteps.insert(vtep.node.clone(), vtep.clone());
            }
            Message::VtepRemove(node) => known(self.vteps.remove(node), || format!("VTEP {node}"))?,
            Message::EncapsulationUpdate(e) => self.encapsulation = *e,
            Message::ServiceUpdate(s) => {
                self.services.insert(s.name.clone(), s.clone());
            }
            Message::ServiceRemove(name) => {
                known(self.services.remove(name), || format!("service {name:?}"))?;
            }
            Message::GlobalBgpConfigUpdate(bgp) => self.bgp = bgp.clone(),
            _ => {}
        }
        Ok(())
    }

    fn apply_delta(&mut self, delta: &IpSetDelta) -> Result<(), OrderError> {
        let unknown = || OrderError::Unknown(format!("IP set {}", delta.id));
        let (_, members) = self.ip_sets.get_mut(&delta.id).ok_or_else(unknown)?;
        let wrong = |member: &IpSetMember, problem| OrderError::Member {
            id: delta.id.to_string(),
            member: format!("{member:?}"),
            problem,
        };
        for member in &delta.removed {
            if !members.remove(member) {
                return Err(wrong(member, "was removed without being there"));
            }
        }
        for member in &delta.added {
            if !members.insert(*member) {
                return Err(wrong(member, "was added twice"));
            }
        }
        check_overlaps(&delta.id, members.iter().copied())
    }

    fn sets_are_there<'a>(
        &self,
        user: &str,
        rules: impl Iterator<Item = &'a Rule>,
    ) -> Result<(), OrderError> {
        for id in rules.flat_map(sets_of) {
            if !self.ip_sets.contains_key(id) {
                return Err(OrderError::Dangling { user: user.to_owned(), what: format!("IP set {id}") });
            }
        }
        Ok(())
    }

    fn unused_set(&self, id: &IpSetId) -> Result<(), OrderError> {
        let in_use = |user| Err(OrderError::InUse { user, what: format!("IP set {id}") });
        for (key, p) in &self.policies {
            if p.inbound.iter().chain(&p.outbound).flat_map(sets_of).any(|i| i == id) {
                return in_use(name(key));
            }
        }
        for (key, p) in &self.profiles {
            if p.inbound.iter().chain(&p.outbound).flat_map(sets_of).any(|i| i == id) {
                return in_use(format!("profile {key}"));
            }
        }
        Ok(())
    }

    fn policies_are_there<'a>(
        &self,
        user: &str,
        profiles: &[String],
        tiers: impl Iterator<Item = &'a TierInfo>,
    ) -> Result<(), OrderError> {
        for profile in profiles {
            if !self.profiles.contains_key(profile) {
                let what = format!("profile {profile}");
                return Err(OrderError::Dangling { user: user.to_owned(), what });
            }
        }
        for key in tiers.flat_map(|t| t.ingress.iter().chain(&t.egress)) {
            if !self.policies.contains_key(key) {
                return Err(OrderError::Dangling { user: user.to_owned(), what: name(key) });
            }
        }
        Ok(())
    }

    fn user_of(&self, uses: impl Fn(&TierInfo) -> bool) -> Option<String> {
        let workload = self.workloads.iter().find(|(_, w)| w.tiers.iter().any(&uses));
        workload
            .map(|(k, _)| format!("{k:?}"))
            .or_else(|| self.hosts.iter().find(|(_, h)| host_tiers(h).any(&uses)).map(|(k, _)| k.clone()))
    }
}

/// Every address set that a rule refers to.
pub fn sets_of(rule: &Rule) -> impl Iterator<Item = &IpSetId> {
    [&rule.src, &rule.dst].into_iter().flat_map(|s| {
        let by_address = s.ip_sets.iter().chain(&s.not_ip_sets).chain(&s.ip_port_sets);
        by_address.chain(&s.named_port_sets).chain(&s.not_named_port_sets)
    })
}

fn host_tiers(h: &HostEndpoint) -> impl Iterator<Item = &TierInfo> {
    let lists = [&h.tiers, &h.untracked_tiers, &h.pre_dnat_tiers, &h.forward_tiers];
    lists.into_iter().flat_map(|l| l.iter())
}

fn name(key: &PolicyKey) -> String {
    format!("{} {}/{}", key.kind.name(), key.namespace, key.name)
}

fn known<T>(removed: Option<T>, what: impl FnOnce() -> String) -> Result<(), OrderError> {
    removed.map(drop).ok_or_else(|| OrderError::Unknown(what()))
}

/// Sorted by address, then length, what covers a network stands before it.
fn check_overlaps(id: &IpSetId, members: impl Iterator<Item = IpSetMember>) -> Result<(), OrderError> {
    let mut last: Option<IpNet> = None;
    for member in members {
        let IpSetMember::Net(net) = member else { continue };
        if last.is_some_and(|l| l.contains(&net)) {
            return Err(OrderError::Member {
                id: id.to_string(),
                member: net.to_string(),
                problem: "lies within another member",
            });
        }
        last = Some(net);
    }
    Ok(())
}
