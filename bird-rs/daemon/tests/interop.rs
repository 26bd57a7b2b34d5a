//! bird-rs with Debian's BIRD as its neighbour, in network namespaces, with the real kernel.

mod support;

use support::Daemon::{Debian, Ours};
use support::{Lab, base, blocks, can_run, session, wait};

/// Ours as router 1, Debian's as router 2, one session with both families, a block of each on both sides.
fn pair() -> Lab {
    let mut lab = Lab::new(&[Ours, Debian]);
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "")), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &session(2, 1, "")), &[]);
    lab.routers[0].wait_established("to2");
    lab.routers[1].wait_established("to1");
    wait_for_blocks(&lab);
    lab
}

/// Both routers have both blocks of both in their kernels: nothing is on its way any more.
fn wait_for_blocks(lab: &Lab) {
    for router in &lab.routers {
        wait("routes of both families on both sides", || {
            let routes = router.routes();
            ["10.65.1.0/26", "10.65.2.0/26", "fd65:1::/122", "fd65:2::/122"]
                .iter()
                .all(|b| routes.contains(b))
        });
    }
}

#[test]
fn routes_of_both_families_go_both_ways_and_into_the_kernel() {
    if !can_run() {
        return;
    }
    let lab = pair();
    let ours = lab.routers[0].routes();
    assert!(ours.contains("10.65.2.0/26 via 10.99.0.2 dev eth0 proto bird metric 1024"), "{ours}");
    assert!(ours.contains("fd65:2::/122 via fd99::2 dev eth0 proto bird metric 1024"), "{ours}");
    assert!(ours.contains("blackhole 10.65.1.0/26 proto bird"), "{ours}");
    let theirs = lab.routers[1].routes();
    assert!(theirs.contains("10.65.1.0/26 via 10.99.0.1 dev eth0 proto bird"), "{theirs}");
    assert!(theirs.contains("fd65:1::/122 via fd99::1 dev eth0 proto bird"), "{theirs}");
}

#[test]
fn the_stock_client_gets_an_answer_to_every_command() {
    if !can_run() {
        return;
    }
    let lab = pair();
    let ours = &lab.routers[0];
    let cases = [
        ("show status", "Router ID is 10.99.0.1"),
        ("show status", "Daemon is up and running"),
        ("show protocols", "to2        BGP        ---        up     "),
        ("show protocols all", "    Routes:         1 imported, 1 exported, 1 preferred"),
        ("show protocols all to2", "    Neighbor address: 10.99.0.2"),
        ("show protocols \"to*\"", "Established"),
        ("show route", "10.65.2.0/26         unicast [to2 "),
        ("show route all", "\tBGP.local_pref: 100"),
        ("show route for 10.65.2.9", "\tvia 10.99.0.2 on eth0"),
        ("show route 10.65.1.0/26", "blackhole [s4 "),
        ("show route table master6", "Table master6:"),
        ("show route protocol to2", "10.65.2.0/26"),
        ("show route export to2", "10.65.1.0/26"),
        ("show route where net.len = 26", "10.65.1.0/26"),
        ("show route primary", "10.65.2.0/26"),
        ("show route count", "routes for"),
        ("show interfaces", "eth0 up (index="),
        ("show interfaces summary", "10.99.0.1/24"),
        ("show memory", "BIRD memory usage"),
        ("show symbols", "routing table"),
        ("show static", "10.65.1.0/26\tblackhole"),
        ("configure check", "Configuration OK"),
        ("configure", "Reconfigured"),
        ("reload to2", "to2: reloading"),
        ("disable s4", "s4: disabled"),
        ("enable s4", "s4: enabled"),
        ("restart to2", "to2: restarted"),
        ("show route for 1.2.3.4", "Network not found"),
    ];
    for (command, expected) in cases {
        let answer = ours.birdc(command);
        assert!(answer.contains(expected), "{command}: {answer}");
    }
    ours.wait_established("to2");
}

