//! Names and files, and what each record does to them.

use super::file::{FileState, Piece, Version};
use super::late::Bytes;
use super::{atomic, limits, ranges, zero};
use crate::format::types::{Addr, Extent, FileId, Record};
use crate::format::{BLOCK, FILE_LIMIT, Files, Names};
use crate::numbered::Numbered;
use crate::tree::{Fault, Splice, Tree, find, splice};
use crate::txn::Txn;
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The key under which condemned files stand in the file tree.
pub(crate) const CONDEMNED: u64 = FILE_LIMIT;

/// The trees of names and of files, and the files that are in memory.
pub(crate) struct Shelf {
    pub(crate) names: Tree<Names>,
    /// Records as the last checkpoint has them; files in memory are newer.
    pub(crate) tree: Tree<Files>,
    pub(crate) files: Numbered<Arc<FileState>>,
    /// Their numbers, in the order in which they are looked at to let go of them.
    pub(crate) circle: VecDeque<FileId>,
    /// Files whose last has gone, although `tree` still has their records.
    pub(crate) gone: BTreeSet<FileId>,
    pub(crate) condemned: BTreeSet<FileId>,
    pub(crate) next_file: FileId,
}

/// What a record would do. Nothing of it is visible yet.
#[derive(Default)]
pub(crate) struct Staged {
    names: Option<Tree<Names>>,
    pub(crate) versions: SmallVec<[(Arc<FileState>, Version); 1]>,
    created: Vec<Arc<FileState>>,
    /// The last of a condemned file went.
    pub(crate) gone: Option<FileId>,
    /// What lies behind a place in it was moved.
    pub(crate) moved: Option<Arc<FileState>>,
    /// Bytes at the end of a file went (law B5).
    pub(crate) shrinks: bool,
    /// Blocks whose bytes the journal holds (law B7).
    pub(crate) logged: Vec<LoggedBlock>,
}

/// A block of a file whose bytes the journal holds.
pub(crate) struct LoggedBlock {
    pub(crate) file: Arc<FileState>,
    pub(crate) block: u64,
    pub(crate) at: Addr,
    pub(crate) bytes: Bytes,
}

impl Staged {
    /// The file's version as it is staged, or as it is.
    pub(super) fn version(&self, file: &Arc<FileState>) -> Arc<Version> {
        self.versions
            .iter()
            .rfind(|(f, _)| f.id == file.id)
            .map_or_else(|| file.load(), |(_, v)| Arc::new(v.clone()))
    }

    /// As [`Staged::version`], to be changed and put back: nobody else has what
    /// this change made of it before.
    fn take(&mut self, file: &Arc<FileState>) -> Version {
        match self.versions.iter().rposition(|(f, _)| f.id == file.id) {
            Some(i) => self.versions.swap_remove(i).1,
            None => Version::clone(&file.version.load()),
        }
    }

    pub(super) fn put(&mut self, file: &Arc<FileState>, version: Version) {
        self.versions.retain(|(f, _)| f.id != file.id);
        self.versions.push((file.clone(), version));
    }
}

impl Shelf {
    /// The file, from memory or from its record.
    pub(crate) fn file(&mut self, id: FileId) -> Result<Option<Arc<FileState>>, Fault> {
        if let Some(f) = self.files.get(&id) {
            return Ok(Some(f.clone()));
        }
        if self.gone.contains(&id) {
            return Ok(None);
        }
        let record = match find(&self.tree, &id)? {
            Some(r) => Some(r),
            None => find(&self.tree, &(id | CONDEMNED))?,
        };
        let Some(record) = record else { return Ok(None) };
        limits::file(id, &record)?;
        let file = FileState::new(id, Version::from_record(&record));
        self.circle.push_back(id);
        self.files.insert(id, file.clone());
        Ok(Some(file))
    }

    /// The file that a record or a name speaks of; it must be there.
    pub(super) fn need(&mut self, id: FileId) -> Result<Arc<FileState>, Fault> {
        self.file(id)?
            .ok_or_else(|| Fault::corrupt("file tree", id, "a file that is named is missing"))
    }

