//! `node diags`: what this machine's kernel, processes and logs say, in one archive.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::bird;
use crate::cli::NodeDiagsArgs;
use crate::command::diags::{Bundle, timestamp};

/// Logs beyond this size are left out and named.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// What commands print: name in the archive, program, arguments.
const COMMANDS: &[(&str, &str, &[&str])] = &[
    ("nft_ruleset", "nft", &["list", "ruleset"]),
    ("ip_address", "ip", &["-details", "address"]),
    ("ip_route", "ip", &["route", "show", "table", "all"]),
    ("ip_6_route", "ip", &["-6", "route", "show", "table", "all"]),
    ("ip_rule", "ip", &["rule"]),
    ("ip_neighbour", "ip", &["neighbour"]),
];

/// What the kernel tells in files.
const FILES: &[(&str, &str)] = &[
    ("kernel_version", "/proc/version"),
    ("hostname", "/proc/sys/kernel/hostname"),
    ("modules", "/proc/modules"),
    ("meminfo", "/proc/meminfo"),
    ("loadavg", "/proc/loadavg"),
    ("conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_count"),
    ("sockets_tcp", "/proc/net/tcp"),
    ("sockets_tcp6", "/proc/net/tcp6"),
    ("interfaces", "/proc/net/dev"),
];

/// Runs the command.
pub fn run(args: &NodeDiagsArgs) -> Result<()> {
    println!("Collecting diagnostics");
    let mut bundle = Bundle::new(&std::env::temp_dir(), &format!("calico-node-diags-{}", timestamp()))?;
    for (name, program, arguments) in COMMANDS {
        println!("Dumping {program} {}", arguments.join(" "));
        bundle.command(name, program, arguments)?;
    }
    for (name, path) in FILES {
        bundle.copy(name, Path::new(path))?;
    }
    bundle.text("processes", processes())?;
    match bird::sessions(&args.bird_socket) {
        Ok(sessions) => bundle.text("bgp_sessions", crate::command::node_status::render(&sessions))?,
        Err(e) => bundle.missed(format!("BGP sessions: {e}")),
    }
    println!("Copying logs of {}", args.log_dir.display());
    logs(&mut bundle, &args.log_dir, "logs")?;
    println!("Diags saved to {}", bundle.finish(false)?.display());
    Ok(())
}

/// Number, parent, state, memory and command line of every process.
fn processes() -> String {
    let mut text = "PID\tPPID\tSTATE\tVmRSS\tCOMMAND\n".to_owned();
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        // A process may end in between.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let command = if arguments.is_empty() { format!("[{}]", field("Name")) } else { arguments };
        let (parent, state, memory) = (field("PPid"), field("State"), field("VmRSS"));
        let _ = writeln!(text, "{pid}\t{parent}\t{state}\t{memory}\t{command}");
    }
    text
}

fn logs(bundle: &mut Bundle, dir: &Path, name: &str) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            bundle.missed(format!("logs: {}: {e}", dir.display()));
            return Ok(());
        }
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let inside = format!("{name}/{}", entry.file_name().to_string_lossy());
        if kind.is_dir() {
            logs(bundle, &entry.path(), &inside)?;
        } else if kind.is_file() {
            match entry.metadata() {
                Ok(m) if m.len() <= MAX_LOG_BYTES => bundle.copy(&inside, &entry.path())?,
                _ => bundle.missed(format!("{}: larger than {MAX_LOG_BYTES} bytes", entry.path().display())),
            }
        }
    }
    Ok(())
}
