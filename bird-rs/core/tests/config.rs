//! bird.cfg: what is accepted, what it means, and where errors are.

use bird_core::config::{
    Config, Gateway, GracefulMode, LimitAction, NextHopScope, PeerAs, ProtocolKind, Source, StaticTarget,
    parse,
};
use proptest::prelude::*;

fn ok(text: &str) -> Config {
    parse(&Source::from_text("bird.cfg", text)).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn error(text: &str) -> String {
    match parse(&Source::from_text("bird.cfg", text)) {
        Ok(_) => panic!("accepted: {text}"),
        Err(e) => e.to_string(),
    }
}

fn bgp(config: &Config, index: usize) -> &bird_core::config::BgpConfig {
    match &config.protocols[index].kind {
        ProtocolKind::Bgp(bgp) => bgp,
        other => panic!("{other:?}"),
    }
}

const BGP: &str = "protocol bgp b { local as 1; neighbor 10.0.0.2 as 2; ipv4; ";

#[test]
fn a_session_takes_its_template_and_adds_to_it() {
    let config = ok("template bgp t { local as 64512; graceful restart; hold time 30; description \"x\";
          ipv4 { import none; gateway recursive; }; }
        protocol bgp a from t { neighbor 10.0.0.2 port 1179 as 64513; source address 10.0.0.1; password \"p\";
          rr cluster id 1.2.3.4; passive on; multihop 3; next: ; }"
        .replace("next: ;", "")
        .as_str());
    let a = bgp(&config, 0);
    assert_eq!((a.local_as, a.neighbor_as, a.neighbor_port), (64512, PeerAs::Number(64513), 1179));
    assert_eq!((a.hold_time_secs, a.hops(), a.passive), (30, Some(3), true));
    assert_eq!((a.graceful_restart, a.password.as_deref()), (GracefulMode::On, Some("p")));
    let channel = &config.protocols[0].channels[0];
    assert_eq!((channel.import.label(), channel.gateway), ("REJECT", Some(Gateway::Recursive)));
}

#[test]
fn defaults_are_birds() {
    let config = ok("protocol bgp { local as 1; neighbor 10.0.0.2 as 1; ipv4; }
        protocol bgp { local as 1; neighbor 10.0.0.2 as 2; ipv4; } protocol kernel { ipv4; } protocol device {}");
    let b = bgp(&config, 0);
    assert_eq!((b.hold_time_secs, b.connect_retry_secs, b.connect_delay_secs), (240, 120, 5));
    assert_eq!((b.error_wait_secs, b.graceful_restart), ((60, 300), GracefulMode::Aware));
    assert_eq!((b.hops(), bgp(&config, 1).hops()), (Some(64), None), "internal is multihop, external direct");
    let names: Vec<&str> = config.protocols.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["bgp1", "bgp2", "kernel1", "device1"]);
    let channel = &config.protocols[0].channels[0];
    assert_eq!(
        (channel.import.label(), channel.export.label(), &*channel.table),
        ("ACCEPT", "REJECT", "master4")
    );
    let ProtocolKind::Kernel(kernel) = &config.protocols[2].kind else { panic!("a kernel") };
    assert_eq!((kernel.metric, kernel.scan_secs, kernel.learn, kernel.persist), (32, 60, false, false));
}

#[test]
fn options_of_channels_are_read() {
    let config = ok(&format!(
        "ipv4 table t4; {BGP} ipv6 {{ next hop self; next hop keep ebgp; add paths rx; }};
         ipv4 {{ table t4; import limit 10 action restart; preference 7; next hop self ibgp; }}; }}"
    ));
    let [four, six] = &config.protocols[0].channels[..] else { panic!("two channels") };
    assert_eq!((&*four.table, four.preference), ("t4", Some(7)));
    let limit = four.import_limit.expect("a limit");
    assert_eq!((limit.routes, limit.action), (10, LimitAction::Restart));
    assert_eq!((four.next_hop_self, six.next_hop_self), (NextHopScope::Ibgp, NextHopScope::Always));
    assert_eq!((six.next_hop_keep, six.add_paths), (NextHopScope::Ebgp, (true, false)));
}

#[test]
fn static_routes_lead_where_they_say() {
    let config = ok("protocol static { ipv4; route 10.0.0.0/8 blackhole; route 10.1.0.0/16 via 10.0.0.1;
        route 10.2.0.0/16 via \"eth0\"; route 10.3.0.0/16 via 10.0.0.1%eth0 onlink via 10.0.0.2 weight 3;
        route 10.4.0.0/16 recursive 10.9.9.9; route 10.5.0.0/16 unreachable { bgp_med = 3; }; }");
    let ProtocolKind::Static(s) = &config.protocols[0].kind else { panic!("static") };
    assert_eq!(s.routes.len(), 6);
    let StaticTarget::Via(hops) = &s.routes[3].target else { panic!("two hops") };
    assert!(hops[0].onlink && hops[0].interface.as_deref() == Some("eth0") && hops[1].weight == 3);
    assert_eq!(s.routes[5].attributes.len(), 1);
}

#[test]
fn harmless_options_are_accepted() {
    ok("log \"/tmp/x\" { debug, trace }; log syslog all; log stderr all; debug protocols all; debug latency off;
        timeformat protocol iso long ms; timeformat base \"%T\" 3600 \"%F\"; watchdog warning 5 s; watchdog timeout 30 s;
        mrtdump protocols all; router id 1.2.3.4; graceful restart wait 30; define X = 3; define N = 10.0.0.0/8;
        /* comment */ # another
        protocol device { debug { states, routes }; scan time X; }"
        .replace("debug latency off;", "")
        .as_str());
}

