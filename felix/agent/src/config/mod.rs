//! Felix's configuration: raw parameters from file, environment and datastore become one typed struct.
//!
//! In come texts by source ([`Raw`]), out goes [`Config`]. Which source won is logged. Left out: reading
//! `FelixConfiguration` from the datastore, which arrives as `Message::ConfigUpdate`.

pub mod reference;
pub mod sources;
pub mod table;
mod typha;
pub mod value;
pub mod warnings;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use felix_dataplane::config::{
    AllowAction, Backend, ChainInsertMode, Config as DataplaneConfig, DenyAction, EndpointToHostAction,
    ServiceLoopPrevention,
};
use felix_dataplane::driver::backend::{IptablesMode, NftablesMode};
use felix_dataplane::rule::{RateLimit, TimeUnit};
use libcalico_telemetry::MetricsTls;

pub use sources::{ConfigError, Effective, Raw, Resolved, Source};
pub use typha::TyphaTls;
use value::Value;

use crate::status::datastore::Reports;

/// Where upstream's Felix looks for its file.
pub const DEFAULT_FILE: &str = "/etc/calico/felix.cfg";

/// Everything Felix is configured with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub hostname: String,
    /// Addresses of Typha, `host:port`, in order of preference. Empty: straight to the datastore.
    pub typha_addresses: Vec<String>,
    pub typha_tls: Option<TyphaTls>,
    pub typha_read_timeout: Duration,
    pub typha_write_timeout: Duration,
    /// Where health is served.
    pub health: Option<Listen>,
    /// Where metrics are served.
    pub metrics: Option<Listen>,
    /// Metrics are served over TLS alone, as far as it is set: what is set by half is an error when they are served.
    pub metrics_tls: Option<MetricsTls>,
    /// Figures of the process are among the metrics.
    pub process_metrics: bool,
    /// Level word: `DEBUG`, `INFO`, …
    pub log_severity: String,
    /// Folder for files of endpoints' status.
    pub status_files: Option<PathBuf>,
    /// Reports in etcd.
    pub reports: Reports,
    /// Established flows that policy denies by now are cut.
    pub cut_flows: bool,
    pub dataplane: DataplaneConfig,
}

/// A host and port to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub host: String,
    pub port: u16,
}

impl Config {
    /// Makes the typed configuration. `machine` is the host's own name, used where none is configured; `backend`, what
    /// [`backend_modes`] come to on this host.
    #[must_use]
    pub fn from_resolved(r: &Resolved, machine: &str, backend: Backend) -> Self {
        let hostname = match r.text("FelixHostname") {
            "" => machine.to_ascii_lowercase(),
            name => name.to_owned(),
        };
        let listen = |enabled: &str, host: &str, port: &str| {
            (r.bool(enabled) == Some(true))
                .then(|| Listen { host: r.text(host).to_owned(), port: r.int(port).unwrap_or_default() })
        };
        let file = |name: &str| Some(r.text(name)).filter(|t| !t.is_empty()).map(PathBuf::from);
        Self {
            typha_addresses: r
                .text("TyphaAddr")
                .split(',')
                .map(str::trim)
                .filter(|a| !a.is_empty())
                .map(str::to_owned)
                .collect(),
            typha_tls: typha::tls(r),
            typha_read_timeout: r.duration("TyphaReadTimeout"),
            typha_write_timeout: r.duration("TyphaWriteTimeout"),
            health: listen("HealthEnabled", "HealthHost", "HealthPort"),
            metrics: listen("PrometheusMetricsEnabled", "PrometheusMetricsHost", "PrometheusMetricsPort"),
            metrics_tls: MetricsTls::new(
                r.text("PrometheusMetricsCertFile"),
                r.text("PrometheusMetricsKeyFile"),
                r.text("PrometheusMetricsCAFile"),
                r.text("PrometheusMetricsClientAuth").parse().unwrap_or_default(),
            ),
            process_metrics: r.bool("PrometheusProcessMetricsEnabled") == Some(true),
            log_severity: r.text("LogSeverityScreen").to_owned(),
            status_files: file("EndpointStatusPathPrefix"),
            reports: reports(r, &hostname),
            cut_flows: r.text("EstablishedFlowEnforcement") == "Enabled",
            dataplane: dataplane(r, &hostname, backend),
            hostname,
        }
    }
}

