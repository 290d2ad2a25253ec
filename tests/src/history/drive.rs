//! Does operations on a real store and compares what comes back with the oracle.

use super::content::{Content, SECTOR, describe, tagged};
use super::oracle::{Effect, State, scattered};
use super::{Op, When, Who, full, name};
use freehold::{Error, ErrorKind, File, ListEntry, OpenOptions, Queue, Store};
use freehold_engine::medium::{BLOCK, Medium};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a history stopped.
#[derive(Debug)]
pub enum Failure {
    /// The store did what it must not.
    Wrong(String),
    /// The medium is gone, or lost something: nothing can be said.
    Lost(Error),
}

impl Failure {
    fn of(error: &Error, what: &str) -> Self {
        match error.kind() {
            ErrorKind::Gone | ErrorKind::Poisoned => Failure::Lost(error.clone()),
            kind => Failure::Wrong(format!("{what}: {kind:?}: {error}")),
        }
    }

    /// The failure as a text.
    pub fn text(self) -> String {
        match self {
            Failure::Wrong(text) => text,
            Failure::Lost(e) => format!("the medium was lost: {e}"),
        }
    }
}

type Tried<T> = Result<T, Failure>;

fn wrong<T>(text: String) -> Tried<T> {
    Err(Failure::Wrong(text))
}

/// A store and what it should hold.
pub struct Driver {
    medium: Arc<dyn Medium>,
    journal: Option<Arc<dyn Medium>>,
    store: Option<Store>,
    queue: Option<Queue>,
    slots: BTreeMap<u8, File>,
    options: OpenOptions,
    /// What should be there.
    pub state: State,
    /// Operations that found the store full.
    pub full: u64,
}

impl Driver {
    /// Goes on with a store that holds what the state says; no handle is open.
    pub fn new(medium: Arc<dyn Medium>, store: Store, state: State) -> Self {
        Driver {
            medium,
            journal: None,
            store: Some(store),
            queue: None,
            slots: BTreeMap::new(),
            options: OpenOptions::default(),
            state,
            full: 0,
        }
    }

    /// The same with the journal on a medium of its own, if there is one.
    pub fn with_journal(self, journal: Option<Arc<dyn Medium>>) -> Self {
        Driver { journal, ..self }
    }

