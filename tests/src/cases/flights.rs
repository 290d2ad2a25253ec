//! Cases with operations in flight: a simulated medium holds them while others go on.
//!
//! Where a case gives another thread time, it only gives it the chance to do
//! wrong; what is demanded holds however long that takes.

use super::{Verdict, demand, text};
use crate::history::tagged;
use freehold::{Completion, File, Queue, Store};
use freehold_engine::sim::{Hold, OpKind, SimMedium, SimOptions};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const BLOCK: usize = 4096;

/// Commands that go straight from a user's queue to the device bear small tags.
const PLAIN: u64 = 1 << 63;

/// Time for others to do wrong.
const CHANCE: Duration = Duration::from_millis(150);

/// After so long a call counts as one that never returns.
const NEVER: Duration = Duration::from_secs(60);

fn store(seed: u64) -> Result<(SimMedium, Store), String> {
    let sim = SimMedium::new(SimOptions { blocks: 2048, seed, ..Default::default() });
    let store = Store::format_on(sim.medium()).map_err(text)?;
    Ok((sim, store))
}

fn filled(store: &Store, name: &[u8], blocks: usize, tag: u32) -> Result<File, String> {
    let file = store.create(name).map_err(text)?;
    file.write_at(&tagged(1, tag, 0, (blocks * BLOCK) as u64), 0).map_err(text)?;
    store.sync().map_err(text)?;
    Ok(file)
}

fn content(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(&mut bytes, 0).map_err(text)?;
    Ok(bytes)
}

fn submit(queue: &mut Queue, file: &File, at: usize, bytes: &[u8]) -> Verdict {
    let mut buf = queue.buffer(bytes.len()).map_err(text)?;
    buf.copy_from_slice(bytes);
    queue.write(file, at as u64, buf, 1).map_err(|r| format!("refused: {:?}", r.error))
}

fn finish(queue: &mut Queue) -> Result<Completion, String> {
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).map_err(text)?;
    }
    let one = done.remove(0);
    match &one.result {
        Ok(_) => Ok(one),
        Err(e) => Err(text(e)),
    }
}

/// Runs something on another thread.
struct Elsewhere<T> {
    result: Receiver<Result<T, String>>,
    thread: JoinHandle<()>,
}

fn elsewhere<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Elsewhere<T> {
    let (send, result) = channel();
    let thread = std::thread::spawn(move || {
        // Nobody listens any more when the case has failed already.
        let _ = send.send(run());
    });
    Elsewhere { result, thread }
}

impl<T> Elsewhere<T> {
    /// What it gives, if it ends while it has the chance to.
    fn early(&self) -> Option<Result<T, String>> {
        self.within(CHANCE)
    }

    fn within(&self, time: Duration) -> Option<Result<T, String>> {
        self.result.recv_timeout(time).ok()
    }

    fn join(self, what: &str) -> Result<T, String> {
        let got = self.result.recv_timeout(NEVER).map_err(|_| format!("{what} never returns"))?;
        self.thread.join().map_err(|_| format!("{what} panicked"))?;
        got
    }
}

fn hold(sim: &SimMedium, kind: OpKind, tags: std::ops::Range<u64>) {
    sim.hold(Hold { kind: Some(kind), tags });
}

/// Law B3: a block that a read in flight has looked up is not reused.
pub fn b3_a_read_in_flight_keeps_its_blocks() -> Verdict {
    for seed in 0..2 {
        let (sim, store) = store(seed)?;
        // Most of the store, so that whoever fills it meets these blocks.
        let file = filled(&store, b"read", 1000, 1)?;
        store.checkpoint().map_err(text)?;
        let before = content(&file)?[900 * BLOCK..964 * BLOCK].to_vec();
        let mut queue = store.queue(4).map_err(text)?;
        let buf = queue.buffer(64 * BLOCK).map_err(text)?;
        hold(&sim, OpKind::Read, 0..PLAIN);
        queue
            .read(&file, 900 * BLOCK as u64, buf, 1)
            .map_err(|r| format!("refused: {:?}", r.error))?;
        let (s, f) = (store.clone(), file.clone());
        let other = elsewhere(move || {
            f.punch(0, 1000 * BLOCK as u64).map_err(text)?;
            s.checkpoint().map_err(text)?;
            s.checkpoint().map_err(text)?;
            let all = s.create(b"all").map_err(text)?;
            let piece = tagged(2, 2, 0, 128 * 1024);
            for i in 0.. {
                if all.write_at(&piece, i * piece.len() as u64).is_err() {
                    return s.sync().map_err(text);
                }
            }
            Ok(())
        });
        let early = other.within(5 * CHANCE);
        sim.release();
        let read = finish(&mut queue)?;
        let bytes = read.buf.ok_or("a read gives its buffer back")?;
        demand(bytes[..] == before[..], || "a read in flight shows another file's bytes".into())?;
        match early {
            Some(done) => done?,
            None => other.join("a punch and a checkpoint")?,
        }
    }
    Ok(())
}