fn reports(r: &Resolved, hostname: &str) -> Reports {
    Reports {
        hostname: hostname.to_owned(),
        region: Reports::region(r.text("OpenstackRegion")),
        every: Some(r.duration("ReportingIntervalSecs")).filter(|t| !t.is_zero()),
        ttl: r.duration("ReportingTTLSecs"),
        endpoints: (r.bool("EndpointReportingEnabled") == Some(true))
            .then(|| r.duration("EndpointReportingDelaySecs")),
    }
}

/// `LogActionRateLimit`, as `5/minute`, with its burst; without the first there is none.
fn log_limit(rate: &str, burst: u32) -> Option<RateLimit> {
    /// What the programs take for zero.
    const DEFAULT_BURST: u32 = 5;
    /// The most that iptables takes.
    const MOST: u32 = 10_000;
    let (packets, unit) = rate.split_once('/')?;
    Some(RateLimit {
        packets: packets.parse().ok()?,
        unit: TimeUnit::ALL.into_iter().find(|u| u.name() == unit)?,
        burst: if burst == 0 { DEFAULT_BURST } else { burst.min(MOST) },
    })
}

/// `NFTablesMode` and `IptablesBackend`.
#[must_use]
pub fn backend_modes(r: &Resolved) -> (NftablesMode, IptablesMode) {
    let nftables = match r.text("NFTablesMode") {
        "Enabled" => NftablesMode::Enabled,
        "Disabled" => NftablesMode::Disabled,
        _ => NftablesMode::Auto,
    };
    let iptables = match r.text("IptablesBackend") {
        "legacy" => IptablesMode::Legacy,
        "nft" => IptablesMode::Nft,
        _ => IptablesMode::Auto,
    };
    (nftables, iptables)
}

