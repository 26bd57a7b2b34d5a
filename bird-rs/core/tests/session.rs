//! The state machine of one session (RFC 4271 section 8), one transition at a time.

use std::net::IpAddr;
use std::sync::Arc;

use bird_core::Time;
use bird_core::config::{BgpConfig, GracefulMode, PeerAs};
use bird_core::session::{Down, Input, Output, Session, SessionConfig, Side, TimerKind};
use bird_wire::{Capability, Context, Family, GracefulRestart, Message, Notification, Open};

const NOW: Time = Time(1_000_000_000);

fn config(change: impl FnOnce(&mut BgpConfig)) -> SessionConfig {
    let mut bgp = BgpConfig {
        local_as: 64512,
        neighbor: IpAddr::from([10, 0, 0, 2]),
        neighbor_as: PeerAs::Number(64512),
        graceful_restart: GracefulMode::On,
        ..BgpConfig::default()
    };
    change(&mut bgp);
    let graceful = vec![Family::Ipv4];
    SessionConfig {
        bgp,
        router_id: [10, 0, 0, 1].into(),
        families: vec![(Family::Ipv4, (false, false))],
        graceful,
    }
}

fn session(change: impl FnOnce(&mut BgpConfig)) -> Session {
    Session::new(Arc::new(config(change)))
}

/// The neighbour's OPEN; its identifier ends with `id`.
fn open(id: u8) -> Open {
    Open::new(
        64512,
        90,
        [10, 0, 0, id].into(),
        vec![Capability::Multiprotocol(Family::Ipv4), Capability::As4(64512)],
    )
}

fn graceful_open(id: u8) -> Open {
    let mut open = open(id);
    open.capabilities.push(Capability::GracefulRestart(GracefulRestart {
        restarting: false,
        restart_time_secs: 120,
        families: vec![(Family::Ipv4, true)],
    }));
    open
}

fn message(side: Side, message: Message) -> Input {
    Input::Message(side, Ok(message))
}

fn connected(session: &mut Session, side: Side) -> Vec<Output> {
    if side == Side::Outgoing {
        session.step(NOW, Input::Timer(TimerKind::Connect));
    }
    session.step(NOW, Input::Connected(side, IpAddr::from([10, 0, 0, 1])))
}

/// Messages sent on a side, decoded.
fn sent(outputs: &[Output], side: Side) -> Vec<Message> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Send(s, data) if *s == side => {
                Some(Message::decode(data, &Context::default()).expect("ours are well-formed"))
            }
            _ => None,
        })
        .collect()
}

fn notification(outputs: &[Output], side: Side) -> Option<(u8, u8)> {
    sent(outputs, side).into_iter().find_map(|m| match m {
        Message::Notification(n) => Some((n.code, n.subcode)),
        _ => None,
    })
}

fn closes(outputs: &[Output], side: Side) -> bool {
    outputs.iter().any(|o| matches!(o, Output::Close(s) if *s == side))
}

fn down(outputs: &[Output]) -> Option<Down> {
    outputs.iter().find_map(|o| match o {
        Output::Down(down) => Some(*down),
        _ => None,
    })
}

fn timer(outputs: &[Output], kind: TimerKind) -> Option<u64> {
    outputs.iter().rev().find_map(|o| match o {
        Output::SetTimer(k, at) if *k == kind => Some(at.since(NOW) / 1_000_000),
        _ => None,
    })
}

fn established(open: Open) -> Session {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    connected(&mut session, Side::Outgoing);
    session.step(NOW, message(Side::Outgoing, Message::Open(open)));
    session.step(NOW, message(Side::Outgoing, Message::Keepalive));
    assert_eq!(session.state_name(), "Established");
    session
}

#[test]
fn start_leads_to_active_until_the_delay_is_over_and_then_to_connect() {
    let mut session = session(|_| {});
    assert_eq!(session.state_name(), "Down");
    let outputs = session.step(NOW, Input::Start);
    assert_eq!((session.state_name(), timer(&outputs, TimerKind::Connect)), ("Active", Some(5)));
    let outputs = session.step(NOW, Input::Timer(TimerKind::Connect));
    assert!(matches!(outputs[0], Output::Connect));
    assert_eq!((session.state_name(), timer(&outputs, TimerKind::Retry)), ("Connect", Some(120)));
}

#[test]
fn a_passive_session_never_connects() {
    let mut session = session(|b| b.passive = true);
    let outputs = session.step(NOW, Input::Start);
    assert_eq!((session.state_name(), timer(&outputs, TimerKind::Connect)), ("Passive", None));
    assert!(session.accepts_incoming());
}

#[test]
fn a_connection_that_hangs_is_given_up_and_tried_again() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    session.step(NOW, Input::Timer(TimerKind::Connect));
    let outputs = session.step(NOW, Input::Timer(TimerKind::Retry));
    assert!(closes(&outputs, Side::Outgoing));
    assert_eq!((session.state_name(), timer(&outputs, TimerKind::Connect)), ("Active", Some(0)));
}

