//! What a world is rich in. Two features of policy meet often only where both are frequent, and where all are frequent
//! no rule matches anything: so each world has much of some and little of others.

use proptest::collection::vec;
use proptest::prelude::*;

/// How often a rule or a policy has each, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub selectors: f64,
    /// Negated matches of every kind.
    pub negations: f64,
    pub nets: f64,
    pub ports: f64,
    /// Of ports, those by name.
    pub names: f64,
    /// ICMP rather than protocols with ports.
    pub icmp: f64,
    /// Namespaces and service accounts.
    pub membership: f64,
    pub services: f64,
    /// Of policies, those in tiers besides the default one, and those in namespaces: few of both means that policies are
    /// together, so that their order decides.
    pub tiers: f64,
    pub namespaced: f64,
    /// Of policies, those that are not enforced.
    pub staged: f64,
    /// Of policies without a namespace, those for what a host alone has. Where they are few, hosts mostly have no endpoint.
    pub of_hosts: f64,
}

/// One number for each field of [`Theme`].
const FIELDS: usize = 12;

/// One that says little or much of each.
pub fn theme() -> impl Strategy<Value = Theme> {
    vec(0usize..3, FIELDS).prop_map(|drawn| {
        let mut drawn = drawn.into_iter();
        let mut share = |shares: [f64; 3]| shares[drawn.next().expect("a number for each field")];
        Theme {
            selectors: share([0.05, 0.3, 0.7]),
            negations: share([0.02, 0.1, 0.4]),
            nets: share([0.02, 0.1, 0.4]),
            ports: share([0.1, 0.3, 0.8]),
            names: share([0.1, 0.5, 0.9]),
            icmp: share([0.02, 0.1, 0.4]),
            membership: share([0.02, 0.1, 0.4]),
            services: share([0.0, 0.1, 0.5]),
            tiers: share([0.02, 0.3, 0.6]),
            namespaced: share([0.05, 0.4, 0.6]),
            staged: share([0.02, 0.02, 0.4]),
            of_hosts: share([0.02, 0.02, 0.5]),
        }
    })
}
