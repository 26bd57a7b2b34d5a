//! A Prometheus registry with the process's own figures under the names that every Prometheus client uses.
//!
//! Left out: what components count; they register with the registry they are given.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Registry};

/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, 100 on every Linux architecture we run on.
const TICKS_PER_SEC: f64 = 100.0;

/// A registry with `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_cpu_seconds_total`,
/// `process_open_fds` and `process_start_time_seconds`.
#[must_use]
pub fn new_registry() -> Registry {
    let registry = Registry::new();
    match ProcessCollector::new() {
        Ok(c) => {
            // A fresh registry has no name that could be taken.
            let _ = registry.register(Box::new(c));
        }
        Err(e) => tracing::warn!(error = %e, "no process metrics"),
    }
    registry
}

struct ProcessCollector {
    rss: Gauge,
    vsize: Gauge,
    cpu: Counter,
    fds: Gauge,
    start: Gauge,
}

impl ProcessCollector {
    fn new() -> prometheus::Result<Self> {
        let start = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process since the epoch in seconds.",
        )?;
        start.set(start_time().unwrap_or_default());
        Ok(Self {
            rss: Gauge::new("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            vsize: Gauge::new("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time spent in seconds.")?,
            fds: Gauge::new("process_open_fds", "Number of open file descriptors.")?,
            start,
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.rss.desc(), self.vsize.desc(), self.cpu.desc(), self.fds.desc(), self.start.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.rss.set(kib(&status, "VmRSS:") * 1024.0);
        self.vsize.set(kib(&status, "VmSize:") * 1024.0);
        if let Some(total) = cpu_seconds() {
            self.cpu.inc_by((total - self.cpu.get()).max(0.0));
        }
        if let Ok(dir) = std::fs::read_dir("/proc/self/fd") {
            self.fds.set(dir.count() as f64);
        }
        [
            self.rss.collect(),
            self.vsize.collect(),
            self.cpu.collect(),
            self.fds.collect(),
            self.start.collect(),
        ]
        .concat()
    }
}

fn kib(status: &str, field: &str) -> f64 {
    status
        .lines()
        .find_map(|l| l.strip_prefix(field))
        .and_then(|v| v.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Fields of `/proc/self/stat` after the command's name, which may contain anything. The first is field 3 of proc(5).
fn stat_fields() -> Option<Vec<f64>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|f| f.parse().unwrap_or_default()).collect())
}

fn cpu_seconds() -> Option<f64> {
    let fields = stat_fields()?;
    Some((fields.get(11)? + fields.get(12)?) / TICKS_PER_SEC)
}

fn start_time() -> Option<f64> {
    let since_boot = stat_fields()?.get(19)? / TICKS_PER_SEC;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_memory_and_start() {
        let families = new_registry().gather();
        let value = |name: &str| {
            families.iter().find(|f| f.name() == name).unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_start_time_seconds") > 1_600_000_000.0);
        assert!(value("process_open_fds") > 2.0);
    }
}
