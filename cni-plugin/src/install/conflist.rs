//! The network configuration that makes the runtime call the plugin.
//!
//! In come a template and variables, out goes a file in the host's directory, from which the runtime takes that the node
//! has a network. It must not appear before Felix is ready (a pod would be made on a node that filters nothing yet), and
//! the init container ends before Felix starts. So the installer *stages* it in a directory that runtimes do not read,
//! and [`publish`], which runs beside Felix, moves it. A configuration that was published since the machine started is
//! replaced at once: during an upgrade the node keeps its network.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{self, at};
use super::settings::{Publish, Template};
use super::{InstallError, Result, Settings, assets};

/// Where the configuration waits, beside those that the runtime reads.
const STAGE: &str = "calico-staged";
/// Which start of the machine the configuration was published in.
const STAMP: &str = "published-in-boot";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Without a template.
const DEFAULT: &str = r#"{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "plugins": [
    {
      "type": "calico",
      "datastore_type": "__DATASTORE_TYPE__",
      "nodename": "__KUBERNETES_NODE_NAME__",
      "mtu": __CNI_MTU__,
      "require_mtu_file": __REQUIRE_MTU_FILE__,
      "log_level": "__LOG_LEVEL__",
      "log_file_path": "__LOG_FILE_PATH__",
      "ipam": {"type": "calico-ipam"},
      "policy": {"type": "k8s"},
      "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}
"#;

/// Writes the configuration: staged, or over the one that the runtime has.
pub fn install(settings: &Settings) -> Result<()> {
    let text = render(settings)?;
    let net_dir = &settings.places.host_net_dir;
    files::sweep(net_dir);
    let final_path = net_dir.join(&settings.conf_name);
    let old = (settings.old_conf_name != settings.conf_name).then(|| net_dir.join(&settings.old_conf_name));
    let stands = final_path.exists() || old.as_ref().is_some_and(|p| p.exists());
    let boot = boot_id();
    if settings.publish == Publish::Now || (stands && published_since_boot(settings, &boot)) {
        files::write(&final_path, text.as_bytes(), 0o600)?;
        stamp(settings, &boot)?;
        clear_stage(settings)?;
        tracing::info!(file = %final_path.display(), "the runtime has the configuration");
    } else {
        let stage = stage(settings);
        files::make_dir(&stage, 0o700)?;
        clear_stage(settings)?;
        files::write(&stage.join(&settings.conf_name), text.as_bytes(), 0o600)?;
        if files::remove(&final_path)? {
            tracing::info!(file = %final_path.display(), "taken from the runtime: it is of an earlier start of the machine");
        }
        tracing::info!(name = settings.conf_name, "the configuration waits for Felix");
    }
    match old {
        Some(old) if files::remove(&old)? => {
            tracing::info!(file = %old.display(), "removed the configuration of the old name");
        }
        _ => {}
    }
    Ok(())
}

/// Gives the runtime what is staged. True where there was something. Called when Felix is ready.
pub fn publish(settings: &Settings) -> Result<bool> {
    let staged = staged(settings)?;
    for from in &staged {
        let Some(name) = from.file_name() else { continue };
        let to = settings.places.host_net_dir.join(name);
        // First the stamp: a configuration that stands is never older than it.
        stamp(settings, &boot_id())?;
        // Not moved out of the stage: containerd looks at its directory when something in it is written or renamed, and
        // a file that is moved in from elsewhere is neither. It would not be seen before the next change there.
        let text = fs::read(from).map_err(at(from))?;
        files::write(&to, &text, 0o600)?;
        files::remove(from)?;
        tracing::info!(file = %to.display(), "Felix is ready: the runtime has the configuration");
    }
    Ok(!staged.is_empty())
}

/// Configurations that wait.
pub fn staged(settings: &Settings) -> Result<Vec<PathBuf>> {
    let stage = stage(settings);
    let entries = match fs::read_dir(&stage) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(&stage))?,
    };
    let ours = |p: &PathBuf| p.extension().is_some_and(|e| e == "conflist" || e == "conf");
    Ok(entries.flatten().map(|e| e.path()).filter(ours).collect())
}

/// Takes the configuration from the runtime and the stage with what is in it. A configuration under our name that does
/// not call our plugin is someone else's and stays.
pub fn uninstall(settings: &Settings) -> Result<()> {
    for name in [&settings.conf_name, &settings.old_conf_name] {
        let path = settings.places.host_net_dir.join(name);
        let ours =
            fs::read(&path).ok().and_then(|t| serde_json::from_slice(&t).ok()).is_some_and(|c| is_ours(&c));
        if ours && files::remove(&path)? {
            tracing::info!(file = %path.display(), "removed");
        }
    }
    let stage = stage(settings);
    match fs::remove_dir_all(&stage) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(&stage)(e)),
        _ => Ok(()),
    }
}