    /// Works out what a record does.
    pub(super) fn stage(
        &mut self,
        txn: &mut Txn<'_>,
        record: &Record,
        st: &mut Staged,
    ) -> Result<(), Fault> {
        limits::record(record, txn.share_gen)?;
        match record {
            Record::Mark { .. } => Ok(()),
            Record::Create { file, name } => {
                self.condemn_name(txn, name, st)?;
                self.create(txn, *file, name, Version::empty(txn.share_gen), st)
            }
            Record::Remove { name } => {
                if self.condemn_name(txn, name, st)? {
                    return Ok(());
                }
                Err(Fault::corrupt("journal", 0, "the name that a record removes is missing"))
            }
            Record::Rename { from, to } => self.rename(txn, from, to, st),
            Record::Reflink { from, to, name, share_gen } => {
                txn.share_gen = *share_gen;
                let source = self.need(*from)?;
                let (a, b) = ranges::reflink(txn, &st.version(&source))?;
                st.put(&source, a);
                self.create(txn, *to, name, b, st)
            }
            Record::Map { file, start, len, size, extents } => {
                let f = self.need(*file)?;
                let v = ranges::map(txn, st.take(&f), *start, *len, *size, extents)?;
                st.put(&f, v);
                Ok(())
            }
            Record::Convert { file, start, len, size } => {
                let f = self.need(*file)?;
                let v = ranges::convert(txn, st.take(&f), *start, *len, *size)?;
                st.put(&f, v);
                Ok(())
            }
            Record::Zero { file, start, len } => {
                let f = self.need(*file)?;
                let v = zero::zero(txn, st.take(&f), *start, *len)?;
                st.put(&f, v);
                Ok(())
            }
            Record::Atomic { file, size, parts } => {
                let f = self.need(*file)?;
                let v = atomic::map_all(txn, st.take(&f), *size, parts)?;
                st.put(&f, v);
                Ok(())
            }
            Record::Grow { file, size } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                st.put(&f, Version { size: v.size.max(*size), ..(*v).clone() });
                Ok(())
            }
            Record::Data { file, block, bytes } => self.stage_data(*file, *block, bytes, st),
            _ => self.stage_removal(txn, record, st),
        }
    }

    /// A logged write: where the map has the block now is where its bytes belong.
    fn stage_data(
        &mut self,
        file: FileId,
        block: u64,
        bytes: &[u8],
        st: &mut Staged,
    ) -> Result<(), Fault> {
        let file = self.need(file)?;
        let v = st.version(&file);
        let at = match v.lookup(block)? {
            Piece::Extent { e, .. } if !e.unwritten => e.phys,
            _ => {
                let why = "logged bytes of a block that is not written";
                return Err(Fault::corrupt("journal", file.id, why));
            }
        };
        st.put(&file, (*v).clone());
        st.logged.push(LoggedBlock { file, block, at, bytes: bytes.into() });
        Ok(())
    }

    /// Records that take blocks away from a range.
    fn stage_removal(
        &mut self,
        txn: &mut Txn<'_>,
        record: &Record,
        st: &mut Staged,
    ) -> Result<(), Fault> {
        match record {
            Record::Truncate { file, size, tail } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                st.shrinks = true;
                let from = size.div_ceil(BLOCK as u64);
                let (v, rest) = ranges::cut(txn, &v, from, None, *tail != 0)?;
                st.put(&f, Version { size: *size, ..v });
                self.condemn_tail(*tail, rest, st);
                Ok(())
            }
            Record::Punch { file, start, len, tail } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                let (v, rest) = ranges::cut(txn, &v, *start, Some(start + len), *tail != 0)?;
                st.put(&f, v);
                self.condemn_tail(*tail, rest, st);
                Ok(())
            }
            Record::Collapse { .. } | Record::Insert { .. } => self.stage_shift(txn, record, st),
            Record::ReflinkRange { from, to, from_start, to_start, len, size, share_gen, tail } => {
                txn.share_gen = *share_gen;
                let source = self.need(*from)?;
                let target = self.need(*to)?;
                let shared = Version { share_gen: *share_gen, ..(*st.version(&source)).clone() };
                st.put(&source, shared);
                let target_v = Version { share_gen: *share_gen, ..(*st.version(&target)).clone() };
                let span = ranges::Span { from: *from_start, to: *to_start, len: *len };
                let source_v = st.version(&source);
                let (mut v, rest) =
                    ranges::reflink_range(txn, &source_v, &target_v, span, *tail != 0)?;
                v.size = v.size.max(*size);
                st.put(&target, v);
                self.condemn_tail(*tail, rest, st);
                Ok(())
            }
            Record::Slice { file, cursor } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                if !v.condemned {
                    return Err(Fault::corrupt("journal", *file, "a removal of a file in use"));
                }
                let (v, _) = ranges::cut(txn, &v, *cursor, None, false)?;
                st.put(&f, v);
                if *cursor == 0 {
                    st.gone = Some(*file);
                }
                Ok(())
            }
            _ => Err(Fault::corrupt("journal", 0, "a record of unknown kind")),
        }
    }

    /// Records that move what lies behind a range.
    fn stage_shift(
        &mut self,
        txn: &mut Txn<'_>,
        record: &Record,
        st: &mut Staged,
    ) -> Result<(), Fault> {
        match record {
            Record::Collapse { file, start, len, tail } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                let size = limits::without(v.size, *start, *len)?;
                let (v, rest) = ranges::collapse(txn, &v, *start, *len, *tail != 0)?;
                st.put(&f, Version { size, ..v });
                self.condemn_tail(*tail, rest, st);
                st.moved = Some(f);
                Ok(())
            }
            Record::Insert { file, start, len } => {
                let f = self.need(*file)?;
                let v = st.version(&f);
                let size = limits::longer(v.size, *len)?;
                let v = ranges::insert(txn, &v, *start, *len)?;
                st.put(&f, Version { size, ..v });
                st.moved = Some(f);
                Ok(())
            }
            _ => Err(Fault::corrupt("journal", 0, "a record of unknown kind")),
        }
    }

    fn create(
        &mut self,
        txn: &mut Txn<'_>,
        id: FileId,
        name: &[u8],
        version: Version,
        st: &mut Staged,
    ) -> Result<(), Fault> {
        if id >= FILE_LIMIT || self.file(id)?.is_some() {
            return Err(Fault::corrupt("journal", id, "a file's number was given twice"));
        }
        let file = FileState::new(id, version.clone());
        st.created.push(file.clone());
        st.put(&file, version);
        self.set_name(txn, name, Some(id), st)
    }

    fn rename(
        &mut self,
        txn: &mut Txn<'_>,
        from: &[u8],
        to: &[u8],
        st: &mut Staged,
    ) -> Result<(), Fault> {
        let Some(id) = find(&self.names, &from.into())? else {
            return Err(Fault::corrupt("journal", 0, "the name that a record changes is missing"));
        };
        if from == to {
            return Ok(());
        }
        self.condemn_name(txn, to, st)?;
        self.set_name(txn, from, None, st)?;
        self.set_name(txn, to, Some(id), st)?;
        let file = self.need(id)?;
        let v = st.version(&file);
        st.put(&file, (*v).clone());
        Ok(())
    }

    /// The file of that name, if there is one, is condemned and its name goes.
    fn condemn_name(
        &mut self,
        txn: &mut Txn<'_>,
        name: &[u8],
        st: &mut Staged,
    ) -> Result<bool, Fault> {
        let names = st.names.as_ref().unwrap_or(&self.names);
        let Some(id) = find(names, &name.into())? else { return Ok(false) };
        let file = self.need(id)?;
        let v = st.version(&file);
        st.put(&file, Version { condemned: true, ..(*v).clone() });
        self.set_name(txn, name, None, st)?;
        Ok(true)
    }

    fn set_name(
        &mut self,
        txn: &mut Txn<'_>,
        name: &[u8],
        id: Option<FileId>,
        st: &mut Staged,
    ) -> Result<(), Fault> {
        let names = st.names.take().unwrap_or_else(|| self.names.clone());
        let lo: Box<[u8]> = name.into();
        // The next possible name: this one and a NUL, which no name contains.
        let hi: Box<[u8]> = name.iter().copied().chain([0]).collect();
        let new = id.map(|id| (lo.clone(), id)).into_iter().collect();
        st.names = Some(splice(txn, names, Splice { lo, hi: Some(hi), new, release: false })?);
        Ok(())
    }

    /// What was cut off a map in one piece waits under a number of its own.
    fn condemn_tail(&mut self, id: FileId, rest: Option<Version>, st: &mut Staged) {
        if let Some(v) = rest {
            let file = FileState::new(id, v.clone());
            st.created.push(file.clone());
            st.put(&file, Version { condemned: true, size: 0, ..v });
        }
    }

    /// Makes a staged change visible. Cannot fail.
    pub(super) fn show(&mut self, staged: Staged) {
        if let Some(names) = staged.names {
            self.names = names;
        }
        for file in staged.created {
            self.next_file = self.next_file.max(file.id + 1);
            self.circle.push_back(file.id);
            self.files.insert(file.id, file);
        }
        for (file, version) in staged.versions {
            if version.condemned {
                self.condemned.insert(file.id);
            }
            file.version.store(Arc::new(version));
        }
        if let Some(id) = staged.gone {
            self.condemned.remove(&id);
            self.files.remove(&id);
            self.gone.insert(id);
        }
    }
}

/// A new extent as a map has it: its file's own.
pub(super) fn owned(e: Extent) -> Extent {
    Extent { own: true, ..e }
}
