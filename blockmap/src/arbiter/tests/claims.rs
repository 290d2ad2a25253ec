//! Who waits for whom: the queue of a file, and cycles over all files.

use super::*;

#[test]
fn a_waiting_operation_has_its_turn_whatever_grants_come() {
    let mut file = FileArbiter::new();
    let at = span(0, 100);
    assert!(file.grant(lease(1, B, Access::Read, at)));
    assert!(file.grant(lease(2, C, Access::Read, at)));
    assert_eq!(ask_in_turn(&mut file, 10, A, Change::Cut, at), recall(&[1, 2]));
    // Sessions come without end, and each would keep the range leased.
    for i in 0..1000 {
        let (access, ticket) = (Access::ALL[i % 4], if i % 3 == 0 { 0 } else { 11 + i as u64 });
        let session = [A, B, C][i % 3];
        assert_eq!(
            ask_in_turn(&mut file, ticket, session, grants(access), span(99, 101)),
            Answer::Behind(10)
        );
        file.leave(ticket);
    }
    assert_eq!(
        ask_in_turn(&mut file, 9000, B, Change::Delegate { access: Access::Read, parent: 1 }, at),
        Answer::Behind(10)
    );
    file.leave(9000);
    file.returned(1);
    assert_eq!(ask_in_turn(&mut file, 10, A, Change::Cut, at), recall(&[2]));
    file.returned(2);
    assert_eq!(ask_in_turn(&mut file, 10, A, Change::Cut, at), Answer::Go);
    // It stands until it is over.
    assert_eq!(ask(&mut file, B, grants(Access::Read), at), Answer::Behind(10));
    assert_eq!(ask(&mut file, B, grants(Access::Read), span(100, 101)), Answer::Go);
    file.leave(10);
    assert_eq!(ask(&mut file, B, grants(Access::Read), at), Answer::Go);
    assert!(file.is_empty());
}

#[test]
fn a_waiting_grant_has_its_turn_whatever_operations_come() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, B, Access::Stable, span(0, 8))));
    assert_eq!(ask_in_turn(&mut file, 5, A, grants(Access::Write), span(0, 8)), recall(&[1]));
    assert!(file.flags().contains(Flags::MAP | Flags::HOME));
    for ticket in [0, 6] {
        let answer = ask_in_turn(&mut file, ticket, C, Change::Fill, span(7, 9));
        assert_eq!(answer, Answer::Behind(5));
        file.leave(ticket);
    }
    // Reads have nothing to do with a Write lease.
    assert_eq!(ask(&mut file, C, Change::Read, span(7, 9)), Answer::Go);
    // An older operation does not wait for it.
    assert_eq!(ask_in_turn(&mut file, 4, C, Change::Fill, span(8, 9)), Answer::Go);
}

#[test]
fn only_older_ones_are_waited_for() {
    let mut file = FileArbiter::new();
    file.wait(&Request { session: A, change: Change::Cut, spans: &[span(0, 8)], ticket: 20 });
    assert_eq!(ask_in_turn(&mut file, 19, B, grants(Access::Read), span(0, 8)), Answer::Go);
    assert_eq!(ask_in_turn(&mut file, 21, B, grants(Access::Read), span(0, 8)), Answer::Behind(20));
    assert_eq!(file.claimant(20), Some(A));
}

#[test]
fn whoever_goes_is_waited_for_whatever_his_age() {
    let mut file = FileArbiter::new();
    let at = [span(0, 8)];
    let grant = Request { session: A, change: grants(Access::Write), spans: &at, ticket: 20 };
    file.begin(&grant);
    assert_eq!(ask_in_turn(&mut file, 3, B, Change::ReflinkFrom, at[0]), Answer::Behind(20));
    assert_eq!(ask_in_turn(&mut file, 4, B, Change::Read, at[0]), Answer::Go);
    assert_eq!(ask(&mut file, B, Change::Relocate, span(4, 12)), Answer::Round(vec![span(4, 8)]));
    file.leave(3);
    file.leave(20);
    let cut = Request { session: A, change: Change::Cut, spans: &at, ticket: 20 };
    file.begin(&cut);
    assert_eq!(ask_in_turn(&mut file, 3, B, grants(Access::Read), at[0]), Answer::Behind(20));
    file.leave(3);
    // Operations do not wait for one another here.
    assert_eq!(ask_in_turn(&mut file, 4, B, Change::Cut, at[0]), Answer::Go);
}

