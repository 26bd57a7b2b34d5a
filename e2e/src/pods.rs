//! Pods: network namespaces whose network is made by the CNI plugin and by nothing else.
//!
//! In: a [`PodSpec`]. Out: a [`Pod`] with its addresses, and its server when it has ports.
//! What always holds: the pod's file is written before anything of it is made, so a pod half made can be deleted;
//! deleting goes on after a failing step and tells the first failure.
//! Left out: processes other than the server; use [`Lab::exec`].

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kernel::netns;
use crate::lab::{Lab, serve_argv};
use crate::state::{read_json, write_json};
use crate::topology::Role;
use crate::{LabError, Place, PodName, Result, cni, names, process};

const LOCK_LIMIT: Duration = Duration::from_secs(120);
/// How long a pod waits while another one makes its namespace's profile.
const PROFILE_LIMIT: Duration = Duration::from_secs(120);
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// What a pod shall be.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub name: PodName,
    /// `n2`, or just `2`.
    pub node: String,
    pub labels: Vec<(String, String)>,
    /// Ports its server answers at, on TCP and UDP.
    pub serve: Vec<u16>,
}

impl PodSpec {
    /// A pod without labels and without server.
    pub fn new(namespace: &str, name: &str, node: &str) -> Result<Self> {
        Ok(Self {
            name: PodName::new(namespace, name)?,
            node: node.to_owned(),
            labels: Vec::new(),
            serve: Vec::new(),
        })
    }

    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn serve(mut self, port: u16) -> Self {
        self.serve.push(port);
        self
    }
}

/// A pod that was made, or was being made when its maker was killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    pub name: PodName,
    pub node: String,
    pub labels: Vec<(String, String)>,
    pub serve: Vec<u16>,
    pub container_id: String,
    /// The plugin's result; none until ADD has succeeded.
    pub result: Option<Value>,
}

impl Pod {
    /// All addresses the plugin gave it.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.result.as_ref().map(cni::addresses).unwrap_or_default()
    }

    /// The address a probe uses: the first.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses().into_iter().next()
    }
}

impl Lab {
    /// Makes a pod: namespace, network by the plugin, server. With an error nothing of it is left.
    pub fn pod_run(&self, spec: PodSpec) -> Result<Pod> {
        let _lock = self.state().lock(false, LOCK_LIMIT)?;
        let node = self.node_named(&spec.node)?;
        let file = self.state().pod_file(&spec.name);
        if file.exists() {
            return Err(LabError::PodExists { pod: spec.name.to_string() });
        }
        self.ensure_namespace_profile(&spec.name.namespace)?;
        let container_id = container_id(self.name(), &spec.name);
        let pod =
            Pod { name: spec.name, node, labels: spec.labels, serve: spec.serve, container_id, result: None };
        write_json(&file, &pod)?;
        self.make_pod(pod.clone()).inspect_err(|_| {
            // The error that matters is the first; what the clean-up says is told apart.
            if let Err(e) = self.remove_pod(&pod) {
                eprintln!("cleaning up pod {}: {e}", pod.name);
            }
        })
    }

    fn make_pod(&self, mut pod: Pod) -> Result<Pod> {
        netns::create(&names::pod_netns(self.name(), &pod.name))?;
        pod.result = Some(self.cni_add(&pod)?);
        write_json(&self.state().pod_file(&pod.name), &pod)?;
        if let Some(&port) = pod.serve.first() {
            let program = self.program("lab")?.display().to_string();
            let argv = serve_argv(&program, &pod.name.to_string(), &pod.serve);
            let place = Place::Pod(pod.name.clone());
            let log = self.state().pod_log(&pod.name);
            self.spawn(&place, &argv, &[], &log)?;
            self.wait_served(&place, port, &log)?;
        }
        Ok(pod)
    }

    /// Ends a pod's processes, takes its network away by the plugin, and removes it.
    pub fn pod_delete(&self, name: &PodName) -> Result<()> {
        let _lock = self.state().lock(false, LOCK_LIMIT)?;
        self.remove_pod(&self.pod(name)?)
    }

    fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let ns = names::pod_netns(self.name(), &pod.name);
        let ended = process::end_all_in(std::slice::from_ref(&ns), KILL_LIMIT);
        let unplugged = self.cni_del(pod);
        let deleted = netns::delete(&ns);
        if unplugged.is_ok() && deleted.is_ok() {
            for file in [self.state().pod_file(&pod.name), self.state().pod_log(&pod.name)] {
                // A pod without server has no log.
                let _ = std::fs::remove_file(file);
            }
        }
        [ended, unplugged, deleted].into_iter().collect()
    }

    /// What is known of a pod.
    pub fn pod(&self, name: &PodName) -> Result<Pod> {
        let file = self.state().pod_file(name);
        if !file.exists() {
            return Err(LabError::NoSuchPod { pod: name.to_string() });
        }
        read_json(&file)
    }

    fn node_named(&self, text: &str) -> Result<String> {
        let nodes = || self.topology().machines.iter().filter(|m| m.role == Role::Node);
        let node = nodes().find(|m| m.name == text || m.name == format!("n{text}"));
        node.map(|m| m.name.clone()).ok_or_else(|| LabError::UnknownPlace {
            place: text.to_owned(),
            known: nodes().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Makes the profile a cluster's controllers would make for a namespace: its pods may talk to anyone as long
    /// as no policy selects them, and inherit the namespace's name as a label.
    fn ensure_namespace_profile(&self, namespace: &str) -> Result<()> {
        let done = self.state().namespace_file(namespace);
        if done.exists() {
            return Ok(());
        }
        let _lock = self.state().lock_namespace(namespace, PROFILE_LIMIT)?;
        if done.exists() {
            return Ok(());
        }
        self.calicoctl(&["apply", "-f", "-"], &profile(namespace))?;
        write_json(&done, &namespace)
    }
}

/// The Profile of a namespace, as kube-controllers writes it.
fn profile(namespace: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: Profile\n\
         metadata:\n  name: kns.{namespace}\n\
         spec:\n  ingress:\n  - action: Allow\n  egress:\n  - action: Allow\n  labelsToApply:\n    \
         pcns.kubernetes.io/metadata.name: {namespace}\n    pcns.projectcalico.org/name: {namespace}\n"
    )
}

/// 64 hexadecimal digits, new for every pod made, as runtimes give.
fn container_id(lab: &str, pod: &PodName) -> String {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    hex::encode(Sha256::digest(format!("{lab} {pod} {nanos} {}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_new_for_every_pod_made() {
        let pod = PodName::new("ns", "web").unwrap();
        let (a, b) = (container_id("demo", &pod), container_id("demo", &pod));
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }

    #[test]
    fn a_namespaces_profile_allows_all_and_hands_its_name_down() {
        let text = profile("quickstart");
        assert!(text.contains("name: kns.quickstart\n"), "{text}");
        assert!(text.contains("    pcns.projectcalico.org/name: quickstart\n"), "{text}");
    }
}
