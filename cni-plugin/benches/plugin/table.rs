//! The figures as a table: for each kind of call ours, the peer's, and ours as a part of the peer's.

use std::time::Duration;

use super::call::Call;

/// Figures of one program for one kind of call.
pub struct Figures {
    calls: usize,
    median: Duration,
    p99: Duration,
    /// Mean.
    cpu: Duration,
    /// Of the largest call.
    peak_kb: u64,
}

impl Figures {
    pub fn of(calls: &[Call]) -> Self {
        let mut times: Vec<Duration> = calls.iter().map(|c| c.took).collect();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
        let cpu: Duration = calls.iter().map(|c| c.cpu).sum();
        Self {
            calls: calls.len(),
            median: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            cpu: cpu / u32::try_from(calls.len().max(1)).unwrap_or(1),
            peak_kb: calls.iter().map(|c| c.peak_kb).max().unwrap_or(0),
        }
    }

    /// Milliseconds, but for the last, which is megabytes.
    fn numbers(&self) -> [(&'static str, &'static str, f64); 4] {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        [
            ("median", "ms", ms(self.median)),
            ("p99", "ms", ms(self.p99)),
            ("processor time a call", "ms", ms(self.cpu)),
            ("peak memory (ru_maxrss)", "MB", self.peak_kb as f64 / 1024.0),
        ]
    }
}

/// Prints one kind of call.
pub fn print(what: &str, ours: &Figures, peer: Option<&Figures>) {
    println!(
        "\n{:<44} {:>10} {:>10} {:>11}",
        format!("{what}, {} calls", ours.calls),
        "ours",
        "peer",
        "ours/peer"
    );
    for (i, (name, unit, own)) in ours.numbers().into_iter().enumerate() {
        let (other, part) = match peer.map(|p| p.numbers()[i].2) {
            Some(n) => (format!("{n:.1} {unit}"), format!("{:.3}", own / n)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("  {name:<42} {:>10} {other:>10} {part:>11}", format!("{own:.1} {unit}"));
    }
}
