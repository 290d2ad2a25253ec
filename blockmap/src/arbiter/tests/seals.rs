//! Seals: kinds, ranges, owners.

use super::*;

const ALL: Span = Span::WHOLE;

#[test]
fn future_write_lets_writable_leases_go_on() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, Access::Write, span(0, 8))));
    assert_eq!(ask(&mut file, B, seals(Kinds::FUTURE_WRITE), ALL), Answer::Go);
    assert!(file.seal(seal(2, B, Kinds::FUTURE_WRITE, ALL, false)));
    assert_eq!(file.state(1), Some(State::Held { seq: 1 }));
    // It may be made good again in place, but nothing new is writable.
    file.stale(1);
    let refresh = Change::Refresh { lease: 1, unshares: false };
    assert_eq!(ask(&mut file, A, refresh, span(0, 8)), Answer::Go);
    for change in [
        grants(Access::Write),
        grants(Access::Exclusive),
        Change::Overwrite,
        Change::Delegate { access: Access::Write, parent: 1 },
    ] {
        assert_eq!(sealed_by(ask(&mut file, A, change, span(0, 8))).id, 2, "{change:?}");
    }
}

#[test]
fn write_implies_future_write_before_anything_is_decided() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::WRITE, span(0, 8), false)));
    let held = file.seals().next().unwrap().holder.held;
    assert_eq!(held, Held::Seal { kinds: Kinds::WRITE | Kinds::FUTURE_WRITE, breakable: false });
}

#[test]
fn write_recalls_writable_leases_of_the_sealer_too() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, Access::Write, span(0, 8))));
    assert!(file.grant(lease(2, B, Access::Write, span(8, 16))));
    assert!(file.grant(lease(3, B, Access::Stable, span(16, 24))));
    assert_eq!(ask(&mut file, A, seals(Kinds::WRITE), ALL), recall(&[1, 2]));
}

#[test]
fn grow_holds_whatever_the_range_is() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::GROW, span(3, 3), false)));
    for at in [span(100, 101), span(0, 0)] {
        let holder = sealed_by(ask(&mut file, B, Change::Grow, at));
        assert_eq!((holder.id, holder.span), (1, ALL));
    }
    let none = Request { session: B, change: Change::Grow, spans: &[], ticket: 0 };
    assert_eq!(sealed_by(file.admit(&none, 0)).id, 1);
    assert_eq!(ask(&mut file, B, Change::Shrink, ALL), Answer::Go);
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 8)), Answer::Go);
}

#[test]
fn kinds_of_the_file_and_of_a_range_in_one_seal() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::SHRINK | Kinds::LAYOUT, span(4, 8), false)));
    assert_eq!(ask(&mut file, B, Change::Fill, span(8, 12)), Answer::Go);
    assert_eq!(sealed_by(ask(&mut file, B, Change::Fill, span(7, 12))).id, 1);
    assert_eq!(sealed_by(ask(&mut file, B, Change::Shrink, span(90, 91))).id, 1);
    assert_eq!(ask(&mut file, B, Change::Relocate, span(0, 6)), Answer::Round(vec![span(4, 6)]));
}

#[test]
fn seal_kind_keeps_others_from_sealing_and_nobody_from_leases() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::SEAL, ALL, false)));
    assert_eq!(sealed_by(ask(&mut file, B, seals(Kinds::LAYOUT), span(0, 1))).session, A);
    assert_eq!(ask(&mut file, A, seals(Kinds::LAYOUT), span(0, 1)), Answer::Go);
    assert_eq!(ask(&mut file, B, grants(Access::Exclusive), span(0, 1)), Answer::Go);
    assert_eq!(file.flags(), Flags::empty());
}

#[test]
fn a_kind_is_in_force_while_one_seal_is_left() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::WRITE, span(0, 8), false)));
    assert!(file.seal(seal(2, B, Kinds::WRITE, span(4, 12), false)));
    assert_eq!(file.clear(1, A), Ok(()));
    assert_eq!(ask(&mut file, C, Change::Overwrite, span(0, 4)), Answer::Go);
    assert_eq!(sealed_by(ask(&mut file, C, Change::Overwrite, span(0, 5))).id, 2);
}

