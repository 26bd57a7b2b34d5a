//! Whole engines talking to each other in memory.

mod sim;

use bird_core::{Command, Event, ProtoAction};
use sim::{Sim, base, session};

fn pair() -> Sim {
    let mut sim = Sim::new(2);
    sim.start(1, &(base(1) + &session(1, 2, "")));
    sim.start(2, &(base(2) + &session(2, 1, "")));
    sim.run(10);
    assert_eq!((sim.established(1), sim.established(2)), (1, 1));
    sim
}

#[test]
fn two_engines_exchange_their_routes() {
    let sim = pair();
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole", "10.65.2.0/26 via 10.99.0.2"]);
    assert_eq!(sim.routes(2), ["10.65.1.0/26 via 10.99.0.1", "10.65.2.0/26 blackhole"]);
}

#[test]
fn both_connecting_at_once_leaves_one_session() {
    // Both start in the same instant, so that both connections cross each time.
    let sim = pair();
    for node in [1, 2] {
        let shown = sim.ask(node, "show protocols all");
        assert_eq!(shown.matches("BGP state:          Established").count(), 1, "{shown}");
    }
}

#[test]
fn a_passive_side_waits_for_the_other() {
    let mut sim = Sim::new(2);
    sim.start(1, &(base(1) + &session(1, 2, "passive on;")));
    sim.run(5);
    assert!(sim.ask(1, "show protocols").contains("Passive"));
    sim.start(2, &(base(2) + &session(2, 1, "")));
    sim.run(5);
    assert_eq!(sim.established(1), 1);
}

#[test]
fn a_session_lives_on_keepalives_and_dies_without() {
    let mut sim = pair();
    sim.run(100);
    assert_eq!(sim.established(1), 1);
    sim.set_deaf(2, true);
    sim.run(10);
    assert!(sim.ask(1, "show protocols").contains("Hold timer expired"));
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole"]);
    sim.set_deaf(2, false);
    sim.run(20);
    assert_eq!(sim.established(1), 1);
}

#[test]
fn a_restarting_neighbors_routes_are_kept_and_nothing_flaps() {
    let mut sim = pair();
    sim.nodes.iter_mut().for_each(|n| n.changes.clear());
    sim.kill(2);
    sim.run(30);
    assert!(sim.ask(1, "show route").contains("[is]"), "routes are marked stale");
    sim.start(2, &(base(2) + &session(2, 1, "")));
    sim.run(30);
    assert_eq!((sim.established(1), sim.established(2)), (1, 1));
    assert!(!sim.ask(1, "show route").contains("[is]"));
    assert_eq!(sim.node(1).changes, Vec::<String>::new());
    assert_eq!(sim.node(2).changes, Vec::<String>::new());
}

#[test]
fn a_neighbor_that_does_not_return_loses_its_routes_after_the_restart_time() {
    let mut sim = pair();
    sim.kill(2);
    sim.run(119);
    assert_eq!(sim.routes(1).len(), 2);
    sim.run(2);
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole"]);
}

#[test]
fn what_a_returned_neighbor_does_not_announce_again_is_dropped() {
    let mut sim = pair();
    sim.kill(2);
    sim.run(5);
    sim.start(2, &(base(2).replace("10.65.2.0/26", "10.65.7.0/26") + &session(2, 1, "")));
    sim.run(30);
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole", "10.65.7.0/26 via 10.99.0.2"]);
    assert_eq!(sim.routes(2), ["10.65.1.0/26 via 10.99.0.1", "10.65.7.0/26 blackhole"]);
}

#[test]
fn all_nodes_restarting_at_once_change_no_kernel() {
    let config = |n: usize| {
        let peers = (1..=4).filter(|p| *p != n).map(|p| session(n, p, "")).collect::<String>();
        base(n) + &peers
    };
    let mut sim = Sim::new(4);
    (1..=4).for_each(|n| sim.start_with(n, &config(n), true));
    sim.run(30);
    assert!((1..=4).all(|n| sim.routes(n).len() == 4 && sim.established(n) == 3));
    sim.nodes.iter_mut().for_each(|n| n.changes.clear());
    (1..=4).for_each(|n| sim.kill(n));
    sim.run(10);
    (1..=4).for_each(|n| sim.start(n, &config(n)));
    sim.run(60);
    for n in 1..=4 {
        assert_eq!(sim.established(n), 3);
        assert!(!sim.ask(n, "show status").contains("recovery"), "the recovery of {n} is over");
        assert_eq!(sim.node(n).changes, Vec::<String>::new(), "of node {n}");
    }
}

