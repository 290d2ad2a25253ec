//! Codes: what a call that failed returns.
//!
//! Those from -1 to -4095 are the system's own errno, negated; those from -10000 down are ours:
//! -100xx the caller's mistakes, -101xx refusals, -102xx failures. A code never changes its
//! meaning, and a range never its family.

use freehold::ErrorKind;
use std::ffi::{CStr, c_int};

/// Caller: no such file, store or device.
pub const FH_ENOENT: c_int = -2;
/// Failure: the device reported an error.
pub const FH_EIO: c_int = -5;
/// Caller: a handle that is null, was freed, or is of another kind.
pub const FH_EBADF: c_int = -9;
/// The queue is full: poll it, and submit again. Nothing happened.
pub const FH_EAGAIN: c_int = -11;
/// Refusal: no right to use it.
pub const FH_EACCES: c_int = -13;
/// Caller: a null pointer where there must be memory.
pub const FH_EFAULT: c_int = -14;
/// Refusal: somebody else holds it, or work in flight or a pin is in the way.
pub const FH_EBUSY: c_int = -16;
/// Caller: the name is taken.
pub const FH_EEXIST: c_int = -17;
/// Failure: the medium vanished, or may have lost completed writes.
pub const FH_ENODEV: c_int = -19;
/// Caller: a bad argument: a range, a name, a length, a flag, the size of a struct.
pub const FH_EINVAL: c_int = -22;
/// Refusal: no free space.
pub const FH_ENOSPC: c_int = -28;
/// Caller: the store was opened for reading only.
pub const FH_EROFS: c_int = -30;
/// Refusal: the device or system cannot do this.
pub const FH_EOPNOTSUPP: c_int = -95;
/// Caller: what was opened is not a store.
pub const FH_ENOTASTORE: c_int = -10001;
/// Caller: the journal of the store is missing, or what was given is not it.
pub const FH_EWRONGJOURNAL: c_int = -10002;
/// Caller: a store of a newer format, or with features that this library lacks.
pub const FH_ETOONEW: c_int = -10003;
/// Caller: the queue is another thread's; fh_queue_adopt takes it over.
pub const FH_EWRONGTHREAD: c_int = -10004;
/// Refusal: the medium carries something that is not ours to overwrite.
pub const FH_EOCCUPIED: c_int = -10101;
/// Refusal: a seal forbids it; the message says whose.
pub const FH_ESEALED: c_int = -10102;
/// Refusal: the lease was asked for back; return it, or take it again later.
pub const FH_ERECALLED: c_int = -10103;
/// Refusal: the lease was taken. The ordinary reads and writes always work.
pub const FH_EREVOKED: c_int = -10104;
/// Refusal: it would wait for itself.
pub const FH_EWOULDDEADLOCK: c_int = -10105;
/// Refusal: a forked child owns nothing of its parent's stores.
pub const FH_EFORKED: c_int = -10106;
/// Refusal: a limit of the system; the message says which to raise.
pub const FH_ELIMIT: c_int = -10107;
/// Failure: a structure on the medium is damaged; fh_error_place says which.
pub const FH_ECORRUPT: c_int = -10201;
/// Failure: the store's image is shorter than the store.
pub const FH_ETRUNCATED: c_int = -10202;
/// Failure: an earlier write or flush of the store's own was lost; open it again.
pub const FH_EPOISONED: c_int = -10203;
/// Failure: a defect of the library, caught at its boundary; the message says where. The
/// handles of the call are not to be used any more.
pub const FH_EPANIC: c_int = -10204;
/// Failure: one that this version has no code for.
pub const FH_EOTHER: c_int = -10299;

