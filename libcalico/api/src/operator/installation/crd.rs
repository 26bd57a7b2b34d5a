//! How the Kubernetes API shows and checks an Installation. What is left out: the fields' types, which come from the
//! structs themselves.

use super::MAX_POOLS;
use super::words::{
    DATAPLANES, ENCAPSULATIONS, INSTALL_MODES, INTERFACE_TYPES, IPAM_PLUGINS, MULTI_INTERFACE,
    NODE_ADDRESSES, PLUGINS, POLICY_MODES, PROVIDERS, PULL_POLICIES, ROUTING_MODES, SPEC_VERSIONS, SWITCH,
    SYSCTLS, VARIANTS, WINDOWS_DATAPLANES,
};
use crate::crd::{CONDITIONS, NET, SELECTOR, Set, Table};

/// How the Kubernetes API shows and checks the kind.
pub(crate) const CRD: Table = {
    use Set::{Max, MaxItems, Min, Open, Required, Rule, Words};
    const ONE_METHOD: Set = Rule(
        "[has(self.firstFound) && self.firstFound, has(self.kubernetes), has(self.interface) && self.interface != '', has(self.skipInterface) && self.skipInterface != '', has(self.canReach) && self.canReach != '', has(self.cidrs) && size(self.cidrs) > 0].filter(set, set).size() <= 1",
        "give one method, not several",
    );
    Table {
        columns: &[
            ("Version", "string", ".status.calicoVersion"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        status: true,
        limits: &[
            CONDITIONS,
            &[
                ("status.computed", &[Open]),
                ("spec.variant", &[Words(VARIANTS)]),
                ("spec.imagePullPolicy", &[Words(PULL_POLICIES)]),
                ("spec.kubernetesProvider", &[Words(PROVIDERS)]),
                ("spec.fipsMode", &[Words(SWITCH)]),
                ("spec.azure.policyMode", &[Words(POLICY_MODES)]),
                ("spec.networkPolicy.managePolicies", &[Words(SWITCH)]),
                ("spec.cni", &[Required(&["type"])]),
                ("spec.cni.type", &[Words(PLUGINS)]),
                ("spec.cni.ipam", &[Required(&["type"])]),
                ("spec.cni.ipam.type", &[Words(IPAM_PLUGINS)]),
                ("spec.cni.installMode", &[Words(INSTALL_MODES)]),
                ("spec.cni.specVersion", &[Words(SPEC_VERSIONS)]),
                ("spec.{nodeMetricsPort,typhaMetricsPort}", &[Min(0), Max(65_535)]),
                (
                    "spec.{typhaAffinity,nodeUpdateStrategy,certificateManagement,calicoNodeDaemonSet,csiNodeDriverDaemonSet,calicoKubeControllersDeployment,typhaDeployment,typhaPodDisruptionBudget,calicoWindowsUpgradeDaemonSet,calicoNodeWindowsDaemonSet,logging,windowsNodes,proxy}",
                    &[Open],
                ),
                ("spec.controlPlaneTolerations[]", &[Open]),
                ("spec.componentResources[]", &[Open]),
            ],
            &[
                ("spec.calicoNetwork.linuxDataplane", &[Words(DATAPLANES)]),
                ("spec.calicoNetwork.windowsDataplane", &[Words(WINDOWS_DATAPLANES)]),
                ("spec.calicoNetwork.{bgp,hostPorts,containerIPForwarding}", &[Words(SWITCH)]),
                ("spec.calicoNetwork.{bpfNetworkBootstrap,kubeProxyManagement}", &[Words(SWITCH)]),
                ("spec.calicoNetwork.clusterRoutingMode", &[Words(ROUTING_MODES)]),
                ("spec.calicoNetwork.linuxPodInterfaceType", &[Words(INTERFACE_TYPES)]),
                ("spec.calicoNetwork.multiInterfaceMode", &[Words(MULTI_INTERFACE)]),
                ("spec.calicoNetwork.mtu", &[Min(0), Max(65_535)]),
                ("spec.calicoNetwork.linuxPolicySetupTimeoutSeconds", &[Min(0)]),
                ("spec.calicoNetwork.ipPools", &[MaxItems(MAX_POOLS as u64)]),
                ("spec.calicoNetwork.ipPools[]", &[Required(&["cidr"])]),
                ("spec.calicoNetwork.ipPools[].cidr", NET),
                ("spec.calicoNetwork.ipPools[].encapsulation", &[Words(ENCAPSULATIONS)]),
                ("spec.calicoNetwork.ipPools[].natOutgoing", &[Words(SWITCH)]),
                ("spec.calicoNetwork.ipPools[].nodeSelector", SELECTOR),
                ("spec.calicoNetwork.ipPools[].blockSize", &[Min(20), Max(128)]),
                ("spec.calicoNetwork.ipPools[].allowedUses", &[MaxItems(10)]),
                (
                    "spec.calicoNetwork.ipPools[].allowedUses[]",
                    &[Words(&["Workload", "Tunnel", "LoadBalancer"])],
                ),
                ("spec.calicoNetwork.ipPools[].assignmentMode", &[Words(&["Automatic", "Manual"])]),
                ("spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}", &[ONE_METHOD]),
                (
                    "spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}.kubernetes",
                    &[Words(NODE_ADDRESSES)],
                ),
                (
                    "spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}.cidrs",
                    &[MaxItems(64)],
                ),
                ("spec.calicoNetwork.sysctl", &[MaxItems(16)]),
                ("spec.calicoNetwork.sysctl[]", &[Required(&["key", "value"])]),
                ("spec.calicoNetwork.sysctl[].key", &[Words(SYSCTLS)]),
            ],
        ],
    }
};
