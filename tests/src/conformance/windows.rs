//! The byte-addressable side, on media that have one.

use super::driver::spread;
use super::{Driver, Make};
use freehold_engine::medium::{BLOCK, ErrorKind, Op};
use freehold_engine::memory::{Access, Piece};
use freehold_engine::pin::{PinState, Waiter};

/// Stores, loads and queues reach the same bytes, at any offset and length.
pub(super) fn a_window_shows_what_queues_write(make: Make<'_>) {
    let medium = make();
    let Some(window) = medium.window() else { return };
    let mut driver = Driver::new(&medium, 2);
    let field = 8 * BLOCK;
    driver.write(0, 8, 1);
    let mut model = driver.pattern(8, 1).to_vec();
    for round in 0..300u64 {
        let at = (spread(round, 1) % field as u64) as usize;
        let most = if round % 2 == 0 { 24 } else { 6000 };
        let len = (spread(round, 2) as usize % most).min(field - at);
        if round % 3 == 0 {
            let bytes: Vec<u8> = (0..len as u64).map(|i| spread(round, i + 3) as u8).collect();
            let (start, len) = (at as u64, len as u64);
            if round % 2 == 0 {
                window.store(start, &bytes).unwrap();
                window.persist(start, len).unwrap();
            } else {
                window.store_nodrain(start, &bytes).unwrap();
                window.drain(&[(start, len)]).unwrap();
            }
            model[at..at + bytes.len()].copy_from_slice(&bytes);
        } else {
            let mut found = vec![0xee; len];
            window.load(at as u64, &mut found).unwrap();
            assert!(found == model[at..at + len], "round {round}: {at}..+{len}");
        }
    }
    assert!(driver.read(0, 8) == model, "a queue reads something else");
}

/// Ranges outside are refused, and a range of nothing is fine anywhere inside.
pub(super) fn a_window_ends_where_the_medium_does(make: Make<'_>) {
    let medium = make();
    let Some(window) = medium.window() else { return };
    let end = medium.geometry().blocks * BLOCK as u64;
    window.store(end - 3, &[1, 2, 3]).unwrap();
    let mut back = [0; 3];
    window.load(end - 3, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3]);
    for at in [end - 2, end, end + 1, u64::MAX - 2, u64::MAX] {
        let kinds = [
            window.store(at, &[0; 3]).unwrap_err().kind(),
            window.load(at, &mut back).unwrap_err().kind(),
            window.persist(at, 3).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Invalid; 3], "at {at}");
    }
    window.store(end, &[]).unwrap();
    window.load(0, &mut []).unwrap();
    window.persist(end, 0).unwrap();
}

/// Where the window is memory, a view shows what was written; while it gives
/// references nothing is written there, and neighbours are.
pub(super) fn r5_a_view_keeps_writers_away(make: Make<'_>) {
    let medium = make();
    let Some(memory) = medium.window_memory() else { return };
    assert_eq!(memory.len(), medium.geometry().blocks * BLOCK as u64);
    let mut driver = Driver::new(&medium, 2);
    driver.write(0, 8, 1);
    let expect = driver.pattern(8, 1);
    let lease = PinState::new(&Waiter::none()).shared();
    let pieces = [Piece::at(2 * BLOCK as u64, 2 * BLOCK as u64)];
    if !memory.gives(Access::Stable) {
        let refused = memory.view(Access::Stable, &pieces, &lease).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        let view = memory.view(Access::Read, &pieces, &lease).unwrap();
        let (pin, mut found) = (view.pin().unwrap(), vec![0; BLOCK]);
        pin.load(BLOCK as u64, &mut found).unwrap();
        assert!(found == expect[3 * BLOCK..4 * BLOCK] && pin.slice(0, 1).is_err());
        return;
    }
    let view = memory.view(Access::Stable, &pieces, &lease).unwrap();
    let pin = view.pin().unwrap();
    let bytes = pin.slice(0, 2 * BLOCK as u64).unwrap();
    assert!(bytes == &expect[2 * BLOCK..4 * BLOCK]);
    let window = medium.window().expect("what is memory is a window");
    for at in [2, 3] {
        let buf = driver.pattern(1, 2);
        driver.submit(7, Op::Write { at, buf, fua: false });
        let done = driver.drain().pop().unwrap();
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::Busy);
        assert!(done.buf.is_some(), "a refused write keeps the buffer");
        let refused = window.store(at * BLOCK as u64, &[1]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
    }
    assert!(bytes == &expect[2 * BLOCK..4 * BLOCK]);
    driver.write(1, 1, 3);
    driver.write(4, 1, 3);
    assert!(driver.read(2, 2) == expect[2 * BLOCK..4 * BLOCK], "reads go on");
    drop(pin);
    drop(view);
    driver.write(2, 2, 4);
}
