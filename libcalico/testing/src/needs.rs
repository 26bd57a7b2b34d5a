//! What a test needs of its machine, and what happens where that is missing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Root,
    /// A program and the Debian package that holds it.
    Program(&'static str, &'static str),
    Etcd,
    Etcdctl,
    /// kube-apiserver, as `make k8s` builds it.
    ApiServer,
    /// kubectl, as `make k8s` builds it.
    Kubectl,
}

impl Need {
    fn met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            // Any exit code will do: the program is there.
            Self::Program(name, _) => Command::new(name)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok(),
            Self::Etcd => Self::Program("etcd", "").met(),
            Self::Etcdctl => Self::Program("etcdctl", "").met(),
            Self::ApiServer => kubernetes_binary("kube-apiserver").is_some(),
            Self::Kubectl => kubernetes_binary("kubectl").is_some(),
        }
    }

    fn says(self) -> String {
        match self {
            Self::Root => "root".to_owned(),
            Self::Program(name, package) => format!("{name} (apt install {package})"),
            Self::Etcd => Self::Program("etcd", "etcd-server").says(),
            Self::Etcdctl => Self::Program("etcdctl", "etcd-client").says(),
            Self::ApiServer => "kube-apiserver (make k8s builds it)".to_owned(),
            Self::Kubectl => "kubectl (make k8s builds it)".to_owned(),
        }
    }
}

/// True where a test can run. Otherwise it says what is missing and the test returns; where `CI=true`, or
/// `CALICO_K8S_REQUIRED=1` and a program of Kubernetes is missing, it fails.
#[must_use]
pub fn can_run(needs: &[Need]) -> bool {
    let missing: Vec<Need> = needs.iter().copied().filter(|n| !n.met()).collect();
    if missing.is_empty() {
        return true;
    }
    let text = missing.iter().map(|n| n.says()).collect::<Vec<_>>().join(", ");
    assert!(!set("CI", "true"), "CI=true and this machine lacks {text}");
    let kubernetes = missing.iter().any(|n| matches!(n, Need::ApiServer | Need::Kubectl));
    assert!(
        !(kubernetes && set("CALICO_K8S_REQUIRED", "1")),
        "CALICO_K8S_REQUIRED=1 and this machine lacks {text}"
    );
    eprintln!("skipped: needs {text}");
    false
}

fn set(name: &str, value: &str) -> bool {
    std::env::var(name).as_deref() == Ok(value)
}

/// A program of Kubernetes: of the directory `CALICO_K8S_BIN`, else of `calico-k8s/bin` in the user's cache, where
/// `make k8s` leaves them.
#[must_use]
pub fn kubernetes_binary(name: &str) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let directory = match std::env::var_os("CALICO_K8S_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            cache.or_else(home)?.join("calico-k8s/bin")
        }
    };
    Some(directory.join(name)).filter(|p| p.is_file())
}
