//! How to reach the datastore: from the environment or from a `CalicoAPIConfig` file, with upstream's names and order.
//!
//! Always holds: a file, where one is given, is the only source; a variable with the prefix `CALICO_` wins over the
//! same without. Left out: which file a command reads by default; that is the command's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::etcd::EtcdDatastore;
use crate::kubernetes::{KubernetesConfig, KubernetesDatastore};
use crate::pod_cidrs::PodCidrs;
use crate::{Datastore, DatastoreError, Result};

/// Where upstream's calicoctl looks for its configuration.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/calico/calicoctl.cfg";

/// Where etcd listens when nobody says otherwise.
const DEFAULT_AUTHORITY: &str = "127.0.0.1:2379";

/// Kinds of datastore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatastoreType {
    #[default]
    EtcdV3,
    Kubernetes,
}

/// A certificate or key: a file or its contents, PEM either way.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    Inline(String),
}

impl std::fmt::Debug for Pem {
    /// Keys do not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(p) => p.fmt(f),
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}

/// How to reach etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `http://` or `https://` URLs; tried in turn.
    pub endpoints: Vec<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    /// What signed the servers' certificates. None: the system's roots.
    pub ca: Option<Pem>,
    pub cert: Option<Pem>,
    pub key: Option<Pem>,
    /// Longest time for a connection to one endpoint.
    pub dial_timeout: Duration,
    /// Longest time for one call, the dialling not counted.
    pub request_timeout: Duration,
}

impl std::fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("username", &self.username)
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec![format!("http://{DEFAULT_AUTHORITY}")],
            username: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
            dial_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// How to reach the datastore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    pub datastore_type: DatastoreType,
    pub etcd: EtcdConfig,
    pub kubernetes: KubernetesConfig,
}

/// The file: `kind: CalicoAPIConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    api_version: String,
    kind: String,
    spec: ConfigFileSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFileSpec {
    datastore_type: Option<String>,
    etcd_endpoints: Option<String>,
    etcd_discovery_srv: Option<String>,
    etcd_username: Option<String>,
    etcd_password: Option<String>,
    etcd_key_file: Option<String>,
    etcd_cert_file: Option<String>,
    #[serde(rename = "etcdCACertFile")]
    etcd_ca_cert_file: Option<String>,
    etcd_key: Option<String>,
    etcd_cert: Option<String>,
    #[serde(rename = "etcdCACert")]
    etcd_ca_cert: Option<String>,
    kubeconfig: Option<String>,
    kubeconfig_inline: Option<String>,
    #[serde(rename = "k8sAPIEndpoint")]
    k8s_api_endpoint: Option<String>,
    #[serde(rename = "k8sCertFile")]
    k8s_cert_file: Option<String>,
    #[serde(rename = "k8sKeyFile")]
    k8s_key_file: Option<String>,
    #[serde(rename = "k8sCAFile")]
    k8s_ca_file: Option<String>,
    #[serde(rename = "k8sAPIToken")]
    k8s_api_token: Option<String>,
    #[serde(rename = "k8sInsecureSkipTLSVerify")]
    k8s_insecure_skip_tls_verify: Option<bool>,
    #[serde(rename = "k8sCurrentContext")]
    k8s_current_context: Option<String>,
    #[serde(rename = "usePodCIDR")]
    use_pod_cidr: Option<bool>,
    /// Of the environment alone.
    #[serde(skip)]
    interface_prefix: Option<String>,
    #[serde(rename = "k8sClientQPS")]
    k8s_client_qps: Option<f64>,
    #[serde(rename = "k8sClientBurst")]
    k8s_client_burst: Option<u32>,
}