#[test]
fn a21_a_write_seal_that_drains_denies_new_writers_and_rolls_back() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, B, Access::Write, span(0, 8))));
    let set = |file: &mut FileArbiter| ask_in_turn(file, 5, A, seals(Kinds::WRITE), Span::WHOLE);
    assert_eq!(set(&mut file), recall(&[1]));
    file.recall(1, 0, SECOND);
    assert!(file.flags().contains(Flags::WRITES));
    assert_eq!(ask_in_turn(&mut file, 6, C, Change::Overwrite, span(50, 51)), Answer::Behind(5));
    assert_eq!(ask_in_turn(&mut file, 4, C, Change::Overwrite, span(50, 51)), Answer::Go);
    // It gives up: the lease lives on and writers go on.
    file.leave(5);
    assert_eq!(file.withdraw(1), Some(3));
    assert_eq!(ask_in_turn(&mut file, 6, C, Change::Overwrite, span(50, 51)), Answer::Go);
    assert_eq!(file.seals().count(), 0);
}

#[test]
fn whoever_must_wait_is_listed_once_and_since_when() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, B, Access::Read, span(0, 8))));
    for now in [7, 9] {
        let r = Request { session: A, change: Change::Cut, spans: &[span(0, 8)], ticket: 3 };
        assert_eq!(file.admit(&r, now), recall(&[1]));
    }
    let claims: Vec<Claimant> = file.claims().collect();
    let claimant = Claimant { ticket: 3, session: A, change: Change::Cut, since: 7, going: false };
    assert_eq!(claims, [claimant]);
    file.leave(3);
    file.leave(3);
    assert_eq!(ask(&mut file, A, Change::Cut, span(0, 8)), recall(&[1]));
    assert_eq!(file.claims().count(), 0, "without a ticket nothing is listed");
}

#[test]
fn an_operation_of_several_changes_is_asked_and_listed_whole() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, B, Access::Read, span(0, 8))));
    assert!(file.seal(seal(2, B, Kinds::SHRINK, Span::WHOLE, true)));
    let at = [span(4, 8)];
    let r = Request { session: A, change: Change::Cut, spans: &at, ticket: 3 };
    let both = [r, Request { change: Change::Shrink, ..r }];
    assert_eq!(file.admit_all(&both, 0), recall(&[1, 2]));
    assert_eq!(file.claims().count(), 2);
    file.take(1);
    assert_eq!(file.admit_all(&both, 0), recall(&[2]));
    assert_eq!(file.clear(2, B), Ok(()));
    assert_eq!(file.admit_all(&both, 0), Answer::Go);
    for r in &both {
        file.begin(r);
    }
    // Each of the two keeps out what conflicts with it.
    assert_eq!(ask(&mut file, B, grants(Access::Read), at[0]), Answer::Behind(3));
    assert_eq!(ask(&mut file, B, seals(Kinds::SHRINK), span(0, 0)), Answer::Behind(3));
    assert_eq!(ask(&mut file, B, seals(Kinds::GROW), span(0, 0)), Answer::Go);
    file.leave(3);
    assert!(file.is_empty());
    // A seal that refuses one of them keeps the other from recalling anything.
    assert!(file.grant(lease(4, B, Access::Read, span(0, 8))));
    assert!(file.seal(seal(5, B, Kinds::SHRINK, Span::WHOLE, false)));
    assert_eq!(sealed_by(file.admit_all(&both, 0)).id, 5);
    assert_eq!(file.claims().count(), 0);
}

#[test]
fn relocation_never_waits_and_goes_round() {
    let mut file = FileArbiter::new();
    assert!(file.grant(lease(1, A, Access::Read, span(10, 20))));
    assert!(file.grant(lease(2, B, Access::Write, span(15, 30))));
    assert!(file.seal(seal(3, B, Kinds::LAYOUT, span(40, 50), true)));
    assert!(file.seal(seal(4, B, Kinds::WRITE, span(60, 70), false)));
    let round = vec![span(12, 30), span(40, 45)];
    assert_eq!(ask(&mut file, A, Change::Relocate, span(12, 45)), Answer::Round(round));
    assert_eq!(ask(&mut file, A, Change::Relocate, span(50, 99)), Answer::Go);
    file.wait(&Request {
        session: C,
        change: grants(Access::Read),
        spans: &[span(80, 90)],
        ticket: 1,
    });
    assert_eq!(
        ask(&mut file, A, Change::Relocate, span(50, 85)),
        Answer::Round(vec![span(80, 85)])
    );
}

