//! `convert`: what files would be stored as, printed instead.
//!
//! Manifests of Calico's API v1 become v3, policies of Kubernetes become Calico's, an Installation its pools; defaults
//! are filled in.

use std::io::Write as _;

use crate::Result;
use crate::cli::ConvertArgs;
use crate::output::{Context, Format, Listing, render};
use crate::resource_file::{Loaded, Purpose, load};

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let format = Format::parse(&args.output)?;
    let loaded = load(&args.input, Purpose::Convert)?;
    let objects = loaded.into_iter().map(Loaded::into_calico).collect::<Result<Vec<_>, _>>()?;
    let mut texts = Vec::new();
    for mut resource in objects.into_iter().flatten() {
        resource.set_defaults();
        let listing = Listing { kind: resource.kind(), items: vec![resource], revision: None };
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
