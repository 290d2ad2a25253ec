//! Who holds a store: a hint that can be written down and read back.
//!
//! The lock itself (in `file`) is the kernel's and says nothing about its
//! owner. A store may write this next to its superblock, so that an error can
//! name the other side. It is never trusted: a crash leaves it behind.

use std::fmt;
use std::fs;

/// Bytes of a written hint.
pub const HOLDER_BYTES: usize = 24;

/// A process, as far as another one can know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number; never zero.
    pub pid: u32,
    /// The boot in which it ran; all zeroes when it is not known.
    pub boot: [u8; 16],
}

impl Holder {
    /// This process.
    pub fn current() -> Self {
        Self { pid: std::process::id(), boot: boot_id() }
    }

    /// The hint as bytes, little-endian: pid, four zeroes, boot id.
    pub fn to_bytes(self) -> [u8; HOLDER_BYTES] {
        let mut bytes = [0; HOLDER_BYTES];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[8..].copy_from_slice(&self.boot);
        bytes
    }

    /// Reads a hint; none where nobody wrote one. Any bytes may be given.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HOLDER_BYTES] = bytes.first_chunk()?;
        let pid = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[8..]);
        (pid != 0).then_some(Self { pid, boot })
    }
}

/// Says what is known about the process now; reads /proc.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid;
        if self.boot != boot_id() {
            return write!(f, "process {pid} of another boot or machine");
        }
        match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => write!(f, "process {pid} ({})", name.trim_end()),
            Err(_) => write!(f, "process {pid}, which has ended"),
        }
    }
}

/// The id that the kernel gives to each boot; zeroes if it cannot be read.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_comes_back_and_describes_this_process() {
        let own = Holder::current();
        assert_eq!(Holder::from_bytes(&own.to_bytes()), Some(own));
        let words = own.to_string();
        assert!(words.starts_with(&format!("process {} (", own.pid)), "{words}");
    }

    #[test]
    fn old_and_missing_hints_are_told_apart() {
        let old = Holder { boot: [7; 16], ..Holder::current() };
        assert!(old.to_string().contains("another boot"));
        let ended = Holder { pid: u32::MAX, ..Holder::current() };
        assert!(ended.to_string().contains("has ended"));
        assert_eq!(Holder::from_bytes(&[0; HOLDER_BYTES]), None);
        assert_eq!(Holder::from_bytes(&[1; HOLDER_BYTES - 1]), None);
    }
}
