//! The table of parameters against upstream's (`upstream/parameters.tsv`: name, field, default, what a bad value does,
//! where it is read), and which of them have no effect here, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use calico_felix::config::table::{EXIT, LOCAL, PARAMS, USED};

/// Names, or how they begin (`…*`), of parameters without effect.
const WITHOUT_EFFECT: [(&str, &[&str]); 13] = [
    (
        "features that are not here yet: eBPF, WireGuard, XDP, flow logs, Istio, live migration, policy sync, AWS, Windows",
        &[
            "BPF*",
            "CgroupV2Path",
            "DebugBPFCgroupV2",
            "PrometheusWireGuardMetricsEnabled",
            "Wireguard*",
            "GenericXDPEnabled",
            "XDP*",
            "FlowLogs*",
            "IstioAmbientMode",
            "IstioDSCPMark",
            "IPv4ElevatedRoutePriority",
            "IPv6ElevatedRoutePriority",
            "LiveMigrationRouteConvergenceTime",
            "PolicySyncPathPrefix",
            "AWSSrcDstCheck",
            "WindowsManageFirewallRules",
        ],
    ),
    (
        "tunnels and the routes for them are not here yet",
        &[
            "ExternalNodesCIDRList",
            "IpInIpMtu",
            "VXLANMTU",
            "VXLANMTUV6",
            "VXLANVNI",
            "ProgramClusterRoutes",
            "RouteTableRange",
            "RouteTableRanges",
        ],
    ),
    ("an interface's MTU is the CNI plugin's", &["MTUIfacePattern", "RequireMTUFile"]),
    ("flow tables and offload are not here yet", &["NFTablesFlowTable*", "SidecarAccelerationEnabled"]),
    ("layer-2 reachability is not here yet", &["LocalSubnetL2Reachability*"]),
    (
        "Typha is named by its address; it is not looked up as a service",
        &["TyphaK8sNamespace", "TyphaK8sServiceName"],
    ),
    ("there is one dataplane, in the process", &["DataplaneDriver", "UseInternalDataplaneDriver"]),
    ("what upstream detects or gates is found out by trying", &["FeatureDetectOverride", "FeatureGates"]),
    ("rules for a kube-proxy that uses IPVS are not here yet", &["KubeNodePortRanges"]),
    ("there is no Go runtime", &["Go*", "PrometheusGoMetricsEnabled"]),
    (
        "logs go to standard error, where a service manager takes them; none are dropped",
        &[
            "LogDebugFilenameRegex",
            "LogFilePath",
            "LogSeverityFile",
            "LogSeveritySys",
            "DebugDisableLogDropping",
        ],
    ),
    (
        "aids of upstream's developers, and reports to them",
        &[
            "DebugCPUProfilePath",
            "DebugHost",
            "DebugMemoryProfilePath",
            "DebugPanicAfter",
            "DebugPort",
            "DebugSimulate*",
            "UsageReporting*",
        ],
    ),
    (
        "iptables waits for its lock by itself; the OpenStack metadata service is not here yet",
        &["IptablesLockProbeIntervalMillis", "MetadataAddr", "MetadataPort"],
    ),
];

/// Ours; upstream has none of these.
const OURS: [&str; 1] = ["EstablishedFlowEnforcement"];

fn upstream() -> BTreeMap<&'static str, [&'static str; 4]> {
    let row = |line: &'static str| {
        let words: Vec<&str> = line.split('\t').collect();
        (words[0], [words[1], words[2], words[3], words[4]])
    };
    include_str!("upstream/parameters.tsv").lines().map(row).collect()
}

#[test]
fn every_parameter_of_upstream_is_known_with_its_field_and_default() {
    let upstream = upstream();
    let ours: BTreeSet<&str> = PARAMS.iter().map(|p| p.name).filter(|n| !OURS.contains(n)).collect();
    assert_eq!(ours, upstream.keys().copied().collect());
    for p in PARAMS.iter().filter(|p| !OURS.contains(&p.name)) {
        let [field, default, bad, sources] = upstream[p.name];
        assert_eq!((p.field, p.default), (field, default), "{}", p.name);
        assert_eq!(p.is(EXIT), bad == "Exit", "{}", p.name);
        assert_eq!(p.is(LOCAL), sources == "LocalOnly", "{}", p.name);
    }
}

#[test]
fn what_has_no_effect_is_named_with_the_reason() {
    let named = |name: &str| {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        };
        WITHOUT_EFFECT.iter().filter(|(_, names)| names.iter().any(|n| matches(n))).count()
    };
    for p in PARAMS {
        let want = usize::from(!p.is(USED));
        assert_eq!(named(p.name), want, "{} is {}used", p.name, if p.is(USED) { "" } else { "not " });
    }
}

#[test]
fn what_cannot_be_used_ends_felix_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (variables, reasons) in [
        (
            &[("FELIX_IPTABLESMARKMASK", "0x70000")][..],
            &["IptablesMarkMask", "environment", "needs 5 bits"][..],
        ),
        (&[("FELIX_CHAININSERTMODE", "None")], &["ChainInsertMode", "none"]),
        (
            &[("FELIX_TYPHAADDR", "127.0.0.1:1"), ("FELIX_TYPHACN", "typha")],
            &["TyphaCN", "TyphaKeyFile is not set"],
        ),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_calico-felix"))
            .arg("--config-file")
            .arg(dir.path().join("felix.cfg"))
            .env("CALICO_FELIX_SOCKET", dir.path().join("felix.sock"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success(), "{log}");
        for reason in reasons {
            assert!(log.contains(reason), "{reason}: {log}");
        }
    }
}
