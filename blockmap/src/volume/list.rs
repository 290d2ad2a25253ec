//! Listing names, as object stores do: by prefix, folded at a delimiter.

use super::Volume;
use super::stats::FileStat;
use crate::error::Result;
use crate::format::types::FileId;
use crate::tree::Cursor;
use std::sync::Arc;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file. `stat.shared` is not worked out here.
    File {
        /// Its name.
        name: Vec<u8>,
        /// Its numbers.
        stat: FileStat,
    },
    /// All names that begin so, up to and with the delimiter.
    Prefix(Vec<u8>),
}

/// A part of a listing, in the order of the names' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The lines.
    pub entries: Vec<Entry>,
    /// There are more: list again, after the last line's name or prefix.
    pub more: bool,
}

impl Volume {
    /// Lists names that begin with `prefix` and come after `after`, at most
    /// `limit` lines. With a delimiter, names that contain it behind the prefix are
    /// folded into one line.
    ///
    /// Takes no lock while it reads; names that change meanwhile may or may not show.
    ///
    /// # Errors
    /// `Corrupt` if the name tree or a file's record cannot be read.
    pub fn list(
        self: &Arc<Self>,
        prefix: &[u8],
        delimiter: Option<u8>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut from = start(prefix, after);
        loop {
            let Some((name, id)) = self.next_name(&from, prefix)? else { return Ok(listing) };
            if listing.entries.len() == limit {
                listing.more = true;
                return Ok(listing);
            }
            let folded = delimiter.and_then(|d| {
                name[prefix.len()..].iter().position(|b| *b == d).map(|i| prefix.len() + i + 1)
            });
            match folded {
                Some(end) => {
                    let p = name[..end].to_vec();
                    from = past_prefix(&p);
                    let seen = after.is_some_and(|a| a.starts_with(&p) || a >= &p[..]);
                    if !seen {
                        listing.entries.push(Entry::Prefix(p));
                    }
                    if from.is_empty() {
                        return Ok(listing);
                    }
                }
                None => {
                    from = name.iter().copied().chain([0]).collect();
                    if let Some(stat) = self.brief(id)? {
                        listing.entries.push(Entry::File { name, stat });
                    }
                }
            }
        }
    }

    /// The first name at or after `from` that begins with the prefix.
    pub(super) fn next_name(
        self: &Arc<Self>,
        from: &[u8],
        prefix: &[u8],
    ) -> Result<Option<(Vec<u8>, FileId)>> {
        let vol = self.clone();
        let (from, prefix) = (from.to_vec(), prefix.to_vec());
        self.run(move |io| async move {
            vol.look(&io, |v| {
                let names = v.core().shelf.names.clone();
                let mut c = Cursor::seek(&names, &from.as_slice().into())?;
                while let Some((k, id, _)) = c.next()? {
                    if *k >= from[..] {
                        return Ok(k.starts_with(&prefix).then(|| (k.to_vec(), id)));
                    }
                }
                Ok(None)
            })
            .await
        })
    }

    /// A file's numbers without its sharing; none if it went meanwhile.
    fn brief(self: &Arc<Self>, id: FileId) -> Result<Option<FileStat>> {
        let vol = self.clone();
        let state =
            self.run(move |io| async move { vol.look(&io, |v| v.core().shelf.file(id)).await })?;
        state.map(|s| self.count_file(&s, false)).transpose()
    }
}

fn start(prefix: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    match after {
        Some(a) if a >= prefix => a.iter().copied().chain([0]).collect(),
        _ => prefix.to_vec(),
    }
}

/// The first byte string after all that begin with `p`; empty if there is none.
fn past_prefix(p: &[u8]) -> Vec<u8> {
    let mut p = p.to_vec();
    while let Some(last) = p.pop() {
        if last < u8::MAX {
            p.push(last + 1);
            return p;
        }
    }
    p
}
