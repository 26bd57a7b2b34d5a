//! `node run`: starts calico-node on a host that no orchestrator looks after.
//!
//! In come flags and the configuration of the datastore's client, out goes one command: a container of docker, podman or
//! nerdctl (whichever is found first), or the program calico-node itself where it is on the host and none of them is.
//! What always holds: the flags are checked before anything is touched, `--dryrun` touches nothing, and secrets are
//! handed over by environment, never on a command line. What is left out: what calico-node does (`node`).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libcalico_api::num_or_string::AsNumber;
use libcalico_datastore::{DatastoreType, EtcdConfig, Pem};
use regex::Regex;

use crate::cli::{Global, NodeRunArgs};
use crate::{Error, Result, client};

/// Container runtimes that take docker's flags, the usual first.
const RUNTIMES: [&str; 3] = ["docker", "podman", "nerdctl"];
const PROGRAM: &str = "calico-node";
const FIRST_FOUND: &str = "first-found";
/// Whoever runs calicoctl in a container sets this: the host's settings are not its to change.
const IN_CONTAINER: &str = "CALICO_CTL_CONTAINER";
/// Where the container finds the certificates for etcd.
const CA: &str = "/etc/calico/certs/ca_cert.crt";
const CERT: &str = "/etc/calico/certs/cert.crt";
const KEY: &str = "/etc/calico/certs/key.pem";
/// Where felix looks for its configuration.
const FELIX_CONFIG: &str = "/etc/calico/felix.cfg";
/// How long calico-node is watched after its start, seconds: what is wrong at once ends it by then.
const WATCHED_SECS: u32 = 5;

/// What calico-node is told and given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    env: BTreeMap<&'static str, String>,
    /// Not to be shown.
    secrets: BTreeMap<&'static str, String>,
    /// On the host, in the container.
    mounts: Vec<(String, String)>,
}

/// What runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Runner {
    Container(&'static str),
    Program(PathBuf),
}

/// Runs the command.
pub fn run(args: &NodeRunArgs, global: &Global) -> Result<()> {
    let settings = client::settings(&args.config, global)?;
    if settings.datastore_type != DatastoreType::EtcdV3 {
        return Err(Error::Usage(
            "error executing command: unsupported backend specified in config: on the Kubernetes datastore a DaemonSet runs calico-node; install the Helm chart"
                .to_owned(),
        ));
    }
    check(args)?;
    let name = if args.name.is_empty() { host_name()? } else { args.name.clone() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.to_owned()));
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let runner = find_runner(&folders, beside.as_deref());
    if args.dryrun {
        // What is shown is for a host that has what it needs.
        let runner = runner.unwrap_or(Runner::Container(RUNTIMES[0]));
        print!("{}", dry_run(args, &runner, &plan(args, &settings.etcd, &name, &runner)));
        return Ok(());
    }
    let runner = runner.ok_or_else(|| {
        Error::Action(format!(
            "none of {} and no program {PROGRAM} is installed: install a container runtime, or put {PROGRAM} beside calicoctl or on the PATH; `--dryrun` shows what would be run",
            RUNTIMES.join(", ")
        ))
    })?;
    if fs::metadata("/proc/self").is_ok_and(|m| m.uid() != 0) {
        return Err(Error::Action(
            "Need super user privileges: Operation not permitted; run it again with sudo".to_owned(),
        ));
    }
    if std::env::var_os(IN_CONTAINER).is_none() {
        prepare_host()?;
    }
    if matches!(runner, Runner::Program(_)) && !matches!(args.felix_config.as_str(), "" | FELIX_CONFIG) {
        return Err(wrong(format!(
            "--felix-config: without a container calico-felix reads {FELIX_CONFIG}; copy {} there",
            args.felix_config
        )));
    }
    let plan = plan(args, &settings.etcd, &name, &runner);
    match &runner {
        Runner::Container(runtime) => run_container(args, runtime, &plan),
        Runner::Program(program) => run_program(args, program, &plan),
    }
}

