//! The lab as a container runtime: the network configuration it gives to nodes and how it runs the plugins of it.
//!
//! In: a node's `10-calico.conflist`, a pod, a command. Out: the requests for each plugin in order, and the
//! addresses in their result. Source: CNI specification 1.0.0, sections 3 and 5.
//! What always holds: ADD goes through the list forwards, each plugin given the result of the one before; DEL goes
//! backwards and is given ADD's final result. The lab itself never touches a pod's `eth0`.
//! Left out: `capabilities` (port mappings, bandwidth) and CHECK.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::lab::ETCD_PORT;
use crate::place::Output;
use crate::topology::Machine;
use crate::{Lab, LabError, Place, Pod, Result, names};

/// Where a node's network configuration is, as seen on the node.
pub const CONFLIST: &str = "/etc/cni/net.d/10-calico.conflist";
/// Where a node's plugins are, as seen on the node.
const PLUGIN_DIR: &str = "/opt/cni/bin";
const CNI_VERSION: &str = "1.0.0";

/// The configuration an administrator would write for a node of an etcd cluster.
pub fn conflist(node: &str, etcd_endpoints: &str, ipv6: bool) -> Value {
    let assign_ipv6 = if ipv6 { "true" } else { "false" };
    json!({
        "name": "k8s-pod-network",
        "cniVersion": CNI_VERSION,
        "plugins": [{
            "type": "calico",
            "log_level": "info",
            "datastore_type": "etcdv3",
            "etcd_endpoints": etcd_endpoints,
            "nodename": node,
            "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": assign_ipv6},
        }]
    })
}

/// One plugin's name and standard input for a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub plugin: String,
    pub config: Value,
}

/// The configuration of each plugin in a list, completed as a runtime does: the list's name and version, and the
/// pod's labels, which have no other way into a cluster without an orchestrator's API.
pub fn requests(conflist: &Value, labels: &[(String, String)]) -> Vec<Request> {
    let labels: Vec<Value> = labels.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    let plugins = conflist.get("plugins").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    plugins
        .iter()
        .filter_map(Value::as_object)
        .map(|plugin| {
            let mut config: Map<String, Value> = plugin.clone();
            for key in ["name", "cniVersion"] {
                config.insert(key.to_owned(), conflist.get(key).cloned().unwrap_or(Value::Null));
            }
            config.insert("args".to_owned(), json!({ "labels": labels }));
            let plugin = plugin.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            Request { plugin, config: Value::Object(config) }
        })
        .collect()
}

/// The addresses in a result, IPv4 and IPv6 in the plugin's order.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ips.iter()
        .filter_map(|ip| ip.get("address")?.as_str()?.parse::<IpNet>().ok())
        .map(|net| net.addr())
        .collect()
}

impl Lab {
    /// Writes a node's configuration and puts the plugins where a runtime looks for them.
    pub(crate) fn write_cni(&self, node: &Machine) -> Result<()> {
        let root = self.state().machine(&node.name);
        let endpoints = format!("http://{}:{ETCD_PORT}", self.infra_v4());
        crate::state::write_json(
            &root.outside(CONFLIST),
            &conflist(&node.name, &endpoints, self.config().ipv6),
        )?;
        for plugin in ["calico", "calico-ipam"] {
            let link = root.outside(PLUGIN_DIR).join(plugin);
            std::os::unix::fs::symlink(self.program(plugin)?, &link)
                .map_err(|e| LabError::io(format!("making {}", link.display()), e))?;
        }
        Ok(())
    }

    /// Gives a pod its network; returns the last plugin's result.
    pub(crate) fn cni_add(&self, pod: &Pod) -> Result<Value> {
        let mut result = None;
        for request in self.cni_requests(pod)? {
            result = Some(self.cni_run("ADD", pod, request, result.as_ref())?);
        }
        Ok(result.unwrap_or(Value::Null))
    }

