//! Is a recovered store one that the laws allow?
//!
//! There must be a number `p` of operations, no fewer than what syncs promised,
//! so that the store is what the history's first `p` operations made of it (law
//! B11: the journal is a serial history), where the next operation may have been
//! done in part if it takes several records; and so that each sector of each file
//! holds what it held after `p` operations, or what a write left there that no
//! sync covered: an overwrite in place needs no record. Between two changes of
//! the map at one place (a truncate, a punch, a reflink) such writes stay where they are: none
//! is visible before the change that came before it (law B5), none is lost when
//! the change that came after it is there (law B4).

use super::story::Moment;
use crate::history::{Content, Effect, Op, SECTOR, State, Touch, describe};
use freehold::{ListEntry, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was recovered.
struct Found {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Finds out what a recovered store holds and whether that may be. `grain` is
/// what the medium keeps or loses together.
///
/// # Errors
/// Why no number of operations explains it.
pub fn judge(moment: Moment<'_>, store: &Store, grain: u64) -> Result<State, String> {
    let found = read_all(store)?;
    let least = moment.least();
    let last = moment.running + 1;
    let mut why = Vec::new();
    for p in (least..=last).rev() {
        let view = View { moment, p, grain };
        match view.explains(&found) {
            Ok(state) => return Ok(state),
            Err(e) => why.push(format!("  {p} operations: {e}")),
        }
    }
    why.dedup();
    Err(format!(
        "what was recovered is explained by no {least}..={last} operations:\n{}",
        why.join("\n")
    ))
}

fn read_all(store: &Store) -> Result<Found, String> {
    let listing = store.list(b"", None, None, 10_000).map_err(|e| e.to_string())?;
    let mut files = BTreeMap::new();
    for e in listing.entries {
        let ListEntry::File { name, stat } = e else { continue };
        let f = store.open_file(&name).map_err(|e| e.to_string())?;
        let mut bytes = vec![0; stat.size as usize];
        let n = f.read_at(&mut bytes, 0).map_err(|e| format!("read of {name:?}: {e}"))?;
        if n != bytes.len() || f.size() != stat.size {
            return Err(format!("{name:?} has {} bytes, of which {n} can be read", stat.size));
        }
        files.insert(name, bytes);
    }
    Ok(Found { files })
}

/// The assumption that `p` operations are there, and the next perhaps in part.
struct View<'a> {
    moment: Moment<'a>,
    p: usize,
    grain: u64,
}

/// A file under that assumption.
struct Suspect<'a> {
    id: u32,
    /// The state that its bytes are compared with first.
    q: usize,
    size: u64,
    old_size: u64,
    /// The operation that may have been done in part, and what it would leave.
    partial: Option<(&'a Effect, Arc<Content>)>,
    /// A batch grows a file in no order.
    strict: bool,
    /// The operation that may have been done in part puts data where it goes.
    writes: bool,
}

impl View<'_> {
    fn states(&self) -> &[State] {
        &self.moment.story.states
    }

    fn explains(&self, found: &Found) -> Result<State, String> {
        let state = &self.states()[self.p];
        if !found.files.keys().eq(state.names.keys()) {
            let (is, should) = (found.files.keys(), state.names.keys());
            let text = |n: &Vec<u8>| n.escape_ascii().to_string();
            let is: Vec<_> = is.map(text).collect();
            let should: Vec<_> = should.map(text).collect();
            return Err(format!("the names are {is:?}, not {should:?}"));
        }
        let mut now = state.clone();
        now.slots.clear();
        now.files.clear();
        for (name, id) in &state.names {
            let bytes = &found.files[name];
            let suspect = self.suspect(*id, bytes.len() as u64)?;
            let mut content = Content::default();
            for (i, sector) in bytes.chunks(SECTOR as usize).enumerate() {
                let at = i as u64 * SECTOR;
                self.sector(&suspect, at, sector)?;
                if sector != &[0; SECTOR as usize][..sector.len()] {
                    content.write(at, sector);
                }
            }
            content.size = bytes.len() as u64;
            now.files.insert(*id, Arc::new(content));
        }
        Ok(now)
    }

    fn suspect(&self, id: u32, size: u64) -> Result<Suspect<'_>, String> {
        let old_size = self.states()[self.p].files[&id].size;
        let story = self.moment.story;
        let partial = (self.p <= self.moment.running)
            .then(|| &story.effects[self.p])
            .filter(|e| e.in_parts)
            .and_then(|e| Some((e, self.states()[self.p + 1].files.get(&id)?.clone())));
        let end = partial.as_ref().map_or(old_size, |(_, c)| c.size);
        if size < old_size.min(end) || size > old_size.max(end) {
            return Err(format!("file {id} has {size} bytes, and should have {old_size}..={end}"));
        }
        let next = story.ops.get(self.p);
        let strict = !matches!(next, Some(Op::Batch { .. } | Op::Scatter { .. }));
        let writes = !strict || matches!(next, Some(Op::Write { .. } | Op::Durable { .. }));
        let q = self.p.max(self.moment.synced(id));
        Ok(Suspect { id, q, size, old_size, partial, strict, writes })
    }

    fn sector(&self, s: &Suspect<'_>, at: u64, got: &[u8]) -> Result<(), String> {
        let mut want = [0; SECTOR as usize];
        let n = got.len();
        let q = s.q.max(self.promised(s.id, at));
        self.states()[q].files[&s.id].peek(at, &mut want);
        let grown = at + n as u64 > s.old_size;
        if !grown && got == &want[..n] {
            return Ok(());
        }
        if let Some((_, new)) = s.partial.as_ref().filter(|_| grown && s.strict) {
            new.peek(at, &mut want);
            if got == &want[..n] {
                return Ok(());
            }
            return Err(self.message(s, at, got, &want[..n]));
        }
        let allowed = self.allowed(s, q, at);
        let step = self.grain as usize;
        let good = (0..n).step_by(step).all(|i| {
            let end = (i + step).min(n);
            allowed.iter().any(|a| a[i..end] == got[i..end])
        });
        if good { Ok(()) } else { Err(self.message(s, at, got, &want[..n])) }
    }

    fn message(&self, s: &Suspect<'_>, at: u64, got: &[u8], want: &[u8]) -> String {
        let i = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0) / 16 * 16;
        let here = at + i as u64;
        format!(
            "file {} of {} bytes at {here:#x}: {}; should be {}",
            s.id,
            s.size,
            describe(&got[i..], here),
            describe(&want[i..], here),
        )
    }

    /// The last operation after which a durable write has made bytes of the sector
    /// durable, if its file is there still.
    fn promised(&self, file: u32, at: u64) -> usize {
        let effects = self.moment.story.effects[..self.moment.running].iter();
        let last = effects
            .enumerate()
            .rev()
            .find(|(_, e)| e.durable && e.written.iter().any(|t| part(t, file, at).is_some()));
        last.map_or(0, |(i, _)| i + 1)
    }

    /// All that a sector may hold that is compared with state `q`.
    fn allowed(&self, s: &Suspect<'_>, q: usize, at: u64) -> Vec<Sector> {
        let mut out = Vec::new();
        out.extend(self.at(q, s.id, at));
        let Some(base) = out.first().copied() else { return out };
        // Back to the last change of the map: these writes may be lost.
        let (mut open, mut now) = ([true; SECTOR as usize], base);
        for op in (0..q).rev() {
            let effect = &self.moment.story.effects[op];
            let returned = op < self.moment.running;
            if returned && effect.durable {
                // Nothing older stands where these bytes are.
                effect.written.iter().filter_map(|t| part(t, s.id, at)).for_each(|touched| {
                    open[touched].fill(false);
                });
            }
            if returned && (effect.synced_all || effect.synced == Some(s.id)) {
                break;
            }
            close(&mut open, effect, s.id, at);
            for state in [op + 1, op] {
                if let Some(other) = self.at(state, s.id, at)
                    && lay(&mut now, &other, &open, effect, s.id, at)
                {
                    out.push(now);
                }
            }
        }
        // On to the next change of the map: these may have landed.
        let (mut open, mut now) = ([true; SECTOR as usize], base);
        for op in q..=self.moment.running {
            let effect = &self.moment.story.effects[op];
            close(&mut open, effect, s.id, at);
            if let Some(other) = self.at(op + 1, s.id, at)
                && lay(&mut now, &other, &open, effect, s.id, at)
            {
                out.push(now);
            }
        }
        if let Some((effect, new)) = &s.partial
            && effect.written.iter().chain(&effect.mapped).any(|t| part(t, s.id, at).is_some())
        {
            let mut bytes = [0; SECTOR as usize];
            new.peek(at, &mut bytes);
            out.push(bytes);
            // What its records made reachable may have been written in place since;
            // what they only took away or set aside, no write reaches without a record.
            let (mut open, mut now) = ([true; SECTOR as usize], bytes);
            if !s.writes {
                close(&mut open, effect, s.id, at);
            }
            for op in self.p + 1..=self.moment.running {
                let effect = &self.moment.story.effects[op];
                close(&mut open, effect, s.id, at);
                if let Some(other) = self.at(op + 1, s.id, at)
                    && lay(&mut now, &other, &open, effect, s.id, at)
                {
                    out.push(now);
                }
            }
        }
        out
    }

    /// The sector in one of the story's states, if the file is there.
    fn at(&self, state: usize, file: u32, at: u64) -> Option<Sector> {
        let mut bytes = [0; SECTOR as usize];
        self.states()[state].files.get(&file)?.peek(at, &mut bytes);
        Some(bytes)
    }
}

type Sector = [u8; SECTOR as usize];

/// The part of a sector that was touched.
fn part(t: &Touch, file: u32, at: u64) -> Option<std::ops::Range<usize>> {
    let (a, b) = (t.start.max(at), t.end.min(at + SECTOR));
    (t.file == file && a < b).then(|| (a - at) as usize..(b - at) as usize)
}

/// Bytes whose place in the map changed say nothing about what lies beyond that.
fn close(open: &mut [bool; SECTOR as usize], effect: &Effect, file: u32, at: u64) {
    for touched in effect.mapped.iter().filter_map(|t| part(t, file, at)) {
        open[touched].fill(false);
    }
}

/// Lays the bytes that an operation wrote over a sector, where that is open.
fn lay(
    now: &mut Sector,
    other: &Sector,
    open: &[bool; SECTOR as usize],
    effect: &Effect,
    file: u32,
    at: u64,
) -> bool {
    let mut any = false;
    for touched in effect.written.iter().filter_map(|t| part(t, file, at)) {
        for i in touched.filter(|i| open[*i]) {
            now[i] = other[i];
            any = true;
        }
    }
    any
}