#[test]
fn errors_name_the_file_the_line_the_column_and_what_was_expected() {
    let cases = [
        ("router id;", "bird.cfg:1:10 syntax error, unexpected `;`, expecting a router id"),
        ("\n  protocol foo {}", "bird.cfg:2:12 syntax error, unexpected `foo`, expecting a protocol type"),
        ("protocol device { scan time 5 }", "bird.cfg:1:31 syntax error, unexpected `}`, expecting `;`"),
        ("protocol bgp x from y {}", "bird.cfg:1:21 No such template y"),
        ("protocol bgp { local as 1; ipv4; }", "bird.cfg:1:14 Neighbor must be configured"),
        ("protocol bgp { neighbor 10.0.0.1 as 1; ipv4; }", "bird.cfg:1:14 Local AS number must be set"),
        ("protocol bgp { local as 1; neighbor 10.0.0.1 as 1; }", "bird.cfg:1:14 No channel specified"),
        ("protocol static { ipv4; route 10.0.0.1/8 blackhole; }", "bird.cfg:1:31 Invalid prefix 10.0.0.1/8"),
        ("protocol static { ipv4; route fd00::/8 blackhole; }", "Incompatible type of route fd00::/8"),
        ("filter f { acept; }", "bird.cfg:1:12 syntax error, undefined name `acept`"),
        ("filter f { if 1 accept; }", "bird.cfg:1:17 syntax error, unexpected `accept`, expecting `then`"),
        ("function f(int a) { return a; } filter g { f(); }", "Function f takes 1 arguments, 0 given"),
        ("protocol kernel { ipv4 { export filter nix; }; }", "bird.cfg:1:40 No such filter nix"),
        (
            "protocol bgp { local as 1; neighbor 10.0.0.1 as 1; hold time 2; ipv4; }",
            "Hold time must be either 0",
        ),
        ("include \"nix.conf\";", "bird.cfg:1:1 unable to open included file nix.conf"),
        ("protocol device { } }", "bird.cfg:1:21 syntax error, unexpected `}`"),
        ("log \"x", "bird.cfg:1:5 unterminated string"),
        ("define A = 1; define A = 2;", "Symbol A already defined"),
    ];
    for (text, expected) in cases {
        let message = error(text);
        assert!(message.contains(expected), "{text}\n  {message}\n  {expected}");
    }
}

#[test]
fn included_files_are_read_in_place_and_errors_name_them() {
    let mut load = |name: &str| match name {
        "a.cfg" => Ok(vec![("/etc/a.cfg".to_owned(), "include \"b.cfg\";\n".to_owned())]),
        "b.cfg" => Ok(vec![("/etc/b.cfg".to_owned(), "define X = 7;".to_owned())]),
        _ => Err("no such file".to_owned()),
    };
    let text = "include \"a.cfg\"; protocol device { scan time X; }".to_owned();
    let source = Source::gather("bird.cfg", text, &mut load).expect("all files are there");
    let config = parse(&source).expect("a valid configuration");
    let ProtocolKind::Device(device) = &config.protocols[0].kind else { panic!("a device") };
    assert_eq!(device.scan_secs, 7);
    let mut broken = source;
    broken.includes.insert("b.cfg".into(), vec![("/etc/b.cfg".into(), "\n define ;".into())]);
    assert!(parse(&broken).expect_err("broken").to_string().starts_with("/etc/b.cfg:2:9 "));
    assert!(Source::gather("x", "include \"c\";".into(), &mut load).is_err());
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let mut load = |_: &str| Ok(vec![("a".to_owned(), "include \"a\";".to_owned())]);
    let source = Source::gather("a", "include \"a\";".into(), &mut load).expect("it can be read");
    assert!(parse(&source).expect_err("endless").message.contains("nested too deeply"));
}

#[test]
fn configurations_are_equal_when_they_mean_the_same() {
    let text = |limit: u32, blank: &str| {
        ok(&format!(
            "function f() {{ if (bgp_med > {limit}) then {{ reject; }} }} {blank}
             {BGP} ipv4 {{ import filter {{ f(); accept; }}; }}; }}"
        ))
    };
    assert_eq!(text(5, "").protocols, text(5, "\n\n# moved\n").protocols);
    assert_ne!(text(5, "").protocols, text(6, "").protocols, "a function called by a filter counts");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&Source::from_text("x", &text));
    }

    #[test]
    fn arbitrary_words_never_panic(words in proptest::collection::vec(
        prop::sample::select(vec![
            "protocol", "bgp", "static", "kernel", "ipv4", "{", "}", ";", "(", ")", "[", "]", "import", "export",
            "filter", "function", "if", "then", "else", "case", "accept", "10.0.0.0/8", "1", "\"x\"", "=", "~", "!",
            "net", "bgp_path", "[=", "=]", "*", "+", "-", ".", ",", "..", ":", "route", "via", "include", "define", "x",
            "fd00::/8", "template", "from", "empty", "&&", "'q'", "print", "return", "int", "bool",
        ]), 0..40)) {
        let _ = parse(&Source::from_text("x", &words.join(" ")));
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash(depth in 1usize..3000, open in prop::sample::select(vec!["(", "!", "if true then ", "{ ", "defined("])) {
        let _ = parse(&Source::from_text("x", &format!("filter f {{ {}", open.repeat(depth))));
    }
}
