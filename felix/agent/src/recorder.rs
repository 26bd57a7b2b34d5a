//! Writes the input down, so that `calico-felix replay FILE` can go through it again.
//!
//! In: what the syncer sent and where messages were asked for. Out: a file, a JSON object a line (see
//! [`felix_calc::recording`]). Always holds: a file that cannot be written ends the recording, never the work.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use felix_calc::recording::{Event, lines};
use libcalico_model::SyncerEvent;

/// An open recording.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Recorder {
    /// Begins a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, config: &felix_calc::Config) -> std::io::Result<Self> {
        let mut me = Self { path: path.to_owned(), file: Some(BufWriter::new(File::create(path)?)) };
        me.write(&[Event::Start(config.clone()).to_line()]);
        tracing::info!(path = %path.display(), "input is recorded");
        Ok(me)
    }

    /// Notes an event.
    pub fn event(&mut self, event: &SyncerEvent) {
        if self.file.is_some() {
            self.write(&lines(event));
        }
    }

    /// Notes that messages were asked for, and hands everything to the system.
    pub fn flush(&mut self) {
        self.write(&[Event::Flush.to_line()]);
        if let Some(f) = &mut self.file {
            let result = f.flush();
            self.check(result);
        }
    }

    fn write(&mut self, lines: &[String]) {
        let Some(f) = &mut self.file else { return };
        let result = lines.iter().try_for_each(|l| writeln!(f, "{l}"));
        self.check(result);
    }

    fn check(&mut self, result: std::io::Result<()>) {
        if let Err(e) = result {
            tracing::error!(path = %self.path.display(), error = %e, "recording ended");
            self.file = None;
        }
    }
}
