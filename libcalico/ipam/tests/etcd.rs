//! Many hosts on a real etcd: addresses are distinct, nothing is lost, contention is bounded.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use libcalico_datastore::EtcdConfig;
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_ipam::turns::Turns;
use libcalico_ipam::{AssignRequest, IpamClient, Owner, usage};
use libcalico_testing::RealEtcd;
use support::{State, seed};

fn store(etcd: &RealEtcd) -> Arc<EtcdDatastore> {
    Arc::new(EtcdDatastore::new(EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() }))
}

#[test]
fn forty_hosts_that_assign_at_once_get_distinct_addresses() {
    const HOSTS: usize = 40;
    const EACH: usize = 10;
    let Some(etcd) = RealEtcd::start() else { return };
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let names: Vec<String> = (0..HOSTS).map(|i| format!("node-{i}")).collect();
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        // Fewer blocks than hosts: some must borrow.
        seed(&*store(&etcd), &refs, &[("10.0.0.0/23", 28), ("fd00::/64", 122)]).await;
        let started = Instant::now();
        let tasks: Vec<_> = names
            .iter()
            .cloned()
            .map(|host| {
                let client = IpamClient::new(store(&etcd));
                tokio::spawn(async move {
                    let (mut got, mut conflicts, mut worst) = (Vec::new(), 0, 0);
                    for i in 0..EACH {
                        let request = AssignRequest {
                            num_v6: 1,
                            handle_id: Some(format!("{host}.{i}")),
                            ..AssignRequest::workload(Owner::host(&*host))
                        };
                        let a = client.assign(&request).await.unwrap();
                        conflicts += a.conflicts;
                        worst = worst.max(a.conflicts);
                        got.extend(a.addresses.into_iter().map(|a| a.addr));
                    }
                    (got, conflicts, worst)
                })
            })
            .collect();
        let (mut all, mut conflicts, mut worst) = (BTreeSet::<IpAddr>::new(), 0, 0);
        for t in tasks {
            let (got, c, w) = t.await.unwrap();
            for ip in got {
                assert!(all.insert(ip), "{ip} was given out twice");
            }
            conflicts += c;
            worst = worst.max(w);
        }
        let took = started.elapsed();
        eprintln!(
            "{} dual-stack assignments by {HOSTS} hosts in {took:?}: {:.0}/s, {conflicts} conflicts, at most {worst} in one",
            HOSTS * EACH,
            (HOSTS * EACH) as f64 / took.as_secs_f64()
        );
        assert_eq!(all.len(), HOSTS * EACH * 2);
        let store = store(&etcd);
        State::read(&*store).await.check_at_rest();
        let figures = usage::usage(&*store).await.unwrap();
        assert_eq!((figures[0].in_use, figures[1].in_use), (400, 400));
        let client = IpamClient::new(store.clone());
        for host in &names {
            for i in 0..EACH {
                assert_eq!(client.release_by_handle(&format!("{host}.{i}"), Vec::new()).await.unwrap().len(), 2);
            }
        }
        let state = State::read(&*store).await;
        state.check_at_rest();
        assert!(state.allocated().is_empty());
    });
}

#[test]
fn a_burst_on_one_host_ends_with_an_address_for_each() {
    burst(false);
}

#[test]
fn a_burst_on_one_host_that_queues_up_ends_with_an_address_for_each() {
    burst(true);
}

fn burst(queued: bool) {
    const CALLERS: usize = 32;
    let Some(etcd) = RealEtcd::start() else { return };
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        seed(&*store(&etcd), &["node-a"], &[("10.0.0.0/16", 26)]).await;
        let dir = tempfile::tempdir().unwrap();
        let started = Instant::now();
        // Each caller has a connection of its own, as each call of the plugin has.
        let tasks: Vec<_> = (0..CALLERS)
            .map(|i| {
                let mut client = IpamClient::new(store(&etcd));
                if queued {
                    client = client.with_turns(Turns::at(&dir.path().join("queue")));
                }
                let request = AssignRequest {
                    handle_id: Some(format!("h{i}")),
                    ..AssignRequest::workload(Owner::host("node-a"))
                };
                tokio::spawn(async move { client.assign(&request).await.unwrap() })
            })
            .collect();
        let (mut all, mut conflicts) = (BTreeSet::new(), Vec::new());
        for t in tasks {
            let a = t.await.unwrap();
            assert!(all.insert(a.addresses[0].addr));
            conflicts.push(a.conflicts);
        }
        conflicts.sort_unstable();
        // How many conflicts is told, not judged: it hangs on how busy the machine is.
        let took = started.elapsed();
        eprintln!("{CALLERS} callers on one host, queued: {queued}, in {took:?}: conflicts {conflicts:?}");
        let state = State::read(&*store(&etcd)).await;
        state.check_at_rest();
        assert_eq!((state.blocks.len(), state.claims.len()), (1, 1), "one block is enough for all of them");
    });
}
