//! The servers that other crates' tests stand on do start, answer, die and come back.

use std::time::{Duration, SystemTime};

use libcalico_testing::{EtcdCluster, Pki, RealApiServer, RealEtcd, TokenTimes, within};
use serde_json::json;

#[test]
fn an_etcd_keeps_its_data_through_a_kill() {
    let Some(mut etcd) = RealEtcd::start() else { return };
    etcd.etcdctl(&["put", "/a", "1"]);
    etcd.kill();
    assert!(etcd.id().is_none());
    etcd.run();
    assert_eq!(etcd.etcdctl(&["get", "/a"]), "/a\n1\n");
}

#[test]
fn an_etcd_with_tls_and_one_with_users_answer_their_own_etcdctl() {
    let pki = Pki::new();
    let Some(tls) = RealEtcd::start_tls(&pki) else { return };
    let said = tls.etcdctl(&["put", "/a", "1"]);
    assert!(said.contains("OK"), "{said}");
    let Some(users) = RealEtcd::start_auth("secret") else { return };
    assert!(users.etcdctl(&["put", "/a", "1"]).contains("OK"));
}

#[test]
fn two_of_three_servers_are_enough() {
    let Some(mut cluster) = EtcdCluster::start() else { return };
    cluster.members[0].kill();
    within(Duration::from_secs(180), "a leader", || {
        cluster.members[1].etcdctl(&["put", "/a", "1"]).contains("OK")
    });
    within(Duration::from_secs(180), "what was written, from another member", || {
        cluster.members[2].etcdctl(&["get", "/a"]) == "/a\n1\n"
    });
}

#[test]
fn an_api_server_serves_calicos_kinds_and_knows_its_accounts_tokens() {
    let Some(server) = RealApiServer::start() else { return };
    let set = json!({ "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": { "name": "s" } });
    server.create("/apis/projectcalico.org/v3/globalnetworksets", &set);
    let refused = server.raw("GET", "/apis/projectcalico.org/v3/globalnetworksets/t", None).unwrap_err();
    assert_eq!(refused.status, 404, "{refused}");

    let review = |times| {
        let token = server.account_token("default", "clerk", times);
        let object = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
        server.create("/apis/authentication.k8s.io/v1/tokenreviews", &object)["status"].clone()
    };
    let good = review(TokenTimes::an_hour());
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:clerk", "{good}");
    let past = SystemTime::now() - Duration::from_secs(3600);
    let late = review(TokenTimes { not_before: past, expires: past + Duration::from_secs(600) });
    assert!(late["authenticated"] != true && late["error"].to_string().contains("expired"), "{late}");
}
