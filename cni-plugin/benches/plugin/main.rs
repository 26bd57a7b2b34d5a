//! ADD and DEL of a pod, one at a time and 16 at once, on etcd (without and with fsync) and on a real API server.
//!
//! ```text
//! OURS=FILE     our program; without it the one that cargo built with this benchmark, which is not what images have
//! PEER=DIR      another `calico` and `calico-ipam`, called by turns with ours on the same servers; without it a line says so
//! CALLS=N       calls of each kind (120)
//! cargo plugin && OURS=target/x86_64-unknown-linux-gnu/plugin/calico cargo bench -p cni-plugin --bench plugin
//! cargo bench -p cni-plugin --bench plugin -- etcd     only worlds whose name has that word
//! ```
//!
//! For each call: time from its start to its end, processor time and largest resident memory of the process and its
//! children (wait4). Printed: median, p99, processor time for a call, peak memory, and ours as a part of the peer's.

#[path = "../../tests/support/mod.rs"]
#[allow(unused)]
mod support;

mod call;
mod table;
mod world;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use call::{Call, each_pod};
use libcalico_testing::{Need, can_run};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use support::NetNs;
use table::{Figures, print};
use world::{Datastore, World};

const WIDTHS: [usize; 2] = [1, 16];
const COMMANDS: [&str; 2] = ["ADD", "DEL"];

fn main() {
    call::serve_as_launcher();
    if !can_run(&[Need::Root, Need::Etcd, Need::Program("ip", "iproute2")]) {
        return;
    }
    let calls = std::env::var("CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_calico"));
    let ours = std::env::var_os("OURS").map_or_else(built, from_root);
    println!("ours: {}", ours.display());
    let mut programs = vec![("ours", ours)];
    match std::env::var_os("PEER") {
        Some(dir) => programs.push(("peer", from_root(dir).join("calico"))),
        None => println!("skipped: the peer; PEER=DIR names the directory of its calico and calico-ipam"),
    }
    programs.iter().for_each(|(_, program)| as_after_a_start(program));
    for datastore in Datastore::ALL {
        if !words.is_empty() && !words.iter().any(|w| datastore.name().contains(w.as_str())) {
            continue;
        }
        let Some(world) = World::start(datastore) else { continue };
        for width in WIDTHS {
            measure(&world, &programs, width, calls);
        }
    }
}

/// Lets the kernel read the program from disk again. What a linker or a copy has just written lies in memory in larger
/// pieces, which are mapped whole and count as the process's.
fn as_after_a_start(program: &Path) {
    let file = File::open(program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

/// A path relative to the directory that cargo was called in, where benchmarks themselves do not run.
fn from_root(path: OsString) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Rounds of ADD and DEL by turns of the programs, so that whatever else the machine does meets all of them alike.
fn measure(world: &World, programs: &[(&'static str, PathBuf)], width: usize, calls: usize) {
    let rounds = calls.div_ceil(width);
    let mut got: Vec<Vec<Call>> = vec![Vec::new(); programs.len() * COMMANDS.len()];
    // The first round makes what later ones find: blocks, profile, warm caches.
    for round in 0..=rounds {
        for (p, (name, program)) in programs.iter().enumerate() {
            let pods: Vec<NetNs> = (0..width).map(|_| NetNs::new()).collect();
            let jobs = world.jobs(name, &pods, round);
            for (c, command) in COMMANDS.iter().enumerate() {
                let measured = each_pod(world.host(), program, command, &jobs);
                if round > 0
                    && let Some(list) = got.get_mut(p * COMMANDS.len() + c)
                {
                    list.extend(measured);
                }
            }
            world.forget(&jobs);
        }
    }
    for (c, command) in COMMANDS.iter().enumerate() {
        let mut figures = (0..programs.len()).map(|p| Figures::of(&got[p * COMMANDS.len() + c]));
        let Some(ours) = figures.next() else { return };
        let what = format!("{}: {command}, {width} at once", world.name());
        print(&what, &ours, figures.next().as_ref());
    }
}
