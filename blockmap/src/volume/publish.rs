//! Publishing: the records that make written data reachable, pushed when all of it
//! has completed (law B4).
//!
//! Writes that complete together publish together: a transaction over the records
//! of many tasks copies each node on their ways once, not once for each. They stay
//! changes of their own, in the order of their numbers: a crash keeps those up to some
//! one, never a later without an earlier one (law B11). If one cannot be done at
//! once (a node is not in memory, the space is short), none is, and each task goes
//! on alone.

use super::Volume;
use super::core::Class;
use super::write::{How, Part, Plan};
use crate::error::Result;
use crate::format::types::Record;
use crate::journal::RECORD_ROOM;
use crate::lane::{Io, Wish};
use std::sync::Arc;

/// Records, extents and blocks of a write that is published together with others,
/// at the most.
const SMALL: (usize, usize, u64) = (4, 8, 64);

/// Bytes that the records of such a write take at the most.
const SMALL_BYTES: usize = 512;

/// Writes that are published together at the most.
const TOGETHER: usize = RECORD_ROOM / SMALL_BYTES;

impl Volume {
    /// Pushes the records of a write whose data has landed; its range is held. With
    /// an error, the blocks that no record claims are given back.
    pub(super) async fn publish(
        self: &Arc<Self>,
        io: &Io,
        plan: &Plan,
        units: Vec<Vec<Record>>,
    ) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        if !is_small(&units) {
            return self.publish_alone(io, plan, &units).await;
        }
        let wish = io.wish(units);
        io.pause().await;
        let all = wish.lead();
        if !all.is_empty() {
            let _seen = io.seen(&self.epoch);
            all.chunks(TOGETHER).for_each(|some| self.publish_together(some));
        }
        if wish.granted() {
            return Ok(());
        }
        self.publish_alone(io, plan, wish.units()).await
    }

    /// Does all of them, or none.
    fn publish_together(&self, wishes: &[Arc<Wish>]) {
        if self.health.writable().is_err() {
            return;
        }
        let units: Vec<&[Record]> =
            wishes.iter().flat_map(|w| &w.units).map(Vec::as_slice).collect();
        let (done, dues) = {
            let mut core = self.core();
            (core.execute_each(Class::Normal, &units), core.dues(self.blocks))
        };
        if done.is_ok() {
            wishes.iter().for_each(|w| w.grant());
            self.after_change(dues);
        }
    }

    /// Unit by unit. Each is remembered, so that a fault in one does not do those
    /// before it again.
    async fn publish_alone(
        self: &Arc<Self>,
        io: &Io,
        plan: &Plan,
        units: &[Vec<Record>],
    ) -> Result<()> {
        let mut done = 0;
        let result = self
            .change(io, |core| {
                while let Some(unit) = units.get(done) {
                    core.execute_all(Class::Normal, unit)?;
                    done += 1;
                }
                Ok(())
            })
            .await;
        if result.is_err() {
            let rest = &units[done..];
            let unpublished = |p: &&Part| {
                rest.iter().flatten().any(|r| {
                    matches!(r, Record::Map { start, len, .. }
                    if (*start..start + len).contains(&p.block))
                })
            };
            let parts: Vec<Part> = plan.parts.iter().filter(unpublished).copied().collect();
            self.give_back(&parts);
        }
        result
    }

    /// New blocks that no record claimed.
    pub(super) fn give_back(&self, parts: &[Part]) {
        let mut core = self.core();
        for p in parts.iter().filter(|p| p.how == How::New) {
            core.space.reclaim(p.phys, p.len);
        }
    }
}

/// Do so few records, of so few blocks, belong to it that others may be done with it?
fn is_small(units: &[Vec<Record>]) -> bool {
    let mut sum = (0, 0, 0);
    for record in units.iter().flatten() {
        let (extents, blocks) = match record {
            Record::Map { len, extents, .. } => (extents.len(), *len),
            Record::Convert { len, .. } => (0, *len),
            Record::Grow { .. } => (0, 0),
            _ => return false,
        };
        sum = (sum.0 + 1, sum.1 + extents, sum.2 + blocks);
    }
    sum.0 <= SMALL.0 && sum.1 <= SMALL.1 && sum.2 <= SMALL.2
}

#[cfg(test)]
mod tests {
    use super::{SMALL, SMALL_BYTES, is_small};
    use crate::format::record::encode_record;
    use crate::format::types::{Extent, Record};

    /// What is published together fits into the room of one operation, whatever its
    /// numbers are.
    #[test]
    fn small_records_take_no_more_than_they_may() {
        let far = crate::format::BLOCK_LIMIT - SMALL.2;
        let record = |extents: u64| Record::Map {
            file: crate::format::FILE_LIMIT - 1,
            start: far,
            len: SMALL.2 / SMALL.0 as u64,
            size: u64::MAX,
            extents: (0..extents)
                .map(|i| {
                    (far + i, Extent { phys: far - 2 * i, len: 1, unwritten: false, own: true })
                })
                .collect(),
        };
        let units = vec![(0..SMALL.0).map(|_| record((SMALL.1 / SMALL.0) as u64)).collect()];
        assert!(is_small(&units));
        let mut bytes = Vec::new();
        for r in units.iter().flatten() {
            encode_record(&mut bytes, r).expect("they are numbers");
        }
        assert!(bytes.len() <= SMALL_BYTES, "{} bytes", bytes.len());
        assert!(!is_small(&[vec![record(SMALL.1 as u64 + 1)]]));
        assert!(!is_small(&[vec![record(0); SMALL.0 + 1]]));
    }
}
