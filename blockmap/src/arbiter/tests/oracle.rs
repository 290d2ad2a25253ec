//! The arbiter once more, as simply as can be: lists that are looked through.
//!
//! It shares with the real one the table (which is held against the document) and the
//! types, and nothing of how things are found, kept or timed.

use super::*;

#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) id: Id,
    pub(super) session: SessionId,
    pub(super) held: Held,
    pub(super) span: Span,
    pub(super) state: State,
    hold: u64,
    /// When it was recalled, and the grace.
    asked: (u64, u64),
    alone: bool,
    pub(super) parent: Option<Id>,
}

#[derive(Debug, Clone)]
struct Listed {
    ticket: u64,
    session: SessionId,
    change: Change,
    spans: Vec<Span>,
    makes: Option<Held>,
    going: bool,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) things: Vec<Thing>,
    pub(super) notes: Vec<(Id, SessionId, State)>,
    claims: Vec<Listed>,
}

fn of_file(held: Held) -> Held {
    match held {
        Held::Seal { kinds, breakable } => Held::Seal { kinds: kinds & Kinds::OF_FILE, breakable },
        lease => lease,
    }
}

/// What a change of spans does about a thing over others.
fn cell(change: Change, spans: &[Span], held: Held, over: &[Span], own: bool) -> Cell {
    let overlap = spans.iter().any(|a| over.iter().any(|b| a.overlaps(*b)));
    match (overlap, held) {
        (true, _) => verdict(change, held, own),
        (false, Held::Seal { .. }) => verdict(change, of_file(held), own),
        (false, Held::Lease(_)) => Cell::On,
    }
}

impl Oracle {
    pub(super) fn thing(&self, id: Id) -> Option<&Thing> {
        self.things.iter().find(|thing| thing.id == id)
    }

    fn thing_mut(&mut self, id: Id) -> Option<&mut Thing> {
        self.things.iter_mut().find(|thing| thing.id == id)
    }

    pub(super) fn state(&self, id: Id) -> Option<State> {
        let note = self.notes.iter().find(|note| note.0 == id).map(|note| note.2);
        self.thing(id).map(|thing| thing.state).or(note)
    }

    fn line(&self, id: Id) -> Vec<Id> {
        let mut line = vec![id];
        while let Some(parent) = self.thing(*line.last().unwrap()).and_then(|t| t.parent) {
            line.push(parent);
        }
        line
    }

    pub(super) fn makes(&self, change: Change) -> Option<Held> {
        match change {
            Change::Grant { access, .. } | Change::Delegate { access, .. } => {
                Some(Held::Lease(access))
            }
            Change::Seal { kinds, breakable } => {
                Some(Held::Seal { kinds: kinds.expanded(), breakable })
            }
            Change::Refresh { lease, .. } => self.thing(lease).map(|thing| thing.held),
            _ => None,
        }
    }

    fn meets(&self, r: &Request, thing: &Thing) -> Cell {
        let own = r.session == thing.session;
        let plain = |own| cell(r.change, r.spans, thing.held, &[thing.span], own);
        let is_lease = matches!(thing.held, Held::Lease(_));
        match r.change {
            Change::Refresh { lease, .. } if lease == thing.id => Cell::On,
            Change::Delegate { parent, .. } if is_lease => {
                let line = self.line(parent);
                if line.contains(&thing.id) {
                    return Cell::On;
                }
                let kin = line.last() == self.line(thing.id).last();
                match plain(own || kin) {
                    Cell::Take if !own => Cell::Recall,
                    cell => cell,
                }
            }
            Change::Delegate { parent, .. } => {
                plain(own || self.thing(parent).is_some_and(|p| p.session == thing.session))
            }
            _ => plain(own),
        }
    }

    fn barred(&self, r: &Request) -> bool {
        let (id, wants) = match r.change {
            Change::Delegate { parent, access } => (parent, Some(access)),
            Change::Refresh { lease, .. } => (lease, None),
            _ => return false,
        };
        let Some(thing) = self.thing(id) else { return true };
        let Held::Lease(has) = thing.held else { return true };
        let fits = match wants {
            None => thing.session == r.session,
            Some(Access::Read) => true,
            Some(wants) => has == wants || has == Access::Exclusive,
        };
        let inside = r.spans.iter().all(|span| {
            span.is_empty() || (thing.span.start <= span.start && span.end <= thing.span.end)
        });
        !fits || !inside || !matches!(thing.state, State::Held { .. } | State::Stale { .. })
    }

    fn behind(&self, r: &Request) -> Option<u64> {
        let makes = self.makes(r.change);
        let conflicts = |claim: &&Listed| {
            let own = claim.session == r.session;
            let waits = r.ticket == 0 || claim.ticket < r.ticket || claim.going;
            let mine = makes.map(|held| cell(claim.change, &claim.spans, held, r.spans, own));
            let its = claim.makes.map(|held| cell(r.change, r.spans, held, &claim.spans, own));
            let either = [mine, its].into_iter().flatten().max();
            claim.ticket != r.ticket && waits && either.is_some_and(|cell| cell != Cell::On)
        };
        self.claims.iter().filter(conflicts).map(|claim| claim.ticket).min()
    }