/// What is read at a place is what stood there at some time: `others` are bytes that
/// never did, written in place while the read was in flight.
fn reads_its_own(
    store: &Store,
    sim: &SimMedium,
    (file, block): (&File, usize),
    others: Vec<u8>,
    change: impl FnOnce() -> Verdict + Send + 'static,
) -> Verdict {
    let mut queue = store.queue(4).map_err(text)?;
    let buf = queue.buffer(others.len()).map_err(text)?;
    hold(sim, OpKind::Read, 0..PLAIN);
    let at = (block * BLOCK) as u64;
    queue.read(file, at, buf, 1).map_err(|r| format!("refused: {:?}", r.error))?;
    let other = elsewhere(change);
    let early = other.within(2 * CHANCE);
    sim.release();
    let read = finish(&mut queue)?;
    let bytes = read.buf.ok_or("a read gives its buffer back")?;
    match early {
        Some(done) => done?,
        None => other.join("a change beside a read")?,
    }
    let mut sectors = bytes.chunks(512).zip(others.chunks(512));
    demand(sectors.all(|(is, other)| is != other), || {
        "a read in flight shows what never stood there".into()
    })
}

/// Law B2: a block that lost its other owner is not overwritten in place while a read
/// that found it through that owner is in flight.
pub fn b2_a_read_in_flight_shows_no_other_files_bytes() -> Verdict {
    for seed in 0..2 {
        let (sim, store) = store(seed)?;
        let file = filled(&store, b"read", 8, 1)?;
        let copy = file.reflink(b"copy").map_err(text)?;
        store.sync().map_err(text)?;
        let others = tagged(2, 3, 2 * BLOCK as u64, BLOCK as u64);
        let (f, new) = (file.clone(), others.clone());
        reads_its_own(&store, &sim, (&file, 2), others, move || {
            f.write_at(&[9; BLOCK], 2 * BLOCK as u64).map_err(text)?;
            f.sync().map_err(text)?;
            copy.write_at(&new, 2 * BLOCK as u64).map_err(text)?;
            copy.sync().map_err(text)
        })?;
    }
    Ok(())
}

/// Law B5: a block that was moved inside its file is not overwritten in place while a
/// read that found it at its old place is in flight.
pub fn b5_a_read_in_flight_shows_no_moved_bytes() -> Verdict {
    for seed in 0..4 {
        let (sim, store) = store(seed)?;
        let file = filled(&store, b"read", 8, 1)?;
        let to = if seed % 2 == 0 { 4 } else { 6 };
        let others = tagged(1, 3, to * BLOCK as u64, BLOCK as u64);
        let (f, new) = (file.clone(), others.clone());
        reads_its_own(&store, &sim, (&file, 5), others, move || {
            let at = 3 * BLOCK as u64;
            let moved = if to < 5 { f.collapse(at, BLOCK as u64) } else { f.insert(at, 4096) };
            moved.map_err(text)?;
            f.write_at(&new, to * BLOCK as u64).map_err(text)
        })?;
    }
    Ok(())
}

