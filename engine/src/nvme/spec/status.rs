//! Status codes: their names, and what each means for a medium
//! (Base 1.4, 4.6.1; NVM 1.0, 3.1.2).

use crate::medium::ErrorKind;
use std::fmt;

/// The status field of a completion without its phase tag (4.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(pub u16);

/// Status code type (4.6.1): generic.
pub const GENERIC: u8 = 0;
/// Status code type: specific to the command.
pub const SPECIFIC: u8 = 1;
/// Status code type: media and data integrity.
pub const MEDIA: u8 = 2;
/// Status code type: path.
pub const PATH: u8 = 3;

impl Status {
    /// The status of a type and a code, without the bits that say more.
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self((sct as u16 & 7) << 8 | sc as u16)
    }

    /// The same with DNR: a retry would fail, too.
    #[must_use]
    pub const fn final_(self) -> Self {
        Self(self.0 | 1 << 14)
    }

    /// Status code type.
    pub const fn sct(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Status code.
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// DNR: do not retry.
    pub const fn do_not_retry(self) -> bool {
        self.0 >> 14 & 1 == 1
    }

    /// M: the error information log says more.
    pub const fn more(self) -> bool {
        self.0 >> 13 & 1 == 1
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        self.meaning().map_or("a status that the specification does not name", |known| known.1)
    }

    /// What an I/O command's failure means for whoever gave the operation; `None` for
    /// success.
    pub fn kind(self) -> Option<ErrorKind> {
        if self.is_success() {
            return None;
        }
        Some(self.meaning().map_or(ErrorKind::Io, |known| known.2))
    }

    fn meaning(self) -> Option<&'static (Self, &'static str, ErrorKind)> {
        let key = Self::new(self.sct(), self.sc());
        NAMES.iter().find(|known| known.0 == key)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SCT {}h, SC {:02x}h)", self.name(), self.sct(), self.sc())
    }
}

macro_rules! codes {
    ($($name:ident = $sct:ident, $sc:literal, $text:literal, $kind:ident;)*) => {
        impl Status {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: Self = Self::new($sct, $sc);
            )*
        }

        /// Every status that the specification names for the commands used here, with
        /// its name and its meaning.
        const NAMES: &[(Status, &str, ErrorKind)] =
            &[$((Status::$name, $text, ErrorKind::$kind)),*];
    };
}

