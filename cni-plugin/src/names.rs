//! Servers' names in a statically linked plugin.
//!
//! The C library would load the modules of the host's `/etc/nsswitch.conf` into the process, and those are made for the
//! host's own C library, not for the one that is linked in. `hosts` and DNS are part of the library itself: a static
//! plugin asks these two, as a program without a C library does. A dynamic one asks whom the host says.
#![allow(unsafe_code)] // one call of the C library

/// Restricts the process to `/etc/hosts` and DNS where it is linked statically. For the beginning of the process: what
/// another thread is looking up at that moment is undefined.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn by_hosts_file_and_dns() {
    use nix::libc::{c_char, c_int};
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are constant texts with an end; the library copies what it needs of them. There is one thread.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}

/// Nothing: the C library is the host's.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn by_hosts_file_and_dns() {}
