//! Random histories of one file, by the arbiter and by the oracle.

use super::oracle::Oracle;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Blocks of the file that histories are about.
pub(super) const BLOCKS: u64 = 24;

const LEASE_TIME: u64 = 1_000_000;

const MS: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        session: SessionId,
        change: Change,
        /// A second change of the same operation.
        also: Option<Change>,
        spans: Vec<Span>,
        ticket: u64,
    },
    /// Asks, and grants or seals if it may.
    Hold {
        session: SessionId,
        change: Change,
        span: Span,
        hold: u64,
        ticket: u64,
    },
    List {
        session: SessionId,
        change: Change,
        spans: Vec<Span>,
        ticket: u64,
        going: bool,
    },
    Leave(u64),
    /// To one of the ids that were given out.
    To(usize, Act),
    EndSession(SessionId),
    Pass(u64),
}

#[derive(Debug, Clone)]
enum Act {
    Recall,
    Returned,
    Take,
    Stale,
    Refresh,
    Withdraw,
    Partial(Span),
    Fencing,
    Revoked,
    Clear(SessionId),
    Delegate(SessionId, Access, Span),
    MakeGood(bool),
}

fn spans() -> impl Strategy<Value = Span> {
    let some = (0..BLOCKS, 0..9u64).prop_map(|(at, len)| span(at, (at + len).min(BLOCKS)));
    prop_oneof![9 => some, 1 => Just(span(0, BLOCKS))]
}

fn sessions() -> impl Strategy<Value = SessionId> {
    1..4u64
}

fn accesses() -> impl Strategy<Value = Access> {
    (0..4usize).prop_map(|i| Access::ALL[i])
}

fn held_changes() -> impl Strategy<Value = Change> {
    let grant = (accesses(), any::<bool>())
        .prop_map(|(access, unshares)| Change::Grant { access, unshares });
    let seal = (0..64u8, any::<bool>()).prop_map(|(bits, breakable)| {
        // Two kinds as a rule.
        let kinds = Kinds::from_bits_truncate(bits & (bits >> 1) | 1 << (bits % 6));
        Change::Seal { kinds, breakable }
    });
    prop_oneof![3 => grant, 1 => seal]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => prop::sample::select(vec![
            Change::Read,
            Change::Overwrite,
            Change::OverwritePart,
            Change::Fill,
            Change::Allocate,
            Change::Cut,
            Change::Grow,
            Change::Shrink,
            Change::ReflinkFrom,
            Change::ReflinkOnto,
            Change::Unlink,
            Change::Relocate,
            Change::Close,
        ]),
        4 => held_changes(),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Recall),
        1 => Just(Act::Returned),
        2 => Just(Act::Take),
        1 => Just(Act::Stale),
        1 => Just(Act::Refresh),
        2 => Just(Act::Withdraw),
        3 => spans().prop_map(Act::Partial),
        1 => Just(Act::Fencing),
        2 => Just(Act::Revoked),
        1 => sessions().prop_map(Act::Clear),
        6 => (sessions(), accesses(), spans()).prop_map(|(s, a, at)| Act::Delegate(s, a, at)),
        1 => any::<bool>().prop_map(Act::MakeGood),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let many = || prop::collection::vec(spans(), 0..3);
    let tickets = || prop_oneof![Just(0), 1..20u64];
    prop_oneof![
        4 => (sessions(), changes(), prop::option::of(changes()), many(), tickets()).prop_map(
            |(session, change, also, spans, ticket)| {
                Step::Ask { session, change, also, spans, ticket }
            },
        ),
        6 => (sessions(), held_changes(), spans(), 0..500u64, tickets()).prop_map(
            |(session, change, span, hold, ticket)| {
                Step::Hold { session, change, span, hold: hold * MS, ticket }
            },
        ),
        1 => (sessions(), changes(), many(), tickets(), any::<bool>()).prop_map(
            |(session, change, spans, ticket, going)| {
                Step::List { session, change, spans, ticket, going }
            },
        ),
        3 => (1..20u64).prop_map(Step::Leave),
        12 => (any::<prop::sample::Index>(), acts()).prop_map(|(i, act)| Step::To(i.index(1 << 16), act)),
        1 => sessions().prop_map(Step::EndSession),
        2 => (1..400 * MS).prop_map(Step::Pass),
    ]
}

