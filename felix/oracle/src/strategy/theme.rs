//! What a world is rich in. Two features of policy meet often only where both are frequent, and where all are frequent
//! no rule matches anything: so each world has much of some and little of others.

use proptest::prelude::*;
use proptest::sample::select;

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

/// One that says little or much of each.
pub fn theme() -> impl Strategy<Value = Theme> {
    let share = |shares: [f64; 3]| select(shares.to_vec());
    (
        share([0.05, 0.3, 0.7]),
        share([0.02, 0.1, 0.4]),
        share([0.02, 0.1, 0.4]),
        share([0.1, 0.3, 0.8]),
        share([0.1, 0.5, 0.9]),
        share([0.02, 0.1, 0.4]),
        share([0.02, 0.1, 0.4]),
        share([0.0, 0.1, 0.5]),
        (share([0.02, 0.3, 0.6]), share([0.05, 0.4, 0.6])),
        share([0.02, 0.02, 0.4]),
        share([0.02, 0.02, 0.5]),
    )
        .prop_map(
            |(
                selectors,
                negations,
                nets,
                ports,
                names,
                icmp,
                membership,
                services,
                (tiers, namespaced),
                staged,
                of_hosts,
            )| {
                Theme {
                    selectors,
                    negations,
                    nets,
                    ports,
                    names,
                    icmp,
                    membership,
                    services,
                    tiers,
                    namespaced,
                    staged,
                    of_hosts,
                }
            },
        )
}
