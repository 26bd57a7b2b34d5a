//! Puts a text in the place of a file: checked first, then by rename.
//!
//! In comes the whole text; out goes whether the file changed. Always holds: a reader sees the old text or the new one,
//! never a part; a text that the check command refuses replaces nothing; a crash leaves the old file.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Stands for the file in a check command.
pub const FILE_PLACEHOLDER: &str = "{file}";
/// Longest time that a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// What is shown of a check's complaint, in bytes.
const MAX_COMPLAINT: u64 = 4096;

/// Why the file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: String, source: std::io::Error },
    #[error("cannot run the check {command:?}: {source}; see -check-command")]
    CheckNotRun { command: String, source: std::io::Error },
    #[error("the new file was refused and the old one stays: {complaint}")]
    Refused { complaint: String },
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file already said so.
    Unchanged,
    Written,
}

/// A command that judges a file by its exit code, such as `bird-rs -p -c {file}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    words: Vec<String>,
}

impl Check {
    /// Splits the command at blanks. `None` for an empty text: no check. Without `{file}` the file comes last.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return None;
        }
        if !words.iter().any(|w| w.contains(FILE_PLACEHOLDER)) {
            words.push(FILE_PLACEHOLDER.to_owned());
        }
        Some(Self { words })
    }

    /// A command of a program and its arguments.
    #[must_use]
    pub fn program(program: &Path) -> Self {
        let words = [program.display().to_string(), "-p".into(), "-c".into(), FILE_PLACEHOLDER.into()];
        Self { words: words.into() }
    }

    /// Runs the command on a file.
    pub fn run(&self, file: &Path) -> Result<(), OutputError> {
        let words: Vec<String> =
            self.words.iter().map(|w| w.replace(FILE_PLACEHOLDER, &file.display().to_string())).collect();
        let not_run = |source| OutputError::CheckNotRun { command: words.join(" "), source };
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        // A file, not a pipe: a check that talks without end cannot block itself, nor leave a reader behind.
        let mut said = tempfile_in(file.parent().unwrap_or(Path::new("/")))?;
        let complaint_out = said.file.try_clone().map_err(not_run)?;
        let complaint_err = said.file.try_clone().map_err(not_run)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(complaint_out)
            .stderr(complaint_err)
            .spawn()
            .map_err(not_run)?;
        let deadline = Instant::now() + CHECK_TIMEOUT;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(not_run)? {
                break Some(status);
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let text = said.text();
                let complaint = if text.is_empty() { status.to_string() } else { text };
                Err(OutputError::Refused { complaint })
            }
            None => {
                Err(OutputError::Refused { complaint: format!("the check took more than {CHECK_TIMEOUT:?}") })
            }
        }
    }
}

/// Writes a text where the file does not have it yet.
pub fn replace(path: &Path, text: &str, check: Option<&Check>) -> Result<Outcome, OutputError> {
    if is_current(path, text)? {
        return Ok(Outcome::Unchanged);
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(file_error("create directory", directory))?;
    let mut new = tempfile_in(directory)?;
    new.file.write_all(text.as_bytes()).map_err(file_error("write", &new.path))?;
    // The daemon may run as another user; session passwords are the group's business.
    new.file.set_permissions(fs::Permissions::from_mode(0o640)).map_err(file_error("change", &new.path))?;
    new.file.sync_all().map_err(file_error("sync", &new.path))?;
    if let Some(check) = check {
        check.run(&new.path)?;
    }
    fs::rename(&new.path, path).map_err(file_error("replace", path))?;
    new.renamed = true;
    // The name is safe only once the directory is.
    File::open(directory).and_then(|d| d.sync_all()).map_err(file_error("sync", directory))?;
    Ok(Outcome::Written)
}

/// Checks a text without writing it anywhere that lasts.
pub fn check_only(directory: &Path, text: &str, check: Option<&Check>) -> Result<(), OutputError> {
    let Some(check) = check else { return Ok(()) };
    fs::create_dir_all(directory).map_err(file_error("create directory", directory))?;
    let mut new = tempfile_in(directory)?;
    new.file.write_all(text.as_bytes()).map_err(file_error("write", &new.path))?;
    check.run(&new.path)
}

/// True where the file stands and says exactly this.
pub fn is_current(path: &Path, text: &str) -> Result<bool, OutputError> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes == text.as_bytes()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(file_error("read", path)(e)),
    }
}

/// A file that goes away unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn text(&mut self) -> String {
        let mut text = String::new();
        if let Ok(file) = File::open(&self.path) {
            let _ = file.take(MAX_COMPLAINT).read_to_string(&mut text);
        }
        text.trim().replace(&format!("{}/", self.path.parent().unwrap_or(Path::new("")).display()), "")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// In the same directory, because a rename does not cross file systems.
fn tempfile_in(directory: &Path) -> Result<Temporary, OutputError> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = directory.join(format!(".confd-{}-{n}.tmp", std::process::id()));
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(file_error("create", &path))?;
    Ok(Temporary { path, file, renamed: false })
}

fn file_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> OutputError + use<'a> {
    move |source| OutputError::File { what, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_text_is_written_and_the_same_text_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config/bird.cfg");
        assert_eq!(replace(&path, "a\n", None).unwrap(), Outcome::Written);
        assert_eq!(replace(&path, "a\n", None).unwrap(), Outcome::Unchanged);
        assert_eq!(replace(&path, "b\n", None).unwrap(), Outcome::Written);
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(entries(path.parent().unwrap()), ["bird.cfg"]);
    }

    #[test]
    fn a_refused_text_leaves_the_good_file_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bird.cfg");
        let check = Check::parse("grep -q good {file}").unwrap();
        replace(&path, "good\n", Some(&check)).unwrap();
        let error = replace(&path, "bad\n", Some(&check)).unwrap_err();
        assert!(matches!(error, OutputError::Refused { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "good\n");
        assert_eq!(entries(directory.path()), ["bird.cfg"]);
    }

    #[test]
    fn the_complaint_of_the_check_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let body = "echo \"$1:3:1 syntax error\" >&2\nexit 1";
        let script = libcalico_testing::script(directory.path(), "check", body);
        let check = Check::parse(&script.display().to_string()).unwrap();
        let error = replace(&directory.path().join("bird.cfg"), "x", Some(&check)).unwrap_err();
        assert!(error.to_string().contains(":3:1 syntax error"), "{error}");
    }

    #[test]
    fn a_check_that_does_not_exist_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let check = Check::program(Path::new("/nonexistent/bird"));
        let error = replace(&directory.path().join("bird.cfg"), "x", Some(&check)).unwrap_err();
        assert!(matches!(error, OutputError::CheckNotRun { .. }), "{error}");
        assert!(entries(directory.path()).is_empty());
    }
}
