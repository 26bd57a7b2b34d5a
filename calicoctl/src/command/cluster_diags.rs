//! `cluster diags`: every object and IPAM's records of the datastore, in one archive; on Kubernetes also the cluster's
//! own objects and the logs of Calico's pods.
//!
//! What cannot be had is named in the archive. Left out: Secrets, and the state of the nodes' kernels, which `calicoctl
//! node diags` collects on a node.

use libcalico_api::Kind;
use libcalico_datastore::{Scope, resources};

use crate::cli::{ClusterDiagsArgs, Global};
use crate::command::cluster_logs as logs;
use crate::command::diags::{Bundle, timestamp};
use crate::output::{Context, Format, Listing, render};
use crate::{Result, client};

/// Runs the command.
pub async fn run(args: &ClusterDiagsArgs, global: &Global) -> Result<()> {
    let since = args.since.as_deref().map(logs::since_seconds).transpose()?;
    let stores = client::open_both(&args.config, global).await?;
    let store = &stores.calico;
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
    match stores.kubernetes {
        Some(kubernetes) => {
            let focus = args.focus_nodes.as_deref().unwrap_or_default();
            let wish = logs::Wish {
                since,
                most: args.max_logs,
                at_once: args.max_parallelism.max(1),
                focus: focus.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
            };
            logs::collect(&kubernetes, &wish, &mut bundle).await?;
        }
        None => bundle.missed(
            "logs of pods: the datastore is etcd; run `calicoctl node diags` on the nodes".to_owned(),
        ),
    }
    bundle.missed("state of the nodes' kernels: run `calicoctl node diags` on the nodes".to_owned());
    let archive = bundle.finish(args.skip_temp_dir_cleanup)?;
    println!("==== Diagnostics saved to {} ====", archive.display());
    Ok(())
}
