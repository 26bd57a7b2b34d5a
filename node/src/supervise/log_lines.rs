//! A child's output: each line goes to standard error with the child's name in front, and the last ones are kept.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Lines kept of each child.
const KEPT: usize = 20;
/// Longest line in bytes; the rest of a longer one is a line of its own.
const MAX_LINE: usize = 8192;

/// The last lines of a child.
#[derive(Clone, Debug, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All kept lines.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Reads until the child closes its end. A child never waits for a reader: nothing here waits for anything else.
pub async fn forward(name: &'static str, mut from: impl AsyncRead + Unpin, kept: LastLines) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        for byte in buffer.iter().take(read) {
            if *byte == b'\n' || pending.len() == MAX_LINE {
                say(name, &pending, &kept);
                pending.clear();
            }
            if *byte != b'\n' {
                pending.push(*byte);
            }
        }
    }
    if !pending.is_empty() {
        say(name, &pending, &kept);
    }
}

fn say(name: &str, line: &[u8], kept: &LastLines) {
    let text = String::from_utf8_lossy(line);
    // A reader of the log that went away is no reason to end.
    let _ = writeln!(std::io::stderr().lock(), "{name}: {text}");
    kept.push(text.into_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let kept = LastLines::default();
        let mut text = String::new();
        for i in 0..30 {
            text.push_str(&format!("line {i}\n"));
        }
        text.push_str(&"x".repeat(MAX_LINE + 5));
        forward("log-lines-test", text.as_bytes(), kept.clone()).await;
        let lines: Vec<String> = kept.text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[0], "line 12");
        assert_eq!(lines[KEPT - 1], "xxxxx");
    }
}
