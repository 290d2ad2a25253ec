//! Percent-encoding, over bytes: a path need not be text.

use super::bad;
use crate::medium::Result;

/// Encodes bytes so that [`Uri::parse`](super::Uri::parse) takes them as part
/// of a path or as the value of a key.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/._-~:,@+".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Undoes the encoding.
pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let value = match tail {
            [high, low, ..] => digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        let Some(value) = value else {
            return Err(bad(format!(
                "'{text}' has a '%' that no two hexadecimal digits follow; a plain '%' is written %25"
            )));
        };
        bytes.push(value);
        rest = &tail[2..];
    }
    Ok(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
