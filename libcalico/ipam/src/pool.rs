//! Which pools a request may take addresses from.
//!
//! In come `IPPool` objects and the request, out come the pools in the order in which they are tried, or why there
//! are none. Rules are upstream's: pools that were asked for by name or CIDR are used whatever their selectors and
//! assignment mode say, as long as they are enabled; otherwise a pool must be Automatic and select both the node and
//! the namespace. `allowedUses` counts in both cases.

use std::collections::BTreeMap;

use libcalico_api::ip_pool::{AllowedUse, AssignmentMode, IPPool};
use libcalico_net::cidr::{Family, IpNet, parse_network};
use libcalico_selector::Selector;

use crate::block;
use crate::error::IpamError;

/// A pool as IPAM sees it.
#[derive(Clone, Debug)]
pub struct Pool {
    pub name: String,
    pub cidr: IpNet,
    /// Prefix length of the blocks.
    pub block_len: u8,
    pub disabled: bool,
    /// False: only on request.
    pub automatic: bool,
    pub uses: Vec<AllowedUse>,
    pub node_selector: Selector,
    pub namespace_selector: Selector,
}

impl Pool {
    /// Reads a pool object. An invalid one is as good as absent; the error says why.
    pub fn read(p: &IPPool) -> Result<Self, String> {
        let cidr = parse_network(p.spec.cidr.as_deref().unwrap_or_default()).map_err(|e| e.to_string())?;
        let block_len = match p.spec.block_size {
            Some(n) if n != 0 => u8::try_from(n).map_err(|_| format!("blockSize {n} is no prefix length"))?,
            _ if cidr.addr().is_ipv4() => 26,
            _ => 122,
        };
        if block_len < cidr.prefix_len() || block_len > cidr.max_prefix_len() {
            return Err(format!("blockSize {block_len} does not fit into {cidr}"));
        }
        let example = IpNet::new(cidr.addr(), block_len).map_err(|e| e.to_string())?;
        if block::size(example).is_none() {
            return Err(format!("blocks of size /{block_len} are too large"));
        }
        let selector = |text: &Option<String>| {
            Selector::parse(text.as_deref().unwrap_or_default()).map_err(|e| e.to_string())
        };
        Ok(Self {
            name: p.metadata.name.clone(),
            cidr,
            block_len,
            disabled: p.spec.disabled.unwrap_or(false),
            automatic: p.spec.assignment_mode != Some(AssignmentMode::Manual),
            uses: if p.spec.allowed_uses.is_empty() {
                vec![AllowedUse::Workload, AllowedUse::Tunnel]
            } else {
                p.spec.allowed_uses.clone()
            },
            node_selector: selector(&p.spec.node_selector)?,
            namespace_selector: selector(&p.spec.namespace_selector)?,
        })
    }

    /// The block of the pool that holds an address.
    #[must_use]
    pub fn block_of(&self, addr: std::net::IpAddr) -> Option<IpNet> {
        if !self.cidr.contains(&addr) {
            return None;
        }
        IpNet::new(addr, self.block_len).ok().map(|n| n.trunc())
    }

    /// True where the block has the pool's size and lies in it.
    #[must_use]
    pub fn holds_block(&self, block: IpNet) -> bool {
        self.cidr.contains(&block)
    }
}

/// What the choice of pools depends on.
#[derive(Clone, Debug)]
pub struct PoolRequest<'a> {
    pub node: &'a str,
    pub node_labels: &'a BTreeMap<String, String>,
    /// `None` where there is no namespace, as for tunnels.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// By CIDR or name. Empty: whatever the selectors allow.
    pub requested: &'a [String],
    pub intended_use: AllowedUse,
    pub family: Family,
}

/// Picks the pools.
pub fn select<'p>(pools: &'p [Pool], request: &PoolRequest<'_>) -> Result<Vec<&'p Pool>, IpamError> {
    let family = request.family;
    let enabled: Vec<&Pool> =
        pools.iter().filter(|p| !p.disabled && Family::of_net(p.cidr) == family).collect();
    let none = |reason: String| IpamError::NoPools { node: request.node.to_owned(), family, reason };
    if enabled.is_empty() && request.requested.is_empty() {
        return Err(none("no pool of this family is enabled".to_owned()));
    }
    let mut chosen = Vec::new();
    if request.requested.is_empty() {
        let empty = BTreeMap::new();
        let namespace = request.namespace_labels.unwrap_or(&empty);
        chosen.extend(enabled.iter().copied().filter(|p| {
            p.automatic
                && p.node_selector.matches(request.node_labels)
                && p.namespace_selector.matches(namespace)
        }));
        if chosen.is_empty() {
            return Err(none(
                "no automatic pool selects this node and namespace; see nodeSelector, namespaceSelector and assignmentMode"
                    .to_owned(),
            ));
        }
    } else {
        for wanted in request.requested {
            chosen.push(find(pools, &enabled, wanted, family)?);
        }
    }
    chosen.retain(|p| p.uses.contains(&request.intended_use));
    if chosen.is_empty() {
        return Err(none(format!("no pool allows the use {:?}", request.intended_use)));
    }
    Ok(chosen)
}

