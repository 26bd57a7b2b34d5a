//! The places on a packet's way where something decides.
//!
//! In: the two ends. Out: their own policies and, where a workload's node receives the packet or sends it on, the
//! node's host endpoint with its policies for that. Always holds: they are in the order in which the packet meets them.
//! Left out: which of several interfaces a node takes; with several host endpoints nothing is said of the way.

use felix_calc::explain::Direction;

use crate::Result;
use crate::policy::world::{Calculated, EndKey, World};

/// Why the packet is at a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It begins or ends there.
    End,
    /// It is on its way to a workload, or from one.
    Forward,
    /// It comes from the node's own workload and is for the node.
    Arrival,
    /// No policy is asked: whether it passes, and why.
    Exempt(bool, &'static str),
}

/// A place on the way.
pub struct Station {
    pub at: Calculated,
    pub dir: Direction,
    pub role: Role,
}

/// The stations between two ends; an end that is none of the cluster's has none.
pub fn on_the_way(world: &mut World, from: Option<&EndKey>, to: Option<&EndKey>) -> Result<Vec<Station>> {
    let mut found: Vec<(EndKey, Direction, Role)> = Vec::new();
    let roles = roles(world, from, to);
    if let Some(from) = from {
        found.push((from.clone(), Direction::Egress, roles[0]));
        found.extend(leaving(world, from, to));
    }
    if let Some(to) = to {
        found.extend(coming(world, from, to));
        found.push((to.clone(), Direction::Ingress, roles[1]));
    }
    found.into_iter().map(|(key, dir, role)| Ok(Station { at: world.calculated(&key)?, dir, role })).collect()
}

fn is_workload(key: Option<&EndKey>) -> bool {
    matches!(key, Some(EndKey::Workload(_)))
}

/// At the node of a workload that sends.
fn leaving(world: &World, from: &EndKey, to: Option<&EndKey>) -> Vec<(EndKey, Direction, Role)> {
    let node = from.node();
    if !is_workload(Some(from)) {
        return Vec::new();
    }
    let together = to.is_some_and(|to| to.node() == node);
    let received = world.wildcard(node).map(|key| {
        let for_host = together && !is_workload(to);
        (key, Direction::Ingress, if for_host { Role::Arrival } else { Role::Forward })
    });
    let sent = if together { None } else { world.way_out(node, is_workload(to)) };
    received.into_iter().chain(sent.map(|key| (key, Direction::Egress, Role::Forward))).collect()
}

/// At the node of a workload that receives.
fn coming(world: &World, from: Option<&EndKey>, to: &EndKey) -> Vec<(EndKey, Direction, Role)> {
    let node = to.node();
    let together = from.is_some_and(|from| from.node() == node);
    if !is_workload(Some(to)) || together && !is_workload(from) {
        return Vec::new();
    }
    let received = if together { None } else { world.way_out(node, is_workload(from)) };
    let sent = world.wildcard(node).map(|key| (key, Direction::Egress, Role::Forward));
    received.map(|key| (key, Direction::Ingress, Role::Forward)).into_iter().chain(sent).collect()
}

/// What both ends are to the packet. A node and its own workloads meet no policy of the node's endpoint.
fn roles(world: &World, from: Option<&EndKey>, to: Option<&EndKey>) -> [Role; 2] {
    match (from, to) {
        (Some(EndKey::Host { node, .. }), Some(EndKey::Workload(w))) if *node == w.host => {
            [Role::Exempt(true, "a node always reaches its own workloads"); 2]
        }
        (Some(EndKey::Workload(w)), Some(EndKey::Host { node, .. })) if *node == w.host => {
            let open = world.workloads_reach_host(node);
            let why = if open {
                "host endpoints' policy is not for the node's own workloads (defaultEndpointToHostAction is)"
            } else {
                "defaultEndpointToHostAction"
            };
            [Role::End, Role::Exempt(open, why)]
        }
        _ => [Role::End; 2],
    }
}
