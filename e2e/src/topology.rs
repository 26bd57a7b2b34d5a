//! The plan of a lab: which machines there are, on which wires, with which addresses. Pure.
//!
//! In: a [`LabConfig`]. Out: a [`Topology`] that [`crate::kernel`] builds.
//! What always holds: node `n<i>` is `172.31.<subnet>.<i>`; subnets are joined by one router (the `fab`
//! namespace) that knows the subnets and nothing about pods; `outside` is behind that router too, so it reaches
//! nodes but never a pod's address unless the node translates it.
//!
//! ```text
//!   n1 n4 …  infra        n2 n5 …             outside
//!     └──┬──┘               └─┬─┘                │
//!      lan0 172.31.0.0/24   lan1 172.31.1.0/24  wan 192.0.2.0/24
//!        └────────── fab (router) ──────────────┘
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{LabError, Result, names};

/// How packets between nodes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Encap {
    /// As they are, along routes learned by BGP.
    None,
}

/// What Felix programs policy into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    Nftables,
}

/// Where the cluster's objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Datastore {
    Etcd,
}

/// Everything a person or a test chooses about a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabConfig {
    pub name: String,
    pub nodes: usize,
    pub subnets: usize,
    pub encap: Encap,
    pub dataplane: Dataplane,
    pub datastore: Datastore,
    /// Typha instances on `infra`; with 0 every Felix watches the datastore itself.
    pub typha: usize,
    /// Nodes and pods have IPv6 addresses too.
    pub ipv6: bool,
    /// Mutual TLS between Typha and the nodes.
    pub typha_tls: bool,
    /// Folder of the built binaries; by default where the running program is.
    pub bin_dir: Option<PathBuf>,
    /// More environment for every calico-node, after the lab's own.
    pub node_env: Vec<(String, String)>,
}

impl LabConfig {
    /// The lab `lab up` makes by default, under another name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            subnets: 1,
            encap: Encap::None,
            dataplane: Dataplane::Nftables,
            datastore: Datastore::Etcd,
            typha: 1,
            ipv6: false,
            typha_tls: false,
            bin_dir: None,
            node_env: Vec::new(),
        }
    }

    /// Refuses what the address plan has no room for.
    pub fn check(&self) -> Result<()> {
        names::check_lab_name(&self.name)?;
        let within = |what, value: usize, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(LabError::OutOfRange { what, min, max }) }
        };
        within("--nodes", self.nodes, 1, MAX_NODES)?;
        within("--subnets", self.subnets, 1, MAX_SUBNETS)?;
        within("--typha", self.typha, 0, MAX_TYPHAS)
    }
}

const MAX_NODES: usize = 200;
const MAX_SUBNETS: usize = 16;
const MAX_TYPHAS: usize = 16;
/// The host part of `infra`'s address, above every node's.
const INFRA_HOST: u8 = 250;
/// The host part of the router's address in every subnet.
const ROUTER_HOST: u8 = 254;

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs calico-node and pods.
    Node,
    /// Runs etcd and Typha.
    Infra,
    /// Some host elsewhere: no node, in no pool.
    Outside,
}

/// One machine: a namespace with one interface, `eth0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub role: Role,
    /// Name of the bridge its wire ends at.
    pub bridge: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub gateway_v4: Ipv4Addr,
    pub gateway_v6: Ipv6Addr,
}

/// Every subnet has this prefix length.
pub const PREFIX_V4: u8 = 24;
/// Every IPv6 subnet has this prefix length.
pub const PREFIX_V6: u8 = 64;

/// One switch in the `fab` namespace, with the router's addresses on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// All wires and machines of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub bridges: Vec<Bridge>,
    pub machines: Vec<Machine>,
}

