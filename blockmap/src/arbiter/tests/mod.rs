//! The arbiter, rule by rule, against its document and against a model.

mod claims;
mod conformance;
mod delegates;
mod life;
mod model;
mod oracle;
mod seals;
mod size;

use super::*;

/// Sessions.
const A: SessionId = 1;
const B: SessionId = 2;
const C: SessionId = 3;

const SECOND: u64 = 1_000_000_000;
const HOLD: u64 = 100_000_000;

fn span(start: u64, end: u64) -> Span {
    Span { start, end }
}

fn lease(id: Id, session: SessionId, access: Access, span: Span) -> LeaseEntry {
    LeaseEntry { id, session, access, span, seq: 1, max_hold_ns: HOLD, parent: None }
}

fn seal(id: Id, session: SessionId, kinds: Kinds, span: Span, breakable: bool) -> SealEntry {
    SealEntry { id, session, kinds, span, breakable }
}

fn grants(access: Access) -> Change {
    Change::Grant { access, unshares: false }
}

fn seals(kinds: Kinds) -> Change {
    Change::Seal { kinds, breakable: false }
}

/// Asks without waiting.
fn ask(file: &mut FileArbiter, session: SessionId, change: Change, at: Span) -> Answer {
    file.admit(&Request { session, change, spans: &[at], ticket: 0 }, 0)
}

/// Asks with a ticket.
fn ask_in_turn(
    file: &mut FileArbiter,
    ticket: u64,
    session: SessionId,
    change: Change,
    at: Span,
) -> Answer {
    file.admit(&Request { session, change, spans: &[at], ticket }, 0)
}

fn recall(ids: &[Id]) -> Answer {
    Answer::Recall(ids.into())
}

/// Whom a refusal names.
fn sealed_by(answer: Answer) -> Holder {
    match answer {
        Answer::Refused(Refusal::Sealed(holder)) => holder,
        other => panic!("{other:?}"),
    }
}
