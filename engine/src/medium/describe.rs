//! What a device says of itself, for people and programs to read.

use std::fmt;

/// One thing that a device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is about: `controller`, `namespace`, `region`, `limits`, `buffer`, `health`.
    pub group: &'static str,
    /// Its name in the group: lower case, words joined by `_`.
    pub name: &'static str,
    /// What it is.
    pub value: Value,
}

impl Fact {
    /// A fact.
    pub fn new(group: &'static str, name: &'static str, value: impl Into<Value>) -> Self {
        Self { group, name, value: value.into() }
    }
}

/// The value of a [`Fact`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Words: a model, a version.
    Text(String),
    /// A number of things.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// Whether something is so.
    Flag(bool),
    /// A temperature in degrees Celsius.
    Celsius(i64),
    /// A part of a hundred; may be more where the device says so.
    Percent(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Count(n) => write!(f, "{n}"),
            Value::Bytes(n) => write!(f, "{n} B"),
            Value::Flag(true) => f.write_str("yes"),
            Value::Flag(false) => f.write_str("no"),
            Value::Celsius(degrees) => write!(f, "{degrees} °C"),
            Value::Percent(part) => write!(f, "{part} %"),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}
