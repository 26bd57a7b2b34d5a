//! Settings of the installer: upstream's environment variables, and where the container has the host's directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use libcalico_api::duration::GoDuration;

use super::{InstallError, Result};

/// Variables that a configuration may name as `__NAME__`, with their defaults.
const VARIABLES: [(&str, &str); 12] = [
    ("LOG_LEVEL", "info"),
    ("LOG_FILE_PATH", "/var/log/calico/cni/cni.log"),
    ("LOG_FILE_MAX_SIZE", "100"),
    ("LOG_FILE_MAX_AGE", "30"),
    ("LOG_FILE_MAX_COUNT", "10"),
    ("DATASTORE_TYPE", "kubernetes"),
    ("CNI_MTU", "1500"),
    ("KUBERNETES_SERVICE_HOST", ""),
    ("KUBERNETES_SERVICE_PORT", ""),
    ("ETCD_ENDPOINTS", ""),
    ("ETCD_DISCOVERY_SRV", ""),
    ("REQUIRE_MTU_FILE", "false"),
];

/// Directories as this process sees them.
#[derive(Clone, Debug)]
pub struct Places {
    /// The image's programs.
    pub image_bin_dir: PathBuf,
    /// The host's directories for programs; at least one must be writable.
    pub host_bin_dirs: Vec<PathBuf>,
    /// The host's directory for configurations.
    pub host_net_dir: PathBuf,
    /// What Kubernetes mounts into a pod: token, certificate authority, namespace.
    pub service_account_dir: PathBuf,
}

