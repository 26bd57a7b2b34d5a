//! What holds for all messages: nothing panics, and what is encoded is decoded to the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bird_wire::{
    Aggregator, AsPath, Capability, Context, Family, GracefulRestart, LargeCommunity, Message, NextHop, Nlri,
    Notification, Open, Origin, PathAttributes, RefreshKind, Segment, SegmentKind, UnknownAttribute, Update,
    encode_announcements, encode_withdrawals, frame_len,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn context() -> impl Strategy<Value = Context> {
    any::<(bool, bool, bool)>().prop_map(|(add_path, extended, as4)| Context {
        as4,
        add_path_rx: [add_path; 2],
        add_path_tx: [add_path; 2],
        extended,
        external: false,
    })
}

fn prefix4() -> impl Strategy<Value = IpNet> {
    (any::<u32>(), 0u8..=32)
        .prop_map(|(a, len)| IpNet::V4(Ipv4Net::new(Ipv4Addr::from(a), len).expect("up to 32 bits").trunc()))
}

fn prefix6() -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 0u8..=128)
        .prop_map(|(a, len)| IpNet::V6(Ipv6Net::new(Ipv6Addr::from(a), len).expect("up to 128 bits").trunc()))
}

fn routes(prefix: impl Strategy<Value = IpNet>, max: usize) -> impl Strategy<Value = Vec<Nlri>> {
    vec((prefix, any::<u32>()), 0..max)
        .prop_map(|list| list.into_iter().map(|(prefix, path_id)| Nlri { prefix, path_id }).collect())
}

fn path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![Just(SegmentKind::Sequence), Just(SegmentKind::Set)];
    vec((kind, vec(1u32..=u32::MAX, 1..6)), 0..3).prop_map(|s| {
        AsPath::from_segments(s.into_iter().map(|(kind, asns)| Segment { kind, asns }).collect())
    })
}

fn attributes() -> impl Strategy<Value = PathAttributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let numbers = (option::of(any::<u32>()), option::of(any::<u32>()), any::<bool>());
    let aggregator =
        option::of((1u32.., any::<u32>()).prop_map(|(asn, id)| Aggregator { asn, id: id.into() }));
    let lists = (vec(any::<u32>(), 0..5), vec(any::<u32>(), 0..3), vec(any::<u64>(), 0..3));
    let large = vec(any::<(u32, u32, u32)>().prop_map(|(a, b, c)| LargeCommunity(a, b, c)), 0..3);
    let unknown = option::of(vec(any::<u8>(), 0..300));
    (origin, path(), numbers, aggregator, lists, large, (unknown, option::of(any::<u32>()))).prop_map(
        |(origin, as_path, (med, local_pref, atomic), aggregator, lists, large, (unknown, originator))| {
            PathAttributes {
                origin: Some(origin),
                as_path: Some(as_path),
                next_hop: None,
                med,
                local_pref,
                atomic_aggregate: atomic,
                aggregator,
                communities: lists.0,
                originator_id: originator.map(Ipv4Addr::from),
                cluster_list: lists.1,
                ext_communities: lists.2,
                large_communities: large,
                unknown: unknown
                    .map(|data| UnknownAttribute { flags: 0xe0, code: 99, data })
                    .into_iter()
                    .collect(),
            }
        },
    )
}

fn decoded(message: &[u8], ctx: &Context) -> Update {
    assert!(message.len() <= ctx.max_len());
    match Message::decode(message, ctx).expect("ours are well-formed") {
        Message::Update(update) => *update,
        other => panic!("{other:?} is no UPDATE"),
    }
}

fn without_ids(routes: &[Nlri], ctx: &Context) -> Vec<Nlri> {
    let id = |n: &Nlri| if ctx.add_path_tx[0] { n.path_id } else { 0 };
    routes.iter().map(|n| Nlri { prefix: n.prefix, path_id: id(n) }).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..200), ctx in context()) {
        let _ = frame_len(&data, ctx.extended);
        let _ = Message::decode(&data, &ctx);
    }

    #[test]
    fn arbitrary_bodies_never_panic(kind in 0u8..7, body in vec(any::<u8>(), 0..200), ctx in context()) {
        let mut data = vec![0xff; 16];
        data.extend(u16::try_from(19 + body.len()).expect("short").to_be_bytes());
        data.push(kind);
        data.extend(body);
        let _ = Message::decode(&data, &ctx);
    }

    #[test]
    fn announcements_come_back_as_they_were(
        attrs in attributes(),
        four in routes(prefix4(), 900),
        six in routes(prefix6(), 300),
        hop in 1u32..0x7f00_0000,
        ctx in context(),
    ) {
        for (routes, family, next_hop) in [
            (four, Family::Ipv4, NextHop::from(IpAddr::V4(hop.into()))),
            (six, Family::Ipv6, NextHop::from(IpAddr::V6(u128::from(hop).into()))),
        ] {
            let messages = encode_announcements(&attrs, &next_hop, family, &routes, &ctx).expect("there is room");
            let mut seen = Vec::new();
            for message in messages {
                let update = decoded(&message, &ctx);
                prop_assert_eq!(&update.malformed, &None);
                let (found, list) = match update.mp_announced {
                    Some((nh, list)) => (Some(nh), list),
                    None => (update.attrs.next_hop, update.announced),
                };
                prop_assert_eq!(found, Some(next_hop));
                prop_assert_eq!(PathAttributes { next_hop: None, ..update.attrs }, attrs.clone());
                seen.extend(list);
            }
            prop_assert_eq!(seen, without_ids(&routes, &ctx));
        }
    }

    #[test]
    fn withdrawals_come_back_as_they_were(
        four in routes(prefix4(), 900),
        six in routes(prefix6(), 900),
        ctx in context(),
    ) {
        for (routes, family) in [(four, Family::Ipv4), (six, Family::Ipv6)] {
            let messages = encode_withdrawals(family, &routes, &ctx);
            let seen: Vec<Nlri> = messages.iter().flat_map(|m| decoded(m, &ctx).withdrawn).collect();
            prop_assert_eq!(seen, without_ids(&routes, &ctx));
        }
    }

    #[test]
    fn opens_come_back_as_they_were(asn: u32, hold: u16, id: u32, time in 0u16..4096, flags in any::<[bool; 5]>()) {
        let open = Open::new(asn, hold, id.into(), vec![
            Capability::Multiprotocol(Family::Ipv4),
            Capability::Multiprotocol(Family::Ipv6),
            Capability::RouteRefresh,
            Capability::GracefulRestart(GracefulRestart {
                restarting: flags[0],
                restart_time_secs: time,
                families: vec![(Family::Ipv4, flags[1]), (Family::Ipv6, flags[2])],
            }),
            Capability::As4(asn),
            Capability::AddPath(vec![(Family::Ipv4, flags[3], !flags[3] || flags[4])]),
            Capability::Unknown { code: 200, data: vec![1, 2, 3] },
        ]);
        let message = Message::Open(open);
        let ctx = Context::default();
        prop_assert_eq!(Message::decode(&message.encode(&ctx), &ctx), Ok(message));
    }

    #[test]
    fn small_messages_come_back_as_they_were(code: u8, subcode: u8, data in vec(any::<u8>(), 0..64)) {
        let ctx = Context::default();
        let refresh = Message::RouteRefresh(Some(Family::Ipv6), RefreshKind::Begin);
        for message in [Message::Notification(Notification { code, subcode, data }), Message::Keepalive, refresh] {
            prop_assert_eq!(Message::decode(&message.encode(&ctx), &ctx), Ok(message));
        }
    }
}