/// Law B6: what reads a block in order to write it back waits for plain writes
/// in flight, so that both writes survive.
pub fn b6_two_writes_of_one_block_survive() -> Verdict {
    for seed in 0..4 {
        let (sim, store) = store(seed)?;
        let file = filled(&store, b"both", 4, 1)?;
        let mut queue = store.queue(4).map_err(text)?;
        let new = tagged(1, 2, BLOCK as u64, BLOCK as u64);
        hold(&sim, OpKind::Write, 0..u64::MAX);
        submit(&mut queue, &file, BLOCK, &new)?;
        let f = file.clone();
        let other = elsewhere(move || f.write_at(&[0xbb; 10], BLOCK as u64 + 100).map_err(text));
        let early = other.early();
        // The plain write lands first; what was read before it must not come back.
        sim.release();
        hold(&sim, OpKind::Write, PLAIN..u64::MAX);
        finish(&mut queue)?;
        sim.release();
        match early {
            Some(done) => done?,
            None => other.join("a write of ten bytes")?,
        }
        let got = content(&file)?[BLOCK..2 * BLOCK].to_vec();
        let kept = (0..BLOCK).filter(|i| !(100..110).contains(i)).all(|i| got[i] == new[i]);
        demand(kept, || "a write to one part of a block took the rest back".into())?;
    }
    Ok(())
}

/// References, part D, 2: a reflink that was reported does not change any more.
pub fn d2_a_reported_reflink_does_not_change() -> Verdict {
    for seed in 0..4 {
        let (sim, store) = store(seed)?;
        let file = filled(&store, b"source", 4, 1)?;
        let mut queue = store.queue(4).map_err(text)?;
        let new = tagged(1, 2, BLOCK as u64, BLOCK as u64);
        hold(&sim, OpKind::Write, 0..PLAIN);
        submit(&mut queue, &file, BLOCK, &new)?;
        let f = file.clone();
        let other = elsewhere(move || {
            let copy = f.reflink(b"copy").map_err(text)?;
            let first = content(&copy)?;
            Ok((copy, first))
        });
        let early = other.early();
        sim.release();
        finish(&mut queue)?;
        let (copy, first) = match early {
            Some(done) => done?,
            None => other.join("a reflink")?,
        };
        store.sync().map_err(text)?;
        demand(content(&copy)? == first, || "a reflink changed after it was reported".into())?;
    }
    Ok(())
}

/// Law M2: nobody depends on a thread that does not poll, whatever it has in
/// flight: plain writes, writes that need records, syncs.
pub fn m2_a_thread_that_never_polls() -> Verdict {
    for seed in 0..4 {
        let (sim, store) = store(seed)?;
        let lazy = filled(&store, b"lazy", 8, 1)?;
        filled(&store, b"other", 8, 2)?;
        let mut queue = store.queue(8).map_err(text)?;
        submit(&mut queue, &lazy, 0, &tagged(1, 3, 0, BLOCK as u64))?;
        submit(&mut queue, &lazy, 100, &tagged(1, 4, 100, BLOCK as u64))?;
        submit(&mut queue, &lazy, 20 * BLOCK, &tagged(1, 5, 20 * BLOCK as u64, 8192))?;
        queue.sync(&lazy, 9).map_err(|_| "a sync was refused")?;
        // What is held is not what the others need.
        hold(&sim, OpKind::Write, 0..PLAIN);
        submit(&mut queue, &lazy, 2 * BLOCK, &tagged(1, 6, 2 * BLOCK as u64, BLOCK as u64))?;
        let s = store.clone();
        let free = elsewhere(move || {
            let other = s.reflink(b"other", b"copy").map_err(text)?;
            other.write_at(b"new", 5).map_err(text)?;
            s.sync().map_err(text)?;
            s.remove(b"other").map_err(text)?;
            s.sync().map_err(text)
        });
        free.join("a reflink, a sync, or a removal of another file")?;
        let f = lazy.clone();
        let bound = elsewhere(move || {
            let copy = f.reflink(b"lazy copy").map_err(text)?;
            copy.sync().map_err(text)?;
            content(&copy)
        });
        let early = bound.early();
        sim.release();
        let copied = match early {
            Some(done) => done?,
            None => bound.join("a reflink of a file with writes in flight")?,
        };
        demand(copied == content(&lazy)?, || "a reflink left a write out".into())?;
        let mut done = Vec::new();
        while done.len() < 5 {
            queue.poll(&mut done);
            queue.wait(None).map_err(text)?;
        }
        demand(done.iter().all(|c| c.result.is_ok()), || format!("{done:?}"))?;
    }
    Ok(())
}
