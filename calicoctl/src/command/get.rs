//! `get`: prints objects of kinds, by name or all.

use std::io::{IsTerminal as _, Write as _};

use libcalico_api::network_policy::NetworkPolicy;
use libcalico_api::{Kind, Resource, profile};
use libcalico_datastore::{Datastore, DatastoreError, resources};
use libcalico_model::kubernetes::network_policy;

use crate::cli::{GetArgs, Global};
use crate::error::datastore_message;
use crate::foreign::ForeignKind;
use crate::output::{Context, Format, Listing, render};
use crate::resource_file::{Item, Loaded, Purpose, load};
use crate::{Error, Result, client, kinds};

/// AS number of a cluster that names none.
const DEFAULT_AS_NUMBER: u32 = 64512;

/// Runs the command.
pub async fn run(args: &GetArgs, global: &Global) -> Result<()> {
    let format = Format::parse(&args.output)?;
    if args.all_namespaces && !args.input.namespace.is_empty() {
        return Err(Error::Usage(
            "cannot use both --namespace and --all-namespaces flags at the same time".to_owned(),
        ));
    }
    let kinds = match &args.kind {
        Some(words) => words.split(',').map(kinds::find).collect::<Result<Vec<Kind>>>()?,
        None => Vec::new(),
    };
    let store = client::open(&args.config, global).await?;
    let mut errors = Vec::new();
    let mut listings = if kinds.is_empty() {
        named_by_files(store.as_ref(), args, &mut errors).await?
    } else {
        named_by_flags(store.as_ref(), args, &kinds, &mut errors).await?
    };
    if args.export {
        listings.iter_mut().flat_map(|l| &mut l.items).for_each(forget_cluster);
    }
    let context = Context {
        all_namespaces: args.all_namespaces,
        default_as_number: default_as_number(store.as_ref(), &listings, &format).await?,
    };
    if errors.is_empty() || listings.iter().any(|l| !l.items.is_empty()) {
        print(&render(&listings, &format, &context)?)?;
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Action(errors.join("\n"))) }
}

/// A reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let newline = if !text.ends_with('\n') && out.is_terminal() { "\n" } else { "" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

async fn named_by_flags(
    store: &dyn Datastore,
    args: &GetArgs,
    kinds: &[Kind],
    errors: &mut Vec<String>,
) -> Result<Vec<Listing>> {
    let mut listings = Vec::new();
    for &kind in kinds {
        let namespace = match args.input.namespace.as_str() {
            _ if args.all_namespaces || !kind.namespaced() => None,
            "" => Some("default"),
            given => Some(given),
        };
        if args.names.is_empty() {
            listings.push(list(store, kind, namespace).await?);
            continue;
        }
        let mut listing = Listing { kind, items: Vec::new(), revision: None };
        for name in &args.names {
            if args.all_namespaces && kind.namespaced() {
                let all = list(store, kind, None).await?;
                listing.items.extend(all.items.into_iter().filter(|r| r.metadata().name == *name));
                continue;
            }
            match one(store, kind, namespace.unwrap_or_default(), name).await {
                Ok(r) => listing.items.push(r),
                Err(e @ DatastoreError::NotFound(_)) => errors.push(datastore_message(&e)),
                Err(e) => return Err(e.into()),
            }
        }
        listings.push(listing);
    }
    Ok(listings)
}

async fn named_by_files(
    store: &dyn Datastore,
    args: &GetArgs,
    errors: &mut Vec<String>,
) -> Result<Vec<Listing>> {
    let mut listings: Vec<Listing> = Vec::new();
    for item in load(&args.input, Purpose::Name)? {
        for named in named_by(item)? {
            add_named(store, named, &mut listings, errors).await?;
        }
    }
    Ok(listings)
}

/// What is asked for by a document. A NetworkPolicy of Kubernetes is shown in Calico's form.
fn named_by(item: Loaded) -> Result<Vec<Resource>> {
    match item.item {
        Item::Calico(r) => Ok(vec![r]),
        Item::Foreign(f) if f.kind == ForeignKind::NetworkPolicy => {
            let mut named = NetworkPolicy::default();
            named.metadata.namespace.clone_from(&f.namespace);
            named.metadata.name = format!("{}{}", network_policy::NAME_PREFIX, f.name);
            Ok(vec![named.into()])
        }
        Item::Foreign(f) => Err(Error::of_kubernetes(f.kind)),
    }
}

async fn add_named(
    store: &dyn Datastore,
    mut named: Resource,
    listings: &mut Vec<Listing>,
    errors: &mut Vec<String>,
) -> Result<()> {
    if named.metadata().name.is_empty() {
        named.set_defaults();
    }
    let (kind, meta) = (named.kind(), named.metadata());
    match one(store, kind, &meta.namespace, &meta.name).await {
        Ok(r) => match listings.iter_mut().find(|l| l.kind == kind) {
            Some(listing) => listing.items.push(r),
            None => listings.push(Listing { kind, items: vec![r], revision: None }),
        },
        Err(e @ DatastoreError::NotFound(_)) => errors.push(datastore_message(&e)),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

async fn one(
    store: &dyn Datastore,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Resource, DatastoreError> {
    if kind == Kind::Profile && name == profile::DEFAULT_ALLOW {
        return Ok(profile::default_allow().into());
    }
    resources::get(store, kind, namespace, name).await
}

async fn list(store: &dyn Datastore, kind: Kind, namespace: Option<&str>) -> Result<Listing> {
    let (mut items, revision) = resources::list(store, kind, namespace).await?;
    match kind {
        Kind::Profile => items.push(profile::default_allow().into()),
        Kind::Tier => items.sort_by(|a, b| tier_order(a).total_cmp(&tier_order(b))),
        _ => {}
    }
    Ok(Listing { kind, items, revision: Some(revision.0) })
}

/// Tiers are shown in the order in which they are walked through.
fn tier_order(r: &Resource) -> f64 {
    match r {
        Resource::Tier(t) => t.spec.order.unwrap_or(f64::INFINITY),
        _ => f64::INFINITY,
    }
}

/// The wide table of nodes shows the cluster's AS number where a node has none.
async fn default_as_number(store: &dyn Datastore, listings: &[Listing], format: &Format) -> Result<u32> {
    let asked =
        matches!(format, Format::Wide | Format::Custom(_)) && listings.iter().any(|l| l.kind == Kind::Node);
    if !asked {
        return Ok(DEFAULT_AS_NUMBER);
    }
    match resources::get(store, Kind::BGPConfiguration, "", "default").await {
        Ok(Resource::BGPConfiguration(b)) => Ok(b.spec.as_number.map_or(DEFAULT_AS_NUMBER, |n| n.0)),
        Ok(_) | Err(DatastoreError::NotFound(_)) => Ok(DEFAULT_AS_NUMBER),
        Err(e) => Err(e.into()),
    }
}

pub fn forget_cluster(r: &mut Resource) {
    let meta = r.metadata_mut();
    meta.uid.clear();
    meta.resource_version.clear();
    meta.generation = None;
    meta.creation_timestamp = None;
    meta.deletion_timestamp = None;
}
