//! Whether IPAM's records fit together and fit what uses addresses: the findings of `ipam check`.
//!
//! In come the records as read at one revision and the addresses that workloads and nodes use, out go every
//! allocation with its users and a list of problems. Pure. Always holds: an allocation whose use cannot be judged
//! (addresses of Services, which only the Kubernetes API knows) counts as used, so that nobody releases it by mistake.
//!
//! Left out: repair. A report is what `ipam release` works from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use libcalico_model::Revision;
use libcalico_model::ipam::{AffinityState, AllocationAttribute, AllocationBlock, Handle};
use libcalico_net::cidr::{IpNet, overlap};
use serde::{Deserialize, Serialize};

use crate::block;
use crate::owner::Owner;
use crate::pool::Pool;

/// Handle of addresses that Windows nodes keep for themselves: used, though by no workload.
const WINDOWS_RESERVED: &str = "windows-reserved-ipam-handle";
/// Named as the user of a Service's address.
const UNJUDGED: &str = "Service (not checked)";
/// Named as the user of an address that was given out, or is given back, while it was looked at.
const MOVING: &str = "given out or back just now (not checked)";

/// What is compared.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub blocks: Vec<AllocationBlock>,
    pub handles: BTreeMap<String, (Handle, Revision)>,
    /// Block, host and state of every claim.
    pub claims: Vec<(IpNet, String, AffinityState)>,
    pub pools: Vec<Pool>,
    /// Names of all nodes.
    pub nodes: BTreeSet<String>,
    /// Addresses and what uses each: `Node(NAME)`, `Workload(NAMESPACE/NAME)`.
    pub in_use: Vec<(IpAddr, String)>,
}

/// One allocated address. JSON names are those of upstream's report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Allocation {
    pub ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub handle: String,
    /// The block's number when the address was given out: a release names it, so that an address that was given out
    /// again in the meantime stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub creation_timestamp: String,
    /// False: leaked.
    pub in_use: bool,
    /// From a block of another node.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub borrowed: bool,
    #[serde(deserialize_with = "libcalico_api::common::null_default")]
    pub owners: Vec<String>,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Allocated, used by nobody.
    Leaked { ip: IpAddr, attributes: String },
    /// Allocated in more than one block.
    AllocatedTwice { ip: IpAddr, blocks: Vec<IpNet> },
    /// More than one workload or node uses it.
    UsedTwice { ip: IpAddr, owners: Vec<String> },
    /// Used, in a pool, not allocated.
    NotAllocated { ip: IpAddr, owner: String },
    /// Used, in no enabled pool and not allocated.
    OutsidePools { ip: IpAddr, owner: String },
    /// A handle without addresses.
    LeakedHandle { id: String },
    /// A handle that blocks name and that does not exist.
    MissingHandle { id: String },
    /// A handle whose count for a block is not what the block has.
    WrongHandle { id: String, block: String, says: u32, is: u32 },
    /// A block of a node that does not exist.
    BlockWithoutNode { block: IpNet, node: String },
    /// A block in no pool.
    BlockOutsidePools { block: IpNet },
    /// A node's block without the node's claim.
    BlockWithoutClaim { block: IpNet, node: String },
    /// A confirmed claim on a block that does not exist or is another's.
    ClaimWithoutBlock { block: IpNet, host: String },
    /// A block whose parts contradict each other.
    Damaged { block: IpNet, reason: String },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaked { ip, attributes } => write!(f, "{ip} leaked; attrs {attributes}"),
            Self::AllocatedTwice { ip, blocks } => {
                let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
                write!(f, "{ip} is allocated in several blocks: {}", blocks.join(", "))
            }
            Self::UsedTwice { ip, owners } => write!(f, "{ip} has multiple owners: {}", owners.join(", ")),
            Self::NotAllocated { ip, owner } => {
                write!(f, "{ip} is used by {owner} and lies in an active pool, but is not allocated")
            }
            Self::OutsidePools { ip, owner } => {
                write!(f, "{ip} is used by {owner} and lies in no active pool")
            }
            Self::LeakedHandle { id } => write!(f, "handle {id} has no address"),
            Self::MissingHandle { id } => write!(f, "handle {id} is named by a block but does not exist"),
            Self::WrongHandle { id, block, says, is } => {
                write!(f, "handle {id} counts {says} address(es) in block {block}, which has {is}")
            }
            Self::BlockWithoutNode { block, node } => {
                write!(f, "block {block} belongs to node {node}, which does not exist")
            }
            Self::BlockOutsidePools { block } => write!(f, "block {block} lies in no pool"),
            Self::BlockWithoutClaim { block, node } => {
                write!(f, "block {block} belongs to node {node}, which has no claim on it")
            }
            Self::ClaimWithoutBlock { block, host } => {
                write!(f, "{host} claims block {block}, which is absent or another's")
            }
            Self::Damaged { block, reason } => write!(f, "block {block} contradicts itself: {reason}"),
        }
    }
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// By address; more than one where blocks overlap.
    pub allocations: BTreeMap<IpAddr, Vec<Allocation>>,
    /// By kind of problem, then by address.
    pub problems: Vec<Problem>,
    /// Handles that have addresses and exist.
    pub good_handles: usize,
}

