//! The driver against a controller that a test plays itself, so that what is wrong comes
//! at the moment that the test chooses.

mod buffer;
mod fake;
mod region;
mod release;

use super::spec::command::Cqe;
use super::spec::status::Status;
use super::{Timeouts, open_on};
use crate::medium::{Completion, ErrorKind, Medium, Op, Queue};
use fake::Fake;
use std::sync::Arc;
use std::time::Duration;

/// Soon late, for tests of what is.
const SHORT: Duration = Duration::from_millis(60);

fn medium(fake: &Arc<Fake>) -> Arc<dyn Medium> {
    let timeouts = Timeouts { io: SHORT, admin: Duration::from_secs(1) };
    open_on(Arc::<Fake>::clone(fake), 1, timeouts, false).unwrap()
}

fn read(medium: &dyn Medium, queue: &mut dyn Queue, tag: u64) {
    let buf = medium.pool().take(4096).unwrap();
    queue.submit(tag, Op::Read { at: tag, buf }).unwrap();
}

/// Polls until nothing is in flight.
fn drain(queue: &mut dyn Queue) -> Vec<Completion> {
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.wait(Some(Duration::from_secs(5))).unwrap();
        queue.poll(&mut done);
    }
    done.sort_by_key(|completion| completion.tag);
    done
}

fn kind(completion: &Completion) -> Option<ErrorKind> {
    completion.result.as_ref().err().map(|error| error.kind())
}

#[test]
fn a_batch_is_one_doorbell_and_few_heads() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let mut queue = medium.queue(31).unwrap();
    for round in 0..32 {
        for tag in 0..31 {
            read(&*medium, &mut *queue, round + tag);
        }
        let done = drain(&mut *queue);
        assert_eq!(done.len(), 31);
        for completion in done {
            let bytes = completion.buf.unwrap();
            assert_eq!(bytes[..8], completion.tag.to_le_bytes());
        }
    }
    let rings = fake.state().rings;
    assert!((32..=96).contains(&rings), "{rings} doorbells for 32 batches of 31");
}

/// What a completion is that is none: each makes the controller suspect, which is reset
/// once, and every command that was in flight comes back once, with its buffer.
#[test]
fn d4_d10_completions_that_are_none_lead_to_a_reset() {
    type Wrong = fn(&Fake, u16);
    let cases: [(&str, Wrong); 7] = [
        ("unknown place", |f, q| f.state().complete(q, 0x3ff, Status::SUCCESS)),
        ("unknown generation", |f, q| f.state().complete(q, 40 << 10, Status::SUCCESS)),
        ("no command", |f, q| f.state().complete(q, 0xffff, Status::SUCCESS)),
        ("another queue", |f, q| {
            f.state().post(q, |head, phase| Cqe::new(0, head, q + 1, 1, Status::SUCCESS, phase));
        }),
        ("a head beyond the ring", |f, q| {
            f.state().post(q, |_, phase| Cqe::new(0, 999, q, 1, Status::SUCCESS, phase));
        }),
        ("a head that runs ahead", |f, q| {
            f.state().post(q, |head, phase| Cqe::new(0, head + 2, q, 1, Status::SUCCESS, phase));
        }),
        ("a duplicate", |f, q| {
            let cid = f.state().held[0].1.cid();
            f.state().complete(q, cid, Status::SUCCESS);
            f.state().complete(q, cid, Status::SUCCESS);
        }),
    ];
    for (name, wrong) in cases {
        let fake = Fake::new();
        let medium = medium(&fake);
        let mut queue = medium.queue(31).unwrap();
        read(&*medium, &mut *queue, 9);
        assert_eq!(drain(&mut *queue).len(), 1);
        fake.state().obeys = false;
        for tag in 0..4 {
            read(&*medium, &mut *queue, tag);
        }
        queue.ring();
        wrong(&fake, 1);
        fake.state().obeys = true;
        let done = drain(&mut *queue);
        assert_eq!(done.len(), 4, "{name}");
        let good = usize::from(name == "a duplicate");
        let cut = done.iter().filter(|c| kind(c) == Some(ErrorKind::Reset)).count();
        assert_eq!(cut, 4 - good, "{name}: {done:?}");
        assert!(done.iter().all(|c| c.buf.is_some()), "{name}");
        assert_eq!((fake.state().starts, medium.losses()), (2, 0), "{name}");
        // It goes on.
        read(&*medium, &mut *queue, 7);
        let again = drain(&mut *queue);
        assert_eq!(kind(&again[0]), None, "{name}");
        assert_eq!(medium.pool().withheld(), 0);
    }
}

