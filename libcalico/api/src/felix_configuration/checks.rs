//! What a FelixConfiguration must satisfy, and what it holds when fields are left out.
//!
//! A table of JSON field names: the fields are many, their kinds few. Felix itself reads the same values again with
//! its own per-field behaviour for bad ones; here the writer is told.

use libcalico_net::cidr::Family;
use serde_json::Value;

use super::{
    BpfConnectTimeLoadBalancing, FelixConfiguration, FelixConfigurationSpec, NftablesFlowTableOffload,
    NftablesMode,
};
use crate::common::EnabledDisabled;
use crate::duration::normalise;
use crate::validation::{Checked, Findings, Path};

/// Most ranges of kernel routing tables.
const MAX_ROUTE_TABLE_RANGES: usize = 256;

/// What a field's value must be.
enum Rule {
    /// One of these, whatever the case.
    Words(&'static [&'static str]),
    /// A number within bounds.
    Range(i64, i64),
    /// An address of this family.
    Address(Family),
    /// Networks.
    Networks,
}

const SEVERITIES: Rule = Rule::Words(&["Trace", "Debug", "Info", "Warning", "Error", "Fatal"]);
const PORT: Rule = Rule::Range(0, 65535);
const MTU: Rule = Rule::Range(0, 65535);
/// Sizes, counts and priorities.
const COUNT: Rule = Rule::Range(0, i32::MAX as i64);

const RULES: &[(&str, Rule)] = &[
    ("bpfDSROptoutCIDRs", Rule::Networks),
    ("bpfEnforceRPF", Rule::Words(&["Disabled", "Strict", "Loose"])),
    ("bpfExcludeCIDRsFromNAT", Rule::Networks),
    ("bpfExportBufferSizeMB", COUNT),
    ("bpfExternalServiceMode", Rule::Words(&["Tunnel", "DSR"])),
    ("bpfKubeProxyHealthzPort", PORT),
    ("bpfLogLevel", Rule::Words(&["Off", "Info", "Debug"])),
    ("bpfMaglevMaxEndpointsPerService", COUNT),
    ("bpfMaglevMaxServices", COUNT),
    ("bpfMapSizeConntrack", COUNT),
    ("bpfMapSizeConntrackCleanupQueue", Rule::Range(1, i32::MAX as i64)),
    ("bpfMapSizeConntrackScaling", Rule::Words(&["Disabled", "DoubleIfFull"])),
    ("bpfMapSizeIPSets", COUNT),
    ("bpfMapSizeIfState", COUNT),
    ("bpfMapSizeNATAffinity", COUNT),
    ("bpfMapSizeNATBackend", COUNT),
    ("bpfMapSizeNATFrontend", COUNT),
    ("bpfMapSizePerCpuConntrack", COUNT),
    ("bpfMapSizeRoute", COUNT),
    ("chainInsertMode", Rule::Words(&["Insert", "Append"])),
    ("debugPort", PORT),
    ("defaultEndpointToHostAction", Rule::Words(&["Drop", "Accept", "Return"])),
    ("deviceRouteProtocol", Rule::Range(0, 255)),
    ("deviceRouteSourceAddress", Rule::Address(Family::V4)),
    ("deviceRouteSourceAddressIPv6", Rule::Address(Family::V6)),
    ("externalNodesList", Rule::Networks),
    ("healthPort", PORT),
    ("ipipMTU", MTU),
    ("iptablesFilterAllowAction", Rule::Words(&["Accept", "Return"])),
    ("iptablesFilterDenyAction", Rule::Words(&["Drop", "Reject"])),
    ("iptablesMangleAllowAction", Rule::Words(&["Accept", "Return"])),
    ("iptablesMarkMask", Rule::Range(0, 0xffff_ffff)),
    ("ipv4ElevatedRoutePriority", COUNT),
    ("ipv4NormalRoutePriority", COUNT),
    ("ipv6ElevatedRoutePriority", COUNT),
    ("ipv6NormalRoutePriority", COUNT),
    ("logActionRateLimitBurst", Rule::Range(0, 9999)),
    ("logSeverityFile", SEVERITIES),
    ("logSeverityScreen", SEVERITIES),
    ("logSeveritySys", SEVERITIES),
    ("maxIpsetSize", COUNT),
    ("metadataPort", PORT),
    ("natOutgoingAddress", Rule::Address(Family::V4)),
    ("nftablesFilterAllowAction", Rule::Words(&["Accept", "Return"])),
    ("nftablesFilterDenyAction", Rule::Words(&["Drop", "Reject"])),
    ("nftablesMangleAllowAction", Rule::Words(&["Accept", "Return"])),
    ("nftablesMarkMask", Rule::Range(0, 0xffff_ffff)),
    ("prometheusMetricsPort", PORT),
    ("routeSource", Rule::Words(&["WorkloadIPs", "CalicoIPAM"])),
    ("serviceLoopPrevention", Rule::Words(&["Drop", "Reject", "Disabled"])),
    ("vxlanMTU", MTU),
    ("vxlanMTUV6", MTU),
    ("vxlanPort", PORT),
    ("vxlanVNI", Rule::Range(0, 0xff_ffff)),
    ("wireguardListeningPort", PORT),
    ("wireguardListeningPortV6", PORT),
    ("wireguardMTU", MTU),
    ("wireguardMTUV6", MTU),
    ("wireguardRoutingRulePriority", Rule::Range(0, 32765)),
    ("workloadSourceSpoofing", Rule::Words(&["Disabled", "Any"])),
];