/// Each code with its name.
pub(crate) const NAMES: &[(c_int, &CStr)] = &[
    (FH_ENOENT, c"FH_ENOENT"),
    (FH_EIO, c"FH_EIO"),
    (FH_EBADF, c"FH_EBADF"),
    (FH_EAGAIN, c"FH_EAGAIN"),
    (FH_EACCES, c"FH_EACCES"),
    (FH_EFAULT, c"FH_EFAULT"),
    (FH_EBUSY, c"FH_EBUSY"),
    (FH_EEXIST, c"FH_EEXIST"),
    (FH_ENODEV, c"FH_ENODEV"),
    (FH_EINVAL, c"FH_EINVAL"),
    (FH_ENOSPC, c"FH_ENOSPC"),
    (FH_EROFS, c"FH_EROFS"),
    (FH_EOPNOTSUPP, c"FH_EOPNOTSUPP"),
    (FH_ENOTASTORE, c"FH_ENOTASTORE"),
    (FH_EWRONGJOURNAL, c"FH_EWRONGJOURNAL"),
    (FH_ETOONEW, c"FH_ETOONEW"),
    (FH_EWRONGTHREAD, c"FH_EWRONGTHREAD"),
    (FH_EOCCUPIED, c"FH_EOCCUPIED"),
    (FH_ESEALED, c"FH_ESEALED"),
    (FH_ERECALLED, c"FH_ERECALLED"),
    (FH_EREVOKED, c"FH_EREVOKED"),
    (FH_EWOULDDEADLOCK, c"FH_EWOULDDEADLOCK"),
    (FH_EFORKED, c"FH_EFORKED"),
    (FH_ELIMIT, c"FH_ELIMIT"),
    (FH_ECORRUPT, c"FH_ECORRUPT"),
    (FH_ETRUNCATED, c"FH_ETRUNCATED"),
    (FH_EPOISONED, c"FH_EPOISONED"),
    (FH_EPANIC, c"FH_EPANIC"),
    (FH_EOTHER, c"FH_EOTHER"),
];

/// The code of a kind of error.
pub(crate) fn of(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::NotFound => FH_ENOENT,
        ErrorKind::Io => FH_EIO,
        ErrorKind::Permission => FH_EACCES,
        ErrorKind::Busy => FH_EBUSY,
        ErrorKind::Exists => FH_EEXIST,
        ErrorKind::Gone => FH_ENODEV,
        ErrorKind::Invalid => FH_EINVAL,
        ErrorKind::NoSpace => FH_ENOSPC,
        ErrorKind::ReadOnly => FH_EROFS,
        ErrorKind::Unsupported => FH_EOPNOTSUPP,
        ErrorKind::NotAStore => FH_ENOTASTORE,
        ErrorKind::WrongJournal => FH_EWRONGJOURNAL,
        ErrorKind::TooNew => FH_ETOONEW,
        ErrorKind::Occupied => FH_EOCCUPIED,
        ErrorKind::Sealed => FH_ESEALED,
        ErrorKind::Recalled => FH_ERECALLED,
        ErrorKind::Revoked => FH_EREVOKED,
        ErrorKind::WouldDeadlock => FH_EWOULDDEADLOCK,
        ErrorKind::ForkedChild => FH_EFORKED,
        ErrorKind::Limit => FH_ELIMIT,
        ErrorKind::Corrupt => FH_ECORRUPT,
        ErrorKind::Truncated => FH_ETRUNCATED,
        ErrorKind::Poisoned => FH_EPOISONED,
        _ => FH_EOTHER,
    }
}

/// The name of a code, if it has one.
pub(crate) fn name(code: c_int) -> Option<&'static CStr> {
    NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_system_are_the_systems() {
        let system = [
            (FH_ENOENT, libc::ENOENT),
            (FH_EIO, libc::EIO),
            (FH_EBADF, libc::EBADF),
            (FH_EAGAIN, libc::EAGAIN),
            (FH_EACCES, libc::EACCES),
            (FH_EFAULT, libc::EFAULT),
            (FH_EBUSY, libc::EBUSY),
            (FH_EEXIST, libc::EEXIST),
            (FH_ENODEV, libc::ENODEV),
            (FH_EINVAL, libc::EINVAL),
            (FH_ENOSPC, libc::ENOSPC),
            (FH_EROFS, libc::EROFS),
            (FH_EOPNOTSUPP, libc::EOPNOTSUPP),
        ];
        assert!(system.iter().all(|(ours, theirs)| *ours == -theirs));
        let small = NAMES.iter().filter(|(code, _)| *code > -10_000).count();
        assert_eq!(small, system.len());
    }

    #[test]
    fn no_two_codes_are_the_same() {
        let mut codes: Vec<c_int> = NAMES.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), NAMES.len());
        assert_eq!(name(FH_ERECALLED), Some(c"FH_ERECALLED"));
        assert_eq!(name(0), None);
    }
}
