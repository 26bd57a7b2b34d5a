//! `node checksystem`: has this kernel what Calico's dataplane needs?
//!
//! It asks the kernel itself (its table of symbols), the list of modules built in or loadable, and the kernel's
//! configuration, in this order; one that says yes is enough. No program is run, so it works where `lsmod` is missing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::cli::ChecksystemArgs;
use crate::{Error, Result};

/// Oldest kernel: nftables sets of networks and concatenations, as the dataplane makes them.
const OLDEST: (u32, u32) = (5, 10);

/// A part of the kernel.
struct Part {
    module: &'static str,
    /// A function that only this part has.
    symbol: &'static str,
    config: &'static str,
    /// False: needed for one feature alone, which is named.
    needed_for: Option<&'static str>,
}

const fn part(
    module: &'static str,
    symbol: &'static str,
    config: &'static str,
    needed_for: Option<&'static str>,
) -> Part {
    Part { module, symbol, config, needed_for }
}

const PARTS: &[Part] = &[
    part("nf_tables", "nft_do_chain", "CONFIG_NF_TABLES", None),
    part("nf_conntrack", "nf_conntrack_in", "CONFIG_NF_CONNTRACK", None),
    part("nf_nat", "nf_nat_packet", "CONFIG_NF_NAT", None),
    part("nft_ct", "nft_ct_get_eval", "CONFIG_NFT_CT", None),
    part("nft_masq", "nf_nat_masquerade_ipv4", "CONFIG_NFT_MASQ", None),
    part("veth", "veth_xmit", "CONFIG_VETH", None),
    part("nft_nat", "nft_nat_eval", "CONFIG_NFT_NAT", Some("floating addresses")),
    part("nft_reject", "nft_reject_init", "CONFIG_NFT_REJECT", Some("rejecting instead of dropping")),
    part("nft_log", "nft_log_eval", "CONFIG_NFT_LOG", Some("Log rules")),
    part("ipip", "ipip_tunnel_xmit", "CONFIG_NET_IPIP", Some("IPIP pools")),
    part("vxlan", "vxlan_xmit", "CONFIG_VXLAN", Some("VXLAN pools")),
    part("wireguard", "wg_xmit", "CONFIG_WIREGUARD", Some("WireGuard encryption")),
];

/// What the system tells of its kernel.
#[derive(Debug, Default)]
struct Kernel {
    /// `6.1.0-18-amd64`
    release: String,
    symbols: BTreeSet<String>,
    modules: BTreeSet<String>,
    /// Options that are `y` or `m`.
    config: BTreeSet<String>,
}

/// Runs the command.
pub fn run(args: &ChecksystemArgs) -> Result<()> {
    let kernel = read(args)?;
    let (text, good) = report(&kernel);
    print!("{text}");
    if good {
        println!("System meets minimum system requirements to run Calico!");
        return Ok(());
    }
    Err(Error::Action(
        "system doesn't meet one or more minimum systems requirements to run Calico".to_owned(),
    ))
}

fn read(args: &ChecksystemArgs) -> Result<Kernel> {
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let release = text(Path::new("/proc/sys/kernel/osrelease")).trim().to_owned();
    let lib = Path::new("/lib/modules").join(&release);
    let config = match &args.kernel_config {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| Error::Usage(format!("--kernel-config: {}: {e}", path.display())))?,
        None => text(&Path::new("/boot").join(format!("config-{release}"))),
    };
    Ok(Kernel {
        symbols: symbols(&text(Path::new("/proc/kallsyms"))),
        modules: modules(&[
            text(Path::new("/proc/modules")),
            text(&lib.join("modules.builtin")),
            text(&lib.join("modules.dep")),
        ]),
        config: options(&config),
        release,
    })
}

/// Of `ffffffff81000000 T nft_do_chain [nf_tables]`, the name.
fn symbols(text: &str) -> BTreeSet<String> {
    let wanted: BTreeSet<&str> = PARTS.iter().map(|p| p.symbol).collect();
    let names = text.lines().filter_map(|l| l.split_whitespace().nth(2));
    names.filter(|n| wanted.contains(n)).map(str::to_owned).collect()
}

/// Of `nf_tables 1234 …` and `kernel/net/netfilter/nf_tables.ko.xz: …`, the module.
fn modules(texts: &[String]) -> BTreeSet<String> {
    let lines = texts.iter().flat_map(|t| t.lines());
    lines
        .filter_map(|l| l.split([' ', ':']).next())
        .filter_map(|path| path.rsplit('/').next()?.split('.').next())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn options(text: &str) -> BTreeSet<String> {
    let set = text.lines().filter_map(|l| l.split_once('=')).filter(|(_, v)| matches!(*v, "y" | "m"));
    set.map(|(name, _)| name.to_owned()).collect()
}

fn report(k: &Kernel) -> (String, bool) {
    let mut text = "Checking kernel version...\n".to_owned();
    let mut good = release(&k.release).is_some_and(|r| r >= OLDEST);
    let _ = writeln!(text, "\t\t{:<20}\t\t\t\t\t{}", k.release, if good { "OK" } else { "FAIL" });
    if !good {
        let _ = writeln!(text, "\t\tat least {}.{} is needed", OLDEST.0, OLDEST.1);
    }
    text.push_str("Checking kernel modules...\n");
    for p in PARTS {
        let there =
            k.symbols.contains(p.symbol) || k.modules.contains(p.module) || k.config.contains(p.config);
        let state = match (there, p.needed_for) {
            (true, _) => "OK".to_owned(),
            (false, Some(feature)) => format!("absent: no {feature}"),
            (false, None) => {
                good = false;
                "FAIL".to_owned()
            }
        };
        let _ = writeln!(text, "\t\t{:<20}\t\t\t\t\t{state}", p.module);
    }
    (text, good)
}

fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_enough_by_itself() {
        let all = Kernel {
            release: "6.1.0-18-amd64".to_owned(),
            symbols: symbols("0 T nft_do_chain\n0 t nf_nat_masquerade_ipv4\t[nft_masq]\n0 t other\n"),
            modules: modules(&[
                "nf_conntrack 1 2 - Live 0\n".to_owned(),
                "kernel/net/netfilter/nf-nat.ko\n".to_owned(),
                "kernel/drivers/net/veth.ko.xz: kernel/a.ko\n".to_owned(),
            ]),
            config: options("CONFIG_NFT_CT=m\n# CONFIG_VXLAN is not set\n"),
        };
        let (text, good) = report(&all);
        assert!(good, "{text}");
        assert!(text.contains("absent: no VXLAN pools"), "{text}");
        let old = Kernel { release: "4.19.0".to_owned(), ..all };
        assert!(!report(&old).1);
        let (text, good) = report(&Kernel { release: "6.1.0".to_owned(), ..Kernel::default() });
        assert!(!good && text.contains("nf_tables           \t\t\t\t\tFAIL"), "{text}");
    }
}
