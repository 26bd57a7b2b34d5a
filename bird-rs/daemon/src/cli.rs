//! The command line: BIRD's, with `replay` added.
//!
//! Unlike BIRD, the daemon stays in the foreground by itself: who supervises it wants it so. `-f` and `-d` are
//! accepted and change nothing but where the log goes.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// BGP routing daemon with BIRD 2's configuration and control socket.
#[derive(Debug, Parser)]
#[command(
    name = "bird-rs",
    version,
    about,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    /// Configuration file.
    #[arg(short = 'c', value_name = "FILE", default_value = "/etc/bird/bird.conf")]
    pub config: PathBuf,
    /// Control socket.
    #[arg(short = 's', value_name = "SOCKET", default_value = "/run/bird/bird.ctl")]
    pub socket: PathBuf,
    /// Check the configuration and exit: 0 when it is valid, 1 when not.
    #[arg(short = 'p')]
    pub parse_only: bool,
    /// Stay in the foreground (it always does).
    #[arg(short = 'f')]
    pub foreground: bool,
    /// Debug messages on standard error.
    #[arg(short = 'd')]
    pub debug: bool,
    /// Debug messages into this file.
    #[arg(short = 'D', value_name = "FILE")]
    pub debug_file: Option<PathBuf>,
    /// Begin with a graceful restart: neighbours and the kernel still have our routes. On SIGTERM sessions are
    /// closed so that neighbours keep them again.
    #[arg(short = 'R')]
    pub recover: bool,
    /// Write the process number to this file.
    #[arg(short = 'P', value_name = "PIDFILE")]
    pub pid_file: Option<PathBuf>,
    /// Write every input event to this file, for `replay`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Feed recorded events to an engine and print what it would have done.
    Replay {
        /// File written by `--record`.
        file: PathBuf,
    },
}
