//! A call from its beginning to its exit code: the one place that touches the process.
//!
//! In come the process's environment and standard input, out go JSON on standard output and the exit code. Every call
//! ends within [`LIMIT`], and also where the plugin itself is wrong: a panic is told as an error of the specification.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::command;
use crate::error::{CniError, Code};
use crate::install::rejection;
use crate::log;
use crate::names;
use crate::request::{self, Command, Request};
use crate::result::version_json;

/// Longest time for a call. Kubelet gives up after two minutes.
const LIMIT: Duration = Duration::from_secs(90);
/// A network configuration is never larger.
const MAX_STDIN: u64 = 4 << 20;

/// Which of the two plugins the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    Calico,
    CalicoIpam,
}

impl Plugin {
    /// The plugin that this process was called as: one file can be both, under two names.
    #[must_use]
    pub fn called() -> Self {
        let called = std::env::args_os().next().map(PathBuf::from);
        let name = called.as_deref().and_then(Path::file_name);
        if name.is_some_and(|n| n == Self::CalicoIpam.name()) { Self::CalicoIpam } else { Self::Calico }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Calico => "calico",
            Self::CalicoIpam => "calico-ipam",
        }
    }
}

/// Serves the call that the process was started for.
#[must_use]
pub fn main(plugin: Plugin) -> ExitCode {
    if std::env::args().nth(1).is_some_and(|a| matches!(a.as_str(), "-v" | "--version" | "version")) {
        let _ = writeln!(std::io::stdout(), "v{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    names::by_hosts_file_and_dns();
    let mut stdin = Vec::new();
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    let read =
        if command.is_empty() { Ok(0) } else { std::io::stdin().take(MAX_STDIN).read_to_end(&mut stdin) };
    let version = request::version_for_errors(&stdin);
    tell_panics(version.clone());
    let outcome = read
        .map_err(|e| CniError::new(Code::Io, format!("standard input cannot be read: {e}")))
        .and_then(|_| request::parse(&stdin, |n| std::env::var(n).ok()))
        .and_then(|request| serve(plugin, &request, &stdin));
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(e) => (e.to_json(&version), ExitCode::FAILURE),
    };
    say(&text);
    code
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    // A runtime that does not listen any more has no use for an error about it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Lets a panic, on whatever thread, end the process with an error that the runtime can read. Nothing is undone: the
/// runtime's DEL finds what is left, as after a kill.
fn tell_panics(version: String) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(%panic, "the plugin is wrong");
        say(&of_panic(&panic.to_string()).to_json(&version));
        std::process::exit(1);
    }));
}

fn of_panic(what: &str) -> CniError {
    CniError::new(Code::Internal, format!("the plugin failed: {what}"))
        .with_details("this is a bug in the plugin: please report it with the log; DEL removes what is left")
}

fn serve(plugin: Plugin, request: &Request, stdin: &[u8]) -> Result<String, CniError> {
    if request.command == Command::Version {
        return Ok(version_json());
    }
    let started = Instant::now();
    log::init(plugin.name(), &request.conf);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CniError::new(Code::Io, format!("the runtime cannot start: {e}")))?;
    let outcome = runtime.block_on(async {
        let call = async {
            match plugin {
                Plugin::Calico => command::network(request, stdin).await,
                Plugin::CalicoIpam => command::ipam(request).await,
            }
        };
        tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| {
            Err(CniError::new(Code::TryAgainLater, format!("not done within {} s", LIMIT.as_secs())))
        })
    });
    if outcome.as_ref().is_err_and(|e| e.refused) {
        rejection::report(&request.conf.kubernetes.kubeconfig);
    }
    // Nothing may hold up the exit, such as a connection that is still being made.
    runtime.shutdown_background();
    let (command, container) = (request.command.name(), &request.container_id);
    let millis = started.elapsed().as_millis();
    match &outcome {
        Ok(_) => tracing::info!(command, %container, ifname = %request.ifname, millis, "done"),
        Err(e) => {
            tracing::error!(command, %container, ifname = %request.ifname, millis, error = %e, "failed");
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_specification() {
        let json: serde_json::Value =
            serde_json::from_str(&of_panic("index out of bounds").to_json("1.0.0")).unwrap();
        assert_eq!((&json["cniVersion"], &json["code"]), (&"1.0.0".into(), &104.into()));
        assert!(json["msg"].as_str().unwrap().contains("index out of bounds"));
        assert!(json["details"].as_str().unwrap().contains("report"));
    }
}
