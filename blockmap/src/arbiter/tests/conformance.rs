//! docs/leases.md against the arbiter: every cell of its tables of conflicts.
//!
//! Each operation of the document is taken apart into the changes that it asks for, on a
//! file of 16 blocks whose last one is filled in part. What it does is the strictest of
//! what its changes do; that is compared with the word in the cell, once by `verdict` and
//! once by asking an arbiter that holds the one lease or seal of the column.

use super::super::*;
use std::collections::BTreeSet;

const TEXT: &str = include_str!("../../../../docs/leases.md");

/// Blocks in the middle; the last block; what follows it.
const MIDDLE: Span = Span { start: 4, end: 8 };
const LAST: Span = Span { start: 15, end: 16 };
const PAST: Span = Span { start: 16, end: 24 };
const FILE: Span = Span { start: 0, end: 16 };

const ME: SessionId = 7;
const OTHER: SessionId = 8;
/// The Write lease of which the row `delegate` delegates, and what the column holds.
const PARENT: Id = 50;
const COLUMN: Id = 51;

/// The changes that an operation asks for; none if the arbiter is not asked.
fn changes(operation: &str, column: Held, own: bool) -> Option<Vec<(Change, Span)>> {
    let one = |change| Some(vec![(change, MIDDLE)]);
    let grant = |access, unshares| one(Change::Grant { access, unshares });
    let set = |kinds| one(Change::Seal { kinds, breakable: false });
    match operation {
        "read" => one(Change::Read),
        "overwrite" => one(Change::Overwrite),
        "overwrite-part" => one(Change::OverwritePart),
        "write-new" | "write-atomic" => one(Change::Fill),
        "append" => {
            Some(vec![(Change::OverwritePart, LAST), (Change::Fill, PAST), (Change::Grow, LAST)])
        }
        "allocate" => one(Change::Allocate),
        "allocate-past" => Some(vec![(Change::Allocate, PAST), (Change::Grow, LAST)]),
        "truncate-down" => Some(vec![(Change::Cut, MIDDLE), (Change::Shrink, MIDDLE)]),
        "truncate-up" => Some(vec![(Change::Grow, LAST)]),
        "punch" | "zero" => one(Change::Cut),
        "collapse" => Some(vec![(Change::Cut, MIDDLE), (Change::Shrink, MIDDLE)]),
        "insert" => Some(vec![(Change::Cut, MIDDLE), (Change::Grow, LAST)]),
        "reflink-from" | "reflink-range-from" => one(Change::ReflinkFrom),
        "reflink-range-onto" => one(Change::ReflinkOnto),
        "rename-over" | "unlink" => one(Change::Unlink),
        "grant-read" => grant(Access::Read, false),
        "grant-stable" => grant(Access::Stable, false),
        "grant-write" => grant(Access::Write, false),
        "grant-write-new" => grant(Access::Write, true),
        "grant-exclusive" => grant(Access::Exclusive, false),
        "grant-exclusive-new" => grant(Access::Exclusive, true),
        "delegate" => match column {
            Held::Lease(access) if own => one(Change::Delegate { access, parent: COLUMN }),
            _ => one(Change::Delegate { access: Access::Write, parent: PARENT }),
        },
        "set-layout" => set(Kinds::LAYOUT),
        "set-shrink" => set(Kinds::SHRINK),
        "set-grow" => set(Kinds::GROW),
        "set-write" => set(Kinds::WRITE),
        "set-future-write" => set(Kinds::FUTURE_WRITE),
        "set-seal" => set(Kinds::SEAL),
        "defrag" => one(Change::Relocate),
        "close-store" => Some(vec![(Change::Close, Span::WHOLE)]),
        _ => None,
    }
}

/// What the document says of operations that do not ask the arbiter.
fn unasked(operation: &str, own: bool) -> Option<&'static str> {
    Some(match (operation, own) {
        ("rename" | "sync" | "diff" | "iomap" | "check" | "checkpoint" | "close-file", _) => "on",
        ("reflink-onto", _) => "Exists",
        ("session-end" | "process-exit" | "fork", false) => "on",
        ("session-end", true) => "drops",
        ("process-exit", true) => "gone",
        ("fork", true) => "ForkedChild",
        _ => return None,
    })
}

