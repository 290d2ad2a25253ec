//! A local file that appears whole, or not at all.

use crate::pattern;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file without a name, or with a temporary one where the file system
/// cannot do without, that takes the place of `target` on commit.
pub(super) struct Replacement {
    file: File,
    target: PathBuf,
    permissions: Option<Permissions>,
    /// Removed on drop.
    temporary: Option<PathBuf>,
}

impl Replacement {
    /// Begins to replace `target`; where that is a symbolic link, the file it leads to.
    pub(super) fn begin(target: &Path) -> io::Result<Replacement> {
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let permissions = std::fs::metadata(&target).ok().map(|meta| meta.permissions());
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let (file, temporary) = match rustix::fs::openat(CWD, directory(&target), flags, mode) {
            Ok(fd) => (File::from(fd), None),
            Err(_) => {
                let path = beside(&target);
                let file = File::options().read(true).write(true).create_new(true).open(&path)?;
                (file, Some(path))
            }
        };
        Ok(Replacement { file, target, permissions, temporary })
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable and gives it the name.
    pub(super) fn commit(mut self) -> io::Result<()> {
        if let Some(permissions) = self.permissions.take() {
            self.file.set_permissions(permissions)?;
        }
        self.file.sync_all()?;
        let path = match self.temporary.clone() {
            Some(path) => path,
            None => {
                let path = beside(&self.target);
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
                self.temporary = Some(path.clone());
                path
            }
        };
        std::fs::rename(path, &self.target)?;
        self.temporary = None;
        File::open(directory(&self.target))?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The directory that a path is in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name that nobody uses, in the same directory.
fn beside(path: &Path) -> PathBuf {
    directory(path).join(format!(".freehold-get-{:016x}", pattern::fresh_seed()))
}