impl Topology {
    /// Lays out a lab that passed [`LabConfig::check`].
    pub fn plan(config: &LabConfig) -> Self {
        let lan_v4 = |subnet: usize, host: u8| Ipv4Addr::new(172, 31, octet(subnet), host);
        let lan_v6 = |subnet: usize, host: u8| {
            Ipv6Addr::new(0xfd00, 0x31, 0, u16::from(octet(subnet)), 0, 0, 0, host.into())
        };
        let wan_v4 = |host: u8| Ipv4Addr::new(192, 0, 2, host);
        let wan_v6 = |host: u8| Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, host.into());
        let lan = |name: String, role, subnet: usize, host| Machine {
            name,
            role,
            bridge: format!("lan{subnet}"),
            v4: lan_v4(subnet, host),
            v6: lan_v6(subnet, host),
            gateway_v4: lan_v4(subnet, ROUTER_HOST),
            gateway_v6: lan_v6(subnet, ROUTER_HOST),
        };
        let mut bridges: Vec<Bridge> = (0..config.subnets)
            .map(|s| Bridge {
                name: format!("lan{s}"),
                v4: lan_v4(s, ROUTER_HOST),
                v6: lan_v6(s, ROUTER_HOST),
            })
            .collect();
        bridges.push(Bridge { name: "wan".to_owned(), v4: wan_v4(ROUTER_HOST), v6: wan_v6(ROUTER_HOST) });
        let mut machines = vec![lan("infra".to_owned(), Role::Infra, 0, INFRA_HOST)];
        machines.extend(
            (1..=config.nodes).map(|i| lan(format!("n{i}"), Role::Node, (i - 1) % config.subnets, octet(i))),
        );
        machines.push(Machine {
            name: "outside".to_owned(),
            role: Role::Outside,
            bridge: "wan".to_owned(),
            v4: wan_v4(2),
            v6: wan_v6(2),
            gateway_v4: wan_v4(ROUTER_HOST),
            gateway_v6: wan_v6(ROUTER_HOST),
        });
        Self { bridges, machines }
    }

    /// The machine of that name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|m| m.name == name)
    }

    /// The machines that run calico-node, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().filter(|m| m.role == Role::Node)
    }
}

/// Numbers of machines and subnets are below 256 by [`LabConfig::check`]; saturating keeps this total.
fn octet(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn three_nodes_share_one_subnet_by_default() {
        let plan = Topology::plan(&LabConfig::named("demo"));
        let addresses: Vec<String> = plan.nodes().map(|m| format!("{} {}", m.v4, m.v6)).collect();
        assert_eq!(addresses, ["172.31.0.1 fd00:31::1", "172.31.0.2 fd00:31::2", "172.31.0.3 fd00:31::3"]);
        assert_eq!(plan.machine("infra").unwrap().v4.to_string(), "172.31.0.250");
    }

    #[test]
    fn nodes_are_dealt_to_subnets_in_turn_and_no_address_comes_twice() {
        let config = LabConfig { nodes: 200, subnets: 16, ..LabConfig::named("big") };
        config.check().unwrap();
        let plan = Topology::plan(&config);
        assert_eq!(plan.machine("n2").unwrap().bridge, "lan1");
        let mut v4: HashSet<_> = plan.machines.iter().map(|m| m.v4).collect();
        v4.extend(plan.bridges.iter().map(|b| b.v4));
        assert_eq!(v4.len(), plan.machines.len() + plan.bridges.len());
    }

    #[test]
    fn outside_is_on_no_subnet_of_nodes() {
        let plan = Topology::plan(&LabConfig::named("demo"));
        let outside = plan.machine("outside").unwrap();
        assert!(plan.nodes().all(|n| n.v4.octets()[..3] != outside.v4.octets()[..3]));
    }

    #[test]
    fn more_than_the_address_plan_holds_is_refused() {
        for config in [
            LabConfig { nodes: 0, ..LabConfig::named("x") },
            LabConfig { nodes: 201, ..LabConfig::named("x") },
            LabConfig { subnets: 0, ..LabConfig::named("x") },
            LabConfig { typha: 17, ..LabConfig::named("x") },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
