//! Any path is a key or an error, any bytes are the key's value or an error; what is read is written back the same.

#![no_main]

use libcalico_model::{Key, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let Ok(key) = input.0.parse::<Key>() else { return };
    assert_eq!(key.path().parse::<Key>().ok(), Some(key.clone()));
    if let Ok(value) = Value::parse(&key, input.1) {
        let bytes = value.to_bytes();
        assert!(Value::parse(&key, &bytes).is_ok());
    }
});