fn wrong(mut text: String) -> Error {
    text.insert_str(0, "error executing command: ");
    Error::Usage(text)
}

/// Everything that can be told without touching anything.
fn check(args: &NodeRunArgs) -> Result<()> {
    for (flag, text, v4) in [("--ip", &args.ip, true), ("--ip6", &args.ip6, false)] {
        if text.is_empty() || text == "autodetect" {
            continue;
        }
        let bare = text.split('/').next().unwrap_or_default();
        let addr: IpAddr =
            bare.parse().map_err(|_| wrong(format!("{flag}: {text:?} is no address and not autodetect")))?;
        if addr.is_ipv4() != v4 {
            return Err(wrong(format!("{flag} is wrong IP version")));
        }
    }
    if !args.as_number.is_empty() {
        args.as_number.parse::<AsNumber>().map_err(|e| wrong(format!("--as: {e}")))?;
    }
    if !matches!(args.backend.as_str(), "bird" | "none") {
        return Err(wrong(format!("unknown backend '{}'; use bird or none", args.backend)));
    }
    check_method(&args.ip_autodetection_method, true)?;
    check_method(&args.ip6_autodetection_method, false)
}

fn check_method(method: &str, v4: bool) -> Result<()> {
    if method == FIRST_FOUND {
        return Ok(());
    }
    if let Some(destination) = method.strip_prefix("can-reach=") {
        let found = (destination, 0).to_socket_addrs().map_err(|_| {
            wrong(format!("cannot resolve address specified for IP autodetection: {destination}"))
        })?;
        if found.into_iter().any(|a| a.is_ipv4() == v4) {
            return Ok(());
        }
        let version = if v4 { 4 } else { 6 };
        return Err(wrong(format!(
            "address for IP autodetection does not resolve to an IPv{version} address: {destination}"
        )));
    }
    let expressions = method.strip_prefix("interface=").or_else(|| method.strip_prefix("skip-interface="));
    let Some(expressions) = expressions else {
        return Err(wrong(format!(
            "invalid IP autodetection method: {method}; use first-found, can-reach=, interface= or skip-interface="
        )));
    };
    for e in expressions.split(',') {
        Regex::new(e)
            .map_err(|_| wrong(format!("invalid interface regex specified for IP autodetection: {e}")))?;
    }
    Ok(())
}

fn host_name() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = text.trim().to_ascii_lowercase();
    if name.is_empty() {
        return Err(wrong("unable to determine node name; give --name".to_owned()));
    }
    Ok(name)
}

fn find_runner(folders: &[PathBuf], beside: Option<&Path>) -> Option<Runner> {
    let is_program = |p: &Path| fs::metadata(p).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    let runtime = RUNTIMES.iter().find(|r| folders.iter().any(|f| is_program(&f.join(r))));
    if let Some(runtime) = runtime {
        return Some(Runner::Container(runtime));
    }
    let places = beside.into_iter().chain(folders.iter().map(PathBuf::as_path));
    places.map(|f| f.join(PROGRAM)).find(|p| is_program(p)).map(Runner::Program)
}