impl Checked for FelixConfiguration {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let fields = serde_json::to_value(&self.spec).unwrap_or_default();
        for (name, rule) in RULES {
            if let Some(value) = fields.get(name) {
                rule.check(&spec.field(name), value, e);
            }
        }
        for (name, text) in self.spec.clone().durations() {
            e.duration_opt(&spec.field(name), text.as_deref());
        }
        let s = &self.spec;
        e.selector_opt(&spec.field("nodeSelector"), s.node_selector.as_deref());
        let for_all_or_one = self.metadata.name == "default" || self.metadata.name.starts_with("node.");
        e.require(
            s.node_selector.is_none() || !for_all_or_one,
            &spec.field("nodeSelector"),
            s.node_selector.as_deref().unwrap_or_default(),
            "the objects default and node.NAME are for all nodes and for one: they select none",
        );
        check_texts(s, &spec, e);
        check_lists(s, &spec, e);
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        for (_, text) in spec.durations() {
            normalise(text);
        }
        spec.nftables_mode.get_or_insert(NftablesMode::Auto);
        spec.nftables_flow_table_offload.get_or_insert(NftablesFlowTableOffload::Disabled);
        // Upstream always writes this field, empty where it is not given.
        spec.bpf_log_level.get_or_insert_default();
        // The older field decides where both are given, as upstream's client writes it.
        if let Some(enabled) = spec.bpf_connect_time_load_balancing_enabled {
            spec.bpf_connect_time_load_balancing = Some(if enabled {
                BpfConnectTimeLoadBalancing::Enabled
            } else {
                BpfConnectTimeLoadBalancing::Disabled
            });
            spec.bpf_host_networked_nat_without_ctlb = Some(EnabledDisabled::Disabled);
        }
        spec.bpf_connect_time_load_balancing.get_or_insert(BpfConnectTimeLoadBalancing::TCP);
        spec.bpf_host_networked_nat_without_ctlb.get_or_insert(EnabledDisabled::Enabled);
        spec.floating_ips.get_or_insert(EnabledDisabled::Disabled);
    }
}

impl Rule {
    fn check(&self, path: &Path<'_>, value: &Value, e: &mut Findings) {
        match self {
            Self::Words(words) => e.word_opt(path, value.as_str(), words),
            Self::Range(min, max) => e.range_opt(path, value.as_i64(), *min, *max),
            Self::Address(family) => {
                if let Some(text) = value.as_str().filter(|t| !t.is_empty()) {
                    e.address(path, text, Some(*family));
                }
            }
            Self::Networks => {
                for (i, text) in value.as_array().into_iter().flatten().enumerate() {
                    e.network_or_address(&path.index(i), text.as_str().unwrap_or_default());
                }
            }
        }
    }
}

fn check_texts(s: &FelixConfigurationSpec, spec: &Path<'_>, e: &mut Findings) {
    let prefix = s.log_prefix.as_deref().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "%: /_-".contains(c);
    e.require(
        prefix.chars().all(allowed),
        &spec.field("logPrefix"),
        prefix,
        "must be letters, digits, spaces and any of % : / _ -",
    );
    if let Some(limit) = s.log_action_rate_limit.as_deref() {
        let ok = limit.split_once('/').is_some_and(|(n, unit)| {
            matches!(unit, "second" | "minute" | "hour" | "day")
                && (1..=4).contains(&n.len())
                && !n.starts_with('0')
                && n.bytes().all(|b| b.is_ascii_digit())
        });
        let at = spec.field("logActionRateLimit");
        e.require(ok, &at, limit, "must be N/second, N/minute, N/hour or N/day, N from 1 to 9999");
    }
    for (name, text, values) in [
        ("featureDetectOverride", &s.feature_detect_override, &["", "true", "false"][..]),
        ("featureGates", &s.feature_gates, &[][..]),
    ] {
        for item in text.as_deref().unwrap_or_default().split(',').filter(|i| !i.is_empty()) {
            let ok = item.split_once('=').is_some_and(|(key, value)| {
                !key.is_empty() && (values.contains(&value) || values.is_empty() && !value.is_empty())
            });
            e.require(ok, &spec.field(name), item, "must be NAME=VALUE pairs joined by commas");
        }
    }
    let Some(t) = &s.bpf_conntrack_timeouts else { return };
    let at = spec.field("bpfConntrackTimeouts");
    for (name, text) in [
        ("creationGracePeriod", &t.creation_grace_period),
        ("genericTimeout", &t.generic_timeout),
        ("icmpTimeout", &t.icmp_timeout),
        ("tcpEstablished", &t.tcp_established),
        ("tcpFinsSeen", &t.tcp_fins_seen),
        ("tcpResetSeen", &t.tcp_reset_seen),
        ("tcpSynSent", &t.tcp_syn_sent),
        ("udpTimeout", &t.udp_timeout),
    ] {
        e.duration_opt(&at.field(name), text.as_deref().filter(|t| *t != "Auto"));
    }
}