#[test]
fn a_completion_of_what_was_not_rung_is_none() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let mut queue = medium.queue(31).unwrap();
    // Its first command has identifier 0, and the controller was not told of it.
    read(&*medium, &mut *queue, 5);
    fake.state().complete(1, 0, Status::SUCCESS);
    fake.state().obeys = false;
    let mut done = Vec::new();
    let buf = medium.pool().take(4096).unwrap();
    // After the doorbell the entry would name a command that is in flight, so it must be
    // judged before.
    queue.submit(6, Op::Read { at: 6, buf }).unwrap();
    queue.poll(&mut done);
    done.extend(drain(&mut *queue));
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|c| kind(c) == Some(ErrorKind::Reset)), "{done:?}");
}

/// Where a doorbell costs an access to the device, one poll takes in all that has ended and
/// tells of it once.
#[test]
fn without_shadows_a_poll_takes_in_all_there_is() {
    for shadowed in [false, true] {
        let fake = Fake::new();
        fake.state().shadowed = shadowed;
        let medium = medium(&fake);
        let mut queue = medium.queue(31).unwrap();
        (0..31).for_each(|tag| read(&*medium, &mut *queue, tag));
        queue.ring();
        let mut done = Vec::new();
        assert_eq!(queue.poll(&mut done), if shadowed { 8 } else { 31 });
        if !shadowed {
            let rings = fake.state().rings;
            assert!(rings <= 2, "{rings} doorbells: one for the commands, one for what ended");
        }
        done.extend(drain(&mut *queue));
        assert_eq!(done.len(), 31);
        assert!(done.iter().all(|c| c.buf.as_ref().unwrap()[..8] == c.tag.to_le_bytes()));
    }
}

/// Part D, 10: commands are reported only when the device has stopped, each once.
/// With shadows completions are taken in a few at a time: one that is none is found before the
/// doorbell though many good ones stand before it, be it of a command that waits for that
/// doorbell or of one that nobody has submitted yet.
#[test]
fn completions_that_come_too_early_do_not_hide_behind_others() {
    for cid in [1024 + 7, 1024 + 6] {
        let fake = Fake::new();
        fake.state().shadowed = true;
        let medium = medium(&fake);
        let mut queue = medium.queue(31).unwrap();
        fake.state().obeys = false;
        (0..31).for_each(|tag| read(&*medium, &mut *queue, tag));
        queue.ring();
        (0..28).for_each(|cid| fake.state().complete(1, cid, Status::SUCCESS));
        fake.state().complete(1, cid, Status::SUCCESS);
        let mut done = Vec::new();
        let few = queue.poll(&mut done);
        assert!(few > 0 && few < 28, "{few} in one poll");
        assert_eq!(fake.state().starts, 1);
        fake.state().obeys = true;
        // It is given the place, and the next identifier, of the last one that ended.
        assert_eq!(few, 8);
        read(&*medium, &mut *queue, 40);
        queue.poll(&mut done);
        assert_eq!(fake.state().starts, 2, "{cid} was not found before the doorbell");
        done.extend(drain(&mut *queue));
        let cut = done.iter().filter(|c| kind(c) == Some(ErrorKind::Reset)).count();
        assert_eq!((done.len(), cut), (32, 4), "{cid}");
        assert!(done.iter().all(|c| c.buf.is_some()), "{cid}");
        read(&*medium, &mut *queue, 7);
        assert_eq!(kind(&drain(&mut *queue)[0]), None, "{cid}");
    }
}

#[test]
fn d10_a_late_command_leads_to_a_reset_and_is_reported_once() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let (mut one, mut two) = (medium.queue(31).unwrap(), medium.queue(31).unwrap());
    read(&*medium, &mut *one, 1);
    assert_eq!(drain(&mut *one).len(), 1);
    fake.state().obeys = false;
    for tag in 0..3 {
        read(&*medium, &mut *one, tag);
        read(&*medium, &mut *two, tag);
    }
    one.ring();
    two.ring();
    // One of the second queue's completes just before: that is final.
    let cid = fake.state().held.iter().find(|held| held.0 == 2).unwrap().1.cid();
    fake.state().complete(2, cid, Status::SUCCESS);
    let done = drain(&mut *one);
    assert!(done.len() == 3 && done.iter().all(|c| kind(c) == Some(ErrorKind::Reset)));
    assert_eq!(fake.state().starts, 2);
    fake.state().obeys = true;
    let done = drain(&mut *two);
    assert_eq!(done.iter().filter(|c| kind(c).is_none()).count(), 1, "{done:?}");
    assert_eq!(done.iter().filter(|c| kind(c) == Some(ErrorKind::Reset)).count(), 2);
    assert_eq!((fake.state().starts, medium.losses()), (2, 0), "one reset for both");
    for queue in [&mut one, &mut two] {
        read(&*medium, &mut **queue, 8);
        assert_eq!(kind(&drain(&mut **queue)[0]), None);
    }
}

