//! Runs a program with a time limit: input handed over, output captured, killed with its children when it takes too long.
//!
//! In: a program, its arguments, its input. Out: what it printed, or why it failed in words that name it. Always holds:
//! [`Running::finish`] returns soon after the limit; output beyond [`MOST_OUTPUT`] is an error, not memory. The program
//! runs in the calling thread's network namespace, as every child does. Left out: what programs mean.

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::tally::TALLY;

/// Most bytes that a program may print.
pub const MOST_OUTPUT: u64 = 512 << 20;
/// Where programs of this kind are, though the service's own search path may not say so.
const MORE_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{program} is not installed")]
    Missing { program: String },
    #[error("{program} cannot be run: {source}")]
    Start { program: String, source: io::Error },
    #[error(
        "{program} did not end within {limit:?} and was killed; is another program holding the xtables lock?"
    )]
    TimedOut { program: String, limit: Duration },
    #[error("{program} printed more than {MOST_OUTPUT} bytes")]
    TooMuch { program: String },
    #[error("{program} failed ({status}): {stderr}")]
    Failed { program: String, status: ExitStatus, stderr: String },
}

/// A program at work.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    limit: Duration,
    begin: Instant,
    until: Instant,
    printed: Receiver<(bool, io::Result<Vec<u8>>)>,
}

/// The search path for programs.
#[must_use]
pub fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{MORE_FOLDERS}"),
        _ => MORE_FOLDERS.to_owned(),
    }
}

/// True where the program is installed.
#[must_use]
pub fn installed(program: &str) -> bool {
    search_path().split(':').any(|folder| std::path::Path::new(folder).join(program).is_file())
}

/// Starts a program. `input` is written to it by a thread of its own.
///
/// # Errors
/// It is not installed or cannot be started.
pub fn start(
    program: &str,
    args: &[&str],
    input: impl Into<Arc<Vec<u8>>>,
    limit: Duration,
) -> Result<Running, CommandError> {
    let begin = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", search_path())
        // Messages are read by people and, for a line's number, by us.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CommandError::Missing { program: program.to_owned() },
            _ => CommandError::Start { program: program.to_owned(), source },
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.into();
        // A program that ends early has its own message; a broken pipe says less.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let (sender, printed) = channel();
    if let Some(out) = child.stdout.take() {
        read_all(out, true, sender.clone());
    }
    if let Some(err) = child.stderr.take() {
        read_all(err, false, sender);
    }
    Ok(Running { program: program.to_owned(), child, limit, begin, until: begin + limit, printed })
}

fn read_all(from: impl Read + Send + 'static, is_stdout: bool, done: Sender<(bool, io::Result<Vec<u8>>)>) {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = from.take(MOST_OUTPUT + 1).read_to_end(&mut bytes).map(|_| bytes);
        let _ = done.send((is_stdout, result));
    });
}

impl Running {
    /// Waits for the end; returns what was printed.
    ///
    /// # Errors
    /// It failed, or took too long and was killed.
    pub fn finish(self) -> Result<Vec<u8>, CommandError> {
        let begin = self.begin;
        let result = self.end();
        TALLY.programs.observe(begin.elapsed().as_micros() as f64);
        result
    }

    fn end(mut self) -> Result<Vec<u8>, CommandError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let left = self.until.saturating_duration_since(Instant::now());
            let Ok((is_stdout, bytes)) = self.printed.recv_timeout(left) else { return Err(self.kill()) };
            let bytes = bytes.map_err(|source| self.start_error(source))?;
            if bytes.len() as u64 > MOST_OUTPUT {
                self.kill();
                return Err(CommandError::TooMuch { program: self.program.clone() });
            }
            *(if is_stdout { &mut stdout } else { &mut stderr }) = bytes;
        }
        let status = self.wait()?;
        if status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        Err(CommandError::Failed { program: self.program.clone(), status, stderr })
    }

    /// Both outputs are closed: the program is about to end, or sits there without them.
    fn wait(&mut self) -> Result<ExitStatus, CommandError> {
        let mut pause = Duration::from_micros(100);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() >= self.until => return Err(self.kill()),
                Ok(None) => std::thread::sleep(pause),
                Err(source) => return Err(self.start_error(source)),
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn start_error(&self, source: io::Error) -> CommandError {
        CommandError::Start { program: self.program.clone(), source }
    }

    fn kill(&mut self) -> CommandError {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        CommandError::TimedOut { program: self.program.clone(), limit: self.limit }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// As [`start`] and [`Running::finish`].
pub fn run(program: &str, args: &[&str], input: Vec<u8>, limit: Duration) -> Result<Vec<u8>, CommandError> {
    start(program, args, input, limit)?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    #[test]
    fn input_goes_through_and_comes_back() {
        let much = vec![b'x'; 1 << 20];
        assert_eq!(run("cat", &[], much.clone(), LIMIT).unwrap(), much);
    }

    #[test]
    fn a_failure_is_told_in_the_programs_words() {
        let error = run("sh", &["-c", "echo no good >&2; exit 3"], vec![], LIMIT).unwrap_err().to_string();
        assert!(error.contains("no good") && error.contains("sh"), "{error}");
        assert!(matches!(
            run("no-such-program-at-all", &[], vec![], LIMIT),
            Err(CommandError::Missing { .. })
        ));
    }

    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let begin = Instant::now();
        let args = ["-c", "sleep 600 & sleep 600"];
        let error = run("sh", &args, vec![], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }));
        assert!(begin.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn a_program_that_closes_its_output_and_stays_is_killed_too() {
        let args = ["-c", "exec >&- 2>&-; sleep 600"];
        let error = run("sh", &args, vec![], Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }));
    }
}
