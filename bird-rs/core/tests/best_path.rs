//! The choice among routes: each rule of RFC 4271 section 9.1.2.2 in turn, and that order of arrival does not count.

use std::sync::Arc;

use bird_core::Time;
use bird_core::rib::{
    Attrs, BgpOrigin, Dest, ProtoId, Route, RouteOrigin, RouteSource, Table, mergeable, order,
};
use bird_wire::{AsPath, Family, Origin, PathAttributes};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Spec {
    preference: u32,
    local_pref: u32,
    path: &'static [u32],
    origin: Origin,
    med: u32,
    internal: bool,
    cost: u32,
    id: u8,
    clusters: usize,
    reachable: bool,
}

const PLAIN: Spec = Spec {
    preference: 100,
    local_pref: 100,
    path: &[65001, 65002],
    origin: Origin::Egp,
    med: 10,
    internal: true,
    cost: 10,
    id: 5,
    clusters: 1,
    reachable: true,
};

fn route(spec: Spec, proto: u32) -> Route {
    let origin = RouteOrigin {
        proto: ProtoId(proto),
        name: format!("p{proto}").into(),
        source: RouteSource::Bgp,
        from: Some([10, 0, 0, u8::try_from(proto).expect("small")].into()),
        bgp: Some(BgpOrigin {
            router_id: [1, 1, 1, spec.id].into(),
            internal: spec.internal,
            rr_client: false,
            default_local_pref: 100,
            default_med: 0,
            path_metric: true,
            med_metric: false,
        }),
    };
    let bgp = PathAttributes {
        origin: Some(spec.origin),
        as_path: Some(AsPath::from_sequence(spec.path)),
        local_pref: Some(spec.local_pref),
        med: Some(spec.med),
        cluster_list: vec![1; spec.clusters],
        ..PathAttributes::default()
    };
    Route {
        origin: Arc::new(origin),
        path_id: 0,
        attrs: Arc::new(Attrs { bgp, ..Attrs::default() }),
        dest: if spec.reachable { Dest::Blackhole } else { Dest::Unreachable },
        via: None,
        igp_metric: spec.cost,
        preference: spec.preference,
        stale: false,
        since: Time(0),
    }
}

fn best(specs: &[Spec]) -> ProtoId {
    let mut routes: Vec<Route> = specs.iter().enumerate().map(|(i, s)| route(*s, i as u32 + 1)).collect();
    order(&mut routes);
    routes[0].origin.proto
}

#[test]
fn each_rule_decides_when_all_before_are_equal() {
    // Each better route is worse by every later rule.
    let worse = Spec { id: 9, clusters: 3, cost: 99, med: 99, origin: Origin::Incomplete, ..PLAIN };
    let cases = [
        ("preference", Spec { preference: 200, local_pref: 1, reachable: false, ..worse }),
        ("local preference", Spec { local_pref: 101, path: &[1, 2, 3, 4], ..worse }),
        ("path length", Spec { path: &[65001], ..worse }),
        ("origin", Spec { origin: Origin::Igp, med: 99, cost: 99, id: 9, clusters: 3, ..PLAIN }),
        ("MED", Spec { med: 9, cost: 99, id: 9, clusters: 3, ..PLAIN }),
        ("external", Spec { internal: false, cost: 99, id: 9, clusters: 3, ..PLAIN }),
        ("interior cost", Spec { cost: 9, id: 9, clusters: 3, ..PLAIN }),
        ("router id", Spec { id: 4, clusters: 3, ..PLAIN }),
        ("cluster list", Spec { clusters: 0, ..PLAIN }),
    ];
    for (rule, better) in cases {
        assert_eq!(best(&[PLAIN, better]), ProtoId(2), "{rule}");
        assert_eq!(best(&[better, PLAIN]), ProtoId(1), "{rule}");
    }
    assert_eq!(
        best(&[PLAIN, Spec { reachable: false, local_pref: 900, ..PLAIN }]),
        ProtoId(1),
        "reachability"
    );
    assert_eq!(best(&[PLAIN, PLAIN]), ProtoId(1), "the lower address breaks the tie");
}

#[test]
fn med_counts_only_within_one_neighboring_as() {
    let other = Spec { path: &[65009, 65002], med: 0, id: 9, ..PLAIN };
    assert_eq!(best(&[PLAIN, other]), ProtoId(1), "the lower router id wins, whatever the MED");
    // The classic circle: b beats a by MED, c beats b by cost, a beats c by cost.
    let a = Spec { med: 5, cost: 1, ..PLAIN };
    let b = Spec { med: 1, cost: 9, ..PLAIN };
    let c = Spec { path: &[65009, 65002], med: 0, cost: 5, ..PLAIN };
    assert_eq!(best(&[a, b, c]), ProtoId(3), "a is out by MED, then c has the lower cost");
}

#[test]
fn routes_equal_down_to_the_cost_may_share_traffic() {
    let hops = |spec| {
        let mut r = route(spec, 1);
        r.dest = Dest::Unicast(Arc::from([]));
        r
    };
    assert!(mergeable(&hops(PLAIN), &hops(Spec { id: 9, clusters: 3, ..PLAIN })));
    for different in [Spec { cost: 11, ..PLAIN }, Spec { med: 11, ..PLAIN }, Spec { local_pref: 1, ..PLAIN }]
    {
        assert!(!mergeable(&hops(PLAIN), &hops(different)));
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let path = prop::sample::select(vec![&[1u32][..], &[1, 2], &[2, 1], &[3]]);
    (0u32..2, 0u32..2, path, 0u32..3, any::<bool>(), 0u32..3, 0u8..3, any::<bool>()).prop_map(
        |(preference, local_pref, path, med, internal, cost, id, reachable)| Spec {
            preference,
            local_pref,
            path,
            med,
            internal,
            cost,
            id,
            reachable,
            ..PLAIN
        },
    )
}

proptest! {
    #[test]
    fn the_table_is_the_same_whatever_the_order_and_repetition(
        specs in prop::collection::vec(spec(), 1..6),
        seed in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let prefix = "10.0.0.0/8".parse().expect("a prefix");
        let mut straight = Table::new("t".into(), Family::Ipv4);
        for (i, s) in specs.iter().enumerate() {
            let i = i as u32 + 1;
            straight.update(prefix, ProtoId(i), 0, Some(route(*s, i)));
        }
        // First withdrawn and repeated at random, then all of them backwards.
        let mut shuffled = Table::new("t".into(), Family::Ipv4);
        for index in seed {
            let i = index.index(specs.len());
            let new = (i % 2 == 0).then(|| route(specs[i], i as u32 + 1));
            shuffled.update(prefix, ProtoId(i as u32 + 1), 0, new);
        }
        for (i, s) in specs.iter().enumerate().rev() {
            let i = i as u32 + 1;
            shuffled.update(prefix, ProtoId(i), 0, Some(route(*s, i)));
        }
        prop_assert_eq!(straight.get(&prefix)[0].origin.proto, shuffled.get(&prefix)[0].origin.proto);
        prop_assert_eq!(straight.routes(), specs.len());
        prop_assert_eq!(shuffled.routes(), specs.len());
    }
}
