//! Limits of the system on memory for devices: what to say when one is met.
//!
//! A map that is refused comes back as a bare error number. Which limit stands
//! behind it, what it is now and how to raise it is known here, so that every
//! transport says the same.

use crate::medium::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;
use std::fs;

/// Where the kernel's VFIO driver keeps its limit on maps.
const DMA_ENTRY_LIMIT: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

/// Why `len` bytes could not be made known to a device, with the limit that was met,
/// its value, and the command that raises it. `what` says what was tried.
///
/// # Examples
/// ```
/// use freehold_engine::memory::limits::map_refused;
/// let error = map_refused("mapping for DMA", 1 << 21, rustix::io::Errno::NOMEM);
/// assert!(error.message().contains("ulimit -l"));
/// ```
pub fn map_refused(what: &str, len: u64, errno: Errno) -> Error {
    let (kind, advice) = match errno {
        Errno::NOMEM => (ErrorKind::Limit, locked_memory(len)),
        Errno::NOSPC => (ErrorKind::Limit, maps()),
        Errno::MFILE => (ErrorKind::Limit, descriptors()),
        Errno::NFILE => (
            ErrorKind::Limit,
            "the system has no descriptors left: sysctl fs.file-max says how many there are, \
             sysctl -w fs.file-max=N raises it"
                .to_owned(),
        ),
        Errno::ACCESS | Errno::PERM => {
            (ErrorKind::Permission, "the system or the device does not allow it".to_owned())
        }
        Errno::INVAL => (
            ErrorKind::Invalid,
            "the device takes no such range: its page size or its address range is another"
                .to_owned(),
        ),
        Errno::EXIST => (ErrorKind::Invalid, "the range is mapped already".to_owned()),
        _ => (ErrorKind::Io, "no limit that is known stands behind this".to_owned()),
    };
    Error::new(kind, format!("{what} of {len} bytes: {errno}; {advice}"))
}

/// The same for a limit that was met in the process at the other end of a link: only that
/// one can raise it. Errors of other kinds stay as they are.
pub fn refused_by_peer(error: Error) -> Error {
    if error.kind() != ErrorKind::Limit {
        return error;
    }
    let text = format!(
        "{}; the limit is the server's: give it more locked memory (`ulimit -l`), descriptors \
         (`ulimit -n`) or DMA regions and start it again, or use fewer media at once",
        error.message()
    );
    Error::new(ErrorKind::Limit, text)
}

/// What to say when the system locks no more memory for this process.
fn locked_memory(len: u64) -> String {
    let now = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{} KiB", bytes >> 10),
        None => "unlimited, so memory itself is short".to_owned(),
    };
    format!(
        "memory for devices is locked and counts against RLIMIT_MEMLOCK (now {now}): raise it by \
         {} KiB or more, with `ulimit -l KIB` in the shell, `LimitMEMLOCK=` in the unit, or \
         `memlock` in /etc/security/limits.conf",
        len.div_ceil(1024)
    )
}

/// What to say when the device or its driver takes no more maps.
fn maps() -> String {
    match dma_entry_limit() {
        Some(now) => format!(
            "the container has no entry left (dma_avail is 0, dma_entry_limit is {now}): \
             echo {} > {DMA_ENTRY_LIMIT} as root, then open again",
            now.saturating_mul(2)
        ),
        None => "the device takes no more maps: use fewer media at once, or raise the number of \
                 DMA regions that the peer allows"
            .to_owned(),
    }
}

/// What to say when this process may open nothing more.
pub(super) fn descriptors() -> String {
    let limit = getrlimit(Resource::Nofile);
    let show = |value: Option<u64>| value.map_or("unlimited".to_owned(), |n| n.to_string());
    format!(
        "this process may have {} descriptors: `ulimit -n N` raises it up to {}",
        show(limit.current),
        show(limit.maximum)
    )
}

/// How many maps a container of the kernel's VFIO may have; none without that driver.
pub fn dma_entry_limit() -> Option<u64> {
    fs::read_to_string(DMA_ENTRY_LIMIT).ok()?.trim().parse().ok()
}

/// Bytes that this process may lock; none when there is no limit, which one with CAP_IPC_LOCK
/// does not have (drivers/vfio, drivers/iommu/iommufd).
pub fn locked_limit() -> Option<u64> {
    let free = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    getrlimit(Resource::Memlock).current.filter(|_| !free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_other_end_is_told_as_its() {
        let of = |kind| refused_by_peer(Error::new(kind, "it refused a map"));
        assert!(of(ErrorKind::Limit).message().starts_with("it refused a map; the limit is the"));
        assert_eq!(of(ErrorKind::Gone).message(), "it refused a map");
    }

    #[test]
    fn each_limit_is_named_with_its_remedy() {
        for (errno, kind, words) in [
            (Errno::NOMEM, ErrorKind::Limit, &["RLIMIT_MEMLOCK", "ulimit -l", "2048 KiB"][..]),
            (Errno::NOSPC, ErrorKind::Limit, &["maps"]),
            (Errno::MFILE, ErrorKind::Limit, &["descriptors", "ulimit -n"]),
            (Errno::NFILE, ErrorKind::Limit, &["fs.file-max"]),
            (Errno::PERM, ErrorKind::Permission, &["allow"]),
            (Errno::INVAL, ErrorKind::Invalid, &["page size"]),
            (Errno::EXIST, ErrorKind::Invalid, &["already"]),
            (Errno::IO, ErrorKind::Io, &["known"]),
        ] {
            let error = map_refused("mapping", 2 << 20, errno);
            assert_eq!(error.kind(), kind);
            for word in words {
                let said = error.message();
                let entries = errno == Errno::NOSPC && said.contains("dma_entry_limit");
                assert!(said.contains(word) || entries, "{errno}: {said}");
            }
            assert!(error.message().starts_with("mapping of 2097152 bytes"));
        }
    }
}
