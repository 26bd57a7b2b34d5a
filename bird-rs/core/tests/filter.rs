//! The filter language, one behaviour each: a program, a route, and what becomes of it.

use std::sync::Arc;

use bird_core::Time;
use bird_core::config::{Source, parse};
use bird_core::filter::{Draft, Verdict, run};
use bird_core::rib::{Attrs, BgpOrigin, Dest, Hop, Iface, ProtoId, Route, RouteOrigin, RouteSource};
use bird_wire::{AsPath, LargeCommunity, NextHop, Origin, PathAttributes};

/// A route from BGP to 10.65.1.0/26 through eth0.
fn draft() -> Draft {
    let bgp = BgpOrigin {
        router_id: [10, 0, 0, 2].into(),
        internal: true,
        rr_client: false,
        default_local_pref: 100,
        default_med: 0,
        path_metric: true,
        med_metric: false,
    };
    let origin = RouteOrigin {
        proto: ProtoId(1),
        name: "peer".into(),
        source: RouteSource::Bgp,
        from: Some([10, 0, 0, 2].into()),
        bgp: Some(bgp),
    };
    let attrs = Attrs {
        bgp: PathAttributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath::from_sequence(&[65001, 65002, 65003])),
            next_hop: Some(NextHop::from(std::net::IpAddr::from([10, 0, 0, 2]))),
            local_pref: Some(100),
            communities: vec![64512 << 16 | 100, 64512 << 16 | 200],
            large_communities: vec![LargeCommunity(64512, 1, 2)],
            ..PathAttributes::default()
        },
        ..Attrs::default()
    };
    let hop = Hop {
        gateway: Some([10, 0, 0, 2].into()),
        iface: Arc::new(Iface { index: 2, name: "eth0".into() }),
        onlink: false,
        weight: 1,
    };
    let route = Route {
        origin: Arc::new(origin),
        path_id: 0,
        attrs: Arc::new(attrs),
        dest: Dest::Unicast(Arc::from([hop])),
        via: None,
        igp_metric: 0,
        preference: 100,
        stale: false,
        since: Time(0),
    };
    Draft::new("10.65.1.0/26".parse().expect("a prefix"), route)
}

/// Runs `filter f { body }` after `before`.
fn after(before: &str, body: &str) -> (Verdict, Draft, Vec<String>) {
    let text = format!("{before}\nfilter f {{ {body} }}");
    let config = parse(&Source::from_text("t", &text)).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut draft = draft();
    let outcome = run(&config.filters[0], &mut draft);
    (outcome.verdict, draft, outcome.printed)
}

fn holds(condition: &str) -> bool {
    match after("", &format!("if {condition} then accept; reject;")) {
        (Verdict::Accept, ..) => true,
        (Verdict::Reject, ..) => false,
        (Verdict::Error(e), ..) => panic!("{condition}: {e}"),
    }
}