#[derive(Debug, Default)]
struct World {
    file: FileArbiter,
    oracle: Oracle,
    now: u64,
    ids: Id,
}

impl World {
    fn ask(&mut self, r: &Request) -> Answer {
        self.ask_all(&[*r])
    }

    fn ask_all(&mut self, changes: &[Request]) -> Answer {
        let said = self.file.admit_all(changes, self.now);
        match (&said, self.oracle.admit(changes)) {
            (Answer::Refused(_), Answer::Refused(_)) => {}
            (_, expected) => assert_eq!(said, expected, "{changes:?}"),
        }
        said
    }

    /// Grants or seals what was asked for.
    fn hold(&mut self, r: &Request, hold: u64, parent: Option<Id>) {
        let go = self.ask(r) == Answer::Go;
        let (Some(held), span, session) = (self.oracle.makes(r.change), r.spans[0], r.session)
        else {
            return;
        };
        if !go {
            return;
        }
        let id = self.ids + 1;
        let (added, span) = match held {
            Held::Lease(access) => {
                let entry =
                    LeaseEntry { max_hold_ns: hold, parent, ..lease(id, session, access, span) };
                (self.file.grant(entry), span)
            }
            Held::Seal { kinds, breakable } => {
                let of_file = Kinds::OF_FILE.contains(kinds);
                let added = self.file.seal(seal(id, session, kinds, span, breakable));
                (added, if of_file { Span::WHOLE } else { span })
            }
        };
        assert_eq!(added, !span.is_empty());
        if added {
            self.ids = id;
            let hold = if matches!(held, Held::Lease(_)) { hold } else { 0 };
            self.oracle.add(id, session, held, span, (hold, parent));
        }
    }

