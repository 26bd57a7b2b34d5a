//! What can go wrong in a lab, each with the subject in it and a hint for the person.
//!
//! Left out: retries. A lab either does what it was told within its time limits or says why not.

use std::path::PathBuf;

/// The result of everything a lab does.
pub type Result<T> = std::result::Result<T, LabError>;

/// Why a lab could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// `up` with a name that is taken.
    #[error(
        "a lab named {name} stands already: `lab down --name {name}` removes it, `--name OTHER` makes one beside it"
    )]
    Exists { name: String },
    /// Any other verb with a name that is not there.
    #[error("there is no lab named {name}: `lab up --name {name}` makes it")]
    NotFound { name: String },
    /// Another command holds the lab's lock.
    #[error("lab {name} is in use by another `lab` command; wait for it or end it, then try again")]
    Busy { name: String },
    /// Namespaces need privileges.
    #[error("a lab needs root: it makes network namespaces")]
    NotRoot,
    /// A lab's, pod's or node's name that cannot be used.
    #[error("{name:?} cannot be used as a name: {why}")]
    BadName { name: String, why: &'static str },
    /// A number outside what the address plan allows.
    #[error("{what} must be between {min} and {max}")]
    OutOfRange { what: &'static str, min: usize, max: usize },
    /// A place that is neither a machine nor a pod of this lab.
    #[error("{place:?} is no machine or pod of this lab; there are: {known}")]
    UnknownPlace { place: String, known: String },
    /// A pod that is there already.
    #[error("pod {pod} runs already: `lab pod delete {pod}` removes it")]
    PodExists { pod: String },
    /// A pod that is not there.
    #[error("there is no pod {pod}: `lab status` lists them")]
    NoSuchPod { pod: String },
    /// A system call or file operation.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// A netlink request.
    #[error("{what}: {source}")]
    Netlink {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    /// A state file that cannot be read or written.
    #[error("{path}: {source}; if it stays so, `lab down` removes the lab all the same")]
    State {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A binary of the product is missing.
    #[error("{program} is not in {dir}: build it (`make build`) or say where it is with --bin-dir")]
    NoProgram { program: String, dir: PathBuf },
    /// A program of the distribution is missing.
    #[error("{program} is not installed: apt-get install {package}")]
    NotInstalled { program: &'static str, package: &'static str },
    /// A daemon ended or did not become ready in time.
    #[error("{process} on {machine} {what}\n--- last lines of {log} ---\n{tail}\n---", log = log.display())]
    Daemon { machine: String, process: String, what: String, log: PathBuf, tail: String },
    /// A CNI plugin answered with an error.
    #[error("CNI plugin {plugin} {command} for pod {pod} failed: {message}")]
    Cni { plugin: String, command: &'static str, pod: String, message: String },
    /// A command inside the lab failed where success was needed.
    #[error("`{command}` on {place} ended with {code}: {stderr}")]
    Command { command: String, place: String, code: i32, stderr: String },
    /// Something was waited for and did not come.
    #[error("waited {seconds} s for {what}; last seen: {seen}")]
    Timeout { what: String, seconds: u64, seen: String },
}

impl LabError {
    /// Wraps an operating system error with what was being done.
    pub fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}

/// Adds what was being done to an operating system error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| LabError::io(what(), e))
    }
}
