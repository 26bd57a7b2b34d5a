//! A summary with quantiles, as upstream's programs serve them: over the last ten minutes, sum and count over all time.
//!
//! In: observations. Out: a collector whose quantiles are 0.5, 0.9 and 0.99. Always holds: memory is bounded whatever is
//! observed; a quantile is at most one part in a hundred away from an observation of that rank. `NaN` where nothing was
//! observed lately, as upstream's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType, Quantile, Summary as Proto};

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Ten minutes in five parts, of which the oldest is forgotten whole.
const PARTS: usize = 5;
const PART: Duration = Duration::from_secs(120);
/// Of two neighbouring buckets.
const RATIO: f64 = 1.02;

/// Observations of the last ten minutes, each as the number of its bucket.
#[derive(Clone, Debug)]
struct Window {
    parts: [BTreeMap<i16, u64>; PARTS],
    current: usize,
    /// When the current part was. `None`: nothing was observed yet.
    begun: Option<Instant>,
}

fn bucket(value: f64) -> i16 {
    if value > 0.0 { (value.ln() / RATIO.ln()).floor() as i16 } else { i16::MIN }
}

/// The middle of a bucket.
fn value(bucket: i16) -> f64 {
    if bucket == i16::MIN { 0.0 } else { RATIO.powf(f64::from(bucket) + 0.5) }
}

impl Window {
    const fn new() -> Self {
        Self { parts: [const { BTreeMap::new() }; PARTS], current: 0, begun: None }
    }

    fn go_on(&mut self, now: Instant) {
        let mut begun = self.begun.unwrap_or(now);
        for _ in 0..PARTS {
            self.begun = Some(begun);
            if now.saturating_duration_since(begun) < PART {
                return;
            }
            begun += PART;
            self.current = (self.current + 1) % PARTS;
            if let Some(part) = self.parts.get_mut(self.current) {
                part.clear();
            }
        }
        // Nobody asked for longer than all of it.
        self.begun = Some(now);
    }

    fn observe(&mut self, value: f64, now: Instant) {
        self.go_on(now);
        if let Some(part) = self.parts.get_mut(self.current) {
            *part.entry(bucket(value)).or_default() += 1;
        }
    }

    fn quantiles(&mut self, now: Instant) -> [f64; 3] {
        self.go_on(now);
        let mut all: BTreeMap<i16, u64> = BTreeMap::new();
        for (bucket, n) in self.parts.iter().flatten() {
            *all.entry(*bucket).or_default() += n;
        }
        let count: u64 = all.values().sum();
        QUANTILES.map(|q| {
            let rank = (q * count as f64).ceil() as u64;
            let mut below = 0;
            let found = all.iter().find(|(_, n)| {
                below += **n;
                below >= rank
            });
            found.map_or(f64::NAN, |(bucket, _)| value(*bucket))
        })
    }
}

#[derive(Debug)]
struct State {
    sum: f64,
    count: u64,
    window: Window,
}

/// What was observed, without a name.
#[derive(Debug)]
pub struct Distribution(Mutex<State>);

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl Distribution {
    /// Nothing is observed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { sum: 0.0, count: 0, window: Window::new() }))
    }

    /// One observation.
    pub fn observe(&self, value: f64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.sum += value;
        state.count += 1;
        state.window.observe(value, Instant::now());
    }

    /// As a metric of this name.
    #[must_use]
    pub fn family(&self, name: &str, help: &str) -> MetricFamily {
        let (sum, count, quantiles) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (state.sum, state.count, state.window.quantiles(Instant::now()))
        };
        let mut summary = Proto::default();
        summary.set_sample_sum(sum);
        summary.set_sample_count(count);
        let quantiles = QUANTILES.into_iter().zip(quantiles).map(|(q, value)| {
            let mut quantile = Quantile::default();
            quantile.set_quantile(q);
            quantile.set_value(value);
            quantile
        });
        summary.set_quantile(quantiles.collect());
        let mut metric = Metric::default();
        metric.set_summary(summary);
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(vec![metric]);
        family
    }
}

/// See the module's text. Clones share.
#[derive(Clone, Debug)]
pub struct Summary {
    desc: Desc,
    observed: Arc<Distribution>,
}

impl Summary {
    /// Nothing is observed yet.
    ///
    /// # Errors
    /// The name is none that Prometheus takes.
    pub fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self { desc, observed: Arc::default() })
    }

    /// One observation.
    pub fn observe(&self, value: f64) {
        self.observed.observe(value);
    }
}

impl Collector for Summary {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![self.observed.family(&self.desc.fq_name, &self.desc.help)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_close_to_the_observation_of_its_rank(
            mut values in prop::collection::vec(1e-6_f64..1e6, 1..200),
        ) {
            let now = Instant::now();
            let mut window = Window::new();
            values.iter().for_each(|v| window.observe(*v, now));
            values.sort_by(f64::total_cmp);
            for (q, found) in QUANTILES.into_iter().zip(window.quantiles(now)) {
                let exact = values[(q * values.len() as f64).ceil() as usize - 1];
                prop_assert!((found / exact - 1.0).abs() < 0.0101, "{q}: {found} of {exact}");
            }
        }
    }

    #[test]
    fn what_is_older_than_ten_minutes_is_forgotten() {
        let start = Instant::now();
        let mut window = Window::new();
        window.observe(5.0, start);
        window.observe(0.0, start + Duration::from_secs(300));
        assert!((window.quantiles(start + Duration::from_secs(590))[2] - 5.0).abs() < 0.06);
        assert_eq!(window.quantiles(start + Duration::from_secs(700)), [0.0; 3]);
        assert!(window.quantiles(start + Duration::from_secs(100_000))[0].is_nan());
        window.observe(1.0, start + Duration::from_secs(100_001));
        assert!((window.quantiles(start + Duration::from_secs(100_002))[0] - 1.0).abs() < 0.02);
    }

    #[test]
    fn strange_values_are_counted_too() {
        let now = Instant::now();
        let mut window = Window::new();
        [-1.0, f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE]
            .iter()
            .for_each(|v| window.observe(*v, now));
        assert!(window.quantiles(now).iter().all(|v| *v >= 0.0));
    }

    #[test]
    fn it_is_served_as_prometheus_expects() {
        let summary = Summary::new("felix_x_seconds", "Seconds.").unwrap();
        (0..100).for_each(|_| summary.observe(0.25));
        let text = prometheus::TextEncoder::new().encode_to_string(&summary.collect()).unwrap();
        assert!(text.contains("felix_x_seconds{quantile=\"0.99\"} 0.2"), "{text}");
        assert!(
            text.contains("felix_x_seconds_sum 25\n") && text.contains("felix_x_seconds_count 100\n"),
            "{text}"
        );
    }
}
