//! Which law a sabotage build breaks. In every other build: none, at no cost.
//!
//! A detector that never fired proves nothing, so the tests run once more with
//! each of these broken on purpose and must fail (design, section 8).

/// The law that is broken in this process, if this is a sabotage build.
#[cfg(feature = "sabotage")]
pub fn current() -> Option<&'static str> {
    use std::sync::OnceLock;
    static WHICH: OnceLock<Option<&'static str>> = OnceLock::new();
    *WHICH.get_or_init(|| {
        std::env::var("FREEHOLD_SABOTAGE").ok().map(|s| &*Box::leak(s.into_boxed_str()))
    })
}

/// The law that is broken in this process, if this is a sabotage build.
#[cfg(not(feature = "sabotage"))]
pub const fn current() -> Option<&'static str> {
    None
}

/// True if this law is broken on purpose.
pub fn breaks(what: &str) -> bool {
    current().is_some_and(|w| w == what)
}
