//! Upstream's calculation on the same workload, beside ours in the same run.
//!
//! In: `PEER=DIR` with `calc.test` in it, the tests of upstream's calculation as a program (`go test -c` makes one of a
//! package). Out: what its own benchmark says of its time and its live heap, and how much the process had at most: both
//! with the benchmark's inputs, which it holds all the time.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One of ours or the peer's.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub seconds: f64,
    pub live_mib: f64,
    pub peak_mib: f64,
}

/// Runs upstream's benchmark of a name and prints its figures and ours as a part of them. Without a peer nothing.
pub fn beside(benchmark: &str, ours: Figures) {
    let Some(program) = program() else { return };
    match run(&program, benchmark) {
        Ok(peer) => println!(
            "  upstream: {:.3} s, live heap {:.0} MiB, resident at most {:.0} MiB; ours of it: {:.3}, {:.3}, {:.3}",
            peer.seconds,
            peer.live_mib,
            peer.peak_mib,
            ours.seconds / peer.seconds,
            ours.live_mib / peer.live_mib,
            ours.peak_mib / peer.peak_mib,
        ),
        Err(e) => println!("  upstream: failed: {e}"),
    }
}

fn program() -> Option<PathBuf> {
    let dir = std::env::var_os("PEER")?;
    let program = PathBuf::from(dir).join("calc.test");
    if !program.exists() {
        println!("  upstream: no {}: `go test -c` of its package felix/calc makes it", program.display());
        return None;
    }
    Some(program)
}

fn run(program: &PathBuf, benchmark: &str) -> Result<Figures, String> {
    let mut child = Command::new(program)
        .args(["-test.run", "^$", "-test.benchtime", "1x", "-test.timeout", "10m"])
        .args(["-test.bench", &format!("^{benchmark}$")])
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let peak_mib = peak(&mut child)?;
    let mut text = String::new();
    child
        .stdout
        .take()
        .map(|mut out| out.read_to_string(&mut text))
        .transpose()
        .map_err(|e| e.to_string())?;
    let line =
        text.lines().find(|l| l.starts_with(benchmark)).ok_or_else(|| format!("no result:\n{text}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |unit: &str| {
        let at = words.iter().position(|w| *w == unit).ok_or_else(|| format!("no {unit:?} in {line:?}"))?;
        words[at - 1].parse::<f64>().map_err(|e| format!("{:?}: {e}", words[at - 1]))
    };
    Ok(Figures { seconds: value("ns/op")? / 1e9, live_mib: value("HeapAllocMB")?, peak_mib })
}

/// Waits for the end; the most that was resident until shortly before.
fn peak(child: &mut Child) -> Result<f64, String> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Ok(Some(status)) if status.success() => return Ok(peak),
            Ok(Some(status)) => return Err(format!("it ended, {status}")),
            Err(e) => return Err(e.to_string()),
        }
    }
}