    pub(super) fn admit(&mut self, changes: &[Request]) -> Answer {
        let answer = self.decide(changes);
        if matches!(answer, Answer::Recall(_) | Answer::Behind(_)) {
            for r in changes {
                let same = |c: &Listed| c.ticket == r.ticket && c.change == r.change;
                self.list(r, self.claims.iter().any(|claim| same(claim) && claim.going));
            }
        }
        answer
    }

    fn decide(&self, changes: &[Request]) -> Answer {
        // Which of the refusals is not compared.
        let refused = Answer::Refused(Refusal::NoLease(0));
        if changes.iter().any(|r| self.barred(r)) {
            return refused;
        }
        let of = |cells: &[Cell]| {
            let meets = |t: &Thing| changes.iter().any(|r| cells.contains(&self.meets(r, t)));
            let met = self.things.iter().filter(|thing| meets(thing));
            let mut ids: Ids = met.map(|thing| thing.id).collect();
            ids.sort_unstable();
            ids
        };
        if !of(&[Cell::Sealed, Cell::Busy]).is_empty() {
            return refused;
        }
        if changes[0].change == Change::Relocate {
            return self.round(&changes[0]);
        }
        if let Some(ticket) = changes.iter().find_map(|r| self.behind(r)) {
            return Answer::Behind(ticket);
        }
        let recall = of(&[Cell::Recall, Cell::Drain, Cell::RecallElseBusy]);
        let (take, own) = (of(&[Cell::Take]), of(&[Cell::Refresh]));
        match (recall.is_empty(), take.is_empty(), own.is_empty()) {
            (false, ..) => Answer::Recall(recall),
            (_, false, _) => Answer::Take(take),
            (.., false) => Answer::Own(own),
            _ => Answer::Go,
        }
    }

    /// Block by block.
    fn round(&self, r: &Request) -> Answer {
        let keep_off = |block: u64| {
            let at = [Span { start: block, end: block + 1 }];
            let meets = |held, over: &[Span]| cell(r.change, &at, held, over, false) != Cell::On;
            self.things.iter().any(|thing| meets(thing.held, &[thing.span]))
                || self.claims.iter().any(|c| c.makes.is_some_and(|held| meets(held, &c.spans)))
        };
        let mut round: Vec<Span> = Vec::new();
        let asked = |block: &u64| r.spans.iter().any(|s| s.start <= *block && *block < s.end);
        for block in (0..super::model::BLOCKS).filter(asked).filter(|block| keep_off(*block)) {
            match round.last_mut() {
                Some(last) if last.end == block => last.end += 1,
                _ => round.push(Span { start: block, end: block + 1 }),
            }
        }
        if round.is_empty() { Answer::Go } else { Answer::Round(round) }
    }

    pub(super) fn list(&mut self, r: &Request, going: bool) {
        if r.ticket == 0 {
            return;
        }
        self.claims.retain(|claim| claim.ticket != r.ticket || claim.change != r.change);
        self.claims.push(Listed {
            ticket: r.ticket,
            session: r.session,
            change: r.change,
            spans: r.spans.to_vec(),
            makes: self.makes(r.change),
            going,
        });
    }

    pub(super) fn leave(&mut self, ticket: u64) {
        self.claims.retain(|claim| claim.ticket != ticket);
    }

    pub(super) fn add(
        &mut self,
        id: Id,
        session: SessionId,
        held: Held,
        span: Span,
        more: (u64, Option<Id>),
    ) {
        self.notes.retain(|note| note.0 != id);
        let (hold, parent) = more;
        let state = State::Held { seq: 1 };
        let thing =
            Thing { id, session, held, span, state, hold, asked: (0, 0), alone: false, parent };
        self.things.push(thing);
        self.touch(parent);
    }

    fn touch(&mut self, id: Option<Id>) {
        let Some(thing) = id.and_then(|id| self.thing_mut(id)) else { return };
        thing.state = match thing.state {
            State::Held { seq } => State::Held { seq: seq + 1 },
            State::Stale { seq } => State::Stale { seq: seq + 1 },
            other => other,
        };
    }

    /// The lease is in nobody's way any more.
    pub(super) fn end(&mut self, id: Id, note: Option<fn(u64) -> State>) {
        let Some(at) = self.things.iter().position(|thing| thing.id == id) else { return };
        let gone = self.things.remove(at);
        if let Some(note) = note.filter(|_| !gone.alone) {
            self.notes.push((id, gone.session, note(gone.state.seq() + 1)));
        }
        for thing in self.things.iter_mut().filter(|thing| thing.parent == Some(id)) {
            thing.parent = gone.parent;
        }
        self.touch(gone.parent);
    }

    pub(super) fn returned(&mut self, id: Id) {
        self.notes.retain(|note| note.0 != id);
        match self.thing_mut(id) {
            Some(Thing { held: Held::Seal { .. }, .. }) | None => {}
            Some(thing) if matches!(thing.state, State::Fencing { .. }) => thing.alone = true,
            Some(_) => self.end(id, None),
        }
    }

