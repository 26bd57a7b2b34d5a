//! Traffic that runs while something is done to the lab, and tells afterwards what it felt.
//!
//! - [`Pinger`]: an ICMP echo every 10 ms; tells which were lost.
//! - [`Flow`]: one long TCP stream whose bytes are checked; tells resets and the longest silence.
//! - [`Prober`]: tries a denied pair again and again; tells every answer that came through.
//!
//! What always holds: sockets are opened inside the places' namespaces, everything else happens in the calling
//! process; `stop` ends the threads and gives the report, and dropping ends them too.

mod flow;
pub mod icmp;
mod pinger;
mod prober;

pub use flow::{Flow, FlowReport};
pub use pinger::{PingReport, Pinger};
pub use prober::{Prober, ProberReport};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A background thread that ends when told, or when its handle is dropped.
struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || work(&flag))) }
    }
}

impl<T> Worker<T> {
    /// Tells the thread to end and returns what it has to say; a panic of it passes through.
    fn finish(mut self) -> Option<T> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Dropped while something else already failed: that is what will be told.
            let _ = thread.join();
        }
    }
}
