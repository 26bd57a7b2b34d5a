//! Words and small structures that FelixConfiguration's fields take.

use serde::{Deserialize, Serialize};

/// Numbers of kernel routing tables that Felix may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteTableRange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
}

/// What is asked of a client of the metrics port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrometheusMetricsClientAuth {
    RequireAndVerifyClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    NoClientCert,
}

/// Whether the nftables dataplane is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftablesMode {
    Disabled,
    Enabled,
    Auto,
}

/// Which flows take the kernel's short cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftablesFlowTableOffload {
    All,
    Disabled,
}

/// Destinations that masquerading leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NatOutgoingExclusions {
    IPPoolsOnly,
    IPPoolsAndHostIPs,
}

/// Addresses of the local subnet that are answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LocalSubnetL2Reachability {
    Disabled,
    PodsAndLoadBalancers,
}

/// Variant of the iptables tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IptablesBackend {
    Legacy,
    NFT,
    Auto,
}

/// A component's own timeout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthTimeoutOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// When flows are judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FlowLogsPolicyEvaluationMode {
    None,
    Continuous,
}

/// A port that policy never closes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailsafePort {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// Source of host traffic into the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfOverlayHostSourceIP {
    TunnelAddress,
    HostAddress,
}

/// Kernel setting for compiled programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfJitHardening {
    Auto,
    Strict,
}

/// How long idle connections are remembered; `Auto` takes the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BpfConntrackTimeouts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_grace_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_established: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_fins_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_reset_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_syn_sent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<String>,
}

/// Who clears the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfConntrackMode {
    Auto,
    Userspace,
    BPFProgram,
}

/// What the clearing program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfConntrackLogLevel {
    Off,
    Debug,
}

/// Which connections are balanced when they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfConnectTimeLoadBalancing {
    TCP,
    Enabled,
    Disabled,
}

/// Kernel hook of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BpfAttachType {
    TC,
    TCX,
    Netkit,
}

/// Source and destination check of a cloud interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AwsSrcDstCheck {
    DoNothing,
    Enable,
    Disable,
}