impl ClientConfig {
    /// Reads the file where one is given, else the environment.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        match path {
            Some(p) => Self::from_file(p),
            None => Self::from_env(),
        }
    }

    /// Reads the process's environment.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables by a function. Unset and empty are the same.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| {
            lookup(&format!("CALICO_{name}"))
                .filter(|v| !v.is_empty())
                .or_else(|| lookup(name))
                .filter(|v| !v.is_empty())
        };
        let scheme = var("ETCD_SCHEME").unwrap_or_else(|| "http".to_owned());
        let endpoints =
            var("ETCD_ENDPOINTS").or_else(|| Some(format!("{scheme}://{}", var("ETCD_AUTHORITY")?)));
        build(ConfigFileSpec {
            datastore_type: var("DATASTORE_TYPE"),
            etcd_endpoints: endpoints,
            etcd_discovery_srv: var("ETCD_DISCOVERY_SRV"),
            etcd_username: var("ETCD_USERNAME"),
            etcd_password: var("ETCD_PASSWORD"),
            etcd_key_file: var("ETCD_KEY_FILE"),
            etcd_cert_file: var("ETCD_CERT_FILE"),
            etcd_ca_cert_file: var("ETCD_CA_CERT_FILE"),
            etcd_key: var("ETCD_KEY"),
            etcd_cert: var("ETCD_CERT"),
            etcd_ca_cert: var("ETCD_CA_CERT"),
            kubeconfig: var("KUBECONFIG"),
            kubeconfig_inline: None,
            k8s_api_endpoint: var("K8S_API_ENDPOINT"),
            k8s_cert_file: var("K8S_CERT_FILE"),
            k8s_key_file: var("K8S_KEY_FILE"),
            k8s_ca_file: var("K8S_CA_FILE"),
            k8s_api_token: var("K8S_API_TOKEN"),
            k8s_insecure_skip_tls_verify: parse(&var, "K8S_INSECURE_SKIP_TLS_VERIFY", truth)?,
            k8s_current_context: var("K8S_CURRENT_CONTEXT"),
            use_pod_cidr: parse(&var, "USE_POD_CIDR", truth)?,
            interface_prefix: lookup("FELIX_INTERFACEPREFIX"),
            k8s_client_qps: parse(&var, "K8S_CLIENT_QPS", |t| t.parse().ok())?,
            k8s_client_burst: parse(&var, "K8S_CLIENT_BURST", |t| t.parse().ok())?,
        })
    }

    /// Reads a `CalicoAPIConfig` file, YAML or JSON.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bad = |reason: String| DatastoreError::Configuration {
            what: format!("configuration file {}", path.display()),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        Self::from_yaml(&text).map_err(|e| bad(e.to_string()))
    }

    /// Reads the text of a `CalicoAPIConfig` file.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let bad =
            |what: &str, reason: String| DatastoreError::Configuration { what: what.to_owned(), reason };
        let file: ConfigFile = serde_saphyr::from_str(text).map_err(|e| bad("YAML", e.to_string()))?;
        if file.api_version != libcalico_api::API_VERSION {
            return Err(bad(
                "apiVersion",
                format!("expected {}, found {:?}", libcalico_api::API_VERSION, file.api_version),
            ));
        }
        if file.kind != "CalicoAPIConfig" {
            return Err(bad("kind", format!("expected CalicoAPIConfig, found {:?}", file.kind)));
        }
        build(file.spec)
    }
}

