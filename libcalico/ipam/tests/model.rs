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
use libcalico_model::ipam::IpamConfig;
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

/// What one player of a host does, one operation after the other. Players have numbers, and a store with transactions or
/// not.
async fn play(host: &'static str, player: (usize, bool), ops: Vec<Op>, client: IpamClient, held: Held) {
    let (player, transactions) = player;
    let mut mine: Vec<(String, Vec<IpAddr>)> = Vec::new();
    let take = |got: Vec<IpAddr>, handle: &str| {
        for ip in got {
            let before = held.borrow_mut().insert(ip, handle.to_owned());
            assert_eq!(before, None, "{ip} was given out twice");
        }
    };
    for (i, op) in ops.into_iter().enumerate() {
        let handle = format!("{host}-{player}-{i}");
        match op {
            Op::Assign { v4, v6 } => match client.assign(&request(host, v4, v6, &handle)).await {
                Ok(got) => {
                    let got: Vec<IpAddr> = got.addresses.iter().map(|a| a.addr).collect();
                    assert_eq!(got.len(), v4 + v6);
                    take(got.clone(), &handle);
                    mine.push((handle, got));
                }
                // Without transactions a part may be written: the plugin undoes it, as here.
                Err(IpamError::Exhausted { .. }) => undo(&client, &handle).await,
                Err(e) => panic!("{e}"),
            },
            Op::Fixed(n) => {
                let ip = IpAddr::from([10, 0, 0, n]);
                match client.assign_ip(&request(host, 1, 0, &handle), ip).await {
                    Ok(_) => {
                        take(vec![ip], &handle);
                        mine.push((handle, vec![ip]));
                    }
                    Err(IpamError::InUse { .. } | IpamError::StrictAffinity { .. }) => {
                        undo(&client, &handle).await;
                    }
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
                // Without transactions the answer is what the last of several attempts freed.
                assert!(
                    freed == ips || !transactions && freed.iter().all(|ip| ips.contains(ip)),
                    "{freed:?} of {ips:?}"
                );
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

async fn undo(client: &IpamClient, handle: &str) {
    client.release_by_handle(handle, Vec::new()).await.unwrap();
}

/// The hosts' plays at once, and what must hold afterwards.
async fn at_once(players: Vec<(&'static str, Vec<Op>, Behaviour)>, settings: IpamConfig) {
    let store = Arc::new(MemoryDatastore::new());
    seed(&*store, &HOSTS, &[("10.0.0.0/28", 30), ("fd00::/124", 127)]).await;
    let limit = settings.max_blocks_per_host as usize;
    let transactions = players.iter().all(|(.., b)| !b.one_by_one);
    let value = Value::IpamConfig(settings);
    libcalico_datastore::Datastore::apply(&*store, &Key::IpamConfig, value).await.unwrap();
    let held: Held = Rc::default();
    let tasks: Vec<_> = players
        .into_iter()
        .enumerate()
        .map(|(n, (host, ops, behaviour))| {
            let client = IpamClient::new(Client::new(&store, behaviour));
            tokio::task::spawn_local(play(host, (n, transactions), ops, client, Rc::clone(&held)))
        })
        .collect();
    for t in tasks {
        t.await.unwrap();
    }
    let state = State::read(&*store).await;
    state.check_always();
    if transactions {
        state.check_at_rest();
    }
    assert_eq!(state.allocated(), *held.borrow());
    for host in HOSTS.iter().filter(|_| limit > 0) {
        for v4 in [true, false] {
            let claims = state.claims.keys().filter(|(h, c)| h == host && c.addr().is_ipv4() == v4).count();
            assert!(claims <= limit, "{host} has {claims} blocks of at most {limit}");
        }
    }
    let client = IpamClient::new(store.clone());
    for handle in state.handles.keys() {
        client.release_by_handle(handle, Vec::new()).await.unwrap();
    }
    let state = State::read(&*store).await;
    assert!(state.allocated().is_empty() && state.handles.is_empty());
}

fn plays(n: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    proptest::collection::vec(proptest::collection::vec(op(), 1..12), n)
}

fn yields(n: usize) -> impl Strategy<Value = Vec<Vec<usize>>> {
    proptest::collection::vec(proptest::collection::vec(0usize..6, 1..30), n)
}

/// Lists from a cache: sometimes new, sometimes a few writes old, sometimes from before there was anything.
fn ages(n: usize) -> impl Strategy<Value = Vec<Vec<u64>>> {
    let age = prop_oneof![2 => Just(0), 4 => 1u64..12, 2 => 12u64..80, 1 => Just(u64::MAX)];
    proptest::collection::vec(proptest::collection::vec(age, 1..10), n)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_given_out_twice_and_none_is_lost(
        plays in plays(3),
        yields in yields(3),
        strict in any::<bool>(),
    ) {
        let behaviours = yields.into_iter().zip(HOSTS).map(|(yields, host)| {
            Behaviour { yields, strict: strict.then_some(host), ..Behaviour::default() }
        });
        let players = HOSTS.into_iter().zip(plays).zip(behaviours).map(|((h, p), b)| (h, p, b)).collect();
        let settings = IpamConfig { strict_affinity: strict, ..IpamConfig::default() };
        block_on(at_once(players, settings));
    }

    /// The same on a store that answers lists with any earlier state, with and without transactions. One player is a host:
    /// two of one host may pass a limit together, whatever they read.
    #[test]
    fn lists_of_any_age_neither_double_nor_lose_an_address_nor_pass_a_limit(
        plays in plays(3),
        yields in yields(3),
        ages in ages(3),
        one_by_one in any::<bool>(),
        strict in any::<bool>(),
        limit in 0u32..4,
    ) {
        let players = HOSTS.into_iter().zip(plays).zip(yields.into_iter().zip(ages)).map(|((host, mut ops), (yields, ages))| {
            let strict = strict.then_some(host);
            // Who names an address gets its block, as with upstream: the limit is not for them.
            ops.retain(|op| limit == 0 || !matches!(op, Op::Fixed(_)));
            (host, ops, Behaviour { yields, ages, one_by_one, strict, ..Behaviour::default() })
        });
        let settings =
            IpamConfig { strict_affinity: strict, max_blocks_per_host: limit, ..IpamConfig::default() };
        block_on(at_once(players.collect(), settings));
    }

    /// Two processes of each host at once, as kubelet starts them.
    #[test]
    fn processes_of_one_host_with_lists_of_any_age_neither_double_nor_lose_an_address(
        plays in plays(4),
        yields in yields(4),
        ages in ages(4),
        one_by_one in any::<bool>(),
        strict in any::<bool>(),
    ) {
        let hosts = [HOSTS[0], HOSTS[0], HOSTS[1], HOSTS[1]];
        let players = hosts.into_iter().zip(plays).zip(yields.into_iter().zip(ages)).map(|((host, mut ops), (yields, ages))| {
            let strict = strict.then_some(host);
            // A node that leaves gives up its blocks when its pods are gone. Where it does so beside an assignment, and the
            // store has no transactions, a block may stand without its claim until that host next needs a block.
            ops.retain(|op| !one_by_one || !matches!(op, Op::GiveUpBlocks { .. }));
            (host, ops, Behaviour { yields, ages, one_by_one, strict, ..Behaviour::default() })
        });
        let settings = IpamConfig { strict_affinity: strict, ..IpamConfig::default() };
        block_on(at_once(players.collect(), settings));
    }
}

#[test]
fn lists_from_a_cache_cost_one_more_read_where_a_new_block_is_needed_and_none_where_not() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/16", 30)]).await;
        let stale = |age| Client::new(&store, Behaviour { ages: vec![age], ..Behaviour::default() });
        let calls = async |age, handle: &str| {
            let client = stale(age);
            IpamClient::new(client.clone()).assign(&request("node-a", 1, 0, handle)).await.unwrap();
            client.calls()
        };
        // Lists; all blocks and the newest lists; the claim; the result.
        assert_eq!(calls(0, "first").await, 4);
        // Lists; the block; the result.
        assert_eq!(calls(0, "second").await, 3);
        // The cache does not know of the claim: lists; all blocks and the newest lists, which name it; the result.
        assert_eq!(calls(6, "third").await, 3);
        // From before there was a pool.
        assert_eq!(calls(u64::MAX, "fourth").await, 4);
        let state = State::read(&*store).await;
        assert_eq!((state.blocks.len(), state.allocated().len()), (1, 4));
        state.check_at_rest();
    });
}

#[test]
fn a_block_that_was_given_up_is_not_used_whatever_a_cache_says() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &HOSTS, &[("10.0.0.0/30", 30)]).await;
        let config = IpamConfig { strict_affinity: true, ..IpamConfig::default() };
        libcalico_datastore::Datastore::apply(&*store, &Key::IpamConfig, Value::IpamConfig(config))
            .await
            .unwrap();
        let client = IpamClient::new(store.clone());
        client.assign(&request("node-a", 1, 0, "node-a-0")).await.unwrap();
        client.release_by_handle("node-a-0", Vec::new()).await.unwrap();
        let before = store.revision().0.parse::<u64>().unwrap();
        client.release_all_affinities(&Owner::host("node-a"), true).await.unwrap();
        client.assign(&request("node-b", 1, 0, "node-b-0")).await.unwrap();
        let age = store.revision().0.parse::<u64>().unwrap() - before;
        let stale = Client::new(
            &store,
            Behaviour { ages: vec![age], strict: Some("node-a"), ..Behaviour::default() },
        );
        let e = IpamClient::new(stale).assign(&request("node-a", 1, 0, "node-a-1")).await.unwrap_err();
        assert!(e.to_string().contains("strictAffinity"), "{e}");
        State::read(&*store).await.check_at_rest();
    });
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
            let config = IpamConfig {
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
