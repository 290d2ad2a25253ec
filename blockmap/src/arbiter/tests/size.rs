//! What a lease costs: memory, and the shape of the tree that look-ups go down.

use super::super::intervals::{Intervals, Node};
use super::*;

const MANY: u64 = 10_000;

/// Leases of very different lengths.
fn fill() -> FileArbiter {
    let mut file = FileArbiter::new();
    for i in 0..MANY {
        let at = (i * 7919) % 100_000;
        assert!(file.grant(lease(i + 1, A, Access::Read, span(at, at + (1 << (i % 20))))));
    }
    file
}

#[test]
fn an_idle_lease_takes_64_bytes_and_its_chain_four() {
    let file = fill();
    let bytes = file.held.bytes();
    assert!(bytes <= MANY as usize * 67, "{} bytes for each", bytes as f64 / MANY as f64);
    // Nothing else grows with leases that are idle.
    assert!(file.pending.is_empty() && file.due.is_empty() && file.notes.is_empty());
}

#[test]
fn look_ups_go_down_a_short_way() {
    let mut all = Intervals::default();
    for id in 1..=MANY {
        let mut node = Node::new(id, A, span(id, id + 1)).expect("a small number");
        node.begin(Held::Lease(Access::Read), 1, 0);
        assert!(all.insert(0, node));
    }
    assert!(all.depth(0) < 60, "{}", all.depth(0));
    for id in 1..=MANY {
        let mut found = Vec::new();
        all.find(0, span(id, id + 1), |node| {
            found.push(node.id);
            false
        });
        assert_eq!(found, [id]);
    }
}

#[test]
fn what_is_returned_is_used_again() {
    let mut file = fill();
    let bytes = file.held.bytes();
    for id in (2..=MANY).step_by(2) {
        assert_eq!(file.returned(id), End::Gone(None));
    }
    for id in (2..=MANY).step_by(2) {
        assert!(file.grant(lease(MANY + id, B, Access::Write, span(id, id + 9))));
    }
    assert_eq!(file.held.bytes(), bytes);
    for session in [A, B] {
        for id in file.end_session(session) {
            assert_eq!(file.revoked(id), End::Gone(None));
        }
    }
    assert_eq!((file.is_empty(), file.held.bytes()), (true, 0));
}

#[test]
fn one_writer_finds_the_one_lease_that_matters() {
    let mut file = fill();
    assert!(file.grant(lease(50_000, B, Access::Exclusive, span(400, 401))));
    assert_eq!(ask(&mut file, C, Change::Read, span(0, 500)), recall(&[50_000]));
    assert_eq!(
        ask(&mut file, B, Change::Read, span(0, 500)),
        Answer::Own([50_000].as_slice().into())
    );
    assert_eq!(ask(&mut file, C, Change::Read, span(0, 400)), Answer::Go);
}
