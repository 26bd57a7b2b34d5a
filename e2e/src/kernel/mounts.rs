//! What a machine of the lab sees of the file system: the host's files, with private folders where Calico writes.
//!
//! In: the machine's folder in the lab's state. Out: a mount namespace, made anew for every process that enters
//! the machine, in which
//! - `/etc`, `/opt`, `/var/lib`, `/var/log` are the host's, read-only, plus the folders listed in [`PRIVATE`];
//! - those folders, and `/run` as a whole, are the machine's own, writable and shared by its processes;
//! - `/sys` shows the machine's network.
//!
//! What always holds: the host's files are not changed, not even by an empty mount point; nothing stays mounted
//! after the last process of the machine has ended.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use crate::Result;
use crate::error::Doing;

/// Folders a machine has for itself, below the parents that [`PARENTS`] opens up.
pub const PRIVATE: [&str; 7] = [
    "/etc/calico",
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/var/lib/calico",
    "/var/lib/cni",
    "/var/lib/etcd",
    "/var/log/calico",
];

/// The host's folders that get mount points for [`PRIVATE`] through a read-only overlay.
const PARENTS: [&str; 4] = ["/etc", "/opt", "/var/lib", "/var/log"];

/// A machine's folder in the lab's state.
#[derive(Clone, Debug)]
pub struct MachineRoot(pub PathBuf);

impl MachineRoot {
    /// Where a file of the machine, given by its path inside, is found from outside.
    pub fn outside(&self, inside: &str) -> PathBuf {
        self.0.join("fs").join(inside.trim_start_matches('/'))
    }

    fn skeleton(&self, path: &str) -> PathBuf {
        self.0.join("mountpoints").join(path.trim_start_matches('/'))
    }

    /// Makes the machine's folders.
    pub fn prepare(&self) -> Result<()> {
        let make = |path: PathBuf| fs::create_dir_all(&path).doing(|| format!("making {}", path.display()));
        for path in PRIVATE {
            make(self.outside(path))?;
            make(self.skeleton(path))?;
        }
        for path in ["/run/calico", "/run/netns", "/run/lock"] {
            make(self.outside(path))?;
        }
        make(self.0.join("log"))
    }

    /// Gives the calling thread the machine's view of the files. The thread must already be in the machine's
    /// network namespace (for `/sys`) and must end afterwards.
    pub(crate) fn enter(&self, hostname: &str) -> Result<()> {
        own_mounts()?;
        unshare(CloneFlags::CLONE_NEWUTS).doing(|| format!("making {hostname}'s UTS namespace"))?;
        sethostname(hostname).doing(|| format!("naming {hostname}"))?;
        for parent in PARENTS {
            let options = format!("lowerdir={}:{parent}", self.skeleton(parent).display());
            mount(Some("overlay"), parent, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
                .doing(|| format!("laying {hostname}'s mount points over {parent}"))?;
        }
        for path in PRIVATE {
            bind(&self.outside(path), Path::new(path))?;
        }
        // The namespaces' names must stay visible below the machine's own /run.
        bind(Path::new("/run/netns"), &self.outside("/run/netns"))?;
        bind(&self.outside("/run"), Path::new("/run"))
    }
}

/// A mount namespace for the calling thread alone, with a `/sys` of its network namespace. What the host mounts
/// or unmounts later is seen, so that a removed namespace is not held.
pub(crate) fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).doing(|| "making a mount namespace".to_owned())?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .doing(|| "separating the mount namespace".to_owned())?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .doing(|| "mounting /sys".to_owned())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .doing(|| format!("mounting {} at {}", from.display(), to.display()))
}
