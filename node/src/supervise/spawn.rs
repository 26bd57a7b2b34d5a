//! Starts a child that does not outlive calico-node.
//!
//! Two calico-nodes must never have two felixes or two BGP daemons between them, so the kernel ends a child when its
//! parent is gone, even by SIGKILL. The signal is the child's own stop signal: none of them changes what is in the
//! kernel when it gets it.

#![allow(unsafe_code)]

use std::io;
use std::process::Stdio;

use nix::sys::prctl::set_pdeathsig;
use nix::unistd::{Pid, getppid};
use tokio::process::{Child, Command};

use super::ChildSpec;

/// Starts the child with its output on pipes.
pub fn spawn(spec: &ChildSpec) -> io::Result<Child> {
    let parent = Pid::this();
    let signal = spec.stop_signal;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .envs(spec.environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C at a terminal is for calico-node, which ends its children in order.
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid, which are plain system
    // calls; no memory is allocated and no lock taken.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(signal)?;
            // The parent may have ended before the line above: then nobody would send the signal.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    command.spawn()
}
