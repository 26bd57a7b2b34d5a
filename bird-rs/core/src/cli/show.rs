//! `show status`, `show interfaces`, `show memory`, `show static`, `show symbols`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Reply, Request, VERSION, timefmt};
use crate::config::{StaticRoute, StaticTarget};
use crate::engine::{Engine, Kind};
use crate::event::{Command, ProtoAction};
use crate::interface::Interface;
use crate::time::Time;

impl Engine {
    /// Answers a request that only looks. `None` when it is one that changes something.
    #[must_use]
    pub fn answer(&self, now: Time, request: &Request) -> Option<Reply> {
        Some(match request {
            Request::Status => self.show_status(now),
            Request::Protocols { all, pattern } => self.show_protocols(now, *all, pattern.as_deref()),
            Request::Route(query) => self.show_routes(now, query),
            Request::Interfaces { summary } => self.show_interfaces(*summary),
            Request::Memory => self.show_memory(),
            Request::Symbols => self.show_symbols(),
            Request::Static => self.show_static(),
            _ => return None,
        })
    }

    /// What a command on protocols is answered with, before it is carried out; an error when it names none.
    #[must_use]
    pub fn acknowledge(&self, command: &Command) -> Reply {
        let mut lines = Vec::new();
        for id in self.targets(&command.target) {
            let Some(instance) = self.instances.get(&id) else { continue };
            let name = &instance.config.name;
            lines.push(match (command.action, instance.disabled) {
                (ProtoAction::Enable, false) => (10, format!("{name}: already enabled")),
                (ProtoAction::Enable, true) => (11, format!("{name}: enabled")),
                (ProtoAction::Disable, true) => (8, format!("{name}: already disabled")),
                (ProtoAction::Disable, false) => (9, format!("{name}: disabled")),
                (ProtoAction::Restart, true) => (8, format!("{name}: already disabled")),
                (ProtoAction::Restart, false) => (12, format!("{name}: restarted")),
                (_, true) => (8, format!("{name}: already disabled")),
                (_, false) => (15, format!("{name}: reloading")),
            });
        }
        if lines.is_empty() {
            return Reply::end(8003, "No protocols match");
        }
        let mut reply = Reply::end(0, "");
        for (code, text) in lines {
            reply.line(code, text);
        }
        reply
    }

    pub(super) fn format_time(&self, format: &crate::config::TimeFormat, at: Time, now: Time) -> String {
        timefmt::format(format, at, now, self.options.utc_offset_secs)
    }

    fn show_status(&self, now: Time) -> Reply {
        let base = |at: Time| self.format_time(&self.config.time.base, at, now);
        let mut reply = Reply::end(0, "");
        reply.line(1000, format!("BIRD {VERSION}"));
        reply.line(1011, format!("Router ID is {}", self.router_id));
        reply.line(1011, format!("Hostname is {}", self.options.hostname));
        reply.line(1011, format!("Current server time is {}", base(now)));
        reply.line(1011, format!("Last reboot on {}", base(self.started)));
        reply.line(1011, format!("Last reconfiguration on {}", base(self.configured)));
        if self.recovery.is_active() {
            reply.line(1011, "Graceful restart recovery in progress");
        }
        reply.end = if self.is_stopping() {
            (13, "Shutdown in progress".into())
        } else {
            (13, "Daemon is up and running".into())
        };
        reply
    }

    fn show_interfaces(&self, summary: bool) -> Reply {
        let mut reply = Reply::end(0, "");
        if summary {
            reply.line(2005, "Interface  State  IPv4 address       IPv6 address");
        }
        for interface in self.interfaces.all() {
            if summary {
                reply.line(1005, summary_line(interface));
                continue;
            }
            let state = if interface.is_up() { "up" } else { "down" };
            let master = interface.master.and_then(|m| self.interfaces.by_index(m));
            let master = master.map_or_else(String::new, |m| format!(" master={}", m.name));
            reply.line(1001, format!("{} {state} (index={}{master})", interface.name, interface.index));
            reply.line(1004, flags_line(interface));
            for (i, address) in interface.addresses.iter().enumerate() {
                let first_v4 = interface.addresses.iter().position(|a| a.net.addr().is_ipv4());
                let first_v6 = interface.addresses.iter().position(|a| a.net.addr().is_ipv6());
                let preferred = Some(i) == first_v4 || Some(i) == first_v6;
                let peer = address.peer.map_or_else(String::new, |p| format!(", opposite {p}"));
                let note = if preferred { "Preferred, " } else { "" };
                reply.line(1003, format!("\t{} ({note}scope {}{peer})", address.net, scope(address.net)));
            }
        }
        reply
    }