fn check_lists(s: &FelixConfigurationSpec, spec: &Path<'_>, e: &mut Findings) {
    for (name, ports) in [
        ("failsafeInboundHostPorts", &s.failsafe_inbound_host_ports),
        ("failsafeOutboundHostPorts", &s.failsafe_outbound_host_ports),
    ] {
        let list = spec.field(name);
        for (i, p) in ports.iter().flatten().enumerate() {
            let at = list.index(i);
            e.range(&at.field("port"), p.port.unwrap_or_default(), 0, 65535);
            e.word_opt(&at.field("protocol"), p.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
            if let Some(net) = p.net.as_deref().filter(|n| !n.is_empty()) {
                e.network(&at.field("net"), net);
            }
        }
    }
    let list = spec.field("healthTimeoutOverrides");
    for (i, o) in s.health_timeout_overrides.iter().enumerate() {
        e.duration_opt(&list.index(i).field("timeout"), o.timeout.as_deref());
    }
    let list = spec.field("routeTableRanges");
    e.max_items(&list, &s.route_table_ranges, MAX_ROUTE_TABLE_RANGES);
    for (i, r) in s.route_table_ranges.iter().enumerate() {
        let (min, max) = (r.min.unwrap_or_default(), r.max.unwrap_or_default());
        e.require(1 <= min && min <= max, &list.index(i), format!("{min}-{max}"), "needs 1 <= min <= max");
    }
    if let Some(r) = &s.route_table_range {
        let (min, max) = (r.min.unwrap_or_default(), r.max.unwrap_or_default());
        let right = 1 <= min && min <= max && max <= 250;
        e.require(
            right,
            &spec.field("routeTableRange"),
            format!("{min}-{max}"),
            "needs 1 <= min <= max <= 250",
        );
    }
    let both = s.route_table_range.is_some() && !s.route_table_ranges.is_empty();
    e.require(!both, &spec.field("routeTableRange"), "", "cannot stand beside routeTableRanges");
}

impl FelixConfigurationSpec {
    /// The fields that hold durations, by their JSON names.
    fn durations(&mut self) -> [(&'static str, &mut Option<String>); 24] {
        [
            ("bpfIPFragTimeout", &mut self.bpf_ip_frag_timeout),
            ("bpfKubeProxyMinSyncPeriod", &mut self.bpf_kube_proxy_min_sync_period),
            ("debugSimulateCalcGraphHangAfter", &mut self.debug_simulate_calc_graph_hang_after),
            ("debugSimulateDataplaneApplyDelay", &mut self.debug_simulate_dataplane_apply_delay),
            ("debugSimulateDataplaneHangAfter", &mut self.debug_simulate_dataplane_hang_after),
            ("endpointReportingDelay", &mut self.endpoint_reporting_delay),
            ("flowLogsFlushInterval", &mut self.flow_logs_flush_interval),
            ("interfaceRefreshInterval", &mut self.interface_refresh_interval),
            ("ipsetsRefreshInterval", &mut self.ipsets_refresh_interval),
            ("iptablesLockProbeInterval", &mut self.iptables_lock_probe_interval),
            ("iptablesPostWriteCheckInterval", &mut self.iptables_post_write_check_interval),
            ("iptablesRefreshInterval", &mut self.iptables_refresh_interval),
            ("liveMigrationRouteConvergenceTime", &mut self.live_migration_route_convergence_time),
            ("netlinkTimeout", &mut self.netlink_timeout),
            ("reportingInterval", &mut self.reporting_interval),
            ("reportingTTL", &mut self.reporting_ttl),
            ("routeRefreshInterval", &mut self.route_refresh_interval),
            ("usageReportingInitialDelay", &mut self.usage_reporting_initial_delay),
            ("usageReportingInterval", &mut self.usage_reporting_interval),
            ("wireguardKeepAlive", &mut self.wireguard_keep_alive),
            ("xdpRefreshInterval", &mut self.xdp_refresh_interval),
            ("dataplaneWatchdogTimeout", &mut self.dataplane_watchdog_timeout),
            (
                "localSubnetL2ReachabilityRefreshInterval",
                &mut self.local_subnet_l2_reachability_refresh_interval,
            ),
            ("nftablesRefreshInterval", &mut self.nftables_refresh_interval),
        ]
    }
}

/// What the Kubernetes API checks beside the table of [`RULES`].
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Max, MaxItems, MaxLength, Min, Pattern, Rule};
    use crate::crd::{DURATION, SELECTOR_WITHOUT_GLOBAL};
    crate::crd::Table {
        columns: &[],
        status: false,
        limits: &[&[
            (
                "",
                &[Rule(
                    "!has(self.spec.nodeSelector) || !(self.metadata.name == 'default' || self.metadata.name.startsWith('node.'))",
                    "the objects default and node.NAME are for all nodes and for one: they select none",
                )],
            ),
            (
                "spec",
                &[Rule(
                    "!has(self.routeTableRange) || !has(self.routeTableRanges) || size(self.routeTableRanges) == 0",
                    "routeTableRange cannot stand beside routeTableRanges",
                )],
            ),
            (
                "spec.bpfConntrackTimeouts.{creationGracePeriod,genericTimeout,icmpTimeout,tcpEstablished,tcpFinsSeen,tcpResetSeen,tcpSynSent,udpTimeout}",
                &[Pattern(r"^(([+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)|[+-]?0|Auto)$")],
            ),
            (
                "spec.{deviceRouteSourceAddress,natOutgoingAddress}",
                &[
                    MaxLength(45),
                    Rule("self == '' || (isIP(self) && ip(self).family() == 4)", "must be an IPv4 address"),
                ],
            ),
            (
                "spec.deviceRouteSourceAddressIPv6",
                &[
                    MaxLength(45),
                    Rule("self == '' || (isIP(self) && ip(self).family() == 6)", "must be an IPv6 address"),
                ],
            ),
            ("spec.{failsafeInboundHostPorts,failsafeOutboundHostPorts}[].port", &[Min(0), Max(65535)]),
            (
                "spec.{failsafeInboundHostPorts,failsafeOutboundHostPorts}[].protocol",
                &[Pattern("^(?i)(TCP|UDP|SCTP)?$")],
            ),
            (
                "spec.featureDetectOverride",
                &[Pattern("^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$")],
            ),
            ("spec.featureGates", &[Pattern("^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$")]),
            ("spec.healthTimeoutOverrides[].timeout", &[DURATION]),
            ("spec.logActionRateLimit", &[Pattern("^[1-9][0-9]{0,3}/(second|minute|hour|day)$")]),
            ("spec.logPrefix", &[Pattern("^([a-zA-Z0-9%: /_-])*$")]),
            ("spec.nftablesFlowTableOffload", &[Default("\"Disabled\"")]),
            ("spec.nftablesMode", &[Default("\"Auto\"")]),
            ("spec.nodeSelector", SELECTOR_WITHOUT_GLOBAL),
            (
                "spec.routeTableRange",
                &[Rule(
                    "has(self.min) && has(self.max) && self.min >= 1 && self.min <= self.max && self.max <= 250",
                    "needs 1 <= min <= max <= 250",
                )],
            ),
            ("spec.routeTableRanges", &[MaxItems(MAX_ROUTE_TABLE_RANGES as u64)]),
            (
                "spec.routeTableRanges[]",
                &[Rule(
                    "has(self.min) && has(self.max) && self.min >= 1 && self.min <= self.max",
                    "needs 1 <= min <= max",
                )],
            ),
        ]],
    }
};

/// Says the table of [`RULES`], and which fields are durations, in the terms of a schema.
#[cfg(feature = "schema")]
pub(crate) fn limit(schema: &mut Value) -> Result<(), crate::crd::CrdError> {
    use crate::crd::{DURATION, NET, limit_field};
    for (name, _) in FelixConfigurationSpec::default().durations() {
        limit_field(schema, "FelixConfiguration", &format!("spec.{name}"), &[DURATION])?;
    }
    for (name, rule) in RULES {
        let path = format!("spec.{name}");
        let field = limit_field(schema, "FelixConfiguration", &path, &[])?;
        match rule {
            Rule::Words(words) => field["pattern"] = format!("^(?i)({})?$", words.join("|")).into(),
            Rule::Range(min, max) => {
                field["minimum"] = (*min).into();
                field["maximum"] = (*max).into();
            }
            Rule::Address(_) => {}
            Rule::Networks => {
                limit_field(schema, "FelixConfiguration", &format!("{path}[]"), NET)?;
            }
        }
    }
    Ok(())
}
