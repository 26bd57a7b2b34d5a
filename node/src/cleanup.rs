//! Takes what Calico left in the kernel away: nftables tables, routes, tunnels' interfaces, the rendered file.
//!
//! For a host that is to be no node any more. Always holds: what belongs to others is not touched; after an error the
//! rest is still done, and every error is reported. Left out: workloads' interfaces, which go with their workloads, and
//! the datastore, where `calicoctl delete node` removes the node.

use std::path::Path;
use std::process::{Command, Output};

use tracing::info;

/// Tables by family. Felix makes no others.
const TABLES: [(&str, &str); 3] = [("ip", "calico"), ("ip6", "calico"), ("arp", "calico")];
/// Interfaces that Felix makes for traffic between nodes.
const TUNNELS: [&str; 5] = ["vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "bpfin.cali"];
/// Protocol numbers of routes: BIRD's and Felix' own (`RouteTable` default 80 for `DeviceRouteProtocol` aside).
const ROUTE_PROTOCOLS: [&str; 2] = ["12", "80"];

/// Something stayed.
#[derive(Debug, thiserror::Error)]
#[error("not everything could be removed:\n{}", .0.join("\n"))]
pub struct CleanupError(Vec<String>);

/// Removes everything.
pub fn run(bird_config: &Path) -> Result<(), CleanupError> {
    let mut errors = Vec::new();
    for (family, table) in TABLES {
        if succeeds("nft", &["list", "table", family, table]) {
            attempt(&mut errors, "nft", &["delete", "table", family, table]);
        }
    }
    for family in ["-4", "-6"] {
        for protocol in ROUTE_PROTOCOLS {
            flush(&mut errors, &[family, "route", "flush", "proto", protocol]);
        }
        for route in workload_routes(family) {
            let mut arguments = vec![family, "route", "del"];
            arguments.extend(route.split_whitespace());
            attempt(&mut errors, "ip", &arguments);
        }
    }
    for tunnel in TUNNELS {
        if Path::new("/sys/class/net").join(tunnel).exists() {
            attempt(&mut errors, "ip", &["link", "del", tunnel]);
        }
    }
    match std::fs::remove_file(bird_config) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            errors.push(format!("{}: {e}", bird_config.display()));
        }
        _ => {}
    }
    if errors.is_empty() {
        info!("removed what Calico left on this host");
        Ok(())
    } else {
        Err(CleanupError(errors))
    }
}

/// Destinations of routes to workloads' interfaces: `10.65.0.5 dev cali1234`.
fn workload_routes(family: &str) -> Vec<String> {
    let Ok(output) = Command::new("ip").args([family, "route", "show"]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(workload_route).collect()
}

fn workload_route(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let device = words.iter().position(|w| *w == "dev").and_then(|i| words.get(i + 1))?;
    // The kernel's own (fe80::/64) goes with the interface.
    let ours = device.starts_with("cali") && !line.contains("proto kernel");
    ours.then(|| format!("{} dev {device}", words.first().unwrap_or(&"")))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|o| o.status.success())
}

fn attempt(errors: &mut Vec<String>, program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => info!("{program} {}", arguments.join(" ")),
        Ok(output) => errors.push(complaint(program, arguments, &output)),
        Err(e) => errors.push(format!("{program}: {e}")),
    }
}

/// `ip route flush` fails where a family has no table at all, which is as good as empty.
fn flush(errors: &mut Vec<String>, arguments: &[&str]) {
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() || output.stderr.is_empty() => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("Nothing to flush") => {}
        Ok(output) => errors.push(complaint("ip", arguments, &output)),
        Err(e) => errors.push(format!("ip: {e}")),
    }
}

fn complaint(program: &str, arguments: &[&str], output: &Output) -> String {
    format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_to_workloads_are_taken() {
        assert_eq!(
            workload_route("10.65.0.5 dev cali123 scope link").as_deref(),
            Some("10.65.0.5 dev cali123")
        );
        assert_eq!(workload_route("fe80::/64 dev cali123 proto kernel metric 256 pref medium"), None);
        assert_eq!(workload_route("default via 10.0.0.1 dev eth0"), None);
        assert_eq!(workload_route("blackhole 10.65.0.0/26 proto bird"), None);
    }
}