fn dataplane(r: &Resolved, hostname: &str, backend: Backend) -> DataplaneConfig {
    let mut c = DataplaneConfig { hostname: hostname.to_owned(), backend, ..DataplaneConfig::default() };
    // Some parameters have a name for each kind of backend.
    let of = |nftables: &'static str, iptables: &'static str| {
        if backend == Backend::Nftables { nftables } else { iptables }
    };
    let addr = |name: &str| match r.raw_value(name) {
        Value::Addr(a) => Some(*a),
        _ => None,
    };
    let allow = |name: &str| match r.text(name) {
        "RETURN" => AllowAction::Return,
        _ => AllowAction::Accept,
    };
    if let Value::Marks(marks) = r.raw_value(of("NftablesMarkMask", "IptablesMarkMask")) {
        c.marks = *marks;
    }
    if let Value::Ports(ports) = r.raw_value("FailsafeInboundHostPorts") {
        c.failsafe_inbound.clone_from(ports);
    }
    if let Value::Ports(ports) = r.raw_value("FailsafeOutboundHostPorts") {
        c.failsafe_outbound.clone_from(ports);
    }
    c.ipv6 = r.bool("Ipv6Support").unwrap_or(true);
    c.interface_prefixes = r.text("InterfacePrefix").split(',').map(str::to_owned).collect();
    if let Value::Interfaces(list) = r.raw_value("InterfaceExclude") {
        c.interface_exclude.clone_from(list);
    }
    c.filter_allow_action = allow(of("NftablesFilterAllowAction", "IptablesFilterAllowAction"));
    c.mangle_allow_action = allow(of("NftablesMangleAllowAction", "IptablesMangleAllowAction"));
    c.filter_deny_action = match r.text(of("NftablesFilterDenyAction", "IptablesFilterDenyAction")) {
        "REJECT" => DenyAction::Reject,
        _ => DenyAction::Drop,
    };
    c.endpoint_to_host_action = match r.text("DefaultEndpointToHostAction") {
        "ACCEPT" => EndpointToHostAction::Accept,
        "RETURN" => EndpointToHostAction::Return,
        _ => EndpointToHostAction::Drop,
    };
    c.service_loop_prevention = match r.text("ServiceLoopPrevention") {
        "Drop" => ServiceLoopPrevention::Drop,
        "Reject" => ServiceLoopPrevention::Reject,
        _ => ServiceLoopPrevention::Disabled,
    };
    c.floating_ips = r.text("FloatingIPs") == "Enabled";
    c.disable_conntrack_invalid_check = r.bool("DisableConntrackInvalidCheck") == Some(true);
    r.text("LogPrefix").clone_into(&mut c.log_prefix);
    let burst = r.int("LogActionRateLimitBurst").unwrap_or(u32::MAX);
    c.log_limit = log_limit(r.text("LogActionRateLimit"), burst);
    c.allow_vxlan_from_workloads = r.bool("AllowVXLANPacketsFromWorkloads") == Some(true);
    c.allow_ipip_from_workloads = r.bool("AllowIPIPPacketsFromWorkloads") == Some(true);
    c.vxlan_port = r.int("VXLANPort").unwrap_or(4789);
    c.ipip_enabled = r.bool("IpInIpEnabled");
    c.vxlan_enabled = r.bool("VXLANEnabled");
    c.nat_port_range = match r.raw_value("NATPortRange") {
        Value::PortRange(range) if range.last > 0 => Some(*range),
        _ => None,
    };
    c.nat_outgoing_address = addr("NATOutgoingAddress").and_then(|a| match a {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    });
    c.nat_exclude_hosts = r.text("NATOutgoingExclusions") == "IPPoolsAndHostIPs";
    c.nat_outgoing_interface =
        Some(r.text("IptablesNATOutgoingInterfaceFilter")).filter(|t| !t.is_empty()).map(str::to_owned);
    c.device_route_protocol = r.int("DeviceRouteProtocol").unwrap_or(3);
    c.ipv4_route_priority = r.int("IPv4NormalRoutePriority").unwrap_or(1024);
    c.ipv6_route_priority = r.int("IPv6NormalRoutePriority").unwrap_or(1024);
    c.device_route_source = addr("DeviceRouteSourceAddress").and_then(|a| match a {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    });
    c.device_route_source_v6 = addr("DeviceRouteSourceAddressIPv6").and_then(|a| match a {
        IpAddr::V6(a) => Some(a),
        IpAddr::V4(_) => None,
    });
    c.remove_external_routes = r.bool("RemoveExternalRoutes").unwrap_or(true);
    c.route_sync_disabled = r.bool("RouteSyncDisabled") == Some(true);
    c.workload_source_spoofing = r.text("WorkloadSourceSpoofing") == "Any";
    c.ip_forwarding = r.text("IPForwarding") == "Enabled";
    c.tables_refresh = r.duration(of("NftablesRefreshInterval", "IptablesRefreshInterval"));
    c.ip_sets_refresh = r.duration("IpsetsRefreshInterval");
    c.post_write_check = r.duration("IptablesPostWriteCheckIntervalSecs");
    c.ip_set_max = r.int("MaxIpsetSize").unwrap_or(c.ip_set_max);
    c.chain_insert_mode = match r.text("ChainInsertMode") {
        "append" => ChainInsertMode::Append,
        _ => ChainInsertMode::Insert,
    };
    c.netlink_timeout = r.duration("NetlinkTimeoutSecs");
    c.routes_refresh = r.duration("RouteRefreshInterval");
    c.interface_refresh = r.duration("InterfaceRefreshInterval");
    c
}

#[cfg(test)]
mod tests {
    use felix_dataplane::config::Marks;

    use super::*;

    #[test]
    fn without_any_source_the_dataplane_has_upstreams_defaults() {
        let config = Config::from_resolved(&Raw::default().resolve().unwrap(), "Node-A", Backend::default());
        assert_eq!(config.hostname, "node-a");
        let expected = DataplaneConfig { hostname: "node-a".into(), ..DataplaneConfig::default() };
        assert_eq!(config.dataplane, expected);
        assert_eq!(config.typha_addresses, Vec::<String>::new());
        assert_eq!(config.health, None);
    }