impl Findings {
    /// Leaves of the problems those that an earlier reading had too. An address that seems leaked for the first time counts
    /// as used: it may be somebody's who is about to say so.
    #[must_use]
    pub fn seen_before(mut self, earlier: &Self) -> Self {
        self.problems.retain(|p| earlier.problems.contains(p));
        for (ip, found) in &mut self.allocations {
            let before = earlier.allocations.get(ip).map(Vec::as_slice).unwrap_or_default();
            for a in found.iter_mut().filter(|a| !a.in_use) {
                let same = |b: &Allocation| {
                    (&b.handle, b.sequence_number, &b.creation_timestamp)
                        == (&a.handle, a.sequence_number, &a.creation_timestamp)
                };
                if !before.iter().any(|b| !b.in_use && same(b)) {
                    a.in_use = true;
                    a.owners.push(MOVING.to_owned());
                }
            }
        }
        self
    }
}

/// Compares the records with each other and with what is used.
#[must_use]
pub fn check(records: &Records) -> Findings {
    let blocks: Vec<&AllocationBlock> = records.blocks.iter().filter(|b| !b.deleted).collect();
    let users = users(&records.in_use);
    let mut findings = Findings { allocations: allocations(&blocks, &users), ..Findings::default() };
    addresses(records, &blocks, &users, &mut findings);
    handles(records, &blocks, &mut findings);
    ownership(records, &blocks, &mut findings.problems);
    findings
}

type Users = BTreeMap<IpAddr, Vec<String>>;

fn users(in_use: &[(IpAddr, String)]) -> Users {
    let mut users = Users::new();
    for (ip, owner) in in_use {
        let owners = users.entry(*ip).or_default();
        // A node may tell the same address for two tunnels.
        if !owners.contains(owner) {
            owners.push(owner.clone());
        }
    }
    users
}

fn allocations(blocks: &[&AllocationBlock], users: &Users) -> BTreeMap<IpAddr, Vec<Allocation>> {
    let mut found: BTreeMap<IpAddr, Vec<Allocation>> = BTreeMap::new();
    for b in blocks {
        let owner = block::owner_text(b).unwrap_or_default();
        let host = owner.strip_prefix("host:").unwrap_or_default();
        let service = owner == Owner::load_balancer().affinity();
        for (ip, a) in block::allocated(b) {
            let get = |key: &str| a.active_owner_attrs.get(key).cloned().unwrap_or_default();
            let node = Some(get("node")).filter(|n| !n.is_empty()).unwrap_or_else(|| host.to_owned());
            let mut owners = users.get(&ip).cloned().unwrap_or_default();
            if owners.is_empty() && a.handle_id.as_deref() == Some(WINDOWS_RESERVED) {
                owners.push("Reserved for Windows".to_owned());
            } else if owners.is_empty() && service {
                owners.push(UNJUDGED.to_owned());
            }
            let ordinal = block::ordinal(b.cidr, ip).map(|o| o.to_string());
            found.entry(ip).or_default().push(Allocation {
                ip: ip.to_string(),
                handle: a.handle_id.clone().unwrap_or_default(),
                sequence_number: ordinal
                    .map(|o| b.sequence_number_for_allocation.get(&o).copied().unwrap_or_default()),
                pod: get("pod"),
                namespace: get("namespace"),
                type_: get("type"),
                creation_timestamp: get("timestamp"),
                in_use: !owners.is_empty(),
                borrowed: node != host,
                node,
                owners,
            });
        }
    }
    found
}

/// `Main:HANDLE Extra:KEY=VALUE,…`
#[must_use]
pub fn attribute_text(a: &AllocationAttribute) -> String {
    let extra: Vec<String> = a.active_owner_attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!("Main:{} Extra:{}", a.handle_id.as_deref().unwrap_or("<none>"), extra.join(","))
}

