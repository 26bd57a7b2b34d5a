//! The plugin's token from a real API server: renewed in time, at once when it is rejected, and again after outages.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use cni_plugin::install::rejection;
use libcalico_testing::{EtcdOptions, RealApiServer, kubernetes_binary, within};
use serde_json::json;

use super::SOON;
use super::host::{Felix, Host, Running};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// What the installer says when a token cannot be had, and when it can again.
const OUTAGE: &str = "cannot be kept as it should be";
const ITS_END: &str = "is as it should be again";

struct Cluster {
    server: RealApiServer,
    host: Host,
    felix: Felix,
}

impl Cluster {
    fn start() -> Option<Self> {
        let server = RealApiServer::launch_bare(EtcdOptions::default(), &[])?;
        Some(Self { server, host: Host::new(), felix: Felix::start() })
    }

    fn make_account(&self) {
        let object = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "calico-cni-plugin" } });
        self.server.create(ACCOUNTS, &object);
    }

    fn installer(&self, more: &[(&str, &str)]) -> Running {
        let (kubeconfig, port) = (self.server.kubeconfig().display().to_string(), self.felix.port());
        let mut set = vec![("KUBECONFIG", kubeconfig.as_str()), ("FELIX_HEALTHPORT", port.as_str())];
        set.extend(more);
        self.host.start(&set)
    }

    fn kubeconfig(&self) -> String {
        fs::read_to_string(self.host.net("calico-kubeconfig")).unwrap_or_default()
    }

    /// Who the API server takes the plugin's kubeconfig for.
    fn user(&self) -> String {
        let out = Command::new(kubernetes_binary("kubectl").unwrap())
            .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", "--kubeconfig"])
            .arg(self.host.net("calico-kubeconfig"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// A runtime asks the installed plugin whether it could make pods.
    fn status(&self) -> String {
        let conf = json!({
            "cniVersion": "1.1.0", "name": "n", "type": "calico", "nodename": "node-a",
            "datastore_type": "kubernetes", "policy": { "type": "k8s" }, "ipam": { "type": "calico-ipam" },
            "kubernetes": { "kubeconfig": self.host.net("calico-kubeconfig") },
            "log_file_path": self.host.path("cni.log"),
        });
        let mut child = Command::new(self.host.bin("calico"))
            .envs([("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// How often the installer has said something.
    fn said(&self, what: &str) -> usize {
        self.host.log().matches(what).count()
    }

    fn accepted(&self) -> bool {
        self.user() == "system:serviceaccount:default:calico-cni-plugin"
    }
}

#[test]
fn the_plugin_always_has_a_token_that_the_server_takes() {
    let Some(mut c) = Cluster::start() else { return };

    // Without the account there is nothing to give a token for.
    let kubeconfig = c.server.kubeconfig().display().to_string();
    let e = c.host.run(&[("SLEEP", "false"), ("KUBECONFIG", &kubeconfig)]).unwrap_err();
    assert!(e.contains("default/calico-cni-plugin") && e.contains("create the service account"), "{e}");
    assert!(c.host.configurations().is_empty() && c.kubeconfig().is_empty(), "the node does not seem ready");

    c.make_account();
    let _installer = c.installer(&[]);
    within(SOON, "a token", || c.accepted());
    assert_eq!(c.host.mode(&c.host.net("calico-kubeconfig")), 0o600);

    // Revoked: the account is another one of the same name now.
    // The installer's, and the one that the keeper begins with.
    within(SOON, "the keeper's first token", || c.said("wrote the plugin's kubeconfig") > 1);
    c.server.delete(&format!("{ACCOUNTS}/calico-cni-plugin"));
    within(SOON, "the token is rejected", || !c.accepted());
    let said = c.status();
    assert!(said.contains("refused the credentials"), "{said}");
    c.make_account();
    within(SOON, "a new token after the rejection", || c.accepted());
    within(SOON, "the report is taken back", || !rejection::reported(&c.host.net("calico-kubeconfig")));

    // The server is away just when a token is needed: the file stays as it is, and is right again afterwards.
    let (outages, ends) = (c.said(OUTAGE), c.said(ITS_END));
    c.server.kill();
    let before = c.kubeconfig();
    rejection::report(c.host.net("calico-kubeconfig"));
    within(SOON, "the outage is told", || c.said(OUTAGE) > outages);
    assert_eq!(c.kubeconfig(), before);
    c.server.run();
    within(SOON, "a new token after the outage", || c.kubeconfig() != before && c.accepted());
    within(SOON, "the end of the outage is told", || c.said(ITS_END) > ends);
    assert!(c.said(OUTAGE) <= outages + 3, "told once for each reason: {}", c.host.log());

    // Someone removed the file.
    fs::remove_file(c.host.net("calico-kubeconfig")).unwrap();
    within(SOON, "the file again", || c.accepted());
    assert!(!c.host.log().contains(&token_in(&c.kubeconfig())), "tokens do not belong into logs");
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let Some(c) = Cluster::start() else { return };
    c.make_account();
    let _installer = c.installer(&[("CNI_TOKEN_REFRESH_INTERVAL", "1s")]);
    within(SOON, "a token", || c.accepted());
    let mut tokens = vec![token_in(&c.kubeconfig())];
    within(Duration::from_secs(120), "three more tokens", || {
        let now = token_in(&c.kubeconfig());
        if tokens.last() != Some(&now) && c.accepted() {
            tokens.push(now);
        }
        tokens.len() > 3
    });
}

fn token_in(kubeconfig: &str) -> String {
    let line = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("token: "));
    line.unwrap_or_default().to_owned()
}
