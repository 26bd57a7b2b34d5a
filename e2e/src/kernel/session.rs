//! Starting a process in a session of its own: the one system call the standard library has no safe way to.
//!
//! Left out: everything else about processes; see [`crate::process`].
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command lead a new session, so that neither the terminal's signals nor its hang-up reach it.
pub fn in_new_session(command: &mut Command) {
    // SAFETY: between fork and exec only `setsid` runs, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}