    pub(super) fn recall(&mut self, id: Id, now: u64, lease_time: u64) {
        let Some(thing) = self.thing(id) else { return };
        let firm = matches!(thing.held, Held::Seal { breakable: false, .. });
        if firm || !matches!(thing.state, State::Held { .. } | State::Stale { .. }) {
            return;
        }
        // Parents come before children: ids only grow.
        let mut below: Vec<Id> = self.things.iter().map(|thing| thing.id).collect();
        below.retain(|below| self.line(*below).contains(&id));
        below.sort_unstable();
        for id in below {
            let above = self.above(id);
            let Some(thing) = self.thing_mut(id) else { continue };
            match &mut thing.state {
                State::Held { seq } | State::Stale { seq } => {
                    thing.asked = (now, lease_time + thing.hold);
                    let deadline = (now + lease_time + thing.hold).min(above);
                    thing.state = State::Recalled { seq: *seq + 1, deadline };
                }
                State::Recalled { deadline, .. } => *deadline = (*deadline).min(above),
                _ => {}
            }
        }
    }

    fn above(&self, id: Id) -> u64 {
        let above = self.line(id).into_iter().skip(1);
        let deadlines = above.filter_map(|id| match self.state(id) {
            Some(State::Recalled { deadline, .. }) => Some(deadline),
            _ => None,
        });
        deadlines.min().unwrap_or(u64::MAX)
    }

    fn wanted(&self, id: Id) -> bool {
        let Some(thing) = self.thing(id) else { return false };
        let wants = |claim: &Listed| {
            let (session, change) = (claim.session, claim.change);
            let r = Request { session, change, spans: &claim.spans, ticket: claim.ticket };
            !matches!(self.meets(&r, thing), Cell::On | Cell::Round | Cell::Refresh)
        };
        let recalled =
            |id: &Id| matches!(self.state(*id), Some(State::Recalled { .. })) && self.wanted(*id);
        self.claims.iter().any(wants) || thing.parent.as_ref().is_some_and(recalled)
    }

    pub(super) fn withdraw(&mut self, id: Id) {
        let wanted = self.wanted(id);
        if let Some(thing) = self.thing_mut(id)
            && let State::Recalled { seq, .. } = thing.state
            && !wanted
        {
            thing.state = State::Held { seq: seq + 1 };
        }
    }

    pub(super) fn partial(&mut self, id: Id, keep: Span, now: u64) {
        let above = self.above(id);
        let Some(thing) = self.thing_mut(id) else { return };
        let span = keep.common(thing.span);
        let lease = matches!(thing.held, Held::Lease(_));
        if !lease || matches!(thing.state, State::Fencing { .. }) {
            return;
        }
        if span.is_empty() {
            return self.returned(id);
        }
        if span != thing.span {
            thing.span = span;
            let (at, grace) = thing.asked;
            thing.state = match thing.state {
                State::Held { seq } => State::Held { seq: seq + 1 },
                State::Stale { seq } => State::Stale { seq: seq + 1 },
                State::Recalled { seq, deadline } => {
                    let renewed = (now + grace).min(at + 2 * grace).min(above).max(deadline);
                    State::Recalled { seq: seq + 1, deadline: renewed }
                }
                other => other,
            };
        }
        self.withdraw(id);
    }

    pub(super) fn fencing(&mut self, id: Id) {
        let Some(thing) = self.thing_mut(id) else { return };
        let seq = thing.state.seq() + 1;
        match (thing.held, thing.state) {
            (Held::Seal { .. }, State::Recalled { .. }) => self.end(id, None),
            (Held::Seal { .. }, _) | (_, State::Fencing { .. }) => {}
            _ => thing.state = State::Fencing { seq },
        }
    }

    /// Held to stale, or either to held.
    pub(super) fn renew(&mut self, id: Id, stale: bool) {
        let Some(thing) = self.thing_mut(id) else { return };
        let lease = matches!(thing.held, Held::Lease(_));
        thing.state = match (thing.state, stale) {
            (State::Held { seq }, true) if lease => State::Stale { seq: seq + 1 },
            (State::Held { seq } | State::Stale { seq }, false) if lease => {
                State::Held { seq: seq + 1 }
            }
            (other, _) => other,
        };
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        self.claims.retain(|claim| claim.session != session);
        self.notes.retain(|note| note.1 != session);
        self.things.retain(|t| t.session != session || matches!(t.held, Held::Lease(_)));
        for thing in self.things.iter_mut().filter(|thing| thing.session == session) {
            thing.alone = true;
            if !matches!(thing.state, State::Fencing { .. }) {
                thing.state = State::Fencing { seq: thing.state.seq() + 1 };
            }
        }
    }

    pub(super) fn deadlines(&self) -> Vec<(u64, Id)> {
        let due = self.things.iter().filter_map(|thing| match thing.state {
            State::Recalled { deadline, .. } => Some((deadline, thing.id)),
            _ => None,
        });
        let mut due: Vec<(u64, Id)> = due.collect();
        due.sort_unstable();
        due
    }

    pub(super) fn is_empty(&self) -> bool {
        self.things.is_empty() && self.claims.is_empty()
    }
}