#[test]
fn conditions_that_hold() {
    let cases = [
        "net ~ 10.65.0.0/16",
        "net = 10.65.1.0/26",
        "net !~ 10.66.0.0/16",
        "net != 10.65.0.0/16",
        "net.len = 26",
        "net.ip = 10.65.1.0",
        "net ~ [ 10.65.0.0/16+ ]",
        "net ~ [ 10.65.0.0/16{24,26} ]",
        "net ~ [ 10.0.0.0/8, 10.65.0.0/16{26,32} ]",
        "net ~ [ 10.65.1.0/28- ]",
        "!(net ~ [ 10.65.0.0/16 ])",
        "net.type = NET_IP4",
        "source = RTS_BGP",
        "source ~ [ RTS_BGP, RTS_STATIC ]",
        "dest = RTD_UNICAST",
        "proto = \"peer\"",
        "proto ~ \"p*\"",
        "ifname = \"eth0\"",
        "ifname ~ \"eth*\"",
        "!(ifname ~ \"cali*\")",
        "from = 10.0.0.2",
        "gw = 10.0.0.2",
        "preference = 100",
        "bgp_local_pref = 100",
        "defined(bgp_local_pref)",
        "!defined(bgp_med)",
        "!defined(krt_metric)",
        "defined(ifname)",
        "defined(source)",
        "defined(bgp_community)",
        "bgp_origin = ORIGIN_IGP",
        "bgp_next_hop = 10.0.0.2",
        "bgp_next_hop ~ 10.0.0.0/24",
        "bgp_path.len = 3",
        "bgp_path.first = 65001",
        "bgp_path.last = 65003",
        "bgp_path ~ [= * 65002 * =]",
        "bgp_path ~ [= 65001 * =]",
        "bgp_path ~ [= ? ? ? =]",
        "!(bgp_path ~ [= ? ? =])",
        "65002 ~ bgp_path",
        "bgp_path ~ [= 65000..65009 65002 65003 =]",
        "bgp_path ~ [= 65001 [65002, 7] * =]",
        "bgp_path ~ [65003..65010]",
        "(64512, 100) ~ bgp_community",
        "!((64512, 300) ~ bgp_community)",
        "bgp_community ~ [(64512, *)]",
        "bgp_community ~ [(64512, 150..250)]",
        "!(bgp_community ~ [(1..10, *)])",
        "bgp_community.len = 2",
        "(64512, 1, 2) ~ bgp_large_community",
        "bgp_large_community ~ [(64512, *, *)]",
        "1 + 2 * 3 = 7",
        "(1 + 2) * 3 = 9",
        "7 / 2 = 3",
        "2147483647 - bgp_local_pref = 2147483547",
        "true && !false",
        "false || true",
        "1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3 && 1 != 2",
        "5 ~ [ 1..3, 5 ]",
        "10.0.0.5 ~ [ 10.0.0.1..10.0.0.9 ]",
        "10.0.0.5 ~ 10.0.0.0/8",
        "0x10 = 16",
        "(64512, 100).asn = 64512",
        "10.1.2.3.mask(8) = 10.0.0.0",
        "defined(bgp_local_pref) && (bgp_local_pref > 50)",
        "((defined(source)) && (source ~ [ RTS_BGP ]))",
    ];
    for case in cases {
        assert!(holds(case), "{case}");
    }
}

#[test]
fn attributes_can_be_set_and_unset() {
    let (verdict, draft, _) = after(
        "",
        "krt_metric = 1024; bgp_med = 5; bgp_local_pref = bgp_local_pref + 1; preference = 200;
         bgp_origin = ORIGIN_INCOMPLETE; bgp_next_hop = 10.9.9.9; unset(bgp_community); accept;",
    );
    assert_eq!(verdict, Verdict::Accept);
    let attrs = draft.attrs();
    assert_eq!((attrs.krt_metric, attrs.bgp.med, attrs.bgp.local_pref), (Some(1024), Some(5), Some(101)));
    assert_eq!((draft.route.preference, attrs.bgp.origin), (200, Some(Origin::Incomplete)));
    assert!(attrs.bgp.communities.is_empty());
    assert_eq!(attrs.bgp.next_hop.map(|n| n.global), Some([10, 9, 9, 9].into()));
}

#[test]
fn paths_and_lists_can_be_changed_in_place() {
    let (_, draft, _) = after(
        "",
        "bgp_path.prepend(64999); bgp_community.add((1, 2)); bgp_community.delete([(64512, 100)]);
         bgp_large_community.add((7, 8, 9)); bgp_large_community = delete(bgp_large_community, (64512, 1, 2)); accept;",
    );
    let bgp = &draft.attrs().bgp;
    assert_eq!(bgp.as_path.as_ref().expect("a path").to_string(), "64999 65001 65002 65003");
    assert_eq!(bgp.communities, [64512 << 16 | 200, 1 << 16 | 2]);
    assert_eq!(bgp.large_communities, [LargeCommunity(7, 8, 9)]);
    let (_, draft, _) = after("", "bgp_community.filter([(64512, 200)]); bgp_path.delete(65002); accept;");
    assert_eq!(draft.attrs().bgp.communities, [64512 << 16 | 200]);
    assert_eq!(draft.attrs().bgp.as_path.as_ref().expect("a path").to_string(), "65001 65003");
}