/// Law M4: whatever a lost controller may still write does not come back.
#[test]
fn m4_buffers_of_a_lost_controller_are_withheld() {
    type Break = fn(&Fake);
    let cases: [(&str, Break); 3] = [
        ("the link", |f| f.state().cut = true),
        ("all ones", |f| f.state().vanished = true),
        ("it does not stop", |f| f.state().stuck = true),
    ];
    for (name, spoil) in cases {
        let fake = Fake::new();
        let medium = medium(&fake);
        let mut queue = medium.queue(4).unwrap();
        fake.state().obeys = false;
        for tag in 0..3 {
            read(&*medium, &mut *queue, tag);
        }
        queue.ring();
        // A buffer that the device never had.
        let own = crate::memory::Pool::new().take(4096).unwrap();
        queue.submit(3, Op::Read { at: 3, buf: own }).unwrap();
        queue.ring();
        spoil(&fake);
        let done = drain(&mut *queue);
        assert_eq!(done.len(), 4, "{name}");
        assert!(done.iter().all(|c| kind(c) == Some(ErrorKind::Gone)), "{name}: {done:?}");
        assert!(done[..3].iter().all(|c| c.buf.is_none()), "{name}: {done:?}");
        assert!(done[3].buf.is_some(), "{name}: the bounced buffer is the caller's");
        assert!(medium.pool().withheld() >= 4 * 4096, "{name}");
        assert_eq!(medium.losses(), 1, "{name}");
        let buf = crate::memory::Pool::new().take(4096).unwrap();
        let refused = queue.submit(9, Op::Read { at: 0, buf }).unwrap_err();
        assert_eq!(refused.error.unwrap().kind(), ErrorKind::Gone, "{name}");
        assert_eq!(queue.wait(None).unwrap_err().kind(), ErrorKind::Gone, "{name}");
        assert_eq!(medium.queue(1).unwrap_err().kind(), ErrorKind::Gone, "{name}");
        assert!(medium.pool().take(4096).is_err(), "{name}: lost memory is not handed out");
    }
}

#[test]
fn a_fatal_controller_is_reset_long_before_the_time_out() {
    let fake = Fake::new();
    let timeouts = Timeouts { io: Duration::from_secs(300), ..Timeouts::default() };
    let medium = open_on(Arc::<Fake>::clone(&fake), 1, timeouts, false).unwrap();
    let mut queue = medium.queue(4).unwrap();
    fake.state().obeys = false;
    read(&*medium, &mut *queue, 1);
    queue.ring();
    fake.state().fatal = true;
    let done = drain(&mut *queue);
    assert_eq!(kind(&done[0]), Some(ErrorKind::Reset));
    assert!(done[0].buf.is_some());
    assert_eq!(fake.state().starts, 2);
}

/// Two resets with nothing between them that completed: it is not tried for ever.
#[test]
fn resets_that_help_nothing_end_the_controller_quietly() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let mut queue = medium.queue(4).unwrap();
    fake.state().obeys = false;
    read(&*medium, &mut *queue, 1);
    assert_eq!(kind(&drain(&mut *queue)[0]), Some(ErrorKind::Reset));
    read(&*medium, &mut *queue, 2);
    let done = drain(&mut *queue);
    assert_eq!(kind(&done[0]), Some(ErrorKind::Gone));
    // It was stopped, so the memory is ours again.
    assert!(done[0].buf.is_some());
    assert_eq!(medium.losses(), 1);
}

