//! What is counted for metrics: transactions and runs of programs, not applies. A binary of its own, since the counters
//! are the process's.

mod lab;

use std::sync::Arc;
use std::time::Instant;

use felix_dataplane::Config;
use felix_dataplane::apply::Dataplane;
use felix_dataplane::config::Backend;
use felix_dataplane::tally::TALLY;
use felix_message::{IpSetDelta, IpSetMember, Message, WorkloadEndpoint};
use lab::{Namespace, allow, one_policy, one_set, profile, ready, run, tier};
use libcalico_model::key::WorkloadEndpointKey;

fn endpoint() -> Message {
    let e = WorkloadEndpoint {
        active: true,
        interface_name: "cali1".to_owned(),
        profiles: vec!["open".to_owned()],
        ipv4_nets: vec!["10.65.0.2/32".parse().unwrap()],
        tiers: vec![tier(&["p1"], &[])].into(),
        ..WorkloadEndpoint::default()
    };
    let key = WorkloadEndpointKey {
        host: "host".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: "default/w".to_owned(),
        endpoint: "eth0".to_owned(),
    };
    Message::WorkloadEndpointUpdate(key, Arc::new(e))
}

/// More calls and errors since the last question.
struct Since(u64, u64);

impl Since {
    fn now() -> Self {
        Self(TALLY.table_calls.get(), TALLY.table_errors.get())
    }

    fn more(&mut self) -> (u64, u64) {
        let before = std::mem::replace(self, Self::now());
        (self.0 - before.0, self.1 - before.1)
    }
}

fn counts(backend: Backend) {
    let host = Namespace::host();
    let done = host.inside(move || {
        let mut since = Since::now();
        let mut dataplane = Dataplane::new(Arc::new(Config { backend, ..Config::default() })).unwrap();
        let mut apply = |messages: Vec<Message>| {
            messages.iter().for_each(|m| dataplane.on_message(m));
            dataplane.apply(Instant::now()).map(drop)
        };
        let open = profile("open", vec![allow()], vec![allow()]);
        apply(vec![open, one_set(1), one_policy(1, 80, "x"), endpoint(), Message::InSync]).unwrap();
        // New sets go before the tables that look into them; iptables has a program for each family.
        assert_eq!(since.more(), (2, 0), "{backend:?}");
        apply(vec![]).unwrap();
        assert_eq!(since.more(), (0, 0), "{backend:?}");
        let member = IpSetMember::Net("10.99.0.1/32".parse().unwrap());
        let delta = IpSetDelta { id: "s:set1".into(), added: vec![member], removed: vec![] };
        apply(vec![Message::IpSetDelta(delta)]).unwrap();
        let of_sets = u64::from(backend == Backend::Nftables);
        assert_eq!(
            since.more(),
            (of_sets, 0),
            "{backend:?}: members of IP sets are nothing to iptables-restore"
        );
        // Everything went behind our back, and what is written next cannot stand alone.
        run("nft flush ruleset; iptables-legacy -F; iptables-legacy -X; ipset destroy || true");
        apply(vec![one_policy(1, 81, "x")]).unwrap_err();
        let (calls, errors) = since.more();
        assert!(calls >= 1 && errors == 1, "{backend:?}: {calls} {errors}");
    });
    done.join().unwrap();
}

#[test]
fn each_write_to_tables_is_counted_and_each_that_failed_and_nothing_else() {
    if ready() {
        counts(Backend::Nftables);
        counts(Backend::IptablesNft);
    }
}
