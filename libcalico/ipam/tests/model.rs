//! Several hosts at once on one datastore, in random interleavings of their calls: no address twice, none lost, and
//! after any crash the rest can be freed and used.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use libcalico_api::Kind;
use libcalico_datastore::Write;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_ipam::release::ReleaseOptions;
use libcalico_ipam::tunnel::Tunnel;
use libcalico_ipam::{AssignRequest, IpamClient, IpamError, Owner};
use libcalico_model::{Key, Value};
use proptest::prelude::*;
use serde_json::json;
use support::{Behaviour, Client, State, put, seed};
use tokio::task::LocalSet;

const HOSTS: [&str; 3] = ["node-a", "node-b", "node-c"];

#[derive(Clone, Debug)]
enum Op {
    Assign {
        v4: usize,
        v6: usize,
    },
    Fixed(u8),
    /// Release the n-th handle that this host still has.
    Release(usize),
    ReleaseIp(usize),
    GiveUpBlocks {
        only_if_empty: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0usize..3, 0usize..2).prop_map(|(v4, v6)| Op::Assign { v4, v6 }),
        1 => (0u8..16).prop_map(Op::Fixed),
        3 => (0usize..4).prop_map(Op::Release),
        1 => (0usize..4).prop_map(Op::ReleaseIp),
        1 => any::<bool>().prop_map(|only_if_empty| Op::GiveUpBlocks { only_if_empty }),
    ]
}

