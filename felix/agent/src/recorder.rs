//! Writes the input down, so that `calico-felix replay FILE` can go through it again.
//!
//! In: what the syncer sent and where messages were asked for, over all the sessions of a process. Out: a file, a JSON
//! object a line (see [`felix_calc::recording`]), never larger than its limit. Always holds: the file ends with a whole
//! line, unless the machine or the process is stopped in the middle of a write; a file that is full or cannot be
//! written ends the recording, never the work.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use felix_calc::recording::{Event, lines};
use libcalico_model::SyncerEvent;

/// Largest file in bytes where none is told: the datastore of a hundred thousand endpoints, twice.
pub const DEFAULT_LIMIT: u64 = 256 << 20;
/// The smallest limit that makes sense.
pub const LEAST_LIMIT: u64 = 4 << 10;
/// Bytes that wait for the next flush at most, but for one line.
const WAITING: usize = 64 << 10;

/// An open recording.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// None: the recording has ended.
    file: Option<File>,
    /// The file's largest size, in bytes.
    limit: u64,
    /// Bytes that stand in the file: whole lines.
    written: u64,
    /// Whole lines that are to be written.
    waiting: Vec<u8>,
}

impl Recorder {
    /// Begins a new file of at most `limit` bytes. What an earlier process recorded there moves to `PATH.previous`: its
    /// end may be what somebody looks for.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, limit: u64) -> std::io::Result<Self> {
        if path.symlink_metadata().is_ok_and(|m| m.is_file()) {
            let mut previous = path.as_os_str().to_owned();
            previous.push(".previous");
            std::fs::rename(path, previous)?;
        }
        let file = Some(File::create(path)?);
        tracing::info!(path = %path.display(), limit, "input is recorded");
        Ok(Self { path: path.to_owned(), file, limit, written: 0, waiting: Vec::new() })
    }

    /// Begins a session: all that follows is told to a new calculation.
    pub fn begin(&mut self, config: &felix_calc::Config) {
        self.line(&Event::Start(config.clone()).to_line());
    }

    /// Notes an event.
    pub fn event(&mut self, event: &SyncerEvent) {
        if self.file.is_some() {
            lines(event).iter().for_each(|line| self.line(line));
        }
    }

    /// Notes that messages were asked for, and hands everything to the system.
    pub fn flush(&mut self) {
        self.line(&Event::Flush.to_line());
        self.hand_over();
    }

    fn line(&mut self, line: &str) {
        if self.file.is_none() {
            return;
        }
        let end = Event::End(format!("the limit of {} bytes is reached", self.limit)).to_line();
        let with_both = self.waiting.len() + line.len() + end.len() + 2;
        if self.written.saturating_add(with_both as u64) > self.limit {
            self.push(&end);
            self.hand_over();
            tracing::warn!(path = %self.path.display(), limit = self.limit, "recording ended: its limit is reached");
            self.file = None;
            return;
        }
        self.push(line);
        if self.waiting.len() > WAITING {
            self.hand_over();
        }
    }

    fn push(&mut self, line: &str) {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
    }

    fn hand_over(&mut self) {
        let Some(file) = &mut self.file else { return };
        match file.write_all(&self.waiting) {
            Ok(()) => self.written += self.waiting.len() as u64,
            Err(e) => {
                // A line that was written in part would make the file unreadable.
                let cut = file.set_len(self.written);
                tracing::error!(path = %self.path.display(), error = %e, cut = cut.is_ok(), "recording ended");
                self.file = None;
            }
        }
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use felix_calc::recording::update;
    use felix_calc::replay;
    use libcalico_model::SyncStatus;

    fn config(hostname: &str) -> felix_calc::Config {
        felix_calc::Config { hostname: hostname.to_owned(), ..felix_calc::Config::default() }
    }

    /// One batch: a configuration of that name and, the first time, that the datastore is in sync.
    fn batch(recorder: &mut Recorder, n: usize) {
        let value = serde_json::json!("x".repeat(100));
        let one = update(&format!("/calico/v1/config/Parameter{n}"), Some(&value), None).unwrap();
        recorder.event(&SyncerEvent::Updates(vec![one]));
        recorder.event(&SyncerEvent::Status(SyncStatus::InSync));
        recorder.flush();
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_recording_goes_on_over_sessions_and_replays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut recorder = Recorder::create(&path, DEFAULT_LIMIT).unwrap();
        for session in 0..3 {
            recorder.begin(&config(&format!("n{session}")));
            (0..=session).for_each(|n| batch(&mut recorder, n));
        }
        assert_eq!(text(&path).lines().filter(|l| l.contains("hostname")).count(), 3);
        let report = replay::run(&text(&path)).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.compared, 3);
    }

    #[test]
    fn a_full_recording_ends_with_a_closing_line_whatever_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for limit in (LEAST_LIMIT..LEAST_LIMIT + 300).step_by(7) {
            let mut recorder = Recorder::create(&path, limit).unwrap();
            recorder.begin(&config("n"));
            (0..100).for_each(|n| batch(&mut recorder, n));
            // Neither does a new session begin.
            recorder.begin(&config("other"));
            let text = text(&path);
            assert!(text.len() as u64 <= limit && text.len() as u64 > limit - 300, "{}", text.len());
            let end = format!("{{\"end\":\"the limit of {limit} bytes is reached\"}}\n");
            assert!(text.ends_with(&end) && text.matches("\"end\"").count() == 1);
            let report = replay::run(&text).unwrap();
            assert!(report.is_clean(), "{report}");
        }
    }

    #[test]
    fn what_an_earlier_process_recorded_is_kept_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for hostname in ["first", "second", "third"] {
            let mut recorder = Recorder::create(&path, DEFAULT_LIMIT).unwrap();
            recorder.begin(&config(hostname));
            recorder.flush();
        }
        assert!(text(&path).contains("third"));
        assert!(text(&dir.path().join("record.previous")).contains("second"));
    }

    #[test]
    fn a_file_that_takes_nothing_ends_the_recording_alone() {
        let mut recorder = Recorder::create(Path::new("/dev/full"), DEFAULT_LIMIT).unwrap();
        recorder.begin(&config("n"));
        recorder.flush();
        assert!(recorder.file.is_none());
        batch(&mut recorder, 0);
    }
}
