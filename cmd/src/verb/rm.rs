//! `freehold rm`: remove files.

use super::change;
use crate::failure::{Failure, Outcome};
use crate::name;
use std::ffi::OsString;

/// Remove files.
///
/// Stops at the first that cannot be removed; those before it are gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The files
    #[arg(required = true)]
    names: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let names = args.names.iter().map(|n| name::given(n)).collect::<Outcome<Vec<_>>>()?;
    change(&args.uri, |store| {
        for bytes in names {
            store.remove(bytes).map_err(|error| Failure::from(error).during(name::show(bytes)))?;
        }
        Ok(())
    })
}