#[test]
fn owners_alone_clear_and_the_session_takes_its_seals_with_it() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::LAYOUT, ALL, false)));
    assert!(file.seal(seal(2, A, Kinds::WRITE, ALL, false)));
    assert_eq!(file.clear(1, B), Err(NotCleared::Of(A)));
    assert_eq!(file.clear(9, A), Err(NotCleared::Unknown));
    assert_eq!(file.clear(1, A), Ok(()));
    assert_eq!(file.clear(1, A), Err(NotCleared::Unknown));
    assert!(file.end_session(B).is_empty());
    assert_eq!(file.seals().count(), 1);
    assert!(file.end_session(A).is_empty());
    assert!(file.is_empty());
}

#[test]
fn a_seal_is_set_wholly_or_not_at_all() {
    let mut file = FileArbiter::new();
    assert!(!file.seal(seal(1, A, Kinds::empty(), ALL, false)));
    assert!(!file.seal(seal(1, A, Kinds::LAYOUT | Kinds::GROW, span(5, 5), false)));
    assert!(!file.seal(seal(1, A, Kinds::LAYOUT, span(9, 5), false)));
    assert!(file.is_empty());
    assert!(file.seal(seal(1, A, Kinds::LAYOUT, ALL, false)));
    assert!(!file.seal(seal(1, A, Kinds::WRITE, ALL, false)));
    assert_eq!(ask(&mut file, B, Change::Overwrite, ALL), Answer::Go);
}

#[test]
fn a_breakable_seal_has_the_lease_time_and_is_then_cleared() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::LAYOUT, ALL, true)));
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), recall(&[1]));
    let asked = file.recall(1, 5, SECOND);
    let deadline = 5 + SECOND;
    assert_eq!(asked, Recall::Asked { seq: 2, deadline, delegates: Ids::new() });
    assert_eq!(file.take(1), End::Nothing, "its uses cannot be seen");
    assert_eq!(file.returned(1), End::Nothing);
    assert_eq!(file.overdue(deadline - 1).count(), 0);
    assert_eq!(file.overdue(deadline).collect::<Vec<_>>(), [1]);
    assert_eq!(file.fencing(1), Fence::Cleared(A));
    assert_eq!(file.next_deadline(), None);
    assert_eq!(ask(&mut file, B, Change::Fill, span(0, 1)), Answer::Go);
}

#[test]
fn an_unbreakable_seal_is_not_recalled_and_not_fenced() {
    let mut file = FileArbiter::new();
    assert!(file.seal(seal(1, A, Kinds::LAYOUT, ALL, false)));
    assert_eq!(file.recall(1, 0, SECOND), Recall::Gone);
    assert_eq!(file.fencing(1), Fence::Nothing);
    assert_eq!(file.state(1), Some(State::Held { seq: 1 }));
}

#[test]
fn a_seal_binds_its_own_session_breakable_or_not() {
    for breakable in [false, true] {
        let mut file = FileArbiter::new();
        assert!(file.seal(seal(1, A, Kinds::LAYOUT, ALL, breakable)));
        assert_eq!(sealed_by(ask(&mut file, A, Change::Fill, span(0, 1))).session, A);
    }
}

#[test]
fn a_refusal_recalls_nothing_and_says_who() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, Access::Read, span(0, 8))));
    assert!(file.seal(seal(2, B, Kinds::LAYOUT, span(2, 4), false)));
    let holder = sealed_by(ask_in_turn(&mut file, 7, C, Change::Fill, span(0, 8)));
    assert_eq!(holder.to_string(), "seal 2 (LAYOUT) of session 2 over blocks 2..4");
    assert_eq!(file.claims().count(), 0, "who is refused does not wait");
}
