//! Leases that come from leases.

use super::*;

fn child(id: Id, session: SessionId, access: Access, at: Span, parent: Id) -> LeaseEntry {
    LeaseEntry { parent: Some(parent), ..lease(id, session, access, at) }
}

fn delegate(file: &mut FileArbiter, to: SessionId, access: Access, parent: Id, at: Span) -> Answer {
    ask(file, to, Change::Delegate { access, parent }, at)
}

fn parent(access: Access) -> FileArbiter {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, access, span(0, 8))));
    file
}

#[test]
fn read_and_write_delegates_go_beside_their_parent_and_each_other() {
    let mut file = parent(Access::Write);
    for (id, session, access) in
        [(2, B, Access::Write), (3, C, Access::Write), (4, B, Access::Read)]
    {
        assert_eq!(delegate(&mut file, session, access, 1, span(0, 8)), Answer::Go);
        assert!(file.grant(child(id, session, access, span(0, 8), 1)));
        assert!(!file.suspended(1));
    }
    assert_eq!(file.state(1), Some(State::Held { seq: 4 }), "each delegate counts");
    assert_eq!(file.delegates(1).collect::<Vec<_>>(), [2, 3, 4]);
    // To all others they are leases like any.
    assert_eq!(ask(&mut file, 9, grants(Access::Write), span(0, 1)), recall(&[1, 2, 3]));
    // The parent's own operation meets them, too.
    assert_eq!(ask(&mut file, A, Change::Fill, span(0, 1)), recall(&[2, 3, 4]));
}

#[test]
fn an_exclusive_delegate_suspends_its_parent_until_it_is_gone() {
    let mut file = parent(Access::Exclusive);
    assert_eq!(delegate(&mut file, B, Access::Exclusive, 1, span(0, 4)), Answer::Go);
    assert!(file.grant(child(2, B, Access::Exclusive, span(0, 4), 1)));
    assert!(file.suspended(1));
    // Another one beside it, but not over it.
    assert_eq!(delegate(&mut file, C, Access::Exclusive, 1, span(4, 8)), Answer::Go);
    assert_eq!(delegate(&mut file, C, Access::Read, 1, span(3, 8)), recall(&[2]));
    assert_eq!(file.returned(2), End::Gone(Some(1)));
    assert!(!file.suspended(1));
    assert_eq!(file.state(1), Some(State::Held { seq: 3 }));
}

#[test]
fn a_lease_gives_on_no_more_than_it_has() {
    for (has, gives) in [
        (Access::Read, &[Access::Read][..]),
        (Access::Write, &[Access::Read, Access::Write]),
        (Access::Stable, &[Access::Read, Access::Stable]),
        (Access::Exclusive, &Access::ALL),
    ] {
        let mut file = parent(has);
        for access in Access::ALL {
            let answer = delegate(&mut file, B, access, 1, span(0, 8));
            let gone = Answer::Refused(Refusal::NoLease(1));
            assert_eq!(answer, if gives.contains(&access) { Answer::Go } else { gone });
        }
        let wider = delegate(&mut file, B, Access::Read, 1, span(0, 9));
        assert_eq!(wider, Answer::Refused(Refusal::NoLease(1)));
    }
}

#[test]
fn no_delegation_while_a_recall_is_pending() {
    let mut file = parent(Access::Write);
    file.recall(1, 0, SECOND);
    let answer = delegate(&mut file, B, Access::Read, 1, span(0, 8));
    assert!(matches!(answer, Answer::Refused(Refusal::Recalled(holder)) if holder.id == 1));
    file.fencing(1);
    let answer = delegate(&mut file, B, Access::Read, 1, span(0, 8));
    assert!(matches!(answer, Answer::Refused(Refusal::Recalled(_))));
    file.revoked(1);
    assert_eq!(
        delegate(&mut file, B, Access::Read, 1, span(0, 8)),
        Answer::Refused(Refusal::Ended(1))
    );
}

#[test]
fn a_delegates_deadline_is_never_later_than_its_parents() {
    let mut file = parent(Access::Write);
    let patient = LeaseEntry { max_hold_ns: 9 * HOLD, ..child(2, B, Access::Write, span(0, 8), 1) };
    let quick = LeaseEntry { max_hold_ns: 0, ..child(3, C, Access::Read, span(0, 8), 2) };
    assert!(file.grant(patient) && file.grant(quick));
    // The delegate was recalled before, with more time than the parent will have.
    file.recall(2, 100, SECOND);
    let at = |file: &FileArbiter, id| match file.state(id) {
        Some(State::Recalled { deadline, .. }) => deadline,
        other => panic!("{other:?}"),
    };
    assert_eq!((at(&file, 2), at(&file, 3)), (100 + SECOND + 9 * HOLD, 100 + SECOND));
    let asked = file.recall(1, 200, SECOND);
    let deadline = 200 + SECOND + HOLD;
    assert_eq!(asked, Recall::Asked { seq: 3, deadline, delegates: [2].as_slice().into() });
    assert_eq!((at(&file, 2), at(&file, 3)), (deadline, 100 + SECOND));
    // Nor is it made longer by a partial return.
    file.wait(&Request { session: 9, change: Change::Cut, spans: &[span(0, 8)], ticket: 1 });
    file.partial(2, span(0, 4), 300);
    assert_eq!(at(&file, 2), deadline);
    assert_eq!(file.overdue(deadline).collect::<Vec<_>>(), [3, 1, 2]);
}

#[test]
fn a_delegate_that_declared_more_time_has_no_more_than_its_parent() {
    let mut file = parent(Access::Write);
    let patient = LeaseEntry { max_hold_ns: 9 * HOLD, ..child(2, B, Access::Write, span(0, 8), 1) };
    assert!(file.grant(patient));
    file.recall(1, 0, SECOND);
    let deadline = SECOND + HOLD;
    assert_eq!(file.state(2), Some(State::Recalled { seq: 2, deadline }));
}

#[test]
fn a_delegate_is_recalled_as_long_as_its_parent_is_wanted() {
    let mut file = parent(Access::Write);
    assert!(file.grant(child(2, B, Access::Write, span(4, 8), 1)));
    assert_eq!(ask_in_turn(&mut file, 5, C, Change::Fill, span(0, 2)), recall(&[1]));
    file.recall(1, 0, SECOND);
    assert_eq!(file.withdraw(2), None);
    file.leave(5);
    assert_eq!(file.withdraw(1), Some(4));
    assert_eq!(file.withdraw(2), Some(3));
}

#[test]
fn the_delegates_of_a_lease_that_goes_belong_to_its_parent() {
    let mut file = parent(Access::Exclusive);
    assert!(file.grant(child(2, B, Access::Exclusive, span(0, 4), 1)));
    assert!(file.grant(child(3, C, Access::Exclusive, span(0, 2), 2)));
    assert_eq!(file.take(2), End::Gone(Some(1)));
    assert_eq!(file.parent(3), Some(1));
    assert!(file.suspended(1));
    assert_eq!(file.returned(1), End::Gone(None));
    assert_eq!(file.parent(3), None);
    assert_eq!(file.state(3), Some(State::Held { seq: 1 }));
}

#[test]
fn the_seals_of_who_delegates_are_his_own() {
    let mut file = parent(Access::Write);
    assert!(file.seal(seal(9, A, Kinds::FUTURE_WRITE, Span::WHOLE, true)));
    assert_eq!(sealed_by(delegate(&mut file, B, Access::Write, 1, span(0, 8))).id, 9);
    assert_eq!(delegate(&mut file, B, Access::Read, 1, span(0, 8)), Answer::Go);
}
