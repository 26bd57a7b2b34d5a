//! How to reach the Kubernetes API: kubeconfig files, single settings, or what a pod finds in its own files.
//!
//! Always holds: single settings win over the kubeconfig; without either the process is taken for a pod. Left out:
//! reading the environment (`crate::config`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

use crate::{DatastoreError, Result};

/// The name of what is made up for single settings without a kubeconfig.
const OWN: &str = "calico";

/// How to reach the Kubernetes API. Everything is optional.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Paths of kubeconfig files, joined by colons.
    pub kubeconfig: Option<String>,
    /// The contents of a kubeconfig file.
    pub kubeconfig_inline: Option<String>,
    /// `https://10.0.0.1:6443`
    pub api_endpoint: Option<String>,
    /// PEM files.
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub ca_file: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
    /// Do not check the server's certificate.
    pub insecure_skip_tls_verify: bool,
    /// The kubeconfig's context, instead of its current one.
    pub context: Option<String>,
    /// Blocks are the nodes' pod networks (`spec.podCIDRs`), not IPAM's.
    pub use_pod_cidr: bool,
    /// Before the names of pods' interfaces on their nodes: `FELIX_INTERFACEPREFIX`, of which the first entry counts.
    /// None: `cali`.
    pub interface_prefix: Option<String>,
    /// Most requests a second. None: no limit.
    pub qps: Option<u32>,
    /// Requests at once after a rest, where `qps` is set. None: upstream's 100.
    pub burst: Option<u32>,
}

impl std::fmt::Debug for KubernetesConfig {
    /// Tokens do not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesConfig")
            .field("kubeconfig", &self.kubeconfig)
            .field("api_endpoint", &self.api_endpoint)
            .field("context", &self.context)
            .field("qps", &self.qps)
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

fn bad(what: &str, reason: impl std::fmt::Display) -> DatastoreError {
    DatastoreError::Configuration { what: what.to_owned(), reason: reason.to_string() }
}

impl KubernetesConfig {
    /// What a client of Kubernetes' own objects is made of.
    pub async fn kube_config(&self) -> Result<kube::Config> {
        self.load().await.map(|(config, _)| config)
    }

    /// What the client is made of, and the files that say so.
    pub(super) async fn load(&self) -> Result<(kube::Config, BTreeSet<PathBuf>)> {
        let mut file = match self.file()? {
            Some(f) => f,
            None if self.api_endpoint.is_some() => Kubeconfig::default(),
            None => {
                let config = kube::Config::incluster().map_err(|e| {
                    bad("Kubernetes API", format!("{e}; set KUBECONFIG or K8S_API_ENDPOINT outside of a pod"))
                })?;
                let token = config.auth_info.token_file.clone().map(PathBuf::from);
                let files = token.into_iter().chain(config.root_cert_file.clone()).collect();
                return Ok((config, files));
            }
        };
        if let Some(context) = &self.context {
            file.current_context = Some(context.clone());
        }
        self.override_in(&mut file);
        let files = self.paths().map(PathBuf::from).chain(named_in(&file)).collect();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|e| bad("kubeconfig", e))?;
        Ok((config, files))
    }

    /// The kubeconfig files.
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.kubeconfig.iter().flat_map(|list| list.split(':')).filter(|p| !p.is_empty())
    }

    fn file(&self) -> Result<Option<Kubeconfig>> {
        if let Some(text) = &self.kubeconfig_inline {
            return Kubeconfig::from_yaml(text).map(Some).map_err(|e| bad("kubeconfig", e));
        }
        let mut merged: Option<Kubeconfig> = None;
        for path in self.paths() {
            let what = format!("kubeconfig {path}");
            let next = Kubeconfig::read_from(path).map_err(|e| bad(&what, e))?;
            merged = Some(match merged {
                None => next,
                Some(m) => m.merge(next).map_err(|e| bad(&what, e))?,
            });
        }
        Ok(merged)
    }

    /// Puts single settings over the current context's cluster and user, which are made where there are none.
    fn override_in(&self, file: &mut Kubeconfig) {
        let current = file.current_context.clone();
        let context = file
            .contexts
            .iter()
            .find(|c| Some(&c.name) == current.as_ref())
            .and_then(|c| c.context.clone())
            .unwrap_or_else(|| Context {
                cluster: OWN.to_owned(),
                user: Some(OWN.to_owned()),
                ..Context::default()
            });
        if file.contexts.is_empty() {
            file.contexts.push(NamedContext {
                name: OWN.to_owned(),
                context: Some(context.clone()),
                ..NamedContext::default()
            });
            file.current_context = Some(OWN.to_owned());
            file.clusters.push(NamedCluster { name: OWN.to_owned(), ..NamedCluster::default() });
            file.auth_infos.push(NamedAuthInfo { name: OWN.to_owned(), ..NamedAuthInfo::default() });
        }
        for c in file.clusters.iter_mut().filter(|c| c.name == context.cluster) {
            self.cluster(c.cluster.get_or_insert_default());
        }
        for u in file.auth_infos.iter_mut().filter(|u| Some(&u.name) == context.user.as_ref()) {
            self.user(u.auth_info.get_or_insert_default());
        }
    }

    fn cluster(&self, cluster: &mut Cluster) {
        if let Some(server) = &self.api_endpoint {
            cluster.server = Some(server.clone());
        }
        if let Some(ca) = &self.ca_file {
            cluster.certificate_authority = Some(ca.clone());
            cluster.certificate_authority_data = None;
        }
        if self.insecure_skip_tls_verify {
            cluster.insecure_skip_tls_verify = Some(true);
        }
    }

    fn user(&self, user: &mut AuthInfo) {
        if let Some(cert) = &self.cert_file {
            user.client_certificate = Some(cert.clone());
            user.client_certificate_data = None;
        }
        if let Some(key) = &self.key_file {
            user.client_key = Some(key.clone());
            user.client_key_data = None;
        }
        if let Some(token) = &self.token {
            user.token = Some(token.clone().into());
            user.token_file = None;
        }
    }
}

/// Files of certificates, keys and tokens.
fn named_in(file: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = file.clusters.iter().filter_map(|c| c.cluster.as_ref()?.certificate_authority.as_ref());
    let users = file.auth_infos.iter().filter_map(|u| u.auth_info.as_ref());
    let users = users.flat_map(|u| [&u.client_certificate, &u.client_key, &u.token_file]).flatten();
    clusters.chain(users).map(PathBuf::from).collect()
}