impl Default for Places {
    /// Where upstream's manifests mount them.
    fn default() -> Self {
        Self {
            image_bin_dir: "/opt/cni/bin".into(),
            host_bin_dirs: vec!["/host/opt/cni/bin".into(), "/host/secondary-bin-dir".into()],
            host_net_dir: "/host/etc/cni/net.d".into(),
            service_account_dir: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

/// When the runtime gets the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// When Felix is ready on this node for the first time since the machine started.
    FelixReady,
    /// At once, as upstream does.
    Now,
}

/// Where the configuration's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// `CNI_NETWORK_CONFIG`
    Text(String),
    /// `CNI_NETWORK_CONFIG_FILE`
    File(PathBuf),
    /// Neither is set.
    Default,
}

/// Everything that is set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub places: Places,
    /// `CNI_NET_DIR`: the directory for configurations as the host sees it.
    pub net_dir: String,
    /// `CNI_CONF_NAME`
    pub conf_name: String,
    /// `CNI_OLD_CONF_NAME`: a configuration that this one replaces.
    pub old_conf_name: String,
    /// `KUBECFG_FILE_NAME`
    pub kubeconfig_name: String,
    /// `TLS_ASSETS_DIR`
    pub tls_assets_dir: PathBuf,
    /// `SKIP_CNI_BINARIES`
    pub skip_binaries: BTreeSet<String>,
    /// `UPDATE_CNI_BINARIES`
    pub update_binaries: bool,
    pub template: Template,
    /// Values of `__NAME__` in the configuration.
    pub variables: BTreeMap<&'static str, String>,
    /// `SLEEP`: stay and keep everything as it should be.
    pub sleep: bool,
    /// `CNI_CONF_PUBLISH`: `felix-ready` or `now`.
    pub publish: Publish,
    /// Felix's readiness, from `FELIX_HEALTHHOST` and `FELIX_HEALTHPORT`.
    pub felix_url: String,
    /// `CALICO_CNI_SERVICE_ACCOUNT`
    pub service_account: String,
    /// `CNI_TOKEN_REFRESH_INTERVAL`: instead of a part of the token's time.
    pub token_refresh: Option<Duration>,
    /// `KUBECONFIG`: instead of what a pod finds in its own files.
    pub kubeconfig: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_PROTOCOL`, `_HOST` and `_PORT`: the server as the plugin will reach it.
    pub server: Option<String>,
    /// `SKIP_TLS_VERIFY`
    pub skip_tls_verify: bool,
}

impl Settings {
    /// From the process's environment.
    pub fn from_env(places: Places) -> Result<Self> {
        Self::from_lookup(places, |name| std::env::var(name).ok())
    }

    /// From any other place.
    pub fn from_lookup(places: Places, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| lookup(name).filter(|v| !v.is_empty());
        let or = |name: &str, default: &str| set(name).unwrap_or_else(|| default.to_owned());
        let flag = |name: &'static str, default: bool| match set(name) {
            None => Ok(default),
            Some(value) => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(InstallError::Setting { name, value, wanted: "true or false" }),
            },
        };
        let file_name = |name: &'static str, default: &str| {
            let value = or(name, default);
            match value.contains('/') || value == "." || value == ".." {
                true => Err(InstallError::Setting { name, value, wanted: "the name of a file" }),
                false => Ok(value),
            }
        };
        let mut variables: BTreeMap<&'static str, String> =
            VARIABLES.iter().map(|(name, default)| (*name, or(name, default))).collect();
        let node_name = set("KUBERNETES_NODE_NAME").map_or_else(host_name, Ok)?;
        variables.insert("KUBERNETES_NODE_NAME", node_name);
        variables.insert("CALICO_API_GROUP", or("CALICO_API_GROUP", "crd.projectcalico.org/v1"));
        let conf_name = file_name("CNI_CONF_NAME", "10-calico.conflist")?;
        let protocol = or("KUBERNETES_SERVICE_PROTOCOL", "https");
        let host = set("KUBERNETES_SERVICE_HOST");
        let host = host.map(|h| if h.contains(':') { format!("[{h}]") } else { h });
        let template = match (set("CNI_NETWORK_CONFIG_FILE"), set("CNI_NETWORK_CONFIG")) {
            (Some(path), _) => Template::File(path.into()),
            (None, Some(text)) => Template::Text(text),
            (None, None) => Template::Default,
        };
        let publish = match or("CNI_CONF_PUBLISH", "felix-ready").as_str() {
            "felix-ready" => Publish::FelixReady,
            "now" => Publish::Now,
            other => {
                return Err(InstallError::Setting {
                    name: "CNI_CONF_PUBLISH",
                    value: other.to_owned(),
                    wanted: "felix-ready or now",
                });
            }
        };
        let token_refresh = set("CNI_TOKEN_REFRESH_INTERVAL").map(|text| {
            let wrong = InstallError::Setting {
                name: "CNI_TOKEN_REFRESH_INTERVAL",
                value: text.clone(),
                wanted: "a duration such as 30m",
            };
            text.parse::<GoDuration>().ok().and_then(GoDuration::to_std).ok_or(wrong)
        });
        Ok(Self {
            places,
            net_dir: or("CNI_NET_DIR", "/etc/cni/net.d").trim_end_matches('/').to_owned(),
            old_conf_name: file_name("CNI_OLD_CONF_NAME", &conf_name)?,
            conf_name,
            kubeconfig_name: file_name("KUBECFG_FILE_NAME", "calico-kubeconfig")?,
            tls_assets_dir: or("TLS_ASSETS_DIR", "/calico-secrets").into(),
            skip_binaries: or("SKIP_CNI_BINARIES", "").split(',').map(|n| n.trim().to_owned()).collect(),
            update_binaries: flag("UPDATE_CNI_BINARIES", true)?,
            template,
            sleep: flag("SLEEP", true)?,
            publish,
            felix_url: format!(
                "http://{}:{}/readiness",
                or("FELIX_HEALTHHOST", "localhost"),
                or("FELIX_HEALTHPORT", "9099")
            ),
            service_account: or("CALICO_CNI_SERVICE_ACCOUNT", "calico-cni-plugin"),
            token_refresh: token_refresh.transpose()?,
            kubeconfig: set("KUBECONFIG").map(PathBuf::from),
            server: host.map(|h| format!("{protocol}://{h}:{}", or("KUBERNETES_SERVICE_PORT", "443"))),
            skip_tls_verify: flag("SKIP_TLS_VERIFY", false)?,
            variables,
        })
    }

    /// The kubeconfig as this process sees it.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.places.host_net_dir.join(&self.kubeconfig_name)
    }
}

/// Upstream's name of a node without any setting: the machine's, in small letters.
fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().map_err(|e| InstallError::Setting {
        name: "KUBERNETES_NODE_NAME",
        value: String::new(),
        wanted: match e {
            nix::Error::ENAMETOOLONG => "set, and the machine's name is too long",
            _ => "set, and the machine's name cannot be read",
        },
    })?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(set: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(Places::default(), |n| {
            set.iter().find(|(name, _)| *name == n).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn defaults_are_upstreams() {
        let s = settings(&[]).unwrap();
        assert_eq!(s.conf_name, "10-calico.conflist");
        assert_eq!(s.old_conf_name, s.conf_name);
        assert_eq!(s.net_dir, "/etc/cni/net.d");
        assert!(s.update_binaries && s.sleep && !s.skip_tls_verify);
        assert_eq!(s.variables["CNI_MTU"], "1500");
        assert_eq!(s.felix_url, "http://localhost:9099/readiness");
        assert_eq!(s.service_account, "calico-cni-plugin");
    }

    #[test]
    fn an_ipv6_server_is_written_in_brackets() {
        let s = settings(&[("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")]);
        assert_eq!(s.unwrap().server.as_deref(), Some("https://[fd00::1]:443"));
    }

    #[test]
    fn a_bad_value_is_told_with_its_name() {
        for (name, value) in [
            ("SLEEP", "maybe"),
            ("CNI_CONF_NAME", "../x"),
            ("CNI_TOKEN_REFRESH_INTERVAL", "soon"),
            ("CNI_CONF_PUBLISH", "later"),
        ] {
            let e = settings(&[(name, value)]).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains(value), "{e}");
        }
    }
}
