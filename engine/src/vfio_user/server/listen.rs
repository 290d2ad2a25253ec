//! Where a server listens: a socket's file that only its owner may open, taken over from
//! a server that died, never from one that lives.

use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::socket;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clients that may wait while one is served.
const BACKLOG: i32 = 16;
/// How long another server may take to bind in the same directory.
const DIRECTORY: Duration = Duration::from_secs(5);

/// A listening socket and the file that leads to it; the file goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Which file is ours: device and inode.
    file: (u64, u64),
}

impl Listener {
    /// Listens at a path. A file there is removed if it is a socket that nobody listens
    /// at.
    ///
    /// # Errors
    /// `Busy` when a server listens there, `Occupied` when it is no socket, `NotFound`,
    /// `Permission`, `Invalid` for a path that no socket can have, `Limit`.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let (socket, own) = socket::socket_for(path).map_err(|e| failed(path, e))?;
        // Whoever finds a dead socket and removes it must not remove the live one that
        // another made in between: one at a time in a directory.
        let _held = hold_directory(path)?;
        // Its file has another name until it listens: who waits for the file to be there
        // may connect at once. Where that name is too long for a socket, it cannot be so.
        let begun = beside(path);
        let (name, address) = match socket::address_of(&begun) {
            Ok(address) => (&*begun, address),
            Err(_) => (path, own),
        };
        remove_dead(name)?;
        remove_dead(path)?;
        // Before it has a name: so the file is never open to others.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|e| failed(path, e))?;
        rustix::net::bind(&socket, &address).map_err(|e| failed(path, e))?;
        let file = identity(name).map_err(|e| failed(path, e))?;
        let mut listener = Self { socket, path: name.to_owned(), file };
        rustix::net::listen(&listener.socket, BACKLOG).map_err(|e| failed(path, e))?;
        if name != path {
            give_name(name, path).map_err(|e| failed(path, e))?;
            listener.path = path.to_owned();
        }
        Ok(listener)
    }

    /// The next client, if one waits; does not sleep.
    pub(super) fn accept(&self) -> rustix::io::Result<Option<OwnedFd>> {
        use rustix::net::SocketFlags;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.socket, flags) {
            Ok(client) => Ok(Some(client)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another server may have put its own file there.
        if !crate::fork::in_child() && identity(&self.path) == Ok(self.file) {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// The name of a socket that does not listen yet.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}

/// Renames a file to a name that nobody has.
fn give_name(from: &Path, to: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Err(Errno::ADDRINUSE),
        // A file system without that; the directory is held against other servers.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::rename(from, to),
        done => done,
    }
}

/// Device and inode of a path, links not followed.
fn identity(path: &Path) -> rustix::io::Result<(u64, u64)> {
    rustix::fs::lstat(path).map(|stat| (stat.st_dev, stat.st_ino))
}

fn failed(path: &Path, errno: Errno) -> Error {
    let (kind, hint) = match errno {
        Errno::NOENT | Errno::NOTDIR => (ErrorKind::NotFound, "create the directory first"),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            (ErrorKind::Permission, "choose a directory that you may write")
        }
        Errno::NAMETOOLONG | Errno::INVAL => {
            (ErrorKind::Invalid, "a socket's path has at most 108 bytes")
        }
        Errno::MFILE | Errno::NFILE => (ErrorKind::Limit, "raise RLIMIT_NOFILE (ulimit -n)"),
        Errno::ADDRINUSE => (ErrorKind::Busy, "something else is there"),
        Errno::NOSPC => (ErrorKind::NoSpace, "the file system is full"),
        _ => (ErrorKind::Io, "see the system's message"),
    };
    Error::new(kind, format!("cannot listen at {}: {errno}; {hint}", path.display()))
}

/// Locks the directory of a path for as long as the descriptor lives.
fn hold_directory(path: &Path) -> Result<OwnedFd> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty()).map_err(|e| failed(path, e))?;
    let until = Instant::now() + DIRECTORY;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            // A file system without locks has no two servers that race for a name.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(directory),
            Err(Errno::AGAIN) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::AGAIN) => {
                let text = format!("{} is locked by another program", parent.display());
                return Err(Error::new(ErrorKind::Busy, text));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(path, errno)),
        }
    }
}

/// Removes a socket at which nobody listens any more.
fn remove_dead(path: &Path) -> Result<()> {
    let stat = match rustix::fs::lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(path, errno)),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        let text = format!("{} is there and is no socket; it is not removed", path.display());
        return Err(Error::new(ErrorKind::Occupied, text));
    }
    let (probe, address) = socket::socket_for(path).map_err(|e| failed(path, e))?;
    match rustix::net::connect(&probe, &address) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "the socket of a dead server is removed");
            rustix::fs::unlink(path).map_err(|e| failed(path, e))
        }
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => {
            let text = format!("a server listens at {} already", path.display());
            Err(Error::new(ErrorKind::Busy, text))
        }
        Err(errno) => Err(failed(path, errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    #[test]
    fn whoever_sees_the_file_can_connect() {
        let dir = std::env::temp_dir().join(format!("freehold-listen-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (ask, asked) = mpsc::channel::<PathBuf>();
        let (answer, answered) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for path in asked {
                    while !path.exists() {
                        std::hint::spin_loop();
                    }
                    answer.send(UnixStream::connect(&path).map(drop)).unwrap();
                }
            });
            for i in 0..4000 {
                let path = dir.join(i.to_string());
                ask.send(path.clone()).unwrap();
                let listener = Listener::bind(&path).unwrap();
                answered.recv().unwrap().unwrap_or_else(|e| panic!("try {i}: {e}"));
                drop(listener);
                assert!(!path.exists());
            }
            drop(ask);
        });
        std::fs::remove_dir(&dir).unwrap();
    }
}
