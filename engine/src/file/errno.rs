//! What the system's error numbers mean for a medium.

use crate::medium::{Error, ErrorKind};
use rustix::io::Errno;

/// The error of an operation on an open medium; `what` is a verb phrase such
/// as "writing block 7".
pub(super) fn io_error(errno: Errno, what: &str) -> Error {
    Error::new(io_kind(errno), format!("{what}: {errno}"))
}

fn io_kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorKind::NoSpace,
        // The device is not there any more.
        Errno::NODEV | Errno::NXIO | Errno::NOMEDIUM => ErrorKind::Gone,
        Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorKind::Permission,
        Errno::NOMEM | Errno::NOBUFS => ErrorKind::Limit,
        _ => ErrorKind::Io,
    }
}

/// The error of opening or preparing a file.
pub(crate) fn open_error(errno: Errno, what: &str) -> Error {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO => ErrorKind::NotFound,
        Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorKind::Permission,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        Errno::ISDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::INVAL => ErrorKind::Invalid,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => ErrorKind::Limit,
        other => io_kind(other),
    };
    Error::new(kind, format!("{what}: {errno}"))
}

/// Whether the operation should simply be issued again. `CANCELED`, `INTR`
/// and `FAULT` are what the kernel answers for work whose submitting thread
/// ended before it began (our memory itself never faults: it is mapped for as
/// long as a buffer of it exists).
pub(super) fn is_transient(errno: Errno) -> bool {
    matches!(errno, Errno::AGAIN | Errno::INTR | Errno::CANCELED | Errno::FAULT)
}

/// Whether the file system or device does not have the operation at all.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY)
}
