//! Settings of workload interfaces and of forwarding in `/proc/sys`.
//!
//! In: an interface that came up with an endpoint. Out: its settings as upstream's: the host answers for the workload's
//! gateway (proxy ARP and NDP), forwards what comes from it, and takes no router advertisement from it; without support
//! for IPv6 it has none of it. Always holds: a setting that holds already is not written.

use std::io;

use crate::config::Config;
use crate::kernel::sysctl::{Outcome, Sysctl};

/// The driver.
#[derive(Debug, Default)]
pub struct InterfaceDriver {
    sysctl: Sysctl,
}

impl InterfaceDriver {
    /// Settings below another folder: for tests.
    #[must_use]
    pub fn new(sysctl: Sysctl) -> Self {
        Self { sysctl }
    }

    /// Forwarding of the whole host.
    ///
    /// # Errors
    /// A setting cannot be written. The rest was still tried.
    pub fn host(&self, config: &Config) -> io::Result<usize> {
        if !config.ip_forwarding {
            return Ok(0);
        }
        let mut settings = vec!["net/ipv4/ip_forward"];
        if config.ipv6 {
            settings.push("net/ipv6/conf/all/forwarding");
        }
        self.all(settings.into_iter().map(|path| (path, "1")))
    }

    /// Returns how many were written, or the first error. The rest is tried all the same.
    fn all<'a>(&self, settings: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<usize> {
        let (mut written, mut error) = (0, None);
        for (path, value) in settings {
            match self.set(path, value) {
                Ok(outcome) => written += usize::from(outcome == Outcome::Written),
                Err(e) => drop(error.get_or_insert(e)),
            }
        }
        error.map_or(Ok(written), Err)
    }

    /// Settings of one workload interface that is up. `may_spoof`: the workload may send from addresses that no route
    /// leads back to.
    ///
    /// # Errors
    /// A setting that an endpoint cannot do without cannot be written: the interface is not ready. The rest was still
    /// tried.
    pub fn workload(&self, interface: &str, may_spoof: bool, config: &Config) -> io::Result<usize> {
        // Dots in names are slashes in paths elsewhere; here the path is used as it is. A slash cannot be in a name.
        let v4 = |name: &str| format!("net/ipv4/conf/{interface}/{name}");
        let v6 = |name: &str| format!("net/ipv6/conf/{interface}/{name}");
        // Better with, but an endpoint is whole without: as upstream has it.
        let wishes = [
            (v6("accept_ra"), "0"),
            // Answer at once: nobody else will.
            (format!("net/ipv4/neigh/{interface}/proxy_delay"), "0"),
        ];
        let mut written = 0;
        for (path, value) in &wishes {
            match self.set(path, value) {
                Ok(outcome) => written += usize::from(outcome == Outcome::Written),
                Err(e) => {
                    tracing::warn!(interface, error = %e, "a setting that is not vital cannot be written");
                }
            }
        }
        // The kernel's own check of sources, beside that of the rules: as on every other interface, or none.
        let default = self.sysctl.get("net/ipv4/conf/default/rp_filter")?;
        let check = if may_spoof { "0" } else { default.as_deref().unwrap_or("1") };
        let mut settings = vec![
            // NAT to addresses of the loopback interface.
            (v4("route_localnet"), "1"),
            (v4("proxy_arp"), "1"),
            (v4("forwarding"), "1"),
            (v4("rp_filter"), check),
        ];
        if config.ipv6 {
            // Whoever ended IPv6 on all interfaces of the host is obeyed.
            if self.sysctl.get(&disable_ipv6("default"))?.as_deref() == Some("0") {
                settings.push((disable_ipv6(interface), "0"));
            }
            settings.push((v6("proxy_ndp"), "1"));
            settings.push((v6("forwarding"), "1"));
        }
        Ok(written + self.all(settings.iter().map(|(path, value)| (path.as_str(), *value)))?)
    }

    /// Ends IPv6 on an interface of workloads, with or without an endpoint. Where there are no rules for IPv6, the
    /// interface's link-local address alone would lead to the host past every policy.
    ///
    /// # Errors
    /// The setting cannot be written: the interface is open.
    pub fn without_ipv6(&self, interface: &str) -> io::Result<usize> {
        let outcome = self.set(&disable_ipv6(interface), "1")?;
        Ok(usize::from(outcome == Outcome::Written))
    }

    fn set(&self, path: &str, value: &str) -> io::Result<Outcome> {
        self.sysctl
            .ensure(path, value)
            .map_err(|e| io::Error::new(e.kind(), format!("{path} = {value}: {e}")))
    }
}

fn disable_ipv6(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/disable_ipv6")
}
