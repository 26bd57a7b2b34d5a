//! `lab demo`: the whole of it in one command, from nothing to nothing.
//!
//! In: the options of `up`. Out: progress, the quickstart's table, the cluster as calicoctl shows it; exit code 0
//! when all was as expected. What always holds: the lab is removed at the end, also after an error or Ctrl-C.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, Result};
use e2e::{Lab, LabConfig, Place, PodSpec};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::UpArgs;
use crate::progress;

/// What is shown of the cluster, and where each command runs.
const SHOWN: [(&str, &[&str]); 4] = [
    ("n1", &["node", "status"]),
    ("infra", &["get", "nodes", "-o", "wide"]),
    ("infra", &["get", "ippool", "-o", "wide"]),
    ("infra", &["get", "workloadEndpoint", "--all-namespaces", "-o", "wide"]),
];

/// Runs the demo.
pub fn run(args: UpArgs) -> Result<ExitCode> {
    let config = LabConfig::from(args);
    let name = config.name.clone();
    let say = progress();
    down_on_signal(&name)?;
    let lab = Lab::up_or_down(config, &say)?;
    let passed = lab.quickstart(&say).map(|report| {
        println!("\n{report}\n");
        report.passed()
    });
    let shown = show(&lab);
    drop(lab);
    say(&format!("lab {name} is gone"));
    shown?;
    Ok(crate::success_if(passed?))
}

fn show(lab: &Lab) -> Result<()> {
    // The quickstart removed its pods: two more, so that there is something to see.
    let nodes = lab.topology().nodes().take(2);
    for (index, node) in nodes.enumerate() {
        let name = format!("web-{}", index + 1);
        lab.pod_run(PodSpec::new("default", &name, &node.name)?.label("app", "web").serve(80))?;
    }
    let program = lab.program("calicoctl")?.display().to_string();
    for (machine, args) in SHOWN {
        println!("{machine}$ calicoctl {}", args.join(" "));
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(args.iter().copied()).collect();
        println!("{}", lab.exec_ok(&Place::Machine(machine.to_owned()), &argv, "")?);
    }
    Ok(())
}

/// Removes the lab and ends the program when the terminal or the system asks it to stop.
///
/// The program is replaced by `lab down`: that ends whatever it was doing, and gives back the lock it may hold.
pub fn down_on_signal(name: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("making a runtime for signals")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    drop(guard);
    let program = std::env::current_exe().context("finding the running program")?;
    let mut down = Command::new("sh");
    // 130: ended by Ctrl-C, as shells say it.
    down.args(["-c", "\"$0\" down --name \"$1\"; exit 130"]).arg(program).arg(name);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("lab: stopped; removing the lab");
        let error = down.exec();
        eprintln!("lab: {error}; `lab down` removes the lab");
        std::process::exit(1);
    });
    Ok(())
}
