//! The operations of a queue: what was taken, how many commands each has in flight, and
//! how it will end.

use super::piece::Work;
use crate::medium::{Completion, Error, Result};
use crate::memory::Buffer;
use std::mem::ManuallyDrop;

/// What every operation has; small, for most have nothing else.
#[derive(Debug)]
struct Taken {
    tag: u64,
    buf: Option<Buffer>,
    /// Commands in flight.
    commands: u32,
    /// It has a [`Rest`].
    long: bool,
}

/// What an operation has that is not one simple command, or that failed.
#[derive(Debug, Default)]
struct Rest {
    /// Commands are still to be cut off.
    work: Option<Work>,
    error: Option<Error>,
    /// The device's copy of a buffer that it cannot reach, and whether it is to be copied
    /// back.
    bounce: Option<(Buffer, bool)>,
}

/// The operations of one queue.
#[derive(Debug)]
pub(super) struct Ops {
    taken: Box<[Taken]>,
    rests: Box<[Rest]>,
    free: Vec<u16>,
}

impl Ops {
    pub(super) fn new(depth: u32) -> Self {
        let empty = |_| Taken { tag: 0, buf: None, commands: 0, long: false };
        Self {
            taken: (0..depth).map(empty).collect(),
            rests: (0..depth).map(|_| Rest::default()).collect(),
            free: (0..depth as u16).rev().collect(),
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.taken.len()
    }

    /// Operations that have not ended.
    #[inline]
    pub(super) fn open(&self) -> usize {
        self.taken.len() - self.free.len()
    }

    /// The place of the next operation: what [`Ops::fill`] takes.
    #[inline]
    pub(super) fn vacant(&self) -> Option<u16> {
        self.free.last().copied().filter(|&op| usize::from(op) < self.taken.len())
    }

    /// Takes an operation that is one command, at [`Ops::vacant`].
    #[inline]
    pub(super) fn fill(&mut self, op: u16, tag: u64, buf: Buffer) {
        // Neither the new buffer nor what was there, which is none, is ever dropped here: it
        // goes from the caller's memory to its place without another stop.
        let buf = ManuallyDrop::new(buf);
        let taken = &mut self.taken[usize::from(op)];
        self.free.pop();
        debug_assert!(taken.buf.is_none(), "an operation that ended gave its buffer back");
        std::mem::forget(taken.buf.replace(ManuallyDrop::into_inner(buf)));
        (taken.tag, taken.commands, taken.long) = (tag, 1, false);
    }

    /// Takes an operation of which no command was made yet.
    pub(super) fn take_long(
        &mut self,
        tag: u64,
        (buf, bounce): (Option<Buffer>, Option<(Buffer, bool)>),
        work: Work,
    ) -> u16 {
        let op = self.free.pop().expect("the queue looked for room");
        self.taken[usize::from(op)] = Taken { tag, buf, commands: 0, long: true };
        self.rests[usize::from(op)] = Rest { work: Some(work), error: None, bounce };
        op
    }

    /// What of an operation has no commands yet, or none is left.
    pub(super) fn work(&mut self, op: u16) -> Option<&mut Work> {
        let rest = &mut self.rests[usize::from(op)];
        match &rest.work {
            Some(work) if self.taken[usize::from(op)].long && work.cut < work.total => {
                rest.work.as_mut()
            }
            _ => None,
        }
    }

    /// One more of its commands is in flight.
    pub(super) fn began(&mut self, op: u16) {
        self.taken[usize::from(op)].commands += 1;
    }

    /// One of its commands has ended well. True when the operation has ended with it.
    #[inline]
    pub(super) fn ended(&mut self, op: u16) -> bool {
        let taken = &mut self.taken[usize::from(op)];
        taken.commands -= 1;
        taken.commands == 0 && (!taken.long || self.is_over(op))
    }

    #[cold]
    fn is_over(&mut self, op: u16) -> bool {
        self.work(op).is_none()
    }

    /// It ends with an error, unless it had one already; no further command is made.
    #[cold]
    pub(super) fn fail(&mut self, op: u16, error: impl FnOnce() -> Error) {
        let taken = &mut self.taken[usize::from(op)];
        let rest = &mut self.rests[usize::from(op)];
        if !taken.long {
            (taken.long, *rest) = (true, Rest::default());
        }
        rest.work = None;
        rest.error.get_or_insert_with(error);
    }

    /// Ends an operation that has no command in flight.
    pub(super) fn finish(&mut self, op: u16) -> Completion {
        let taken = &mut self.taken[usize::from(op)];
        let (tag, mut buf) = (taken.tag, taken.buf.take());
        self.free.push(op);
        let result = if taken.long { self.end_long(op, &mut buf) } else { Ok(()) };
        Completion { tag, result, buf }
    }

    /// As [`Ops::finish`]. A simple operation's end goes straight to where it is asked for.
    #[inline]
    pub(super) fn finish_into(&mut self, op: u16, done: &mut Vec<Completion>) {
        if done.len() == done.capacity() {
            done.reserve(1);
        }
        match self.taken.get_mut(usize::from(op)) {
            Some(taken) if !taken.long => {
                self.free.push(op);
                if let Some(place) = done.spare_capacity_mut().first_mut() {
                    place.write(Completion {
                        tag: taken.tag,
                        result: Ok(()),
                        buf: taken.buf.take(),
                    });
                    // SAFETY: the place behind the last one was just written.
                    unsafe { done.set_len(done.len() + 1) };
                }
            }
            _ => done.push(self.finish(op)),
        }
    }

    #[cold]
    fn end_long(&mut self, op: u16, buf: &mut Option<Buffer>) -> Result<()> {
        let rest = std::mem::take(&mut self.rests[usize::from(op)]);
        if let (Some((bounce, true)), Some(buf)) = (&rest.bounce, buf) {
            buf.copy_from_slice(bounce);
        }
        rest.error.map_or(Ok(()), Err)
    }

    /// Ends an operation whose commands a lost device may still carry out: the memory that
    /// it was given is withheld (law M4). Memory that it never had comes back.
    pub(super) fn abandon(&mut self, op: u16, error: Error) -> Completion {
        let taken = &mut self.taken[usize::from(op)];
        let (tag, mut buf) = (taken.tag, taken.buf.take());
        taken.commands = 0;
        let long = std::mem::take(&mut taken.long);
        self.free.push(op);
        let rest = std::mem::take(&mut self.rests[usize::from(op)]);
        match rest.bounce {
            Some((bounce, _)) if long => bounce.withhold(),
            _ => {
                if let Some(buf) = buf.take() {
                    buf.withhold();
                }
            }
        }
        Completion { tag, result: Err(error), buf }
    }

    /// Commands of an operation in flight.
    pub(super) fn commands(&self, op: u16) -> u32 {
        self.taken[usize::from(op)].commands
    }

    /// No command of it is in flight any more, though none was reported.
    pub(super) fn forget_commands(&mut self, op: u16) {
        self.taken[usize::from(op)].commands = 0;
    }
}
