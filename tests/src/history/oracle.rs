//! What each operation must do: files as bytes, names as a map.

use super::content::{BLOCK, Content, tagged};
use super::{Op, When, Who, name};
use freehold::ErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that a user can see of a store, and the handles that are open.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Files by name.
    pub names: BTreeMap<Vec<u8>, u32>,
    /// Files, those without a name included while a handle is open.
    pub files: BTreeMap<u32, Arc<Content>>,
    /// Open handles.
    pub slots: BTreeMap<u8, u32>,
    next: u32,
}

/// A range of a file that an operation touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Which file.
    pub file: u32,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// What an operation did to the state.
#[derive(Debug, Clone, Default)]
pub struct Effect {
    /// Bytes that were written: until a sync, each sector may be old or new.
    pub written: Vec<Touch>,
    /// Bytes whose place in the map changed, or that came or went by a record:
    /// what was there before is durable when the record is, and what comes after
    /// is not visible before it.
    pub mapped: Vec<Touch>,
    /// It may be carried out in part: sizes in between, bytes old or new.
    pub in_parts: bool,
    /// The bytes that were written are durable, and all records of their file.
    pub durable: bool,
    /// This file's writes so far, and its last record, are durable.
    pub synced: Option<u32>,
    /// All is durable.
    pub synced_all: bool,
    /// All records are durable.
    pub recorded: bool,
}

impl Effect {
    /// The file whose bytes a durable write has made durable.
    pub fn promised(&self) -> Option<u32> {
        self.written.first().filter(|_| self.durable).map(|t| t.file)
    }
}

/// Either what an operation does, or the error that it must give.
pub(crate) type Expected = Result<Effect, ErrorKind>;

/// The places that a scattered write goes to.
pub(super) fn scattered(op: &Op) -> Vec<(u64, u64)> {
    let Op::Scatter { first, step, count, .. } = op else { return Vec::new() };
    (0..*count).map(|i| ((first + i * step) * BLOCK, BLOCK)).collect()
}

/// The most bytes of an atomic write.
const ATOMIC_BYTES: u64 = 1 << 20;

const EVERYTHING: u64 = u64::MAX;

impl State {
    /// Handles are gone, and with them the files that have no name.
    pub fn close_all(&mut self) {
        for slot in self.slots.keys().copied().collect::<Vec<_>>() {
            self.close(slot);
        }
    }

    /// The file that an operation is about.
    pub fn find(&self, who: Who) -> Option<u32> {
        match who {
            Who::Name(n) => self.names.get(&name(n)).copied(),
            Who::Slot(s) => self.slots.get(&s).copied(),
        }
    }

    fn content(&mut self, id: u32) -> &mut Content {
        Arc::make_mut(self.files.get_mut(&id).expect("a file that is found is there"))
    }

    fn drop_if_unused(&mut self, id: u32) {
        let used = self.names.values().chain(self.slots.values()).any(|f| *f == id);
        if !used {
            self.files.remove(&id);
        }
    }

    fn add(&mut self, name: Vec<u8>, content: Arc<Content>) {
        self.next += 1;
        self.files.insert(self.next, content);
        self.names.insert(name, self.next);
    }