#[test]
fn shutdown_takes_routes_from_neighbors_and_graceful_shutdown_leaves_them() {
    let mut sim = pair();
    sim.feed(2, Event::Shutdown { graceful: true });
    sim.run(10);
    assert_eq!(sim.routes(1).len(), 2);
    let mut sim = pair();
    sim.feed(2, Event::Shutdown { graceful: false });
    sim.run(2);
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole"]);
    assert_eq!(sim.routes(2).len(), 2, "persist keeps the kernel as it is");
}

#[test]
fn internal_routes_do_not_pass_a_third_router_unless_it_reflects() {
    let start = |option: &str| {
        let mut sim = Sim::new(3);
        sim.start(1, &(base(1) + &session(1, 2, option) + &session(1, 3, option)));
        sim.start(2, &(base(2) + &session(2, 1, "")));
        sim.start(3, &(base(3) + &session(3, 1, "")));
        sim.run(15);
        sim
    };
    assert!(!start("").routes(3).iter().any(|r| r.starts_with("10.65.2.0")));
    let sim = start("rr client;");
    assert!(sim.routes(3).contains(&"10.65.2.0/26 via 10.99.0.2".to_owned()), "{:?}", sim.routes(3));
    assert!(sim.ask(3, "show route all 10.65.2.0/26").contains("BGP.cluster_list: 10.99.0.1"));
}

#[test]
fn equal_routes_share_traffic_and_the_rest_stays_when_one_goes() {
    let anycast = |n: usize| base(n).replace("10.65.", "10.70.").replace(&format!(".{n}.0/26"), ".0.0/26");
    let mut sim = Sim::new(3);
    sim.start(1, &(base(1) + &session(1, 2, "") + &session(1, 3, "")));
    sim.start(2, &(anycast(2) + &session(2, 1, "")));
    sim.start(3, &(anycast(3) + &session(3, 1, "")));
    sim.run(15);
    assert!(
        sim.routes(1).contains(&"10.70.0.0/26 via 10.99.0.2 10.99.0.3".to_owned()),
        "{:?}",
        sim.routes(1)
    );
    sim.feed(3, Event::Shutdown { graceful: false });
    sim.run(2);
    assert!(sim.routes(1).contains(&"10.70.0.0/26 via 10.99.0.2".to_owned()), "{:?}", sim.routes(1));
}

#[test]
fn reconfiguring_one_session_leaves_the_others_alone() {
    let mut sim = Sim::new(3);
    let config = |extra: &str| base(1) + &session(1, 2, "") + &session(1, 3, extra);
    sim.start(1, &config(""));
    sim.start(2, &(base(2) + &session(2, 1, "")));
    sim.start(3, &(base(3) + &session(3, 1, "")));
    sim.run(15);
    let line = |sim: &Sim, name: &str| {
        sim.ask(1, "show protocols").lines().find(|l| l.contains(name)).map(str::to_owned)
    };
    let before = line(&sim, "to2");
    sim.configure(1, &config("hold time 30;"));
    sim.run(10);
    assert_eq!(before, line(&sim, "to2"));
    assert_eq!(sim.established(1), 2);
    sim.configure(1, &(base(1) + &session(1, 2, "")));
    sim.run(2);
    assert_eq!(before, line(&sim, "to2"));
    assert!(sim.ask(3, "show protocols").contains("Received: Peer de-configured"));
    assert!(!sim.routes(1).iter().any(|r| r.starts_with("10.65.3.0")));
}

#[test]
fn the_same_configuration_again_does_nothing() {
    let mut sim = pair();
    let text = base(1) + &session(1, 2, "");
    sim.run(3);
    sim.nodes[0].actions = 0;
    sim.configure(1, &format!("# moved by a line\n{text}"));
    assert_eq!(sim.node(1).actions, 1, "nothing but the list of listening sockets");
}

#[test]
fn changed_static_routes_are_announced_and_withdrawn() {
    let mut sim = pair();
    let text = base(1).replace("route 10.65.1.0/26", "route 10.65.5.0/26 blackhole; route 10.65.6.0/26");
    sim.configure(1, &(text + &session(1, 2, "")));
    sim.run(1);
    let expected = ["10.65.2.0/26 blackhole", "10.65.5.0/26 via 10.99.0.1", "10.65.6.0/26 via 10.99.0.1"];
    assert_eq!(sim.routes(2), expected);
}

