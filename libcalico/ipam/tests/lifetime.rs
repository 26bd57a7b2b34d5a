//! An address from its assignment to its next: asked for twice, released by handle, at rest, and through crashes on a
//! store that does batches in part.

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_api::Kind;
use libcalico_api::ip_pool::AllowedUse;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::{Datastore, Write};
use libcalico_ipam::vm::{OwnerChange, Tenant, vm_handle};
use libcalico_ipam::{AssignRequest, IpamClient, IpamError, Owner, block};
use libcalico_model::ipam::IpamConfig;
use libcalico_model::{Key, Value};
use serde_json::json;
use support::{Behaviour, Client, State, put, seed};
use tokio::task::LocalSet;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    rt.block_on(LocalSet::new().run_until(work))
}

fn once(host: &str, handle: &str, v4: usize, v6: usize) -> AssignRequest {
    AssignRequest {
        num_v4: v4,
        num_v6: v6,
        handle_id: Some(handle.to_owned()),
        once: true,
        ..AssignRequest::workload(Owner::host(host))
    }
}

async fn configure(store: &dyn Datastore, change: impl FnOnce(&mut IpamConfig)) {
    let mut config = IpamConfig::default();
    change(&mut config);
    store.apply(&Key::IpamConfig, Value::IpamConfig(config)).await.unwrap();
}

fn addresses(a: &libcalico_ipam::client::Assignment) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = a.addresses.iter().map(|a| a.addr).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_handle_of_one_workload_gets_the_same_addresses_when_it_asks_again() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a", "node-b"], &[("10.0.0.0/24", 28), ("fd00::/48", 122)]).await;
        let client = IpamClient::new(store.clone());
        let first = client.assign(&once("node-a", "vm", 1, 0)).await.unwrap();
        // Asked elsewhere, as a virtual machine that moves does, and for a family more.
        let second = client.assign(&once("node-b", "vm", 1, 1)).await.unwrap();
        assert_eq!(second.addresses.len(), 2);
        assert!(second.addresses.contains(&first.addresses[0]));
        let third = client.assign_ip(&once("node-b", "vm", 1, 0), first.addresses[0].addr).await.unwrap();
        assert_eq!(third.addresses, first.addresses);
        let state = State::read(&*store).await;
        state.check_at_rest();
        assert_eq!(state.allocated().len(), 2);
        assert_eq!(client.release_by_handle("vm", Vec::new()).await.unwrap().len(), 2);
        assert!(State::read(&*store).await.handles.is_empty());
    });
}

/// However the first attempt ended, the second gives what was asked for and nothing more is taken.
#[test]
fn an_assignment_that_was_killed_anywhere_goes_on_where_it_stopped() {
    block_on(async {
        for call in 1..20 {
            for after in [false, true] {
                let store = Arc::new(MemoryDatastore::new());
                seed(&*store, &["node-a"], &[("10.0.0.0/24", 28), ("fd00::/48", 122)]).await;
                let behaviour =
                    Behaviour { one_by_one: true, dies_at: Some((call, after)), ..Behaviour::default() };
                let dying = IpamClient::new(Client::new(&store, behaviour));
                let request = once("node-a", "pod", 1, 1);
                let killed = tokio::time::timeout(Duration::from_millis(20), dying.assign(&request)).await;
                let client = IpamClient::new(Client::new(
                    &store,
                    Behaviour { one_by_one: true, ..Behaviour::default() },
                ));
                let got = client.assign(&request).await.unwrap();
                assert_eq!(got.addresses.len(), 2, "killed at call {call}");
                if let Ok(Ok(first)) = killed {
                    assert_eq!(addresses(&first), addresses(&got));
                }
                let state = State::read(&*store).await;
                state.check_at_rest();
                assert_eq!(state.allocated().len(), 2, "killed at call {call}");
            }
        }
    });
}

