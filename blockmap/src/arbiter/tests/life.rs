//! The life of a lease: recall, return, fence, deadlines.

use super::*;

fn held() -> FileArbiter {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, Access::Write, span(0, 8))));
    file
}

#[test]
fn r1_the_grace_is_the_lease_time_and_what_the_holder_declared() {
    let mut file = held();
    let deadline = 10 + SECOND + HOLD;
    assert_eq!(
        file.recall(1, 10, SECOND),
        Recall::Asked { seq: 2, deadline, delegates: Ids::new() }
    );
    assert_eq!(file.state(1), Some(State::Recalled { seq: 2, deadline }));
    assert_eq!(file.next_deadline(), Some(deadline));
    // A second operation joins, and does not move the deadline.
    assert_eq!(file.recall(1, 500, SECOND), Recall::Pending { seq: 2, deadline });
    assert_eq!(file.overdue(deadline - 1).count(), 0);
    assert_eq!(file.overdue(deadline).collect::<Vec<_>>(), [1]);
    assert_eq!(file.overdue(u64::MAX).collect::<Vec<_>>(), [1]);
    assert_eq!(file.fencing(1), Fence::Begun(3));
    assert_eq!(file.overdue(u64::MAX).count(), 0, "its fence is begun once");
    assert_eq!(file.fencing(1), Fence::Nothing);
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), recall(&[1]), "not before the fence");
    assert_eq!(file.recall(1, 0, 0), Recall::Fencing { seq: 3 });
    assert_eq!(file.revoked(1), End::Gone(None));
    assert_eq!(file.state(1), Some(State::Revoked { seq: 4 }));
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), Answer::Go);
    assert_eq!(file.returned(1), End::Gone(None));
    assert_eq!(file.state(1), None);
}

#[test]
fn r1_an_idle_lease_is_taken_without_its_holder() {
    let mut file = held();
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), recall(&[1]));
    assert_eq!(file.take(1), End::Gone(None));
    assert_eq!(file.state(1), Some(State::Taken { seq: 2 }));
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), Answer::Go);
    assert!(file.is_empty(), "a note keeps nothing open");
    // It is granted again under the same id with the next number.
    assert!(file.grant(LeaseEntry { seq: 3, ..lease(1, A, Access::Write, span(0, 8)) }));
    assert_eq!(file.state(1), Some(State::Held { seq: 3 }));
}

#[test]
fn the_last_use_may_end_before_the_fence_does() {
    let mut file = held();
    file.recall(1, 0, SECOND);
    file.fencing(1);
    assert_eq!(file.take(1), End::Gone(None));
    assert_eq!(file.state(1), Some(State::Taken { seq: 4 }));
    assert_eq!(file.revoked(1), End::Nothing);
}

#[test]
fn a_lease_returned_under_its_fence_goes_when_that_is_done() {
    let mut file = held();
    file.fencing(1);
    assert_eq!(file.returned(1), End::Later);
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), recall(&[1]));
    assert_eq!(file.revoked(1), End::Gone(None));
    assert_eq!(file.state(1), None, "nobody is left to acknowledge it");
}

#[test]
fn a3_the_sequence_number_grows_with_each_transition_and_is_never_zero() {
    let mut file = FileArbiter::new();
    assert!(file.grant(LeaseEntry { seq: 0, ..lease(1, A, Access::Write, span(0, 8)) }));
    let mut last = file.state(1).unwrap().seq();
    assert_eq!(last, 1);
    let steps: [fn(&mut FileArbiter) -> bool; 8] = [
        |file| file.refresh(1).is_some(),
        |file| file.stale(1).is_some(),
        |file| file.refresh(1).is_some(),
        |file| file.recall(1, 0, 0) != Recall::Gone,
        |file| file.withdraw(1).is_some(),
        |file| file.partial(1, span(0, 4), 0) != Partial::Nothing,
        |file| file.fencing(1) != Fence::Nothing,
        |file| file.revoked(1) != End::Nothing,
    ];
    for (i, step) in steps.into_iter().enumerate() {
        assert!(step(&mut file), "step {i}");
        let seq = file.state(1).unwrap().seq();
        assert_eq!(seq, last + 1, "step {i}");
        last = seq;
    }
}

#[test]
fn a8_a_recall_that_matches_nothing_counts_as_answered() {
    assert_eq!(FileArbiter::new().recall(9, 0, SECOND), Recall::Gone);
}

