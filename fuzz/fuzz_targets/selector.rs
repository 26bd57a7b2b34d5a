//! Any text is a selector or an error; what parses prints to text that parses to the same.

#![no_main]

use libcalico_selector::Selector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        let again = Selector::parse(selector.canonical());
        assert_eq!(again.map(|s| s.canonical().to_owned()).ok().as_deref(), Some(selector.canonical()));
    }
});
