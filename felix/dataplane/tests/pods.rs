//! Two pods and a host in namespaces: what policy allows passes, what it denies does not.

mod lab;

use felix_dataplane::Config;
use felix_message::Message;
use lab::{Felix, Namespace, Pod, allow, deny, policy, profile, ready, tier};

#[test]
fn allowed_passes_and_denied_does_not() {
    if !ready() {
        return;
    }
    let host = Namespace::new();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let felix = Felix::start(&host, Config::default());
    felix.apply(vec![
        profile("open", vec![allow()], vec![allow()]),
        a.endpoint(vec![], &["open"]),
        b.endpoint(vec![], &["open"]),
        Message::InSync,
    ]);
    println!("{}", host.must("nft list ruleset; ip route; ip -6 route"));
    assert!(a.ping(b.v4), "v4");
    assert!(a.ping(b.v6), "v6");
    felix.apply(vec![policy("no", vec![deny()], vec![]), b.endpoint(vec![tier(&["no"], &[])], &["open"])]);
    assert!(!a.ping(b.v4), "denied v4");
    assert!(!a.ping(b.v6), "denied v6");
}