fn addresses(records: &Records, blocks: &[&AllocationBlock], users: &Users, findings: &mut Findings) {
    let attribute = |ip: IpAddr| {
        let of = |b: &&AllocationBlock| {
            block::allocated(b).find(|(addr, _)| *addr == ip).map(|(_, a)| attribute_text(a))
        };
        blocks.iter().filter(|b| b.cidr.contains(&ip)).find_map(of).unwrap_or_default()
    };
    let problems = &mut findings.problems;
    for (ip, allocations) in &findings.allocations {
        if allocations.iter().all(|a| !a.in_use) {
            problems.push(Problem::Leaked { ip: *ip, attributes: attribute(*ip) });
        }
        if allocations.len() > 1 {
            let holds = |b: &&&AllocationBlock| block::allocated(b).any(|(addr, _)| addr == *ip);
            let blocks = blocks.iter().filter(holds).map(|b| b.cidr).collect();
            problems.push(Problem::AllocatedTwice { ip: *ip, blocks });
        }
    }
    for (ip, owners) in users {
        if owners.len() > 1 {
            problems.push(Problem::UsedTwice { ip: *ip, owners: owners.clone() });
        }
        if findings.allocations.contains_key(ip) {
            continue;
        }
        let (ip, owner) = (*ip, owners.join(", "));
        let pooled = records.pools.iter().any(|p| !p.disabled && p.cidr.contains(&ip));
        problems.push(if pooled {
            Problem::NotAllocated { ip, owner }
        } else {
            Problem::OutsidePools { ip, owner }
        });
    }
}

fn handles(records: &Records, blocks: &[&AllocationBlock], findings: &mut Findings) {
    // How many addresses each handle has in each block.
    let mut held: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    for b in blocks {
        for (_, a) in block::allocated(b) {
            let Some(id) = a.handle_id.as_deref().filter(|id| *id != WINDOWS_RESERVED) else { continue };
            *held.entry(id).or_default().entry(b.cidr.to_string()).or_default() += 1;
        }
    }
    for (id, (handle, _)) in &records.handles {
        let Some(counts) = held.get(id.as_str()) else {
            if id != WINDOWS_RESERVED {
                findings.problems.push(Problem::LeakedHandle { id: id.clone() });
            }
            continue;
        };
        findings.good_handles += 1;
        let named: BTreeSet<&String> = handle.block.keys().chain(counts.keys()).collect();
        for block in named {
            let says = handle.block.get(block).copied().unwrap_or_default();
            let is = counts.get(block).copied().unwrap_or_default();
            if says != is {
                let (id, block) = (id.clone(), block.clone());
                findings.problems.push(Problem::WrongHandle { id, block, says, is });
            }
        }
    }
    let missing = held.keys().filter(|id| !records.handles.contains_key(**id));
    findings.problems.extend(missing.map(|id| Problem::MissingHandle { id: (*id).to_owned() }));
}