#[test]
fn a_conflict_in_the_middle_of_a_batch_takes_no_second_address() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a"], &[("10.0.0.0/24", 28), ("fd00::/48", 122)]).await;
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let behaviour = Behaviour { one_by_one: true, ..Behaviour::default() };
                let client = IpamClient::new(Client::new(&store, behaviour));
                tokio::task::spawn_local(async move {
                    let request = AssignRequest { once: false, ..once("node-a", &format!("pod-{i}"), 1, 1) };
                    client.assign(&request).await.unwrap()
                })
            })
            .collect();
        let mut given = Vec::new();
        for t in tasks {
            given.extend(addresses(&t.await.unwrap()));
        }
        let state = State::read(&*store).await;
        state.check_at_rest();
        assert_eq!((given.len(), state.allocated().len()), (16, 16));
    });
}

#[test]
fn a_released_address_rests_as_long_as_the_cluster_says() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a"], &[("10.0.0.0/31", 31)]).await;
        configure(&*store, |c| c.ip_cooldown_seconds = Some(3600)).await;
        let client = IpamClient::new(store.clone());
        let first = client.assign(&once("node-a", "a", 1, 0)).await.unwrap();
        let released = Instant::now();
        client.release_by_handle("a", Vec::new()).await.unwrap();
        let state = State::read(&*store).await;
        assert!(state.handles.is_empty() && state.allocated().is_empty());
        assert_eq!(block::in_use(state.blocks.values().next().unwrap()), 1);
        let second = client.assign(&once("node-a", "b", 1, 0)).await.unwrap();
        assert_ne!(first.addresses, second.addresses);
        let e = client.assign(&once("node-a", "c", 1, 0)).await.unwrap_err();
        assert!(matches!(e, IpamError::Exhausted { .. }), "{e}");
        configure(&*store, |c| c.ip_cooldown_seconds = Some(1)).await;
        let third = loop {
            match client.assign(&once("node-a", "c", 1, 0)).await {
                Ok(got) => break got,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            assert!(released.elapsed() < Duration::from_secs(60));
        };
        assert!(released.elapsed() >= Duration::from_secs(1));
        assert_eq!(third.addresses, first.addresses);
    });
}

#[test]
fn blocks_that_nobody_uses_lose_their_rested_addresses_when_they_are_collected() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a"], &[("10.0.0.0/24", 28)]).await;
        configure(&*store, |c| c.ip_cooldown_seconds = Some(600)).await;
        let client = IpamClient::new(store.clone());
        client.assign(&once("node-a", "a", 2, 0)).await.unwrap();
        client.release_by_handle("a", Vec::new()).await.unwrap();
        client.release_all_affinities(&Owner::host("node-a"), false).await.unwrap();
        assert_eq!(client.collect_rested().await.unwrap(), 0);
        assert_eq!(State::read(&*store).await.blocks.len(), 1);
        configure(&*store, |c| c.ip_cooldown_seconds = None).await;
        assert_eq!(client.collect_rested().await.unwrap(), 1);
        assert!(State::read(&*store).await.blocks.is_empty(), "a block of nobody goes with its last address");
    });
}

#[test]
fn pools_are_chosen_by_the_labels_of_the_namespace() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a"], &[]).await;
        let pool = |cidr: &str, selector: &str| json!({"cidr": cidr, "blockSize": 28, "namespaceSelector": selector});
        put(&*store, Kind::IPPool, "shop", pool("10.1.0.0/24", "team == 'shop'")).await;
        put(&*store, Kind::IPPool, "rest", pool("10.2.0.0/24", "!has(team)")).await;
        let client = IpamClient::new(store.clone());
        let of = async |handle: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let request = AssignRequest { namespace_labels: Some(labels), ..once("node-a", handle, 1, 0) };
            client.assign(&request).await.map(|a| a.addresses[0].addr.to_string())
        };
        assert!(of("a", &[("team", "shop")]).await.unwrap().starts_with("10.1."));
        assert!(of("b", &[]).await.unwrap().starts_with("10.2."));
        let e = of("c", &[("team", "other")]).await.unwrap_err();
        assert!(e.to_string().contains("namespaceSelector"), "{e}");
    });
}