fn request(host: &str, v4: usize, v6: usize, handle: &str) -> AssignRequest {
    AssignRequest {
        num_v4: v4,
        num_v6: v6,
        handle_id: Some(handle.to_owned()),
        ..AssignRequest::workload(Owner::host(host))
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    rt.block_on(LocalSet::new().run_until(work))
}

type Held = Rc<RefCell<BTreeMap<IpAddr, String>>>;

/// What one host does, one operation after the other.
async fn play(host: &'static str, ops: Vec<Op>, client: IpamClient, held: Held) {
    let mut mine: Vec<(String, Vec<IpAddr>)> = Vec::new();
    let take = |got: Vec<IpAddr>, handle: &str| {
        for ip in got {
            let before = held.borrow_mut().insert(ip, handle.to_owned());
            assert_eq!(before, None, "{ip} was given out twice");
        }
    };
    for (i, op) in ops.into_iter().enumerate() {
        let handle = format!("{host}-{i}");
        match op {
            Op::Assign { v4, v6 } => match client.assign(&request(host, v4, v6, &handle)).await {
                Ok(got) => {
                    let got: Vec<IpAddr> = got.addresses.iter().map(|a| a.addr).collect();
                    assert_eq!(got.len(), v4 + v6);
                    take(got.clone(), &handle);
                    mine.push((handle, got));
                }
                Err(IpamError::Exhausted { .. }) => {}
                Err(e) => panic!("{e}"),
            },
            Op::Fixed(n) => {
                let ip = IpAddr::from([10, 0, 0, n]);
                match client.assign_ip(&request(host, 1, 0, &handle), ip).await {
                    Ok(_) => {
                        take(vec![ip], &handle);
                        mine.push((handle, vec![ip]));
                    }
                    Err(IpamError::InUse { .. } | IpamError::StrictAffinity { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            Op::Release(n) if n < mine.len() => {
                let (handle, ips) = mine.remove(n);
                ips.iter().for_each(|ip| drop(held.borrow_mut().remove(ip)));
                let mut freed = client.release_by_handle(&handle, Vec::new()).await.unwrap();
                freed.sort_unstable();
                let mut ips = ips;
                ips.sort_unstable();
                assert_eq!(freed, ips);
            }
            Op::ReleaseIp(n) if n < mine.len() && !mine[n].1.is_empty() => {
                let ip = mine[n].1.remove(0);
                held.borrow_mut().remove(&ip);
                let r = client.release_ips(&[ReleaseOptions::any(ip)]).await.unwrap();
                assert_eq!(r.freed, [ip]);
            }
            Op::GiveUpBlocks { only_if_empty } => {
                match client.release_all_affinities(&Owner::host(host), only_if_empty).await {
                    Ok(()) | Err(IpamError::BlockNotEmpty { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_given_out_twice_and_none_is_lost(
        plays in proptest::collection::vec(proptest::collection::vec(op(), 1..12), 3),
        yields in proptest::collection::vec(proptest::collection::vec(0usize..6, 1..30), 3),
        strict in any::<bool>(),
    ) {
        block_on(async {
            let store = Arc::new(MemoryDatastore::new());
            seed(&*store, &HOSTS, &[("10.0.0.0/28", 30), ("fd00::/124", 127)]).await;
            let config = libcalico_model::ipam::IpamConfig { strict_affinity: strict, ..Default::default() };
            libcalico_datastore::Datastore::apply(&*store, &Key::IpamConfig, Value::IpamConfig(config)).await.unwrap();
            let held: Held = Rc::default();
            let tasks: Vec<_> = HOSTS
                .into_iter()
                .zip(plays)
                .zip(yields)
                .map(|((host, ops), yields)| {
                    let client = Client::new(&store, Behaviour { yields, ..Behaviour::default() });
                    tokio::task::spawn_local(play(host, ops, IpamClient::new(client), Rc::clone(&held)))
                })
                .collect();
            for t in tasks {
                t.await.unwrap();
            }
            let state = State::read(&*store).await;
            state.check_at_rest();
            assert_eq!(state.allocated(), *held.borrow());
            let client = IpamClient::new(store.clone());
            for handle in state.handles.keys() {
                client.release_by_handle(handle, Vec::new()).await.unwrap();
            }
            let state = State::read(&*store).await;
            assert!(state.allocated().is_empty() && state.handles.is_empty());
        });
    }
}

/// Stops a host at every call, before and after it was done, on stores with and without transactions.
#[test]
fn after_a_crash_at_any_call_everything_can_be_freed_and_used_again() {
    let workload = |client: IpamClient| async move {
        client.assign(&request("node-a", 3, 1, "first")).await.unwrap();
        client.assign_ip(&request("node-a", 1, 0, "fixed"), IpAddr::from([10, 0, 0, 13])).await.unwrap();
        client.assign(&request("node-a", 5, 0, "second")).await.unwrap();
        client.release_by_handle("first", Vec::new()).await.unwrap();
        client.release_by_handle("second", Vec::new()).await.unwrap();
        client.release_all_affinities(&Owner::host("node-a"), false).await.unwrap();
        client.release_ips(&[ReleaseOptions::any(IpAddr::from([10, 0, 0, 13]))]).await.unwrap();
    };
    for one_by_one in [false, true] {
        let mut crashes = 0;
        for n in 0.. {
            let mut died = false;
            for after in [false, true] {
                died |= block_on(async {
                    let store = Arc::new(MemoryDatastore::new());
                    seed(&*store, &HOSTS, &[("10.0.0.0/28", 30), ("fd00::/124", 126)]).await;
                    let client = Client::new(
                        &store,
                        Behaviour { dies_at: Some((n, after)), one_by_one, ..Behaviour::default() },
                    );
                    let task = tokio::task::spawn_local(workload(IpamClient::new(client.clone())));
                    while !task.is_finished() && !*client.died.lock().unwrap() {
                        tokio::task::yield_now().await;
                    }
                    task.abort();
                    recover(&store).await;
                    *client.died.lock().unwrap()
                });
            }
            if !died {
                crashes = n;
                break;
            }
        }
        assert!(crashes > 20, "the workload made only {crashes} calls");
    }
}

/// What the runtime and the garbage collector do after a crash, and that the whole pool can be used then.
async fn recover(store: &Arc<MemoryDatastore>) {
    State::read(&**store).await.check_always();
    let client = IpamClient::new(store.clone());
    // The host goes on working.
    let got = client.assign(&request("node-a", 1, 1, "after")).await.unwrap();
    assert_eq!(got.addresses.len(), 2);
    State::read(&**store).await.check_always();
    for handle in ["first", "second", "fixed", "after"] {
        client.release_by_handle(handle, Vec::new()).await.unwrap();
    }
    let state = State::read(&**store).await;
    state.check_always();
    assert!(state.allocated().is_empty(), "{:?}", state.allocated());
    assert!(state.handles.is_empty(), "{:?}", state.handles);
    // Every address is to be had again, by a host that borrows where it must.
    let got = client.assign(&request("node-b", 16, 0, "all")).await.unwrap();
    assert_eq!(got.addresses.len(), 16);
}

#[test]
fn the_common_assignment_takes_two_reads_and_one_write() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/16", 26), ("fd00::/48", 122)]).await;
        let first = Client::new(&store, Behaviour::default());
        IpamClient::new(first.clone()).assign(&request("node-a", 1, 1, "x")).await.unwrap();
        let second = Client::new(&store, Behaviour::default());
        IpamClient::new(second.clone()).assign(&request("node-a", 1, 1, "y")).await.unwrap();
        assert_eq!((first.calls(), second.calls()), (5, 3));
        let release = Client::new(&store, Behaviour::default());
        IpamClient::new(release.clone()).release_by_handle("y", Vec::new()).await.unwrap();
        assert_eq!(release.calls(), 3);
    });
}

#[test]
fn the_callers_writes_come_with_the_addresses_or_not_at_all() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/16", 26)]).await;
        let client = IpamClient::new(store.clone());
        let node = Key::resource(Kind::Node, "", "node-b");
        let stands = libcalico_datastore::Datastore::get(&*store, &node).await.unwrap();
        let extra = |_: &[libcalico_ipam::Assigned]| vec![Write::Create(node.clone(), stands.value.clone())];
        let snapshot = libcalico_ipam::snapshot::Snapshot::new(Owner::host("node-a"), Some("x".to_owned()));
        let e = client.assign_with(&request("node-a", 1, 0, "x"), snapshot, &extra).await.unwrap_err();
        assert!(e.to_string().contains("already exists"), "{e}");
        let state = State::read(&*store).await;
        assert!(state.allocated().is_empty() && state.handles.is_empty());
    });
}

#[test]
fn settings_of_the_cluster_are_kept() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/29", 30)]).await;
        put(&*store, Kind::IPReservation, "r", json!({"reservedCIDRs": ["10.0.0.1", "10.0.0.4/31"]})).await;
        let client = IpamClient::new(store.clone());
        let set = async |strict, auto, max| {
            let config = libcalico_model::ipam::IpamConfig {
                strict_affinity: strict,
                auto_allocate_blocks: auto,
                max_blocks_per_host: max,
                ..Default::default()
            };
            libcalico_datastore::Datastore::apply(&*store, &Key::IpamConfig, Value::IpamConfig(config))
                .await
                .unwrap();
        };
        set(true, true, 1).await;
        let first = client.assign(&request("node-a", 2, 0, "a")).await.unwrap();
        assert!(
            first
                .addresses
                .iter()
                .all(|a| !["10.0.0.1", "10.0.0.4", "10.0.0.5"].contains(&a.addr.to_string().as_str()))
        );
        let e = client.assign(&request("node-a", 4, 0, "b")).await.unwrap_err();
        assert!(e.to_string().contains("per host block limit"), "{e}");
        client.assign(&request("node-b", 1, 0, "b")).await.unwrap();
        let e = client.assign(&request("node-c", 1, 0, "c")).await.unwrap_err();
        assert!(e.to_string().contains("strictAffinity"), "{e}");
        set(false, true, 0).await;
        client.assign(&request("node-c", 1, 0, "c")).await.unwrap();
        let e = client.assign(&request("node-c", 9, 0, "d")).await.unwrap_err();
        assert!(matches!(e, IpamError::Exhausted { wanted: 9, available: 1, .. }), "{e}");
        set(false, false, 0).await;
        client.assign(&request("node-c", 1, 0, "d")).await.unwrap();
        State::read(&*store).await.check_at_rest();
    });
}

#[test]
fn an_address_is_freed_also_when_its_pool_is_gone() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/24", 28)]).await;
        let client = IpamClient::new(store.clone());
        let got = client.assign(&request("node-a", 2, 0, "x")).await.unwrap();
        let pool = Key::resource(Kind::IPPool, "", "pool-0");
        put(&*store, Kind::IPPool, "pool-0", json!({"cidr": "10.0.0.0/24", "blockSize": 26})).await;
        let r = client.release_ips(&[ReleaseOptions::any(got.addresses[0].addr)]).await.unwrap();
        assert_eq!(r.freed, [got.addresses[0].addr]);
        libcalico_datastore::Datastore::delete(&*store, &pool, None).await.unwrap();
        let unknown = IpAddr::from([192, 0, 2, 1]);
        let options = [got.addresses[1].addr, unknown].map(ReleaseOptions::any);
        let r = client.release_ips(&options).await.unwrap();
        assert_eq!((r.freed, r.not_assigned), (vec![got.addresses[1].addr], vec![unknown]));
        assert!(State::read(&*store).await.handles.is_empty());
    });
}

