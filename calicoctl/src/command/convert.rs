//! `convert`: what files would be stored as, printed instead.
//!
//! Policies of Kubernetes become Calico's, defaults are filled in. Manifests of Calico's API v1 are not read.

use std::io::Write as _;

use crate::Result;
use crate::cli::ConvertArgs;
use crate::output::{Context, Format, Listing, render};
use crate::resource_file::{Purpose, load};

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let format = Format::parse(&args.output)?;
    let listings = load(&args.input, Purpose::Write)?.into_iter().map(|mut l| {
        l.resource.set_defaults();
        Listing { kind: l.resource.kind(), items: vec![l.resource], revision: None }
    });
    let mut texts = Vec::new();
    for listing in listings {
        texts.push(render(&[listing], &format, &Context::default())?);
    }
    // JSON has no mark between documents; readers of a stream need none.
    let between = if format == Format::Yaml { "---\n" } else { "\n" };
    let mut out = std::io::stdout().lock();
    out.write_all(texts.join(between).as_bytes())?;
    if format == Format::Json {
        out.write_all(b"\n")?;
    }
    Ok(())
}
