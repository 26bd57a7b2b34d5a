//! IPAM plugins other than `calico-ipam`: `host-local`, `static`, `dhcp` and whatever else stands in `CNI_PATH`.
//!
//! In come the request's environment and standard input unchanged, as the specification's delegation wants, out comes
//! the plugin's result or its error. The child gets a bounded time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{CniError, Code};
use crate::facts;
use crate::request::{self, Request};
use crate::result::CniResult;
use crate::store::Stores;
use crate::workload::Workload;

/// Longest run of another plugin: `dhcp` waits for a server.
const TIME: Duration = Duration::from_secs(60);

/// Calls the request's IPAM plugin with `command` (ADD, DEL, CHECK). The result is empty for all but ADD.
pub async fn call(request: &Request, stdin: &[u8], command: request::Command) -> Result<CniResult, CniError> {
    let type_ = &request.conf.ipam.type_;
    let program = find(&request.path, type_)?;
    let wrong =
        |e: std::io::Error| CniError::new(Code::Ipam, format!("IPAM plugin {}: {e}", program.display()));
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", command.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(wrong)?;
    let run = async {
        if let Some(mut pipe) = child.stdin.take() {
            // A plugin that does not read its configuration closes the pipe: its own answer says more.
            let _ = pipe.write_all(stdin).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIME, run)
        .await
        .map_err(|_| {
            CniError::new(
                Code::TryAgainLater,
                format!("IPAM plugin {type_} did not end within {} s", TIME.as_secs()),
            )
        })?
        .map_err(wrong)?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if !output.status.success() {
        let text =
            |key: &str| value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let code = value.get("code").and_then(serde_json::Value::as_u64);
        let code = if code == Some(Code::TryAgainLater as u64) { Code::TryAgainLater } else { Code::Ipam };
        return Err(CniError::new(
            code,
            format!("IPAM plugin {type_} failed ({}): {}", output.status, text("msg")),
        )
        .with_details(text("details")));
    }
    if command == request::Command::Add { CniResult::parse(&value) } else { Ok(CniResult::default()) }
}

/// True where the other plugin gets addresses over the pod's interface, which must stand before ADD and until after DEL.
pub fn by_interface(request: &Request) -> bool {
    request.conf.ipam.type_ == "dhcp"
}

/// Standard input for the other plugin's ADD: `usePodCidr` is replaced by what Kubernetes gave the node.
pub async fn stdin_for_add(
    request: &Request,
    stdin: &[u8],
    stores: &Stores,
    w: &Workload,
) -> Result<Vec<u8>, CniError> {
    if !uses_pod_cidr(request) {
        return Ok(stdin.to_vec());
    }
    let api = stores.api.as_deref().ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "ipam.subnet \"usePodCidr\" needs the API server's address")
            .with_details(
                "set kubernetes.kubeconfig in the network configuration, or write the node's subnet",
            )
    })?;
    let named = &request.conf.kubernetes.node_name;
    let node = if named.is_empty() { &w.node } else { named };
    let (v4, v6) = facts::pod_cidrs(api, node).await?;
    replace_pod_cidr(stdin, v4.as_deref(), v6.as_deref())
}

/// Standard input for DEL and CHECK, where any subnet does: addresses are found by the container.
pub fn stdin_for_del(request: &Request, stdin: &[u8]) -> Result<Vec<u8>, CniError> {
    if uses_pod_cidr(request) {
        replace_pod_cidr(stdin, Some("0.0.0.0/0"), Some("::/0"))
    } else {
        Ok(stdin.to_vec())
    }
}

fn uses_pod_cidr(request: &Request) -> bool {
    let ipam = &request.conf.ipam;
    let ranges = ipam.ranges.as_array().into_iter().flatten().filter_map(Value::as_array).flatten();
    ipam.type_ == "host-local"
        && ranges.filter_map(|r| r.get("subnet")).chain(Some(&ipam.subnet)).any(|s| wish(s).is_some())
}

/// Which family a subnet asks for: `usePodCidr` IPv4, `usePodCidrIPv6` IPv6.
fn wish(subnet: &Value) -> Option<bool> {
    let text = subnet.as_str()?;
    if text.eq_ignore_ascii_case("usePodCidr") {
        Some(false)
    } else {
        text.eq_ignore_ascii_case("usePodCidrIPv6").then_some(true)
    }
}

fn replace_pod_cidr(stdin: &[u8], v4: Option<&str>, v6: Option<&str>) -> Result<Vec<u8>, CniError> {
    let mut conf: Value = serde_json::from_slice(stdin)
        .map_err(|e| CniError::new(Code::Decode, format!("the network configuration cannot be read: {e}")))?;
    let replace = |holder: &mut Value| {
        let Some(subnet) = holder.get_mut("subnet") else { return Ok(()) };
        let Some(six) = wish(subnet) else { return Ok(()) };
        let family = if six { "IPv6" } else { "IPv4" };
        let cidr = if six { v6 } else { v4 };
        *subnet = Value::from(cidr.ok_or_else(|| {
            CniError::new(Code::InvalidConfig, format!("the node has no {family} podCIDR"))
                .with_details("usePodCidr is for IPv4, usePodCidrIPv6 for IPv6: see Node.spec.podCIDRs")
        })?);
        Ok::<_, CniError>(())
    };
    if let Some(ipam) = conf.get_mut("ipam") {
        replace(ipam)?;
        for set in ipam.get_mut("ranges").and_then(Value::as_array_mut).into_iter().flatten() {
            for range in set.as_array_mut().into_iter().flatten() {
                replace(range)?;
            }
        }
    }
    Ok(conf.to_string().into_bytes())
}

fn find(path: &[PathBuf], type_: &str) -> Result<PathBuf, CniError> {
    if type_.is_empty() || type_.contains('/') || type_ == "." || type_ == ".." {
        return Err(CniError::new(
            Code::InvalidConfig,
            format!("ipam.type {type_:.60?} is no plugin's name"),
        ));
    }
    path.iter().map(|dir| dir.join(type_)).find(|p| is_program(p)).ok_or_else(|| {
        CniError::new(Code::InvalidConfig, format!("there is no IPAM plugin {type_:?} in CNI_PATH"))
            .with_details(path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":"))
    })
}

fn is_program(p: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
