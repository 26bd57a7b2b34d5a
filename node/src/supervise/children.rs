//! What each daemon is started with. File names and flags are upstream's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::ChildSpec;
use crate::environment::Backend;

/// Where the daemons and their files are.
#[derive(Clone, Debug)]
pub struct Paths {
    pub felix: PathBuf,
    pub confd: PathBuf,
    pub bird: PathBuf,
    /// confd's directory; the rendered file is `config/bird.cfg` in it.
    pub confdir: PathBuf,
    /// The BGP daemon's control socket.
    pub control_socket: PathBuf,
}

impl Paths {
    /// `CONFDIR/config/bird.cfg`.
    #[must_use]
    pub fn bird_config(&self) -> PathBuf {
        self.confdir.join("config/bird.cfg")
    }
}

/// A program beside this one, or by name in `PATH`.
#[must_use]
pub fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|p| Some(p.parent()?.join(name)))
        .filter(|p| p.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// The daemons of a node, in the order in which they are started. BGP's two run where BGP routes.
#[must_use]
pub fn specs(paths: &Paths, backend: Backend, node_name: &str) -> Vec<ChildSpec> {
    let mut specs = vec![felix(paths, node_name)];
    if backend == Backend::Bird {
        specs.push(confd(paths, node_name));
        specs.push(bird(paths));
    }
    specs
}

/// calico-felix, with the node's name as its own.
#[must_use]
pub fn felix(paths: &Paths, node_name: &str) -> ChildSpec {
    ChildSpec {
        name: "felix",
        program: paths.felix.clone(),
        arguments: Vec::new(),
        environment: vec![
            ("FELIX_FELIXHOSTNAME".to_owned(), node_name.to_owned()),
            ("NODENAME".to_owned(), node_name.to_owned()),
        ],
        stop_signal: Signal::SIGTERM,
        wait_for: None,
    }
}

/// confd, rendering at every change.
#[must_use]
pub fn confd(paths: &Paths, node_name: &str) -> ChildSpec {
    ChildSpec {
        name: "confd",
        program: paths.confd.clone(),
        arguments: vec![
            "-watch".into(),
            flag("-confdir", &paths.confdir),
            flag("-control-socket", &paths.control_socket),
        ],
        environment: vec![("NODENAME".to_owned(), node_name.to_owned())],
        stop_signal: Signal::SIGTERM,
        wait_for: None,
    }
}

/// The BGP daemon, in the foreground, recovering from a graceful restart, once confd has rendered.
///
/// It is ended by SIGKILL on purpose: a daemon that may say goodbye tells its neighbours to forget its routes; one that
/// falls silent is restarting gracefully (RFC 4724), and traffic goes on.
#[must_use]
pub fn bird(paths: &Paths) -> ChildSpec {
    let config = paths.bird_config();
    ChildSpec {
        name: "bird",
        program: paths.bird.clone(),
        arguments: vec![
            "-f".into(),
            "-R".into(),
            "-c".into(),
            config.clone().into(),
            "-s".into(),
            paths.control_socket.clone().into(),
        ],
        environment: Vec::new(),
        stop_signal: Signal::SIGKILL,
        wait_for: Some(config),
    }
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(path);
    text
}