fn build(spec: ConfigFileSpec) -> Result<ClientConfig> {
    let bad = |what: &str, reason: String| DatastoreError::Configuration { what: what.to_owned(), reason };
    let text = |v: Option<String>| v.filter(|s| !s.is_empty());
    let endpoints = text(spec.etcd_endpoints);
    let given = |v: &Option<String>| v.as_deref().is_some_and(|s| !s.is_empty());
    let about_kubernetes =
        given(&spec.kubeconfig) || given(&spec.kubeconfig_inline) || given(&spec.k8s_api_endpoint);
    let datastore_type = match text(spec.datastore_type).as_deref() {
        Some("etcdv3") => DatastoreType::EtcdV3,
        Some("kubernetes") => DatastoreType::Kubernetes,
        Some(other) => {
            return Err(bad("datastore type", format!("{other:?} is not etcdv3 or kubernetes")));
        }
        None if endpoints.is_none() && about_kubernetes => DatastoreType::Kubernetes,
        None => DatastoreType::EtcdV3,
    };
    if text(spec.etcd_discovery_srv).is_some() {
        let reason = match endpoints {
            None => "is not supported; name the servers in ETCD_ENDPOINTS",
            Some(_) => "and ETCD_ENDPOINTS are both set; set ETCD_ENDPOINTS alone",
        };
        return Err(bad("ETCD_DISCOVERY_SRV", reason.to_owned()));
    }
    let kubernetes = KubernetesConfig {
        kubeconfig: text(spec.kubeconfig),
        kubeconfig_inline: text(spec.kubeconfig_inline),
        api_endpoint: text(spec.k8s_api_endpoint),
        cert_file: text(spec.k8s_cert_file),
        key_file: text(spec.k8s_key_file),
        ca_file: text(spec.k8s_ca_file),
        token: text(spec.k8s_api_token),
        insecure_skip_tls_verify: spec.k8s_insecure_skip_tls_verify.unwrap_or_default(),
        context: text(spec.k8s_current_context),
        use_pod_cidr: spec.use_pod_cidr.unwrap_or_default(),
        interface_prefix: text(spec.interface_prefix),
        qps: spec.k8s_client_qps.filter(|n| *n > 0.0).map(whole),
        burst: spec.k8s_client_burst.filter(|n| *n > 0),
    };
    let pem = |file: Option<String>, inline: Option<String>| {
        text(inline).map(Pem::Inline).or_else(|| text(file).map(|f| Pem::File(f.into())))
    };
    let mut etcd = EtcdConfig {
        username: text(spec.etcd_username),
        password: text(spec.etcd_password),
        ca: pem(spec.etcd_ca_cert_file, spec.etcd_ca_cert),
        cert: pem(spec.etcd_cert_file, spec.etcd_cert),
        key: pem(spec.etcd_key_file, spec.etcd_key),
        ..EtcdConfig::default()
    };
    if let Some(list) = endpoints {
        etcd.endpoints = parse_endpoints(&list)?;
    }
    if etcd.cert.is_some() != etcd.key.is_some() {
        return Err(bad(
            "etcd client certificate",
            "certificate and key belong together: set both or none".to_owned(),
        ));
    }
    Ok(ClientConfig { datastore_type, etcd, kubernetes })
}

/// Reads a variable that is no text.
fn parse<T>(
    var: &impl Fn(&str) -> Option<String>,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let Some(text) = var(name) else { return Ok(None) };
    read(&text).map(Some).ok_or_else(|| DatastoreError::Configuration {
        what: name.to_owned(),
        reason: format!("{text:?} cannot be read"),
    })
}

/// The words that upstream takes for a truth value.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" => Some(true),
        "false" | "f" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// A rate as a whole number of at least one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn whole(n: f64) -> u32 {
    n.ceil().clamp(1.0, f64::from(u32::MAX)) as u32
}

/// Splits a comma-separated list of URLs.
pub fn parse_endpoints(list: &str) -> Result<Vec<String>> {
    let endpoints: Vec<String> = list
        .split(',')
        .map(|e| e.trim().trim_end_matches('/').to_owned())
        .filter(|e| !e.is_empty())
        .collect();
    let bad = |reason: String| DatastoreError::Configuration { what: "etcd endpoints".to_owned(), reason };
    if endpoints.is_empty() {
        return Err(bad(format!("{list:?} names no server")));
    }
    match endpoints.iter().find(|e| !e.starts_with("http://") && !e.starts_with("https://")) {
        Some(e) => Err(bad(format!("{e:?} does not start with http:// or https://"))),
        None => Ok(endpoints),
    }
}