/// The text with every variable in its place. Values are escaped as JSON strings are, which leaves numbers and
/// booleans as they are.
fn render(settings: &Settings) -> Result<String> {
    let (origin, mut text) = match &settings.template {
        Template::Text(text) => ("CNI_NETWORK_CONFIG".to_owned(), text.clone()),
        Template::File(path) => (path.display().to_string(), fs::read_to_string(path).map_err(at(path))?),
        Template::Default => ("the default".to_owned(), DEFAULT.to_owned()),
    };
    let mut put = |name: &str, value: &str| text = text.replace(&format!("__{name}__"), &escape(value));
    for (name, value) in &settings.variables {
        put(name, value);
    }
    put("KUBECONFIG_FILEPATH", &format!("{}/{}", settings.net_dir, settings.kubeconfig_name));
    let token = fs::read_to_string(settings.places.service_account_dir.join("token")).unwrap_or_default();
    put("SERVICEACCOUNT_TOKEN", token.trim());
    for (name, file) in
        [("ETCD_CA_CERT_FILE", "etcd-ca"), ("ETCD_CERT_FILE", "etcd-cert"), ("ETCD_KEY_FILE", "etcd-key")]
    {
        put(name, &assets::path_on_host(settings, file));
    }
    let wrong = |reason: String| InstallError::Template { origin: origin.clone(), reason };
    let parsed: Value = serde_json::from_str(&text)
        .map_err(|e| wrong(format!("it is no JSON once variables are in it: {e}")))?;
    if !is_ours(&parsed) {
        return Err(wrong("no plugin in it has \"type\": \"calico\"".to_owned()));
    }
    if parsed.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(wrong("it has no \"name\"".to_owned()));
    }
    let list = parsed.get("plugins").is_some();
    if list != settings.conf_name.ends_with(".conflist") {
        return Err(wrong(format!(
            "a configuration with{} \"plugins\" is not read from a file of the name {}; set CNI_CONF_NAME",
            if list { "" } else { "out" },
            settings.conf_name
        )));
    }
    Ok(text)
}

/// True where a plugin of the list, the only plugin, or what another one delegates to is `calico`.
fn is_ours(conf: &Value) -> bool {
    let calico = |p: &Value| p.get("type").and_then(Value::as_str) == Some("calico");
    let with_delegate = |p: &Value| calico(p) || p.get("delegate").is_some_and(calico);
    with_delegate(conf)
        || conf.get("plugins").and_then(Value::as_array).is_some_and(|l| l.iter().any(with_delegate))
}

