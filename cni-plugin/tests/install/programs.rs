//! Programs while they are used, killed installers, and disks that are full or cannot be written.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use libcalico_testing::{Need, can_run};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::host::{Host, finish};

const QUIET: [(&str, &str); 2] = [("SLEEP", "false"), ("CNI_CONF_PUBLISH", "now")];

/// Another version of the same program: what is behind an ELF file's end does not matter to the kernel.
fn next_version(host: &Host) {
    for name in ["calico", "calico-ipam"] {
        let mut file = OpenOptions::new().append(true).open(host.path("image").join(name)).unwrap();
        file.write_all(b"another version").unwrap();
    }
}

fn works(host: &Host) -> Result<(), String> {
    let out = Command::new(host.bin("calico"))
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&out.stdout);
    if out.status.success() && said.contains("1.1.0") { Ok(()) } else { Err(format!("{out:?}")) }
}

#[test]
fn the_plugin_can_be_called_at_every_moment_of_an_upgrade() {
    let host = Host::new();
    host.run(&QUIET).unwrap();
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|s| {
        let caller = s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                works(&host).unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..4 {
            next_version(&host);
            host.run(&QUIET).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        caller.join().unwrap();
    });
    assert!(calls.load(Ordering::Relaxed) > 4, "{calls:?}");
    let same = fs::read(host.bin("calico")).unwrap() == fs::read(host.path("image/calico")).unwrap();
    assert!(same, "the last version is installed");
}

#[test]
fn a_killed_installer_leaves_a_whole_program_and_the_next_one_cleans_up() {
    let host = Host::new();
    host.run(&QUIET).unwrap();
    for i in 0..12 {
        next_version(&host);
        let mut child =
            host.command().envs(QUIET).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 * i));
        child.kill().unwrap();
        child.wait().unwrap();
        works(&host).unwrap();
    }
    host.run(&QUIET).unwrap();
    assert_eq!(host.all_below("bin"), ["calico", "calico-ipam", "portmap"]);
}

/// Runs code in a mount namespace of its own, so that what it mounts is nobody else's and goes with it.
fn with_own_mounts<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| {
        let thread = s.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            f()
        });
        thread.join().unwrap()
    })
}

fn tmpfs(dir: &std::path::Path, size: &str, flags: MsFlags) {
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(format!("size={size}").as_str())).unwrap();
}

#[test]
fn a_full_disk_is_told_and_what_stood_still_works() {
    if !can_run(&[Need::Root]) {
        return;
    }
    let host = Host::new();
    with_own_mounts(|| {
        let size = fs::metadata(host.path("image/calico")).unwrap().len();
        // Room for two programs, not for a third while the old one stands.
        tmpfs(&host.path("bin"), &format!("{}k", size * 5 / 2 / 1024), MsFlags::empty());
        host.run(&QUIET).unwrap();
        next_version(&host);
        let e = host.run(&QUIET).unwrap_err();
        assert!(e.contains("free space") && e.contains("/bin/calico"), "{e}");
        works(&host).unwrap();
        assert_eq!(
            host.all_below("bin"),
            ["calico", "calico-ipam", "portmap"],
            "nothing half written is left"
        );
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_skipped_unless_it_is_the_last() {
    if !can_run(&[Need::Root]) {
        return;
    }
    let host = Host::new();
    host.run(&QUIET).unwrap();
    let other = host.path("secondary");
    fs::create_dir(&other).unwrap();
    with_own_mounts(|| {
        // The host's directory with what is in it, read-only.
        let bin = host.path("bin");
        mount(Some(&bin), &bin, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, &bin, None::<&str>, flags, None::<&str>).unwrap();
        let e = host.run(&QUIET).unwrap_err();
        assert!(e.contains("/bin: Read-only") && e.contains("UPDATE_CNI_BINARIES=false"), "{e}");
        // Part of the host's image.
        let baked: Vec<_> = QUIET.into_iter().chain([("UPDATE_CNI_BINARIES", "false")]).collect();
        host.run(&baked).unwrap();
        finish(host.command().arg("--host-bin-dir").arg(&other).envs(QUIET)).unwrap();
        assert!(other.join("calico").is_file());
        // The configuration's directory has no substitute.
        tmpfs(&host.path("net.d"), "1m", MsFlags::MS_RDONLY);
        let e = finish(host.command().arg("--host-bin-dir").arg(&other).envs(QUIET)).unwrap_err();
        assert!(e.contains("net.d") && e.contains("writable"), "{e}");
    });
}

#[test]
fn programs_are_skipped_and_kept_as_wished() {
    let host = Host::new();
    let skip: Vec<_> = QUIET.into_iter().chain([("SKIP_CNI_BINARIES", "portmap, bandwidth")]).collect();
    host.run(&skip).unwrap();
    assert_eq!(host.all_below("bin"), ["calico", "calico-ipam"]);
    fs::write(host.bin("calico"), "the host's own").unwrap();
    let keep: Vec<_> = QUIET.into_iter().chain([("UPDATE_CNI_BINARIES", "false")]).collect();
    host.run(&keep).unwrap();
    assert_eq!(fs::read(host.bin("calico")).unwrap(), b"the host's own");
    assert!(host.bin("portmap").is_file(), "what is missing is installed");
}