#[test]
fn a_changed_export_filter_takes_effect_without_dropping_the_session() {
    if !can_run() {
        return;
    }
    let lab = pair();
    // Ours says since when. BIRD works the moment out anew for each listing, and it wavers.
    let since = || {
        let text = lab.routers[0].birdc("show protocols");
        text.lines().find(|l| l.contains("Established")).map(str::to_owned)
    };
    let before = since();
    assert!(before.is_some());
    let changed =
        session(1, 2, "").replacen("export where source ~ [ RTS_STATIC, RTS_BGP ];", "export none;", 1);
    lab.routers[0].write_config(&(base(1) + &blocks(1) + &changed));
    assert!(lab.routers[0].birdc("configure").contains("Reconfigured"));
    wait("the route is withdrawn", || !lab.routers[1].routes().contains("10.65.1.0/26"));
    assert!(lab.routers[1].routes().contains("fd65:1::/122"));
    lab.routers[0].write_config(&(base(1) + &blocks(1) + &session(1, 2, "")));
    lab.routers[0].signal("HUP");
    wait("the route is back", || lab.routers[1].routes().contains("10.65.1.0/26"));
    assert_eq!(before, since(), "the session was dropped");
}

#[test]
fn a_changed_import_filter_applies_to_routes_already_received() {
    if !can_run() {
        return;
    }
    let lab = pair();
    let line = |r: &support::Router| {
        r.birdc("show protocols").lines().find(|l| l.starts_with("to2")).map(str::to_owned)
    };
    let before = line(&lab.routers[0]);
    let changed =
        session(1, 2, "").replacen("import all", "import filter { bgp_local_pref = 777; accept; }", 1);
    lab.routers[0].write_config(&(base(1) + &blocks(1) + &changed));
    lab.routers[0].birdc("configure");
    wait("the new preference", || {
        lab.routers[0].birdc("show route all 10.65.2.0/26").contains("local_pref: 777")
    });
    assert_eq!(before, line(&lab.routers[0]));
}

#[test]
fn a_broken_file_leaves_the_old_configuration_and_says_where_it_is_broken() {
    if !can_run() {
        return;
    }
    let lab = pair();
    lab.routers[0].write_config("router id 10.99.0.1;\nprotocol bgp x {\n  neighbour 10.0.0.1;\n}\n");
    for command in ["configure", "configure check"] {
        let answer = lab.routers[0].birdc(command);
        assert!(answer.contains("bird.cfg:3:3 syntax error, unexpected `neighbour`"), "{answer}");
    }
    assert!(lab.routers[0].established("to2"));
    assert!(lab.routers[0].routes().contains("10.65.2.0/26"));
}

#[test]
fn a_silent_neighbor_is_dropped_when_the_hold_time_is_over() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "hold time 3;")), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &session(2, 1, "")), &[]);
    wait("the route", || lab.routers[0].routes().contains("10.65.2.0/26"));
    lab.routers[1].signal("STOP");
    wait("the hold timer", || {
        lab.routers[0].birdc("show protocols").contains("BGP Error: Hold timer expired")
    });
    wait("the routes are gone", || !lab.routers[0].routes().contains("10.65.2.0/26"));
    lab.routers[1].signal("CONT");
    lab.routers[0].wait_established("to2");
}

#[test]
fn a_wrong_as_number_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    let wrong = session(1, 2, "").replace("as 64512", "as 65001");
    lab.routers[0].start(&(base(1) + &wrong), &[]);
    lab.routers[1].start(&(base(2) + &session(2, 1, "")), &[]);
    wait("our error", || lab.routers[0].birdc("show protocols").contains("BGP Error: Bad peer AS"));
    wait("their error", || lab.routers[1].birdc("show protocols").contains("Received: Bad peer AS"));
}

#[test]
fn a_session_with_md5_comes_up_only_when_both_passwords_are_the_same() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    lab.routers[0].start(&(base(1) + &session(1, 2, "password \"secret\";")), &[]);
    lab.routers[1].start(&(base(2) + &session(2, 1, "password \"other\";")), &[]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(!lab.routers[0].established("to2"));
    lab.routers[1].write_config(&(base(2) + &session(2, 1, "password \"secret\";")));
    lab.routers[1].birdc("configure");
    lab.routers[0].wait_established("to2");
    // Only the incoming side: our listener must have the key too.
    lab.routers[0].write_config(&(base(1) + &session(1, 2, "password \"secret\"; passive on;")));
    lab.routers[0].birdc("configure");
    wait("the session with a passive end", || lab.routers[0].established("to2"));
}

