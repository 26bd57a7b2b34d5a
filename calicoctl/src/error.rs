//! What went wrong, in upstream's words where it has some.

use libcalico_datastore::DatastoreError;
use libcalico_ipam::IpamError;
use libcalico_model::Key;

use crate::resource_file::FileError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that does not go together.
    #[error("{0}")]
    Usage(String),
    #[error("{context}resource type '{kind}' is not supported")]
    UnknownKind { context: &'static str, kind: String },
    /// Files could not be read, or an object in them is wrong. Nothing was written.
    #[error("Failed to execute command: {0}")]
    Files(#[from] FileError),
    #[error("{}", datastore_message(.0))]
    Datastore(#[from] DatastoreError),
    #[error("{0}")]
    Ipam(#[from] IpamError),
    /// One or several objects could not be written.
    #[error("{0}")]
    Action(String),
    /// The daemon on this node does not answer, or not as BIRD does.
    #[error("{0}")]
    Bird(#[from] crate::bird::BirdError),
    #[error("Calico process is not running.")]
    NotRunning,
    #[error(
        "Version mismatch.\nClient Version:   {client}\nCluster Version:  {cluster}\nUse --allow-version-mismatch to override.\n"
    )]
    VersionMismatch { client: String, cluster: String },
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// A kind that is written with calicoctl and read with kubectl.
    #[must_use]
    pub fn of_kubernetes(kind: crate::foreign::ForeignKind) -> Self {
        Self::Usage(format!(
            "{} is no kind of projectcalico.org/v3: read it with `kubectl get {}`",
            kind.name(),
            kind.for_kubectl()
        ))
    }

    /// A kind that no command knows.
    #[must_use]
    pub fn unknown_kind(kind: &str) -> Self {
        Self::UnknownKind { context: "failed to get resources: ", kind: kind.to_owned() }
    }
}

fn subject(key: &Key) -> String {
    match key {
        Key::Resource(r) => r.to_string(),
        other => other.to_string(),
    }
}

/// Upstream's wording, down to the nil that it prints.
#[must_use]
pub fn datastore_message(e: &DatastoreError) -> String {
    match e {
        DatastoreError::NotFound(k) => format!("resource does not exist: {} with error: <nil>", subject(k)),
        DatastoreError::AlreadyExists(k) => {
            format!("resource already exists: {} with error: <nil>", subject(k))
        }
        DatastoreError::Conflict(k) => format!("update conflict: {}", subject(k)),
        DatastoreError::Invalid { key, reasons } => {
            let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            format!("{} is not valid: {}", subject(key), reasons.join("; "))
        }
        other => other.to_string(),
    }
}