fn columns(heading: &str) -> Vec<Held> {
    let column = |name: &str| {
        let (kinds, mark) = match name.strip_suffix(['!', '?']) {
            Some(bare) => (bare, name.ends_with('?')),
            None => (name, false),
        };
        let access = Access::ALL.into_iter().find(|access| format!("{access:?}") == kinds);
        match (access, Kinds::from_name(kinds)) {
            (Some(access), _) => Held::Lease(access),
            (None, Some(kinds)) => Held::Seal { kinds, breakable: mark },
            (None, None) => panic!("the column {name:?} is not known"),
        }
    };
    cells(heading).skip(1).map(column).collect()
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'))
}

/// Calls for every cell of both tables: operation, column, own, word.
fn each_cell(mut f: impl FnMut(&str, Held, bool, &str)) -> usize {
    let mut count = 0;
    for (title, own) in [("### Table A", false), ("### Table B", true)] {
        let table = &TEXT[TEXT.find(title).expect("the table is there")..];
        let mut lines = table.lines().skip_while(|line| !line.starts_with('|'));
        let columns = columns(lines.next().unwrap());
        let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
        for row in rows {
            let operation = cells(row).next().unwrap();
            let words: Vec<&str> = cells(row).skip(1).collect();
            assert_eq!(words.len(), columns.len(), "{operation}");
            for (word, column) in words.iter().zip(&columns) {
                f(operation, *column, own, word);
                count += 1;
            }
        }
    }
    count
}

fn word(cell: Cell) -> &'static str {
    match cell {
        Cell::On => "on",
        Cell::Round => "goes round",
        Cell::Refresh => "refresh",
        Cell::Take => "take",
        Cell::Recall => "recall",
        Cell::Drain => "recall, drain",
        Cell::RecallElseBusy => "recall, else Busy",
        Cell::Busy => "Busy",
        Cell::Sealed => "Sealed",
    }
}

/// Where the column's lease or seal lies: seals reach past the end.
fn range(held: Held) -> Span {
    match held {
        Held::Lease(_) => FILE,
        Held::Seal { .. } => Span::WHOLE,
    }
}

/// A word of the tables for which the arbiter only says "on".
fn said_on(operation: &str, word: &str) -> bool {
    matches!(
        (operation, word),
        ("unlink" | "rename-over", "name goes")
            | ("delegate", "suspends")
            | ("close-store", "drops")
    )
}

#[test]
fn table_of_the_document_is_the_verdict() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let count = each_cell(|operation, column, own, said| {
        seen.insert(operation.to_owned());
        if said == "-" {
            return;
        }
        let Some(changes) = changes(operation, column, own) else {
            assert_eq!(unasked(operation, own), Some(said), "{operation} {column:?}");
            return;
        };
        let met = |(change, at): &(Change, Span)| {
            let of_file = matches!(column, Held::Seal { .. });
            let own_parent = matches!(change, Change::Delegate { parent: COLUMN, .. });
            match of_file || at.overlaps(range(column)) {
                true if !own_parent => verdict(*change, column, own),
                _ => Cell::On,
            }
        };
        let cell = changes.iter().map(met).max().unwrap_or(Cell::On);
        let says = if said_on(operation, said) { "on" } else { said };
        if word(cell) != says {
            wrong.push(format!("{operation} {column:?} own={own}: {said} / {}", word(cell)));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, seen.len() * 26, "16 columns and 10");
    assert!(seen.len() >= 40, "only {} operations were found", seen.len());
}

/// An arbiter with what the column holds.
fn scene(operation: &str, column: Held, own: bool) -> FileArbiter {
    let mut file = FileArbiter::new();
    let session = if own { ME } else { OTHER };
    let lease = |id, session, access| LeaseEntry {
        id,
        session,
        access,
        span: FILE,
        seq: 1,
        max_hold_ns: 0,
        parent: None,
    };
    if operation == "delegate" && !(own && matches!(column, Held::Lease(_))) {
        assert!(file.grant(lease(PARENT, ME, Access::Write)));
    }
    assert!(match column {
        Held::Lease(access) => file.grant(lease(COLUMN, session, access)),
        Held::Seal { kinds, breakable } => {
            file.seal(SealEntry { id: COLUMN, session, kinds, span: Span::WHOLE, breakable })
        }
    });
    file
}

/// The strictness of an answer, and the words that it may stand for.
fn words_of(answer: &Answer) -> (u8, &'static [&'static str]) {
    match answer {
        Answer::Go => (0, &["on"]),
        Answer::Round(_) => (1, &["goes round"]),
        Answer::Own(_) => (2, &["refresh"]),
        Answer::Take(_) => (3, &["take"]),
        Answer::Recall(_) => (4, &["recall", "recall, drain", "recall, else Busy"]),
        Answer::Behind(_) => (5, &[]),
        Answer::Refused(Refusal::Busy(_)) => (6, &["Busy"]),
        Answer::Refused(Refusal::Sealed(_)) => (7, &["Sealed"]),
        Answer::Refused(_) => (8, &[]),
    }
}

