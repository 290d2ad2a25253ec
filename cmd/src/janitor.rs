//! Takes away what this program puts down for a while: directories, files,
//! mounts. It is a process of its own, in a process group of its own, that
//! waits for its parent's end of a pipe to close. So it also works after
//! Ctrl-C, a panic, or kill -9.

use crate::failure::{Failure, Outcome};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tree,
    File,
    Mount,
}

/// The parent's side. Dropping it cleans up and waits until that is done.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts the process.
    pub(crate) fn start() -> Outcome<Janitor> {
        let child = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .arg("janitor")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .process_group(0)
                    .spawn()
            })
            .map_err(|error| {
                Failure::new(format!("cannot start a process to clean up: {error}"))
            })?;
        Ok(Janitor { child })
    }

    /// A directory will be removed with all that is in it. Say so before making it.
    pub(crate) fn tree(&mut self, path: &Path) -> Outcome {
        self.tell("tree", path)
    }

    /// A file will be removed. Say so before making it.
    pub(crate) fn file(&mut self, path: &Path) -> Outcome {
        self.tell("file", path)
    }

    /// A file system will be unmounted, before what was told earlier goes.
    pub(crate) fn mount(&mut self, path: &Path) -> Outcome {
        self.tell("mount", path)
    }

    fn tell(&mut self, what: &str, path: &Path) -> Outcome {
        let fail = |error| Failure::local(path, "cannot arrange for the removal of", &error);
        let path = std::path::absolute(path).map_err(fail)?;
        let line = format!("{what} {}\n", crate::name::hex(path.as_os_str().as_bytes()));
        match &mut self.child.stdin {
            Some(pipe) => pipe.write_all(line.as_bytes()).map_err(fail),
            None => Ok(()),
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The child's side: collects until the pipe closes, then works backwards.
pub(crate) fn run() -> Outcome {
    let list: Vec<_> = std::io::stdin().lock().lines().map_while(Result::ok).collect();
    let mut busy = Vec::new();
    for line in list.iter().rev() {
        let Some((what, path)) = parse(line) else { continue };
        match what {
            What::Mount if !unmount(&path) => busy.push(path),
            What::Mount => {}
            What::File => drop(std::fs::remove_file(&path)),
            // Never walks into what is still mounted.
            What::Tree if busy.iter().any(|mount| mount.starts_with(&path)) => {}
            What::Tree => drop(std::fs::remove_dir_all(&path)),
        }
    }
    match busy.first() {
        None => Ok(()),
        Some(path) => {
            Err(Failure::new(format!("cannot unmount {}: do it by hand", path.display())))
        }
    }
}

fn parse(line: &str) -> Option<(What, PathBuf)> {
    let (what, hex) = line.split_once(' ')?;
    let what = match what {
        "tree" => What::Tree,
        "file" => What::File,
        "mount" => What::Mount,
        _ => return None,
    };
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
        .collect();
    Some((what, OsString::from_vec(bytes?).into()))
}

/// Unmounts; waits a while for those who are still using it. True if nothing
/// is mounted there any more.
fn unmount(path: &Path) -> bool {
    let umount = |flags: &[&str]| {
        Command::new("umount")
            .args(flags)
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    for _ in 0..50 {
        if !is_mounted(path) || umount(&[]) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    umount(&["--lazy"])
}

/// Whether another file system begins at `path`.
fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.dev());
    match (device(path), path.parent().and_then(device)) {
        (Some(here), Some(above)) => here != above,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_any_path() {
        let path = Path::new("/tmp/a b\nc");
        let line = format!("mount {}", crate::name::hex(path.as_os_str().as_bytes()));
        assert_eq!(parse(&line), Some((What::Mount, path.to_path_buf())));
        assert_eq!(parse("mount"), None);
        assert_eq!(parse("else 2f"), None);
    }
}