#[test]
fn a_late_release_does_not_take_the_address_of_the_next_tenant() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/32", 32)]).await;
        let client = IpamClient::new(store.clone());
        let ip = client.assign(&request("node-a", 1, 0, "x")).await.unwrap().addresses[0].addr;
        let blocks = State::read(&*store).await.blocks;
        let number = blocks.values().next().unwrap().sequence_number_for_allocation["0"];
        client.release_by_handle("x", Vec::new()).await.unwrap();
        client.assign(&request("node-a", 1, 0, "y")).await.unwrap();
        let late = |handle: Option<&str>, number| ReleaseOptions {
            addr: ip,
            handle: handle.map(str::to_owned),
            sequence_number: number,
        };
        for options in [late(Some("x"), None), late(None, Some(number))] {
            assert_eq!(client.release_ips(&[options]).await.unwrap().not_assigned, [ip]);
        }
        assert_eq!(client.release_ips(&[late(Some("y"), None)]).await.unwrap().freed, [ip]);
    });
}

#[test]
fn a_tunnel_keeps_its_address() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/24", 26)]).await;
        let client = IpamClient::new(store.clone());
        let pools = ["10.0.0.0/24".to_owned()];
        let first = client.claim_tunnel_address("node-a", Tunnel::Ipip, &pools).await.unwrap();
        assert_eq!(client.claim_tunnel_address("node-a", Tunnel::Ipip, &pools).await.unwrap(), first);
        assert_ne!(client.claim_tunnel_address("node-a", Tunnel::Vxlan, &pools).await.unwrap(), first);
        let state = State::read(&*store).await;
        assert_eq!(state.allocated()[&first], "ipip-tunnel-addr-node-a");
        client.release_tunnel_address("node-a", Tunnel::Ipip).await.unwrap();
        client.release_tunnel_address("node-a", Tunnel::Vxlan).await.unwrap();
        assert!(State::read(&*store).await.handles.is_empty());
    });
}
