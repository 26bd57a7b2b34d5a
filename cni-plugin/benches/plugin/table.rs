//! The figures as a table.

use std::time::Duration;

use super::call::Call;

/// Figures of one program for one kind of call.
pub struct Row {
    world: &'static str,
    command: &'static str,
    width: usize,
    program: &'static str,
    calls: usize,
    median: Duration,
    p99: Duration,
    cpu: Duration,
    peak_kb: u64,
}

impl Row {
    pub fn new(
        world: &'static str,
        command: &'static str,
        width: usize,
        program: &'static str,
        calls: &[Call],
    ) -> Self {
        let mut times: Vec<Duration> = calls.iter().map(|c| c.took).collect();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
        let cpu: Duration = calls.iter().map(|c| c.cpu).sum();
        Self {
            world,
            command,
            width,
            program,
            calls: calls.len(),
            median: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            cpu: cpu / u32::try_from(calls.len().max(1)).unwrap_or(1),
            peak_kb: calls.iter().map(|c| c.peak_kb).max().unwrap_or(0),
        }
    }
}

/// Prints the rows; below a peer's row, ours as a part of it.
pub fn print(rows: &[Row]) {
    println!(
        "{:<22} {:<4} {:>7} {:<10} {:>6} {:>10} {:>10} {:>10} {:>9}",
        "datastore", "call", "at once", "plugin", "calls", "median", "p99", "cpu/call", "peak"
    );
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
    let mut ours: Option<&Row> = None;
    for r in rows {
        let what = format!("{:<22} {:<4} {:>7}", r.world, r.command, r.width);
        println!(
            "{what} {:<10} {:>6} {:>10} {:>10} {:>10} {:>9}",
            r.program,
            r.calls,
            ms(r.median),
            ms(r.p99),
            ms(r.cpu),
            format!("{:.1} MB", r.peak_kb as f64 / 1024.0)
        );
        match ours {
            Some(o) if r.program == "peer" => {
                let part = |a: Duration, b: Duration| format!("{:.3}", a.as_secs_f64() / b.as_secs_f64());
                println!(
                    "{what} {:<10} {:>6} {:>10} {:>10} {:>10} {:>9}",
                    "ours/peer",
                    "",
                    part(o.median, r.median),
                    part(o.p99, r.p99),
                    part(o.cpu, r.cpu),
                    format!("{:.3}", o.peak_kb as f64 / r.peak_kb as f64)
                );
            }
            _ => ours = Some(r),
        }
    }
}