    /// Does the operation, or says which error it must give and does nothing.
    ///
    /// # Errors
    /// The error that the API must give.
    pub fn apply(&mut self, op: &Op) -> Expected {
        match op {
            Op::Create { name: n } => {
                if self.names.contains_key(&name(*n)) {
                    return Err(ErrorKind::Exists);
                }
                self.add(name(*n), Arc::default());
                Ok(Effect::default())
            }
            Op::Open { slot, name: n } => {
                let id = *self.names.get(&name(*n)).ok_or(ErrorKind::NotFound)?;
                self.close(*slot);
                self.slots.insert(*slot, id);
                Ok(Effect::default())
            }
            Op::Close { slot } => {
                self.close(*slot);
                Ok(Effect::default())
            }
            Op::Rename { from, to } => self.rename(&name(*from), name(*to)),
            Op::Remove { name: n } => {
                let id = self.names.remove(&name(*n)).ok_or(ErrorKind::NotFound)?;
                self.drop_if_unused(id);
                Ok(Effect::default())
            }
            Op::Reflink { who, to } => self.reflink(*who, name(*to)),
            Op::ReflinkRange { from, off, to, to_off, len } => {
                let from = self.find(*from).ok_or(ErrorKind::NotFound)?;
                let to = self.find(*to).ok_or(ErrorKind::NotFound)?;
                self.reflink_range(from, *off, to, *to_off, *len)
            }
            Op::Sync { who } => {
                let id = self.find(*who).ok_or(ErrorKind::NotFound)?;
                Ok(Effect { synced: Some(id), ..Effect::default() })
            }
            Op::SyncAll => Ok(Effect { synced_all: true, ..Effect::default() }),
            Op::Checkpoint => Ok(Effect { recorded: true, ..Effect::default() }),
            Op::Reopen => {
                self.close_all();
                Ok(Effect { synced_all: true, ..Effect::default() })
            }
            Op::Diff { a, b } => {
                let both = self.find(*a).and(self.find(*b));
                both.map(|_| Effect::default()).ok_or(ErrorKind::NotFound)
            }
            Op::List { .. } => Ok(Effect::default()),
            _ => self.apply_to_file(op),
        }
    }

    fn apply_to_file(&mut self, op: &Op) -> Expected {
        let (Op::Write { who, .. }
        | Op::Durable { who, .. }
        | Op::Batch { who, .. }
        | Op::Atomic { who, .. }
        | Op::Scatter { who, .. }
        | Op::Read { who, .. }
        | Op::Truncate { who, .. }
        | Op::Punch { who, .. }
        | Op::Zero { who, .. }
        | Op::Defrag { who, .. }
        | Op::Collapse { who, .. }
        | Op::Insert { who, .. }
        | Op::Allocate { who, .. }
        | Op::Look { who }) = op
        else {
            return Ok(Effect::default());
        };
        let id = self.find(*who).ok_or(ErrorKind::NotFound)?;
        let size = self.files[&id].size;
        match op {
            Op::Write { off, len, tag, .. } => Ok(self.write(id, &[(*off, *len)], *tag)),
            Op::Durable { off, len, tag, .. } => {
                Ok(Effect { durable: true, ..self.write(id, &[(*off, *len)], *tag) })
            }
            Op::Batch { parts, tag, sync, .. } => {
                let (synced, durable) = ((*sync == When::After).then_some(id), *sync == When::Each);
                Ok(Effect { synced, durable, ..self.write(id, parts, *tag) })
            }
            Op::Atomic { parts, tag, .. } => self.write_atomic(id, parts, *tag),
            Op::Scatter { tag, .. } => Ok(self.write(id, &scattered(op), *tag)),
            Op::Truncate { size: new, .. } if *new != size => {
                self.content(id).truncate(*new);
                let mapped = vec![Touch { file: id, start: size.min(*new), end: EVERYTHING }];
                Ok(Effect { mapped, in_parts: *new > size, ..Effect::default() })
            }
            Op::Punch { off, len, .. } | Op::Zero { off, len, .. } if *off < size => {
                self.content(id).zero(*off, off.saturating_add(*len).min(size));
                // Whole blocks go by a record, edges are written.
                let end = off + len;
                let touch = |start, end| Touch { file: id, start, end };
                let last =
                    if end >= size { end.next_multiple_of(BLOCK) } else { end / BLOCK * BLOCK };
                let mapped = vec![touch(off.next_multiple_of(BLOCK), last)];
                let written = vec![touch(*off, end)];
                Ok(Effect { written, mapped, in_parts: true, ..Effect::default() })
            }
            Op::Collapse { off, len, .. } => self.shift(id, *off, *len, true),
            Op::Insert { off, len, .. } => self.shift(id, *off, *len, false),
            Op::Allocate { off, len, .. } if *len > 0 => {
                let content = self.content(id);
                content.size = content.size.max(off + len);
                let mapped = vec![Touch { file: id, start: size, end: EVERYTHING }];
                Ok(Effect { mapped, in_parts: true, ..Effect::default() })
            }
            _ => Ok(Effect::default()),
        }
    }

