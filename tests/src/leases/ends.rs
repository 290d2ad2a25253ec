//! The end of a file under a lease: growth over the last block, and what a lease that was
//! looked up before it knows of it.

use super::world::{World, demand, ended, held, refused, sound, text};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{Error, ErrorKind, FileHandle, LeaseSpec, SealSpec, Volume};
use std::sync::Arc;
use std::time::Duration;

type Grow = fn(&Arc<Volume>, &FileHandle) -> Result<(), Error>;

/// What makes a file longer, and zeroes what lies behind its old end.
const GROWS: [(&str, Grow); 4] = [
    ("truncate", |vol, f| vol.truncate(f, 8192)),
    ("a write past the end", |vol, f| vol.write_at(f, &[3; 10], 8192)),
    ("allocate", |vol, f| vol.allocate(f, 4096, 8192)),
    ("an atomic write", |vol, f| vol.write_atomic(f, &[(8192, &[3; 10])])),
];

/// B12: a last block that is shared moves when it is zeroed behind the end: a Read lease on
/// it ends, and a seal of the layout forbids it.
pub fn b12_growth_over_a_shared_last_block_moves_it() -> Verdict {
    let w = World::memory()?;
    for (i, (what, grow)) in GROWS.into_iter().enumerate() {
        let (name, copy) = ([b's', b'0' + i as u8], [b'c', b'0' + i as u8]);
        let source = w.vol.create(&name).map_err(text)?;
        w.vol.write_at(&source, &[5; 100], 0).map_err(text)?;
        let copy = w.vol.reflink_file(&source, &copy).map_err(text)?.for_session(w.comer.id());
        let spec = LeaseSpec { access: Access::Read, max_hold: Duration::ZERO };
        let theirs = copy.clone().for_session(w.holder.id());
        let seal =
            SealSpec { kinds: Kinds::LAYOUT, breakable: false, timeout: Duration::from_secs(1) };
        let seal = w.vol.seal(&theirs, &w.holder, (0, 4096), seal).map_err(text)?;
        refused(what, ErrorKind::Sealed, grow(&w.vol, &copy))?;
        drop(seal);
        let lease = w.vol.lease(&theirs, &w.holder, (0, 100), spec).map_err(text)?;
        grow(&w.vol, &copy).map_err(text)?;
        ended(&lease).map_err(|e| format!("{what}: {e}"))?;
        // It is the file's own now, and stays where it is.
        w.vol.truncate(&copy, 100).map_err(text)?;
        w.vol.sync().map_err(text)?;
        let lease = w.vol.lease(&theirs, &w.holder, (0, 100), spec).map_err(text)?;
        grow(&w.vol, &copy).map_err(text)?;
        held(&lease).map_err(|e| format!("{what}, unshared: {e}"))?;
        let stands = w.vol.iomap(&copy, 0, 100).map_err(text)?[0].address;
        demand(lease.pieces()[0].address == stands, || format!("{what} moved the block"))?;
    }
    sound(&w.vol)
}
