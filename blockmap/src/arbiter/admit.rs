//! The question: may this change go on?
//!
//! Nothing is changed by asking, but that an operation with a ticket that must wait is
//! listed. The time is that of a look-up for each lane of what is held (at most one for
//! each access and each sort of seal that is there), plus what is in the way. Lanes that
//! hold nothing of interest cost nothing.

use super::claims::parts;
use super::file::{FileArbiter, column};
use super::held;
use super::intervals::Node;
use super::kinds::{Answer, Change, Held, Ids, Refusal, Request, Span};
use super::table::{Cell, verdict};

/// What is in the way.
#[derive(Debug, Default)]
struct Way {
    refused: Option<Refusal>,
    recall: Ids,
    take: Ids,
    own: Ids,
}

impl Way {
    /// Notes one; true if nothing else matters any more.
    fn meet(&mut self, cell: Cell, node: &Node) -> bool {
        match cell {
            Cell::Sealed => self.refused = Some(Refusal::Sealed(node.holder())),
            Cell::Busy => self.refused = Some(Refusal::Busy(node.holder())),
            Cell::Recall | Cell::Drain | Cell::RecallElseBusy => self.recall.push(node.id),
            Cell::Take => self.take.push(node.id),
            Cell::Refresh => self.own.push(node.id),
            Cell::On | Cell::Round => {}
        }
        self.refused.is_some()
    }

    fn answer(self) -> Option<Answer> {
        let once = |mut ids: Ids| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let lists = [
            (self.recall, Answer::Recall as fn(Ids) -> Answer),
            (self.take, Answer::Take),
            (self.own, Answer::Own),
        ];
        let first = lists.into_iter().find(|(ids, _)| !ids.is_empty());
        first.map(|(ids, answer)| answer(once(ids)))
    }
}

impl FileArbiter {
    /// May this change go on at `now`, in nanoseconds? An operation with a ticket that is
    /// told to wait (`Recall`, `Behind`) is listed, and must `leave` when it ends, with
    /// whatever outcome. Nothing else is changed. An operation that may go on, and does its
    /// work after the lock was let go, calls `begin` before that, so that what was decided
    /// stands.
    ///
    /// A refusal comes before everything else, so that nothing is recalled in vain; then
    /// the queue; then the leases and seals of others; last those of the session itself.
    pub fn admit(&mut self, r: &Request, now: u64) -> Answer {
        self.admit_all(std::slice::from_ref(r), now)
    }

    /// The same for an operation that is several changes: the strictest of their answers,
    /// with all that is in the way of any of them. A `Relocate` is asked for by itself.
    pub fn admit_all(&mut self, changes: &[Request], now: u64) -> Answer {
        let answer = self.decide(changes);
        if matches!(answer, Answer::Recall(_) | Answer::Behind(_)) {
            for r in changes {
                let (makes, going) = (self.makes(r.change), self.claims.goes(r));
                self.claims.put(r, makes, now, going);
            }
        }
        answer
    }

    /// The leases of the session itself that would have to be taken or become stale, were
    /// nothing else in the way. Whoever looks first whether they are in use need not
    /// recall the leases of others in vain.
    pub fn own(&self, changes: &[Request]) -> Ids {
        let mut way = Way::default();
        changes.iter().for_each(|r| self.meet(r, &mut way));
        let Way { mut own, take, .. } = way;
        own.extend(take);
        own.sort_unstable();
        own.dedup();
        own
    }

    /// What would have to be recalled for this, whoever waits. For what must not queue.
    ///
    /// # Errors
    /// What cannot be recalled and forbids it.
    pub fn recalls(&self, r: &Request) -> Result<Ids, Refusal> {
        let mut way = Way::default();
        self.meet(r, &mut way);
        let Way { refused, mut recall, .. } = way;
        recall.sort_unstable();
        recall.dedup();
        refused.map_or(Ok(recall), Err)
    }

    fn decide(&self, changes: &[Request]) -> Answer {
        if let [r] = changes
            && r.change == Change::Relocate
        {
            return self.round(r);
        }
        let mut way = Way::default();
        for r in changes {
            if let Some(refusal) = self.barred(r) {
                return Answer::Refused(refusal);
            }
            self.meet(r, &mut way);
            if let Some(refusal) = way.refused {
                return Answer::Refused(refusal);
            }
        }
        let mut behind = changes.iter().filter_map(|r| self.claims.before(r, self.makes(r.change)));
        if let Some(ticket) = behind.next() {
            return Answer::Behind(ticket);
        }
        way.answer().unwrap_or(Answer::Go)
    }

    /// Adds what is in the way of a change.
    fn meet(&self, r: &Request, way: &mut Way) {
        for lane in self.held.lanes() {
            for (part, of_file) in parts(held::held(lane)).into_iter().flatten() {
                if !self.matters(r, lane, part) {
                    continue;
                }
                let spans = if of_file { &[Span::WHOLE] } else { r.spans };
                for span in spans {
                    self.held.find(lane, *span, |node| {
                        way.meet(self.cell(r.session, r.change, part, node), node)
                    });
                    if way.refused.is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// Something in a lane may be in the way. Most lanes hold nothing of the kind that the
    /// change asks for, or only the session's own, and need not be looked through.
    fn matters(&self, r: &Request, lane: u8, part: Held) -> bool {
        let [own, others] = [true, false].map(|own| verdict(r.change, part, own) != Cell::On);
        if own == others {
            return own;
        }
        let all = match part {
            Held::Lease(_) => self.held.count(lane),
            // Seals of all sorts are counted together: look.
            Held::Seal { .. } => return true,
        };
        let mine = self.sessions.of(r.session)[column(lane)];
        if own { mine > 0 } else { mine < all }
    }

    /// What a move must keep off, in order.
    fn round(&self, r: &Request) -> Answer {
        let mut round: Vec<Span> = Vec::new();
        for lane in self.held.lanes() {
            for (part, _) in parts(held::held(lane)).into_iter().flatten() {
                if verdict(r.change, part, false) != Cell::On {
                    for span in r.spans {
                        self.held.find(lane, *span, |node| {
                            round.push(node.span.common(*span));
                            false
                        });
                    }
                }
            }
        }
        for (claim, coming) in self.claims.coming() {
            if verdict(r.change, coming, false) != Cell::On {
                let each = |a: &Span| claim.spans.iter().map(|b| a.common(*b)).collect::<Vec<_>>();
                round.extend(r.spans.iter().flat_map(each).filter(|span| !span.is_empty()));
            }
        }
        round.sort_unstable();
        round.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        if round.is_empty() { Answer::Go } else { Answer::Round(round) }
    }
}