#[test]
fn a_pool_gives_addresses_for_its_uses_alone() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a"], &[]).await;
        let pool = |cidr: &str, uses: &[&str]| json!({"cidr": cidr, "blockSize": 28, "allowedUses": uses});
        put(&*store, Kind::IPPool, "pods", pool("10.1.0.0/24", &["Workload"])).await;
        put(&*store, Kind::IPPool, "tunnels", pool("10.2.0.0/24", &["Tunnel"])).await;
        let service = json!({"cidr": "10.3.0.0/24", "blockSize": 28, "allowedUses": ["LoadBalancer"], "assignmentMode": "Automatic"});
        put(&*store, Kind::IPPool, "services", service).await;
        let client = IpamClient::new(store.clone());
        for (owner, intended_use, prefix) in [
            (Owner::host("node-a"), AllowedUse::Workload, "10.1."),
            (Owner::host("node-a"), AllowedUse::Tunnel, "10.2."),
            (Owner::load_balancer(), AllowedUse::LoadBalancer, "10.3."),
        ] {
            let request = AssignRequest { intended_use, ..AssignRequest::workload(owner) };
            let got = client.assign(&request).await.unwrap();
            assert!(got.addresses[0].addr.to_string().starts_with(prefix), "{got:?}");
        }
        let state = State::read(&*store).await;
        let virtual_block = state.blocks.values().find(|b| b.cidr.to_string().starts_with("10.3.")).unwrap();
        assert_eq!(block::owner_text(virtual_block).as_deref(), Some("virtual:load-balancer"));
    });
}

#[test]
fn the_callers_writes_come_last_where_a_batch_is_done_in_part() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a", "node-b"], &[("10.0.0.0/24", 28)]).await;
        let behaviour = Behaviour { one_by_one: true, ..Behaviour::default() };
        let client = IpamClient::new(Client::new(&store, behaviour));
        let node = Key::resource(Kind::Node, "", "node-b");
        let stands = store.get(&node).await.unwrap();
        let extra = |_: &[libcalico_ipam::Assigned]| vec![Write::Create(node.clone(), stands.value.clone())];
        let snapshot = libcalico_ipam::snapshot::Snapshot::new(Owner::host("node-a"), Some("x".to_owned()));
        let e = client.assign_with(&once("node-a", "x", 1, 0), snapshot, &extra).await.unwrap_err();
        assert!(e.to_string().contains("already exists"), "{e}");
        // What was done is found, and freed, by the handle.
        assert_eq!(client.release_by_handle("x", Vec::new()).await.unwrap().len(), 1);
        assert!(State::read(&*store).await.allocated().is_empty());
    });
}

#[test]
fn a_machine_keeps_its_addresses_while_its_pods_come_and_go() {
    block_on(async {
        let store = Arc::new(MemoryDatastore::new());
        seed(&*store, &["node-a", "node-b"], &[("10.0.0.0/24", 28), ("fd00::/48", 122)]).await;
        let client = IpamClient::new(store.clone());
        let handle = vm_handle("k8s-pod-network", "default", "vm1");
        let tenant = |pod: &str| Tenant { namespace: "default".to_owned(), pod: pod.to_owned() };
        let attributes = |pod: &str| {
            let pairs = [("namespace", "default"), ("pod", pod)];
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let of = |host: &str, pod: &str| AssignRequest {
            attributes: attributes(pod),
            ..once(host, &handle, 1, 1)
        };
        let first = client.assign(&of("node-a", "p1")).await.unwrap();
        // The machine moves: the same addresses, and two pods that have them.
        let target = client.assign(&of("node-b", "p2")).await.unwrap();
        assert_eq!(addresses(&first), addresses(&target));
        client.set_owners(&handle, &OwnerChange::Alternate(attributes("p2"))).await.unwrap();
        client.set_owners(&handle, &OwnerChange::Promote(tenant("p2"))).await.unwrap();
        let left = client.set_owners(&handle, &OwnerChange::Gone(tenant("p1"))).await.unwrap();
        assert!(left.len() == 2 && left.iter().all(|a| a.owned), "{left:?}");
        let left = client.set_owners(&handle, &OwnerChange::Gone(tenant("p2"))).await.unwrap();
        assert!(left.len() == 2 && left.iter().all(|a| !a.owned), "{left:?}");
        State::read(&*store).await.check_at_rest();
        client.release_by_handle(&handle, Vec::new()).await.unwrap();
        assert!(client.set_owners(&handle, &OwnerChange::Gone(tenant("p2"))).await.unwrap().is_empty());
    });
}