    fn show_memory(&self) -> Reply {
        let routes: usize = self.tables.iter().map(crate::rib::Table::routes).sum();
        let prefixes: usize = self.tables.iter().map(crate::rib::Table::prefixes).sum();
        let table_bytes = routes * size_of::<crate::rib::Route>() + prefixes * 64;
        let attr_bytes = self.interner.len() * size_of::<crate::rib::Attrs>();
        let mut reply = Reply::end(0, "");
        reply.line(1018, "BIRD memory usage");
        reply.line(1018, "                  Effective    Overhead");
        reply.line(1018, memory_line("Routing tables:", table_bytes));
        reply.line(1018, memory_line("Route attributes:", attr_bytes));
        reply.line(1018, memory_line("Total:", table_bytes + attr_bytes));
        reply
    }

    fn show_symbols(&self) -> Reply {
        let mut reply = Reply::end(0, "");
        for table in &self.tables {
            reply.line(1010, format!("{:<8}\trouting table", table.name));
        }
        for filter in &self.config.filters {
            reply.line(1010, format!("{:<8}\tfilter", filter.name.as_deref().unwrap_or("")));
        }
        for instance in self.in_order() {
            reply.line(1010, format!("{:<8}\tprotocol", instance.config.name));
        }
        reply
    }

    fn show_static(&self) -> Reply {
        let mut reply = Reply::end(0, "");
        for instance in self.in_order() {
            if let Kind::Static(config) = &instance.kind {
                for route in &config.routes {
                    static_lines(&mut reply, route);
                }
                reply.line(1009, "");
            }
        }
        reply
    }
}

fn static_lines(reply: &mut Reply, route: &StaticRoute) {
    let prefix = route.prefix;
    match &route.target {
        StaticTarget::Blackhole => reply.line(1009, format!("{prefix}\tblackhole")),
        StaticTarget::Unreachable => reply.line(1009, format!("{prefix}\tunreachable")),
        StaticTarget::Prohibit => reply.line(1009, format!("{prefix}\tprohibited")),
        StaticTarget::Recursive(next_hop) => reply.line(1009, format!("{prefix}\trecursive {next_hop}")),
        StaticTarget::Via(hops) => {
            reply.line(1009, prefix.to_string());
            for hop in hops {
                let onlink = if hop.onlink { " onlink" } else { "" };
                let text = match (hop.gateway, &hop.interface) {
                    (Some(gateway), Some(interface)) => format!("\tvia {gateway}%{interface}{onlink}"),
                    (Some(gateway), None) => format!("\tvia {gateway}{onlink}"),
                    (None, interface) => format!("\tdev {}", interface.as_deref().unwrap_or("")),
                };
                reply.line(1009, text);
            }
        }
    }
}

fn memory_line(what: &str, bytes: usize) -> String {
    let (value, unit) = match bytes {
        0..=9_999 => (bytes as f64, " B"),
        10_000..=9_999_999 => (bytes as f64 / 1024.0, "kB"),
        _ => (bytes as f64 / 1_048_576.0, "MB"),
    };
    format!("{what:<17} {value:>6.1} {unit}   {:>6.1}  B", 0.0)
}

fn summary_line(interface: &Interface) -> String {
    let first = |ipv6: bool| {
        let found = interface.addresses.iter().find(|a| a.net.addr().is_ipv6() == ipv6);
        found.map_or_else(String::new, |a| a.net.to_string())
    };
    let state = if interface.is_up() { "up" } else { "down" };
    format!("{:<10} {state:<6} {:<18} {}", interface.name, first(false), first(true))
}

fn flags_line(interface: &Interface) -> String {
    let mut flags = vec![if interface.point_to_point { "PtP" } else { "MultiAccess" }];
    let optional = [
        (interface.broadcast, "Broadcast"),
        (interface.multicast || interface.loopback, "Multicast"),
        (interface.admin_up, "AdminUp"),
        (interface.link_up, "LinkUp"),
        (interface.loopback, "Loopback"),
    ];
    flags.extend(optional.iter().filter(|(on, _)| *on).map(|(_, name)| *name));
    format!("\t{} MTU={}", flags.join(" "), interface.mtu_bytes)
}

/// BIRD's scopes of addresses.
fn scope(net: IpNet) -> &'static str {
    match net.addr() {
        a if a.is_loopback() => "host",
        IpAddr::V4(a) if a.is_private() => "site",
        IpAddr::V4(a) if a.is_link_local() => "link",
        IpAddr::V6(a) if a.is_unicast_link_local() => "link",
        IpAddr::V6(a) if a.is_unique_local() => "site",
        _ => "univ",
    }
}
