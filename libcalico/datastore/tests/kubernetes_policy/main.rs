//! What Kubernetes' policies allow is what Felix is told to allow: random small worlds of NetworkPolicies and
//! ClusterNetworkPolicies, each connection judged twice. Once by an oracle written from Kubernetes' documentation, which
//! knows nothing of Calico; once by walking the converted objects naively, as Felix does: tiers, selectors, rules, then
//! profiles.

mod objects;
mod oracle;
mod told;
mod world;

use proptest::prelude::*;

use told::Told;
use world::world;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn converted_policies_allow_exactly_what_the_policies_allow(w in world()) {
        let told = Told::of(&w);
        for from in w.ends() {
            for to in w.ends() {
                for (protocol, number) in [("TCP", 6), ("UDP", 17)] {
                    for port in [79, 80, 81, 90, 91] {
                        prop_assert_eq!(
                            told.allows(from, to, number, port),
                            oracle::allows(&w, from, to, protocol, port),
                            "{:?} to {:?} {} {}", from, to, protocol, port
                        );
                    }
                }
            }
        }
    }
}