#[test]
fn own_operations_make_a_lease_stale_and_it_is_refreshed() {
    let mut file = held();
    assert_eq!(ask(&mut file, A, Change::Fill, span(0, 1)), Answer::Own([1].as_slice().into()));
    assert_eq!(file.stale(1), Some(2));
    assert_eq!(file.stale(1), Some(2));
    // It stands in the way of others as before. The session's own may go on, but hears of
    // it: commands may be in flight through it still.
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), recall(&[1]));
    assert_eq!(ask(&mut file, A, Change::Fill, span(0, 1)), Answer::Own([1].as_slice().into()));
    let refresh = Change::Refresh { lease: 1, unshares: true };
    assert_eq!(ask(&mut file, A, refresh, span(0, 8)), Answer::Go);
    assert_eq!(file.refresh(1), Some(3));
    assert_eq!(file.state(1), Some(State::Held { seq: 3 }));
}

#[test]
fn a_recalled_lease_is_not_refreshed() {
    let mut file = held();
    file.recall(1, 0, SECOND);
    assert_eq!((file.refresh(1), file.stale(1)), (None, None));
    let refresh = Change::Refresh { lease: 1, unshares: false };
    let answer = ask(&mut file, A, refresh, span(0, 8));
    assert!(matches!(answer, Answer::Refused(Refusal::Recalled(holder)) if holder.id == 1));
    file.take(1);
    assert_eq!(ask(&mut file, A, refresh, span(0, 8)), Answer::Refused(Refusal::Ended(1)));
    file.returned(1);
    assert_eq!(ask(&mut file, A, refresh, span(0, 8)), Answer::Refused(Refusal::NoLease(1)));
}

#[test]
fn r5_stable_and_exclusive_conflict_within_one_session() {
    for (held, asked) in [
        (Access::Stable, Access::Write),
        (Access::Write, Access::Stable),
        (Access::Exclusive, Access::Read),
        (Access::Read, Access::Exclusive),
        (Access::Exclusive, Access::Exclusive),
    ] {
        let mut file = FileArbiter::new();
        assert!(file.grant(lease(1, A, held, span(0, 8))));
        let answer = ask(&mut file, A, grants(asked), span(4, 5));
        assert_eq!(answer, Answer::Take([1].as_slice().into()), "{held:?} {asked:?}");
    }
}

#[test]
fn the_leases_of_others_come_first_and_own_ones_can_be_asked_for() {
    let mut file = held();
    assert!(file.grant(lease(2, B, Access::Read, span(4, 12))));
    assert!(file.grant(lease(3, A, Access::Stable, span(12, 16))));
    let r = Request {
        session: A,
        change: Change::Grant { access: Access::Write, unshares: true },
        spans: &[span(0, 16)],
        ticket: 0,
    };
    assert_eq!(file.own(&[r])[..], [1, 3]);
    assert_eq!(file.admit(&r, 0), recall(&[2]));
    file.take(2);
    assert_eq!(file.admit(&r, 0), Answer::Take([3].as_slice().into()));
    file.take(3);
    assert_eq!(file.admit(&r, 0), Answer::Own([1].as_slice().into()));
}

#[test]
fn a_recall_that_nobody_wants_is_withdrawn() {
    let mut file = held();
    for (ticket, session) in [(5, B), (6, C)] {
        assert_eq!(ask_in_turn(&mut file, ticket, session, Change::Cut, span(0, 1)), recall(&[1]));
    }
    file.recall(1, 0, SECOND);
    file.leave(5);
    assert_eq!(file.withdraw(1), None, "one still waits");
    file.leave(6);
    assert_eq!(file.withdraw(1), Some(3));
    assert_eq!(file.next_deadline(), None);
    assert_eq!(file.withdraw(1), None, "it is held");
}

#[test]
fn a11_a_partial_return_is_progress_up_to_twice_the_grace() {
    let grace = SECOND + HOLD;
    let mut file = held();
    assert_eq!(ask_in_turn(&mut file, 5, B, Change::Cut, span(0, 8)), recall(&[1]));
    file.recall(1, 0, SECOND);
    let deadline = |kept| match kept {
        Partial::Kept { state: State::Recalled { deadline, .. }, .. } => deadline,
        other => panic!("{other:?}"),
    };
    assert_eq!(deadline(file.partial(1, span(0, 8), 7)), grace, "nothing was given back");
    assert_eq!(deadline(file.partial(1, span(0, 7), 7)), grace + 7);
    assert_eq!(deadline(file.partial(1, span(1, 9), grace)), 2 * grace);
    assert_eq!(deadline(file.partial(1, span(1, 6), grace + 9)), 2 * grace);
    assert_eq!(file.overdue(2 * grace).count(), 1);
    assert_eq!(file.leases().next().unwrap().holder.span, span(1, 6));
}

