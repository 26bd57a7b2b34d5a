//! Which backend programs the tables, and what becomes of the others' rules.
//!
//! In: configuration, and what stands in the kernel. Out: a driver; the removal of what another backend of ours, or
//! another version of Felix, left. Always holds: the chosen backend's rules are whole before any other's go, so that a
//! switch has no open moment; without a switch nothing is started and nothing written.
//!
//! Both rule sets judge a packet while both stand: a packet passes where both accept it. Marks are cleared by whichever
//! judges next, and a connection is translated once, by whichever comes first.

use std::sync::Arc;

use super::iptables::{IptablesDriver, Sets, Variant, variant};
use super::nft::NftDriver;
use super::{TableDriver, TableError};
use crate::config::{Backend, Config};
use crate::kernel::command;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::{NETLINK_NETFILTER, NftFamily, read};
use crate::rule::Family;

/// `NFTablesMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NftablesMode {
    #[default]
    Auto,
    Enabled,
    Disabled,
}

/// `IptablesBackend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IptablesMode {
    #[default]
    Auto,
    Legacy,
    Nft,
}

/// Opens the configured backend's driver in the calling thread's network namespace.
///
/// # Errors
/// The kernel or its programs refuse.
pub fn open(config: &Arc<Config>) -> Result<Box<dyn TableDriver + Send>, TableError> {
    driver(config.backend, config)
}

fn driver(backend: Backend, config: &Arc<Config>) -> Result<Box<dyn TableDriver + Send>, TableError> {
    Ok(match variant(backend) {
        None => Box::new(NftDriver::new(config.clone())?),
        Some(v) => Box::new(IptablesDriver::new(v, config.clone())?),
    })
}

/// Removes what other backends than the configured one have in the kernel; true where nothing is left. Call it when the
/// configured one has everything.
///
/// # Errors
/// The kernel refused: the other rules stand, beside ours.
pub fn remove_others(config: &Arc<Config>) -> Result<bool, TableError> {
    let mut all = true;
    for other in Backend::ALL.into_iter().filter(|b| *b != config.backend) {
        all &= driver(other, config)?.remove()?;
    }
    // Both kinds of iptables share their sets.
    if variant(config.backend).is_none() {
        let sets = Sets::new(config.netlink_timeout)
            .map_err(|e| TableError(format!("cannot look for IP sets: {e}")))?;
        all &= { sets }.remove_all()?;
    }
    Ok(all)
}

/// What tells how a host's other programs filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signs {
    /// nf_tables is there at all.
    nf_tables: bool,
    /// kube-proxy's own table of nf_tables.
    kube_proxy_nft: bool,
    /// kube-proxy's chains, or a policy that drops what is forwarded, in iptables' tables.
    iptables_nft: bool,
    iptables_legacy: bool,
    /// The kubelet's mark in iptables' tables.
    kubelet_nft: bool,
    kubelet_legacy: bool,
    legacy_installed: bool,
    nft_installed: bool,
}

/// Chooses the backend. `Auto` follows the host's other programs, as upstream does: kube-proxy's table of nf_tables
/// means nftables; its chains in iptables, or forwarding that iptables drops by policy, mean the iptables that they are
/// in: an accept elsewhere would not count there. Where nobody uses iptables, nftables (upstream: iptables).
///
/// `now`: what was chosen before; it stays where the host cannot be looked at. A host that uses xtables is not looked at
/// in that again: it costs a process.
#[must_use]
pub fn detect(nftables: NftablesMode, iptables: IptablesMode, now: Option<Backend>) -> Backend {
    let (signs, unread) = match nftables {
        NftablesMode::Enabled => (Signs::default(), None),
        NftablesMode::Auto | NftablesMode::Disabled => signs(now == Some(Backend::IptablesLegacy)),
    };
    if let (Some(now), Some(unread)) = (now, unread) {
        tracing::debug!(?now, unread, "the host's other tables cannot be read; the backend stays");
        return now;
    }
    let chosen = choose(nftables, iptables, signs);
    tracing::debug!(?nftables, ?iptables, ?signs, ?chosen, "backend of tables");
    chosen
}

