//! Workloads of leases: pins, revocations, and I/O through a lease.

use super::called::{calls, on_threads};
use super::measure::Measured;
use super::polled::{Refusal, Work};
use super::{Args, Target, Workload};
use crate::failure::Outcome;
use crate::pattern::Rng;
use freehold::{
    Access, Completion, File, Lease, LeaseBuffer, LeaseOptions, LeaseState, Memory, Queue, Session,
    Stats,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Pins a buffer and unpins it.
pub(super) fn pin(args: &Args, target: &Target, time: Duration) -> Outcome<(Measured, Stats)> {
    let file = written(target, "pinned", args.bs)?;
    let lease = file.lease(.., Access::Stable, &LeaseOptions::default())?;
    let buffer = lease.buffer(Memory::Auto)?;
    let before = target.store().stats();
    let all = on_threads(args.threads, |_| {
        calls(time, || {
            let pin = black_box(&buffer).pin()?;
            black_box(pin.len());
            Ok(())
        })
    })?;
    Ok((all, before))
}

/// A file of so many written bytes.
fn written(target: &Target, what: &str, bytes: u64) -> Outcome<File> {
    let file = target.create(what)?;
    file.write_at(&vec![1; bytes as usize], 0)?;
    file.sync()?;
    Ok(file)
}

/// Who has a file's lease, and who takes it.
struct Pair {
    holder: Session,
    held: File,
    taker: Session,
    taken: File,
}

impl Pair {
    fn new(args: &Args, target: &Target, number: u32) -> Outcome<Pair> {
        let what = format!("leased-{number}");
        let name = target.name(&what);
        let (holder, taker) = (target.store().new_session()?, target.store().new_session()?);
        let held = holder.create(&name)?;
        held.write_at(&vec![1; args.bs as usize], 0)?;
        held.sync()?;
        let taken = taker.open_file(&name)?;
        Ok(Pair { holder, held, taker, taken })
    }

    /// How long it takes to take a lease that was used, and that nobody uses now.
    fn revoke(&self) -> Outcome<Duration> {
        let lease = self.held.lease(.., Access::Read, &LeaseOptions::default())?;
        let buffer = lease.buffer(Memory::Auto)?;
        drop(buffer.pin()?);
        let start = Instant::now();
        let other = self.taken.lease(.., Access::Exclusive, &LeaseOptions::default())?;
        let elapsed = start.elapsed();
        if lease.state() != LeaseState::Taken && lease.state() != LeaseState::Returned {
            return Err(crate::failure::Failure::new("the lease was not taken"));
        }
        drop((buffer, lease, other));
        // Nobody reads them otherwise, and they would pile up.
        drop((self.holder.events(), self.taker.events()));
        Ok(elapsed)
    }
}

/// Takes idle leases, one at a time.
pub(super) fn revoke(args: &Args, target: &Target, time: Duration) -> Outcome<(Measured, Stats)> {
    let pairs =
        (0..args.threads).map(|i| Pair::new(args, target, i)).collect::<Outcome<Vec<_>>>()?;
    pairs.iter().try_for_each(|pair| pair.revoke().map(drop))?;
    let before = target.store().stats();
    let all = on_threads(args.threads, |i| {
        let (pair, mut measured) = (&pairs[i as usize], Measured::new());
        let start = Instant::now();
        while start.elapsed() < time {
            let elapsed = pair.revoke()?;
            measured.record(elapsed, 1);
            measured.elapsed += elapsed;
        }
        Ok(measured)
    })?;
    Ok((all, before))
}

/// One thread's lease, over the whole of its own file.
pub(super) struct Through {
    lease: Lease,
    write: bool,
    rng: Rng,
    /// Operations that fit in the file.
    places: u64,
    bs: u64,
}

impl Through {
    pub(super) fn new(args: &Args, target: &Target, number: u32) -> Outcome<Through> {
        let write = args.workload == Workload::LeaseWrite;
        let seed = args.seed.wrapping_add(u64::from(number));
        let file = target.create_full(&format!("file-{number}"), seed)?;
        let access = if write { Access::Write } else { Access::Read };
        let lease = file.lease(.., access, &LeaseOptions::default())?;
        let (places, bs) = (target.file_size() / args.bs, args.bs);
        Ok(Through { lease, write, rng: Rng::new(seed), places, bs })
    }
}

impl Work for Through {
    type Buffer = LeaseBuffer;

    fn buffer(&mut self, _: &Queue) -> Outcome<LeaseBuffer> {
        let mut buffer = self.lease.buffer_at(0..self.bs)?;
        if self.write {
            self.rng.fill(buffer.pin_mut()?.slice_mut(0, self.bs)?);
            // It goes to places of its own choice.
            buffer.discard();
        }
        Ok(buffer)
    }

    fn submit(
        &mut self,
        queue: &mut Queue,
        mut buf: LeaseBuffer,
        tag: u64,
    ) -> Result<(), Refusal<LeaseBuffer>> {
        if let Err(error) = buf.move_to(self.rng.below(self.places) * self.bs) {
            return Err((Some(buf), Some(error)));
        }
        let taken = if self.write { queue.flush(buf, tag) } else { queue.fill(buf, tag) };
        taken.map_err(|refused| (Some(refused.buffer), refused.error))
    }

    fn back(mut completion: Completion) -> Option<LeaseBuffer> {
        completion.take_lease()
    }
}
