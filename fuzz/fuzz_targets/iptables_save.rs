//! Whatever `iptables-save` prints, reading it does no harm, and only chains and rules of ours are taken for ours.

#![no_main]

use felix_dataplane::driver::iptables::save;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let lines = input.lines().count();
    for table in save::parse(input).into_values() {
        assert!(table.chains.keys().all(|name| name.starts_with("cali-")));
        for chain in table.kernel.values() {
            assert!(chain.own.len() <= chain.rules && chain.rules <= lines);
            assert!(chain.own.iter().all(|rule| rule.at < chain.rules));
        }
    }
    let counters = save::counters(input);
    assert!(counters.keys().all(|(_, chain)| chain.starts_with("cali-")));
    assert!(counters.values().map(Vec::len).sum::<usize>() <= lines);
});