fn choose(nftables: NftablesMode, iptables: IptablesMode, signs: Signs) -> Backend {
    match nftables {
        NftablesMode::Enabled => return Backend::Nftables,
        NftablesMode::Auto
            if signs.kube_proxy_nft || (signs.nf_tables && !signs.iptables_nft && !signs.iptables_legacy) =>
        {
            return Backend::Nftables;
        }
        NftablesMode::Auto | NftablesMode::Disabled => {}
    }
    let legacy = match iptables {
        IptablesMode::Legacy => true,
        IptablesMode::Nft => false,
        IptablesMode::Auto => {
            let nft = signs.kubelet_nft || signs.iptables_nft;
            let legacy = signs.kubelet_legacy || signs.iptables_legacy;
            match (nft, legacy) {
                (true, _) => false,
                (false, true) => true,
                (false, false) => !signs.nf_tables || (!signs.nft_installed && signs.legacy_installed),
            }
        }
    };
    if legacy { Backend::IptablesLegacy } else { Backend::IptablesNft }
}

/// What the host tells, and what of it cannot be read. `legacy`: it is known that xtables is used.
fn signs(legacy: bool) -> (Signs, Option<String>) {
    let restore = |v: Variant| command::installed(&v.program(Family::V4, "restore"));
    let mut out = Signs {
        legacy_installed: restore(Variant::Legacy),
        nft_installed: restore(Variant::Nft),
        iptables_legacy: legacy,
        ..Signs::default()
    };
    let mut unread = None;
    for family in Family::BOTH {
        let chains = Netlink::open(NETLINK_NETFILTER)
            .and_then(|mut socket| read::chain_names(&mut socket, NftFamily::from(family)));
        let chains = match chains {
            Ok(chains) => chains,
            Err(e) => {
                unread = Some(format!("nf_tables: {e}"));
                continue;
            }
        };
        out.nf_tables = true;
        for c in &chains {
            out.kube_proxy_nft |= c.table == "kube-proxy";
            out.kubelet_nft |= is_kubelet(&c.name);
            out.iptables_nft |= is_kube_proxy(&c.name);
            out.iptables_nft |= c.table == "filter" && c.name == "FORWARD" && c.drops;
        }
    }
    for family in Family::BOTH.into_iter().filter(|f| !legacy && Variant::Legacy.may_have_tables(*f)) {
        let program = Variant::Legacy.program(family, "save");
        let saved = match command::run(&program, &[], Vec::new(), std::time::Duration::from_secs(30)) {
            Ok(saved) => saved,
            Err(e) => {
                unread = Some(format!("{program}: {e}"));
                continue;
            }
        };
        for line in String::from_utf8_lossy(&saved).lines() {
            let name = line.strip_prefix(':').and_then(|l| l.split(' ').next()).unwrap_or_default();
            out.kubelet_legacy |= is_kubelet(name);
            out.iptables_legacy |= is_kube_proxy(name) || line.starts_with(":FORWARD DROP");
        }
    }
    (out, unread)
}

fn is_kubelet(chain: &str) -> bool {
    matches!(chain, "KUBE-IPTABLES-HINT" | "KUBE-KUBELET-CANARY")
}

fn is_kube_proxy(chain: &str) -> bool {
    matches!(chain, "KUBE-SERVICES" | "KUBE-PROXY-CANARY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_follows_the_hosts_other_programs() {
        let modern =
            Signs { nf_tables: true, legacy_installed: true, nft_installed: true, ..Signs::default() };
        let auto = |signs| choose(NftablesMode::Auto, IptablesMode::Auto, signs);
        assert_eq!(auto(modern), Backend::Nftables);
        assert_eq!(auto(Signs { kubelet_nft: true, ..modern }), Backend::Nftables);
        assert_eq!(auto(Signs { iptables_nft: true, ..modern }), Backend::IptablesNft);
        assert_eq!(auto(Signs { iptables_legacy: true, ..modern }), Backend::IptablesLegacy);
        assert_eq!(auto(Signs { kube_proxy_nft: true, iptables_nft: true, ..modern }), Backend::Nftables);
        assert_eq!(auto(Signs { nf_tables: false, ..modern }), Backend::IptablesLegacy);
    }

    #[test]
    fn what_is_configured_is_not_overruled() {
        let signs = Signs { kube_proxy_nft: true, kubelet_legacy: true, nf_tables: true, ..Signs::default() };
        let disabled = |iptables| choose(NftablesMode::Disabled, iptables, signs);
        assert_eq!(disabled(IptablesMode::Nft), Backend::IptablesNft);
        assert_eq!(disabled(IptablesMode::Legacy), Backend::IptablesLegacy);
        assert_eq!(disabled(IptablesMode::Auto), Backend::IptablesLegacy);
        assert_eq!(choose(NftablesMode::Enabled, IptablesMode::Legacy, signs), Backend::Nftables);
    }
}
