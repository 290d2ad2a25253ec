//! Faults of a controller: what the driver makes of each.

use super::served::{Served, options};
use freehold_engine::emulator::{Fault, Options};
use freehold_engine::medium::{BLOCK, Completion, ErrorKind, Medium, Op};
use freehold_engine::memory::{Buffer, Pool};
use freehold_tests::conformance::Driver;
use std::sync::Arc;
use std::time::Duration;

/// A time-out that a working emulator keeps with ease.
const SHORT: Duration = Duration::from_millis(400);
/// How often an operation is given again after a reset.
const TRIES: u32 = 20;

fn faulty(faults: &[&str]) -> Options {
    let faults = faults.iter().map(|f| f.parse::<Fault>().expect("a fault")).collect();
    Options { lba: 4096, faults, ..options() }
}

fn kind(completion: &Completion) -> Option<ErrorKind> {
    completion.result.as_ref().err().map(|error| error.kind())
}

/// Writes and reads blocks 0 to 63, eight at a time, giving again what a reset cut off;
/// how many resets were seen.
fn work(medium: &Arc<dyn Medium>, rounds: u64) -> u32 {
    let mut driver = Driver::new(medium, 8);
    let mut resets = 0;
    for round in 0..rounds {
        for first in (0..64).step_by(8) {
            for write in [true, false] {
                let mut left: Vec<u64> = (first..first + 8).collect();
                for attempt in 0.. {
                    assert!(attempt < TRIES, "round {round}: {left:?} never work");
                    for &at in &left {
                        let op = match write {
                            true => Op::Write {
                                at,
                                buf: driver.pattern(1, round * 64 + at),
                                fua: false,
                            },
                            false => Op::Read { at, buf: driver.pattern(1, 1 << 40) },
                        };
                        driver.submit(at, op);
                    }
                    let done = driver.drain();
                    assert_eq!(done.len(), left.len(), "each completes once");
                    left.clear();
                    for completion in done {
                        let at = completion.tag;
                        match (kind(&completion), completion.buf) {
                            (None, Some(buf)) => {
                                let right = driver.pattern(1, round * 64 + at);
                                assert!(buf[..] == right[..], "block {at} in round {round}");
                            }
                            (Some(ErrorKind::Reset), Some(_)) => left.push(at),
                            (other, buf) => panic!("{other:?} with {buf:?}"),
                        }
                    }
                    if left.is_empty() {
                        break;
                    }
                    resets += 1;
                }
            }
        }
    }
    resets
}

#[test]
fn wrong_completions_lead_to_resets_and_no_wrong_bytes() {
    for fault in [
        "duplicate:op=io,every=97",
        "corrupt:what=cid,every=131",
        "corrupt:what=head,every=131",
        "corrupt:what=queue,every=131",
    ] {
        let served = Served::new(faulty(&[fault]));
        let medium = served.try_open(SHORT).unwrap();
        assert!(work(&medium, 4) > 0, "{fault}: no reset was needed");
        assert_eq!(medium.losses(), 0, "{fault}");
        assert_eq!(medium.pool().withheld(), 0, "{fault}");
    }
}

#[test]
fn lost_and_late_completions_lead_to_resets() {
    for fault in ["drop:op=io,every=400", "corrupt:what=phase,every=400", "delay:ms=900,nth=50"] {
        let served = Served::new(faulty(&[fault]));
        let medium = served.try_open(SHORT).unwrap();
        assert!(work(&medium, 4) > 0, "{fault}: no reset was needed");
        assert_eq!(medium.losses(), 0, "{fault}");
    }
}

#[test]
fn a_delay_within_the_time_out_is_none() {
    let served = Served::new(faulty(&["delay:ms=30,every=100"]));
    let medium = served.open();
    assert_eq!(work(&medium, 4), 0);
}

#[test]
fn a_fatal_controller_is_reset() {
    let served = Served::new(faulty(&["fatal:op=write,nth=100"]));
    let medium = served.open();
    assert_eq!(work(&medium, 4), 1);
    assert_eq!(medium.losses(), 0);
}

#[test]
fn error_statuses_end_their_operation_alone() {
    for (fault, expected) in [
        ("status:op=write,nth=1", ErrorKind::Io),
        ("status:op=write,sct=2,sc=0x80,nth=1", ErrorKind::Io),
        ("status:op=write,sct=0,sc=0x81,nth=1", ErrorKind::NoSpace),
        ("status:op=write,sct=0,sc=0x20,nth=1", ErrorKind::Permission),
        ("status:op=write,sct=0,sc=0x82,nth=1", ErrorKind::Reset),
    ] {
        let served = Served::new(faulty(&[fault]));
        let medium = served.open();
        let mut driver = Driver::new(&medium, 8);
        // Of several commands, one fails.
        let buf = driver.pattern(500, 1);
        driver.submit(1, Op::Write { at: 0, buf, fua: false });
        let buf = driver.pattern(1, 2);
        driver.submit(2, Op::Write { at: 600, buf, fua: false });
        let mut done = driver.drain();
        done.sort_by_key(|completion| completion.tag);
        assert_eq!(kind(&done[0]), Some(expected), "{fault}: {:?}", done[0].result);
        assert_eq!(done[0].buf.as_ref().map(Buffer::len), Some(500 * BLOCK), "{fault}");
        assert_eq!(kind(&done[1]), None, "{fault}");
        driver.expect(600, 1, 2);
        driver.write(0, 500, 3);
        driver.expect(0, 500, 3);
    }
}

