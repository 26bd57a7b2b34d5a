//! The form in which inputs are recorded: one JSON object a line, so that a recording can be cut, mixed and read.
//!
//! | line | meaning |
//! |---|---|
//! | `{"hostname":"node-a"}` | first line: whose calculation it is; may carry `routeSource`, `ipipEnabled`, `vxlanEnabled`. Again: Felix began anew in place, the datastore comes from its beginning |
//! | `{"key":"/calico/…","value":{…}}` | an object; `"value":null` and no `raw`: it was deleted |
//! | `{"key":"/calico/…","raw":"text"}` | a value that is plain text |
//! | `{"status":"in-sync"}` | `wait-for-datastore`, `resync-in-progress` or `in-sync` |
//! | `{"flush":true}` | messages were asked for here |
//! | `{"expected":{…}}` | optional: the outcome that should stand after the last flush |
//! | `{"end":"why"}` | last line: the recording has ended, Felix went on |
//!
//! Pure: text to events and back. The file is the agent's.

use libcalico_model::{Key, SyncStatus, SyncerEvent, Update, Value};
use serde::{Deserialize, Serialize};

use crate::graph::Config;
use crate::outcome::Outcome;
use crate::routes::RouteSource;

/// A line of a recording.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Event {
    Start(Config),
    Update(Update),
    Status(SyncStatus),
    Flush,
    Expected(Box<Outcome>),
    /// Nothing more is recorded, with the reason.
    End(String),
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipip_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vxlan_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    flush: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Box<Outcome>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

const STATUSES: [(SyncStatus, &str); 3] = [
    (SyncStatus::WaitForDatastore, "wait-for-datastore"),
    (SyncStatus::ResyncInProgress, "resync-in-progress"),
    (SyncStatus::InSync, "in-sync"),
];

impl Event {
    /// The line, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = Line::default();
        match self {
            Self::Start(config) => {
                line.hostname = Some(config.hostname.clone());
                line.ipip_enabled = config.ipip_enabled;
                line.vxlan_enabled = config.vxlan_enabled;
                line.route_source =
                    (config.route_source == RouteSource::WorkloadIps).then(|| "WorkloadIPs".to_owned());
            }
            Self::Update(update) => {
                line.key = Some(update.key.path());
                match &update.value {
                    Some(Value::Text(text)) => line.raw = Some(text.clone()),
                    Some(value) => {
                        let bytes = value.to_bytes();
                        line.value = serde_json::from_slice(&bytes).ok();
                    }
                    None => {}
                }
            }
            Self::Status(status) => {
                let name = STATUSES.iter().find(|(s, _)| s == status).map(|(_, n)| (*n).to_owned());
                line.status = name;
            }
            Self::Flush => line.flush = true,
            Self::Expected(outcome) => line.expected = Some(outcome.clone()),
            Self::End(reason) => line.end = Some(reason.clone()),
        }
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line. `number` is for the error.
    pub fn from_line(text: &str, number: usize) -> Result<Self, LineError> {
        let wrong = |reason: String| LineError { line: number, reason };
        let line: Line = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if let Some(path) = line.key {
            return update(&path, line.value.as_ref(), line.raw.as_deref()).map(Self::Update).map_err(wrong);
        }
        if let Some(status) = line.status {
            let found = STATUSES.iter().find(|(_, n)| *n == status).map(|(s, _)| Self::Status(*s));
            return found.ok_or_else(|| wrong(format!("unknown status {status:?}")));
        }
        if let Some(hostname) = line.hostname {
            return Ok(Self::Start(Config {
                hostname,
                route_source: route_source(line.route_source.as_deref()),
                ipip_enabled: line.ipip_enabled,
                vxlan_enabled: line.vxlan_enabled,
            }));
        }
        if let Some(expected) = line.expected {
            return Ok(Self::Expected(expected));
        }
        if let Some(reason) = line.end {
            return Ok(Self::End(reason));
        }
        if line.flush { Ok(Self::Flush) } else { Err(wrong("no event".to_owned())) }
    }
}

/// Lines for what a syncer sent.
#[must_use]
pub fn lines(event: &SyncerEvent) -> Vec<String> {
    match event {
        SyncerEvent::Status(status) => vec![Event::Status(*status).to_line()],
        SyncerEvent::Updates(updates) => updates.iter().map(|u| Event::Update(u.clone()).to_line()).collect(),
    }
}

/// `RouteSource` as configuration writes it.
#[must_use]
pub fn route_source(text: Option<&str>) -> RouteSource {
    match text {
        Some(t) if t.eq_ignore_ascii_case("WorkloadIPs") => RouteSource::WorkloadIps,
        _ => RouteSource::CalicoIpam,
    }
}

/// An update from its path and value: JSON, or plain text. Neither: a deletion. A value that is not valid counts as
/// absent, as it does on the way from the datastore; a path that is none is an error.
pub fn update(path: &str, value: Option<&serde_json::Value>, raw: Option<&str>) -> Result<Update, String> {
    let key: Key = path.parse().map_err(|e: libcalico_model::key::KeyError| e.to_string())?;
    let bytes = match (raw, value) {
        (Some(raw), _) => Some(raw.as_bytes().to_vec()),
        (None, None | Some(serde_json::Value::Null)) => None,
        (None, Some(serde_json::Value::String(text)))
            if matches!(key, Key::GlobalConfig(_) | Key::HostConfig { .. } | Key::HostIp(_)) =>
        {
            Some(text.clone().into_bytes())
        }
        (None, Some(value)) => Some(value.to_string().into_bytes()),
    };
    let value = bytes.and_then(|bytes| match Value::parse(&key, &bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, "not valid: taken as absent");
            None
        }
    });
    Ok(Update { key, value, revision: libcalico_model::Revision::default() })
}
