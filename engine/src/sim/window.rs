//! The window of a simulated medium: stores that a crash may take word by word.

use super::cache::Origin;
use super::options::OpKind;
use super::state::State;
use super::{SimMedium, lock};
use crate::medium::{BLOCK, Error, ErrorKind, Result, Window};

impl Window for SimMedium {
    fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let state = lock(&self.inner);
        check(&state, offset, to.len() as u64)?;
        let mut rest = to;
        for (block, start, end) in parts(offset, rest.len() as u64) {
            let (here, more) = rest.split_at_mut(end - start);
            here.copy_from_slice(&state.cache.visible.get(block)[start..end]);
            rest = more;
        }
        Ok(())
    }

    fn store(&self, offset: u64, from: &[u8]) -> Result<()> {
        let mut state = lock(&self.inner);
        check(&state, offset, from.len() as u64)?;
        state.stats.stores += 1;
        state.stats.store_bytes += from.len() as u64;
        let change = state.change(Origin::Store(std::thread::current().id()), from.len(), false);
        let mut rest = from;
        for (block, start, end) in parts(offset, from.len() as u64) {
            let (here, more) = rest.split_at(end - start);
            state.cache.store(block, start, here, change);
            rest = more;
        }
        state.step();
        Ok(())
    }

    fn persist(&self, offset: u64, len: u64) -> Result<()> {
        let mut state = lock(&self.inner);
        check(&state, offset, len)?;
        state.stats.persists += 1;
        // The crash comes before it has done anything.
        state.step();
        if state.dead {
            return Err(State::gone());
        }
        if let Some(kind) = state.fault(OpKind::Persist) {
            return Err(Error::new(kind, "injected: a persist failed"));
        }
        if !state.liar {
            let thread = std::thread::current().id();
            for (block, start, end) in parts(offset, len) {
                state.cache.persist(block, start, end, thread);
            }
        }
        Ok(())
    }
}

fn check(state: &State, offset: u64, len: u64) -> Result<()> {
    if state.dead {
        return Err(State::gone());
    }
    let size = state.options.blocks * BLOCK as u64;
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Invalid,
            format!("bytes {offset}..+{len} lie outside the {size} of the medium"),
        )),
    }
}

/// Cuts a range into blocks: number, first byte, end.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let block = at / BLOCK as u64;
        let start = (at % BLOCK as u64) as usize;
        let stop = ((end - block * BLOCK as u64) as usize).min(BLOCK);
        at = (block + 1) * BLOCK as u64;
        Some((block, start, stop))
    })
}
