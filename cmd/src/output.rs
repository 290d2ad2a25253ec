//! Standard output. A reader that goes away ends the program quietly.

use crate::failure::{Failure, Outcome};
use serde_json::Value;
use std::io::{self, Write};

/// Writes bytes to stdout and flushes them.
pub(crate) fn bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| lost(&error))
}

/// Writes one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Outcome {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes one JSON document.
pub(crate) fn json(value: &Value) -> Outcome {
    line(value)
}

/// What a failed write to stdout means.
pub(crate) fn lost(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::new(format!("cannot write to standard output: {error}")),
    }
}
