//! Memory that is free goes back to the kernel.
//!
//! Most of what a large change needs it needs for a moment: messages, rules on their way, a transaction of megabytes. glibc
//! keeps what was freed, in a region for each thread, and raises the size from which on it gives back at once. Here one
//! region serves all threads, which wait for each other rarely, large blocks go back at once, and the rest when asked.
//! Always holds: nothing but memory's place changes. Left out: other C libraries, which do as they do.
#![allow(unsafe_code)]

/// From this size on a block is the kernel's again as soon as it is free; glibc's first value, which then stays.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 << 10;
/// What may stay free at the region's end.
#[cfg(target_env = "gnu")]
const SPARE_BYTES: libc::c_int = 1 << 20;

/// Sets the process up. To be called before there are threads.
pub fn configure() {
    #[cfg(target_env = "gnu")]
    for (what, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_TRIM_THRESHOLD, SPARE_BYTES)]
    {
        // SAFETY: it sets a number in the allocator, under the allocator's lock.
        // One that is not taken leaves things as they were.
        let _ = unsafe { libc::mallopt(what, value) };
    }
}

/// Gives back what is free. Takes milliseconds where much is.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it touches free blocks alone, under the allocator's lock.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