#[test]
fn table_of_the_document_is_what_the_arbiter_answers() {
    each_cell(|operation, column, own, said| {
        let asked = changes(operation, column, own).filter(|_| said != "-");
        let Some(asked) = asked else { return };
        let mut file = scene(operation, column, own);
        let session = match operation {
            // The delegate is for somebody else; whose seals are own is told by the parent.
            "delegate" if !own => 9,
            _ => ME,
        };
        let before = file.state(COLUMN);
        let answers = asked.iter().map(|(change, span)| {
            let r = Request { session, change: *change, spans: &[*span], ticket: 0 };
            file.admit(&r, 0)
        });
        let answers: Vec<Answer> = answers.collect();
        let (_, words) = answers.iter().map(words_of).max().unwrap();
        let says = if said_on(operation, said) { "on" } else { said };
        assert!(words.contains(&says), "{operation} {column:?} own={own}: {said}, {answers:?}");
        for answer in &answers {
            match answer {
                Answer::Recall(ids) | Answer::Take(ids) | Answer::Own(ids) => {
                    assert_eq!(ids[..], [COLUMN], "{operation}");
                }
                Answer::Refused(Refusal::Sealed(holder) | Refusal::Busy(holder)) => {
                    assert_eq!((holder.id, holder.span), (COLUMN, Span::WHOLE));
                }
                _ => {}
            }
        }
        assert_eq!(file.state(COLUMN), before, "asking changes nothing");
    });
}

#[test]
fn table_row_delegate_suspends_an_exclusive_parent_alone() {
    for access in Access::ALL {
        let mut file = scene("delegate", Held::Lease(access), true);
        let child = LeaseEntry {
            id: 60,
            session: OTHER,
            access,
            span: MIDDLE,
            seq: 1,
            max_hold_ns: 0,
            parent: Some(COLUMN),
        };
        assert!(file.grant(child));
        assert_eq!(file.suspended(COLUMN), access == Access::Exclusive);
        assert_eq!(file.returned(60), End::Gone(Some(COLUMN)));
        assert!(!file.suspended(COLUMN));
    }
}

#[test]
fn table_row_session_end_drops_what_is_its_own() {
    each_cell(|operation, column, own, said| {
        if operation != "session-end" {
            return;
        }
        let mut file = scene(operation, column, own);
        let ended = file.end_session(ME);
        let state = file.state(COLUMN);
        match (said, column) {
            ("on", _) => assert_eq!((ended.len(), state), (0, Some(State::Held { seq: 1 }))),
            ("drops", Held::Lease(_)) => {
                assert_eq!((&ended[..], state), (&[COLUMN][..], Some(State::Fencing { seq: 2 })));
            }
            ("drops", Held::Seal { .. }) => assert_eq!((ended.len(), state), (0, None)),
            _ => panic!("{said}"),
        }
    });
}

#[test]
fn table_of_the_gate_is_what_the_flags_say() {
    let flags = |held| scene("", held, false).flags();
    let seal = |kinds| flags(Held::Seal { kinds, breakable: false });
    let table = &TEXT[TEXT.find("| what stands on a file").expect("the table is there")..];
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let (what, raises) = row.trim_matches('|').split_once('|').unwrap();
        let bit = |name: &str, bit| {
            if raises.contains(&format!("`{name}`")) { bit } else { Flags::empty() }
        };
        let said = match raises.trim() {
            "all" => Flags::all(),
            _ => {
                bit("MAP", Flags::MAP)
                    | bit("WRITE", Flags::WRITES)
                    | bit("READ", Flags::READS)
                    | bit("HOME", Flags::HOME)
            }
        };
        let mut found = 0;
        for (name, kinds) in Kinds::all().iter_names() {
            if what.split([' ', ',', ';']).any(|word| word == name) {
                assert_eq!(seal(kinds), said, "{what}");
                found += 1;
            }
        }
        for access in Access::ALL {
            if what.contains("leases") && what.contains(&format!("{access:?}")) {
                assert_eq!(flags(Held::Lease(access)), said, "{what}");
                found += 1;
            }
        }
        assert!(found > 0 || what.contains("quarantine"), "{what}");
    }
}