fn find<'p>(
    all: &'p [Pool],
    enabled: &[&'p Pool],
    wanted: &str,
    family: Family,
) -> Result<&'p Pool, IpamError> {
    let cidr = parse_network(wanted).ok();
    let is = |p: &Pool| p.name == wanted || cidr.is_some_and(|c| c == p.cidr);
    if let Some(p) = enabled.iter().find(|p| is(p)) {
        return Ok(p);
    }
    let other = all.iter().any(|p| is(p) && Family::of_net(p.cidr) != family);
    Err(if other {
        IpamError::WrongFamily { pool: wanted.to_owned(), family }
    } else {
        IpamError::UnknownPool { pool: wanted.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, cidr: &str, change: impl FnOnce(&mut IPPool)) -> Pool {
        let mut p = IPPool::default();
        name.clone_into(&mut p.metadata.name);
        p.spec.cidr = Some(cidr.to_owned());
        change(&mut p);
        Pool::read(&p).unwrap()
    }

    fn chosen(pools: &[Pool], requested: &[&str], labels: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let requested: Vec<String> = requested.iter().map(|s| (*s).to_owned()).collect();
        let request = PoolRequest {
            node: "n",
            node_labels: &labels,
            namespace_labels: None,
            requested: &requested,
            intended_use: AllowedUse::Workload,
            family: Family::V4,
        };
        select(pools, &request).map(|v| v.iter().map(|p| p.name.clone()).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn disabled_manual_and_unselected_pools_are_not_used_unasked() {
        let pools = [
            pool("off", "10.1.0.0/16", |p| p.spec.disabled = Some(true)),
            pool("manual", "10.2.0.0/16", |p| p.spec.assignment_mode = Some(AssignmentMode::Manual)),
            pool("rack", "10.3.0.0/16", |p| p.spec.node_selector = Some("rack == 'r1'".to_owned())),
            pool("any", "10.4.0.0/16", |p| p.spec.node_selector = Some("all()".to_owned())),
            pool("lb", "10.5.0.0/16", |p| p.spec.allowed_uses = vec![AllowedUse::LoadBalancer]),
            pool("six", "fd00::/48", |_| {}),
        ];
        assert_eq!(chosen(&pools, &[], &[]).unwrap(), ["any"]);
        assert_eq!(chosen(&pools, &[], &[("rack", "r1")]).unwrap(), ["rack", "any"]);
        assert_eq!(chosen(&pools, &["manual"], &[]).unwrap(), ["manual"]);
        assert_eq!(chosen(&pools, &["10.3.0.0/16", "10.4.0.0/16"], &[]).unwrap(), ["rack", "any"]);
        assert!(chosen(&pools, &["off"], &[]).unwrap_err().contains("does not exist, or is not enabled"));
        assert!(chosen(&pools, &["lb"], &[]).unwrap_err().contains("no pool allows the use"));
        assert!(chosen(&pools, &["six"], &[]).unwrap_err().contains("is no IPv4 pool"));
        assert!(chosen(&pools[..1], &[], &[]).unwrap_err().contains("no pool of this family is enabled"));
    }

    #[test]
    fn a_pool_that_cannot_be_worked_with_is_absent() {
        let read = |cidr: &str, block: i32| {
            let mut p = IPPool::default();
            p.spec.cidr = Some(cidr.to_owned());
            p.spec.block_size = Some(block);
            Pool::read(&p)
        };
        assert!(read("10.0.0.0/16", 26).is_ok());
        assert!(read("10.0.0.0/16", 12).is_err());
        assert!(read("10.0.0.0/16", 33).is_err());
        assert!(read("fd00::/16", 64).is_err());
        assert!(read("nonsense", 26).is_err());
        assert!(read("10.0.0.0/16", -3).is_err());
    }
}
