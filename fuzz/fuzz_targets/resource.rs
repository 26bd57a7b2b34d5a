//! Any JSON is an object of a kind or a list of reasons why not; defaults and validation never panic.

#![no_main]

use libcalico_api::{Kind, Resource};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let kind = Kind::ALL[usize::from(input.0) % Kind::ALL.len()];
    if let Ok(mut resource) = Resource::from_json(kind, input.1) {
        resource.set_defaults();
        let _ = resource.validate();
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(input.1) {
        let _ = Resource::from_value_strict(kind, &value);
    }
});
