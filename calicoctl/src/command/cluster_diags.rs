//! `cluster diags`: every object and IPAM's records of the datastore, in one archive.
//!
//! What upstream collects through the Kubernetes API (pods' logs, the nodes' own state) is named as not collected.

use libcalico_api::Kind;
use libcalico_datastore::{Scope, resources};

use crate::cli::{ClusterDiagsArgs, Global};
use crate::command::diags::{Bundle, timestamp};
use crate::output::{Context, Format, Listing, render};
use crate::{Result, client};

/// Runs the command.
pub async fn run(args: &ClusterDiagsArgs, global: &Global) -> Result<()> {
    let store = client::open(&args.config, global).await?;
    println!("==== Begin collecting diagnostics. ====");
    let here = std::env::current_dir()?;
    let mut bundle = Bundle::new(&here, &format!("calico-diagnostics-{}", timestamp()))?;
    for kind in Kind::ALL {
        match resources::list(store.as_ref(), *kind, None).await {
            Ok((items, revision)) => {
                let listing = Listing { kind: *kind, items, revision: Some(revision.to_string()) };
                let text = render(&[listing], &Format::Yaml, &Context::default())?;
                bundle.text(&format!("resources/{}.yaml", kind.plural()), text)?;
            }
            Err(e) => bundle.missed(format!("{}: {e}", kind.plural())),
        }
    }
    for (name, scope) in [
        ("blocks", Scope::Blocks),
        ("handles", Scope::Handles),
        ("affinities", Scope::BlockAffinities { host: None }),
        ("config", Scope::IpamConfig),
    ] {
        match store.list(&scope).await {
            Ok(listing) => {
                let mut text = Vec::new();
                for kv in listing.items {
                    text.extend(format!("{}\n", kv.key).bytes());
                    text.extend(kv.value.to_bytes());
                    text.push(b'\n');
                }
                bundle.text(&format!("ipam/{name}.txt"), text)?;
            }
            Err(e) => bundle.missed(format!("IPAM {name}: {e}")),
        }
    }
    let flags = [
        ("--focus-nodes", args.focus_nodes.is_some()),
        ("--max-logs", args.max_logs.is_some()),
        ("--max-parallelism", args.max_parallelism.is_some()),
        ("--since", args.since.is_some()),
    ];
    for (flag, _) in flags.iter().filter(|(_, given)| *given) {
        bundle.missed(format!("{flag} concerns pods' logs"));
    }
    bundle.missed(
        "logs of pods and state of nodes, which need the Kubernetes API: run `calicoctl node diags` on the nodes"
            .to_owned(),
    );
    let archive = bundle.finish(args.skip_temp_dir_cleanup)?;
    println!("==== Diagnostics saved to {} ====", archive.display());
    Ok(())
}
