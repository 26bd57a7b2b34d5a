//! The choice among routes to one prefix: BIRD's preference first, then RFC 4271 section 9.1.2.2.
//!
//! Always holds: the outcome depends on the set of routes alone, not on the order in which they came. MED is
//! compared within each neighbouring AS, by elimination, as the RFC describes.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::route::{BgpOrigin, Dest, Route};
use bird_wire::Origin;

/// Sorts routes, the best first.
pub fn order(routes: &mut [Route]) {
    if routes.len() < 2 {
        return;
    }
    routes.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| compare(a, b, true)));
    // MED makes the order intransitive: the true best is found by elimination and put in front.
    if let Some(best) = eliminate(routes)
        && let Some(part) = routes.get_mut(..=best)
    {
        part.rotate_right(1);
    }
}

/// Preference, and among equals BGP apart from the rest.
fn rank(route: &Route) -> (u32, bool) {
    (route.preference, route.origin.bgp.is_none())
}

/// Index of the best of sorted routes, when it is a BGP route and MED matters.
fn eliminate(routes: &[Route]) -> Option<usize> {
    let top = rank(routes.first()?);
    routes.first()?.origin.bgp.as_ref()?;
    let mut left: Vec<usize> =
        (0..routes.len()).filter(|&i| routes.get(i).is_some_and(|r| rank(r) == top)).collect();
    let get = |i: usize| routes.get(i);
    let before = |a: usize, b: usize| get(a).zip(get(b)).map_or(Ordering::Equal, |(a, b)| before_med(a, b));
    let first = left.iter().copied().min_by(|&a, &b| before(a, b))?;
    left.retain(|&i| before(i, first).is_eq());
    let beaten = |i: usize| {
        left.iter().any(|&j| get(i).zip(get(j)).is_some_and(|(a, b)| comparable_med(a, b) && med(b) < med(a)))
    };
    let survivors: Vec<usize> = left.iter().copied().filter(|&i| !beaten(i)).collect();
    survivors
        .into_iter()
        .min_by(|&a, &b| get(a).zip(get(b)).map_or(Ordering::Equal, |(a, b)| after_med(a, b, true)))
}

/// Whether two routes are equally good down to the interior cost, so that traffic may be shared (BIRD's
/// `merge paths`).
#[must_use]
pub fn mergeable(best: &Route, other: &Route) -> bool {
    if rank(best) != rank(other) || best.origin.bgp.is_none() {
        return false;
    }
    let reachable = |r: &Route| matches!(r.dest, Dest::Unicast(_));
    reachable(best)
        && reachable(other)
        && before_med(best, other).is_eq()
        && med(best) == med(other)
        && after_med(best, other, false).is_eq()
}

/// Less is better. `tie_break` goes on to identifiers and addresses.
fn compare(a: &Route, b: &Route, tie_break: bool) -> Ordering {
    if a.origin.bgp.is_none() || b.origin.bgp.is_none() {
        let metric = |r: &Route| r.attrs.krt_metric.unwrap_or(0);
        return metric(a)
            .cmp(&metric(b))
            .then_with(|| a.origin.name.cmp(&b.origin.name))
            .then_with(|| a.path_id.cmp(&b.path_id));
    }
    let med_order = if comparable_med(a, b) { med(a).cmp(&med(b)) } else { Ordering::Equal };
    before_med(a, b).then(med_order).then_with(|| after_med(a, b, tie_break))
}

fn bgp(route: &Route) -> Option<&BgpOrigin> {
    route.origin.bgp.as_ref()
}

fn before_med(a: &Route, b: &Route) -> Ordering {
    let resolvable = |r: &Route| !matches!(r.dest, Dest::Unreachable);
    let local_pref =
        |r: &Route| r.attrs.bgp.local_pref.unwrap_or_else(|| bgp(r).map_or(100, |o| o.default_local_pref));
    let counts = |r: &Route| bgp(r).is_none_or(|o| o.path_metric);
    let length = |r: &Route| r.attrs.bgp.as_path.as_ref().map_or(0, bird_wire::AsPath::len);
    let origin = |r: &Route| r.attrs.bgp.origin.unwrap_or(Origin::Incomplete);
    let lengths = if counts(a) && counts(b) { length(a).cmp(&length(b)) } else { Ordering::Equal };
    resolvable(b)
        .cmp(&resolvable(a))
        .then_with(|| local_pref(b).cmp(&local_pref(a)))
        .then(lengths)
        .then_with(|| origin(a).cmp(&origin(b)))
}

fn med(route: &Route) -> u32 {
    route.attrs.bgp.med.unwrap_or_else(|| bgp(route).map_or(0, |o| o.default_med))
}

fn comparable_med(a: &Route, b: &Route) -> bool {
    let always = |r: &Route| bgp(r).is_some_and(|o| o.med_metric);
    let neighbor = |r: &Route| r.attrs.bgp.as_path.as_ref().and_then(bird_wire::AsPath::first);
    (always(a) && always(b)) || neighbor(a) == neighbor(b)
}

fn after_med(a: &Route, b: &Route, tie_break: bool) -> Ordering {
    let internal = |r: &Route| bgp(r).is_none_or(|o| o.internal);
    let cost = internal(a).cmp(&internal(b)).then_with(|| a.igp_metric.cmp(&b.igp_metric));
    if !tie_break {
        return cost;
    }
    let id = |r: &Route| r.attrs.bgp.originator_id.or_else(|| bgp(r).map(|o| o.router_id));
    let from = |r: &Route| r.origin.from.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    cost.then_with(|| id(a).cmp(&id(b)))
        .then_with(|| a.attrs.bgp.cluster_list.len().cmp(&b.attrs.bgp.cluster_list.len()))
        .then_with(|| from(a).cmp(&from(b)))
        .then_with(|| a.origin.name.cmp(&b.origin.name))
        .then_with(|| a.path_id.cmp(&b.path_id))
}