    #[test]
    fn parameters_reach_the_dataplane() {
        let mut raw = Raw::default();
        raw.set_environment(
            [
                ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "accept"),
                ("FELIX_NFTABLESMARKMASK", "0xff000000"),
                ("FELIX_TYPHAADDR", "10.0.0.1:5473"),
                ("FELIX_HEALTHENABLED", "true"),
                ("PATH", "/bin"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let config = Config::from_resolved(&raw.resolve().unwrap(), "n", Backend::default());
        assert_eq!(config.dataplane.endpoint_to_host_action, EndpointToHostAction::Accept);
        assert_eq!(config.dataplane.marks.accept, 0x100_0000);
        assert_eq!(config.typha_addresses, ["10.0.0.1:5473"]);
        assert_eq!(config.health, Some(Listen { host: "localhost".into(), port: 9099 }));
    }

    #[test]
    fn none_turns_off_what_is_on_by_default() {
        let mut raw = Raw::default();
        let names = [
            "IPV6SUPPORT",
            "REMOVEEXTERNALROUTES",
            "IPFORWARDING",
            "SERVICELOOPPREVENTION",
            "INTERFACEEXCLUDE",
            "LOGSEVERITYSCREEN",
            "ROUTEREFRESHINTERVAL",
        ];
        raw.set_environment(names.map(|n| (format!("FELIX_{n}"), "None".to_owned())));
        let config = Config::from_resolved(&raw.resolve().unwrap(), "n", Backend::default());
        let c = &config.dataplane;
        assert_eq!((c.ipv6, c.remove_external_routes, c.ip_forwarding), (false, false, false));
        assert_eq!(c.service_loop_prevention, ServiceLoopPrevention::Disabled);
        assert_eq!((c.interface_exclude.len(), c.routes_refresh), (0, Duration::ZERO));
        assert_eq!(config.log_severity.parse(), Ok(libcalico_telemetry::Severity::None));
    }

    #[test]
    fn a_limit_of_log_lines_is_read_as_upstream_reads_it() {
        let limit = |packets, unit, burst| Some(RateLimit { packets, unit, burst });
        assert_eq!(log_limit("5/minute", 7), limit(5, TimeUnit::Minute, 7));
        assert_eq!(log_limit("9999/day", 0), limit(9999, TimeUnit::Day, 5));
        assert_eq!(log_limit("1/second", u32::MAX), limit(1, TimeUnit::Second, 10_000));
        assert_eq!(log_limit("", 5), None);
        let mut raw = Raw::default();
        let set = [("FELIX_LOGACTIONRATELIMIT", "3/hour"), ("FELIX_NETLINKTIMEOUTSECS", "7")];
        raw.set_environment(set.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let c = Config::from_resolved(&raw.resolve().unwrap(), "n", Backend::default()).dataplane;
        assert_eq!(c.log_limit, limit(3, TimeUnit::Hour, 5));
        assert_eq!(c.netlink_timeout, Duration::from_secs(7));
    }

    #[test]
    fn parameters_of_iptables_count_where_iptables_is_programmed() {
        let mut raw = Raw::default();
        raw.set_environment(
            [
                ("FELIX_IPTABLESMARKMASK", "0x1f"),
                ("FELIX_IPTABLESBACKEND", "Legacy"),
                ("FELIX_NFTABLESMODE", "Disabled"),
                ("FELIX_CHAININSERTMODE", "Append"),
                ("FELIX_IPTABLESREFRESHINTERVAL", "7"),
                ("FELIX_MAXIPSETSIZE", "9"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let resolved = raw.resolve().unwrap();
        assert_eq!(backend_modes(&resolved), (NftablesMode::Disabled, IptablesMode::Legacy));
        let of = |backend| Config::from_resolved(&resolved, "n", backend).dataplane;
        assert_eq!(of(Backend::Nftables).marks, Marks::default());
        let c = of(Backend::IptablesLegacy);
        assert_eq!((c.marks.accept, c.ip_set_max, c.tables_refresh), (1, 9, Duration::from_secs(7)));
        assert_eq!(c.chain_insert_mode, ChainInsertMode::Append);
    }
}