fn escape(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

fn stage(settings: &Settings) -> PathBuf {
    settings.places.host_net_dir.join(STAGE)
}

/// Removes configurations that wait: of another name, or overtaken by one that is published.
fn clear_stage(settings: &Settings) -> Result<()> {
    for path in staged(settings)? {
        files::remove(&path)?;
    }
    Ok(())
}

/// A configuration without a stamp is not ours to judge: upstream's, or of an older version. It stays in use.
fn published_since_boot(settings: &Settings, boot: &str) -> bool {
    fs::read_to_string(stage(settings).join(STAMP)).map_or(true, |stamp| stamp.trim() == boot)
}

fn stamp(settings: &Settings, boot: &str) -> Result<()> {
    let stage = stage(settings);
    files::make_dir(&stage, 0o700)?;
    files::write(&stage.join(STAMP), boot.as_bytes(), 0o600).map(|_| ())
}

/// Which start of the machine this is. Unknown is one start for ever.
fn boot_id() -> String {
    fs::read_to_string(Path::new(BOOT_ID)).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Places;
    use super::*;

    struct Host {
        dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("net.d")).unwrap();
            Self { dir }
        }

        fn settings(&self, set: &[(&str, &str)]) -> Settings {
            let places = Places {
                host_net_dir: self.dir.path().join("net.d"),
                service_account_dir: self.dir.path().join("sa"),
                ..Places::default()
            };
            let lookup = |n: &str| set.iter().find(|(name, _)| *name == n).map(|(_, v)| (*v).to_owned());
            Settings::from_lookup(places, lookup).unwrap()
        }

        /// Names of what a runtime would read.
        fn read_by_runtime(&self) -> Vec<String> {
            let names = fs::read_dir(self.dir.path().join("net.d")).unwrap().map(|e| e.unwrap().path());
            let names = names.filter(|p| {
                p.extension().is_some_and(|e| ["conf", "conflist", "json"].iter().any(|x| e == *x))
            });
            names.map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
        }
    }

    #[test]
    fn a_fresh_node_has_no_configuration_before_felix_is_ready() {
        let host = Host::new();
        let s = host.settings(&[]);
        install(&s).unwrap();
        assert!(host.read_by_runtime().is_empty());
        assert!(publish(&s).unwrap());
        assert_eq!(host.read_by_runtime(), ["10-calico.conflist"]);
        assert!(!publish(&s).unwrap(), "nothing waits any more");
    }

    #[test]
    fn an_upgrade_replaces_what_stands_without_taking_it_away() {
        let host = Host::new();
        install(&host.settings(&[])).unwrap();
        publish(&host.settings(&[])).unwrap();
        install(&host.settings(&[("CNI_MTU", "1400")])).unwrap();
        let text = fs::read_to_string(host.dir.path().join("net.d/10-calico.conflist")).unwrap();
        assert!(text.contains("\"mtu\": 1400"), "{text}");
        assert!(!publish(&host.settings(&[])).unwrap());
    }

    #[test]
    fn a_configuration_of_an_installer_without_stages_stays_in_use() {
        let host = Host::new();
        fs::write(host.dir.path().join("net.d/10-calico.conflist"), "{}").unwrap();
        install(&host.settings(&[])).unwrap();
        assert_eq!(host.read_by_runtime(), ["10-calico.conflist"]);
    }

    #[test]
    fn after_a_restart_of_the_machine_the_configuration_waits_again() {
        let host = Host::new();
        let s = host.settings(&[]);
        install(&s).unwrap();
        publish(&s).unwrap();
        stamp(&s, "another-boot").unwrap();
        install(&s).unwrap();
        assert!(host.read_by_runtime().is_empty());
        publish(&s).unwrap();
        assert_eq!(host.read_by_runtime(), ["10-calico.conflist"]);
    }

    #[test]
    fn the_configuration_of_the_old_name_goes() {
        let host = Host::new();
        install(&host.settings(&[("CNI_CONF_PUBLISH", "now")])).unwrap();
        let s = host
            .settings(&[("CNI_CONF_NAME", "05-new.conflist"), ("CNI_OLD_CONF_NAME", "10-calico.conflist")]);
        install(&s).unwrap();
        assert_eq!(host.read_by_runtime(), ["05-new.conflist"], "published since boot: no gap");
    }

    #[test]
    fn values_are_escaped_and_certificates_named_only_where_they_are() {
        let host = Host::new();
        let template = r#"{"name":"n","plugins":[{"type":"calico","nodename":"__KUBERNETES_NODE_NAME__",
            "etcd_key_file":"__ETCD_KEY_FILE__","etcd_ca_cert_file":"__ETCD_CA_CERT_FILE__","mtu":__CNI_MTU__}]}"#;
        fs::create_dir(host.dir.path().join("net.d/calico-tls")).unwrap();
        fs::write(host.dir.path().join("net.d/calico-tls/etcd-ca"), "pem").unwrap();
        let s = host.settings(&[("CNI_NETWORK_CONFIG", template), ("KUBERNETES_NODE_NAME", "a\"b\\c")]);
        let conf: Value = serde_json::from_str(&render(&s).unwrap()).unwrap();
        let plugin = &conf["plugins"][0];
        assert_eq!(plugin["nodename"], "a\"b\\c");
        assert_eq!(plugin["etcd_key_file"], "");
        assert_eq!(plugin["etcd_ca_cert_file"], "/etc/cni/net.d/calico-tls/etcd-ca");
        assert_eq!(plugin["mtu"], 1500);
    }

    #[test]
    fn a_configuration_that_no_runtime_could_use_is_refused() {
        let host = Host::new();
        for (text, why) in [
            ("{", "no JSON"),
            (r#"{"name":"n","plugins":[{"type":"flannel"}]}"#, "calico"),
            (r#"{"plugins":[{"type":"calico"}]}"#, "name"),
            (r#"{"name":"n","type":"calico"}"#, "CNI_CONF_NAME"),
        ] {
            let e = install(&host.settings(&[("CNI_NETWORK_CONFIG", text)])).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains("CNI_NETWORK_CONFIG"), "{e}");
        }
        assert!(host.read_by_runtime().is_empty());
    }

    #[test]
    fn uninstalling_leaves_what_is_not_ours() {
        let host = Host::new();
        let net = host.dir.path().join("net.d");
        fs::write(net.join("99-loopback.conf"), "{}").unwrap();
        let s = host.settings(&[("CNI_CONF_PUBLISH", "now")]);
        install(&s).unwrap();
        uninstall(&s).unwrap();
        assert_eq!(host.read_by_runtime(), ["99-loopback.conf"]);
        fs::write(net.join("10-calico.conflist"), r#"{"plugins":[{"type":"bridge"}]}"#).unwrap();
        uninstall(&s).unwrap();
        assert_eq!(host.read_by_runtime().len(), 2);
    }
}
