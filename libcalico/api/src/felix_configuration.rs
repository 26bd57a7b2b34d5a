//! `FelixConfiguration` of `projectcalico.org/v3`: parameters of Felix for the cluster (`default`) or one node
//! (`node.NAME`).
//!
//! Defaults in the comments are Felix' own for an absent field; the few that are written to the datastore stand in
//! `checks`.

mod checks;
mod values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::{EnabledDisabled, ProgramClusterRoutes, null_default};
use crate::meta::{NoStatus, Object};
use crate::num_or_string::Port;

pub use values::*;

/// The whole object.
pub type FelixConfiguration = Object<FelixConfigurationSpec, NoStatus>;

/// Parameters by name; absent ones have Felix' defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfigurationSpec {
    /// Parameter `AllowIPIPPacketsFromWorkloads`, default `false`.
    #[serde(rename = "allowIPIPPacketsFromWorkloads", skip_serializing_if = "Option::is_none")]
    pub allow_ipip_packets_from_workloads: Option<bool>,
    /// Parameter `AllowVXLANPacketsFromWorkloads`, default `false`.
    #[serde(rename = "allowVXLANPacketsFromWorkloads", skip_serializing_if = "Option::is_none")]
    pub allow_vxlan_packets_from_workloads: Option<bool>,
    /// Parameter `AWSSrcDstCheck`, default `DoNothing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_src_dst_check: Option<AwsSrcDstCheck>,
    /// Parameter `BPFAttachType`, default `Netkit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_attach_type: Option<BpfAttachType>,
    /// Parameter `BPFCTLBLogFilter`.
    #[serde(rename = "bpfCTLBLogFilter", skip_serializing_if = "Option::is_none")]
    pub bpf_ctlb_log_filter: Option<String>,
    /// Parameter `BPFConnectTimeLoadBalancing`, default `TCP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_connect_time_load_balancing: Option<BpfConnectTimeLoadBalancing>,
    /// Parameter `BPFConnectTimeLoadBalancingEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_connect_time_load_balancing_enabled: Option<bool>,
    /// Parameter `BPFConntrackLogLevel`, default `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_log_level: Option<BpfConntrackLogLevel>,
    /// Parameter `BPFConntrackCleanupMode`, default `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_mode: Option<BpfConntrackMode>,
    /// Parameter `BPFConntrackTimeouts`, default `CreationGracePeriod=10s,TCPSynSent=20s,TCPEstablished=1h,TCPFinsSeen=Auto,TCPResetSeen=40s,UDPTimeout=60s,GenericTimeout=10m,ICMPTimeout=5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_timeouts: Option<BpfConntrackTimeouts>,
    /// Parameter `BPFDSROptoutCIDRs`.
    #[serde(
        rename = "bpfDSROptoutCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bpf_dsr_optout_cidrs: Vec<String>,
    /// Parameter `BPFDataIfacePattern`, default `^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_data_iface_pattern: Option<String>,
    /// Parameter `BPFDisableGROForIfaces`.
    #[serde(rename = "bpfDisableGROForIfaces", skip_serializing_if = "Option::is_none")]
    pub bpf_disable_gro_for_ifaces: Option<String>,
    /// Parameter `BPFDisableUnprivileged`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_disable_unprivileged: Option<bool>,
    /// Parameter `BPFEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_enabled: Option<bool>,
    /// Parameter `BPFEnforceRPF`, default `Loose`.
    #[serde(rename = "bpfEnforceRPF", skip_serializing_if = "Option::is_none")]
    pub bpf_enforce_rpf: Option<String>,
    /// Parameter `BPFExcludeCIDRsFromNAT`.
    #[serde(
        rename = "bpfExcludeCIDRsFromNAT",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bpf_exclude_cidrs_from_nat: Vec<String>,
    /// Parameter `BPFExportBufferSizeMB`, default `1`.
    #[serde(rename = "bpfExportBufferSizeMB", skip_serializing_if = "Option::is_none")]
    pub bpf_export_buffer_size_mb: Option<i32>,
    /// Parameter `BPFExtToServiceConnmark`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_ext_to_service_connmark: Option<i32>,
    /// Parameter `BPFExternalServiceMode`, default `tunnel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_external_service_mode: Option<String>,
    /// Parameter `BPFForceTrackPacketsFromIfaces`, default `docker+`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub bpf_force_track_packets_from_ifaces: Vec<String>,
    /// Parameter `BPFHostConntrackBypass`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_host_conntrack_bypass: Option<bool>,
    /// Parameter `BPFHostNetworkedNATWithoutCTLB`, default `Enabled`.
    #[serde(rename = "bpfHostNetworkedNATWithoutCTLB", skip_serializing_if = "Option::is_none")]
    pub bpf_host_networked_nat_without_ctlb: Option<EnabledDisabled>,
    /// Parameter `BPFIPFragTimeout`, default `0`.
    #[serde(rename = "bpfIPFragTimeout", skip_serializing_if = "Option::is_none")]
    pub bpf_ip_frag_timeout: Option<String>,
    /// Parameter `BPFIPFragmentReassemblyEnabled`, default `true`.
    #[serde(rename = "bpfIPFragmentReassemblyEnabled", skip_serializing_if = "Option::is_none")]
    pub bpf_ip_fragment_reassembly_enabled: Option<bool>,
    /// Parameter `BPFJITHardening`, default `Auto`.
    #[serde(rename = "bpfJITHardening", skip_serializing_if = "Option::is_none")]
    pub bpf_jit_hardening: Option<BpfJitHardening>,
    /// Parameter `BPFKubeProxyHealthzPort`, default `10256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_healthz_port: Option<i32>,
    /// Parameter `BPFKubeProxyIptablesCleanupEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_iptables_cleanup_enabled: Option<bool>,
    /// Parameter `BPFKubeProxyMinSyncPeriod`, default `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_min_sync_period: Option<String>,
    /// Parameter `BPFL3IfacePattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_l3_iface_pattern: Option<String>,
    /// Parameter `BPFLogFilters`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub bpf_log_filters: BTreeMap<String, String>,
    /// Parameter `BPFLogLevel`, default `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_log_level: Option<String>,
    /// Parameter `BPFMaglevMaxEndpointsPerService`, default `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_maglev_max_endpoints_per_service: Option<i32>,
    /// Parameter `BPFMaglevMaxServices`, default `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_maglev_max_services: Option<i32>,
    /// Parameter `BPFMapSizeConntrack`, default `512000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack: Option<i32>,
    /// Parameter `BPFMapSizeConntrackCleanupQueue`, default `100000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack_cleanup_queue: Option<i32>,
    /// Parameter `BPFMapSizeConntrackScaling`, default `DoubleIfFull`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack_scaling: Option<String>,
    /// Parameter `BPFMapSizeIPSets`, default `1048576`.
    #[serde(rename = "bpfMapSizeIPSets", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_ipsets: Option<i32>,
    /// Parameter `BPFMapSizeIfState`, default `1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_if_state: Option<i32>,
    /// Parameter `BPFMapSizeNATAffinity`, default `65536`.
    #[serde(rename = "bpfMapSizeNATAffinity", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_affinity: Option<i32>,
    /// Parameter `BPFMapSizeNATBackend`, default `262144`.
    #[serde(rename = "bpfMapSizeNATBackend", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_backend: Option<i32>,
    /// Parameter `BPFMapSizeNATFrontend`, default `65536`.
    #[serde(rename = "bpfMapSizeNATFrontend", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_frontend: Option<i32>,
    /// Parameter `BPFMapSizePerCPUConntrack`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_per_cpu_conntrack: Option<i32>,
    /// Parameter `BPFMapSizeRoute`, default `262144`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_route: Option<i32>,
    /// Parameter `BPFOverlayHostSourceIP`, default `TunnelAddress`.
    #[serde(rename = "bpfOverlayHostSourceIP", skip_serializing_if = "Option::is_none")]
    pub bpf_overlay_host_source_ip: Option<BpfOverlayHostSourceIP>,
    /// Parameter `BPFPSNATPorts`, default `20000:29999`.
    #[serde(rename = "bpfPSNATPorts", skip_serializing_if = "Option::is_none")]
    pub bpf_psnat_ports: Option<Port>,
    /// Parameter `BPFPolicyDebugEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_policy_debug_enabled: Option<bool>,
    /// Parameter `BPFProfiling`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_profiling: Option<EnabledDisabled>,
    /// Parameter `BPFRedirectToPeer`, default `Enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_redirect_to_peer: Option<EnabledDisabled>,
    /// Parameter `CgroupV2Path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2_path: Option<String>,
    /// Parameter `ChainInsertMode`, default `insert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_insert_mode: Option<String>,
    /// Parameter `DataplaneDriver`, default `calico-iptables-plugin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_driver: Option<String>,
    /// Parameter `DataplaneWatchdogTimeout`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_watchdog_timeout: Option<String>,
    /// Parameter `DebugDisableLogDropping`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_disable_log_dropping: Option<bool>,
    /// Parameter `DebugHost`, default `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_host: Option<String>,
    /// Parameter `DebugMemoryProfilePath`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_memory_profile_path: Option<String>,
    /// Parameter `DebugPort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_port: Option<i32>,
    /// Parameter `DebugSimulateCalcGraphHangAfter`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_calc_graph_hang_after: Option<String>,
    /// Parameter `DebugSimulateDataplaneApplyDelay`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_dataplane_apply_delay: Option<String>,
    /// Parameter `DebugSimulateDataplaneHangAfter`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_dataplane_hang_after: Option<String>,
    /// Parameter `DefaultEndpointToHostAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_to_host_action: Option<String>,
    /// Parameter `DeviceRouteProtocol`, default `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_protocol: Option<i32>,
    /// Parameter `DeviceRouteSourceAddress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_source_address: Option<String>,
    /// Parameter `DeviceRouteSourceAddressIPv6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_source_address_i_pv6: Option<String>,
    /// Parameter `DisableConntrackInvalidCheck`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_conntrack_invalid_check: Option<bool>,
    /// Parameter `EndpointReportingDelaySecs`, default `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_reporting_delay: Option<String>,
    /// Parameter `EndpointReportingEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_reporting_enabled: Option<bool>,
    /// Parameter `EndpointStatusPathPrefix`, default `/var/run/calico`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_status_path_prefix: Option<String>,
    /// Parameter `ExternalNodesCIDRList`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub external_nodes_list: Vec<String>,
    /// Parameter `FailsafeInboundHostPorts`, default `tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_inbound_host_ports: Option<Vec<FailsafePort>>,
    /// Parameter `FailsafeOutboundHostPorts`, default `udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_outbound_host_ports: Option<Vec<FailsafePort>>,
    /// Parameter `FeatureDetectOverride`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_detect_override: Option<String>,
    /// Parameter `FeatureGates`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_gates: Option<String>,
    /// Parameter `FloatingIPs`, default `Disabled`.
    #[serde(rename = "floatingIPs", skip_serializing_if = "Option::is_none")]
    pub floating_ips: Option<EnabledDisabled>,
    /// Parameter `FlowLogsCollectorDebugTrace`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_collector_debug_trace: Option<bool>,
    /// Parameter `FlowLogsFlushInterval`, default `300`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_flush_interval: Option<String>,
    /// Parameter `FlowLogsGoldmaneServer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_goldmane_server: Option<String>,
    /// Parameter `FlowLogsLocalReporter`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_local_reporter: Option<EnabledDisabled>,
    /// Parameter `FlowLogsPolicyEvaluationMode`, default `Continuous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_policy_evaluation_mode: Option<FlowLogsPolicyEvaluationMode>,
    /// Parameter `GenericXDPEnabled`, default `false`.
    #[serde(rename = "genericXDPEnabled", skip_serializing_if = "Option::is_none")]
    pub generic_xdp_enabled: Option<bool>,
    /// Parameter `GoGCThreshold`, default `40`.
    #[serde(rename = "goGCThreshold", skip_serializing_if = "Option::is_none")]
    pub go_gc_threshold: Option<i32>,
    /// Parameter `GoMaxProcs`, default `-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_max_procs: Option<i32>,
    /// Parameter `GoMemoryLimitMB`, default `-1`.
    #[serde(rename = "goMemoryLimitMB", skip_serializing_if = "Option::is_none")]
    pub go_memory_limit_mb: Option<i32>,
    /// Parameter `HealthEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_enabled: Option<bool>,
    /// Parameter `HealthHost`, default `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_host: Option<String>,
    /// Parameter `HealthPort`, default `9099`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_port: Option<i32>,
    /// Parameter `HealthTimeoutOverrides`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub health_timeout_overrides: Vec<HealthTimeoutOverride>,
    /// Parameter `InterfaceExclude`, default `kube-ipvs0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_exclude: Option<String>,
    /// Parameter `InterfacePrefix`, default `cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// Parameter `InterfaceRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_refresh_interval: Option<String>,
    /// Parameter `IPForwarding`, default `Enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_forwarding: Option<EnabledDisabled>,
    /// Parameter `IpInIpEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_enabled: Option<bool>,
    /// Parameter `IpInIpMtu`, default `0`.
    #[serde(rename = "ipipMTU", skip_serializing_if = "Option::is_none")]
    pub ipip_mtu: Option<i32>,
    /// Parameter `IpsetsRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipsets_refresh_interval: Option<String>,
    /// Parameter `IptablesBackend`, default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_backend: Option<IptablesBackend>,
    /// Parameter `IptablesFilterAllowAction`, default `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_filter_allow_action: Option<String>,
    /// Parameter `IptablesFilterDenyAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_filter_deny_action: Option<String>,
    /// Parameter `IptablesLockProbeIntervalMillis`, default `50`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_lock_probe_interval: Option<String>,
    /// Parameter `IptablesMangleAllowAction`, default `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_mangle_allow_action: Option<String>,
    /// Parameter `IptablesMarkMask`, default `0xffff0000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_mark_mask: Option<i64>,
    /// Parameter `IptablesNATOutgoingInterfaceFilter`.
    #[serde(rename = "iptablesNATOutgoingInterfaceFilter", skip_serializing_if = "Option::is_none")]
    pub iptables_nat_outgoing_interface_filter: Option<String>,
    /// Parameter `IptablesPostWriteCheckIntervalSecs`, default `5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_post_write_check_interval: Option<String>,
    /// Parameter `IptablesRefreshInterval`, default `180`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_refresh_interval: Option<String>,
    /// Parameter `IPv4ElevatedRoutePriority`, default `512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_elevated_route_priority: Option<i32>,
    /// Parameter `IPv4NormalRoutePriority`, default `1024`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<i32>,
    /// Parameter `IPv6ElevatedRoutePriority`, default `512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_elevated_route_priority: Option<i32>,
    /// Parameter `IPv6NormalRoutePriority`, default `1024`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<i32>,
    /// Parameter `Ipv6Support`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_support: Option<bool>,
    /// Parameter `IstioAmbientMode`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio_ambient_mode: Option<EnabledDisabled>,
    /// Parameter `IstioDSCPMark`, default `23`.
    #[serde(rename = "istioDSCPMark", skip_serializing_if = "Option::is_none")]
    pub istio_dscp_mark: Option<Port>,
    /// Parameter `KubeNodePortRanges`, default `30000:32767`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub kube_node_port_ranges: Vec<Port>,
    /// Parameter `LiveMigrationRouteConvergenceTime`, default `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_migration_route_convergence_time: Option<String>,
    /// Parameter `LocalSubnetL2Reachability`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_subnet_l2_reachability: Option<LocalSubnetL2Reachability>,
    /// Parameter `LocalSubnetL2ReachabilityRefreshInterval`, default `120`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_subnet_l2_reachability_refresh_interval: Option<String>,
    /// Parameter `LogActionRateLimit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit: Option<String>,
    /// Parameter `LogActionRateLimitBurst`, default `5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit_burst: Option<i32>,
    /// Parameter `LogDebugFilenameRegex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_debug_filename_regex: Option<String>,
    /// Parameter `LogFilePath`, default `/var/log/calico/felix.log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file_path: Option<String>,
    /// Parameter `LogPrefix`, default `calico-packet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_prefix: Option<String>,
    /// Parameter `LogSeverityFile`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_file: Option<String>,
    /// Parameter `LogSeverityScreen`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Parameter `LogSeveritySys`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_sys: Option<String>,
    /// Parameter `MaxIpsetSize`, default `1048576`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ipset_size: Option<i32>,
    /// Parameter `MetadataAddr`, default `127.0.0.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_addr: Option<String>,
    /// Parameter `MetadataPort`, default `8775`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_port: Option<i32>,
    /// Parameter `MTUIfacePattern`, default `^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_iface_pattern: Option<String>,
    /// Parameter `NATOutgoingAddress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_address: Option<String>,
    /// Parameter `NATOutgoingExclusions`, default `IPPoolsOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_exclusions: Option<NatOutgoingExclusions>,
    /// Parameter `NATPortRange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_port_range: Option<Port>,
    /// Parameter `NetlinkTimeoutSecs`, default `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netlink_timeout: Option<String>,
    /// Parameter `NftablesFilterAllowAction`, default `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_allow_action: Option<String>,
    /// Parameter `NftablesFilterDenyAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_deny_action: Option<String>,
    /// Parameter `NFTablesFlowTableDataIfacePattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_flow_table_data_iface_pattern: Option<String>,
    /// Parameter `NFTablesFlowTableOffload`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_flow_table_offload: Option<NftablesFlowTableOffload>,
    /// Parameter `NftablesMangleAllowAction`, default `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mangle_allow_action: Option<String>,
    /// Parameter `NftablesMarkMask`, default `0xffff0000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mark_mask: Option<i64>,
    /// Parameter `NFTablesMode`, default `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mode: Option<NftablesMode>,
    /// Parameter `NftablesRefreshInterval`, default `180`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_refresh_interval: Option<String>,
    /// Not a parameter of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Parameter `OpenstackRegion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openstack_region: Option<String>,
    /// Parameter `PolicySyncPathPrefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_sync_path_prefix: Option<String>,
    /// Parameter `ProgramClusterRoutes`, default `EnabledIPIPOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Parameter `PrometheusGoMetricsEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_go_metrics_enabled: Option<bool>,
    /// Parameter `PrometheusMetricsCAFile`.
    #[serde(rename = "prometheusMetricsCAFile", skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_ca_file: Option<String>,
    /// Parameter `PrometheusMetricsCertFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_cert_file: Option<String>,
    /// Parameter `PrometheusMetricsClientAuth`, default `NoClientCert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_client_auth: Option<PrometheusMetricsClientAuth>,
    /// Parameter `PrometheusMetricsEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_enabled: Option<bool>,
    /// Parameter `PrometheusMetricsHost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_host: Option<String>,
    /// Parameter `PrometheusMetricsKeyFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_key_file: Option<String>,
    /// Parameter `PrometheusMetricsPort`, default `9091`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
    /// Parameter `PrometheusProcessMetricsEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_process_metrics_enabled: Option<bool>,
    /// Parameter `PrometheusWireGuardMetricsEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_wire_guard_metrics_enabled: Option<bool>,
    /// Parameter `RemoveExternalRoutes`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_external_routes: Option<bool>,
    /// Parameter `ReportingIntervalSecs`, default `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporting_interval: Option<String>,
    /// Parameter `ReportingTTLSecs`, default `90`.
    #[serde(rename = "reportingTTL", skip_serializing_if = "Option::is_none")]
    pub reporting_ttl: Option<String>,
    /// Parameter `RequireMTUFile`, default `false`.
    #[serde(rename = "requireMTUFile", skip_serializing_if = "Option::is_none")]
    pub require_mtu_file: Option<bool>,
    /// Parameter `RouteRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_refresh_interval: Option<String>,
    /// Parameter `RouteSource`, default `CalicoIPAM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_source: Option<String>,
    /// Parameter `RouteSyncDisabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_sync_disabled: Option<bool>,
    /// Parameter `RouteTableRange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_table_range: Option<RouteTableRange>,
    /// Parameter `RouteTableRanges`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub route_table_ranges: Vec<RouteTableRange>,
    /// Parameter `ServiceLoopPrevention`, default `Drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_loop_prevention: Option<String>,
    /// Parameter `SidecarAccelerationEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_acceleration_enabled: Option<bool>,
    /// Parameter `UsageReportingEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_enabled: Option<bool>,
    /// Parameter `UsageReportingInitialDelaySecs`, default `300`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_initial_delay: Option<String>,
    /// Parameter `UsageReportingIntervalSecs`, default `86400`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_interval: Option<String>,
    /// Parameter `UseInternalDataplaneDriver`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_internal_dataplane_driver: Option<bool>,
    /// Parameter `VXLANEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_enabled: Option<bool>,
    /// Parameter `VXLANMTU`, default `0`.
    #[serde(rename = "vxlanMTU", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu: Option<i32>,
    /// Parameter `VXLANMTUV6`, default `0`.
    #[serde(rename = "vxlanMTUV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtuv6: Option<i32>,
    /// Parameter `VXLANPort`, default `4789`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<i32>,
    /// Parameter `VXLANVNI`, default `4096`.
    #[serde(rename = "vxlanVNI", skip_serializing_if = "Option::is_none")]
    pub vxlan_vni: Option<i32>,
    /// Parameter `WindowsManageFirewallRules`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_manage_firewall_rules: Option<EnabledDisabled>,
    /// Parameter `WireguardEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_enabled: Option<bool>,
    /// Parameter `WireguardEnabledV6`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_enabled_v6: Option<bool>,
    /// Parameter `WireguardHostEncryptionEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_host_encryption_enabled: Option<bool>,
    /// Parameter `WireguardInterfaceName`, default `wireguard.cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_interface_name: Option<String>,
    /// Parameter `WireguardInterfaceNameV6`, default `wg-v6.cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_interface_name_v6: Option<String>,
    /// Parameter `WireguardPersistentKeepAlive`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_keep_alive: Option<String>,
    /// Parameter `WireguardListeningPort`, default `51820`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_listening_port: Option<i32>,
    /// Parameter `WireguardListeningPortV6`, default `51821`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_listening_port_v6: Option<i32>,
    /// Parameter `WireguardMTU`, default `0`.
    #[serde(rename = "wireguardMTU", skip_serializing_if = "Option::is_none")]
    pub wireguard_mtu: Option<i32>,
    /// Parameter `WireguardMTUV6`, default `0`.
    #[serde(rename = "wireguardMTUV6", skip_serializing_if = "Option::is_none")]
    pub wireguard_mtuv6: Option<i32>,
    /// Parameter `WireguardRoutingRulePriority`, default `99`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_routing_rule_priority: Option<i32>,
    /// Parameter `WireguardThreadingEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_threading_enabled: Option<bool>,
    /// Parameter `WorkloadSourceSpoofing`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_source_spoofing: Option<String>,
    /// Parameter `XDPEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_enabled: Option<bool>,
    /// Parameter `XDPRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_refresh_interval: Option<String>,
}