    /// Takes a pod's network away.
    pub(crate) fn cni_del(&self, pod: &Pod) -> Result<()> {
        for request in self.cni_requests(pod)?.into_iter().rev() {
            self.cni_run("DEL", pod, request, pod.result.as_ref())?;
        }
        Ok(())
    }

    fn cni_requests(&self, pod: &Pod) -> Result<Vec<Request>> {
        let file = self.state().machine(&pod.node).outside(CONFLIST);
        Ok(requests(&crate::state::read_json(&file)?, &pod.labels))
    }

    fn cni_run(
        &self,
        command: &'static str,
        pod: &Pod,
        request: Request,
        previous: Option<&Value>,
    ) -> Result<Value> {
        let Request { plugin, mut config } = request;
        if let (Some(previous), Some(config)) = (previous, config.as_object_mut()) {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let output = self.exec_env(
            &Place::Machine(pod.node.clone()),
            &[&format!("{PLUGIN_DIR}/{plugin}")],
            &self.cni_env(command, pod),
            &config.to_string(),
        )?;
        let failed = |message: String| LabError::Cni {
            plugin: plugin.clone(),
            command,
            pod: pod.name.to_string(),
            message,
        };
        if output.code != 0 {
            return Err(failed(failure(&output)));
        }
        if command == "DEL" {
            return Ok(Value::Null);
        }
        serde_json::from_str(&output.stdout).map_err(|e| failed(format!("its result is no JSON: {e}")))
    }

    fn cni_env(&self, command: &str, pod: &Pod) -> Vec<(String, String)> {
        let crate::PodName { namespace, name } = &pod.name;
        let id = &pod.container_id;
        let netns = names::pod_netns(self.name(), &pod.name);
        [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", id.clone()),
            ("CNI_NETNS", format!("/run/netns/{netns}")),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", PLUGIN_DIR.to_owned()),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id}"
                ),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// A plugin's error object, or whatever it printed instead.
fn failure(output: &Output) -> String {
    let error: Option<Value> = serde_json::from_str(&output.stdout).ok();
    let message = error.as_ref().and_then(|e| e.get("msg")).and_then(Value::as_str);
    match message {
        Some(message) => {
            let details = error.as_ref().and_then(|e| e.get("details")).and_then(Value::as_str).unwrap_or("");
            format!("{message} {details}").trim().to_owned()
        }
        None => format!("exit code {}: {} {}", output.code, output.stdout.trim(), output.stderr.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_gets_the_lists_name_and_version_and_the_pods_labels() {
        let list = json!({"name": "net", "cniVersion": "1.0.0", "plugins": [
            {"type": "calico", "mtu": 1400}, {"type": "portmap"}]});
        let requests = requests(&list, &[("run".to_owned(), "access".to_owned())]);
        assert_eq!(requests.iter().map(|r| r.plugin.as_str()).collect::<Vec<_>>(), ["calico", "portmap"]);
        assert_eq!(
            requests[0].config,
            json!({"type": "calico", "mtu": 1400, "name": "net", "cniVersion": "1.0.0",
                   "args": {"labels": [{"key": "run", "value": "access"}]}})
        );
    }

    #[test]
    fn addresses_are_read_from_results_of_old_and_new_versions() {
        let old = json!({"ips": [{"version": "4", "address": "10.65.0.1/32"}]});
        let new = json!({"ips": [{"address": "10.65.0.1/32"}, {"address": "fd00::1/128"}]});
        assert_eq!(addresses(&old), ["10.65.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses(&new).len(), 2);
        assert!(addresses(&json!({})).is_empty());
        assert!(addresses(&json!({"ips": [{"address": 3}]})).is_empty());
    }

    #[test]
    fn a_plugins_own_words_are_passed_on() {
        let output = |stdout: &str| Output { code: 1, stdout: stdout.to_owned(), stderr: "boom".to_owned() };
        assert_eq!(failure(&output(r#"{"code": 11, "msg": "no pool", "details": "left"}"#)), "no pool left");
        assert_eq!(failure(&output("")), "exit code 1:  boom");
    }
}