fn ownership(records: &Records, blocks: &[&AllocationBlock], problems: &mut Vec<Problem>) {
    for b in blocks {
        let block = b.cidr;
        if let Err(reason) = block::check(b) {
            problems.push(Problem::Damaged { block, reason });
        }
        if !records.pools.iter().any(|p| overlap(p.cidr, block)) {
            problems.push(Problem::BlockOutsidePools { block });
        }
        let owner = block::owner_text(b).unwrap_or_default();
        let Some(node) = owner.strip_prefix("host:") else { continue };
        let node = node.to_owned();
        if !records.nodes.contains(&node) {
            problems.push(Problem::BlockWithoutNode { block, node });
        } else if !records.claims.iter().any(|(c, h, _)| *c == block && *h == node) {
            problems.push(Problem::BlockWithoutClaim { block, node });
        }
    }
    for (block, host, state) in &records.claims {
        // A claim is written before its block and removed after it.
        let settled = matches!(state, AffinityState::Confirmed | AffinityState::Unset);
        let own = |b: &&&AllocationBlock| {
            b.cidr == *block && block::owner_text(b).is_some_and(|o| o.strip_prefix("host:") == Some(host))
        };
        if settled && blocks.iter().find(own).is_none() {
            problems.push(Problem::ClaimWithoutBlock { block: *block, host: host.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Moment;
    use libcalico_api::ip_pool::IPPool;

    fn attribute(handle: &str) -> AllocationAttribute {
        AllocationAttribute { handle_id: Some(handle.to_owned()), ..Default::default() }
    }

    /// A pool, a node with one block and one address, used by one workload.
    fn sound() -> Records {
        let mut pool = IPPool::default();
        pool.spec.cidr = Some("10.0.0.0/16".to_owned());
        let cidr: IpNet = "10.0.1.0/30".parse().unwrap();
        let mut b = block::new_block(cidr, Some(&Owner::host("a")), Moment(1));
        block::assign_next(&mut b, 1, &attribute("h"), &[]);
        let handle = Handle { block: BTreeMap::from([(cidr.to_string(), 1)]), deleted: false };
        Records {
            blocks: vec![b],
            handles: BTreeMap::from([("h".to_owned(), (handle, Revision("7".to_owned())))]),
            claims: vec![(cidr, "a".to_owned(), AffinityState::Confirmed)],
            pools: vec![Pool::read(&pool).unwrap()],
            nodes: BTreeSet::from(["a".to_owned()]),
            in_use: vec![("10.0.1.0".parse().unwrap(), "Workload(ns/w)".to_owned())],
        }
    }

    fn problems(change: impl FnOnce(&mut Records)) -> Vec<String> {
        let mut records = sound();
        change(&mut records);
        check(&records).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sound_records_have_no_problem() {
        assert_eq!(problems(|_| {}), [""; 0]);
        let found = check(&sound());
        let a = &found.allocations.values().next().unwrap()[0];
        assert_eq!((a.in_use, a.borrowed, a.node.as_str(), a.sequence_number), (true, false, "a", Some(1)));
    }

    #[test]
    fn each_problem_is_found() {
        assert_eq!(problems(|r| r.in_use.clear()), ["10.0.1.0 leaked; attrs Main:h Extra:"]);
        assert_eq!(
            problems(|r| r.in_use.push(("10.0.1.0".parse().unwrap(), "Node(a)".to_owned()))),
            ["10.0.1.0 has multiple owners: Workload(ns/w), Node(a)"]
        );
        assert_eq!(
            problems(|r| r.in_use.push(("10.0.9.9".parse().unwrap(), "Node(a)".to_owned()))),
            ["10.0.9.9 is used by Node(a) and lies in an active pool, but is not allocated"]
        );
        assert_eq!(
            problems(|r| r.in_use.push(("9.9.9.9".parse().unwrap(), "Node(a)".to_owned()))),
            ["9.9.9.9 is used by Node(a) and lies in no active pool"]
        );
        assert_eq!(problems(|r| r.handles.clear()), ["handle h is named by a block but does not exist"]);
        assert_eq!(
            problems(|r| {
                let stray = (Handle::default(), Revision::default());
                r.handles.insert("stray".to_owned(), stray);
            }),
            ["handle stray has no address"]
        );
        assert_eq!(
            problems(|r| {
                let count = r.handles.get_mut("h").unwrap().0.block.get_mut("10.0.1.0/30").unwrap();
                *count = 3;
            }),
            ["handle h counts 3 address(es) in block 10.0.1.0/30, which has 1"]
        );
        assert_eq!(
            problems(|r| r.nodes.clear()),
            ["block 10.0.1.0/30 belongs to node a, which does not exist"]
        );
        assert_eq!(
            problems(|r| r.claims.clear()),
            ["block 10.0.1.0/30 belongs to node a, which has no claim on it"]
        );
        assert_eq!(problems(|r| r.pools.clear()), ["block 10.0.1.0/30 lies in no pool"]);
        assert_eq!(
            problems(|r| {
                r.claims.push(("10.0.2.0/30".parse().unwrap(), "a".to_owned(), AffinityState::Confirmed));
            }),
            ["a claims block 10.0.2.0/30, which is absent or another's"]
        );
        assert_eq!(
            problems(|r| r.blocks[0].unallocated.clear()),
            ["block 10.0.1.0/30 contradicts itself: an address is neither free nor allocated"]
        );
    }

    #[test]
    fn what_an_earlier_reading_did_not_find_is_not_told() {
        let used = sound();
        let mut unused = sound();
        unused.in_use.clear();
        // Given out at the first reading, said at the second.
        assert_eq!(check(&used).seen_before(&check(&unused)).problems, []);
        // Given out after the first reading: no leak, and nothing that a release would take from the report.
        let later = check(&unused).seen_before(&check(&used));
        assert_eq!(later.problems, []);
        assert!(later.allocations.values().flatten().all(|a| a.in_use));
        // Another tenant's at each reading.
        let mut next = unused.clone();
        next.blocks[0].attributes[0].handle_id = Some("other".to_owned());
        let moved = check(&next).seen_before(&check(&unused));
        assert!(moved.allocations.values().flatten().all(|a| a.in_use), "{moved:?}");
        // Leaked in both.
        let leaked = check(&unused).seen_before(&check(&unused));
        assert_eq!(leaked, check(&unused));
        assert_eq!(leaked.problems.len(), 1);
    }

    #[test]
    fn addresses_of_services_are_never_called_leaked() {
        let found = problems(|r| {
            r.in_use.clear();
            r.blocks[0].affinity = Some("virtual:load-balancer".to_owned());
            r.claims.clear();
        });
        assert_eq!(found, [""; 0]);
    }
}