/// A client of the configured datastore. Makes no connection yet: the first call does.
pub async fn connect(config: &ClientConfig) -> Result<Arc<dyn Datastore>> {
    match config.datastore_type {
        DatastoreType::EtcdV3 => Ok(Arc::new(EtcdDatastore::new(config.etcd.clone()))),
        DatastoreType::Kubernetes => {
            let store = KubernetesDatastore::new(config.kubernetes.clone());
            if config.kubernetes.use_pod_cidr {
                return Ok(Arc::new(PodCidrs::new(store)));
            }
            Ok(Arc::new(store))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<ClientConfig> {
        let map: HashMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ClientConfig::from_lookup(|n| map.get(n).cloned())
    }

    #[test]
    fn an_empty_environment_means_etcd_on_this_machine() {
        let c = env(&[]).unwrap();
        assert_eq!(c.datastore_type, DatastoreType::EtcdV3);
        assert_eq!(c.etcd.endpoints, ["http://127.0.0.1:2379"]);
    }

    #[test]
    fn the_prefixed_variable_wins() {
        let c =
            env(&[("ETCD_ENDPOINTS", "http://a:1"), ("CALICO_ETCD_ENDPOINTS", "http://b:1/, https://c:2")]);
        assert_eq!(c.unwrap().etcd.endpoints, ["http://b:1", "https://c:2"]);
    }

    #[test]
    fn authority_and_scheme_make_an_endpoint() {
        let c = env(&[("ETCD_AUTHORITY", "e:2379"), ("ETCD_SCHEME", "https")]).unwrap();
        assert_eq!(c.etcd.endpoints, ["https://e:2379"]);
    }

    #[test]
    fn a_kubeconfig_without_etcd_means_kubernetes() {
        assert_eq!(env(&[("KUBECONFIG", "/k")]).unwrap().datastore_type, DatastoreType::Kubernetes);
        let both = env(&[("KUBECONFIG", "/k"), ("ETCD_ENDPOINTS", "http://a:1")]).unwrap();
        assert_eq!(both.datastore_type, DatastoreType::EtcdV3);
    }

    #[test]
    fn settings_of_the_kubernetes_api_are_read() {
        let c = env(&[
            ("DATASTORE_TYPE", "kubernetes"),
            ("K8S_API_ENDPOINT", "https://k:6443"),
            ("K8S_API_TOKEN", "secret"),
            ("K8S_INSECURE_SKIP_TLS_VERIFY", "true"),
            ("K8S_CLIENT_QPS", "1.5"),
            ("K8S_CLIENT_BURST", "7"),
        ])
        .unwrap();
        assert_eq!(c.kubernetes.api_endpoint.as_deref(), Some("https://k:6443"));
        assert_eq!((c.kubernetes.insecure_skip_tls_verify, c.kubernetes.qps), (true, Some(2)));
        assert_eq!(c.kubernetes.burst, Some(7));
        assert!(!format!("{c:?}").contains("secret"));
        let c = ClientConfig::from_yaml(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  kubeconfig: /k\n  k8sCAFile: /ca\n",
        )
        .unwrap();
        assert_eq!(c.datastore_type, DatastoreType::Kubernetes);
        assert_eq!(c.kubernetes.ca_file.as_deref(), Some("/ca"));
    }

    #[test]
    fn wrong_values_are_told_by_name() {
        for (pairs, word) in [
            (vec![("K8S_CLIENT_QPS", "many")], "K8S_CLIENT_QPS"),
            (vec![("DATASTORE_TYPE", "consul")], "consul"),
            (vec![("ETCD_ENDPOINTS", "a:1")], "http://"),
            (vec![("ETCD_CERT_FILE", "/c")], "belong together"),
            (vec![("ETCD_DISCOVERY_SRV", "d")], "ETCD_ENDPOINTS"),
            (vec![("ETCD_DISCOVERY_SRV", "d"), ("ETCD_ENDPOINTS", "http://a:1")], "both set"),
        ] {
            let text = env(&pairs).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_configuration_file_is_read() {
        let c = ClientConfig::from_yaml(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  \
             etcdEndpoints: https://e1:2379,https://e2:2379\n  etcdKeyFile: /k\n  etcdCertFile: /c\n  etcdCACertFile: /ca\n",
        )
        .unwrap();
        assert_eq!(c.etcd.endpoints.len(), 2);
        assert_eq!(c.etcd.ca, Some(Pem::File("/ca".into())));
        assert!(ClientConfig::from_yaml("kind: Other\napiVersion: projectcalico.org/v3").is_err());
    }
}