    fn act(&mut self, id: Id, act: Act) {
        let (file, oracle, now) = (&mut self.file, &mut self.oracle, self.now);
        let is_lease = oracle.thing(id).is_some_and(|t| matches!(t.held, Held::Lease(_)));
        let fencing = matches!(oracle.state(id), Some(State::Fencing { .. }));
        match act {
            Act::Recall => {
                file.recall(id, now, LEASE_TIME);
                oracle.recall(id, now, LEASE_TIME);
            }
            Act::Returned => {
                file.returned(id);
                oracle.returned(id);
            }
            Act::Take => {
                let end = file.take(id);
                assert_eq!(end != End::Nothing, is_lease);
                if is_lease {
                    oracle.end(id, Some(|seq| State::Taken { seq }));
                }
            }
            Act::Stale => {
                file.stale(id);
                oracle.renew(id, true);
            }
            Act::Refresh => {
                file.refresh(id);
                oracle.renew(id, false);
            }
            Act::Withdraw => {
                file.withdraw(id);
                oracle.withdraw(id);
            }
            Act::Partial(keep) => {
                file.partial(id, keep, now);
                oracle.partial(id, keep, now);
            }
            Act::Fencing => {
                file.fencing(id);
                oracle.fencing(id);
            }
            Act::Revoked => {
                let end = file.revoked(id);
                assert_eq!(end != End::Nothing, fencing);
                if fencing {
                    oracle.end(id, Some(|seq| State::Revoked { seq }));
                }
            }
            Act::Clear(session) => {
                let owned = oracle.thing(id).is_some_and(|t| t.session == session);
                let cleared = file.clear(id, session).is_ok();
                assert_eq!(cleared, owned && !is_lease);
                if cleared {
                    oracle.end(id, None);
                }
            }
            Act::Delegate(session, access, span) => {
                let change = Change::Delegate { access, parent: id };
                let within = self.oracle.thing(id).map_or(span, |t| span.common(t.span));
                let r = Request { session, change, spans: &[within], ticket: 0 };
                // Some of them declare more time than their parent did.
                self.hold(&r, span.start * 20 * MS, Some(id));
            }
            Act::MakeGood(unshares) => {
                let Some(thing) = oracle.thing(id) else { return };
                let (session, at) = (thing.session, [thing.span]);
                let change = Change::Refresh { lease: id, unshares };
                self.ask(&Request { session, change, spans: &at, ticket: 0 });
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask { session, change, also, spans, ticket } => {
                let r = Request { session, change, spans: &spans, ticket };
                let also =
                    also.filter(|also| [*also, change].iter().all(|c| *c != Change::Relocate));
                match also {
                    Some(also) => self.ask_all(&[r, Request { change: also, ..r }]),
                    None => self.ask(&r),
                };
            }
            Step::Hold { session, change, span, hold, ticket } => {
                let r = Request { session, change, spans: &[span], ticket };
                self.hold(&r, hold, None);
            }
            Step::List { session, change, spans, ticket, going } => {
                let r = Request { session, change, spans: &spans, ticket };
                if going {
                    self.file.begin(&r)
                } else {
                    self.file.wait(&r)
                }
                self.oracle.list(&r, going);
            }
            Step::Leave(ticket) => {
                self.file.leave(ticket);
                self.oracle.leave(ticket);
            }
            Step::To(i, act) => {
                // As a rule one that is there; one past the last is not known.
                let there = self.oracle.things.get(i % (self.oracle.things.len() + 1));
                let id = there.map_or(i as Id % (self.ids + 1) + 1, |thing| thing.id);
                self.act(id, act);
            }
            Step::EndSession(session) => {
                self.file.end_session(session);
                self.oracle.end_session(session);
            }
            Step::Pass(time) => {
                self.now += time;
                let due: Vec<Id> = self.file.overdue(self.now).collect();
                for id in due {
                    self.act(id, Act::Fencing);
                }
            }
        }
        self.compare();
    }

    /// All that can be seen of both.
    fn compare(&self) {
        let (file, oracle) = (&self.file, &self.oracle);
        for id in 0..self.ids + 2 {
            assert_eq!(file.state(id), oracle.state(id), "{id}");
            assert_eq!(file.parent(id), oracle.thing(id).and_then(|t| t.parent), "{id}");
        }
        let mut entries: Vec<Entry> = file.leases().chain(file.seals()).collect();
        entries.sort_unstable_by_key(|entry| entry.holder.id);
        let mut things = oracle.things.clone();
        things.sort_unstable_by_key(|thing| thing.id);
        assert_eq!(entries.len(), things.len());
        for (entry, thing) in entries.iter().zip(&things) {
            let holder =
                Holder { session: thing.session, id: thing.id, held: thing.held, span: thing.span };
            assert_eq!(*entry, Entry { holder, state: thing.state });
            assert_eq!(file.entry(thing.id), Some(*entry));
        }
        let due = oracle.deadlines();
        assert_eq!(file.next_deadline(), due.first().map(|(deadline, _)| *deadline));
        let overdue: Vec<Id> = file.overdue(self.now).collect();
        let expected = due.iter().filter(|(deadline, _)| *deadline <= self.now);
        assert_eq!(overdue, expected.map(|(_, id)| *id).collect::<Vec<Id>>());
        assert_eq!(file.is_empty(), oracle.is_empty());
        // A delegate's deadline is never later than its parent's.
        for thing in &things {
            let parent = thing.parent.and_then(|parent| oracle.state(parent));
            if let (
                State::Recalled { deadline, .. },
                Some(State::Recalled { deadline: above, .. }),
            ) = (thing.state, parent)
            {
                assert!(deadline <= above, "{thing:?}");
            }
        }
    }
}

/// `FREEHOLD_SEEDS=A..B`, or what is run by default. A seed is 500 histories.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("FREEHOLD_SEEDS") else { return 0..8 };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be A..B, not {text:?}"))
}

#[test]
fn random_histories_agree_with_the_oracle() {
    for seed in seeds() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        let histories = prop::collection::vec(steps(), 1..120);
        let outcome = TestRunner::new_with_rng(config, rng).run(&histories, |steps| {
            let mut world = World::default();
            steps.into_iter().for_each(|step| world.step(step));
            Ok(())
        });
        if let Err(failure) = outcome {
            let next = seed + 1;
            panic!(
                "{failure}\nagain: FREEHOLD_SEEDS={seed}..{next} \
                 cargo test -p freehold-blockmap random_histories"
            );
        }
    }
}