    /// Goes on with the store opened in this way, now and whenever it is opened again.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub fn reopened(mut self, options: &OpenOptions) -> Result<Self, String> {
        self.options = options.clone();
        self.reopen().map_err(Failure::text)?;
        Ok(self)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("a store is open between operations")
    }

    /// A handle that an operation opened.
    pub fn slot(&self, slot: u8) -> Option<&File> {
        self.slots.get(&slot)
    }

    fn file(&self, who: Who) -> freehold::Result<File> {
        match who {
            Who::Name(n) => self.store().open_file(&name(n)),
            Who::Slot(s) => self
                .slots
                .get(&s)
                .cloned()
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "no such handle")),
        }
    }

    /// Does one operation on both sides and compares.
    ///
    /// # Errors
    /// What is wrong, or that the medium is lost.
    pub fn step(&mut self, op: &Op) -> Tried<Effect> {
        let before = self.state.clone();
        let expected = self.state.apply(op);
        let got = self.act(op, &before)?;
        match (expected, got) {
            (Ok(effect), Ok(())) => {
                self.compare(op, &effect)?;
                Ok(effect)
            }
            (Ok(effect), Err(e)) if e.kind() == ErrorKind::NoSpace => {
                self.ran_out(op, before, &effect, &e)?;
                Ok(Effect { mapped: Vec::new(), ..effect })
            }
            (Ok(_), Err(e)) => Err(Failure::of(&e, &format!("{op:?} failed"))),
            (Err(kind), Ok(())) => wrong(format!("{op:?} succeeded and should give {kind:?}")),
            (Err(kind), Err(e)) if e.kind() == kind => {
                self.state = before;
                self.unchanged(op)?;
                Ok(Effect::default())
            }
            // What should be refused may run out of space before it comes to that.
            (Err(kind), Err(e)) => {
                Err(Failure::of(&e, &format!("{op:?} should give {kind:?}, and gave")))
            }
        }
    }

    /// The real side. An inner error is the store's answer.
    fn act(&mut self, op: &Op, before: &State) -> Tried<freehold::Result<()>> {
        Ok(match op {
            Op::Create { name: n } => self.store().create(&name(*n)).map(drop),
            Op::Open { slot, name: n } => {
                self.store().open_file(&name(*n)).map(|f| drop(self.slots.insert(*slot, f)))
            }
            Op::Close { slot } => {
                self.slots.remove(slot);
                Ok(())
            }
            Op::Batch { who, parts, tag, sync } => {
                return self.batch(*who, before.find(*who), parts, *tag, *sync);
            }
            Op::Scatter { who, tag, .. } => {
                let id = before.find(*who).unwrap_or(0);
                self.file(*who).and_then(|f| {
                    scattered(op)
                        .into_iter()
                        .try_for_each(|(off, len)| f.write_at(&tagged(id, *tag, off, len), off))
                })
            }
            Op::Atomic { who, parts, tag } => {
                let id = before.find(*who).unwrap_or(0);
                let bytes: Vec<_> =
                    parts.iter().map(|(off, len)| (*off, tagged(id, *tag, *off, *len))).collect();
                let parts: Vec<_> = bytes.iter().map(|(off, b)| (*off, &b[..])).collect();
                self.file(*who).and_then(|f| f.write_atomic(&parts))
            }
            Op::Reflink { who, to } => {
                self.file(*who).and_then(|f| f.reflink(&name(*to)).map(drop))
            }
            Op::ReflinkRange { from, off, to, to_off, len } => self
                .file(*from)
                .and_then(|f| f.reflink_range(*off, &self.file(*to)?, *to_off, *len)),
            Op::Rename { from, to } => self.store().rename(&name(*from), &name(*to)),
            Op::Remove { name: n } => self.store().remove(&name(*n)),
            Op::List { prefix, delimiter, after, limit } => {
                let after = after.map(name);
                return self.list(*prefix, *delimiter, after.as_deref(), usize::from(*limit));
            }
            Op::SyncAll => self.store().sync(),
            Op::Checkpoint => self.store().checkpoint(),
            Op::Reopen => return self.reopen().map(Ok),
            Op::Write { who, off, len, tag } => {
                let id = before.find(*who).unwrap_or(0);
                self.file(*who).and_then(|f| f.write_at(&tagged(id, *tag, *off, *len), *off))
            }
            Op::Durable { who, off, len, tag } => {
                let bytes = tagged(before.find(*who).unwrap_or(0), *tag, *off, *len);
                self.file(*who).and_then(|f| f.write_durable_at(&bytes, *off))
            }
            Op::Truncate { who, size } => self.file(*who).and_then(|f| f.truncate(*size)),
            Op::Punch { who, off, len } => self.file(*who).and_then(|f| f.punch(*off, *len)),
            Op::Defrag { who, off, len } => {
                self.file(*who).and_then(|f| f.defrag(*off, *len)).map(drop)
            }
            Op::Zero { who, off, len } => self.file(*who).and_then(|f| f.zero(*off, *len)),
            Op::Collapse { who, off, len } => self.file(*who).and_then(|f| f.collapse(*off, *len)),
            Op::Insert { who, off, len } => self.file(*who).and_then(|f| f.insert(*off, *len)),
            Op::Allocate { who, off, len } => self.file(*who).and_then(|f| f.allocate(*off, *len)),
            Op::Diff { a, b } => self.file(*a).and_then(|_| self.file(*b)).map(drop),
            Op::Sync { who } => self.file(*who).and_then(|f| f.sync()),
            Op::Read { who, .. } | Op::Look { who } => self.file(*who).map(drop),
        })
    }

    fn reopen(&mut self) -> Tried<()> {
        self.slots.clear();
        self.queue = None;
        let store = self.store.take().expect("a store is open");
        store.close().map_err(|e| Failure::of(&e, "close"))?;
        let journal = self.journal.clone();
        let store = Store::open_on_with(self.medium.clone(), journal, &self.options)
            .map_err(|e| Failure::of(&e, "open after close"))?;
        if store.recovery().records > 1 {
            let n = store.recovery().records;
            return wrong(format!("a store that was closed replays {n} records"));
        }
        self.store = Some(store);
        Ok(())
    }

    /// Ends the store without closing it, and gives the medium back.
    pub fn abandon(self) -> Arc<dyn Medium> {
        self.medium.clone()
    }

    fn batch(
        &mut self,
        who: Who,
        id: Option<u32>,
        parts: &[(u64, u64)],
        tag: u32,
        sync: When,
    ) -> Tried<freehold::Result<()>> {
        let file = match self.file(who) {
            Ok(file) => file,
            Err(e) => return Ok(Err(e)),
        };
        if self.queue.is_none() {
            let queue = self.store().queue(16).map_err(|e| Failure::of(&e, "a queue"))?;
            self.queue = Some(queue);
        }
        let queue = self.queue.as_mut().expect("just made");
        let mut error = None;
        let mut waiting = 0;
        let mut done = Vec::new();
        for (i, (off, len)) in parts.iter().enumerate() {
            let bytes = tagged(id.unwrap_or(0), tag, *off, *len);
            let mut buf = queue.buffer(bytes.len()).map_err(|e| Failure::of(&e, "a buffer"))?;
            buf[..bytes.len()].copy_from_slice(&bytes);
            let write = if sync == When::Each { Queue::write_durable } else { Queue::write };
            match write(queue, &file, *off, buf, i as u64) {
                Ok(()) => waiting += 1,
                Err(r) => error = r.error.or(error),
            }
            if sync == When::During && i == parts.len() / 2 {
                waiting += usize::from(queue.sync(&file, u64::MAX).is_ok());
            }
        }
        let mut synced = sync != When::After;
        loop {
            while waiting > 0 {
                queue.wait(None).map_err(|e| Failure::of(&e, "wait"))?;
                waiting -= queue.poll(&mut done);
                error = done.drain(..).fold(error, |e, c| c.result.err().or(e));
            }
            if synced || error.is_some() {
                return Ok(error.map_or(Ok(()), Err));
            }
            synced = true;
            waiting = 1;
            if queue.sync(&file, u64::MAX).is_err() {
                return wrong("an empty queue took no sync".to_owned());
            }
        }
    }

    fn list(
        &self,
        prefix: u8,
        delimiter: bool,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Tried<freehold::Result<()>> {
        let prefix: &[u8] = [&b""[..], b"a", b"dir", b"dir0/", b"z", b"\xff"][prefix as usize % 6];
        let mark = delimiter.then_some(b'/');
        let mut lines: Vec<(bool, Vec<u8>)> = Vec::new();
        for n in self.state.names.keys().filter(|n| n.starts_with(prefix)) {
            if after.is_some_and(|a| &n[..] <= a) {
                continue;
            }
            let cut = mark.and_then(|d| n[prefix.len()..].iter().position(|b| *b == d));
            let line = match cut {
                None => (false, n.clone()),
                Some(i) => (true, n[..prefix.len() + i + 1].to_vec()),
            };
            let told = line.0 && after.is_some_and(|a| a.starts_with(&line.1));
            if lines.last() != Some(&line) && !told {
                lines.push(line);
            }
        }
        let listing = match self.store().list(prefix, mark, after, limit) {
            Ok(listing) => listing,
            Err(e) => return Ok(Err(e)),
        };
        let more = lines.len() > limit;
        lines.truncate(limit);
        let got = listing.entries.iter().map(|e| match e {
            ListEntry::File { name, .. } => (false, name.clone()),
            ListEntry::Prefix(p) => (true, p.clone()),
        });
        let got: Vec<_> = got.collect();
        if got != lines || listing.more != more {
            return wrong(format!(
                "list gives {got:?} (more: {}) and should give {lines:?} (more: {more})",
                listing.more
            ));
        }
        Ok(Ok(()))
    }

    /// After an operation: the files that it touched, around where it did.
    fn compare(&self, op: &Op, effect: &Effect) -> Tried<()> {
        match op {
            Op::Read { who, off, len } | Op::Defrag { who, off, len } => {
                let f = self.file(*who).map_err(|e| Failure::of(&e, "open"))?;
                let id = self.state.find(*who).expect("the oracle has found it");
                read_same(&f, &self.state.files[&id], *off, *len, &format!("{op:?}"))
            }
            Op::Look { who } => {
                let f = self.file(*who).map_err(|e| Failure::of(&e, "open"))?;
                let id = self.state.find(*who).expect("the oracle has found it");
                full::look(&f, &self.state.files[&id], id).map_err(Failure::Wrong)
            }
            Op::Diff { a, b } => {
                let side = |who: &Who| {
                    let id = self.state.find(*who).expect("the oracle has found it");
                    self.file(*who).map(|f| (f, &*self.state.files[&id]))
                };
                let (a, b) =
                    side(a).and_then(|a| Ok((a, side(b)?))).map_err(|e| Failure::of(&e, "open"))?;
                full::diff(a, b).map_err(Failure::Wrong)
            }
            Op::Write { who, .. }
            | Op::Durable { who, .. }
            | Op::Batch { who, .. }
            | Op::Scatter { who, .. }
            | Op::Atomic { who, .. }
            | Op::Truncate { who, .. }
            | Op::Punch { who, .. }
            | Op::Zero { who, .. }
            | Op::Collapse { who, .. }
            | Op::Insert { who, .. }
            | Op::Allocate { who, .. }
            | Op::ReflinkRange { to: who, .. } => {
                let f = self.file(*who).map_err(|e| Failure::of(&e, "open"))?;
                let id = self.state.find(*who).expect("the oracle has found it");
                let content = &self.state.files[&id];
                for t in effect.written.iter().chain(&effect.mapped).filter(|t| t.file == id) {
                    let from = t.start.saturating_sub(SECTOR);
                    let len = t.end.saturating_add(SECTOR).saturating_sub(from).min(1 << 20);
                    let len = len.min(content.size.saturating_sub(from) + SECTOR);
                    read_same(&f, content, from, len, &format!("after {op:?}"))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An operation that was refused changed nothing.
    fn unchanged(&self, op: &Op) -> Tried<()> {
        if let Op::ReflinkRange { to: who, .. }
        | Op::Write { who, .. }
        | Op::Durable { who, .. }
        | Op::Atomic { who, .. } = op
            && let Some(id) = self.state.find(*who)
        {
            let f = self.file(*who).map_err(|e| Failure::of(&e, "open"))?;
            let c = &self.state.files[&id];
            return read_same(&f, c, 0, c.size + 1, &format!("after {op:?} was refused"));
        }
        Ok(())
    }

    /// The store says that it is full. It must be, and nothing may have changed,
    /// or, where the API says so, only a part of what was asked for.
    fn ran_out(&mut self, op: &Op, before: State, effect: &Effect, e: &Error) -> Tried<()> {
        self.full += 1;
        let space = self.store().space();
        let asked = full::asks_for(op, &before);
        let Some(asked) = asked else {
            return wrong(format!("{op:?} needs no space, and was refused: {e}"));
        };
        // Room for nodes, and what the store keeps for checkpoints.
        let kept = space.reserved + 512 * BLOCK as u64;
        if space.free + space.condemned > asked + kept {
            return wrong(format!("{op:?} was refused with {space:?}: {e}"));
        }
        let after = std::mem::replace(&mut self.state, before);
        if !effect.in_parts {
            return self.unchanged(op);
        }
        let (Op::Write { who, .. }
        | Op::Durable { who, .. }
        | Op::Batch { who, .. }
        | Op::Scatter { who, .. }
        | Op::Truncate { who, .. }
        | Op::Punch { who, .. }
        | Op::Zero { who, .. }
        | Op::Allocate { who, .. }
        | Op::ReflinkRange { to: who, .. }) = op
        else {
            return Ok(());
        };
        let id = self.state.find(*who).expect("the oracle has found it");
        let f = self.file(*who).map_err(|e| Failure::of(&e, "open"))?;
        let (old, new) = (&self.state.files[&id], &after.files[&id]);
        let what = format!("{op:?} ran out of space");
        if matches!(op, Op::Write { .. } | Op::Durable { .. }) {
            return read_same(&f, old, 0, old.size.max(new.size) + 1, &what);
        }
        let now =
            full::between(&f, old, new).map_err(|e| Failure::Wrong(format!("{what}: {e}")))?;
        self.state.files.insert(id, Arc::new(now));
        Ok(())
    }
}

/// A read gives what the oracle has.
pub(super) fn read_same(f: &File, c: &Content, off: u64, len: u64, what: &str) -> Tried<()> {
    let mut got = vec![0xa5; len as usize];
    let n = f.read_at(&mut got, off).map_err(|e| Failure::of(&e, "read"))?;
    got.truncate(n);
    let want = c.read(off, len);
    if f.size() != c.size || got.len() != want.len() {
        return wrong(format!(
            "{what}: size {} and {n} bytes read at {off:#x}; should be {} and {}",
            f.size(),
            c.size,
            want.len()
        ));
    }
    if got == want {
        return Ok(());
    }
    let i = got.iter().zip(&want).position(|(a, b)| a != b).unwrap_or(0);
    let line = i / 16 * 16;
    let at = off + i as u64;
    let text = |b: &[u8]| describe(&b[line..(line + 32).min(b.len())], off + line as u64);
    wrong(format!("{what}: at {at:#x} there is {}; should be {}", text(&got), text(&want)))
}
