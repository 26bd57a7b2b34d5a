//! Any stream of updates, as JSON lines of a recording, goes through the calculation without a panic, and whatever they
//! say: messages can be applied in their order, the result is the one of the same objects from scratch and goes with
//! them, and no rule lets more through than the datastore's. What the text itself expects may differ.

#![no_main]

mod recording;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|text: &str| {
    if let Ok(report) = felix_calc::replay::run(text) {
        assert!(report.is_sound(), "{report}");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Few changes of single bytes leave a recording that can be read.
    if seed % 8 != 0
        && let Some(text) = data.get(..size).and_then(|bytes| std::str::from_utf8(bytes).ok())
    {
        let changed = recording::mutate(text, seed / 8);
        if changed.len() <= max_size.min(data.len()) {
            data[..changed.len()].copy_from_slice(changed.as_bytes());
            return changed.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});
