//! Queues that were dropped: spare ones, and those with commands in flight, which other
//! queues look after (law M2).

use super::Claim;
use super::controller::Controller;
use super::namespace::Namespace;
use super::queue::Core;
use crate::medium::{Completion, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A dropped queue with commands in flight; its namespace counts as open.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) core: Box<Core>,
    pub(super) claim: Arc<Claim>,
}

/// What a controller keeps of dropped queues.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Just dropped: a short lock, so that dropping never waits for somebody who resets.
    arrived: Mutex<Vec<Orphan>>,
    busy: Mutex<Vec<Orphan>>,
    #[expect(clippy::vec_box, reason = "a queue pair is large and moves often")]
    spare: Mutex<Vec<Box<Core>>>,
}

impl Orphans {
    #[expect(clippy::vec_box, reason = "as above")]
    fn spare(&self) -> MutexGuard<'_, Vec<Box<Core>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a dropped queue. Short locks, no wait.
    pub(super) fn adopt(&self, orphan: Orphan, controller: &Controller) {
        if orphan.core.is_idle() {
            return self.retire(orphan.core, controller);
        }
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
        controller.count_orphan(true);
    }

    /// Keeps a queue with nothing in flight for whoever needs one next.
    fn retire(&self, core: Box<Core>, controller: &Controller) {
        if !core.has_ended() {
            self.spare().push(core);
        } else if controller.end().is_none() {
            // The controller would not make it again.
            controller.give_qid(core.qid());
        }
    }

    /// Reaps what dropped queues have in flight, unless somebody does so already.
    #[cold]
    pub(super) fn tend(&self, controller: &Controller) {
        let mut busy = match self.busy.try_lock() {
            Ok(busy) => busy,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        busy.append(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        let mut done: Vec<Completion> = Vec::new();
        let mut at = 0;
        while at < busy.len() {
            busy[at].core.tend(controller, &mut done);
            done.clear();
            if busy[at].core.is_idle() {
                let Orphan { core, claim } = busy.swap_remove(at);
                self.retire(core, controller);
                drop(claim);
                controller.count_orphan(false);
            } else {
                at += 1;
            }
        }
    }

    /// A queue of a depth: a spare one, or a new one.
    ///
    /// # Errors
    /// As [`Core::new`].
    pub(super) fn queue(
        &self,
        controller: &Controller,
        space: &Arc<Namespace>,
        read_only: bool,
        depth: u32,
    ) -> Result<Box<Core>> {
        self.tend(controller);
        let fitting = {
            let mut spare = self.spare();
            let found = spare.iter().position(|core| core.depth() == depth as usize);
            found.map(|at| spare.swap_remove(at))
        };
        if let Some(mut core) = fitting {
            core.serve(space, read_only);
            return Ok(core);
        }
        match Core::new(controller, space, read_only, depth) {
            Ok(core) => Ok(Box::new(core)),
            // A spare one of another depth may make room.
            Err(error) => {
                let Some(core) = self.spare().pop() else { return Err(error) };
                if let Err(error) = controller.delete_queues(core.qid(), core.generation()) {
                    // It may still have them.
                    self.spare().push(core);
                    return Err(error);
                }
                controller.give_qid(core.qid());
                drop(core);
                Core::new(controller, space, read_only, depth).map(Box::new)
            }
        }
    }
}