fn plan(args: &NodeRunArgs, etcd: &EtcdConfig, name: &str, runner: &Runner) -> Plan {
    let mut p = Plan::default();
    let mut set = |key, value: &str| {
        if !value.is_empty() {
            p.env.insert(key, value.to_owned());
        }
    };
    set("NODENAME", name);
    set("CALICO_NETWORKING_BACKEND", &args.backend);
    // Only Kubernetes has a CNI configuration to look after.
    set("CALICO_MANAGE_CNI", "false");
    set("DATASTORE_TYPE", "etcdv3");
    set("ETCD_ENDPOINTS", &etcd.endpoints.join(","));
    set("NO_DEFAULT_POOLS", if args.no_default_ippools { "true" } else { "" });
    for (key, method) in [
        ("IP_AUTODETECTION_METHOD", &args.ip_autodetection_method),
        ("IP6_AUTODETECTION_METHOD", &args.ip6_autodetection_method),
    ] {
        set(key, if method == FIRST_FOUND { "" } else { method });
    }
    // The dotted form is for people.
    let number = args.as_number.parse::<AsNumber>().map(|n| n.to_string()).unwrap_or_default();
    set("AS", &number);
    set("IP", &args.ip);
    set("IP6", &args.ip6);
    set("ETCD_USERNAME", etcd.username.as_deref().unwrap_or_default());
    if let Some(password) = &etcd.password {
        p.secrets.insert("ETCD_PASSWORD", password.clone());
    }
    let container = matches!(runner, Runner::Container(_));
    let log_dir = args.log_dir.display().to_string();
    p.mounts = vec![
        (log_dir, "/var/log/calico".to_owned()),
        ("/var/run/calico".to_owned(), "/var/run/calico".to_owned()),
        ("/var/lib/calico".to_owned(), "/var/lib/calico".to_owned()),
        ("/lib/modules".to_owned(), "/lib/modules".to_owned()),
        ("/run".to_owned(), "/run".to_owned()),
    ];
    if !args.felix_config.is_empty() {
        p.mounts.push((args.felix_config.clone(), FELIX_CONFIG.to_owned()));
    }
    for (pem, file, inline, inside) in [
        (&etcd.ca, "ETCD_CA_CERT_FILE", "ETCD_CA_CERT", CA),
        (&etcd.cert, "ETCD_CERT_FILE", "ETCD_CERT", CERT),
        (&etcd.key, "ETCD_KEY_FILE", "ETCD_KEY", KEY),
    ] {
        match pem {
            Some(Pem::File(path)) if container => {
                p.mounts.push((path.display().to_string(), inside.to_owned()));
                p.env.insert(file, inside.to_owned());
            }
            Some(Pem::File(path)) => {
                p.env.insert(file, path.display().to_string());
            }
            Some(Pem::Inline(text)) => {
                p.secrets.insert(inline, text.clone());
            }
            None => {}
        }
    }
    if !container {
        p.mounts.clear();
    }
    p
}

/// Words of the command that starts the container.
fn container_command(args: &NodeRunArgs, runtime: &str, p: &Plan) -> Vec<String> {
    let mut words: Vec<String> =
        [runtime, "run", "--net=host", "--privileged", "--name=calico-node"].map(str::to_owned).to_vec();
    // A service manager starts it again itself; else the runtime does.
    let mode: &[&str] = if args.init_system { &["--rm"] } else { &["-d", "--restart=always"] };
    words.extend(mode.iter().map(|m| (*m).to_owned()));
    for (key, value) in &p.env {
        words.extend(["-e".to_owned(), format!("{key}={value}")]);
    }
    // Without a value the runtime takes it from its own environment.
    for key in p.secrets.keys() {
        words.extend(["-e".to_owned(), (*key).to_owned()]);
    }
    for (outside, inside) in &p.mounts {
        words.extend(["-v".to_owned(), format!("{outside}:{inside}")]);
    }
    words.push(args.node_image.clone());
    words
}

fn dry_run(args: &NodeRunArgs, runner: &Runner, p: &Plan) -> String {
    let secrets = if p.secrets.is_empty() {
        String::new()
    } else {
        let names: Vec<&str> = p.secrets.keys().copied().collect();
        format!("Set {} in the environment of the command.\n", names.join(", "))
    };
    match runner {
        Runner::Container(runtime) => {
            let command = container_command(args, runtime, p).join(" ");
            let after = if args.init_system {
                format!(
                    "Use the following command to stop the calico/node container:\n\n{runtime} stop calico-node\n\n"
                )
            } else {
                "If you are running calico/node in an init system, use the --init-system flag\n\
                 to display the appropriate start and stop commands.\n"
                    .to_owned()
            };
            format!(
                "Use the following command to start the calico/node container:\n\n{command}\n\n{secrets}{after}"
            )
        }
        Runner::Program(program) => {
            let env: Vec<String> = p.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!(
                "Use the following command to start calico-node:\n\n{} {}\n\n{secrets}Its log goes to standard error; calicoctl writes it to {}.\n",
                env.join(" "),
                program.display(),
                log_file(args).display()
            )
        }
    }
}

