//! Taking ranges of a file (law B6): waiting for one's turn and for plain writes in flight.

use super::Volume;
use super::core::Core;
use super::file::FileState;
use crate::lane::Io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A range of a file, taken until this is dropped.
pub(super) struct HeldBy<V, F>
where
    V: Deref<Target = Volume>,
    F: Deref<Target = FileState>,
{
    vol: V,
    file: F,
    id: u64,
}

/// By a task.
pub(super) type Held = HeldBy<Arc<Volume>, Arc<FileState>>;

/// By a call that does not wait while it has it.
pub(super) type HeldNow<'a> = HeldBy<&'a Volume, &'a FileState>;

impl<V, F> Drop for HeldBy<V, F>
where
    V: Deref<Target = Volume>,
    F: Deref<Target = FileState>,
{
    fn drop(&mut self) {
        if self.file.locks.leave(self.id) {
            self.vol.announce();
        }
    }
}

impl Volume {
    /// Waits until this task has file blocks `start..end` to itself, and no plain
    /// write to them is in flight.
    pub(super) async fn hold(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        start: u64,
        end: u64,
    ) -> Held {
        self.hold_all(io, file, &[(start, end)]).await
    }

    /// As [`Volume::hold`], of several ranges, one or more, as one.
    pub(super) async fn hold_all(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        ranges: &[(u64, u64)],
    ) -> Held {
        let held = Held { vol: self.clone(), file: file.clone(), id: file.locks.enter(ranges) };
        if file.locks.granted(held.id) && self.writes_nothing() {
            return held;
        }
        let lanes = self.all_lanes();
        let drain = !crate::sabotage::breaks("no-drain");
        let writes = |r: &(u64, u64)| lanes.iter().any(|l| l.slots.writes(file.id, r.0, r.1));
        io.until(|| file.locks.granted(held.id) && !(drain && ranges.iter().any(writes))).await;
        held
    }

    /// As [`Volume::hold`], only if there is nothing to wait for.
    pub(super) fn hold_now<'a>(
        &'a self,
        file: &'a FileState,
        start: u64,
        end: u64,
    ) -> Option<HeldNow<'a>> {
        let id = file.locks.enter_now(start, end)?;
        let held = HeldNow { vol: self, file, id };
        let lanes = self.lanes.lock().expect("no holder panics");
        let in_flight = lanes.iter().any(|l| l.slots.writes(file.id, start, end));
        drop(lanes);
        (!in_flight).then_some(held)
    }

    /// Is no plain write in flight on any lane? After a request for a range.
    fn writes_nothing(&self) -> bool {
        let lanes = self.lanes.lock().expect("no holder panics");
        lanes.iter().all(|l| l.slots.has_no_writes()) && self.maint.slots.has_no_writes()
    }

    /// From here on nobody reads through a map from before this call.
    pub(super) async fn readers_gone(self: &Arc<Self>, io: &Io) {
        if crate::sabotage::breaks("ignore-readers") {
            return;
        }
        let epoch = self.next_epoch();
        io.until(|| self.is_quiet(epoch)).await;
    }

    /// Is no reader in flight that looked something up before this call?
    pub(super) fn nobody_reads(&self) -> bool {
        let epoch = self.next_epoch();
        self.is_quiet(epoch)
    }

    /// Law B2: what durable records lowered binds nobody any more, once no look-up from
    /// before is in flight. Waits for none: the next call finds it.
    pub(super) fn settle(&self, core: &mut Core) {
        let durable = self.durable();
        let careless = crate::sabotage::breaks("ignore-readers");
        if careless || core.lowerings.none_after(core.settled) {
            core.settled = core.settled.max(durable);
            return;
        }
        let before = core.settling.take();
        let (seq, epoch) = before.unwrap_or_else(|| (durable, self.next_epoch()));
        if !self.is_quiet(epoch) {
            core.settling = Some((seq, epoch));
            return;
        }
        core.settled = core.settled.max(seq);
        if seq < durable {
            self.settle(core);
        }
    }

    /// Look-ups that begin now are seen to be newer than those that are in flight.
    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn is_quiet(&self, epoch: u64) -> bool {
        self.all_lanes().iter().all(|l| l.slots.quiet(epoch))
    }
}