#[test]
fn a_refused_connection_shows_the_reason_and_is_tried_again() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    session.step(NOW, Input::Timer(TimerKind::Connect));
    let outputs = session.step(NOW, Input::Closed(Side::Outgoing, "Connection refused".into()));
    assert_eq!(timer(&outputs, TimerKind::Connect), Some(5));
    let error = session.last_error.expect("an error");
    assert_eq!((error.class, error.text.as_str()), ("Socket", "Connection refused"));
}

#[test]
fn a_connection_leads_over_open_and_keepalive_to_established() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    let outputs = connected(&mut session, Side::Outgoing);
    assert!(matches!(sent(&outputs, Side::Outgoing)[..], [Message::Open(_)]));
    assert_eq!(
        (session.state_name(), timer(&outputs, TimerKind::Hold(Side::Outgoing))),
        ("OpenSent", Some(240))
    );
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Open(open(2))));
    assert_eq!(sent(&outputs, Side::Outgoing), [Message::Keepalive]);
    assert_eq!(session.state_name(), "OpenConfirm");
    // The lower of both hold times, and a third of it for keepalives.
    assert_eq!(timer(&outputs, TimerKind::Hold(Side::Outgoing)), Some(90));
    assert_eq!(timer(&outputs, TimerKind::Keepalive(Side::Outgoing)), Some(30));
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Keepalive));
    assert!(outputs.iter().any(|o| matches!(o, Output::Established(_))));
}

#[test]
fn hold_time_zero_needs_no_keepalives() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    connected(&mut session, Side::Outgoing);
    let zero = Open { hold_time_secs: 0, ..open(2) };
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Open(zero)));
    assert_eq!(timer(&outputs, TimerKind::Keepalive(Side::Outgoing)), None);
    let clears = |o: &Output| matches!(o, Output::ClearTimer(TimerKind::Hold(Side::Outgoing)));
    assert!(outputs.iter().any(clears));
}

#[test]
fn an_open_that_does_not_fit_is_answered_with_its_error() {
    let cases = [
        (Open { asn: 65000, capabilities: vec![Capability::As4(65000)], ..open(2) }, (2, 2)),
        (open(1), (2, 3)),
        (Open { id: [0, 0, 0, 0].into(), ..open(2) }, (2, 3)),
        (Open { hold_time_secs: 2, ..open(2) }, (2, 6)),
        (Open { capabilities: vec![Capability::Multiprotocol(Family::Ipv6)], ..open(2) }, (2, 7)),
    ];
    for (open, expected) in cases {
        let mut session = session(|_| {});
        session.step(NOW, Input::Start);
        connected(&mut session, Side::Outgoing);
        let outputs = session.step(NOW, message(Side::Outgoing, Message::Open(open.clone())));
        assert_eq!(notification(&outputs, Side::Outgoing), Some(expected), "{open:?}");
        assert!(closes(&outputs, Side::Outgoing));
        assert_eq!((session.state_name(), timer(&outputs, TimerKind::Connect)), ("Idle", Some(60)));
        assert!(!session.accepts_incoming(), "the wait after an error refuses connections");
    }
}

#[test]
fn the_wait_after_errors_doubles_and_is_forgotten_in_time() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    let fail = |session: &mut Session, at: u64| {
        let now = NOW.plus_secs(at);
        session.step(now, Input::Timer(TimerKind::Connect));
        session.step(now, Input::Timer(TimerKind::Connect));
        session.step(now, Input::Connected(Side::Outgoing, IpAddr::from([10, 0, 0, 1])));
        let outputs = session.step(now, message(Side::Outgoing, Message::Open(open(1))));
        timer(&outputs, TimerKind::Connect).map(|t| t - at)
    };
    let waits: Vec<_> =
        [0, 100, 300, 500, 700].map(|at| fail(&mut session, at)).into_iter().flatten().collect();
    assert_eq!(waits, [60, 120, 240, 300, 300]);
    assert_eq!(fail(&mut session, 1100), Some(60));
}

#[test]
fn an_unexpected_message_is_a_state_machine_error_that_names_the_state() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    connected(&mut session, Side::Outgoing);
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Keepalive));
    assert_eq!(notification(&outputs, Side::Outgoing), Some((5, 1)));
    let mut session = established(open(2));
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Open(open(2))));
    assert_eq!(notification(&outputs, Side::Outgoing), Some((5, 3)));
    assert_eq!(down(&outputs), Some(Down::Hard));
}

/// Both connections exchange OPENs; the incoming one's OPEN comes last. Returns which side goes on.
fn collide(neighbor_id: u8) -> (bool, bool) {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    connected(&mut session, Side::Outgoing);
    connected(&mut session, Side::Incoming);
    session.step(NOW, message(Side::Outgoing, Message::Open(open(neighbor_id))));
    let outputs = session.step(NOW, message(Side::Incoming, Message::Open(open(neighbor_id))));
    let lost = |side| closes(&outputs, side) && notification(&outputs, side) == Some((6, 7));
    (!lost(Side::Outgoing), !lost(Side::Incoming))
}