fn log_file(args: &NodeRunArgs) -> PathBuf {
    args.log_dir.join("calico-node.log")
}

/// A node forwards its pods' packets.
fn prepare_host() -> Result<()> {
    for (version, path) in
        [("IPv4", "/proc/sys/net/ipv4/ip_forward"), ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding")]
    {
        if Path::new(path).exists() {
            println!("Enabling {version} forwarding");
            fs::write(path, "1").map_err(|e| {
                Error::Action(format!("ERROR: Could not enable {version} forwarding: {path}: {e}"))
            })?;
        }
    }
    Ok(())
}

fn runtime_command(runtime: &str, args: &[&str]) -> Result<std::process::Output> {
    let out = Command::new(runtime).args(args).stdin(Stdio::null()).output();
    out.map_err(|e| Error::Action(format!("{runtime}: {e}")))
}

fn run_container(args: &NodeRunArgs, runtime: &str, p: &Plan) -> Result<()> {
    println!("Removing old calico-node container (if running).");
    runtime_command(runtime, &["rm", "-f", "calico-node"])?;
    let words = container_command(args, runtime, p);
    println!("Running the following command to start calico-node:\n\n{}\n", words.join(" "));
    let mut command = Command::new(runtime);
    command.args(words.iter().skip(1)).envs(&p.secrets);
    if args.init_system {
        // In place of this process: the service manager's signals and exit code are the container's.
        let e = command.exec();
        return Err(Error::Action(format!("{runtime}: {e}")));
    }
    println!("Image may take a short time to download if it is not available locally.");
    let out = command.output().map_err(|e| Error::Action(format!("{runtime}: {e}")))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let lines: Vec<String> = text.lines().map(|l| format!(" | {l}")).collect();
        return Err(Error::Action(format!("Error executing command: {}\n{}", out.status, lines.join("\n"))));
    }
    println!("Container started, checking progress.");
    for _ in 0..WATCHED_SECS {
        sleep(Duration::from_secs(1));
        let format = "{{.State.Running}} {{.RestartCount}}";
        let state = runtime_command(runtime, &["inspect", "--format", format, "calico-node"])?;
        let state = String::from_utf8_lossy(&state.stdout);
        if state.trim() != "true 0" {
            let logs = runtime_command(runtime, &["logs", "--tail", "20", "calico-node"])?;
            let text =
                String::from_utf8_lossy(&logs.stdout).into_owned() + &String::from_utf8_lossy(&logs.stderr);
            return Err(Error::Action(format!(
                "error executing command: calico/node has terminated, check logs for details\n{text}"
            )));
        }
    }
    println!("Calico node started successfully");
    Ok(())
}

