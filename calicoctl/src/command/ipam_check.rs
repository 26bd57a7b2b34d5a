//! `ipam check`: reads IPAM's records, nodes and workload endpoints, prints what does not fit together and writes the
//! report that `ipam release` takes.
//!
//! The comparison itself is `libcalico_ipam::check`; what does not fit is read again before it is told
//! (`libcalico_ipam::records`). It needs no Kubernetes API: on etcd, workload endpoints are
//! written by the CNI plugin together with their addresses. With a kubeconfig, pods are compared too. Addresses of
//! Services are not judged and count as used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use libcalico_api::cluster_information::ClusterInformation;
use libcalico_api::{CALICO_VERSION, Kind};
use libcalico_datastore::kubernetes::{KubernetesConfig, KubernetesDatastore};
use libcalico_datastore::{Datastore, Scope};
use libcalico_ipam::block;
use libcalico_ipam::check::{Allocation, Findings, Problem, Records, attribute_text};
use libcalico_ipam::pool::Pool;
use libcalico_ipam::records::settled;
use libcalico_model::Value;
use serde::{Deserialize, Serialize};

use crate::cli::{Global, IpamCheckArgs};
use crate::{Error, Result, client};

/// Nodes that are listed by their number of addresses.
const TOP_NODES: usize = 20;

/// The file that `-o` writes. JSON names are upstream's.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the command that wrote it.
    pub version: String,
    #[serde(rename = "clusterGUID", default)]
    pub cluster_guid: String,
    #[serde(default)]
    pub datastore_locked: bool,
    /// Tells whether the cluster was locked, unlocked or upgraded since.
    #[serde(default)]
    pub cluster_information_revision: String,
    #[serde(default)]
    pub cluster_type: String,
    #[serde(default, deserialize_with = "libcalico_api::common::null_default")]
    pub allocations: BTreeMap<String, Vec<Allocation>>,
    #[serde(
        default,
        deserialize_with = "libcalico_api::common::null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub leaked_handles: Vec<LeakedHandle>,
}

/// A handle without addresses. JSON names are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakedHandle {
    #[serde(rename = "ID")]
    pub id: String,
    /// Kubernetes' identity of the object; none on etcd.
    #[serde(rename = "UID", default)]
    pub uid: Option<String>,
    #[serde(rename = "Revision")]
    pub revision: String,
}