#[test]
fn a_verdict_within_a_function_ends_the_filter() {
    let function = "function aggr(bool inner) { if (net ~ 10.65.0.0/16 && inner) then { reject; } }";
    assert_eq!(after(function, "aggr(true); accept;").0, Verdict::Reject);
    assert_eq!(after(function, "aggr(false); accept;").0, Verdict::Accept);
}

#[test]
fn functions_take_arguments_keep_variables_and_return_values() {
    let functions = "function 'bgp_test-1.x'(int a; int b) int c; { c = a + b; return c * 2; }
        function twice(int x) { return 'bgp_test-1.x'(x, x); }";
    let (_, draft, _) = after(functions, "int y; y = twice(3); bgp_med = y; accept;");
    assert_eq!(draft.attrs().bgp.med, Some(12));
}

#[test]
fn case_chooses_by_number_range_or_else() {
    let program = "case net.len { 8: reject; 20..26: { bgp_med = 1; accept; } else: reject; }";
    let (verdict, draft, _) = after("", program);
    assert_eq!((verdict, draft.attrs().bgp.med), (Verdict::Accept, Some(1)));
    let (_, draft, _) = after("", "case source { RTS_STATIC: bgp_med = 1; RTS_BGP: bgp_med = 2; } accept;");
    assert_eq!(draft.attrs().bgp.med, Some(2));
}

#[test]
fn else_belongs_to_the_nearest_if() {
    let (verdict, ..) = after("", "if true then if false then accept; else reject; accept;");
    assert_eq!(verdict, Verdict::Reject);
}

#[test]
fn a_filter_without_a_verdict_rejects() {
    assert_eq!(after("", "bgp_med = 3;").0, Verdict::Reject);
}

#[test]
fn arithmetic_with_an_undefined_attribute_is_an_error_that_rejects() {
    let (verdict, ..) = after("", "bgp_med = 10 - krt_metric; accept;");
    let Verdict::Error(message) = verdict else { panic!("{verdict:?}") };
    assert!(message.contains("t, line 2: incompatible types int and void"), "{message}");
    assert!(matches!(after("", "if krt_metric < 5 then accept; accept;").0, Verdict::Error(_)));
    assert!(matches!(after("", "if 1 / 0 = 1 then accept;").0, Verdict::Error(_)));
}

#[test]
fn the_right_side_of_and_is_not_looked_at_when_the_left_is_false() {
    assert!(!holds("defined(krt_metric) && krt_metric < 5"));
    assert!(holds("!defined(krt_metric) || krt_metric < 5"));
}

#[test]
fn print_shows_values_as_bird_does() {
    let (.., printed) =
        after("", "print \"net \", net, \" \", source, \" \", bgp_path, \" \", bgp_community; accept;");
    assert_eq!(printed, ["net 10.65.1.0/26 RTS_BGP 65001 65002 65003 (64512,100) (64512,200)"]);
}

#[test]
fn calicos_kernel_filter_turns_local_pref_into_the_metric() {
    let program = "if (defined(source) && (source = RTS_BGP) && !defined(krt_metric)) then {
        krt_metric = 1024;
        if (defined(bgp_local_pref)) then { krt_metric = 2147483647 - bgp_local_pref; }
        if (krt_metric < 1024) then { preference = 200; }
      } accept;";
    let (verdict, draft, _) = after("", program);
    assert_eq!((verdict, draft.attrs().krt_metric), (Verdict::Accept, Some(2_147_483_547)));
    let (_, draft, _) = after("", &format!("bgp_local_pref = 2147482647; {program}"));
    assert_eq!((draft.attrs().krt_metric, draft.route.preference), (Some(1000), 200));
}
