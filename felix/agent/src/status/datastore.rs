//! Reports in etcd: that this Felix lives, and how its endpoints are. Upstream's keys and JSON.
//!
//! | key | value |
//! |---|---|
//! | `/calico/felix/v2/REGION/host/HOST/status` | goes by itself after `ReportingTTLSecs` |
//! | `/calico/felix/v2/REGION/host/HOST/last_reported_status` | the same, stays |
//! | `/calico/felix/v2/REGION/host/HOST/workload/ORCHESTRATOR/WORKLOAD/endpoint/ENDPOINT` | `{"status":"up"}` |
//! | `/calico/felix/v1/host/HOST/endpoint/NAME` | host endpoints, likewise |
//!
//! Always holds: a datastore that is away is no obstacle to anything else; what was not written is written later, the
//! newest of it. Left out: Kubernetes as datastore, which has no place for these, as with upstream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use libcalico_datastore::DatastoreError;
use libcalico_datastore::etcd::plain::PlainKeys;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::{Board, State};

/// How often what stands in the datastore is compared with what should.
const RESYNC: Duration = Duration::from_secs(180);

/// What to report, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    pub hostname: String,
    /// `no-region`, or `region-NAME`.
    pub region: String,
    /// Time between two reports of Felix itself; `None`: no reports.
    pub every: Option<Duration>,
    pub ttl: Duration,
    /// Shortest time between two reports of endpoints; `None`: no reports.
    pub endpoints: Option<Duration>,
}

impl Reports {
    /// `openstack_region`: empty where there is none.
    #[must_use]
    pub fn region(openstack_region: &str) -> String {
        if openstack_region.is_empty() {
            "no-region".to_owned()
        } else {
            format!("region-{openstack_region}")
        }
    }

    /// True where nothing is to be reported.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.every.is_none() && self.endpoints.is_none()
    }

    fn base(&self) -> String {
        format!("/calico/felix/v2/{}/host/{}", self.region, self.hostname)
    }

    fn host_base(&self) -> String {
        format!("/calico/felix/v1/host/{}/endpoint/", self.hostname)
    }

    /// Keys of endpoints with their values.
    #[must_use]
    pub fn wanted(&self, state: &State) -> BTreeMap<String, String> {
        let value = |word: &str| format!("{{\"status\":\"{word}\"}}");
        let workloads = state.workloads.iter().map(|(key, (status, _))| {
            let [o, w, e] = [&key.orchestrator, &key.workload, &key.endpoint].map(|p| escaped(p));
            (format!("{}/workload/{o}/{w}/endpoint/{e}", self.base()), value(status.word()))
        });
        let hosts = state
            .hosts
            .iter()
            .map(|(name, status)| (format!("{}{}", self.host_base(), escaped(name)), value(status.word())));
        workloads.chain(hosts).collect()
    }
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2f")
}

/// The reporter.
#[derive(Debug)]
pub struct DatastoreReporter {
    pub keys: PlainKeys,
    pub reports: Reports,
    pub started: Instant,
}

impl DatastoreReporter {
    /// Reports until the task is dropped.
    pub async fn run(self, board: Board) {
        tokio::join!(self.alive(), self.endpoints(&board));
    }

    async fn alive(&self) {
        let Some(every) = self.reports.every else { return };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        loop {
            ticks.tick().await;
            let text = format!(
                "{{\"time\":\"{}\",\"uptime\":{},\"first_update\":{first}}}",
                Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
                self.started.elapsed().as_secs_f64()
            );
            let base = self.reports.base();
            let told = self.keys.put(&format!("{base}/status"), &text, Some(self.reports.ttl)).await;
            first &= told.is_err();
            let last = self.keys.put(&format!("{base}/last_reported_status"), &text, None).await;
            if let Err(e) = told.and(last) {
                tracing::warn!(error = %e, "Felix's status cannot be written");
            }
        }
    }

    async fn endpoints(&self, board: &Board) {
        let Some(pause) = self.reports.endpoints else { return };
        let mut changed = board.watch();
        let mut written: Option<BTreeMap<String, String>> = None;
        let mut read_at = Instant::now();
        loop {
            if let Some(state) = board.now() {
                let result = self.reconcile(&state, &mut written).await;
                if let Err(e) = result {
                    tracing::warn!(error = %e, "status of endpoints cannot be written");
                    written = None;
                }
            }
            if written.is_some() {
                let resync = tokio::time::Instant::from_std(read_at + RESYNC);
                tokio::select! {
                    gone = changed.changed() => if gone.is_err() { return },
                    () = sleep_until(resync) => {
                        written = None;
                        read_at = Instant::now();
                    }
                }
            }
            // Endpoints that flap are told of once in a while.
            tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
            changed.mark_unchanged();
        }
    }

    async fn reconcile(
        &self,
        state: &State,
        written: &mut Option<BTreeMap<String, String>>,
    ) -> Result<(), DatastoreError> {
        let wanted = self.reports.wanted(state);
        let have = match written.take() {
            Some(have) => have,
            None => {
                let mut all = self.keys.list(&format!("{}/workload/", self.reports.base())).await?;
                all.extend(self.keys.list(&self.reports.host_base()).await?);
                all.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())).collect()
            }
        };
        for path in have.keys().filter(|p| !wanted.contains_key(*p)) {
            self.keys.delete(path).await?;
        }
        for (path, value) in wanted.iter().filter(|(p, v)| have.get(*p) != Some(v)) {
            self.keys.put(path, value, None).await?;
        }
        *written = Some(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use felix_dataplane::status::Status;
    use libcalico_model::key::WorkloadEndpointKey;

    use super::*;

    #[test]
    fn keys_and_values_are_upstreams() {
        let reports = Reports {
            hostname: "n1".to_owned(),
            region: Reports::region(""),
            every: None,
            ttl: Duration::from_secs(90),
            endpoints: Some(Duration::from_secs(1)),
        };
        let mut state = State::default();
        let key = WorkloadEndpointKey {
            host: "n1".to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: "default/p".to_owned(),
            endpoint: "eth0".to_owned(),
        };
        state.workloads.insert(key, (Status::Down, Arc::default()));
        state.hosts.insert("eth0-x".to_owned(), Status::Error);
        let wanted: Vec<_> = reports.wanted(&state).into_iter().collect();
        let want = [
            ("/calico/felix/v1/host/n1/endpoint/eth0-x", r#"{"status":"error"}"#),
            (
                "/calico/felix/v2/no-region/host/n1/workload/k8s/default%2fp/endpoint/eth0",
                r#"{"status":"down"}"#,
            ),
        ];
        assert_eq!(wanted, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(Reports::region("europe"), "region-europe");
    }
}
