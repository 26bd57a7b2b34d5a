//! `calico-felix`: Calico's agent on every node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use calico_felix::config::{DEFAULT_FILE, Raw};
use calico_felix::recorder::{self, Recorder};
use calico_felix::{control, pipeline};
use clap::{Parser, Subcommand};
use libcalico_telemetry::{Severity, init_logging};

/// Calico's agent on every node: programs policy, routes and interfaces.
#[derive(Debug, Parser)]
#[command(name = "calico-felix", version)]
struct Arguments {
    /// Configuration file.
    #[arg(short = 'c', long, value_name = "FILE", default_value = DEFAULT_FILE, global = true)]
    config_file: PathBuf,
    /// Write everything that comes from the datastore to a file, for `replay`.
    #[arg(long, value_name = "FILE", env = "CALICO_FELIX_RECORD")]
    record: Option<PathBuf>,
    /// Largest size of that file; a recording that reaches it ends.
    #[arg(
        long,
        value_name = "BYTES",
        env = "CALICO_FELIX_RECORD_LIMIT",
        default_value_t = recorder::DEFAULT_LIMIT,
        value_parser = clap::value_parser!(u64).range(recorder::LEAST_LIMIT..),
    )]
    record_limit: u64,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Go through a recording, or a file of calculation states, and print what differs from what is expected. The exit
    /// code is 1 where something differs, or could not be compared.
    Replay { file: PathBuf },
    /// Print what the running Felix believes and what stands in the kernel.
    Dump {
        /// The running Felix's socket.
        #[arg(long, value_name = "PATH", env = "CALICO_FELIX_SOCKET", default_value = control::DEFAULT_PATH)]
        socket: PathBuf,
    },
    /// Print the reference page of all parameters, in Markdown, without the descriptions of fields.
    ConfigReference,
    /// Print the version.
    Version,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.verb {
        Some(Verb::Version) => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::ConfigReference) => {
            print!("{}", calico_felix::config::reference::page(|_| None));
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Replay { file }) => replay(&file),
        Some(Verb::Dump { socket }) => {
            let text = control::ask(&socket)
                .with_context(|| format!("{}: does calico-felix run here?", socket.display()))?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        None => run(&arguments.config_file, arguments.record.as_deref(), arguments.record_limit),
    }
}

fn replay(file: &Path) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let report = felix_calc::replay::run(&text).with_context(|| file.display().to_string())?;
    print!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(file: &Path, record: Option<&Path>, record_limit: u64) -> anyhow::Result<ExitCode> {
    felix_dataplane::kernel::memory::configure();
    let log = init_logging("felix", Severity::Info);
    let mut local = Raw::default();
    local.read_file(file)?;
    // A variable that is no text is none of Felix's.
    local.set_environment(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    );
    let machine = nix::unistd::gethostname().context("this machine's name")?.to_string_lossy().into_owned();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Felix starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let recorder = record.map(|path| {
        Recorder::create(path, record_limit).with_context(|| format!("{}: cannot record", path.display()))
    });
    let felix = pipeline::Felix::new(local, machine, recorder.transpose()?, log);
    runtime.block_on(felix.run()).inspect_err(|e| tracing::error!(error = %e, "Felix ends"))?;
    Ok(ExitCode::SUCCESS)
}
