//! Reading and matching selectors, by the workloads that Felix has.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use libcalico_selector::Selector;

fn texts(n: usize) -> Vec<String> {
    let text = |i: usize| match i % 4 {
        0 => format!("app == 'app-{i}'"),
        1 => format!("app == 'app-{i}' && tier in {{'web', 'db'}}"),
        2 => format!("has(app) && !has(legacy) && projectcalico.org/namespace == 'ns-{}'", i % 100),
        _ => format!("(env == 'prod' || env == 'stage') && team starts with 'team-{}'", i % 10),
    };
    (0..n).map(text).collect()
}

fn endpoints(n: usize) -> Vec<BTreeMap<String, String>> {
    let pairs = |i: usize| {
        [
            ("app", format!("app-{i}")),
            ("env", if i.is_multiple_of(2) { "prod" } else { "test" }.to_owned()),
            ("team", format!("team-{}", i % 20)),
            ("tier", "web".to_owned()),
            ("projectcalico.org/namespace", format!("ns-{}", i % 100)),
            ("projectcalico.org/orchestrator", "k8s".to_owned()),
        ]
    };
    (0..n).map(|i| pairs(i).into_iter().map(|(k, v)| (k.to_owned(), v)).collect()).collect()
}

fn benches(c: &mut Criterion) {
    let texts = texts(10_000);
    let selectors: Vec<Selector> = texts.iter().map(|t| Selector::parse(t).unwrap()).collect();
    let endpoints = endpoints(100);
    c.bench_function("parse_10k_selectors", |b| {
        b.iter(|| texts.iter().filter(|t| Selector::parse(black_box(t)).is_ok()).count());
    });
    c.bench_function("match_10k_selectors_on_100_endpoints_of_6_labels", |b| {
        b.iter(|| endpoints.iter().map(|e| selectors.iter().filter(|s| s.matches(e)).count()).sum::<usize>());
    });
}

criterion_group! { name = all; config = Criterion::default().sample_size(10); targets = benches }
criterion_main!(all);
