//! What the runtime asks: environment and standard input, checked.
//!
//! In come the variables (by a function) and the bytes of standard input, out comes a [`Request`] or the error to
//! print. Pure, and total: any input gives one or the other. [`version_for_errors`] finds the version in which an
//! error of a request that cannot be read is printed.

use std::path::PathBuf;

use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::version::SpecVersion;

/// A command of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Command {
    /// As in `CNI_COMMAND`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    fn has_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// A call of the plugin.
#[derive(Clone, Debug)]
pub struct Request {
    pub command: Command,
    pub version: SpecVersion,
    /// Empty for STATUS, GC and VERSION, as the next two.
    pub container_id: String,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Path of the pod's network namespace; none where the runtime has none any more (DEL).
    pub netns: Option<PathBuf>,
    pub args: CniArgs,
    /// Directories of other plugins.
    pub path: Vec<PathBuf>,
    pub conf: NetConf,
}

/// `CNI_ARGS`, as far as they mean something here. Others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_infra_container_id: String,
    /// The pod's identity, where the runtime tells it.
    pub pod_uid: String,
    /// `IP=`: the addresses that the pod should get.
    pub ips: Vec<std::net::IpAddr>,
}

/// Reads a request.
pub fn parse(stdin: &[u8], env: impl Fn(&str) -> Option<String>) -> Result<Request, CniError> {
    let var = |name: &str| env(name).unwrap_or_default();
    let command = match var("CNI_COMMAND").as_str() {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "STATUS" => Command::Status,
        "GC" => Command::Gc,
        "VERSION" => Command::Version,
        "" => {
            return Err(environment("CNI_COMMAND is not set").with_details(
                "this is a CNI plugin, called by a container runtime; `calico -v` prints its version",
            ));
        }
        other => return Err(environment(format!("CNI_COMMAND {other:?} is not known"))),
    };
    if command == Command::Version {
        return Ok(Request {
            command,
            version: SpecVersion::CURRENT,
            container_id: String::new(),
            ifname: String::new(),
            netns: None,
            args: CniArgs::default(),
            path: Vec::new(),
            conf: NetConf::default(),
        });
    }
    let conf = NetConf::parse(stdin)?;
    let version = SpecVersion::parse(&conf.cni_version)?;
    supported(command, version)?;
    let (container_id, ifname) = (var("CNI_CONTAINERID"), var("CNI_IFNAME"));
    if command.has_container() {
        check_container_id(&container_id)?;
        check_ifname(&ifname)?;
        if conf.name.is_empty() {
            return Err(CniError::new(Code::InvalidConfig, "the network configuration has no name"));
        }
        check_network_name(&conf.name)?;
    }
    let netns = Some(var("CNI_NETNS")).filter(|n| !n.is_empty()).map(PathBuf::from);
    if netns.is_none() && matches!(command, Command::Add | Command::Check) {
        return Err(environment("CNI_NETNS is not set"));
    }
    let path = var("CNI_PATH").split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
    Ok(Request {
        command,
        version,
        container_id,
        ifname,
        netns,
        args: parse_args(&var("CNI_ARGS"))?,
        path,
        conf,
    })
}

/// The version for an error where the request itself cannot be read.
#[must_use]
pub fn version_for_errors(stdin: &[u8]) -> String {
    NetConf::parse(stdin)
        .ok()
        .and_then(|c| SpecVersion::parse(&c.cni_version).ok())
        .unwrap_or(SpecVersion::V1_0_0)
        .to_string()
}

fn environment(msg: impl Into<String>) -> CniError {
    CniError::new(Code::InvalidEnvironment, msg)
}

fn supported(command: Command, version: SpecVersion) -> Result<(), CniError> {
    let ok = match command {
        Command::Check => version.has_check(),
        Command::Status | Command::Gc => version.has_gc_and_status(),
        _ => true,
    };
    if ok {
        return Ok(());
    }
    Err(CniError::new(Code::IncompatibleVersion, format!("config version does not allow {}", command.name())))
}

/// The specification's characters: alphanumeric first, then also `_.-`. It becomes part of datastore keys.
fn check_container_id(id: &str) -> Result<(), CniError> {
    if id.is_empty() {
        return Err(environment("CNI_CONTAINERID is not set"));
    }
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Err(environment("CNI_CONTAINERID has characters that are not allowed")
            .with_details("letters, digits, and after the first also _ . -"));
    }
    if id.len() > 253 {
        return Err(environment(format!("CNI_CONTAINERID is {} characters long; at most 253", id.len())));
    }
    Ok(())
}

/// What Linux takes as the name of an interface.
fn check_ifname(name: &str) -> Result<(), CniError> {
    let wrong = |why: String| Err(environment(format!("CNI_IFNAME {name:.40?} {why}")));
    if name.is_empty() {
        return Err(environment("CNI_IFNAME is not set"));
    }
    if name.len() > libcalico_net::interface_name::MAX_LEN {
        return wrong(format!(
            "is {} characters long; Linux takes {}",
            name.len(),
            libcalico_net::interface_name::MAX_LEN
        ));
    }
    if name == "."
        || name == ".."
        || name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    {
        return wrong("is no name for an interface".to_owned());
    }
    Ok(())
}

