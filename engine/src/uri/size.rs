//! Sizes as people write them.

use super::bad;
use crate::medium::Result;

/// Parses a size in bytes: digits, then nothing or one of `K`, `M`, `G`, `T`,
/// `P` (powers of 1024, small letters too). Zero is a size.
///
/// # Errors
/// `Invalid` when it is none, or above 2^64 - 1.
pub fn parse_size(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        Some(b'P') => (&text[..text.len() - 1], 50),
        _ => (text, 0),
    };
    let wrong = || bad(format!("'{text}' is not a size such as 4096, 64M or 1T"));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}
