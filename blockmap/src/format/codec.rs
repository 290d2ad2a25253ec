//! Bounds-checked reading and writing of bytes, little-endian. No structure
//! of the format is known here.

use super::{FormatError, Result};

/// Most bytes of a varint.
pub const VARINT_MAX: usize = 10;

/// Takes values off the front of some bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes; `what` names them in the error.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(FormatError::Short(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FormatError::Short(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array::<1>(what).map(|b| b[0])
    }

    /// The next 8 bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(|b| u64::from_le_bytes(*b))
    }

    /// The next varint: seven bits a byte, lowest first, the top bit set on all
    /// but the last byte. One number has one encoding, the shortest.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for i in 0..VARINT_MAX {
            let byte = self.u8(what)?;
            if i == VARINT_MAX - 1 && byte > 1 {
                return Err(FormatError::Malformed("varint above 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if byte == 0 && i > 0 {
                    return Err(FormatError::Malformed("varint longer than needed"));
                }
                return Ok(value);
            }
        }
        Err(FormatError::Malformed("varint above 64 bits"))
    }
}

/// Fills some bytes from the front. What does not fit is not written, and
/// [`Writer::finish`] says so.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    /// Writes to `buf` from its beginning.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0, full: false }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.len..).and_then(|b| b.get_mut(..bytes.len())) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.full = true,
        }
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Appends 8 bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Clears what was not written; the number of bytes that were, or an error
    /// if something did not fit.
    pub fn finish(self) -> Result<usize> {
        if self.full {
            return Err(FormatError::TooLong("the entries do not fit into one block"));
        }
        if let Some(rest) = self.buf.get_mut(self.len..) {
            rest.fill(0);
        }
        Ok(self.len)
    }
}

/// Appends a varint, see [`Reader::varint`].
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes at `at`, which is a constant of a layout inside `N`.
#[inline]
pub(super) fn get<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}

/// The u64 at `at`, which is a constant of a layout inside `N`.
#[inline]
pub(super) fn get_u64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// The u32 at `at`, which is a constant of a layout inside `N`.
#[inline]
pub(super) fn get_u32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

/// Puts bytes at `at`, which is a constant of a layout inside `N`.
#[inline]
pub(super) fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    bytes[at..at + M].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_have_one_encoding() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                let mut r = Reader::new(&out);
                assert_eq!(r.varint("v"), Ok(value));
                assert_eq!(r.remaining(), 0);
                for cut in 0..out.len() {
                    assert_eq!(Reader::new(&out[..cut]).varint("v"), Err(FormatError::Short("v")));
                }
            }
        }
        for bad in [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff; 10], &[0xff; 11]] {
            assert!(matches!(Reader::new(bad).varint("v"), Err(FormatError::Malformed(_))));
        }
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(Reader::new(&largest).varint("v"), Ok(u64::MAX));
        largest[9] = 2;
        assert!(Reader::new(&largest).varint("v").is_err());
    }

    #[test]
    fn a_full_writer_stays_full() {
        let mut buf = [0xaa; 10];
        let mut w = Writer::new(&mut buf);
        w.u64(1);
        w.u64(2);
        w.u8(3);
        assert!(w.finish().is_err());
        let mut w = Writer::new(&mut buf);
        w.u64(1);
        assert_eq!(w.finish(), Ok(8));
        assert_eq!(buf, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
