//! What the checks share: a namespace that goes with its check, pods with a server, questions from pod to pod.

use std::time::Duration;

use e2e::k8s::{Cluster, Seen, eventually};

/// Longest wait for pods, services and policy to be there.
pub const SOON: Duration = Duration::from_secs(60);

/// A namespace, deleted with everything in it.
pub struct Space<'a> {
    pub cluster: &'a Cluster,
    pub name: &'static str,
}

impl<'a> Space<'a> {
    pub fn new(cluster: &'a Cluster, name: &'static str) -> Self {
        // One that an earlier, interrupted run left.
        cluster.kubectl(&["delete", "namespace", name, "--ignore-not-found"]).unwrap();
        cluster.kubectl(&["create", "namespace", name]).unwrap();
        // A pod made before the namespace's own account is refused.
        wait("the namespace's account", || {
            cluster
                .kubectl(&["-n", name, "get", "serviceaccount", "default"])
                .map(drop)
                .map_err(|e| e.to_string())
        });
        Self { cluster, name }
    }

    /// A pod that serves its name at port 8080, on a node.
    pub fn server(&self, name: &str, node: &str) {
        self.pod(name, node, "[netexec, --http-port=8080]", "");
    }

    /// A pod of agnhost; `more` are further fields of the container, as flow YAML with a leading comma.
    pub fn pod(&self, name: &str, node: &str, arguments: &str, more: &str) {
        let image = self.cluster.image("agnhost").unwrap();
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {}, labels: {{app: {name}}}}}, \
             spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, \
             containers: [{{name: c, image: \"{image}\", args: {arguments}{more}}}]}}}}",
            self.name
        );
        self.cluster.apply(&manifest).unwrap();
    }

    /// A Deployment of pods that do nothing, with no pods yet.
    pub fn deployment(&self, name: &str) {
        let image = self.cluster.image("agnhost").unwrap();
        let manifest = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {}}}, \
             spec: {{replicas: 0, selector: {{matchLabels: {{app: {name}}}}}, \
             template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 0, \
             containers: [{{name: c, image: \"{image}\", args: [pause]}}]}}}}}}}}",
            self.name
        );
        self.cluster.apply(&manifest).unwrap();
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", self.name], arguments].concat()).unwrap()
    }

    /// Waits for pods to be ready.
    pub fn ready(&self, names: &[&str]) {
        let pods: Vec<String> = names.iter().map(|n| format!("pod/{n}")).collect();
        let mut arguments = vec!["wait", "--for=condition=Ready", "--timeout=60s"];
        arguments.extend(pods.iter().map(String::as_str));
        self.kubectl(&arguments);
    }

    /// The one pod of that name.
    pub fn seen(&self, name: &str) -> Seen {
        let pods = self.cluster.pods(self.name, &format!("app={name}")).unwrap();
        pods.into_iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// Tries a TCP connection from a pod once.
    pub fn connects(&self, from: &str, to: &str) -> Result<(), String> {
        let command = ["/agnhost", "connect", to, "--timeout=1s"];
        self.cluster.exec(self.name, from, &command).map(drop).map_err(|e| e.to_string())
    }

    /// Waits until a pod can connect.
    pub fn reaches(&self, from: &str, to: &str) {
        wait(&format!("{from} to reach {to}"), || self.connects(from, to));
    }

    /// Waits until a pod cannot connect.
    pub fn is_cut_off(&self, from: &str, to: &str) {
        wait(&format!("{from} not to reach {to}"), || match self.connects(from, to) {
            Ok(()) => Err("it does".to_owned()),
            Err(_) => Ok(()),
        });
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "namespace", self.name, "--timeout=90s"]);
    }
}

/// Two nodes' names.
pub fn two_nodes(cluster: &Cluster) -> [String; 2] {
    let mut nodes = cluster.nodes().unwrap().into_iter();
    [nodes.next().unwrap(), nodes.next().unwrap()]
}

pub fn wait(what: &str, ask: impl FnMut() -> Result<(), String>) -> Duration {
    eventually(what, SOON, ask).unwrap_or_else(|e| panic!("{e}"))
}
