//! Files that are whole at every moment.
//!
//! In come a path and its new contents, out goes a file that has either the old or the new ones, also after a crash:
//! what is new is written beside it under a name that no runtime reads, synced, and renamed over the old.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{InstallError, Result};

/// Begin and end of the name of a file that is being written. Runtimes read `.conf`, `.conflist` and `.json`.
const NEW: (&str, &str) = (".calico-", ".new");

/// Puts the path into an error.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> InstallError + '_ {
    move |source| InstallError::File { path: path.to_owned(), source }
}

/// Writes a file whole. True where it did not say so before.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        let set = fs::metadata(path).and_then(|m| match m.permissions().mode() & 0o7777 == mode {
            true => Ok(()),
            false => fs::set_permissions(path, Permissions::from_mode(mode)),
        });
        return set.map(|()| false).map_err(at(path));
    }
    replace(path, mode, |new| new.write_all(contents))?;
    Ok(true)
}

/// Copies a file with its permissions. True where it was not the same before. What was written is read back.
pub fn copy(from: &Path, to: &Path) -> Result<bool> {
    if same(from, to)? {
        return Ok(false);
    }
    let mut source = File::open(from).map_err(at(from))?;
    let mode = source.metadata().map_err(at(from))?.permissions().mode() & 0o7777;
    replace(to, mode, |new| io::copy(&mut source, new).map(|_| ()))?;
    if !same(from, to)? {
        return Err(InstallError::Differs { path: to.to_owned() });
    }
    Ok(true)
}

/// Removes a file. True where there was one.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(at(path)(e)),
    }
}

/// Makes a directory with those above it.
pub fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(at(path))
}

/// Tries to write into a directory, by what every later step does: making a file.
pub fn writable(dir: &Path) -> io::Result<()> {
    let probe = new_name(&dir.join("probe"));
    File::create(&probe)?;
    fs::remove_file(probe)
}

/// Removes what an installer that was killed left half written.
pub fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with(NEW.0) && n.ends_with(NEW.1)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Size, contents and permissions are equal.
fn same(a: &Path, b: &Path) -> Result<bool> {
    let mut left = File::open(a).map_err(at(a))?;
    let mut right = match File::open(b) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.map_err(at(b))?,
    };
    let (l, r) = (left.metadata().map_err(at(a))?, right.metadata().map_err(at(b))?);
    if !r.is_file() || l.len() != r.len() || l.permissions().mode() != r.permissions().mode() {
        return Ok(false);
    }
    let (mut left_block, mut right_block) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = left.read(&mut left_block).map_err(at(a))?;
        let Some((l, r)) = left_block.get(..n).zip(right_block.get_mut(..n)) else { return Ok(false) };
        if n == 0 {
            return Ok(true);
        }
        match right.read_exact(r) {
            Ok(()) if l == r => {}
            // It is being written by someone else and ends early: not the same.
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(at(b)(e)),
        }
    }
}

fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let new = new_name(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        fill(&mut file)?;
        // Before the rename: nobody ever sees a program that may not be run.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, path)
    })();
    if let Err(e) = written {
        let _ = fs::remove_file(&new);
        return Err(at(path)(e));
    }
    sync_dir(path)
}

fn new_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (begin, end) = NEW;
    path.with_file_name(format!("{begin}{name}.{}{end}", uuid::Uuid::new_v4().simple()))
}

/// The rename itself must reach the disk.
fn sync_dir(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(write(&path, b"one", 0o600).unwrap());
        assert!(!write(&path, b"one", 0o640).unwrap(), "it says so already");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(write(&path, b"two", 0o600).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_happens_only_where_contents_or_permissions_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, vec![7; 200_000]).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o755)).unwrap();
        assert!(copy(&from, &to).unwrap());
        assert!(!copy(&from, &to).unwrap());
        fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        assert!(copy(&from, &to).unwrap());
        let mut other = vec![7; 200_000];
        *other.last_mut().unwrap() = 8;
        fs::write(&to, other).unwrap();
        assert!(copy(&from, &to).unwrap());
        assert_eq!(to.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old", 0o600).unwrap();
        let failed = replace(&path, 0o600, |f| {
            f.write_all(b"ne")?;
            Err(io::Error::from(ErrorKind::StorageFull))
        });
        assert!(failed.unwrap_err().to_string().contains("free space"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_installer_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".calico-portmap.0123.new", "portmap", ".calico-rc", "x.new"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".calico-rc", "portmap", "x.new"]);
    }
}
