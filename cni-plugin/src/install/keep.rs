//! Keeps what was installed as it should be, for as long as the node runs.
//!
//! Once a second, by a handful of `stat` calls: a configuration that waits is published when Felix is ready; a token
//! that ends, was rejected or is gone is renewed; certificates that changed are copied. Runs in calico-node beside
//! Felix, or in the installer's own process with `SLEEP=true`. Looking is cheaper than inotify where directories are
//! mounts, symbolic links and renamed: there is no event to miss.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::token::{Access, Action, Schedule, Token};
use super::{Result, Settings, assets, conflist, kubeconfig, rejection};
use crate::gates;

/// How often everything is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub async fn keep(settings: &Settings) {
    let mut keeper = Keeper::new(settings);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        keeper.tick().await;
    }
}

/// Identity of a file: another one in its place has another.
type Identity = Option<(u64, u64, i64, i64)>;

struct Keeper<'a> {
    settings: &'a Settings,
    schedule: Schedule,
    token: Option<Token>,
    /// The token that Kubernetes mounts: it changes with the server's signing keys.
    own_token: Identity,
    certificates: Vec<Identity>,
    /// What was said last, so that it is said once.
    complaints: BTreeMap<&'static str, String>,
}

impl<'a> Keeper<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            schedule: Schedule::new(settings.token_refresh),
            token: None,
            own_token: own_token(settings),
            // Unknown: they may have changed since they were installed.
            certificates: Vec::new(),
            complaints: BTreeMap::new(),
        }
    }

    async fn tick(&mut self) {
        let published = self.publish().await;
        self.tell("configuration", published);
        let copied = self.copy_certificates();
        self.tell("certificates", copied);
        let tended = self.tend_token().await;
        self.tell("token", tended);
    }

    /// Says once that something goes wrong, and once that it is right again. `None`: nothing was tried.
    fn tell(&mut self, what: &'static str, outcome: Option<Result<()>>) {
        let complaint = match outcome {
            None => return,
            Some(Ok(())) => None,
            Some(Err(e)) => Some(e.to_string()),
        };
        if self.complaints.get(what) == complaint.as_ref() {
            return;
        }
        match complaint {
            Some(text) => {
                tracing::warn!(what, error = %text, "cannot be kept as it should be, trying again");
                self.complaints.insert(what, text);
            }
            None => {
                tracing::info!(what, "is as it should be again");
                self.complaints.remove(what);
            }
        }
    }

    async fn publish(&self) -> Option<Result<()>> {
        match conflist::staged(self.settings) {
            Ok(staged) if staged.is_empty() => return None,
            Ok(_) => {}
            Err(e) => return Some(Err(e)),
        }
        match gates::wait_open(std::slice::from_ref(&self.settings.felix_url)).await {
            Ok(()) => Some(conflist::publish(self.settings).map(|_| ())),
            Err(e) => {
                tracing::debug!(reason = %e, "the configuration waits for Felix");
                None
            }
        }
    }

    fn copy_certificates(&mut self) -> Option<Result<()>> {
        let now = certificates(self.settings);
        // Where none is mounted (here) there is nothing to say about those on the host.
        if now == self.certificates || now.iter().all(Option::is_none) {
            return None;
        }
        let copied = assets::install(self.settings).map(|_| ());
        if copied.is_ok() {
            self.certificates = now;
        }
        Some(copied)
    }

    async fn tend_token(&mut self) -> Option<Result<()>> {
        let path = self.settings.kubeconfig_path();
        let own_token = own_token(self.settings);
        let refused = rejection::reported(&path);
        let urgent = refused || !path.exists() || own_token != self.own_token;
        let action = self.schedule.next(now(), urgent);
        if action == Action::Nothing || (action == Action::Probe && !self.probe().await) {
            return None;
        }
        if refused {
            tracing::warn!("a call of the plugin was refused, renewing its token");
        }
        let renewed = self.renew().await;
        match &renewed {
            Ok(ends) => {
                self.schedule.renewed(now(), *ends, spread());
                self.own_token = own_token;
            }
            Err(_) => self.schedule.failed(now(), spread()),
        }
        Some(renewed.map(|_| ()))
    }

    /// True where the server rejects the token.
    async fn probe(&mut self) -> bool {
        let rejected = match (Access::find(self.settings).await, &self.token) {
            (Ok(Some(access)), Some(token)) => access.rejects(token).await,
            _ => false,
        };
        self.schedule.probed(now());
        if rejected {
            tracing::warn!("the API server rejects the plugin's token, renewing it");
        }
        rejected
    }

    /// When the new token ends.
    async fn renew(&mut self) -> Result<Duration> {
        let Some(access) = Access::find(self.settings).await? else {
            // Not in Kubernetes: look again in an hour, should that change.
            return Ok(now() + Duration::from_secs(3600));
        };
        let token = access.request().await?;
        kubeconfig::install(self.settings, &access, &token)?;
        let ends = token.ends;
        self.token = Some(token);
        Ok(ends)
    }
}

fn own_token(settings: &Settings) -> Identity {
    identity(&settings.places.service_account_dir.join("token"))
}

fn certificates(settings: &Settings) -> Vec<Identity> {
    assets::NAMES.iter().map(|n| identity(&settings.tls_assets_dir.join(n))).collect()
}

fn identity(path: &Path) -> Identity {
    let m = std::fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.mtime(), m.mtime_nsec()))
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Between 0 and 1, random: many nodes start at the same moment.
fn spread() -> f64 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    (random >> 11) as f64 / (1u64 << 53) as f64
}