#[test]
fn commands_stop_and_start_a_protocol() {
    let mut sim = pair();
    let command = |action| Event::Command(Command { action, target: "to2".into() });
    sim.feed(1, command(ProtoAction::Disable));
    sim.run(1);
    assert!(sim.ask(1, "show protocols").contains("to2        BGP        ---        down"));
    assert_eq!(sim.routes(2), ["10.65.2.0/26 blackhole"]);
    sim.feed(1, command(ProtoAction::Enable));
    sim.run(10);
    assert_eq!(sim.established(1), 1);
    sim.feed(1, command(ProtoAction::Restart));
    sim.run(10);
    assert_eq!(sim.established(1), 1);
}

#[test]
fn an_import_limit_stops_the_protocol() {
    let mut sim = Sim::new(2);
    let limited = session(1, 2, "").replace("import all", "import limit 2 action disable; import all");
    let many = base(2).replace(
        "route 10.65.2.0/26 blackhole;",
        "route 10.65.2.0/26 blackhole; route 10.65.3.0/26 blackhole; route 10.65.4.0/26 blackhole;",
    );
    sim.start(1, &(base(1) + &limited));
    sim.start(2, &(many + &session(2, 1, "")));
    sim.run(2);
    assert!(sim.ask(1, "show protocols").contains("Import limit exceeded"));
    assert!(sim.ask(2, "show protocols").contains("Maximum number of prefixes reached"));
    assert_eq!(sim.routes(1), ["10.65.1.0/26 blackhole"]);
}

#[test]
fn several_paths_are_sent_where_both_want_them() {
    let several = |text: String| text.replace("ipv4 { import", "ipv4 { add paths on; import");
    let anycast = |n: usize| base(n).replace("10.65.", "10.70.").replace(&format!(".{n}.0/26"), ".0.0/26");
    let mut sim = Sim::new(4);
    let reflector =
        session(1, 2, "rr client;") + &session(1, 3, "rr client;") + &several(session(1, 4, "rr client;"));
    sim.start(1, &(base(1) + &reflector));
    sim.start(2, &(anycast(2) + &session(2, 1, "")));
    sim.start(3, &(anycast(3) + &session(3, 1, "")));
    sim.start(4, &(base(4) + &several(session(4, 1, ""))));
    sim.run(15);
    assert!(
        sim.routes(4).contains(&"10.70.0.0/26 via 10.99.0.2 10.99.0.3".to_owned()),
        "{:?}",
        sim.routes(4)
    );
    sim.feed(2, Event::Shutdown { graceful: false });
    sim.run(2);
    assert!(sim.routes(4).contains(&"10.70.0.0/26 via 10.99.0.3".to_owned()), "{:?}", sim.routes(4));
}

#[test]
fn a_big_table_goes_over_in_batches_and_is_withdrawn_again() {
    let routes: String = (0..20_000)
        .map(|i| format!("route 10.{}.{}.{}/32 blackhole;\n", 128 + (i >> 14), i >> 8 & 63, i & 255))
        .collect();
    let mut sim = Sim::new(2);
    sim.start(1, &(base(1) + &session(1, 2, "")));
    sim.start(2, &(base(2) + &format!("protocol static many {{ ipv4; {routes} }}\n") + &session(2, 1, "")));
    sim.run(20);
    assert_eq!(sim.routes(1).len(), 20_002);
    sim.configure(2, &(base(2) + &session(2, 1, "")));
    sim.run(5);
    assert_eq!(sim.routes(1).len(), 2);
}

#[test]
fn a_recovery_with_nothing_in_the_kernel_is_over_at_once() {
    let mut sim = Sim::new(2);
    sim.start_with(1, &(base(1) + &session(1, 2, "")), true);
    sim.run(1);
    assert!(!sim.ask(1, "show status").contains("recovery"));
    sim.kill(1);
    sim.start_with(1, &(base(1) + &session(1, 2, "")), true);
    sim.run(200);
    assert!(
        sim.ask(1, "show status").contains("Graceful restart recovery in progress"),
        "a neighbor is missing"
    );
    sim.run(50);
    assert!(!sim.ask(1, "show status").contains("recovery"), "the wait is over");
}
