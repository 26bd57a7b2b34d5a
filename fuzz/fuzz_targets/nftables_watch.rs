//! Whatever the kernel tells of its tables, reading it does no harm.

#![no_main]

use felix_dataplane::driver::iptables::watch;
use felix_dataplane::kernel::attr::Messages;
use felix_dataplane::kernel::nft::{read, xtables};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for message in Messages(bytes) {
        let _ = watch::touch(&message);
        let _ = read::is_about(&message, "calico");
        let _ = xtables::rule(&message);
    }
});
