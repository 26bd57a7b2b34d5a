//! A burst on one host with a real API server, each caller with a connection of its own, as calls of the plugin have.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use libcalico_datastore::{KubernetesConfig, KubernetesDatastore};
use libcalico_ipam::turns::Turns;
use libcalico_ipam::{AssignRequest, IpamClient, Owner};
use libcalico_testing::RealApiServer;
use serde_json::json;
use support::{State, seed};

#[test]
fn a_burst_on_one_host_gives_each_caller_an_address_of_one_block() {
    const CALLERS: usize = 24;
    let Some(server) = RealApiServer::start() else { return };
    let kubeconfig = server.kubeconfig().display().to_string();
    let store = || {
        let config = KubernetesConfig { kubeconfig: Some(kubeconfig.clone()), ..KubernetesConfig::default() };
        Arc::new(KubernetesDatastore::new(config))
    };
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-a" }, "spec": {} });
    server.create("/api/v1/nodes", &node);
    let dir = tempfile::tempdir().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        seed(&*store(), &[], &[("10.0.0.0/16", 26)]).await;
        for (round, queued) in [false, true, false, true].into_iter().enumerate() {
            let started = Instant::now();
            let tasks: Vec<_> = (0..CALLERS)
                .map(|i| {
                    let mut client = IpamClient::new(store());
                    if queued {
                        client = client.with_turns(Turns::at(&dir.path().join("queue")));
                    }
                    let handle_id = Some(format!("h{round}-{i}"));
                    let request =
                        AssignRequest { handle_id, ..AssignRequest::workload(Owner::host("node-a")) };
                    tokio::spawn(async move { client.assign(&request).await.unwrap() })
                })
                .collect();
            let (mut all, mut conflicts) = (BTreeSet::new(), 0);
            for t in tasks {
                let a = t.await.unwrap();
                assert!(all.insert(a.addresses[0].addr));
                conflicts += a.conflicts;
            }
            // How many conflicts is told, not judged: it hangs on how busy the machine is.
            let took = started.elapsed();
            eprintln!("{CALLERS} callers, queued: {queued}, in {took:?}: {conflicts} conflicts");
            let client = IpamClient::new(store());
            for i in 0..CALLERS {
                let freed = client.release_by_handle(&format!("h{round}-{i}"), Vec::new()).await.unwrap();
                assert_eq!(freed.len(), 1);
            }
        }
        let state = State::read(&*store()).await;
        state.check_always();
        assert_eq!((state.blocks.len(), state.claims.len(), state.allocated().len()), (1, 1, 0));
    });
}
