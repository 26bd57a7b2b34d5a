//! A datastore over a real API server.

use std::sync::Arc;

use libcalico_datastore::{Datastore, KubernetesConfig, KubernetesDatastore};
use libcalico_model::Revision;
use libcalico_testing::{EtcdOptions, RealApiServer};

use crate::support::Backend;

/// Continued listings are read from etcd, so that what is compacted there is gone.
const FROM_ETCD: &str = "--feature-gates=ListFromCacheSnapshot=false";

pub struct ApiServer(pub RealApiServer);

impl ApiServer {
    pub fn start() -> Option<Self> {
        RealApiServer::start().map(Self)
    }

    pub fn start_for_faults() -> Option<Self> {
        RealApiServer::launch(EtcdOptions::default(), &[FROM_ETCD]).map(Self)
    }

    pub fn config(&self) -> KubernetesConfig {
        self.config_at(self.0.port())
    }

    /// By way of another port.
    pub fn config_at(&self, port: u16) -> KubernetesConfig {
        KubernetesConfig {
            api_endpoint: Some(format!("https://127.0.0.1:{port}")),
            ca_file: Some(self.pki.cert("ca").display().to_string()),
            token: Some(self.token().to_owned()),
            ..KubernetesConfig::default()
        }
    }

    pub fn store(&self) -> KubernetesDatastore {
        KubernetesDatastore::new(self.config())
    }
}

impl std::ops::Deref for ApiServer {
    type Target = RealApiServer;

    fn deref(&self) -> &RealApiServer {
        &self.0
    }
}

impl std::ops::DerefMut for ApiServer {
    fn deref_mut(&mut self) -> &mut RealApiServer {
        &mut self.0
    }
}

impl Backend for ApiServer {
    fn store_at(&self, port: u16) -> Arc<dyn Datastore> {
        Arc::new(KubernetesDatastore::new(self.config_at(port)))
    }

    fn port(&self) -> u16 {
        self.0.port()
    }

    fn three_pages(&self) -> usize {
        1_520
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn run(&mut self) {
        self.0.run();
        self.0.wait_for_kinds();
    }

    fn compact(&self, at: &Revision) {
        self.etcd.compact(at);
    }

    fn forget(&mut self, at: &Revision) {
        // The server remembers in memory what its etcd forgot.
        self.0.kill();
        self.compact(at);
        Backend::run(self);
    }
}
