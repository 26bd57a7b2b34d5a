//! Messages captured from Debian's BIRD 2.0.12: what they mean, and that our encoder makes the same bytes.

use bird_wire::{
    AsPath, Capability, Context, Family, GracefulRestart, LargeCommunity, Message, NextHop, Nlri,
    Notification, Origin, RefreshKind, Update, encode_announcements, encode_end_of_rib, encode_withdrawals,
};

const MARKER: &str = "ffffffffffffffffffffffffffffffff";

const OPEN: &str = "004b0104fc0000f00a6300022e022c01040001000101040002000102000600400a007800010100000201004104\
                    0000fc0045040001010346004700";
/// 10.76.0.0/16 and 10.77.1.1/32 with path identifier 2.
const PLAIN: &str =
    "00410200000015400101004002004003040a63000240050400000064000000020000000002100a4c00000002200a4d0101";
/// 10.75.0.0/26 with an AS path, MED, communities and a large community.
const RICH: &str = "005c020000003c4001010240020a02020000fde9fa56ea014003040a6300028004040000003740050400000064c00804\
                    fc000007c0200c000000010000000200000003000000021a0a4b0000";
/// fd75::/64 and fd75:0:0:1::/64, and the default route of IPv6.
const SIX: &str = "00500200000039900e002700020110fd9900000000000000000000000000020040fd7500000000000140fd7500000000\
                   00004001010040020040050400000064";
const WITHDRAWAL: &str = "003502001e000000020000000002100a4c000000021a0a4b000000000002200a4d01010000";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(format!("{MARKER}{hex}")).expect("captured text is hexadecimal")
}

/// What the captured session had agreed on.
fn ctx() -> Context {
    Context {
        as4: true,
        add_path_rx: [true, false],
        add_path_tx: [true, false],
        extended: true,
        external: false,
    }
}

fn decode(hex: &str) -> Message {
    Message::decode(&bytes(hex), &ctx()).expect("BIRD's messages are well-formed")
}

fn update(hex: &str) -> Update {
    match decode(hex) {
        Message::Update(update) => *update,
        other => panic!("{other:?} is no UPDATE"),
    }
}

fn nlri(prefix: &str, path_id: u32) -> Nlri {
    Nlri { prefix: prefix.parse().expect("a prefix"), path_id }
}

#[test]
fn an_open_has_all_its_capabilities() {
    let Message::Open(open) = decode(OPEN) else { panic!("not an OPEN") };
    assert_eq!((open.asn, open.hold_time_secs, open.id.to_string()), (64512, 240, "10.99.0.2".to_owned()));
    assert_eq!(open.real_asn(), 64512);
    assert_eq!(open.families(), [Family::Ipv4, Family::Ipv6]);
    let graceful = GracefulRestart {
        restarting: false,
        restart_time_secs: 120,
        families: vec![(Family::Ipv4, false), (Family::Ipv6, false)],
    };
    assert_eq!(open.graceful_restart(), Some(&graceful));
    assert_eq!(open.add_path(Family::Ipv4), (true, true));
    assert_eq!(open.add_path(Family::Ipv6), (false, false));
    for capability in [Capability::RouteRefresh, Capability::ExtendedMessage, Capability::EnhancedRefresh] {
        assert!(open.has(&capability), "{capability:?}");
    }
    // Long-lived graceful restart is none of ours, and kept.
    assert!(open.has(&Capability::Unknown { code: 71, data: Vec::new() }));
}

#[test]
fn an_update_of_plain_routes_is_read_and_made_alike() {
    let update = update(PLAIN);
    let routes = [nlri("0.0.0.0/0", 2), nlri("10.76.0.0/16", 2), nlri("10.77.1.1/32", 2)];
    // The default route has length zero and no bytes: it is easily lost.
    assert_eq!(update.announced, [routes[0], routes[1], routes[2]]);
    assert_eq!(update.attrs.origin, Some(Origin::Igp));
    assert_eq!(update.attrs.as_path, Some(AsPath::default()));
    assert_eq!(update.attrs.local_pref, Some(100));
    let next_hop = update.attrs.next_hop.expect("a next hop");
    let made = encode_announcements(&update.attrs, &next_hop, Family::Ipv4, &update.announced, &ctx());
    assert_eq!(made.expect("it fits"), [bytes(PLAIN)]);
}

#[test]
fn an_update_with_many_attributes_is_read_and_made_alike() {
    let update = update(RICH);
    assert_eq!(update.announced, [nlri("10.75.0.0/26", 2)]);
    assert_eq!(update.attrs.origin, Some(Origin::Incomplete));
    assert_eq!(update.attrs.as_path, Some(AsPath::from_sequence(&[65001, 4_200_000_001])));
    assert_eq!(update.attrs.med, Some(55));
    assert_eq!(update.attrs.communities, [64512 << 16 | 7]);
    assert_eq!(update.attrs.large_communities, [LargeCommunity(1, 2, 3)]);
    let next_hop = update.attrs.next_hop.expect("a next hop");
    let made = encode_announcements(&update.attrs, &next_hop, Family::Ipv4, &update.announced, &ctx());
    assert_eq!(made.expect("it fits"), [bytes(RICH)]);
}

#[test]
fn ipv6_routes_come_in_mp_reach() {
    let update = update(SIX);
    let (next_hop, routes) = update.mp_announced.expect("MP_REACH_NLRI");
    assert_eq!(next_hop, NextHop::from("fd99::2".parse::<std::net::IpAddr>().expect("an address")));
    assert_eq!(routes, [nlri("fd75:0:0:1::/64", 0), nlri("fd75::/64", 0)]);
    // BIRD writes MP_REACH with a two-byte length even when one would do; the meaning is the same.
    let made =
        encode_announcements(&update.attrs, &next_hop, Family::Ipv6, &routes, &ctx()).expect("it fits");
    let again = Message::decode(&made[0], &ctx()).expect("ours is well-formed");
    assert_eq!(again, decode(SIX));
}

#[test]
fn a_withdrawal_is_read_and_made_alike() {
    let update = update(WITHDRAWAL);
    assert_eq!(update.withdrawn.len(), 4);
    assert_eq!(update.withdrawn[0], nlri("0.0.0.0/0", 2));
    assert_eq!(encode_withdrawals(Family::Ipv4, &update.withdrawn, &ctx()), [bytes(WITHDRAWAL)]);
}

#[test]
fn end_of_rib_markers_are_known_for_both_families() {
    let (v4, v6) = ("00170200000000", "001d0200000006800f03000201");
    assert_eq!(update(v4).end_of_rib, Some(Family::Ipv4));
    assert_eq!(update(v6).end_of_rib, Some(Family::Ipv6));
    assert_eq!(encode_end_of_rib(Family::Ipv4), bytes(v4));
    assert_eq!(encode_end_of_rib(Family::Ipv6), bytes(v6));
}

#[test]
fn refreshes_keepalives_and_notifications_are_read_and_made_alike() {
    let cases = [
        ("001304", Message::Keepalive),
        ("00170500010001", Message::RouteRefresh(Some(Family::Ipv4), RefreshKind::Request)),
        ("00170500020101", Message::RouteRefresh(Some(Family::Ipv6), RefreshKind::Begin)),
        ("00170500010201", Message::RouteRefresh(Some(Family::Ipv4), RefreshKind::End)),
        ("0015030602", Message::Notification(Notification::new(6, 2))),
    ];
    for (hex, message) in cases {
        assert_eq!(decode(hex), message);
        assert_eq!(message.encode(&ctx()), bytes(hex));
    }
    assert_eq!(Notification::new(6, 2).name(), "Administrative shutdown");
}
