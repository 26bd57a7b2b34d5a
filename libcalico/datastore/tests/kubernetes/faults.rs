//! What happens when the API server dies, goes silent, forgets, or refuses; and credentials that change.

use std::time::{Duration, SystemTime};

use libcalico_datastore::{Datastore, DatastoreError, KubernetesConfig, KubernetesDatastore};
use libcalico_testing::TokenTimes;
use serde_json::json;

use crate::server::ApiServer;
use crate::support::contract::{key, scope};
use crate::support::faults::faults;

#[tokio::test]
async fn faults_are_told_and_survived() {
    let Some(mut server) = ApiServer::start_for_faults() else { return };
    faults(&mut server).await;
}

#[tokio::test]
async fn credentials_are_refused_with_a_reason_and_taken_when_they_are_renewed() {
    let Some(server) = ApiServer::start() else { return };
    credentials_that_are_refused_are_told(&server).await;
    a_token_is_read_again_from_its_file_when_it_is_refused(&server).await;
    a_kubeconfig_that_is_written_again_is_read_again(&server).await;
    a_client_certificate_is_read_again_when_it_is_refused(&server).await;
}

async fn credentials_that_are_refused_are_told(server: &ApiServer) {
    let wrong = KubernetesConfig { token: Some("wrong".into()), ..server.config() };
    let store = KubernetesDatastore::new(wrong);
    let refused = store.get(&key("x")).await;
    assert!(matches!(refused, Err(DatastoreError::Unauthorized(_))), "{refused:?}");
    assert!(store.watch(&scope(), &Default::default()).await.is_err());
    let unknown = KubernetesConfig { ca_file: None, ..server.config() };
    let error = KubernetesDatastore::new(unknown).get(&key("x")).await.unwrap_err();
    assert!(matches!(error, DatastoreError::Unreachable { .. }), "{error}");
    let nobody = KubernetesConfig { kubeconfig: Some("/no/such/file".into()), ..KubernetesConfig::default() };
    let error = KubernetesDatastore::new(nobody).get(&key("x")).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}

fn by_kubeconfig(path: &std::path::Path) -> KubernetesDatastore {
    let kubeconfig = Some(path.display().to_string());
    KubernetesDatastore::new(KubernetesConfig { kubeconfig, ..KubernetesConfig::default() })
}

/// Tokens whose times are over, or have not begun, by the server's clock: whatever this machine's clock says, the server
/// decides, and the file is read again.
async fn a_token_is_read_again_from_its_file_when_it_is_refused(server: &ApiServer) {
    let file = server.directory().join("token");
    let token = |times| server.account_token("default", "clerk", times);
    let put = |text: &str| std::fs::write(&file, text).unwrap();
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let over = TokenTimes { not_before: now - 2 * hour, expires: now - hour };
    let early = TokenTimes { not_before: now + hour, expires: now + 2 * hour };

    put(&token(over));
    let path = server.kubeconfig_of("by-token-file", &server.endpoint(), &json!({ "tokenFile": file }));
    let store = by_kubeconfig(&path);
    let refused = store.list(&scope()).await.unwrap_err();
    assert!(matches!(refused, DatastoreError::Unauthorized(_)), "{refused}");
    // Long before a token would be read again by its age.
    put(&token(TokenTimes::an_hour()));
    store.list(&scope()).await.unwrap();
    // The good token is out of the client's hands, and the bad one not yet in: nobody asks as long as nothing is refused.
    put(&token(early));
    store.list(&scope()).await.unwrap();
    let fresh = by_kubeconfig(&path);
    let refused = fresh.list(&scope()).await.unwrap_err();
    assert!(matches!(refused, DatastoreError::Unauthorized(_)), "{refused}");
    put(&token(TokenTimes::an_hour()));
    let from = fresh.list(&scope()).await.unwrap().revision;
    fresh.watch(&scope(), &from).await.unwrap();
}

/// As the file of the CNI plugin, which holds a token and is written anew before that ends.
async fn a_kubeconfig_that_is_written_again_is_read_again(server: &ApiServer) {
    let write = |token: &str| server.kubeconfig_of("inline", &server.endpoint(), &json!({ "token": token }));
    let store = by_kubeconfig(&write("wrong"));
    assert!(matches!(store.list(&scope()).await, Err(DatastoreError::Unauthorized(_))));
    write(server.token());
    store.list(&scope()).await.unwrap();
}

async fn a_client_certificate_is_read_again_when_it_is_refused(server: &ApiServer) {
    let at = |name: &str| server.directory().join(name);
    let put = |who: &str| {
        std::fs::copy(server.pki.cert(who), at("own.pem")).unwrap();
        std::fs::copy(server.pki.key(who), at("own-key.pem")).unwrap();
    };
    put("other-client");
    let user = json!({ "client-certificate": at("own.pem"), "client-key": at("own-key.pem") });
    let store = by_kubeconfig(&server.kubeconfig_of("by-certificate", &server.endpoint(), &user));
    let refused = store.list(&scope()).await.unwrap_err();
    assert!(matches!(refused, DatastoreError::Unauthorized(_)), "{refused}");
    put("client");
    store.list(&scope()).await.unwrap();
}
