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
        // Whoever finds a dead socket and removes it must not remove the live one that
        // another made in between: one at a time in a directory.
        let _held = hold_directory(path)?;
        let (socket, address) = socket::socket_for(path).map_err(|e| failed(path, e))?;
        // Before it has a name: so the file is never open to others.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|e| failed(path, e))?;
        let mut bound = rustix::net::bind(&socket, &address);
        if bound == Err(Errno::ADDRINUSE) {
            remove_dead(path)?;
            bound = rustix::net::bind(&socket, &address);
        }
        bound.map_err(|e| failed(path, e))?;
        let file = identity(path).map_err(|e| failed(path, e))?;
        let listener = Self { socket, path: path.to_owned(), file };
        rustix::net::listen(&listener.socket, BACKLOG).map_err(|e| failed(path, e))?;
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
