//! Words and small structures that FelixConfiguration's fields take.

use serde::{Deserialize, Serialize};

/// Numbers of kernel routing tables that Felix may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RouteTableRange {
    /// Highest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
    /// Lowest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
}

/// What is asked of a client of the metrics port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PrometheusMetricsClientAuth {
    RequireAndVerifyClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    NoClientCert,
}

/// Whether the nftables dataplane is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NftablesMode {
    Disabled,
    Enabled,
    Auto,
}

/// Which flows take the kernel's short cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NftablesFlowTableOffload {
    All,
    Disabled,
}

/// Destinations that masquerading leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NatOutgoingExclusions {
    IPPoolsOnly,
    IPPoolsAndHostIPs,
}

/// Addresses of the local subnet that are answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LocalSubnetL2Reachability {
    Disabled,
    PodsAndLoadBalancers,
}

/// Variant of the iptables tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum IptablesBackend {
    Legacy,
    NFT,
    Auto,
}

/// A component's own timeout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HealthTimeoutOverride {
    /// The component's name in Felix' health report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time without a report after which it counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// When flows are judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FlowLogsPolicyEvaluationMode {
    None,
    Continuous,
}

/// A port that policy never closes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FailsafePort {
    /// The far side's network; absent is anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// TCP, UDP or SCTP; TCP unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// Source of host traffic into the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfOverlayHostSourceIP {
    TunnelAddress,
    HostAddress,
}

/// Kernel setting for compiled programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfJitHardening {
    Auto,
    Strict,
}

/// How long idle connections are remembered; `Auto` takes the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BpfConntrackTimeouts {
    /// Age below which a connection is never removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_grace_period: Option<String>,
    /// For protocols that have no field of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic_timeout: Option<String>,
    /// For ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_timeout: Option<String>,
    /// For TCP connections that are open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_established: Option<String>,
    /// For TCP connections that both sides have closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_fins_seen: Option<String>,
    /// For TCP connections that were reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_reset_seen: Option<String>,
    /// For TCP connections that nobody has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_syn_sent: Option<String>,
    /// For UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<String>,
}

/// Who clears the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfConntrackMode {
    Auto,
    Userspace,
    BPFProgram,
}

/// What the clearing program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfConntrackLogLevel {
    Off,
    Debug,
}

/// Which connections are balanced when they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfConnectTimeLoadBalancing {
    TCP,
    Enabled,
    Disabled,
}

/// Kernel hook of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BpfAttachType {
    TC,
    TCX,
    Netkit,
}

/// Source and destination check of a cloud interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AwsSrcDstCheck {
    DoNothing,
    Enable,
    Disable,
}
