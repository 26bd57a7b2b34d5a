//! `ipam show`: how full pools and blocks are, who has an address, what nodes borrow, and the settings.

use std::net::IpAddr;
use std::sync::Arc;

use libcalico_datastore::{Datastore, DatastoreError, Scope};
use libcalico_ipam::block;
use libcalico_ipam::usage::usage;
use libcalico_model::ipam::{AllocationAttribute, AllocationBlock, IpamConfig};
use libcalico_model::{Key, Value};
use libcalico_net::cidr::parse_address;

use crate::cli::{Global, IpamShowArgs};
use crate::output::grid;
use crate::{Error, Result, client};

/// Runs the command.
pub async fn run(args: &IpamShowArgs, global: &Global) -> Result<()> {
    let ip = args.ip.as_deref().map(parse_address).transpose();
    let ip = ip.map_err(|e| Error::Usage(format!("--ip: {e}")))?;
    let store = client::open(&args.config, global).await?;
    let text = if let Some(ip) = ip {
        show_address(&store, ip).await?
    } else if args.show_borrowed {
        show_borrowed(&blocks(&store).await?)
    } else if args.show_configuration {
        show_configuration(&settings(&store).await?)
    } else {
        show_usage(&store, args.show_blocks).await?
    };
    print!("{text}");
    Ok(())
}

async fn blocks(store: &Arc<dyn Datastore>) -> Result<Vec<AllocationBlock>> {
    let listing = store.list(&Scope::Blocks).await?;
    let blocks = listing.items.into_iter().filter_map(|kv| match kv.value {
        Value::Block(b) => Some(*b),
        _ => None,
    });
    Ok(blocks.collect())
}

/// IPAM's settings; the usual ones where none are stored.
pub async fn settings(store: &Arc<dyn Datastore>) -> Result<IpamConfig> {
    match store.get(&Key::IpamConfig).await {
        Ok(kv) => Ok(match kv.value {
            Value::IpamConfig(c) => c,
            _ => IpamConfig::default(),
        }),
        Err(DatastoreError::NotFound(_)) => Ok(IpamConfig::default()),
        Err(e) => Err(e.into()),
    }
}

async fn show_usage(store: &Arc<dyn Datastore>, with_blocks: bool) -> Result<String> {
    let mut rows = Vec::new();
    for pool in usage(store.as_ref()).await? {
        let row = |grouping: &str, cidr: String, total, in_use, reserved, free| {
            vec![
                grouping.to_owned(),
                cidr,
                five_digits(total),
                share(in_use, total),
                share(reserved, total),
                share(free, total),
            ]
        };
        rows.push(row("IP Pool", pool.cidr.to_string(), pool.total, pool.in_use, pool.reserved, pool.free));
        if with_blocks {
            rows.extend(
                pool.blocks
                    .iter()
                    .map(|b| row("Block", b.cidr.to_string(), b.total, b.in_use, b.reserved, b.free)),
            );
        }
    }
    let heading = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"];
    Ok(grid::render(&heading, &rows, &[2, 3, 4, 5]))
}

/// `61 (95%)`
fn share(n: u128, total: u128) -> String {
    #[allow(clippy::cast_precision_loss)] // a percentage
    let percent = if total == 0 { 0.0 } else { 100.0 * n as f64 / total as f64 };
    format!("{} ({percent:.0}%)", five_digits(n))
}

/// Go's `%.5g`: five significant digits, an exponent where the number has more.
#[allow(clippy::cast_precision_loss)] // five digits are shown
fn five_digits(n: u128) -> String {
    if n < 100_000 {
        return n.to_string();
    }
    let text = format!("{:.4e}", n as f64);
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e+{exponent:0>2}")
}

async fn show_address(store: &Arc<dyn Datastore>, ip: IpAddr) -> Result<String> {
    let blocks = blocks(store).await?;
    let found = blocks.iter().flat_map(block::allocated).find(|(addr, _)| *addr == ip);
    let Some((_, attribute)) = found else {
        return Ok(format!("{ip} is not assigned\n"));
    };
    let mut text = format!("IP {ip} is in use\n");
    if let Some(handle) = &attribute.handle_id {
        text.push_str(&format!("Handle ID: {handle}\n"));
    }
    for (title, attributes) in [
        ("Active Owner Attributes", &attribute.active_owner_attrs),
        ("Alternate Owner Attributes", &attribute.alternate_owner_attrs),
    ] {
        if !attributes.is_empty() {
            text.push_str(&format!("{title}:\n"));
            text.extend(attributes.iter().map(|(k, v)| format!("  {k}: {v}\n")));
        }
    }
    Ok(text)
}

/// Addresses whose node is another than their block's.
fn show_borrowed(blocks: &[AllocationBlock]) -> String {
    let mut rows = Vec::new();
    for b in blocks {
        let owner = block::owner_text(b).unwrap_or_default();
        let owner = owner.strip_prefix("host:").unwrap_or(&owner);
        for (ip, attribute) in block::allocated(b) {
            let node = attribute.active_owner_attrs.get("node").map_or("", String::as_str);
            if node.is_empty() || node == owner {
                continue;
            }
            let (kind, user) = user_of(attribute);
            rows.push(vec![
                ip.to_string(),
                node.to_owned(),
                b.cidr.to_string(),
                owner.to_owned(),
                kind,
                user,
            ]);
        }
    }
    let heading = ["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"];
    grid::render(&heading, &rows, &[])
}

/// What an address is used for: a pod, a tunnel, or whatever its handle says.
fn user_of(a: &AllocationAttribute) -> (String, String) {
    let get = |key: &str| a.active_owner_attrs.get(key).cloned();
    match (get("type"), get("namespace"), get("pod")) {
        (_, Some(namespace), Some(pod)) => ("pod".to_owned(), format!("{namespace}/{pod}")),
        (Some(kind), ..) => (kind, get("node").unwrap_or_default()),
        _ => (String::new(), a.handle_id.clone().unwrap_or_default()),
    }
}

fn show_configuration(c: &IpamConfig) -> String {
    let persistence = c.kube_virt_vm_address_persistence.map(|p| format!("{p:?}"));
    let rows: Vec<Vec<String>> = [
        ("StrictAffinity", c.strict_affinity.to_string()),
        ("AutoAllocateBlocks", c.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", c.max_blocks_per_host.to_string()),
        ("KubeVirtVMAddressPersistence", persistence.unwrap_or_else(|| "Disabled".to_owned())),
        ("IPCooldownSeconds", c.ip_cooldown_seconds.unwrap_or_default().to_string()),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect();
    grid::render(&["PROPERTY", "VALUE"], &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_digits() {
        for (n, text) in [
            (4096, "4096"),
            (65_277, "65277"),
            (131_072, "1.3107e+05"),
            (1 << 20, "1.0486e+06"),
            (1 << 63, "9.2234e+18"),
            (100_000, "1e+05"),
        ] {
            assert_eq!(five_digits(n), text);
        }
        assert_eq!(share(3, 64), "3 (5%)");
        assert_eq!(share(0, 0), "0 (0%)");
    }
}
