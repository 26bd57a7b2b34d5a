//! The plugin's token: asked for by the TokenRequest API, and when it must be asked for again.
//!
//! [`Schedule`] is pure: in come the time and what was seen, out goes what to do. [`Access`] does it.
//!
//! Always holds: a token is renewed long before it ends (after a quarter to half of what is left, upstream's rule, so
//! that many nodes do not ask at the same moment), at once when it was rejected, and not more often than every few
//! seconds while the server refuses.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::kubeconfig::pem;
use super::{InstallError, Result, Settings};

/// How long a token is asked for, seconds. Upstream's number.
const VALIDITY_SECS: i64 = 24 * 60 * 60;
/// Part of the remaining time after which a token is renewed, at the earliest: one in so many.
const FRACTION: u32 = 4;
/// Shortest wait between two requests.
const MIN_WAIT: Duration = Duration::from_secs(5);
/// How often the server is asked whether it still takes the token. A call that was refused tells sooner.
const PROBE: Duration = Duration::from_secs(120);
/// Longest time for a connection and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// A token, and when it ends (since 1970).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub ends: Duration,
}

impl std::fmt::Debug for Token {
    /// Tokens do not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// What to do about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Renew,
    /// Ask the server whether it takes the token.
    Probe,
}

/// When to renew the token. Times are since 1970, `spread` is between 0 and 1 and random.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Instead of a part of the token's time.
    interval: Option<Duration>,
    renew_at: Duration,
    probe_at: Duration,
    /// Not before, however urgent.
    not_before: Duration,
}

impl Schedule {
    /// Renews at once.
    #[must_use]
    pub fn new(interval: Option<Duration>) -> Self {
        Self { interval, ..Self::default() }
    }

    /// `urgent`: the token was rejected, the file is gone, or the pod's own token changed (as with new signing keys).
    #[must_use]
    pub fn next(&self, now: Duration, urgent: bool) -> Action {
        if now < self.not_before {
            Action::Nothing
        } else if urgent || now >= self.renew_at {
            Action::Renew
        } else if now >= self.probe_at {
            Action::Probe
        } else {
            Action::Nothing
        }
    }

    /// A new token stands.
    pub fn renewed(&mut self, now: Duration, ends: Duration, spread: f64) {
        let left = ends.saturating_sub(now);
        let wait = match self.interval {
            // A token that ends soon is renewed soon, whatever the setting.
            Some(interval) if left >= MIN_WAIT * FRACTION => interval.min(left / 2),
            _ => left / FRACTION,
        };
        let wait = wait.max(MIN_WAIT);
        self.renew_at = now + wait + wait.mul_f64(spread.clamp(0.0, 1.0));
        self.probe_at = now + PROBE + PROBE.mul_f64(spread.clamp(0.0, 1.0));
        self.not_before = now + Duration::from_secs(1);
    }

    /// No token came.
    pub fn failed(&mut self, now: Duration, spread: f64) {
        self.renew_at = now;
        self.not_before = now + MIN_WAIT + MIN_WAIT.mul_f64(spread.clamp(0.0, 1.0));
    }

    /// The server was asked about the token.
    pub fn probed(&mut self, now: Duration) {
        self.probe_at = now + PROBE;
    }
}

/// A way to the Kubernetes API with the rights to ask for the plugin's token.
pub struct Access {
    config: Config,
    namespace: String,
    account: String,
}