#[test]
fn a_reflector_passes_routes_between_its_clients() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian, Ours]);
    let client = "rr client; rr cluster id 1.0.0.1;";
    lab.routers[0].start(&(base(1) + &session(1, 2, client) + &session(1, 3, client)), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &session(2, 1, "")), &[]);
    lab.routers[2].start(&(base(3) + &blocks(3) + &session(3, 1, "")), &[]);
    wait("routes of the clients", || {
        lab.routers[1].routes().contains("10.65.3.0/26 via 10.99.0.3")
            && lab.routers[2].routes().contains("10.65.2.0/26 via 10.99.0.2")
            && lab.routers[2].routes().contains("fd65:2::/122 via fd99::2")
    });
    let shown = lab.routers[2].birdc("show route all 10.65.2.0/26");
    assert!(shown.contains("BGP.originator_id: 10.99.0.2"), "{shown}");
    assert!(shown.contains("BGP.cluster_list: 1.0.0.1"), "{shown}");
}

#[test]
fn external_sessions_prepend_the_as_and_drop_local_pref() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    let ours = session(1, 2, "").replace("neighbor 10.99.0.2 as 64512", "neighbor 10.99.0.2 as 4200000001");
    let theirs = session(2, 1, "local as 4200000001;");
    lab.routers[0].start(&(base(1) + &blocks(1) + &ours), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &theirs), &[]);
    wait_for_blocks(&lab);
    let theirs = lab.routers[1].birdc("show route all 10.65.1.0/26");
    assert!(theirs.contains("BGP.as_path: 64512"), "{theirs}");
    let ours = lab.routers[0].birdc("show route all 10.65.2.0/26");
    assert!(ours.contains("BGP.as_path: 4200000001"), "{ours}");
    assert!(ours.contains("[AS4200000001i]"), "{ours}");
}

#[test]
fn nothing_flaps_when_the_daemon_is_killed_and_started_again() {
    if !can_run() {
        return;
    }
    let mut lab = pair();
    let (ours, theirs) = (lab.routers[0].watch_routes(), lab.routers[1].watch_routes());
    lab.routers[0].kill();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(lab.routers[1].routes().contains("10.65.1.0/26"), "the helper dropped the routes");
    let config = base(1) + &blocks(1) + &session(1, 2, "");
    lab.routers[0].start(&config, &[]);
    lab.routers[0].wait_established("to2");
    wait("the end of the recovery", || lab.routers[0].log().contains("graceful restart done"));
    wait("a full exchange", || lab.routers[1].birdc("show protocols all to1").contains("1 imported"));
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(ours.lines(), "", "routes changed in our kernel");
    assert_eq!(theirs.lines(), "", "routes changed in the neighbor's kernel");
}

#[test]
fn what_changed_while_the_daemon_was_down_is_put_right_after_the_recovery() {
    if !can_run() {
        return;
    }
    let mut lab = pair();
    lab.routers[0].kill();
    lab.routers[1].write_config(&(base(2) + &blocks(9) + &session(2, 1, "")));
    lab.routers[1].birdc("configure");
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "")), &[]);
    wait("the new route", || lab.routers[0].routes().contains("10.65.9.0/26"));
    wait("the old route is gone", || !lab.routers[0].routes().contains("10.65.2.0/26"));
}

#[test]
fn a_killed_neighbor_is_helped_until_its_restart_time_is_over() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "")), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &session(2, 1, "graceful restart time 20;")), &[]);
    wait_for_blocks(&lab);
    let watch = lab.routers[0].watch_routes();
    lab.routers[1].kill();
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(watch.lines(), "", "routes of a restarting neighbor were touched");
    wait("the routes go after the restart time", || !lab.routers[0].routes().contains("10.65.2.0/26"));
}