/// Part D, 4: a queue that is dropped keeps its memory until its commands are quiet.
#[test]
fn d4_a_dropped_queue_is_reaped_by_others_and_used_again() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let mut other = medium.queue(8).unwrap();
    let mut queue = medium.queue(4).unwrap();
    fake.state().obeys = false;
    for tag in 0..3 {
        read(&*medium, &mut *queue, tag);
    }
    drop(queue);
    assert_eq!(fake.state().held.len(), 3, "what was taken was begun");
    other.poll(&mut Vec::new());
    assert_eq!(medium.pool().taken(), 3);
    fake.state().complete_held();
    other.poll(&mut Vec::new());
    assert_eq!(medium.pool().taken(), 0);
    fake.state().obeys = true;
    let mut again = medium.queue(4).unwrap();
    read(&*medium, &mut *again, 1);
    assert_eq!(drain(&mut *again).len(), 1);
    assert_eq!(fake.state().starts, 1);
}

#[test]
fn a_controller_that_cannot_be_driven_is_refused() {
    let fake = Fake::new();
    fake.state().vanished = true;
    let timeouts = Timeouts::default();
    let gone = open_on(Arc::<Fake>::clone(&fake), 1, timeouts, false).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Gone);
    fake.state().vanished = false;
    fake.state().stuck = true;
    let stuck = open_on(Arc::<Fake>::clone(&fake), 1, timeouts, false).unwrap_err();
    assert_eq!(stuck.kind(), ErrorKind::Gone, "{stuck}");
}

/// Without Write Zeroes, zeroes are written: from one page, which a list names as often as
/// a command of the controller's largest size has pages.
#[test]
fn zeroes_are_written_where_they_cannot_be_ordered() {
    let fake = Fake::new();
    fake.state().oncs = 0;
    let medium = medium(&fake);
    let mut queue = medium.queue(8).unwrap();
    fake.state().obeys = false;
    queue.submit(1, Op::WriteZeroes { at: 10, count: 7 }).unwrap();
    queue.ring();
    let state = fake.state();
    let [first, second] = [&state.held[0].1, &state.held[1].1];
    assert_eq!((first.opcode(), first.slba(), first.blocks()), (0x01, 10, 4));
    assert_eq!((second.opcode(), second.slba(), second.blocks()), (0x01, 14, 3));
    let page = first.prp1();
    assert!(state.load(page, 4096).iter().all(|&byte| byte == 0));
    for (command, entries) in [(first, 3), (second, 2)] {
        assert_eq!(command.prp1(), page);
        let list = state.load(command.prp2(), 8 * entries);
        assert!(list.chunks(8).all(|entry| entry == page.to_le_bytes()));
    }
    drop(state);
    fake.state().complete_held();
    let done = drain(&mut *queue);
    assert!(done.len() == 1 && kind(&done[0]).is_none());
    // The others are not there.
    for op in [Op::Deallocate { at: 0, count: 1 }, Op::Copy { from: 0, to: 1, count: 1 }] {
        let refused = queue.submit(2, op).unwrap_err();
        assert_eq!(refused.error.unwrap().kind(), ErrorKind::Unsupported);
    }
}

/// An operation of more commands than the queue has places goes through, and others with it.
#[test]
fn a_long_operation_is_fed_as_places_come_free() {
    let fake = Fake::new();
    let medium = medium(&fake);
    let mut queue = medium.queue(3).unwrap();
    fake.state().obeys = false;
    let buf = medium.pool().take(40 * 4096).unwrap();
    queue.submit(1, Op::Write { at: 0, buf, fua: true }).unwrap();
    queue.submit(2, Op::Flush).unwrap();
    let (mut seen, mut done) = (Vec::new(), Vec::new());
    while queue.in_flight() > 0 {
        queue.poll(&mut done);
        let mut state = fake.state();
        assert!(state.held.len() <= 3);
        // One at a time, the last first.
        if let Some((qid, command)) = state.held.pop() {
            seen.push((command.opcode(), command.slba(), command.fua()));
            state.complete(qid, command.cid(), Status::SUCCESS);
        }
    }
    assert_eq!(done.len(), 2);
    assert_eq!(seen.iter().filter(|s| s.0 == 0).count(), 1, "one flush");
    seen.retain(|s| s.0 != 0);
    seen.sort_unstable();
    assert_eq!(seen, (0..10).map(|n| (1, 4 * n, true)).collect::<Vec<_>>());
}

/// Fields of the controller and of the namespace that a driver goes by: where each lies.
const TOLD: [std::ops::Range<usize>; 8] =
    [0..136, 24..32, 76..80, 92..104, 256..262, 512..544, 128..192, 516..540];

