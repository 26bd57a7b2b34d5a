//! `ipam release`: frees one address, or what reports of `ipam check` call leaked.
//!
//! From reports: what counts is what all of them say of the same handle and number, so an address that was given out
//! again in between stays. The cluster must be the reports', one report must be newer than the last change of the
//! cluster's state, and the datastore locked (so that nothing is given out meanwhile) unless forced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use libcalico_api::CALICO_VERSION;
use libcalico_datastore::{Datastore, DatastoreError};
use libcalico_ipam::IpamClient;
use libcalico_ipam::release::ReleaseOptions;
use libcalico_model::{Key, Revision};
use libcalico_net::cidr::parse_address;

use crate::cli::{Global, IpamReleaseArgs};
use crate::command::ipam_check::Report;
use crate::{Error, Result, client};

/// Runs the command.
pub async fn run(args: &IpamReleaseArgs, global: &Global) -> Result<()> {
    let store = client::open(&args.config, global).await?;
    if let Some(text) = &args.ip {
        let ip = parse_address(text).map_err(|e| Error::Usage(format!("--ip: {e}")))?;
        return release_one(store, ip).await;
    }
    release_leaked(store, &args.from_report, args.force).await?;
    println!("You may now unlock the data store.");
    Ok(())
}

async fn release_one(store: Arc<dyn Datastore>, ip: IpAddr) -> Result<()> {
    let released = IpamClient::new(store).release_ips(&[ReleaseOptions::any(ip)]).await;
    let released = released.map_err(|e| Error::Action(format!("error: {e}")))?;
    if released.freed.is_empty() {
        return Err(Error::Action(format!("IP address {ip} is not assigned")));
    }
    println!("Successfully released IP address {ip}");
    Ok(())
}

async fn release_leaked(store: Arc<dyn Datastore>, files: &[PathBuf], force: bool) -> Result<()> {
    let reports = read(files)?;
    check_reports(store.as_ref(), &reports, force).await?;
    let reports: Vec<&Report> = reports.iter().map(|(_, r)| r).collect();
    let leaked = leaked_addresses(&reports)?;
    if leaked.is_empty() {
        println!("Report didn't contain any leaked IPs to clean up.");
    } else {
        println!("Releasing {} old IPs...", leaked.len());
        let released = IpamClient::new(store.clone()).release_ips(&leaked).await?;
        println!("Released {} IPs successfully", released.freed.len());
        if !released.not_assigned.is_empty() {
            let n = released.not_assigned.len();
            println!(
                "{n} addresses of the report are free already or were given out again; they were left alone."
            );
        }
    }
    release_handles(store.as_ref(), &leaked_handles(&reports)).await
}

fn read(files: &[PathBuf]) -> Result<Vec<(String, Report)>> {
    let mut reports = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read(file).map_err(|e| Error::Usage(format!("{name}: {e}")))?;
        let report = serde_json::from_slice(&text)
            .map_err(|e| Error::Usage(format!("{name}: not a report of `ipam check`: {e}")))?;
        reports.push((name, report));
    }
    Ok(reports)
}

/// Refuses reports that are not about the cluster as it is now.
async fn check_reports(store: &dyn Datastore, reports: &[(String, Report)], force: bool) -> Result<()> {
    let info = client::cluster_information(store).await?.unwrap_or_default();
    let refuse = |reason: String| Err(Error::Action(reason));
    for (file, r) in reports {
        if r.cluster_guid != info.spec.cluster_guid.clone().unwrap_or_default() {
            return refuse(format!(
                "cluster does not match the provided report ({file}): mismatched cluster GUID. Refusing to release"
            ));
        }
        if r.version != CALICO_VERSION {
            if !force {
                return refuse(format!(
                    "the provided report ({file}) was produced using a different version ({}) of calicoctl. Refusing to release",
                    r.version
                ));
            }
            println!("WARNING: {file} was written by another version of calicoctl; going on (--force)");
        }
    }
    let current = &info.metadata.resource_version;
    if !reports.iter().any(|(_, r)| r.cluster_information_revision == *current) {
        return refuse(
            "the provided reports are all stale - at least one should be up-to-date. Make a new report while the data \
             store is locked and try again"
                .to_owned(),
        );
    }
    if info.spec.datastore_ready != Some(false) {
        if !force {
            return refuse(
                "data store is not locked. Either lock the data store, or re-run with --force".to_owned(),
            );
        }
        println!("WARNING: the data store is not locked; going on (--force)");
    }
    Ok(())
}

