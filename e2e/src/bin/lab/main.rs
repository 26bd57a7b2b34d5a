//! `lab`: Calico clusters of network namespaces on one machine, for people.
//!
//! In: a verb and its options. Out: what the verb says, and an exit code: 0, 1 when something is not as expected
//! or failed, or the code of the command run by `exec`.

mod cli;
mod demo;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use e2e::probe::Protocol;
use e2e::{Lab, LabConfig, LabError, PodName, PodSpec, Target};

use cli::{Cli, PodVerb, ProbeArgs, RunArgs, UpArgs, Verb};

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(args) => up(args),
        Verb::Status(lab) => status(&lab.name),
        Verb::Pod { verb: PodVerb::Run(args) } => pod_run(args),
        Verb::Pod { verb: PodVerb::Delete { lab, pod } } => {
            Lab::attach(&lab.name)?.pod_delete(&pod.parse::<PodName>()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Probe(args) => probe(&args),
        Verb::Exec { lab, place, command } => {
            let lab = Lab::attach(&lab.name)?;
            let code = lab.exec_attached(&lab.place(&place)?, &command)?;
            Ok(exit_code(code))
        }
        Verb::Quickstart(lab) => quickstart(&lab.name),
        Verb::Down(lab) => {
            Lab::down(&lab.name)?;
            println!("lab {} is gone", lab.name);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Demo(args) => demo::run(args),
        Verb::Bench { lab, rounds } => bench(lab, rounds),
        Verb::ServeInternal { name, ports } => {
            e2e::serve::serve(&name, &ports)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(args: UpArgs) -> Result<ExitCode> {
    let config = LabConfig::from(args);
    let name = config.name.clone();
    let say = progress();
    match Lab::up(config, &say) {
        Ok(lab) => {
            lab.keep();
            say(&format!("lab {name} is up; `lab status --name {name}` shows it"));
            Ok(ExitCode::SUCCESS)
        }
        Err(e @ (LabError::Exists { .. } | LabError::NotRoot | LabError::BadName { .. })) => Err(e.into()),
        Err(e) => Err(e).with_context(|| {
            format!("lab {name} did not come up; `lab down --name {name}` removes what is there")
        }),
    }
}

/// Lines with the time since the start, on standard error so that output can be piped.
fn progress() -> impl Fn(&str) {
    let start = Instant::now();
    move |line: &str| {
        let mut err = std::io::stderr().lock();
        let (dim, plain) = if err.is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        // Nobody reads it: nothing to be done about that.
        let _ = writeln!(err, "{dim}[{:5.1} s]{plain} {line}", start.elapsed().as_secs_f64());
    }
}

fn status(name: &str) -> Result<ExitCode> {
    let lab = Lab::attach(name)?;
    print!("{}", lab.status()?);
    Ok(success_if(lab.healthy()?))
}

fn pod_run(args: RunArgs) -> Result<ExitCode> {
    let lab = Lab::attach(&args.lab.name)?;
    let pod = lab.pod_run(PodSpec {
        name: args.pod.parse()?,
        node: args.node,
        labels: args.labels,
        serve: args.serve,
    })?;
    for address in pod.addresses() {
        println!("{address}");
    }
    Ok(ExitCode::SUCCESS)
}

fn probe(args: &ProbeArgs) -> Result<ExitCode> {
    let lab = Lab::attach(&args.lab.name)?;
    let protocol = match (args.udp, args.icmp) {
        (true, _) => Protocol::Udp,
        (_, true) => Protocol::Icmp,
        _ => Protocol::Tcp,
    };
    let report = lab.probe(&lab.place(&args.from)?, &Target::parse(&args.to)?, protocol, args.expect)?;
    println!("{report}");
    let Some(expect) = args.expect else { return Ok(success_if(report.allowed())) };
    let matches = report.matches(expect);
    if !matches {
        eprintln!("lab: expected: {expect}");
    }
    Ok(success_if(matches))
}

fn quickstart(name: &str) -> Result<ExitCode> {
    let report = Lab::attach(name)?.quickstart(&progress())?;
    println!("{report}");
    Ok(success_if(report.passed()))
}

fn bench(args: UpArgs, rounds: usize) -> Result<ExitCode> {
    let say = progress();
    let lab = match Lab::attach(&args.lab.name) {
        Err(LabError::NotFound { name }) => {
            demo::down_on_signal(&name)?;
            Lab::up_or_down(args.into(), &say)?
        }
        result => result?,
    };
    println!("{}", lab.bench(rounds, &say)?);
    Ok(ExitCode::SUCCESS)
}

fn success_if(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
