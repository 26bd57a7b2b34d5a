//! Named network namespaces, as `ip netns` makes and shows them.
//!
//! In: names. Out: namespaces bound to `/run/netns/NAME`, and work done inside them.
//! What always holds: the calling thread never changes its namespace; deleting is idempotent.
//! Left out: who is inside; see [`crate::process`].

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Result;
use crate::error::Doing;

const DIR: &str = "/run/netns";

/// Where a named namespace is bound.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes a namespace with its loopback interface up and IPv6 addresses usable at once.
pub fn create(name: &str) -> Result<()> {
    share_dir()?;
    let path = path(name);
    File::create_new(&path).doing(|| format!("making network namespace {name}"))?;
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).doing(|| format!("making network namespace {name}"))?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing(|| format!("binding network namespace {name}"))?;
        // Duplicate address detection would leave addresses tentative for a second.
        let dad = "/proc/sys/net/ipv6/conf/default/accept_dad";
        fs::write(dad, "0").doing(|| format!("writing {dad} in {name}"))
    })?;
    super::links::set_up(name, "lo")
}

/// Makes the folder a shared mount, as `ip netns` does, so that namespaces made and removed later are seen in,
/// and not held by, the mount namespaces of running machines.
fn share_dir() -> Result<()> {
    fs::create_dir_all(DIR).doing(|| format!("making {DIR}"))?;
    let share = || mount(None::<&str>, DIR, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Err(Errno::EINVAL) => {
            mount(Some(DIR), DIR, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .doing(|| format!("mounting {DIR}"))?;
            share().doing(|| format!("sharing {DIR}"))
        }
        result => result.doing(|| format!("sharing {DIR}")),
    }
}

/// Removes a namespace's name; the kernel ends the namespace when nothing uses it any more.
pub fn delete(name: &str) -> Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: the file stands there but was never mounted on.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(e) => return Err(e).doing(|| format!("unmounting network namespace {name}")),
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).doing(|| format!("removing network namespace {name}"))
        }
        _ => Ok(()),
    }
}

/// The names of all namespaces that begin with `prefix`, sorted.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).doing(|| format!("listing {DIR}")),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    Ok(names)
}

/// The inode number by which the kernel tells namespaces apart, as in `/proc/PID/ns/net`; none when the name
/// has no namespace (any more).
pub fn inode(name: &str) -> Option<u64> {
    let own = fs::metadata("/proc/self/ns/net").ok()?;
    let named = fs::metadata(path(name)).ok()?;
    // A file left by a maker that was killed before it bound the namespace is on another device.
    (named.dev() == own.dev()).then(|| named.ino())
}

/// Moves the calling thread into a namespace. Only for threads that end afterwards.
pub(crate) fn enter(name: &str) -> Result<()> {
    let file = File::open(path(name)).doing(|| format!("opening network namespace {name}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).doing(|| format!("entering network namespace {name}"))
}

/// Runs `work` on a thread of its own inside a namespace. Sockets it opens stay in that namespace wherever they
/// are used afterwards.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_own_thread(|| {
        enter(name)?;
        work()
    })
}

/// Runs `work` on a thread of its own inside the namespace of a process.
pub fn within_process<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_own_thread(|| {
        let what = || format!("entering the network namespace of process {pid}");
        let file = File::open(format!("/proc/{pid}/ns/net")).doing(what)?;
        setns(file, CloneFlags::CLONE_NEWNET).doing(what)?;
        work()
    })
}

/// Runs `work` on a thread of its own, so that namespaces it enters end with it; a panic passes through.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
