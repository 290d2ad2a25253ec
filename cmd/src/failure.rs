//! How a verb fails: one or two sentences for people, one code for scripts.

use freehold::ErrorKind;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What `main` returns when a verb could not do all of its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit 1: the operation failed. The sentence says what to do.
    Failed(String),
    /// Exit 2: the command makes no sense, or the store cannot be opened.
    Usage(String),
    /// Exit 1, and everything there is to say has been printed.
    Told,
    /// Exit 0: whoever read our output has seen enough (`freehold cat … | head`).
    Unread,
}

/// The result of a verb.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// An operation that failed.
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure::Failed(message.to_string())
    }

    /// A command that makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure::Usage(message.to_string())
    }

    /// The store at `uri` could not be opened or formatted.
    pub(crate) fn open(uri: &str, error: &freehold::Error) -> Failure {
        let advice = match error.kind() {
            ErrorKind::Busy => {
                "; end the program that has it open and try again (the verb `serve`, which will \
                 share a store between processes, is not built yet)"
            }
            ErrorKind::NotFound => "; `freehold format` makes a store",
            _ => "",
        };
        Failure::Usage(format!("{}{advice}", naming(uri, error)))
    }

    /// A local file or directory could not be used.
    pub(crate) fn local(path: &std::path::Path, what: &str, error: &io::Error) -> Failure {
        Failure::Failed(format!("{what} {}: {error}", path.display()))
    }

    /// The same failure, with what was being done put in front.
    pub(crate) fn during(self, what: impl fmt::Display) -> Failure {
        match self {
            Failure::Failed(message) => Failure::Failed(format!("{what}: {message}")),
            other => other,
        }
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::Failed(message) => (message, 1),
            Failure::Usage(message) => (message, 2),
            Failure::Told => return ExitCode::from(1),
            Failure::Unread => return ExitCode::SUCCESS,
        };
        // A closed stderr leaves nobody to tell; the code still says it.
        let _ = writeln!(io::stderr(), "freehold: {message}");
        ExitCode::from(code)
    }
}

/// The error, with the store's URI in front unless it is named already.
fn naming(uri: &str, error: &freehold::Error) -> String {
    let text = error.to_string();
    let place = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    if text.contains(place) { text } else { format!("{uri}: {text}") }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(message) | Failure::Usage(message) => f.write_str(message),
            Failure::Told => f.write_str("failed"),
            Failure::Unread => f.write_str("nobody reads the output"),
        }
    }
}

impl From<freehold::Error> for Failure {
    fn from(error: freehold::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}