// `Reset` is what did not happen, or not wholly, through no fault of the command: it may
// be given again. `Io` is what the command itself met; a code that a driver's own mistake
// would cause is `Io` as well, because the caller has made none.
codes! {
    SUCCESS = GENERIC, 0x00, "Successful Completion", Io;
    INVALID_OPCODE = GENERIC, 0x01, "Invalid Command Opcode", Unsupported;
    INVALID_FIELD = GENERIC, 0x02, "Invalid Field in Command", Io;
    ID_CONFLICT = GENERIC, 0x03, "Command ID Conflict", Io;
    DATA_TRANSFER_ERROR = GENERIC, 0x04, "Data Transfer Error", Io;
    ABORTED_POWER_LOSS = GENERIC, 0x05, "Commands Aborted due to Power Loss Notification", Reset;
    INTERNAL_ERROR = GENERIC, 0x06, "Internal Error", Io;
    ABORT_REQUESTED = GENERIC, 0x07, "Command Abort Requested", Reset;
    ABORTED_SQ_DELETION = GENERIC, 0x08, "Command Aborted due to SQ Deletion", Reset;
    ABORTED_FAILED_FUSED = GENERIC, 0x09, "Command Aborted due to Failed Fused Command", Reset;
    ABORTED_MISSING_FUSED = GENERIC, 0x0a, "Command Aborted due to Missing Fused Command", Io;
    INVALID_NAMESPACE = GENERIC, 0x0b, "Invalid Namespace or Format", Io;
    SEQUENCE_ERROR = GENERIC, 0x0c, "Command Sequence Error", Io;
    INVALID_SGL_SEGMENT = GENERIC, 0x0d, "Invalid SGL Segment Descriptor", Io;
    INVALID_SGL_COUNT = GENERIC, 0x0e, "Invalid Number of SGL Descriptors", Io;
    DATA_SGL_LENGTH = GENERIC, 0x0f, "Data SGL Length Invalid", Io;
    METADATA_SGL_LENGTH = GENERIC, 0x10, "Metadata SGL Length Invalid", Io;
    SGL_TYPE = GENERIC, 0x11, "SGL Descriptor Type Invalid", Io;
    INVALID_CMB_USE = GENERIC, 0x12, "Invalid Use of Controller Memory Buffer", Io;
    PRP_OFFSET = GENERIC, 0x13, "PRP Offset Invalid", Io;
    ATOMIC_EXCEEDED = GENERIC, 0x14, "Atomic Write Unit Exceeded", Io;
    OPERATION_DENIED = GENERIC, 0x15, "Operation Denied", Permission;
    SGL_OFFSET = GENERIC, 0x16, "SGL Offset Invalid", Io;
    HOST_ID_FORMAT = GENERIC, 0x18, "Host Identifier Inconsistent Format", Io;
    KEEP_ALIVE_EXPIRED = GENERIC, 0x19, "Keep Alive Timer Expired", Io;
    KEEP_ALIVE_INVALID = GENERIC, 0x1a, "Keep Alive Timeout Invalid", Io;
    ABORTED_PREEMPT = GENERIC, 0x1b, "Command Aborted due to Preempt and Abort", Reset;
    SANITIZE_FAILED = GENERIC, 0x1c, "Sanitize Failed", Io;
    SANITIZE_IN_PROGRESS = GENERIC, 0x1d, "Sanitize In Progress", Busy;
    SGL_GRANULARITY = GENERIC, 0x1e, "SGL Data Block Granularity Invalid", Io;
    CMB_QUEUE = GENERIC, 0x1f, "Command Not Supported for Queue in CMB", Io;
    WRITE_PROTECTED = GENERIC, 0x20, "Namespace is Write Protected", Permission;
    INTERRUPTED = GENERIC, 0x21, "Command Interrupted", Reset;
    TRANSIENT_TRANSPORT = GENERIC, 0x22, "Transient Transport Error", Reset;
    LOCKDOWN = GENERIC, 0x23, "Command Prohibited by Command and Feature Lockdown", Permission;
    MEDIA_NOT_READY = GENERIC, 0x24, "Admin Command Media Not Ready", Io;
    LBA_OUT_OF_RANGE = GENERIC, 0x80, "LBA Out of Range", Io;
    CAPACITY_EXCEEDED = GENERIC, 0x81, "Capacity Exceeded", NoSpace;
    NAMESPACE_NOT_READY = GENERIC, 0x82, "Namespace Not Ready", Reset;
    RESERVATION_CONFLICT = GENERIC, 0x83, "Reservation Conflict", Permission;
    FORMAT_IN_PROGRESS = GENERIC, 0x84, "Format In Progress", Busy;
    CQ_INVALID = SPECIFIC, 0x00, "Completion Queue Invalid", Io;
    QUEUE_ID = SPECIFIC, 0x01, "Invalid Queue Identifier", Io;
    QUEUE_SIZE = SPECIFIC, 0x02, "Invalid Queue Size", Io;
    ABORT_LIMIT = SPECIFIC, 0x03, "Abort Command Limit Exceeded", Io;
    ASYNC_EVENT_LIMIT = SPECIFIC, 0x05, "Asynchronous Event Request Limit Exceeded", Io;
    FIRMWARE_SLOT = SPECIFIC, 0x06, "Invalid Firmware Slot", Io;
    FIRMWARE_IMAGE = SPECIFIC, 0x07, "Invalid Firmware Image", Io;
    INTERRUPT_VECTOR = SPECIFIC, 0x08, "Invalid Interrupt Vector", Io;
    LOG_PAGE = SPECIFIC, 0x09, "Invalid Log Page", Io;
    FORMAT = SPECIFIC, 0x0a, "Invalid Format", Io;
    QUEUE_DELETION = SPECIFIC, 0x0c, "Invalid Queue Deletion", Io;
    NOT_SAVEABLE = SPECIFIC, 0x0d, "Feature Identifier Not Saveable", Io;
    NOT_CHANGEABLE = SPECIFIC, 0x0e, "Feature Not Changeable", Io;
    NOT_NAMESPACE_SPECIFIC = SPECIFIC, 0x0f, "Feature Not Namespace Specific", Io;
    CONFLICTING_ATTRIBUTES = SPECIFIC, 0x80, "Conflicting Attributes", Io;
    PROTECTION_INFORMATION = SPECIFIC, 0x81, "Invalid Protection Information", Io;
    READ_ONLY_RANGE = SPECIFIC, 0x82, "Attempted Write to Read Only Range", Permission;
    SIZE_LIMIT = SPECIFIC, 0x83, "Command Size Limit Exceeded", Io;
    WRITE_FAULT = MEDIA, 0x80, "Write Fault", Io;
    UNRECOVERED_READ = MEDIA, 0x81, "Unrecovered Read Error", Io;
    GUARD_CHECK = MEDIA, 0x82, "End-to-end Guard Check Error", Io;
    APPLICATION_TAG = MEDIA, 0x83, "End-to-end Application Tag Check Error", Io;
    REFERENCE_TAG = MEDIA, 0x84, "End-to-end Reference Tag Check Error", Io;
    COMPARE_FAILURE = MEDIA, 0x85, "Compare Failure", Mismatch;
    ACCESS_DENIED = MEDIA, 0x86, "Access Denied", Permission;
    UNWRITTEN = MEDIA, 0x87, "Deallocated or Unwritten Logical Block", Io;
    PATH_INTERNAL = PATH, 0x00, "Internal Path Error", Reset;
    PATH_LOST = PATH, 0x01, "Asymmetric Access Persistent Loss", Io;
    PATH_INACCESSIBLE = PATH, 0x02, "Asymmetric Access Inaccessible", Io;
    PATH_TRANSITION = PATH, 0x03, "Asymmetric Access Transition", Reset;
    PATH_CONTROLLER = PATH, 0x60, "Controller Pathing Error", Reset;
    PATH_HOST = PATH, 0x70, "Host Pathing Error", Reset;
    PATH_ABORTED = PATH, 0x71, "Command Aborted By Host", Reset;
}

#[cfg(test)]
pub(super) fn table() -> &'static [(Status, &'static str, ErrorKind)] {
    NAMES
}
