//! etcd's errors in the model's words.

use std::error::Error as _;
use std::fmt::Write as _;

use etcd_client::Error;
use libcalico_model::Revision;
use tonic::Code;

use crate::DatastoreError;

/// Translates an error of a call about `subject` (a path).
pub fn translate(endpoint: &str, subject: &str, error: &Error) -> DatastoreError {
    let unreachable = |reason: String| DatastoreError::Unreachable { endpoints: endpoint.to_owned(), reason };
    let other = |reason: String| DatastoreError::Other { key: subject.to_owned(), reason };
    match error {
        Error::GRpcStatus(s) => match s.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                DatastoreError::Unauthorized(s.message().to_owned())
            }
            Code::InvalidArgument | Code::FailedPrecondition if is_auth(s.message()) => {
                DatastoreError::Unauthorized(s.message().to_owned())
            }
            // Which revision it was is the caller's to add.
            Code::OutOfRange if s.message().contains("compacted") => {
                DatastoreError::Compacted(Revision::default())
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => unreachable(reason_of(s)),
            // What hyper and h2 report of a connection that broke arrives as Unknown or Internal with a source.
            Code::Unknown | Code::Internal if s.source().is_some() => unreachable(reason_of(s)),
            _ => other(format!("{}: {}", s.code().description(), s.message())),
        },
        Error::TransportError(e) => unreachable(chain(e)),
        Error::IoError(e) => unreachable(e.to_string()),
        Error::InvalidArgs(e) => {
            DatastoreError::Configuration { what: "etcd client".to_owned(), reason: e.clone() }
        }
        Error::InvalidUri(e) => {
            DatastoreError::Configuration { what: format!("etcd endpoint {endpoint}"), reason: e.to_string() }
        }
        e => other(e.to_string()),
    }
}

/// True where the next call should not use the same connection: it broke, or the server no longer knows who is on it.
pub fn connection_is_bad(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(s) => {
            matches!(
                s.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unauthenticated
            ) || s.source().is_some()
        }
        Error::TransportError(_) | Error::IoError(_) => true,
        _ => false,
    }
}

/// True where the request cannot have reached a server, so that another may be asked without doing a thing twice.
pub fn never_reached(error: &Error) -> bool {
    let source: Option<&(dyn std::error::Error + 'static)> = match error {
        Error::GRpcStatus(s) => s.source(),
        Error::TransportError(e) => Some(e),
        _ => None,
    };
    let mut cause = source;
    while let Some(e) = cause {
        if e.is::<tonic::ConnectError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

fn is_auth(message: &str) -> bool {
    ["authentication failed", "auth", "password", "user name"].iter().any(|w| message.contains(w))
}

fn reason_of(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    }
}

/// An error with its causes: the last one is what a person needs (`Connection refused`, `invalid peer certificate`).
fn chain(error: &dyn std::error::Error) -> String {
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