#[test]
fn a_partial_return_of_all_that_is_wanted_ends_the_recall() {
    let mut file = held();
    assert_eq!(ask_in_turn(&mut file, 5, B, Change::Cut, span(6, 9)), recall(&[1]));
    file.recall(1, 0, SECOND);
    let state = State::Held { seq: 4 };
    assert_eq!(file.partial(1, span(0, 6), 1), Partial::Kept { span: span(0, 6), state });
    assert_eq!(ask_in_turn(&mut file, 5, B, Change::Cut, span(6, 9)), Answer::Go);
    assert_eq!(file.partial(1, span(7, 9), 1), Partial::All(End::Gone(None)));
    assert_eq!(file.partial(1, span(7, 9), 1), Partial::Nothing);
}

#[test]
fn a7_a_recall_says_whether_a_flush_is_worth_waiting_for() {
    let file = held();
    let may =
        |change, at| file.may_flush(&Request { session: B, change, spans: &[at], ticket: 0 }, 1);
    assert!(!may(Change::Cut, span(0, 8)));
    assert!(!may(Change::ReflinkOnto, Span::WHOLE));
    assert!(may(Change::Cut, span(1, 8)));
    assert!(may(Change::Fill, Span::WHOLE));
}

#[test]
fn a_session_that_ends_has_its_leases_fenced_and_leaves_nothing() {
    let mut file = held();
    assert!(file.grant(lease(2, A, Access::Read, span(20, 24))));
    assert!(file.grant(lease(3, B, Access::Read, span(20, 24))));
    assert!(file.grant(lease(4, A, Access::Read, span(30, 31))));
    assert!(file.seal(seal(5, A, Kinds::SHRINK, Span::WHOLE, true)));
    file.recall(2, 0, SECOND);
    file.take(4);
    file.wait(&Request { session: A, change: Change::Cut, spans: &[span(0, 1)], ticket: 1 });
    assert_eq!(file.end_session(A), [1, 2]);
    assert_eq!(file.next_deadline(), None);
    assert_eq!((file.state(4), file.claims().count(), file.seals().count()), (None, 0, 0));
    assert_eq!(file.end_session(A), [1, 2], "until they are done");
    assert_eq!(file.revoked(1), End::Gone(None));
    assert_eq!(file.take(2), End::Gone(None), "nothing used it");
    assert_eq!((file.state(1), file.state(2)), (None, None));
    assert_eq!(file.leases().count(), 1);
}

#[test]
fn nothing_panics_on_what_is_not_known_or_makes_no_sense() {
    let mut file = FileArbiter::new();
    assert!(!file.grant(lease(1, A, Access::Read, span(5, 5))));
    assert!(!file.grant(lease(1, A, Access::Read, span(u64::MAX, 0))));
    assert!(!file.grant(LeaseEntry { parent: Some(4), ..lease(1, A, Access::Read, span(0, 1)) }));
    for id in [0, 1, u64::MAX] {
        assert_eq!(
            (file.returned(id), file.take(id), file.revoked(id)),
            (End::Nothing, End::Nothing, End::Nothing)
        );
        assert_eq!((file.refresh(id), file.stale(id), file.withdraw(id)), (None, None, None));
        assert_eq!(file.fencing(id), Fence::Nothing);
        assert_eq!(file.partial(id, Span::WHOLE, 0), Partial::Nothing);
        assert_eq!((file.state(id), file.entry(id), file.parent(id)), (None, None, None));
        assert!(!file.suspended(id));
        file.leave(id);
    }
    let max = LeaseEntry {
        seq: u64::MAX,
        max_hold_ns: u64::MAX,
        ..lease(u64::MAX, u64::from(u32::MAX), Access::Exclusive, Span::WHOLE)
    };
    assert!(!file.grant(LeaseEntry { session: 1 << 32, ..max }), "no number of a session");
    assert!(!file.seal(seal(1, 1 << 32, Kinds::WRITE, Span::WHOLE, false)));
    assert!(file.grant(max));
    assert!(!file.grant(max), "an id is used once");
    let at = span(u64::MAX - 1, u64::MAX);
    assert_eq!(ask(&mut file, A, Change::Read, at), recall(&[u64::MAX]));
    assert_eq!(ask(&mut file, A, Change::Read, span(u64::MAX, u64::MAX)), Answer::Go);
    let Recall::Asked { deadline, .. } = file.recall(u64::MAX, u64::MAX, u64::MAX) else {
        panic!()
    };
    assert_eq!(deadline, u64::MAX);
    assert_eq!(file.overdue(u64::MAX).count(), 1);
    file.fencing(u64::MAX);
    assert_eq!(file.revoked(u64::MAX), End::Gone(None));
    assert_eq!(file.returned(u64::MAX), End::Gone(None));
    assert_eq!(file.returned(u64::MAX), End::Nothing);
}