/// Spoils a few bytes, fields that matter more often than others, or all of them.
fn garble(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    let mut draw = move |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % end
    };
    let few = 1 + draw(6);
    let count = if draw(8) == 0 { bytes.len() } else { few };
    for _ in 0..count {
        let range = TOLD[draw(TOLD.len())].clone();
        let at = if count > few { draw(bytes.len()) } else { range.start + draw(range.len()) };
        bytes[at] = [0, 1, 0x7f, 0xff, draw(256) as u8][draw(5)];
    }
}

/// Identify data that lie lead to a refusal or to a medium that makes sense, and I/O on it
/// ends; the fake panics if an address is named that was not mapped.
#[test]
fn any_identify_data_are_refused_or_make_sense() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 1..240 {
        let fake = Fake::new();
        fake.state().garble = Some(garble);
        fake.state().seed = seed;
        let timeouts = Timeouts { io: SHORT, admin: Duration::from_secs(1) };
        let medium = match open_on(Arc::<Fake>::clone(&fake), 1, timeouts, false) {
            Ok(medium) => medium,
            Err(error) => {
                assert!(!error.message().is_empty(), "seed {seed}");
                refused += 1;
                continue;
            }
        };
        let geometry = medium.geometry().clone();
        let most = geometry.max_transfer as usize;
        assert!(geometry.blocks > 0 && geometry.blocks <= u64::MAX >> 12, "seed {seed}");
        assert!(most > 0 && most.is_multiple_of(4096), "seed {seed}: {geometry:?}");
        assert!([512, 4096].contains(&geometry.lba_bytes), "seed {seed}: {geometry:?}");
        assert!((1..=1023).contains(&geometry.max_depth), "seed {seed}: {geometry:?}");
        let mut queue = medium.queue(4).unwrap();
        for at in [0, geometry.blocks - 1] {
            let buf = medium.pool().take(4096).unwrap();
            if queue.submit(at, Op::Read { at, buf }).is_err() {
                assert!(medium.losses() > 0, "seed {seed}: a read of block {at} is refused");
            }
        }
        // A fake with shadow doorbells does not look at them: late, and lost at last.
        let ended = drain(&mut *queue);
        assert!(ended.len() == 2 || medium.losses() > 0, "seed {seed}: {ended:?}");
        opened += 1;
    }
    assert!(opened > 20 && refused > 20, "{opened} opened, {refused} refused");
}

/// Whatever is posted, right or wrong, each operation ends once, with its buffer unless the
/// controller is lost, and nothing panics or hangs.
#[test]
fn any_completions_end_each_operation_once() {
    for seed in 1..40u64 {
        let mut state = seed;
        let mut draw = move |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % end
        };
        let fake = Fake::new();
        let medium = medium(&fake);
        let mut queue = medium.queue(7).unwrap();
        fake.state().obeys = false;
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for tag in 0..120u64 {
            if queue.in_flight() < 7 && medium.losses() == 0 {
                read(&*medium, &mut *queue, tag);
                open.push(tag);
            }
            if draw(3) > 0 {
                queue.ring();
            }
            let mut device = fake.state();
            let held = device.held.len() as u64;
            match draw(12) {
                0 => device.post(1, |head, phase| {
                    let (cid, head) = (draw(1 << 16) as u16, head.wrapping_add(draw(3) as u16));
                    let status = Status(draw(1 << 15) as u16);
                    Cqe::new(draw(9) as u32, head, 1 + draw(9) as u16 / 8, cid, status, phase)
                }),
                1 if held > 0 => {
                    let cid = device.held[draw(held) as usize].1.cid();
                    device.complete(1, cid, Status(draw(4) as u16));
                }
                2..=8 if held > 0 => {
                    let (qid, command) = device.held.swap_remove(draw(held) as usize);
                    device.complete(qid, command.cid(), Status::SUCCESS);
                }
                _ => {}
            }
            drop(device);
            queue.poll(&mut done);
            for completion in done.drain(..) {
                let at = open.iter().position(|&t| t == completion.tag);
                open.swap_remove(at.expect("an operation ended twice, or never began"));
                assert!(completion.buf.is_some(), "seed {seed}: it was stopped, not lost");
            }
            if medium.losses() > 0 {
                break;
            }
        }
        fake.state().obeys = true;
        fake.state().complete_held();
        let ended = drain(&mut *queue).len();
        assert_eq!(ended, open.len(), "seed {seed}");
    }
}
