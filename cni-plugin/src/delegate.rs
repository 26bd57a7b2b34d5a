//! IPAM plugins other than `calico-ipam`: `host-local`, `static`, `dhcp` and whatever else stands in `CNI_PATH`.
//!
//! In come the request's environment and standard input unchanged, as the specification's delegation wants, out comes
//! the plugin's result or its error. The child gets a bounded time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{CniError, Code};
use crate::request::{self, Request};
use crate::result::CniResult;

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
