//! `policy_setup_timeout_seconds`: an ADD returns when Felix says that the pod's policy is in the kernel.
//!
//! In come the directory that Felix writes to and the endpoint, out goes the word whether Felix spoke in time. Felix
//! writes a file for each endpoint that is programmed; name and place are upstream's. Looking for it every few
//! milliseconds costs less than a watch would, for the short time that it takes. No answer in time is no error: the pod
//! is made, and stays closed until Felix opens it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::netconf::NetConf;
use crate::workload::Workload;

/// Where Felix writes, where nobody says otherwise.
const DEFAULT_DIRECTORY: &str = "/var/run/calico/endpoint-status";
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);
/// Longest wait, whatever the configuration says: the call itself must end in time.
const LONGEST: Duration = Duration::from_secs(60);

/// The file in which Felix says that the workload's endpoint is ready: orchestrator, workload and interface, separated
/// by spaces, each escaped as a segment of a URL's path.
#[must_use]
pub fn status_file(conf: &NetConf, w: &Workload) -> PathBuf {
    let directory =
        if conf.endpoint_status_dir.is_empty() { DEFAULT_DIRECTORY } else { &conf.endpoint_status_dir };
    let id = if w.is_pod() { &w.pod } else { &w.container_id };
    let workload = format!("{}/{id}", w.namespace);
    let name = [w.orchestrator, workload.as_str(), w.endpoint.as_str()].map(escape).join(" ");
    Path::new(directory).join(name)
}

/// Waits for Felix's word. True where it came, or nobody wants to wait.
pub async fn wait(conf: &NetConf, w: &Workload) -> bool {
    let Ok(seconds @ 1..) = u64::try_from(conf.policy_setup_timeout_seconds) else { return true };
    let limit = Duration::from_secs(seconds).min(LONGEST);
    let file = status_file(conf, w);
    let start = Instant::now();
    while !file.exists() {
        if start.elapsed() >= limit {
            tracing::warn!(
                endpoint = %w.endpoint_name(), file = %file.display(), seconds = limit.as_secs(),
                "Felix did not say that the pod's policy is there; the pod starts and stays closed until it is"
            );
            return false;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let millis = start.elapsed().as_millis();
    tracing::info!(endpoint = %w.endpoint_name(), millis, "Felix has programmed the pod's policy");
    true
}

/// As Go's `url.PathEscape`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(args: &str) -> Workload {
        let r = crate::request::parse(br#"{"cniVersion":"1.0.0","name":"n"}"#, |n| {
            Some(match n {
                "CNI_COMMAND" => "DEL".to_owned(),
                "CNI_CONTAINERID" => "c1".to_owned(),
                "CNI_IFNAME" => "eth0".to_owned(),
                "CNI_ARGS" => args.to_owned(),
                _ => String::new(),
            })
        });
        Workload::of(&r.unwrap(), "node-a")
    }

    fn conf(dir: &Path, seconds: i64) -> NetConf {
        NetConf {
            endpoint_status_dir: dir.display().to_string(),
            policy_setup_timeout_seconds: seconds,
            ..NetConf::default()
        }
    }

    #[test]
    fn the_file_is_named_as_upstreams() {
        let w = workload("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1");
        let path = status_file(&NetConf::default(), &w);
        assert_eq!(path, Path::new("/var/run/calico/endpoint-status/k8s default%2Fweb-1 eth0"));
        assert_eq!(
            status_file(&conf(Path::new("/x"), 1), &workload("")),
            Path::new("/x/cni default%2Fc1 eth0")
        );
        assert_eq!(escape("a b;c:é"), "a%20b%3Bc:%C3%A9");
    }

    #[test]
    fn the_wait_ends_with_the_file_or_with_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let w = workload("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1");
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            assert!(wait(&conf(dir.path(), 0), &w).await);
            let c = conf(dir.path(), 1);
            assert!(!wait(&c, &w).await);
            let c = conf(dir.path(), 60);
            let (came, ()) = tokio::join!(wait(&c, &w), async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                std::fs::write(status_file(&c, &w), "{}").unwrap();
            });
            assert!(came);
        });
    }
}