/// Runs the command.
pub async fn run(args: &IpamCheckArgs, global: &Global) -> Result<()> {
    let store = client::open(&args.config, global).await?;
    println!("Checking IPAM for inconsistencies...\n");
    let info = client::cluster_information(store.as_ref()).await?.unwrap_or_default();
    let look = async || {
        let mut records = Records::read(store.as_ref()).await?;
        if let Some(path) = &args.kubeconfig {
            add_pods(&mut records, path, global).await?;
        }
        Ok::<_, Error>(records)
    };
    let (records, findings) = settled(look).await?;
    let details = Details { all: args.show_all_ips, problems: args.show_all_ips || args.show_problem_ips };
    print!("{}", render(&records, &findings, details));
    if let Some(path) = &args.output {
        let report = report(&info, &records, &findings);
        let text = serde_json::to_string_pretty(&report).map_err(|e| Error::Usage(e.to_string()))?;
        std::fs::write(path, text).map_err(|e| Error::Action(format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

/// Adds the addresses of a cluster's pods. A pod that the datastore has too bears the same name in both.
async fn add_pods(records: &mut Records, kubeconfig: &Path, global: &Global) -> Result<()> {
    let cluster = KubernetesDatastore::new(KubernetesConfig {
        kubeconfig: Some(kubeconfig.display().to_string()),
        context: Some(global.context.clone()).filter(|c| !c.is_empty()),
        ..KubernetesConfig::default()
    });
    let pods = cluster.list(&Scope::kind(Kind::WorkloadEndpoint)).await?;
    for kv in pods.items {
        if let Value::Resource(r) = kv.value {
            records.add(&r)?;
        }
    }
    Ok(())
}

fn report(info: &ClusterInformation, records: &Records, findings: &Findings) -> Report {
    let leaked = findings.problems.iter().filter_map(|p| match p {
        Problem::LeakedHandle { id } => Some(LeakedHandle {
            id: id.clone(),
            uid: None,
            revision: records.handles.get(id).map(|(_, r)| r.to_string()).unwrap_or_default(),
        }),
        _ => None,
    });
    Report {
        version: CALICO_VERSION.to_owned(),
        cluster_guid: info.spec.cluster_guid.clone().unwrap_or_default(),
        datastore_locked: info.spec.datastore_ready == Some(false),
        cluster_information_revision: info.metadata.resource_version.clone(),
        cluster_type: info.spec.cluster_type.clone().unwrap_or_default(),
        allocations: findings.allocations.iter().map(|(ip, a)| (ip.to_string(), a.clone())).collect(),
        leaked_handles: leaked.collect(),
    }
}

/// How much is told.
#[derive(Clone, Copy, Debug)]
struct Details {
    all: bool,
    problems: bool,
}

fn render(records: &Records, findings: &Findings, details: Details) -> String {
    let mut t = String::new();
    inventory(&mut t, records, findings, details);
    let mut section = |title: &str, select: &dyn Fn(&Problem) -> bool, summary: &dyn Fn(usize) -> String| {
        let found: Vec<&Problem> = findings.problems.iter().filter(|p| select(p)).collect();
        let _ = writeln!(t, "Scanning for {title}...");
        if details.problems {
            for p in &found {
                let _ = writeln!(t, "  {p}");
            }
        }
        let _ = writeln!(t, "{}", summary(found.len()));
    };
    section(
        "IPs that are allocated but not actually in use",
        &|p| matches!(p, Problem::Leaked { .. }),
        &|n| format!("Found {n} IPs that are allocated in IPAM but not actually in use."),
    );
    section(
        "IPs that are in use by a workload or node but not allocated in IPAM",
        &|p| matches!(p, Problem::OutsidePools { .. } | Problem::NotAllocated { .. }),
        &|_| {
            let outside = |p: &&Problem| matches!(p, Problem::OutsidePools { .. });
            let free = |p: &&Problem| matches!(p, Problem::NotAllocated { .. });
            format!(
                "Found {} in-use IPs that are not in active IP pools.\n\
                 Found {} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.",
                findings.problems.iter().filter(outside).count(),
                findings.problems.iter().filter(free).count()
            )
        },
    );
    section(
        "IPs with more than one owner or allocation",
        &|p| matches!(p, Problem::UsedTwice { .. } | Problem::AllocatedTwice { .. }),
        &|n| format!("Found {n} IPs that are used or allocated more than once."),
    );
    section("IPAM handles with no matching IPs", &|p| matches!(p, Problem::LeakedHandle { .. }), &|n| {
        format!(
            "Found {n} handles with no matching IPs (and {} handles with matches).",
            findings.good_handles
        )
    });
    section("IPs with missing handle", &|p| matches!(p, Problem::MissingHandle { .. }), &|n| {
        format!("Found {n} handles mentioned in blocks with no matching handle resource.")
    });
    section("handles with wrong counts", &|p| matches!(p, Problem::WrongHandle { .. }), &|n| {
        format!("Found {n} handles whose count differs from their block.")
    });
    section(
        "blocks without a node, pool or claim",
        &|p| {
            matches!(
                p,
                Problem::BlockWithoutNode { .. }
                    | Problem::BlockOutsidePools { .. }
                    | Problem::BlockWithoutClaim { .. }
                    | Problem::ClaimWithoutBlock { .. }
                    | Problem::Damaged { .. }
            )
        },
        &|n| format!("Found {n} problems with blocks and claims."),
    );
    let _ = writeln!(t, "Check complete; found {} problems.", findings.problems.len());
    t
}

fn inventory(t: &mut String, records: &Records, findings: &Findings, details: Details) {
    let _ = writeln!(t, "Loading all IPAM blocks...\nFound {} IPAM blocks.", records.blocks.len());
    for b in &records.blocks {
        let owner = block::owner_text(b).unwrap_or_else(|| "<none>".to_owned());
        let _ = writeln!(t, " IPAM block {} affinity={owner}:", b.cidr);
        if details.all {
            for (ip, a) in block::allocated(b) {
                let _ = writeln!(t, "  {ip} allocated; attrs {}", attribute_text(a));
            }
        }
    }
    let total: usize = findings.allocations.values().map(Vec::len).sum();
    let _ = writeln!(t, "IPAM blocks record {total} allocations.\n\nLoading all IPAM pools...");
    let active: Vec<&Pool> = records.pools.iter().filter(|p| !p.disabled).collect();
    for p in &active {
        let _ = writeln!(t, "  {}", p.cidr);
    }
    let _ = writeln!(t, "Found {} active IP pools.\n", active.len());
    for (title, prefix, what) in [
        ("Loading all nodes.", "Node(", "node tunnel"),
        ("Loading all workload endpoints.", "Workload(", "workload"),
    ] {
        let _ = writeln!(t, "{title}");
        let own = records.in_use.iter().filter(|(_, o)| o.starts_with(prefix));
        if details.all {
            for (ip, owner) in own.clone() {
                let _ = writeln!(t, "  {ip} belongs to {owner}");
            }
        }
        let _ = writeln!(t, "Found {} {what} IPs.", own.count());
    }
    let distinct: BTreeSet<&IpAddr> = records.in_use.iter().map(|(ip, _)| ip).collect();
    let _ = writeln!(t, "Workloads and nodes are using {} IPs.\n", distinct.len());
    let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
    for a in findings.allocations.values().flatten() {
        *by_node.entry(&a.node).or_default() += 1;
    }
    let mut by_node: Vec<(&str, usize)> = by_node.into_iter().collect();
    by_node.sort_by_key(|(node, n)| (std::cmp::Reverse(*n), *node));
    let _ = writeln!(t, "Looking for top (up to {TOP_NODES}) nodes by allocations...");
    for (node, n) in by_node.iter().take(TOP_NODES) {
        let _ = writeln!(t, "  {node} has {n} allocations");
    }
    if let (Some((_, most)), Some((_, median))) = (by_node.first(), by_node.get(by_node.len() / 2)) {
        let _ = writeln!(t, "Node with most allocations has {most}; median is {median}");
    }
    t.push('\n');
}