#[test]
fn sigterm_says_goodbye_unless_it_was_started_for_recovery() {
    if !can_run() {
        return;
    }
    let mut lab = pair();
    lab.routers[0].terminate();
    wait("routes are dropped after a goodbye", || !lab.routers[1].routes().contains("10.65.1.0/26"));
    assert!(lab.routers[0].routes().contains("10.65.2.0/26"), "persist was not honoured");
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "")), &["-R"]);
    wait_for_blocks(&lab);
    lab.routers[0].terminate();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(lab.routers[1].routes().contains("10.65.1.0/26"), "the neighbor dropped the routes");
    assert!(lab.routers[0].routes().contains("10.65.2.0/26"));
}

#[test]
fn a_route_of_somebody_else_is_learned_and_never_touched() {
    if !can_run() {
        return;
    }
    let lab = pair();
    lab.routers[0].exec("ip route add 10.7.0.0/24 via 10.99.0.2 proto static");
    wait("it is learned", || lab.routers[0].birdc("show route 10.7.0.0/24").contains("[k4 "));
    lab.routers[0].exec("ip route del 10.7.0.0/24");
    wait("it is forgotten", || lab.routers[0].birdc("show route 10.7.0.0/24").contains("Network not found"));
    // One of ours that somebody removes comes back with the next scan.
    lab.routers[0].exec("ip route del 10.65.2.0/26");
    wait("ours is back", || lab.routers[0].routes().contains("10.65.2.0/26"));
}

#[test]
fn a_next_hop_behind_a_router_resolves_to_its_gateway() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    lab.routers[0].exec("ip route add 10.50.0.0/16 via 10.99.0.2");
    let theirs = session(2, 1, "").replacen("export where", "next hop address 10.50.1.1; export where", 1);
    lab.routers[0].start(&(base(1) + &session(1, 2, "")), &[]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &theirs), &[]);
    wait("the route through the gateway", || lab.routers[0].routes().contains("10.65.2.0/26 via 10.99.0.2"));
    lab.routers[0].exec("ip route replace 10.50.0.0/16 via 10.99.0.7");
    wait("it follows", || lab.routers[0].routes().contains("10.65.2.0/26 via 10.99.0.7"));
}

#[test]
fn a_recording_replays_to_the_same_actions() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    let file = lab.routers[0].dir.join("events");
    let name = file.to_str().expect("a path in ASCII").to_owned();
    lab.routers[0].start(&(base(1) + &blocks(1) + &session(1, 2, "")), &["--record", &name]);
    lab.routers[1].start(&(base(2) + &blocks(2) + &session(2, 1, "")), &[]);
    wait("the route", || lab.routers[0].routes().contains("10.65.2.0/26"));
    lab.routers[0].terminate();
    let replay = || {
        let mut out = Vec::new();
        bird_rs::replay(&file, &mut out).expect("the recording can be replayed");
        String::from_utf8(out).expect("text")
    };
    let text = replay();
    assert_eq!(text, replay());
    assert!(text.contains("Add(KernelRoute { prefix: 10.65.2.0/26, metric: 1024, protocol: 12"), "{text}");
}

#[test]
fn a_directly_connected_neighbor_is_lost_with_its_interface() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(&[Ours, Debian]);
    let direct = |text: String| text.replace("multihop;", "direct;");
    let ours = session(1, 2, "").replace("neighbor 10.99.0.2 as 64512", "neighbor 10.99.0.2 as 65002");
    let theirs = session(2, 1, "local as 65002;");
    lab.routers[0].start(&direct(base(1) + &blocks(1) + &ours), &[]);
    lab.routers[1].start(&direct(base(2) + &blocks(2) + &theirs), &[]);
    wait("the route", || lab.routers[0].routes().contains("10.65.2.0/26"));
    lab.routers[0].exec("ip link set eth0 down");
    wait("the session is gone", || !lab.routers[0].established("to2"));
    lab.routers[0].exec("ip link set eth0 up");
    wait("the route is back", || lab.routers[0].routes().contains("10.65.2.0/26"));
}
