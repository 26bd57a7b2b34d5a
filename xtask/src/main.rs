//! Checks of the repository itself, run by `make check` and CI.
//!
//! `tidy`: orphan source files, long files and functions, open tasks in code without a row in docs/open.md.
//! `licences`: every dependency's licence against the list in deny.toml. `crds`: writes the definitions in
//! charts/calico/crds from the API types, or with `--check` tells which are stale. Left out: style (rustfmt, clippy).

mod crds;
mod licences;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let findings = match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::check(&root)?,
        Some("crds") if std::env::args().nth(2).as_deref() == Some("--check") => crds::check(&root)?,
        Some("crds") => crds::write(&root)?,
        Some("licences") => licences::check(&root)?,
        _ => {
            eprintln!("usage: cargo xtask tidy | licences | crds [--check]");
            return Ok(ExitCode::from(2));
        }
    };
    for f in &findings {
        eprintln!("{f}");
    }
    if findings.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("{} finding(s)", findings.len());
        Ok(ExitCode::FAILURE)
    }
}