/// What every report calls leaked under the same handle and number.
fn leaked_addresses(reports: &[&Report]) -> Result<Vec<ReleaseOptions>> {
    let leaked = |r: &Report| -> BTreeMap<(String, String, Option<u64>), ()> {
        let free = r.allocations.values().flatten().filter(|a| !a.in_use);
        free.map(|a| ((a.ip.clone(), a.handle.clone(), a.sequence_number), ())).collect()
    };
    let sets: Vec<_> = reports.iter().map(|r| leaked(r)).collect();
    let Some((first, others)) = sets.split_first() else { return Ok(Vec::new()) };
    let mut options = Vec::new();
    for key in first.keys().filter(|k| others.iter().all(|o| o.contains_key(*k))) {
        let (ip, handle, number) = key;
        options.push(ReleaseOptions {
            addr: parse_address(ip).map_err(|e| Error::Usage(format!("the report: {e}")))?,
            handle: Some(handle.clone()).filter(|h| !h.is_empty()),
            sequence_number: *number,
        });
    }
    Ok(options)
}

/// Handles that every report calls leaked and that did not change between them.
fn leaked_handles(reports: &[&Report]) -> Vec<(String, Revision)> {
    let Some((first, others)) = reports.split_first() else { return Vec::new() };
    first
        .leaked_handles
        .iter()
        .filter(|h| others.iter().all(|o| o.leaked_handles.contains(h)))
        .map(|h| (h.id.clone(), Revision(h.revision.clone())))
        .collect()
}

async fn release_handles(store: &dyn Datastore, handles: &[(String, Revision)]) -> Result<()> {
    if handles.is_empty() {
        println!("Report didn't contain any handles to clean up.");
        return Ok(());
    }
    println!("Deleting {} handles...", handles.len());
    let (mut released, mut skipped, mut errors) = (0, 0, Vec::new());
    for (id, revision) in handles {
        match store.delete(&Key::Handle(id.clone()), Some(revision)).await {
            Ok(_) => released += 1,
            // Gone, or used again since.
            Err(DatastoreError::NotFound(_) | DatastoreError::Conflict(_)) => skipped += 1,
            Err(e) => errors.push(format!("handle {id}: {e}")),
        }
    }
    println!("Released {released} handles; {skipped} skipped; {} errors.", errors.len());
    if errors.is_empty() { Ok(()) } else { Err(Error::Action(errors.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcalico_ipam::check::Allocation;

    fn report(entries: &[(&str, &str, u64, bool)]) -> Report {
        let mut r = Report::default();
        for (ip, handle, number, in_use) in entries {
            r.allocations.entry((*ip).to_owned()).or_default().push(Allocation {
                ip: (*ip).to_owned(),
                handle: (*handle).to_owned(),
                sequence_number: Some(*number),
                in_use: *in_use,
                ..Allocation::default()
            });
        }
        r
    }

    #[test]
    fn what_all_reports_say_of_the_same_assignment_is_released() {
        let old =
            report(&[("10.0.0.1", "a", 1, false), ("10.0.0.2", "b", 1, false), ("10.0.0.3", "c", 1, false)]);
        let new =
            report(&[("10.0.0.1", "a", 1, false), ("10.0.0.2", "b", 2, false), ("10.0.0.3", "c", 1, true)]);
        let ips = |r: &[&Report]| -> Vec<String> {
            leaked_addresses(r).unwrap().iter().map(|o| o.addr.to_string()).collect()
        };
        assert_eq!(ips(&[&old, &new]), ["10.0.0.1"]);
        assert_eq!(ips(&[&old]).len(), 3);
        assert!(ips(&[]).is_empty());
    }
}
