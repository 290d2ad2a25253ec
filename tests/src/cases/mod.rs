//! Named cases: each a counter-example from a law's text, as a function that
//! says what is wrong. The tests call them, and so do the sabotage builds, in
//! which the right ones must fail.

mod flights;
mod histories;
mod media;

pub use flights::*;
pub use histories::*;
pub use media::*;

/// What a case found.
pub type Verdict = Result<(), String>;

/// Fails with a text unless something holds.
fn demand(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Any error as a text.
fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