/// Edges to sessions, for a lease of each.
fn for_leases(sessions: &[SessionId]) -> Vec<Edge> {
    sessions.iter().map(|session| (*session, Cause::Held(100 + session))).collect()
}

/// An edge goes with its cause, before whoever waited has found out.
#[test]
fn deadlock_is_none_once_the_cause_is_over() {
    let mut waits = Waits::default();
    let both = [(A, Cause::Held(1)), (A, Cause::Turn(9)), (C, Cause::Held(2))];
    assert_eq!(waits.add(1, B, &both), Ok(()));
    let behind = [(B, Cause::Turn(1))];
    assert_eq!(waits.add(2, A, &behind), Err(WouldDeadlock { holder: B }));
    waits.over(Cause::Held(1));
    assert_eq!(waits.add(2, A, &behind), Err(WouldDeadlock { holder: B }), "its turn is to come");
    waits.over(Cause::Turn(9));
    assert_eq!(waits.add(2, A, &behind), Ok(()));
    assert_eq!(waits.add(3, C, &[(A, Cause::Held(1))]), Err(WouldDeadlock { holder: A }));
    waits.over(Cause::Turn(1));
    waits.over(Cause::Held(2));
    waits.over(Cause::Held(77));
    assert!(waits.is_empty());
}

#[test]
fn deadlock_of_two_sessions() {
    let mut waits = Waits::default();
    assert_eq!(waits.add(1, A, &for_leases(&[B])), Ok(()));
    assert_eq!(waits.add(2, B, &for_leases(&[C, A])), Err(WouldDeadlock { holder: A }));
    assert_eq!(waits.add(2, B, &for_leases(&[C])), Ok(()), "who was refused left nothing behind");
    assert_eq!(waits.add(3, C, &for_leases(&[A])), Err(WouldDeadlock { holder: A }));
    waits.remove(1);
    assert_eq!(waits.add(3, C, &for_leases(&[A])), Ok(()));
}

#[test]
fn deadlock_of_three_sessions_is_told_to_the_last() {
    let mut waits = Waits::default();
    assert_eq!(waits.add(1, A, &for_leases(&[B])), Ok(()));
    assert_eq!(waits.add(2, B, &for_leases(&[C])), Ok(()));
    assert_eq!(waits.add(3, C, &for_leases(&[A])), Err(WouldDeadlock { holder: A }));
    assert_eq!(waits.add(4, C, &for_leases(&[4])), Ok(()));
    assert_eq!(waits.add(5, 4, &for_leases(&[5])), Ok(()));
    // Another wait of the same sessions changes nothing about it.
    assert_eq!(waits.add(6, A, &for_leases(&[C])), Ok(()));
    assert_eq!(waits.add(7, 5, &for_leases(&[B])), Err(WouldDeadlock { holder: B }));
}

#[test]
fn deadlock_is_looked_for_in_what_an_operation_waits_for_now() {
    let mut waits = Waits::default();
    assert_eq!(waits.add(1, A, &for_leases(&[B])), Ok(()));
    assert_eq!(waits.add(1, A, &for_leases(&[C])), Ok(()));
    assert_eq!(waits.add(2, B, &for_leases(&[A])), Ok(()), "1 waits for C alone");
    assert_eq!(waits.add(1, A, &for_leases(&[B])), Err(WouldDeadlock { holder: B }));
    // What it waited for before stays.
    assert_eq!(waits.add(3, C, &for_leases(&[A])), Err(WouldDeadlock { holder: A }));
    for ticket in [1, 2, 2, 99] {
        waits.remove(ticket);
    }
    assert!(waits.is_empty());
}

#[test]
fn operations_of_one_session_may_wait_for_one_another() {
    let mut waits = Waits::default();
    assert_eq!(waits.add(1, A, &for_leases(&[A])), Ok(()));
    assert!(waits.is_empty());
    assert_eq!(waits.add(2, A, &for_leases(&[A, B])), Ok(()));
    assert_eq!(waits.add(3, B, &for_leases(&[A])), Err(WouldDeadlock { holder: A }));
}