impl Access {
    /// From `KUBECONFIG`, or from a pod's own files. None outside of Kubernetes.
    pub async fn find(settings: &Settings) -> Result<Option<Self>> {
        let wrong = |e: &dyn std::fmt::Display| InstallError::Kubernetes(e.to_string());
        let mut config = if let Some(path) = &settings.kubeconfig {
            let file = Kubeconfig::read_from(path).map_err(|e| wrong(&e))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|e| wrong(&e))?
        } else if settings.places.service_account_dir.join("token").is_file() {
            Config::incluster().map_err(|e| wrong(&e))?
        } else {
            tracing::info!("not in a pod and KUBECONFIG is not set: the plugin gets no kubeconfig");
            return Ok(None);
        };
        (config.connect_timeout, config.read_timeout) = (Some(CONNECT), Some(ANSWER));
        let namespace = config.default_namespace.clone();
        Ok(Some(Self { config, namespace, account: settings.service_account.clone() }))
    }

    /// Asks for a token.
    pub async fn request(&self) -> Result<Token> {
        let account = format!("{}/{}", self.namespace, self.account);
        let wrong = |reason: String| InstallError::Token { account: account.clone(), reason };
        let client = self.client(self.config.clone())?;
        let spec =
            TokenRequestSpec { expiration_seconds: Some(VALIDITY_SECS), ..TokenRequestSpec::default() };
        let asked = TokenRequest { spec, ..TokenRequest::default() };
        let accounts = Api::<ServiceAccount>::namespaced(client, &self.namespace);
        let parameters = PostParams::default();
        let answer = accounts.create_token_request(&self.account, &parameters, &asked);
        let given = match tokio::time::timeout(CONNECT + ANSWER, answer).await {
            Err(_) => return Err(wrong(format!("no answer from {}", self.server()))),
            Ok(Err(kube::Error::Api(e))) => {
                let hint = match e.code {
                    401 => "; this pod's own token is not valid",
                    403 => "; allow this pod's service account to create serviceaccounts/token",
                    404 => "; create the service account, or set CALICO_CNI_SERVICE_ACCOUNT",
                    _ => "",
                };
                return Err(wrong(format!("{}{hint}", e.message)));
            }
            Ok(Err(e)) => return Err(wrong(format!("{}: {e}", self.server()))),
            Ok(Ok(given)) => given,
        };
        let status = given.status.ok_or_else(|| wrong("the answer has none".to_owned()))?;
        let ends = u64::try_from(status.expiration_timestamp.0.as_second()).unwrap_or_default();
        Ok(Token { text: status.token, ends: Duration::from_secs(ends) })
    }

    /// True where the server refuses the token. A server that cannot be asked refuses nothing.
    pub async fn rejects(&self, token: &Token) -> bool {
        let mut config = self.config.clone();
        config.auth_info =
            kube::config::AuthInfo { token: Some(token.text.clone().into()), ..Default::default() };
        let Ok(client) = self.client(config) else { return false };
        let asked = tokio::time::timeout(CONNECT + ANSWER, client.apiserver_version()).await;
        matches!(asked, Ok(Err(kube::Error::Api(e))) if e.code == 401)
    }

    fn client(&self, config: Config) -> Result<Client> {
        Client::try_from(config).map_err(|e| InstallError::Kubernetes(e.to_string()))
    }

    /// `https://10.96.0.1:443`
    #[must_use]
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string().trim_end_matches('/').to_owned()
    }

    /// The server's certificate authority; empty where the system's roots are used.
    pub fn ca_pem(&self) -> Result<String> {
        if let Some(path) = &self.config.root_cert_file {
            return std::fs::read_to_string(path).map_err(super::files::at(path));
        }
        Ok(self.config.root_cert.iter().flatten().map(|der| pem(der)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Duration = Duration::from_secs(1_000_000_000);

    #[test]
    fn a_token_is_renewed_after_a_quarter_to_half_of_its_time() {
        for (spread, wait) in [(0.0, 6 * HOUR), (1.0, 12 * HOUR)] {
            let mut s = Schedule::new(None);
            assert_eq!(s.next(NOW, false), Action::Renew, "at the beginning");
            s.renewed(NOW, NOW + 24 * HOUR, spread);
            assert_ne!(s.next(NOW + wait - Duration::from_secs(1), false), Action::Renew);
            assert_eq!(s.next(NOW + wait, false), Action::Renew);
        }
    }

    #[test]
    fn a_rejected_token_is_renewed_at_once_and_then_not_every_moment() {
        let mut s = Schedule::new(None);
        s.renewed(NOW, NOW + 24 * HOUR, 0.5);
        let later = NOW + HOUR;
        assert_eq!(s.next(later, true), Action::Renew);
        s.failed(later, 0.0);
        assert_eq!(s.next(later + MIN_WAIT - Duration::from_millis(1), true), Action::Nothing);
        assert_eq!(s.next(later + MIN_WAIT, false), Action::Renew, "a failure is not forgotten");
        s.renewed(later, later + 24 * HOUR, 0.0);
        assert_eq!(s.next(later, true), Action::Nothing);
        assert_eq!(s.next(later + Duration::from_secs(1), true), Action::Renew);
    }

    #[test]
    fn the_server_is_asked_now_and_then() {
        let mut s = Schedule::new(None);
        s.renewed(NOW, NOW + 24 * HOUR, 0.0);
        let later = NOW + PROBE;
        assert_eq!(s.next(later, false), Action::Probe);
        s.probed(later);
        assert_eq!(s.next(later, false), Action::Nothing);
        assert_eq!(s.next(later + PROBE, false), Action::Probe);
    }

    #[test]
    fn a_token_that_ends_before_the_set_interval_is_renewed_in_time() {
        let mut s = Schedule::new(Some(48 * HOUR));
        s.renewed(NOW, NOW + HOUR, 0.0);
        assert_eq!(s.next(NOW + HOUR / 2, false), Action::Renew);
        // The clock of the server is behind ours: the token seems to have ended.
        s.renewed(NOW, NOW - HOUR, 0.0);
        assert_eq!(s.next(NOW + MIN_WAIT, false), Action::Renew);
    }
}