/// The name becomes part of datastore keys and of labels.
fn check_network_name(name: &str) -> Result<(), CniError> {
    let ok = name.len() <= 128
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if ok {
        return Ok(());
    }
    Err(CniError::new(
        Code::InvalidConfig,
        format!("network name {name:.80?} has characters that are not allowed"),
    )
    .with_details("letters, digits, and after the first also _ . -; at most 128"))
}

fn parse_args(text: &str) -> Result<CniArgs, CniError> {
    let mut args = CniArgs::default();
    for pair in text.split(';').filter(|p| !p.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(environment(format!("CNI_ARGS: {pair:.80?} is not KEY=VALUE")));
        };
        match key {
            "K8S_POD_NAME" => value.clone_into(&mut args.pod_name),
            "K8S_POD_NAMESPACE" => value.clone_into(&mut args.pod_namespace),
            "K8S_POD_INFRA_CONTAINER_ID" => value.clone_into(&mut args.pod_infra_container_id),
            "K8S_POD_UID" => value.clone_into(&mut args.pod_uid),
            "IP" => {
                for ip in value.split(',').filter(|v| !v.is_empty()) {
                    let ip = ip.split('/').next().unwrap_or(ip);
                    args.ips.push(
                        ip.parse()
                            .map_err(|_| environment(format!("CNI_ARGS: IP={ip:.60} is no address")))?,
                    );
                }
            }
            _ => {}
        }
    }
    if args.pod_name.is_empty() != args.pod_namespace.is_empty() {
        return Err(environment("CNI_ARGS: K8S_POD_NAME and K8S_POD_NAMESPACE belong together"));
    }
    for (what, name) in [("K8S_POD_NAME", &args.pod_name), ("K8S_POD_NAMESPACE", &args.pod_namespace)] {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        if name.len() > 253 || !name.bytes().all(ok) {
            return Err(environment(format!("CNI_ARGS: {what}={name:.80} is no Kubernetes name")));
        }
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const CONF: &str = r#"{"cniVersion":"0.4.0","name":"net","type":"calico","ipam":{"type":"calico-ipam"}}"#;

    fn with(env: &[(&str, &str)], stdin: &str) -> Result<Request, CniError> {
        let mut map: HashMap<&str, &str> = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
        ]
        .into();
        map.extend(env.iter().copied());
        parse(stdin.as_bytes(), |n| map.get(n).map(|v| (*v).to_owned()))
    }

    fn code(r: Result<Request, CniError>) -> u32 {
        r.unwrap_err().code as u32
    }

    #[test]
    fn a_kubernetes_pod_is_read_from_the_arguments() {
        let r = with(
            &[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-1;IP=10.0.0.9")],
            CONF,
        )
        .unwrap();
        assert_eq!((r.args.pod_namespace.as_str(), r.args.pod_name.as_str()), ("ns", "web-1"));
        assert_eq!(r.args.ips, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    }

    #[test]
    fn wrong_variables_are_error_4() {
        for env in [
            ("CNI_COMMAND", "MAKE"),
            ("CNI_COMMAND", ""),
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "../../etc"),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", "a-name-that-is-too-long"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_NETNS", ""),
            ("CNI_ARGS", "nonsense"),
            ("CNI_ARGS", "K8S_POD_NAME=x"),
            ("CNI_ARGS", "K8S_POD_NAME=x/y;K8S_POD_NAMESPACE=z"),
            ("CNI_ARGS", "IP=10.0.0.300"),
        ] {
            assert_eq!(code(with(&[env], CONF)), 4, "{env:?}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_error_6_or_7_and_a_wrong_version_1() {
        assert_eq!(code(with(&[], "{")), 6);
        assert_eq!(code(with(&[], r#"{"cniVersion":"0.4.0"}"#)), 7);
        assert_eq!(code(with(&[], r#"{"cniVersion":"0.4.0","name":"a/b"}"#)), 7);
        assert_eq!(code(with(&[], r#"{"cniVersion":"9.9.9","name":"a"}"#)), 1);
        assert_eq!(code(with(&[("CNI_COMMAND", "CHECK")], r#"{"cniVersion":"0.3.1","name":"a"}"#)), 1);
        assert_eq!(code(with(&[("CNI_COMMAND", "GC")], r#"{"cniVersion":"1.0.0","name":"a"}"#)), 1);
    }

    #[test]
    fn del_works_without_a_namespace() {
        assert!(with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], CONF).unwrap().netns.is_none());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(
            stdin in proptest::collection::vec(any::<u8>(), 0..200),
            values in proptest::collection::vec(".{0,40}", 6),
        ) {
            let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
            let env = |n: &str| names.iter().position(|x| *x == n).map(|i| values[i].clone());
            let _ = parse(&stdin, env);
            let _ = version_for_errors(&stdin);
        }

        #[test]
        fn no_json_makes_it_panic(name in ".{0,20}", args in "([A-Z0-9_]{0,8}=?.{0,12};?){0,5}", mtu in any::<i64>()) {
            let conf = serde_json::json!({"cniVersion": "1.0.0", "name": name, "mtu": mtu, "ipam": {"type": name}});
            let _ = with(&[("CNI_ARGS", &args)], &conf.to_string());
        }
    }
}
