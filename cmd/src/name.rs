//! Names of files in a store: byte strings, shown so that no terminal is hurt.

use crate::failure::{Failure, Outcome};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Longest name in bytes.
const MAX: usize = 255;

/// The bytes of a name given on the command line, if it can be one.
pub(crate) fn given(name: &OsStr) -> Outcome<&[u8]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(Failure::usage("a file's name cannot be empty"));
    }
    if bytes.len() > MAX {
        return Err(Failure::usage(format!(
            "the name {} has {} bytes; a name may have {MAX}: give a shorter one",
            short(bytes),
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// A name for people: control characters and bytes that are not UTF-8 escaped.
pub(crate) fn show(name: &[u8]) -> String {
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The beginning of a name that is too long to print.
fn short(name: &[u8]) -> String {
    format!("{}…", show(&name[..name.len().min(24)]))
}

/// Puts a name under `key`, or in hexadecimal under `key_hex` if it is not UTF-8.
pub(crate) fn put_json(object: &mut Map<String, Value>, key: &str, name: &[u8]) {
    match std::str::from_utf8(name) {
        Ok(text) => object.insert(key.to_string(), Value::from(text)),
        Err(_) => object.insert(format!("{key}_hex"), Value::from(hex(name))),
    };
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_names_are_harmless_and_unmistakable() {
        assert_eq!(show(b"plain/name.db"), "plain/name.db");
        assert_eq!(show("größe".as_bytes()), "größe");
        assert_eq!(show(b"a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(show(b"\xff\xfe!"), "\\xff\\xfe!");
        assert_ne!(show(b"\\xff"), show(b"\xff"));
    }

    #[test]
    fn names_are_measured_in_bytes() {
        assert!(given(OsStr::from_bytes(&[b'a'; 255])).is_ok());
        assert!(given(OsStr::from_bytes(&[b'a'; 256])).is_err());
        assert!(given(OsStr::new("")).is_err());
    }

    #[test]
    fn names_that_are_not_utf8_are_hexadecimal_in_json() {
        let mut object = Map::new();
        put_json(&mut object, "name", b"\xff\x00");
        assert_eq!(object["name_hex"], "ff00");
        assert!(!object.contains_key("name"));
    }
}
