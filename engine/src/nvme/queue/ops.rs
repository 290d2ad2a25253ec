//! The operations of a queue that are not one command: what was taken, how many commands each
//! has in flight, and how it will end. The others are in `slab`.

use super::piece::Work;
use crate::medium::{Completion, Error};
use crate::memory::Buffer;

/// One operation.
#[derive(Debug, Default)]
struct Long {
    tag: u64,
    buf: Option<Buffer>,
    /// Commands in flight.
    commands: u32,
    /// Commands are still to be cut off.
    work: Option<Work>,
    error: Option<Error>,
    /// The device's copy of a buffer that it cannot reach, and whether it is to be copied
    /// back.
    bounce: Option<(Buffer, bool)>,
}

/// The long operations of one queue.
#[derive(Debug)]
pub(super) struct Ops {
    long: Box<[Long]>,
    free: Vec<u16>,
}

impl Ops {
    pub(super) fn new(depth: u32) -> Self {
        Self {
            long: (0..depth).map(|_| Long::default()).collect(),
            free: (0..depth as u16).rev().collect(),
        }
    }

    /// Operations that have not ended.
    #[inline]
    pub(super) fn open(&self) -> usize {
        self.long.len() - self.free.len()
    }

    /// Takes an operation of which no command was made yet.
    pub(super) fn take(
        &mut self,
        tag: u64,
        (buf, bounce): (Option<Buffer>, Option<(Buffer, bool)>),
        work: Work,
    ) -> u16 {
        let op = self.free.pop().expect("the queue looked for room");
        let (work, error) = (Some(work), None);
        self.long[usize::from(op)] = Long { tag, buf, commands: 0, work, error, bounce };
        op
    }

    /// What of an operation has no commands yet, or none is left.
    pub(super) fn work(&mut self, op: u16) -> Option<&mut Work> {
        let work = self.long[usize::from(op)].work.as_mut();
        work.filter(|work| work.cut < work.total)
    }

    /// One more of its commands is in flight.
    pub(super) fn began(&mut self, op: u16) {
        self.long[usize::from(op)].commands += 1;
    }

    /// One of its commands has ended. True when the operation has ended with it.
    pub(super) fn ended(&mut self, op: u16) -> bool {
        let long = &mut self.long[usize::from(op)];
        long.commands -= 1;
        long.commands == 0 && self.work(op).is_none()
    }

    /// It ends with an error, unless it had one already; no further command is made.
    #[cold]
    pub(super) fn fail(&mut self, op: u16, error: impl FnOnce() -> Error) {
        let long = &mut self.long[usize::from(op)];
        long.work = None;
        long.error.get_or_insert_with(error);
    }

    /// Ends an operation that has no command in flight.
    pub(super) fn finish(&mut self, op: u16) -> Completion {
        self.free.push(op);
        let Long { tag, mut buf, error, bounce, .. } =
            std::mem::take(&mut self.long[usize::from(op)]);
        if let (Some((bounce, true)), Some(buf)) = (&bounce, &mut buf) {
            buf.copy_from_slice(bounce);
        }
        Completion { tag, result: error.map_or(Ok(()), Err), buf }
    }

    /// Ends an operation whose commands a lost device may still carry out: the memory that
    /// it was given is withheld (law M4). Memory that it never had comes back.
    pub(super) fn abandon(&mut self, op: u16, error: Error) -> Completion {
        self.free.push(op);
        let Long { tag, mut buf, bounce, .. } = std::mem::take(&mut self.long[usize::from(op)]);
        let given = bounce.map_or_else(|| buf.take(), |(bounce, _)| Some(bounce));
        if let Some(given) = given {
            given.withhold();
        }
        Completion { tag, result: Err(error), buf }
    }

    /// Commands of an operation in flight.
    pub(super) fn commands(&self, op: u16) -> u32 {
        self.long[usize::from(op)].commands
    }

    /// No command of it is in flight any more, though none was reported.
    pub(super) fn forget_commands(&mut self, op: u16) {
        self.long[usize::from(op)].commands = 0;
    }
}
