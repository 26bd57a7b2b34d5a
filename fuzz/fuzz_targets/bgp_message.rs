//! Any bytes are a BGP message or an error with its RFC 7606 action.

#![no_main]

use bird_wire::{Context, Message, frame_len};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (flags, data) = input;
    let ctx = Context {
        as4: flags & 1 != 0,
        add_path_rx: [flags & 2 != 0; 2],
        extended: flags & 4 != 0,
        ..Context::default()
    };
    let _ = frame_len(data, ctx.extended);
    let _ = Message::decode(data, &ctx);
});