#[test]
fn in_a_collision_the_connection_of_the_higher_identifier_stays() {
    // Ours is 10.0.0.1. A neighbour 10.0.0.2 keeps what it opened, which is incoming here.
    assert_eq!(collide(2), (false, true));
    // A neighbour 10.0.0.0 is lower: what we opened stays.
    assert_eq!(collide(0), (true, false));
}

#[test]
fn a_collision_with_an_established_session_closes_the_new_connection() {
    let mut session = established(open(2));
    connected(&mut session, Side::Incoming);
    let outputs = session.step(NOW, message(Side::Incoming, Message::Open(open(2))));
    assert_eq!(notification(&outputs, Side::Incoming), Some((6, 7)));
    assert_eq!((session.state_name(), down(&outputs)), ("Established", None));
}

#[test]
fn losing_a_collision_is_no_error() {
    let mut session = session(|_| {});
    session.step(NOW, Input::Start);
    connected(&mut session, Side::Outgoing);
    connected(&mut session, Side::Incoming);
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Notification(Notification::cease(7))));
    assert!(closes(&outputs, Side::Outgoing) && !closes(&outputs, Side::Incoming));
    assert_eq!((session.state_name(), session.last_error), ("OpenSent", None));
}

#[test]
fn the_hold_timer_ends_the_session_with_a_notification() {
    let mut session = established(graceful_open(2));
    let outputs = session.step(NOW, Input::Timer(TimerKind::Hold(Side::Outgoing)));
    assert_eq!(notification(&outputs, Side::Outgoing), Some((4, 0)));
    assert_eq!(down(&outputs), Some(Down::Hard));
}

#[test]
fn every_message_of_the_neighbor_restarts_the_hold_timer() {
    let mut session = established(open(2));
    for m in [Message::Keepalive, Message::Update(Box::default())] {
        let outputs = session.step(NOW, message(Side::Outgoing, m));
        assert_eq!(timer(&outputs, TimerKind::Hold(Side::Outgoing)), Some(90));
    }
}

#[test]
fn a_lost_connection_is_graceful_only_with_a_graceful_neighbor() {
    let mut session = established(graceful_open(2));
    let outputs = session.step(NOW, Input::Closed(Side::Outgoing, "Connection closed".into()));
    assert_eq!(down(&outputs), Some(Down::Graceful));
    assert_eq!(timer(&outputs, TimerKind::Stale), Some(120));
    assert!(session.neighbor_restarting && session.accepts_incoming());
    let outputs = session.step(NOW, Input::Timer(TimerKind::Stale));
    assert!(outputs.iter().any(|o| matches!(o, Output::StaleExpired)));
    let mut session = established(open(2));
    let outputs = session.step(NOW, Input::Closed(Side::Outgoing, "Connection closed".into()));
    assert_eq!(down(&outputs), Some(Down::Hard));
}

#[test]
fn a_notification_is_never_graceful() {
    let mut session = established(graceful_open(2));
    let outputs = session.step(NOW, message(Side::Outgoing, Message::Notification(Notification::cease(2))));
    assert_eq!(down(&outputs), Some(Down::Hard));
    assert_eq!(notification(&outputs, Side::Outgoing), None, "a NOTIFICATION is not answered");
    assert_eq!(session.last_error.expect("an error").text, "Administrative shutdown");
}

#[test]
fn a_graceful_neighbor_that_connects_again_has_restarted() {
    let mut session = established(graceful_open(2));
    assert!(session.accepts_incoming());
    let outputs = connected(&mut session, Side::Incoming);
    assert!(closes(&outputs, Side::Outgoing));
    assert_eq!((down(&outputs), notification(&outputs, Side::Outgoing)), (Some(Down::Graceful), None));
    assert_eq!(session.state_name(), "OpenSent");
}

#[test]
fn stopping_says_why_unless_it_is_a_graceful_restart() {
    let mut session = established(open(2));
    let outputs = session.step(NOW, Input::Stop(Some(2)));
    assert_eq!(notification(&outputs, Side::Outgoing), Some((6, 2)));
    assert!(closes(&outputs, Side::Outgoing) && session.state_name() == "Down");
    let mut session = established(open(2));
    let outputs = session.step(NOW, Input::Stop(None));
    assert_eq!(notification(&outputs, Side::Outgoing), None);
    assert!(closes(&outputs, Side::Outgoing));
}

#[test]
fn after_a_restart_the_open_says_so_and_that_forwarding_went_on() {
    let mut session = session(|_| {});
    session.restarting = true;
    session.step(NOW, Input::Start);
    let outputs = connected(&mut session, Side::Outgoing);
    let [Message::Open(open)] = &sent(&outputs, Side::Outgoing)[..] else { panic!("an OPEN") };
    let gr = open.graceful_restart().expect("the capability");
    assert!(gr.restarting && gr.restart_time_secs == 120);
    assert_eq!(gr.families, [(Family::Ipv4, true)]);
}