/// Part D, 3: a controller that vanishes with I/O in flight ends in errors, not in a hang,
/// whether somebody polls, waits, or sleeps on the descriptor. Law M4: what it was given
/// stays withheld. Law M3: it is opened again anew.
#[test]
fn d3_m3_m4_a_vanished_controller_ends_in_errors() {
    for how in ["poll", "wait"] {
        let served = Served::new(faulty(&["vanish:op=write,nth=20"]));
        let medium = served.open();
        let mut driver = Driver::new(&medium, 16);
        driver.write(0, 4, 7);
        for tag in 0..16 {
            driver.submit(tag, Op::Read { at: 0, buf: driver.pattern(1, 0) });
        }
        driver.drain();
        let mut done = Vec::new();
        for round in 0..4 {
            for tag in 0..16 {
                // A lost pool hands nothing out.
                let Ok(buf) = driver.pool.take(BLOCK) else { break };
                let op = Op::Write { at: 16 * round + tag, buf, fua: false };
                if driver.queue.submit(tag, op).is_err() {
                    break;
                }
            }
            while driver.queue.in_flight() > 0 {
                if how == "wait" {
                    driver.queue.wait(None).unwrap();
                }
                driver.queue.poll(&mut done);
            }
        }
        let gone: Vec<_> = done.iter().filter(|c| kind(c) == Some(ErrorKind::Gone)).collect();
        assert!(!gone.is_empty(), "{how}: nothing was lost");
        assert!(gone.iter().all(|c| c.buf.is_none()), "{how}: what may be written came back");
        assert!(medium.pool().withheld() >= gone.len() * BLOCK, "{how}");
        assert_eq!(medium.losses(), 1, "{how}");
        let foreign = Pool::new().take(BLOCK).unwrap();
        let refused = driver.queue.submit(1, Op::Read { at: 0, buf: foreign }).unwrap_err();
        assert_eq!(refused.error.unwrap().kind(), ErrorKind::Gone, "{how}");
        // Opened again, it is another connection with memory of its own.
        drop((driver, done));
        let again = served.open();
        assert_eq!((again.losses(), again.pool().withheld()), (0, 0), "{how}");
        let mut driver = Driver::new(&again, 4);
        driver.write(100, 3, 9);
        driver.expect(100, 3, 9);
    }
}

#[test]
fn namespaces_share_a_controller_and_are_open_once() {
    let sizes = vec![16 << 20, 32 << 20];
    let served = Served::new(Options { namespaces: sizes, ..options() });
    let one = served.open();
    let open = |ns: u32, read_only: bool| {
        let uri = format!("{}?ns={ns}", served.uri());
        let how = freehold_engine::OpenOptions { read_only, ..Default::default() };
        freehold_engine::open(&uri, &how)
    };
    let two = open(2, false).unwrap();
    assert_eq!((one.geometry().blocks, two.geometry().blocks), (4096, 8192));
    assert_eq!(open(1, false).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(open(1, true).unwrap_err().kind(), ErrorKind::Busy);
    let missing = open(3, false).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().contains("[1, 2]"), "{missing}");
    let (mut a, mut b) = (Driver::new(&one, 4), Driver::new(&two, 4));
    a.write(5, 2, 1);
    b.write(5, 2, 2);
    a.expect(5, 2, 1);
    b.expect(5, 2, 2);
    drop((a, one));
    // Its queue serves whoever comes next.
    let one = open(1, true).unwrap();
    let mut reader = Driver::new(&one, 4);
    reader.expect(5, 2, 1);
    let buf = reader.pattern(1, 1);
    let refused = reader.queue.submit(1, Op::Write { at: 0, buf, fua: false }).unwrap_err();
    assert_eq!(refused.error.unwrap().kind(), ErrorKind::Permission);
    open(1, true).unwrap();
}

#[test]
fn a_name_is_formatted_unless_it_carries_something() {
    use freehold_engine::{FormatOptions, format_target};
    let served = Served::new(options());
    let format = |size, force| format_target(&served.uri(), &FormatOptions { size, force });
    assert_eq!(format(Some(1 << 20), false).unwrap_err().kind(), ErrorKind::Invalid);
    {
        let medium = format(None, false).unwrap();
        let mut driver = Driver::new(&medium, 4);
        let mut buf = driver.pool.take(BLOCK).unwrap();
        buf.fill(0);
        buf[..4].copy_from_slice(b"XFSB");
        driver.run(Op::Write { at: 0, buf, fua: true });
    }
    let refused = format(None, false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Occupied);
    assert!(refused.message().contains("XFS"), "{refused}");
    format(None, true).unwrap();
}

#[test]
fn a_medium_tells_what_it_is() {
    let served = Served::new(options());
    let told = served.open().describe().unwrap();
    let find =
        |name: &str| told.iter().find(|fact| fact.name == name).map(|fact| fact.value.to_string());
    let model = find("model").unwrap_or_default();
    assert!(model.contains("Freehold"), "{told:?}");
    assert!(told.iter().any(|fact| fact.group == "health"), "{told:?}");
}
