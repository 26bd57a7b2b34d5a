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

#[cfg(feature = "schema")]
pub(crate) use checks::{CRD, limit};
pub use values::*;

/// The whole object.
pub type FelixConfiguration = Object<FelixConfigurationSpec, NoStatus>;

/// Parameters by name; absent ones have Felix' defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfigurationSpec {
    /// Workloads may send IPIP packets. Parameter `AllowIPIPPacketsFromWorkloads`, default `false`.
    #[serde(rename = "allowIPIPPacketsFromWorkloads", skip_serializing_if = "Option::is_none")]
    pub allow_ipip_packets_from_workloads: Option<bool>,
    /// Workloads may send VXLAN packets. Parameter `AllowVXLANPacketsFromWorkloads`, default `false`.
    #[serde(rename = "allowVXLANPacketsFromWorkloads", skip_serializing_if = "Option::is_none")]
    pub allow_vxlan_packets_from_workloads: Option<bool>,
    /// What to do with the cloud's source and destination check of the node's interfaces. Parameter `AWSSrcDstCheck`,
    /// default `DoNothing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_src_dst_check: Option<AwsSrcDstCheck>,
    /// Kernel hook for programs on interfaces. Parameter `BPFAttachType`, default `Netkit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_attach_type: Option<BpfAttachType>,
    /// Which connect-time programs log: `all` or none. Parameter `BPFCTLBLogFilter`.
    #[serde(rename = "bpfCTLBLogFilter", skip_serializing_if = "Option::is_none")]
    pub bpf_ctlb_log_filter: Option<String>,
    /// Connections of hosts that are balanced when they are made. Parameter `BPFConnectTimeLoadBalancing`, default
    /// `TCP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_connect_time_load_balancing: Option<BpfConnectTimeLoadBalancing>,
    /// The same as a switch; older. Parameter `BPFConnectTimeLoadBalancingEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_connect_time_load_balancing_enabled: Option<bool>,
    /// What the program that clears connections logs. Parameter `BPFConntrackLogLevel`, default `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_log_level: Option<BpfConntrackLogLevel>,
    /// Whether a program or Felix clears idle connections. Parameter `BPFConntrackCleanupMode`, default `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_mode: Option<BpfConntrackMode>,
    /// How long idle connections are remembered. Parameter `BPFConntrackTimeouts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_conntrack_timeouts: Option<BpfConntrackTimeouts>,
    /// Clients whose replies take the way back instead of the direct one. Parameter `BPFDSROptoutCIDRs`.
    #[serde(
        rename = "bpfDSROptoutCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bpf_dsr_optout_cidrs: Vec<String>,
    /// Interfaces towards other machines, a regular expression. Parameter `BPFDataIfacePattern`, default
    /// `^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_data_iface_pattern: Option<String>,
    /// Interfaces whose receive offload is turned off, a regular expression. Parameter `BPFDisableGROForIfaces`.
    #[serde(rename = "bpfDisableGROForIfaces", skip_serializing_if = "Option::is_none")]
    pub bpf_disable_gro_for_ifaces: Option<String>,
    /// Users without privileges may load no programs. Parameter `BPFDisableUnprivileged`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_disable_unprivileged: Option<bool>,
    /// The eBPF dataplane replaces the others. Parameter `BPFEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_enabled: Option<bool>,
    /// Reverse path check of packets. Parameter `BPFEnforceRPF`, default `Loose`.
    #[serde(rename = "bpfEnforceRPF", skip_serializing_if = "Option::is_none")]
    pub bpf_enforce_rpf: Option<String>,
    /// Service addresses that are left alone. Parameter `BPFExcludeCIDRsFromNAT`.
    #[serde(
        rename = "bpfExcludeCIDRsFromNAT",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bpf_exclude_cidrs_from_nat: Vec<String>,
    /// Size of the ring buffer for events. Parameter `BPFExportBufferSizeMB`, default `1`.
    #[serde(rename = "bpfExportBufferSizeMB", skip_serializing_if = "Option::is_none")]
    pub bpf_export_buffer_size_mb: Option<i32>,
    /// Connection mark of traffic from outside to services. Parameter `BPFExtToServiceConnmark`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_ext_to_service_connmark: Option<i32>,
    /// Way of external service traffic to another node's pod, and back. Parameter `BPFExternalServiceMode`, default
    /// `tunnel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_external_service_mode: Option<String>,
    /// Interfaces whose packets the kernel tracks though the program could do without. Parameter
    /// `BPFForceTrackPacketsFromIfaces`, default `docker+`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub bpf_force_track_packets_from_ifaces: Vec<String>,
    /// Flows that the program tracks skip the kernel's tracking. Parameter `BPFHostConntrackBypass`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_host_conntrack_bypass: Option<bool>,
    /// Services work for processes on the host without connect-time balancing. Parameter
    /// `BPFHostNetworkedNATWithoutCTLB`, default `Enabled`.
    #[serde(rename = "bpfHostNetworkedNATWithoutCTLB", skip_serializing_if = "Option::is_none")]
    pub bpf_host_networked_nat_without_ctlb: Option<EnabledDisabled>,
    /// How long fragments of a packet are waited for. Parameter `BPFIPFragTimeout`, default `0`.
    #[serde(rename = "bpfIPFragTimeout", skip_serializing_if = "Option::is_none")]
    pub bpf_ip_frag_timeout: Option<String>,
    /// Fragments are judged by their whole packet. Parameter `BPFIPFragmentReassemblyEnabled`, default `true`.
    #[serde(rename = "bpfIPFragmentReassemblyEnabled", skip_serializing_if = "Option::is_none")]
    pub bpf_ip_fragment_reassembly_enabled: Option<bool>,
    /// Kernel setting for compiled programs. Parameter `BPFJITHardening`, default `Auto`.
    #[serde(rename = "bpfJITHardening", skip_serializing_if = "Option::is_none")]
    pub bpf_jit_hardening: Option<BpfJitHardening>,
    /// Port of the health answer that kube-proxy gives; 0 is off. Parameter `BPFKubeProxyHealthzPort`, default
    /// `10256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_healthz_port: Option<i32>,
    /// Rules of a former kube-proxy are removed. Parameter `BPFKubeProxyIptablesCleanupEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_iptables_cleanup_enabled: Option<bool>,
    /// Least time between two writes of services. Parameter `BPFKubeProxyMinSyncPeriod`, default `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_kube_proxy_min_sync_period: Option<String>,
    /// Tunnels and other interfaces without Ethernet headers, a regular expression. Parameter `BPFL3IfacePattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_l3_iface_pattern: Option<String>,
    /// Log filter of programs by interface. Parameter `BPFLogFilters`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub bpf_log_filters: BTreeMap<String, String>,
    /// What programs log. Parameter `BPFLogLevel`, default `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_log_level: Option<String>,
    /// Most endpoints of a service with consistent hashing. Parameter `BPFMaglevMaxEndpointsPerService`, default
    /// `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_maglev_max_endpoints_per_service: Option<i32>,
    /// Most services with consistent hashing. Parameter `BPFMaglevMaxServices`, default `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_maglev_max_services: Option<i32>,
    /// Entries of the connection table. Parameter `BPFMapSizeConntrack`, default `512000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack: Option<i32>,
    /// Entries of the queue of connections to clear. Parameter `BPFMapSizeConntrackCleanupQueue`, default `100000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack_cleanup_queue: Option<i32>,
    /// Whether a full connection table grows. Parameter `BPFMapSizeConntrackScaling`, default `DoubleIfFull`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_conntrack_scaling: Option<String>,
    /// Entries of the table of address sets. Parameter `BPFMapSizeIPSets`, default `1048576`.
    #[serde(rename = "bpfMapSizeIPSets", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_ipsets: Option<i32>,
    /// Entries of the table of interfaces. Parameter `BPFMapSizeIfState`, default `1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_if_state: Option<i32>,
    /// Entries of the table of session affinities. Parameter `BPFMapSizeNATAffinity`, default `65536`.
    #[serde(rename = "bpfMapSizeNATAffinity", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_affinity: Option<i32>,
    /// Entries of the table of service endpoints. Parameter `BPFMapSizeNATBackend`, default `262144`.
    #[serde(rename = "bpfMapSizeNATBackend", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_backend: Option<i32>,
    /// Entries of the table of services. Parameter `BPFMapSizeNATFrontend`, default `65536`.
    #[serde(rename = "bpfMapSizeNATFrontend", skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_nat_frontend: Option<i32>,
    /// Entries of the connection table for each processor; 0 takes the whole size. Parameter
    /// `BPFMapSizePerCPUConntrack`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_per_cpu_conntrack: Option<i32>,
    /// Entries of the table of routes. Parameter `BPFMapSizeRoute`, default `262144`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_map_size_route: Option<i32>,
    /// Source address of the host's packets into a tunnel. Parameter `BPFOverlayHostSourceIP`, default
    /// `TunnelAddress`.
    #[serde(rename = "bpfOverlayHostSourceIP", skip_serializing_if = "Option::is_none")]
    pub bpf_overlay_host_source_ip: Option<BpfOverlayHostSourceIP>,
    /// Ports for connections whose source port is taken. Parameter `BPFPSNATPorts`, default `20000:29999`.
    #[serde(rename = "bpfPSNATPorts", skip_serializing_if = "Option::is_none")]
    pub bpf_psnat_ports: Option<Port>,
    /// Policy programs can be read back for people. Parameter `BPFPolicyDebugEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_policy_debug_enabled: Option<bool>,
    /// Run times of programs are measured. Parameter `BPFProfiling`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_profiling: Option<EnabledDisabled>,
    /// Packets go straight into the pod's end of its pair. Parameter `BPFRedirectToPeer`, default `Enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_redirect_to_peer: Option<EnabledDisabled>,
    /// Where the second control group hierarchy is mounted. Parameter `CgroupV2Path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2_path: Option<String>,
    /// Whether rules are put before or after those of others. Parameter `ChainInsertMode`, default `insert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_insert_mode: Option<String>,
    /// Path of an external dataplane. Parameter `DataplaneDriver`, default `calico-iptables-plugin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_driver: Option<String>,
    /// Time without a sign from the dataplane after which Felix is not live. Parameter `DataplaneWatchdogTimeout`,
    /// default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_watchdog_timeout: Option<String>,
    /// Log lines are never dropped, however slow the output. Parameter `DebugDisableLogDropping`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_disable_log_dropping: Option<bool>,
    /// Address of the debug port. Parameter `DebugHost`, default `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_host: Option<String>,
    /// Where memory profiles go. Parameter `DebugMemoryProfilePath`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_memory_profile_path: Option<String>,
    /// Debug port; absent is off. Parameter `DebugPort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_port: Option<i32>,
    /// For tests: the calculation stops after this time. Parameter `DebugSimulateCalcGraphHangAfter`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_calc_graph_hang_after: Option<String>,
    /// For tests: each write waits so long. Parameter `DebugSimulateDataplaneApplyDelay`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_dataplane_apply_delay: Option<String>,
    /// For tests: the dataplane stops after this time. Parameter `DebugSimulateDataplaneHangAfter`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_simulate_dataplane_hang_after: Option<String>,
    /// What happens to packets from a workload to its host once policy let them. Parameter
    /// `DefaultEndpointToHostAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_to_host_action: Option<String>,
    /// Protocol number of Felix' routes in the kernel. Parameter `DeviceRouteProtocol`, default `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_protocol: Option<i32>,
    /// Source address of routes to workloads, IPv4. Parameter `DeviceRouteSourceAddress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_source_address: Option<String>,
    /// Source address of routes to workloads, IPv6. Parameter `DeviceRouteSourceAddressIPv6`.
    #[serde(rename = "deviceRouteSourceAddressIPv6", skip_serializing_if = "Option::is_none")]
    pub device_route_source_address_ipv6: Option<String>,
    /// Packets of unknown connections are not dropped for that. Parameter `DisableConntrackInvalidCheck`, default
    /// `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_conntrack_invalid_check: Option<bool>,
    /// How long endpoint status is collected before it is written. Parameter `EndpointReportingDelaySecs`, default
    /// `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_reporting_delay: Option<String>,
    /// Status of endpoints is written to the datastore. Parameter `EndpointReportingEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_reporting_enabled: Option<bool>,
    /// Directory for files of endpoint status; empty is off. Parameter `EndpointStatusPathPrefix`, default
    /// `/var/run/calico`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_status_path_prefix: Option<String>,
    /// Established flows that policy denies by now are cut; upstream lets them go on. Parameter
    /// `EstablishedFlowEnforcement`, default `Disabled`. Not a field of upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established_flow_enforcement: Option<EnabledDisabled>,
    /// Machines outside the cluster that may send into its tunnels. Parameter `ExternalNodesCIDRList`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub external_nodes_list: Vec<String>,
    /// Ports of the host that policy never closes for others; an empty list has none. Parameter
    /// `FailsafeInboundHostPorts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_inbound_host_ports: Option<Vec<FailsafePort>>,
    /// Ports of others that policy never closes for the host; an empty list has none. Parameter
    /// `FailsafeOutboundHostPorts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_outbound_host_ports: Option<Vec<FailsafePort>>,
    /// Results of feature detection to assume: `NAME=true,…`. Parameter `FeatureDetectOverride`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_detect_override: Option<String>,
    /// Features by name: `NAME=VALUE,…`. Parameter `FeatureGates`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_gates: Option<String>,
    /// Floating addresses of workload endpoints are translated. Parameter `FloatingIPs`, default `Disabled`.
    #[serde(rename = "floatingIPs", skip_serializing_if = "Option::is_none")]
    pub floating_ips: Option<EnabledDisabled>,
    /// The flow collector logs each flow. Parameter `FlowLogsCollectorDebugTrace`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_collector_debug_trace: Option<bool>,
    /// How often flows are sent. Parameter `FlowLogsFlushInterval`, default `300`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_flush_interval: Option<String>,
    /// Address of Goldmane; empty is off. Parameter `FlowLogsGoldmaneServer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_goldmane_server: Option<String>,
    /// Flows are offered on a socket of the node. Parameter `FlowLogsLocalReporter`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_local_reporter: Option<EnabledDisabled>,
    /// Whether running flows are judged again when policy changes. Parameter `FlowLogsPolicyEvaluationMode`, default
    /// `Continuous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_logs_policy_evaluation_mode: Option<FlowLogsPolicyEvaluationMode>,
    /// Early drops on interfaces without driver support. Parameter `GenericXDPEnabled`, default `false`.
    #[serde(rename = "genericXDPEnabled", skip_serializing_if = "Option::is_none")]
    pub generic_xdp_enabled: Option<bool>,
    /// Not used by this implementation, kept for upstream's. Parameter `GoGCThreshold`, default `40`.
    #[serde(rename = "goGCThreshold", skip_serializing_if = "Option::is_none")]
    pub go_gc_threshold: Option<i32>,
    /// Not used by this implementation, kept for upstream's. Parameter `GoMaxProcs`, default `-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_max_procs: Option<i32>,
    /// Not used by this implementation, kept for upstream's. Parameter `GoMemoryLimitMB`, default `-1`.
    #[serde(rename = "goMemoryLimitMB", skip_serializing_if = "Option::is_none")]
    pub go_memory_limit_mb: Option<i32>,
    /// Liveness and readiness are served. Parameter `HealthEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_enabled: Option<bool>,
    /// Address of the health port. Parameter `HealthHost`, default `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_host: Option<String>,
    /// Health port. Parameter `HealthPort`, default `9099`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_port: Option<i32>,
    /// Timeouts of single components. Parameter `HealthTimeoutOverrides`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub health_timeout_overrides: Vec<HealthTimeoutOverride>,
    /// Interfaces that are not the host's own, by name or regular expression. Parameter `InterfaceExclude`, default
    /// `kube-ipvs0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_exclude: Option<String>,
    /// How the interfaces of workloads begin. Parameter `InterfacePrefix`, default `cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// How often interfaces are read again; 0 is never. Parameter `InterfaceRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_refresh_interval: Option<String>,
    /// The kernel is told to forward. Parameter `IPForwarding`, default `Enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_forwarding: Option<EnabledDisabled>,
    /// IPIP is set up; absent: where a pool asks for it. Parameter `IpInIpEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_enabled: Option<bool>,
    /// MTU of the IPIP interface; 0 finds it out. Parameter `IpInIpMtu`, default `0`.
    #[serde(rename = "ipipMTU", skip_serializing_if = "Option::is_none")]
    pub ipip_mtu: Option<i32>,
    /// How often address sets are read again; 0 is never. Parameter `IpsetsRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipsets_refresh_interval: Option<String>,
    /// Variant of the iptables tools. Parameter `IptablesBackend`, default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_backend: Option<IptablesBackend>,
    /// What ends an accepted packet's way through the filter table. Parameter `IptablesFilterAllowAction`, default
    /// `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_filter_allow_action: Option<String>,
    /// What happens to a denied packet. Parameter `IptablesFilterDenyAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_filter_deny_action: Option<String>,
    /// How often the lock of the tools is tried. Parameter `IptablesLockProbeIntervalMillis`, default `50`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_lock_probe_interval: Option<String>,
    /// What ends an accepted packet's way through the mangle table. Parameter `IptablesMangleAllowAction`, default
    /// `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_mangle_allow_action: Option<String>,
    /// Bits of the packet mark that Felix may use. Parameter `IptablesMarkMask`, default `0xffff0000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_mark_mask: Option<i64>,
    /// Masquerading on this interface only. Parameter `IptablesNATOutgoingInterfaceFilter`.
    #[serde(rename = "iptablesNATOutgoingInterfaceFilter", skip_serializing_if = "Option::is_none")]
    pub iptables_nat_outgoing_interface_filter: Option<String>,
    /// When a written table is read back. Parameter `IptablesPostWriteCheckIntervalSecs`, default `5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_post_write_check_interval: Option<String>,
    /// How often tables are read again; 0 is never. Parameter `IptablesRefreshInterval`, default `180`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_refresh_interval: Option<String>,
    /// Metric of routes that take precedence, IPv4. Parameter `IPv4ElevatedRoutePriority`, default `512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_elevated_route_priority: Option<i32>,
    /// Metric of routes, IPv4. Parameter `IPv4NormalRoutePriority`, default `1024`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<i32>,
    /// Metric of routes that take precedence, IPv6. Parameter `IPv6ElevatedRoutePriority`, default `512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_elevated_route_priority: Option<i32>,
    /// Metric of routes, IPv6. Parameter `IPv6NormalRoutePriority`, default `1024`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<i32>,
    /// IPv6 is programmed. Parameter `Ipv6Support`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_support: Option<bool>,
    /// Traffic of Istio's ambient mesh is recognised. Parameter `IstioAmbientMode`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio_ambient_mode: Option<EnabledDisabled>,
    /// Mark of the mesh's packets. Parameter `IstioDSCPMark`, default `23`.
    #[serde(rename = "istioDSCPMark", skip_serializing_if = "Option::is_none")]
    pub istio_dscp_mark: Option<Port>,
    /// Ports of node port services. Parameter `KubeNodePortRanges`, default `30000:32767`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub kube_node_port_ranges: Vec<Port>,
    /// How long a moved machine's old route stays. Parameter `LiveMigrationRouteConvergenceTime`, default `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_migration_route_convergence_time: Option<String>,
    /// Addresses of the node's own subnet that it answers for. Parameter `LocalSubnetL2Reachability`, default
    /// `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_subnet_l2_reachability: Option<LocalSubnetL2Reachability>,
    /// How often these are checked. Parameter `LocalSubnetL2ReachabilityRefreshInterval`, default `120`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_subnet_l2_reachability_refresh_interval: Option<String>,
    /// Most lines of Log rules: `10/second`. Parameter `LogActionRateLimit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit: Option<String>,
    /// Lines beyond the limit at once. Parameter `LogActionRateLimitBurst`, default `5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit_burst: Option<i32>,
    /// Source files that log at debug level, a regular expression. Parameter `LogDebugFilenameRegex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_debug_filename_regex: Option<String>,
    /// Log file; `none` is off. Parameter `LogFilePath`, default `/var/log/calico/felix.log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file_path: Option<String>,
    /// Beginning of each line of a Log rule. Parameter `LogPrefix`, default `calico-packet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_prefix: Option<String>,
    /// Lowest severity in the file. Parameter `LogSeverityFile`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_file: Option<String>,
    /// Lowest severity on standard output. Parameter `LogSeverityScreen`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Lowest severity in the system log. Parameter `LogSeveritySys`, default `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_sys: Option<String>,
    /// Most addresses of a set. Parameter `MaxIpsetSize`, default `1048576`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ipset_size: Option<i32>,
    /// Address of a cloud's metadata server; `none` is off. Parameter `MetadataAddr`, default `127.0.0.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_addr: Option<String>,
    /// Port of a cloud's metadata server. Parameter `MetadataPort`, default `8775`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_port: Option<i32>,
    /// Interfaces whose MTU counts, a regular expression. Parameter `MTUIfacePattern`, default
    /// `^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_iface_pattern: Option<String>,
    /// Source address instead of the interface's own when masquerading. Parameter `NATOutgoingAddress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_address: Option<String>,
    /// Destinations that are not masqueraded. Parameter `NATOutgoingExclusions`, default `IPPoolsOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_exclusions: Option<NatOutgoingExclusions>,
    /// Source ports when masquerading. Parameter `NATPortRange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_port_range: Option<Port>,
    /// Longest wait for the kernel's answer. Parameter `NetlinkTimeoutSecs`, default `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netlink_timeout: Option<String>,
    /// What ends an accepted packet's way through the filter chains. Parameter `NftablesFilterAllowAction`, default
    /// `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_allow_action: Option<String>,
    /// What happens to a denied packet. Parameter `NftablesFilterDenyAction`, default `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_deny_action: Option<String>,
    /// Interfaces of the kernel's short cut, a regular expression. Parameter `NFTablesFlowTableDataIfacePattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_flow_table_data_iface_pattern: Option<String>,
    /// Flows that take the kernel's short cut. Parameter `NFTablesFlowTableOffload`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_flow_table_offload: Option<NftablesFlowTableOffload>,
    /// What ends an accepted packet's way through the mangle chains. Parameter `NftablesMangleAllowAction`, default
    /// `ACCEPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mangle_allow_action: Option<String>,
    /// Bits of the packet mark that Felix may use with nftables. Parameter `NftablesMarkMask`, default `0xffff0000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mark_mask: Option<i64>,
    /// Whether the nftables dataplane is used. Parameter `NFTablesMode`, default `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mode: Option<NftablesMode>,
    /// How often the rule set is read again; 0 is never. Parameter `NftablesRefreshInterval`, default `180`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_refresh_interval: Option<String>,
    /// Nodes that the object is for, instead of by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Region of an OpenStack cluster of several. Parameter `OpenstackRegion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openstack_region: Option<String>,
    /// Directory of the sockets for application layer policy; empty is off. Parameter `PolicySyncPathPrefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_sync_path_prefix: Option<String>,
    /// Whether Felix or the BGP daemon programs routes to other nodes. Parameter `ProgramClusterRoutes`, default
    /// `EnabledIPIPOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Metrics of the language runtime. Parameter `PrometheusGoMetricsEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_go_metrics_enabled: Option<bool>,
    /// What signed the clients of the metrics port. Parameter `PrometheusMetricsCAFile`.
    #[serde(rename = "prometheusMetricsCAFile", skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_ca_file: Option<String>,
    /// Certificate of the metrics port. Parameter `PrometheusMetricsCertFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_cert_file: Option<String>,
    /// What is asked of the clients of the metrics port. Parameter `PrometheusMetricsClientAuth`, default
    /// `NoClientCert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_client_auth: Option<PrometheusMetricsClientAuth>,
    /// Metrics are served. Parameter `PrometheusMetricsEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_enabled: Option<bool>,
    /// Address of the metrics port. Parameter `PrometheusMetricsHost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_host: Option<String>,
    /// Key of the metrics port. Parameter `PrometheusMetricsKeyFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_key_file: Option<String>,
    /// Metrics port. Parameter `PrometheusMetricsPort`, default `9091`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
    /// Metrics of the process. Parameter `PrometheusProcessMetricsEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_process_metrics_enabled: Option<bool>,
    /// Metrics of WireGuard. Parameter `PrometheusWireGuardMetricsEnabled`, default `true`.
    #[serde(rename = "prometheusWireGuardMetricsEnabled", skip_serializing_if = "Option::is_none")]
    pub prometheus_wireguard_metrics_enabled: Option<bool>,
    /// Routes of others to workloads are removed. Parameter `RemoveExternalRoutes`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_external_routes: Option<bool>,
    /// How often Felix writes its status; 0 is never. Parameter `ReportingIntervalSecs`, default `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporting_interval: Option<String>,
    /// How long that status lasts. Parameter `ReportingTTLSecs`, default `90`.
    #[serde(rename = "reportingTTL", skip_serializing_if = "Option::is_none")]
    pub reporting_ttl: Option<String>,
    /// Felix waits for the file with the MTU before it is ready. Parameter `RequireMTUFile`, default `false`.
    #[serde(rename = "requireMTUFile", skip_serializing_if = "Option::is_none")]
    pub require_mtu_file: Option<bool>,
    /// How often routes are read again; 0 is never. Parameter `RouteRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_refresh_interval: Option<String>,
    /// What routes to other nodes are made from. Parameter `RouteSource`, default `CalicoIPAM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_source: Option<String>,
    /// Felix leaves routes alone. Parameter `RouteSyncDisabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_sync_disabled: Option<bool>,
    /// Routing tables that Felix may use; older. Parameter `RouteTableRange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_table_range: Option<RouteTableRange>,
    /// Routing tables that Felix may use. Parameter `RouteTableRanges`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub route_table_ranges: Vec<RouteTableRange>,
    /// What happens to packets for service addresses that nobody has. Parameter `ServiceLoopPrevention`, default
    /// `Drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_loop_prevention: Option<String>,
    /// Proxies in pods are joined by sockets. Parameter `SidecarAccelerationEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_acceleration_enabled: Option<bool>,
    /// Version and size of the cluster are reported to upstream's server; not done by this implementation. Parameter
    /// `UsageReportingEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_enabled: Option<bool>,
    /// Time before the first such report. Parameter `UsageReportingInitialDelaySecs`, default `300`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_initial_delay: Option<String>,
    /// Time between such reports. Parameter `UsageReportingIntervalSecs`, default `86400`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reporting_interval: Option<String>,
    /// The built-in dataplane is used. Parameter `UseInternalDataplaneDriver`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_internal_dataplane_driver: Option<bool>,
    /// VXLAN is set up; absent: where a pool asks for it. Parameter `VXLANEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_enabled: Option<bool>,
    /// MTU of the VXLAN interface, IPv4; 0 finds it out. Parameter `VXLANMTU`, default `0`.
    #[serde(rename = "vxlanMTU", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu: Option<i32>,
    /// MTU of the VXLAN interface, IPv6; 0 finds it out. Parameter `VXLANMTUV6`, default `0`.
    #[serde(rename = "vxlanMTUV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtuv6: Option<i32>,
    /// UDP port of VXLAN. Parameter `VXLANPort`, default `4789`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<i32>,
    /// Network identifier of VXLAN. Parameter `VXLANVNI`, default `4096`.
    #[serde(rename = "vxlanVNI", skip_serializing_if = "Option::is_none")]
    pub vxlan_vni: Option<i32>,
    /// Felix manages the Windows firewall. Parameter `WindowsManageFirewallRules`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_manage_firewall_rules: Option<EnabledDisabled>,
    /// IPv4 between nodes is encrypted. Parameter `WireguardEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_enabled: Option<bool>,
    /// IPv6 between nodes is encrypted. Parameter `WireguardEnabledV6`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_enabled_v6: Option<bool>,
    /// Traffic of the hosts themselves is encrypted too. Parameter `WireguardHostEncryptionEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_host_encryption_enabled: Option<bool>,
    /// Name of the interface, IPv4. Parameter `WireguardInterfaceName`, default `wireguard.cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_interface_name: Option<String>,
    /// Name of the interface, IPv6. Parameter `WireguardInterfaceNameV6`, default `wg-v6.cali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_interface_name_v6: Option<String>,
    /// How often an idle tunnel is kept open; 0 is never. Parameter `WireguardPersistentKeepAlive`, default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_keep_alive: Option<String>,
    /// UDP port, IPv4. Parameter `WireguardListeningPort`, default `51820`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_listening_port: Option<i32>,
    /// UDP port, IPv6. Parameter `WireguardListeningPortV6`, default `51821`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_listening_port_v6: Option<i32>,
    /// MTU of the interface, IPv4; 0 finds it out. Parameter `WireguardMTU`, default `0`.
    #[serde(rename = "wireguardMTU", skip_serializing_if = "Option::is_none")]
    pub wireguard_mtu: Option<i32>,
    /// MTU of the interface, IPv6; 0 finds it out. Parameter `WireguardMTUV6`, default `0`.
    #[serde(rename = "wireguardMTUV6", skip_serializing_if = "Option::is_none")]
    pub wireguard_mtuv6: Option<i32>,
    /// Priority of the routing rule towards the tunnel. Parameter `WireguardRoutingRulePriority`, default `99`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_routing_rule_priority: Option<i32>,
    /// The kernel decrypts in threads of their own. Parameter `WireguardThreadingEnabled`, default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_threading_enabled: Option<bool>,
    /// Whether workloads may ask for other source addresses. Parameter `WorkloadSourceSpoofing`, default `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_source_spoofing: Option<String>,
    /// Untracked drops happen in the driver where it can. Parameter `XDPEnabled`, default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_enabled: Option<bool>,
    /// How often these programs are checked; 0 is never. Parameter `XDPRefreshInterval`, default `90`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_refresh_interval: Option<String>,
}
