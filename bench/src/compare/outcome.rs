//! How anything here fails: with a sentence.

/// What a step gives, or why it could not.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A failure in words.
pub(crate) fn fail<T>(why: impl Into<String>) -> Outcome<T> {
    Err(why.into().into())
}
