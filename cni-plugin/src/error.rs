//! The one error of the plugins: code, message and details as the CNI specification prints them.
//!
//! Codes below 100 are the specification's ("Well-known Error Codes"); those from 100 on are ours.

use libcalico_datastore::DatastoreError;
use libcalico_ipam::IpamError;
use serde::Serialize;

/// What went wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct CniError {
    pub code: Code,
    pub msg: String,
    /// More for the person: what was tried, what to do. May be empty.
    pub details: String,
    /// A server refused the credentials: whoever keeps them should renew them.
    pub refused: bool,
}

/// Codes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    /// The runtime should try again.
    TryAgainLater = 11,
    /// STATUS: the plugin cannot serve ADD.
    NotAvailable = 50,
    /// The kernel refused a part of the network.
    Network = 100,
    /// No address could be assigned or freed.
    Ipam = 101,
    /// CHECK found something else than ADD made.
    CheckFailed = 102,
    /// The datastore refused, or what it holds is wrong.
    Datastore = 103,
    /// The plugin itself is wrong.
    Internal = 104,
}

#[derive(Serialize)]
struct Printed<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new(), refused: false }
    }

    /// The same with more for the person.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds what else went wrong.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(more);
        self
    }

    /// As printed on standard output.
    #[must_use]
    pub fn to_json(&self, cni_version: &str) -> String {
        let p = Printed { cni_version, code: self.code as u32, msg: &self.msg, details: &self.details };
        crate::result::pretty(&p)
    }
}

impl From<DatastoreError> for CniError {
    fn from(e: DatastoreError) -> Self {
        let code = match &e {
            DatastoreError::Configuration { .. } => Code::InvalidConfig,
            e if e.retryable() => Code::TryAgainLater,
            _ => Code::Datastore,
        };
        let cni =
            Self { refused: matches!(e, DatastoreError::Unauthorized(_)), ..Self::new(code, e.to_string()) };
        // Of a certificate that it does not accept, a server may say no more than that it hangs up.
        match &e {
            DatastoreError::Unreachable { endpoints, .. } if endpoints.contains("https://") => {
                cni.with_details("if it runs, look at the certificates: the authority's and the client's own")
            }
            _ => cni,
        }
    }
}

impl From<IpamError> for CniError {
    fn from(e: IpamError) -> Self {
        match e {
            IpamError::Datastore(e) => e.into(),
            e => Self::new(if e.retryable() { Code::TryAgainLater } else { Code::Ipam }, e.to_string()),
        }
    }
}
