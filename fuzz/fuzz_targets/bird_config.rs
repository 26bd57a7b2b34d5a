//! Any text is a bird.cfg or an error with its place; any line is a command of the control socket or an answer.

#![no_main]

use bird_core::config::{Source, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse(&Source::from_text("bird.cfg", text));
    if let Some(line) = text.lines().next() {
        let _ = bird_core::cli::parse(line);
    }
});
