//! Any stream of updates, as JSON lines of a recording, goes through the calculation without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = felix_calc::replay::run(text);
});