fn run_program(args: &NodeRunArgs, program: &Path, p: &Plan) -> Result<()> {
    let failed = |path: &Path, e: std::io::Error| Error::Action(format!("{}: {e}", path.display()));
    let mut command = Command::new(program);
    command.envs(&p.env).envs(&p.secrets).stdin(Stdio::null());
    if args.init_system {
        let e = command.exec();
        return Err(failed(program, e));
    }
    fs::create_dir_all(&args.log_dir).map_err(|e| failed(&args.log_dir, e))?;
    let path = log_file(args);
    let log = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| failed(&path, e))?;
    let second = log.try_clone().map_err(|e| failed(&path, e))?;
    println!("Starting {}; its log is {}", program.display(), path.display());
    // A group of its own: what ends this command's terminal does not end the node.
    let mut child =
        command.stdout(second).stderr(log).process_group(0).spawn().map_err(|e| failed(program, e))?;
    for _ in 0..WATCHED_SECS {
        sleep(Duration::from_secs(1));
        if let Some(status) = child.try_wait().map_err(|e| failed(program, e))? {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
            return Err(Error::Action(format!(
                "error executing command: calico-node has terminated ({status}):\n{tail}"
            )));
        }
    }
    println!("Calico node started successfully (process {})", child.id());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(flags: &[&str]) -> NodeRunArgs {
        let cli = crate::cli::Cli::parse_from([&["calicoctl", "node", "run"], flags].concat());
        match cli.command {
            crate::cli::Command::Node(crate::cli::NodeArgs {
                command: crate::cli::NodeCommand::Run(args),
            }) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn etcd() -> EtcdConfig {
        EtcdConfig {
            endpoints: vec!["https://e1:2379".to_owned(), "https://e2:2379".to_owned()],
            username: Some("calico".to_owned()),
            password: Some("hidden".to_owned()),
            ca: Some(Pem::File("/pki/ca.pem".into())),
            ..EtcdConfig::default()
        }
    }

    #[test]
    fn the_container_is_told_what_the_flags_say() {
        let args = args(&[
            "--ip=10.0.0.1",
            "--as=1.5",
            "--no-default-ippools",
            "--felix-config=/f.cfg",
            "--log-dir=/l",
        ]);
        let runner = Runner::Container("docker");
        let p = plan(&args, &etcd(), "n1", &runner);
        let text = container_command(&args, "docker", &p).join(" ");
        assert_eq!(
            text,
            "docker run --net=host --privileged --name=calico-node -d --restart=always -e AS=65541 \
             -e CALICO_MANAGE_CNI=false -e CALICO_NETWORKING_BACKEND=bird -e DATASTORE_TYPE=etcdv3 \
             -e ETCD_CA_CERT_FILE=/etc/calico/certs/ca_cert.crt -e ETCD_ENDPOINTS=https://e1:2379,https://e2:2379 \
             -e ETCD_USERNAME=calico -e IP=10.0.0.1 -e NODENAME=n1 -e NO_DEFAULT_POOLS=true -e ETCD_PASSWORD \
             -v /l:/var/log/calico -v /var/run/calico:/var/run/calico -v /var/lib/calico:/var/lib/calico \
             -v /lib/modules:/lib/modules -v /run:/run -v /f.cfg:/etc/calico/felix.cfg \
             -v /pki/ca.pem:/etc/calico/certs/ca_cert.crt calico/node:latest"
        );
        assert!(!dry_run(&args, &runner, &p).contains("hidden"));
    }

    #[test]
    fn the_program_gets_the_hosts_own_paths() {
        let args = args(&["--init-system"]);
        let p = plan(&args, &etcd(), "n1", &Runner::Program("/usr/bin/calico-node".into()));
        assert_eq!(p.env["ETCD_CA_CERT_FILE"], "/pki/ca.pem");
        assert!(p.mounts.is_empty());
    }

    #[test]
    fn wrong_flags_are_told_with_what_is_allowed() {
        for (flag, told) in [
            ("--ip=fd00::1", "--ip is wrong IP version"),
            ("--ip6=10.0.0.1", "--ip6 is wrong IP version"),
            ("--ip=here", "--ip: \"here\" is no address and not autodetect"),
            ("--as=many", "--as: AS number \"many\""),
            ("--backend=frr", "unknown backend 'frr'; use bird or none"),
            ("--ip-autodetection-method=guess", "invalid IP autodetection method: guess; use first-found"),
            ("--ip-autodetection-method=interface=eth[", "invalid interface regex"),
            ("--ip6-autodetection-method=can-reach=10.0.0.1", "does not resolve to an IPv6 address"),
        ] {
            let e = check(&args(&[flag])).unwrap_err().to_string();
            assert!(e.starts_with("error executing command: ") && e.contains(told), "{flag}: {e}");
        }
        check(&args(&["--ip=10.0.0.1/24", "--ip6=autodetect", "--backend=none"])).unwrap();
        check(&args(&["--ip-autodetection-method=skip-interface=docker.*,br-.*"])).unwrap();
    }
}
