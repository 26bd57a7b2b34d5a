//! The API server's refusals in the model's words.

use std::fmt::Write as _;

use kube::core::Status;
use libcalico_api::Invalid;
use libcalico_model::{Key, Revision};

use crate::DatastoreError;

/// Why a request failed, before it is known which key it was about.
#[derive(Debug)]
pub enum ApiError {
    /// No such object, or no such kind of object.
    NotFound(String),
    AlreadyExists,
    /// Someone else changed the object.
    Conflict(String),
    /// 410: the revision is no longer kept.
    Gone,
    /// The API server's validation.
    Invalid(Vec<Invalid>),
    /// Everything else.
    Datastore(DatastoreError),
}

impl ApiError {
    /// The error of an operation on a key.
    pub fn on(self, key: &Key) -> DatastoreError {
        match self {
            Self::NotFound(_) => DatastoreError::NotFound(key.clone()),
            Self::AlreadyExists => DatastoreError::AlreadyExists(key.clone()),
            Self::Conflict(_) => DatastoreError::Conflict(key.clone()),
            Self::Invalid(reasons) => DatastoreError::Invalid { key: Box::new(key.clone()), reasons },
            Self::Gone => DatastoreError::Compacted(Revision(key.path())),
            Self::Datastore(e) => e,
        }
    }

    /// The error of an operation on a collection.
    pub fn in_collection(self, path: &str, from: &str) -> DatastoreError {
        let other = |reason: String| DatastoreError::Other { key: path.to_owned(), reason };
        match self {
            Self::Gone => DatastoreError::Compacted(Revision(from.to_owned())),
            Self::Datastore(e) => e,
            Self::NotFound(message) => other(format!("{message}; are Calico's CRDs installed?")),
            Self::Conflict(message) => other(message),
            Self::AlreadyExists | Self::Invalid(_) => other("the API server refused to list".to_owned()),
        }
    }
}

/// Translates the client's error of a request to `path`.
pub fn translate(endpoint: &str, path: &str, error: &kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => refusal(endpoint, path, status),
        kube::Error::Auth(e) => ApiError::Datastore(DatastoreError::Unauthorized(chain(e))),
        kube::Error::Service(e) => ApiError::Datastore(unreachable(endpoint, chain(&**e))),
        kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            ApiError::Datastore(unreachable(endpoint, chain(error)))
        }
        e => ApiError::Datastore(DatastoreError::Other { key: path.to_owned(), reason: chain(e) }),
    }
}

/// A status that the API server answered with, or sent as the last event of a watch.
pub fn refusal(endpoint: &str, path: &str, status: &Status) -> ApiError {
    let message = || status.message.clone();
    let other = |reason: String| ApiError::Datastore(DatastoreError::Other { key: path.to_owned(), reason });
    match status.code {
        404 => ApiError::NotFound(message()),
        409 if status.reason == "AlreadyExists" => ApiError::AlreadyExists,
        409 => ApiError::Conflict(message()),
        410 => ApiError::Gone,
        422 => ApiError::Invalid(causes(status)),
        403 if status.message.contains("being terminated") => other(message()),
        401 | 403 => ApiError::Datastore(DatastoreError::Unauthorized(message())),
        // Too many requests, or a server that starts, stops or lost its own store.
        429 | 500..=599 => ApiError::Datastore(unreachable(endpoint, message())),
        _ => other(message()),
    }
}

fn causes(status: &Status) -> Vec<Invalid> {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    if causes.is_empty() {
        return vec![Invalid {
            path: "object".to_owned(),
            value: String::new(),
            reason: status.message.clone(),
        }];
    }
    causes
        .iter()
        .map(|c| Invalid { path: c.field.clone(), value: String::new(), reason: c.message.clone() })
        .collect()
}

pub fn unreachable(endpoint: &str, reason: impl Into<String>) -> DatastoreError {
    DatastoreError::Unreachable { endpoints: endpoint.to_owned(), reason: reason.into() }
}

/// An error with its causes: the last one is what a person needs (`Connection refused`, `invalid peer certificate`).
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        let cause = e.to_string();
        if !text.contains(&cause) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {cause}");
        }
        source = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str) -> Status {
        let mut s = Status::failure("why", reason);
        s.code = code;
        s
    }

    #[test]
    fn each_refusal_has_its_word() {
        let key = Key::IpamConfig;
        let on = |code, reason| refusal("api", "/p", &status(code, reason)).on(&key);
        assert!(matches!(on(404, "NotFound"), DatastoreError::NotFound(_)));
        assert!(matches!(on(409, "AlreadyExists"), DatastoreError::AlreadyExists(_)));
        assert!(matches!(on(409, "Conflict"), DatastoreError::Conflict(_)));
        assert!(matches!(on(410, "Expired"), DatastoreError::Compacted(_)));
        assert!(matches!(on(401, "Unauthorized"), DatastoreError::Unauthorized(_)));
        assert!(matches!(on(403, "Forbidden"), DatastoreError::Unauthorized(_)));
        assert!(matches!(on(503, "ServiceUnavailable"), DatastoreError::Unreachable { .. }));
        assert!(matches!(on(429, "TooManyRequests"), DatastoreError::Unreachable { .. }));
        assert!(on(422, "Invalid").to_string().contains("why"));
        assert!(matches!(on(400, "BadRequest"), DatastoreError::Other { .. }));
    }
}
