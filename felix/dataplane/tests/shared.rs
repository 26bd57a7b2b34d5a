//! Chains that workloads share, with packets: what is decided in a shared chain is what would be decided in each
//! workload's own. On every backend alike.

mod lab;

use std::sync::Arc;

use felix_dataplane::Config;
use felix_dataplane::config::Backend;
use felix_message::{Action, ActivePolicy, Message, PortRange, Rule};
use lab::probe::{Server, tcp};
use lab::{Felix, Namespace, Pod, allow, deny, policy_key, profile, ready, tier};
use libcalico_api::num_or_string::Protocol;

/// Ports by what the policies say of them.
const DENIED: u16 = 8001;
const PASSED: u16 = 8002;
const ALLOWED: u16 = 8003;
const OWN: u16 = 8004;
const UNKNOWN: u16 = 8005;
const ALL: [u16; 5] = [DENIED, PASSED, ALLOWED, OWN, UNKNOWN];

fn port(action: Action, port: u16) -> Rule {
    let mut rule = Rule { action, protocol: Some(Protocol::Number(6)), ..Rule::default() };
    rule.dst.ports = vec![PortRange { first: port, last: port }];
    rule
}

fn for_all(name: &str, inbound: Vec<Rule>) -> Message {
    selecting("all()", name, inbound)
}

fn selecting(selector: &str, name: &str, inbound: Vec<Rule>) -> Message {
    let p = ActivePolicy { inbound, original_selector: selector.to_owned(), ..ActivePolicy::default() };
    Message::PolicyUpdate(policy_key(name), Arc::new(p))
}

#[test]
fn what_a_shared_chain_decides_is_what_each_pods_own_would() {
    if !ready() {
        return;
    }
    for backend in Backend::ALL {
        let host = Namespace::host();
        let (client, b, c) = (Pod::new(&host, 2), Pod::new(&host, 3), Pod::new(&host, 4));
        let felix = Felix::start(&host, Config { backend, ..Config::default() });
        let servers = [&b, &c].map(|pod| ALL.map(|port| Server::start(&pod.ns, port)));
        // All ports of both at the same time.
        let open = || {
            std::thread::scope(|scope| {
                let probes = [&b, &c].map(|pod| {
                    ALL.map(|port| {
                        (
                            port,
                            scope.spawn({
                                let client = &client.ns;
                                move || tcp(client, pod.v4, port)
                            }),
                        )
                    })
                });
                probes.map(|all| {
                    let open =
                        all.into_iter().filter_map(|(port, probe)| probe.join().unwrap().then_some(port));
                    open.collect::<Vec<_>>()
                })
            })
        };
        felix.apply(vec![
            // The profile lets in what a tier passes on.
            profile("open", vec![allow()], vec![allow()]),
            for_all("a", vec![port(Action::Deny, DENIED), port(Action::Pass, PASSED)]),
            for_all(
                "b",
                vec![port(Action::Allow, ALLOWED), port(Action::Allow, DENIED), port(Action::Deny, PASSED)],
            ),
            selecting("app == 'b'", "own-b", vec![port(Action::Allow, OWN), port(Action::Deny, ALLOWED)]),
            selecting("app == 'c'", "own-c", vec![port(Action::Deny, OWN), allow()]),
            client.endpoint(vec![], &["open"]),
            b.endpoint(vec![tier(&["a", "b", "own-b"], &[])], &["open"]),
            c.endpoint(vec![tier(&["a", "b", "own-c"], &[])], &["open"]),
            Message::InSync,
        ]);
        assert_eq!(open(), [vec![PASSED, ALLOWED, OWN], vec![PASSED, ALLOWED, UNKNOWN]], "{backend:?}");
        // One more for both, and it comes first.
        felix.apply(vec![
            for_all("0", vec![port(Action::Deny, ALLOWED), port(Action::Allow, UNKNOWN)]),
            b.endpoint(vec![tier(&["0", "a", "b", "own-b"], &[])], &["open"]),
            c.endpoint(vec![tier(&["0", "a", "b", "own-c"], &[])], &["open"]),
        ]);
        assert_eq!(open(), [vec![PASSED, OWN, UNKNOWN], vec![PASSED, UNKNOWN]], "{backend:?}");
        // One pod goes its own way; the other's chain is not shared any more.
        felix.apply(vec![
            selecting("has(x)", "between", vec![deny()]),
            b.endpoint(vec![tier(&["0", "a", "between", "b", "own-b"], &[])], &["open"]),
        ]);
        assert_eq!(open(), [vec![PASSED, UNKNOWN], vec![PASSED, UNKNOWN]], "{backend:?}");
        // The same selectors again: nothing but the place has changed.
        felix.apply(vec![
            for_all("between", vec![deny()]),
            c.endpoint(vec![tier(&["0", "a", "between", "b", "own-c"], &[])], &["open"]),
        ]);
        assert_eq!(open(), [vec![PASSED, UNKNOWN], vec![PASSED, UNKNOWN]], "{backend:?}");
        felix.apply(vec![b.endpoint(vec![], &["open"]), c.endpoint(vec![], &["open"])]);
        assert_eq!(open(), [ALL.to_vec(), ALL.to_vec()], "{backend:?}");
        drop(servers);
    }
}