    /// A range is taken out, or put in: what lies behind it moves.
    fn shift(&mut self, id: u32, off: u64, len: u64, taken: bool) -> Expected {
        let size = self.files[&id].size;
        let outside = if taken { off + len >= size } else { off >= size };
        if !off.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK) || outside {
            return Err(ErrorKind::Invalid);
        }
        if len == 0 {
            return Ok(Effect::default());
        }
        let content = self.content(id);
        if taken {
            content.collapse(off, len)
        } else {
            content.insert(off, len)
        }
        let mapped = vec![Touch { file: id, start: off, end: EVERYTHING }];
        Ok(Effect { mapped, synced: Some(id), ..Effect::default() })
    }

    fn write(&mut self, id: u32, parts: &[(u64, u64)], tag: u32) -> Effect {
        let size = self.files[&id].size;
        let mut effect = Effect { in_parts: true, ..Effect::default() };
        for (off, len) in parts.iter().filter(|(_, len)| *len > 0) {
            self.content(id).write(*off, &tagged(id, tag, *off, *len));
            effect.written.push(Touch { file: id, start: *off, end: off + len });
        }
        let grown = self.files[&id].size;
        if grown > size {
            effect.mapped.push(Touch { file: id, start: size, end: grown });
        }
        effect
    }

    /// All of it by one record, in new blocks.
    fn write_atomic(&mut self, id: u32, parts: &[(u64, u64)], tag: u32) -> Expected {
        let mut parts: Vec<_> = parts.iter().filter(|(_, len)| *len > 0).copied().collect();
        parts.sort_unstable();
        if parts.iter().map(|(_, len)| len).sum::<u64>() > ATOMIC_BYTES {
            return Err(ErrorKind::Limit);
        }
        if parts.windows(2).any(|w| w[0].0 + w[0].1 > w[1].0) {
            return Err(ErrorKind::Invalid);
        }
        let mut effect = self.write(id, &parts, tag);
        let blocks = |t: Touch| Touch {
            start: t.start / BLOCK * BLOCK,
            end: t.end.next_multiple_of(BLOCK),
            ..t
        };
        let moved: Vec<_> = effect.written.drain(..).map(blocks).collect();
        effect.mapped.extend(moved);
        Ok(Effect { in_parts: false, ..effect })
    }

    fn close(&mut self, slot: u8) {
        if let Some(id) = self.slots.remove(&slot) {
            self.drop_if_unused(id);
        }
    }

    fn rename(&mut self, from: &[u8], to: Vec<u8>) -> Expected {
        let id = *self.names.get(from).ok_or(ErrorKind::NotFound)?;
        if from != to {
            self.names.remove(from);
            if let Some(old) = self.names.insert(to, id) {
                self.drop_if_unused(old);
            }
        }
        Ok(Effect::default())
    }

    fn reflink(&mut self, who: Who, to: Vec<u8>) -> Expected {
        let id = self.find(who).ok_or(ErrorKind::NotFound)?;
        if self.names.contains_key(&to) {
            return Err(ErrorKind::Exists);
        }
        let content = self.files[&id].clone();
        self.add(to, content);
        let whole = |file| Touch { file, start: 0, end: EVERYTHING };
        Ok(Effect { mapped: vec![whole(id), whole(self.next)], ..Effect::default() })
    }

    fn reflink_range(&mut self, from: u32, off: u64, to: u32, to_off: u64, len: u64) -> Expected {
        let (source, target) = (self.files[&from].clone(), &self.files[&to]);
        let aligned = off.is_multiple_of(BLOCK) && to_off.is_multiple_of(BLOCK);
        let overlaps = from == to && off < to_off + len && to_off < off + len;
        if !aligned || (overlaps && len > 0) {
            return Err(ErrorKind::Invalid);
        }
        if len == 0 {
            return Ok(Effect::default());
        }
        let both_end = off + len == source.size && to_off + len >= target.size;
        if off + len > source.size || (!len.is_multiple_of(BLOCK) && !both_end) {
            return Err(ErrorKind::Invalid);
        }
        let size = target.size;
        self.content(to).share(to_off, &source, off, len);
        let touch = |file, start: u64, end| Touch { file, start, end };
        let mapped = vec![
            touch(from, off, off + len),
            touch(to, to_off, to_off + len),
            touch(to, size, (to_off + len).max(size)),
        ];
        Ok(Effect { mapped, in_parts: true, ..Effect::default() })
    }
}
