//! Which medium a store's journal is on, from names and options; opening it.

use crate::{Error, ErrorKind, FormatOptions, OpenOptions, Result, registry};
use freehold_engine::medium::Medium;
use freehold_engine::uri::{Target, Uri, journal_uri};
use std::sync::Arc;

/// A file that is made for a journal: 16 MiB of ring behind two blocks of headers.
const FILE: u64 = (16 << 20) + 8192;

/// The name of the journal's medium, if the store has one.
pub(crate) fn named(uri: &str, option: Option<&str>) -> Result<Option<String>> {
    let key = journal_uri(uri)?;
    let option = match option {
        // What `pmr` means depends on the store.
        Some("pmr") => journal_uri(&format!("{}?journal=pmr", without_query(uri)))?,
        other => other.map(str::to_owned),
    };
    match (key, option) {
        (Some(key), Some(option)) if key != option => Err(Error::new(
            ErrorKind::Invalid,
            format!("{uri} names another journal than the options do, {option}: say it once"),
        )),
        (key, option) => Ok(key.or(option)),
    }
}

/// The medium of a journal, if there is one.
pub(crate) type Opened = Option<Arc<dyn Medium>>;

fn without_query(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(name, _)| name)
}

/// Opens the journal's medium of a store.
pub(crate) fn open(store: &str, journal: Option<&str>, options: &OpenOptions) -> Result<Opened> {
    let Some(journal) = journal else { return Ok(None) };
    let opened = freehold_engine::open(journal, &options.into()).map_err(Error::from);
    opened.map(Some).map_err(|e| {
        let (kind, advice) = match e.kind() {
            ErrorKind::NotFound => (ErrorKind::WrongJournal, true),
            ErrorKind::Io => (ErrorKind::Io, true),
            kind => (kind, false),
        };
        let advice = match advice {
            true => "; if it is lost, `freehold check --discard-journal` says what that loses",
            false => "",
        };
        Error::new(kind, format!("the journal of {store} cannot be opened: {journal}: {e}{advice}"))
    })
}

/// Opens a journal's medium that may be given up, as far as it can be, and says why it cannot
/// be used.
pub(crate) fn open_what_can_be(
    store: &str,
    journal: Option<&str>,
    options: &OpenOptions,
) -> Result<(Opened, Option<String>)> {
    let read = OpenOptions { read_only: true, ..options.clone() };
    // A region that is not to be written any more can be read all the same.
    let region = journal.is_some_and(|j| j.starts_with("pmr:"));
    let e = match open(store, journal, if region { options } else { &read }) {
        Ok(journal) => return Ok((journal, None)),
        Err(e) if e.kind() == ErrorKind::Busy => return Err(e),
        Err(e) => e,
    };
    let rest = if region { open(store, journal, &read).unwrap_or_default() } else { None };
    Ok((rest, Some(e.to_string())))
}

/// Prepares the media of a store and of its journal: both, or neither is changed.
pub(crate) fn format_both(
    store: &str,
    journal: &str,
    options: &FormatOptions,
) -> Result<(Arc<dyn Medium>, Arc<dyn Medium>)> {
    let memory = |uri| Uri::parse(uri).is_ok_and(|u| matches!(u.target, Target::Mem { .. }));
    if memory(journal) && !memory(store) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{journal} is gone when it is closed, and the store could not be opened again"),
        ));
    }
    let of_journal = format_options(journal, options)?;
    if let Some(size) = of_journal.size.or_else(|| registry::length(journal)) {
        freehold_blockmap::check_journal_size(size)?;
    }
    freehold_engine::check_target(store, &options.into())?;
    freehold_engine::check_target(journal, &of_journal)?;
    // A file that is there was asked, and is emptied. What is none, a device or a file that is
    // to be made, may refuse still, and comes first.
    if registry::metadata(store).is_some_and(|meta| meta.is_file()) {
        let journal = freehold_engine::format_target(journal, &of_journal)?;
        return Ok((freehold_engine::format_target(store, &options.into())?, journal));
    }
    let medium = freehold_engine::format_target(store, &options.into())?;
    Ok((medium, freehold_engine::format_target(journal, &of_journal)?))
}

/// How the journal's medium is prepared.
fn format_options(
    journal: &str,
    options: &FormatOptions,
) -> Result<freehold_engine::FormatOptions> {
    let in_file = matches!(Uri::parse(journal)?.target, Target::File { .. } | Target::Pmem { .. });
    let empty = registry::metadata(journal).is_none_or(|m| m.is_file() && m.len() == 0);
    let size = options.journal_size.or((in_file && empty).then_some(FILE));
    Ok(freehold_engine::FormatOptions { size, force: options.force })
}
