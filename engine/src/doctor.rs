//! What the system lets this process do, for those who find out why a medium cannot be
//! opened. Looking and trying only: nothing here changes anything.

use crate::medium::Result;
use crate::memory::sealed_memory;
use crate::probe::System;
use io_uring::IoUring;
use rustix::fs::FileType;
use std::io;
use std::path::Path;

pub use crate::memory::huge_pages;

/// Who uses a file or block device in a way that keeps it from being a medium, in words:
/// mounted, swapped to, built upon. None when nobody does.
pub fn user_of(path: &Path) -> Option<String> {
    let stat = rustix::fs::stat(path).ok()?;
    let system = System::live();
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        return system.device_user(number);
    }
    system.file_user(path)
}

/// Whether this process may use io_uring: tries it.
///
/// # Errors
/// What the system says.
pub fn io_uring() -> io::Result<()> {
    let ring = IoUring::new(2)?;
    match ring.params().is_feature_ext_arg() {
        true => Ok(()),
        false => Err(io::Error::other("it is too old: it has no waiting with a time-out")),
    }
}

/// The instruction by which this processor writes a line of its caches back; none where
/// persistent memory cannot be used.
pub fn writes_lines_back() -> Option<&'static str> {
    crate::pmem::instruction()
}

/// Whether this process gets memory that another can map, sealed against shrinking: tries
/// it.
///
/// # Errors
/// `Limit`, with what to raise.
pub fn memory_for_devices() -> Result<()> {
    sealed_memory()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_uses_what_is_not_there_or_is_a_plain_file() {
        assert_eq!(user_of(Path::new("/no such file")), None);
        assert_eq!(user_of(Path::new(file!())), None);
        assert!(memory_for_devices().is_ok());
        assert_eq!(io_uring().is_ok(), io_uring().is_ok());
    }
}
