//! Leases as their holders see them.
use freehold::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn file(store: &Store, name: &[u8], blocks: usize) -> File {
    let file = store.create(name).unwrap();
    file.write_at(&vec![7; blocks * 4096], 0).unwrap();
    file.sync().unwrap();
    file
}

fn store() -> Store {
    Store::format("mem:16M", &Default::default()).unwrap()
}

fn lease(file: &File, access: Access) -> Lease {
    file.lease(.., access, &LeaseOptions::default()).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Its own session reflinks the file: the blocks of a Write lease move when it is next
/// used, and its window shows the new ones.
#[test]
fn a_window_follows_its_lease() {
    let store = store();
    for access in Access::ALL {
        let name = format!("{access:?}");
        let file = file(&store, name.as_bytes(), 4);
        let lease = lease(&file, access);
        let mut buffer = lease.buffer(Memory::Window).unwrap();
        drop(buffer.pin().unwrap());
        let copy = file.reflink(format!("{name} copy").as_bytes()).unwrap();
        file.write_at(&[8; 8192], 4096).unwrap();
        assert_eq!(lease.state(), LeaseState::Stale, "{access:?}");
        let mut bytes = [0; 16384];
        buffer.pin().unwrap().load(0, &mut bytes).unwrap();
        let expected = [vec![7; 4096], vec![8; 8192], vec![7; 4096]].concat();
        assert!(bytes[..] == expected, "{access:?}");
        assert_eq!((lease.state(), lease.seq() > 1), (LeaseState::Held, true));
        if access.writes() {
            buffer.pin_mut().unwrap().store(5000, b"new").unwrap();
            drop((buffer, lease));
            let mut got = [0; 3];
            file.read_at(&mut got, 5000).unwrap();
            assert_eq!(&got, b"new");
            copy.read_at(&mut got, 5000).unwrap();
            assert_eq!(got, [7; 3], "the copy is as it was");
        }
    }
    assert!(store.check().unwrap().clean());
}

#[test]
fn what_is_returned_in_part_is_not_reached_any_more() {
    let store = store();
    let file = file(&store, b"f", 4);
    let lease = lease(&file, Access::Stable);
    let buffer = lease.buffer(Memory::Window).unwrap();
    lease.return_part(4096..8192).unwrap();
    let pin = buffer.pin().unwrap();
    assert_eq!(pin.parts().map(<[u8]>::len).sum::<usize>(), 4096);
    assert_eq!(kind(pin.load(4096, &mut [0; 1])), ErrorKind::Invalid);
    // Another session writes what is free, and is kept from the rest.
    let other = store.new_session().unwrap().open_file(b"f").unwrap();
    other.write_at(&[1; 4096], 8192).unwrap();
    drop(pin);
    drop((buffer, lease));
    other.write_at(&[1; 4096], 4096).unwrap();
}

#[test]
fn an_exclusive_lease_rests_while_it_has_delegates() {
    let store = store();
    let file = file(&store, b"f", 4);
    let whole = lease(&file, Access::Exclusive);
    let mut buffer = whole.buffer(Memory::Window).unwrap();
    let helper = store.new_session().unwrap();
    let pin = buffer.pin_mut().unwrap();
    assert_eq!(kind(whole.delegate(&helper, 0..4096, Access::Write)), ErrorKind::Busy);
    drop(pin);
    let part = whole.delegate(&helper, 4096..8192, Access::Exclusive).unwrap();
    assert_eq!(whole.state(), LeaseState::Suspended);
    assert_eq!(kind(buffer.pin()), ErrorKind::Busy);
    let mut below = part.buffer(Memory::Window).unwrap();
    below.pin_mut().unwrap().store(0, b"helped").unwrap();
    assert_eq!(kind(whole.delegate(&helper, 0..4097, Access::Read)), ErrorKind::Invalid);
    drop((below, part));
    assert_eq!(buffer.pin().unwrap().slice(4096, 6).unwrap(), b"helped");
    assert_eq!(whole.state(), LeaseState::Held);
}

#[test]
fn a_registration_without_a_holder_stays_until_its_action_has_run() {
    let store = store();
    store.set_lease_time(Duration::from_millis(1));
    let session = store.new_session().unwrap();
    file(&store, b"f", 1);
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let mine = session.open_file(b"f").unwrap();
    let options = LeaseOptions { max_hold: Duration::ZERO };
    let lease = mine.lease(.., Access::Read, &options).unwrap();
    let registration = lease.register(move || match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    drop(registration.unwrap());
    drop((lease, mine, session));
    assert_eq!(store.inflight().leases[0].registered, 1);
    let file = store.open_file(b"f").unwrap();
    assert_eq!(kind(file.truncate(0)), ErrorKind::Busy);
    assert_eq!(file.size(), 4096);
    file.truncate(0).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(store.inflight().is_empty() && store.leases().is_empty());
}

#[test]
fn bytes_keep_their_lease() {
    let store = store();
    let file = file(&store, b"f", 2);
    let session = store.new_session().unwrap();
    store.set_lease_time(Duration::from_millis(1));
    let theirs = session.open_file(b"f").unwrap();
    let options = LeaseOptions { max_hold: Duration::ZERO };
    let lease = theirs.lease(.., Access::Stable, &options).unwrap();
    let bytes = lease.buffer(Memory::Window).unwrap().into_bytes().unwrap();
    drop((lease, theirs));
    assert_eq!(store.leases().len(), 1);
    // The blocks are kept for who reads them, and the file goes on without them.
    file.write_at(&[9; 8192], 0).unwrap();
    assert_eq!(bytes[..], [7; 8192]);
    assert_eq!(store.space().quarantined, 8192);
    let mut now = [0; 8192];
    file.read_at(&mut now, 0).unwrap();
    assert_eq!(now, [9; 8192]);
    drop(bytes);
    store.sync().unwrap();
    assert_eq!(store.space().quarantined, 0);
    assert!(store.check().unwrap().clean());
}

#[test]
fn what_was_not_flushed_can_be_salvaged() {
    let store = store();
    store.set_lease_time(Duration::from_millis(1));
    let file = file(&store, b"f", 1);
    let session = store.new_session().unwrap();
    let theirs = session.open_file(b"f").unwrap();
    let options = LeaseOptions { max_hold: Duration::ZERO };
    let lease = theirs.lease(.., Access::Write, &options).unwrap();
    let mut buffer = lease.buffer(Memory::Dma).unwrap();
    buffer.pin_mut().unwrap().store(0, &[3; 4096]).unwrap();
    assert!(buffer.is_dirty());
    file.truncate(0).unwrap();
    assert_eq!(kind(buffer.pin()), ErrorKind::Revoked);
    let mut queue = store.queue(1).unwrap();
    queue.flush(buffer, 5).unwrap();
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).unwrap();
    }
    assert_eq!(done[0].result.as_ref().unwrap_err().kind(), ErrorKind::Revoked);
    let buffer = done[0].take_lease().unwrap();
    assert!(buffer.is_dirty() && done[0].take_lease().is_none());
    theirs.write_at(&buffer.salvage().unwrap(), 0).unwrap();
    let mut bytes = [0; 4096];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [3; 4096]);
    assert_eq!(session.events().len(), 1, "revoked: there was nothing to flush to");
}

#[test]
fn a_window_is_filled_and_persisted_at_once() {
    let store = store();
    let file = file(&store, b"f", 1);
    let lease = lease(&file, Access::Write);
    let mut queue = store.queue(1).unwrap();
    let mut done = Vec::new();
    let mut buffer = lease.buffer(Memory::Auto).unwrap();
    assert!(buffer.is_window());
    for tag in 0..3 {
        let taken = match tag {
            0 => queue.fill(buffer, tag),
            1 => queue.flush(buffer, tag),
            _ => queue.persist(buffer, tag),
        };
        taken.unwrap();
        queue.wait(None).unwrap();
        assert_eq!(queue.poll(&mut done), 1);
        let mut c = done.pop().unwrap();
        assert_eq!((c.tag, c.result.as_ref().unwrap()), (tag, &4096));
        buffer = c.take_lease().unwrap();
    }
    let read = self::lease(&file, Access::Read).buffer(Memory::Dma).unwrap();
    let refused = queue.flush(read, 9).unwrap_err();
    assert_eq!(refused.error.unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn a_session_ends_with_all_that_it_held() {
    let store = store();
    let file = file(&store, b"f", 1);
    let session = store.new_session().unwrap();
    let theirs = session.open_file(b"f").unwrap();
    let seal = theirs.seal(Kinds::WRITE, .., &SealOptions::default()).unwrap();
    let lease = lease(&theirs, Access::Read);
    assert_eq!(kind(file.write_at(&[0; 1], 0)), ErrorKind::Sealed);
    session.end().unwrap();
    assert!(!seal.is_set() && store.leases().is_empty());
    assert_eq!(kind(lease.buffer(Memory::Auto).map(drop)), ErrorKind::Recalled);
    assert_eq!(kind(theirs.lease(.., Access::Read, &Default::default())), ErrorKind::Invalid);
    assert_eq!(kind(store.session().end()), ErrorKind::Invalid);
    file.write_at(&[0; 1], 0).unwrap();
}

#[test]
fn a_store_does_not_close_under_a_pin() {
    let store = store();
    store.set_lease_time(Duration::from_millis(1));
    let file = file(&store, b"f", 1);
    let lease = lease(&file, Access::Read);
    drop(file);
    let buffer = lease.buffer(Memory::Auto).unwrap();
    let pin = buffer.pin().unwrap();
    let error = store.recall().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("lease"), "{error}");
    drop(pin);
    store.close().unwrap();
    assert_eq!(kind(buffer.pin()), ErrorKind::Recalled);
}

/// A reflink waits for a page that this session must flush; this session asks for another
/// page, and would wait behind the reflink.
#[test]
fn a_grant_does_not_wait_behind_who_waits_for_its_own_session() {
    let store = store();
    store.set_lease_time(Duration::from_secs(60));
    let session = store.new_session().unwrap();
    file(&store, b"f", 2);
    let mine = session.open_file(b"f").unwrap();
    let first = mine.lease(0..4096, Access::Write, &LeaseOptions::default()).unwrap();
    let mut page = first.buffer(Memory::Dma).unwrap();
    page.pin_mut().unwrap().store(0, &[3; 4096]).unwrap();
    drop(first);
    let copier = {
        let store = store.clone();
        std::thread::spawn(move || store.reflink(b"f", b"copy"))
    };
    while !session.events().iter().any(|e| matches!(e, Event::Recall { may_flush: true, .. })) {
        std::thread::yield_now();
    }
    let second = mine.lease(4096..8192, Access::Write, &LeaseOptions::default());
    assert_eq!(kind(second), ErrorKind::WouldDeadlock);
    let mut queue = store.queue(1).unwrap();
    queue.flush(page, 0).unwrap();
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).unwrap();
    }
    assert!(done[0].result.is_ok());
    // Its page is clean: the reflink takes the lease, and is done.
    let copy = copier.join().unwrap().unwrap();
    let mut bytes = [0; 4096];
    copy.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [3; 4096]);
    let mut again = mine.lease(4096..8192, Access::Write, &LeaseOptions::default()).unwrap();
    again.return_().unwrap();
    assert_eq!(again.state(), LeaseState::Returned);
    again.reacquire().unwrap();
    assert_eq!((again.state(), again.range()), (LeaseState::Held, 4096..8192));
}

/// A buffer knows its place after its first command; that place is nothing to another
/// store, although leases have the same numbers there.
#[test]
fn a_buffer_of_one_store_is_refused_by_the_queue_of_another() {
    let (here, there) = (store(), store());
    let (mine, other) = (file(&here, b"f", 4), file(&there, b"f", 4));
    let _their = lease(&other, Access::Write);
    let buffer = lease(&mine, Access::Write).buffer(Memory::Dma).unwrap();
    let (mut queue, mut foreign) = (here.queue(1).unwrap(), there.queue(1).unwrap());
    let mut done = Vec::new();
    queue.fill(buffer, 0).unwrap();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).unwrap();
    }
    let mut buffer = done[0].take_lease().unwrap();
    buffer.pin_mut().unwrap().store(0, &[9; 4096]).unwrap();
    let refused = foreign.flush(buffer, 1).unwrap_err();
    assert_eq!(refused.error.as_ref().map(Error::kind), Some(ErrorKind::Invalid));
    let mut bytes = [0; 4096];
    other.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [7; 4096]);
}

/// Its own session made the lease stale, and another one asks for it: what was written to
/// its buffer before goes home at the first try, although a grant waits for it.
#[test]
fn a_stale_lease_that_is_recalled_can_be_flushed() {
    let store = store();
    store.set_lease_time(Duration::from_secs(60));
    let session = store.new_session().unwrap();
    let other = file(&store, b"f", 2);
    let mine = session.open_file(b"f").unwrap();
    let lease = mine.lease(0..4096, Access::Write, &LeaseOptions::default()).unwrap();
    let mut page = lease.buffer(Memory::Dma).unwrap();
    page.pin_mut().unwrap().store(0, &[3; 4096]).unwrap();
    let copy = mine.reflink(b"copy").unwrap();
    assert_eq!(lease.state(), LeaseState::Stale);
    let grant = std::thread::spawn(move || {
        let lease = other.lease(.., Access::Stable, &LeaseOptions::default()).unwrap();
        lease.buffer(Memory::Window).unwrap().pin().unwrap().slice(0, 4096).unwrap().to_vec()
    });
    while !session.events().iter().any(|e| matches!(e, Event::Recall { may_flush: true, .. })) {
        std::thread::yield_now();
    }
    let mut queue = store.queue(1).unwrap();
    queue.flush(page, 0).unwrap();
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).unwrap();
    }
    assert_eq!(done[0].result.as_ref().unwrap(), &4096);
    drop((done, lease));
    assert_eq!(grant.join().unwrap(), [3; 4096]);
    let mut bytes = [0; 4096];
    copy.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [7; 4096]);
}

/// What the session appends in the last block is not in a buffer that was made before, and
/// is kept when that is flushed.
#[test]
fn a_flush_keeps_what_was_appended_behind_its_buffer() {
    let store = store();
    let file = store.create(b"f").unwrap();
    file.write_at(&[7; 5000], 0).unwrap();
    let lease = lease(&file, Access::Write);
    let mut queue = store.queue(1).unwrap();
    let mut buffer = lease.buffer(Memory::Dma).unwrap();
    for (round, looked_up) in [false, true].into_iter().enumerate() {
        let end = 5000 + 50 * round;
        assert_eq!((buffer.len(), lease.range().end), (end as u64, end as u64), "{looked_up}");
        buffer.pin_mut().unwrap().store(0, &vec![8 + round as u8; end]).unwrap();
        file.write_at(&[5; 50], end as u64).unwrap();
        let mut done = Vec::new();
        queue.flush(buffer, 0).unwrap();
        while queue.poll(&mut done) == 0 {
            queue.wait(None).unwrap();
        }
        assert_eq!(done[0].result.as_ref().unwrap(), &8192);
        buffer = done[0].take_lease().unwrap();
        let mut bytes = vec![0; end + 50];
        file.read_at(&mut bytes, 0).unwrap();
        assert!(bytes[..end].iter().all(|b| *b == 8 + round as u8));
        assert_eq!(bytes[end..], [5; 50], "what was appended");
        assert_eq!(buffer.pin().unwrap().slice(end as u64, 50).unwrap(), [5; 50]);
    }
}

/// What is in quarantine, and registrations that nobody holds, have the store: it does not
/// close over them, and is not kept open by them.
#[test]
fn a_store_is_not_kept_by_what_it_keeps() {
    let store = store();
    store.set_lease_time(Duration::from_millis(1));
    let session = store.new_session().unwrap();
    let file = file(&store, b"f", 2);
    let theirs = session.open_file(b"f").unwrap();
    let options = LeaseOptions { max_hold: Duration::ZERO };
    let stable = theirs.lease(0..4096, Access::Stable, &options).unwrap();
    let bytes = stable.buffer(Memory::Window).unwrap().into_bytes().unwrap();
    drop(stable);
    file.write_at(&[9; 4096], 0).unwrap();
    let error = store.recall().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("pinned"), "{error}");
    drop(bytes);
    store.recall().unwrap();
    let held = Arc::new(());
    let keep = held.clone();
    let lease = theirs.lease(4096..8192, Access::Read, &options).unwrap();
    let registration = lease.register(move || {
        let _ = &keep;
        Ok(())
    });
    drop(registration.unwrap());
    drop((lease, theirs, session, file));
    assert_eq!(Arc::strong_count(&held), 2);
    drop(store);
    assert_eq!(Arc::strong_count(&held), 1);
}

/// An action may call another store, and that one's action is inside both.
#[test]
fn an_action_inside_an_action_calls_neither_store() {
    let (outer, inner) = (store(), store());
    let seen = Arc::new(AtomicU32::new(0));
    let overdue = |store: &Store, action: Box<dyn FnMut() + Send>| {
        store.set_lease_time(Duration::from_millis(1));
        file(store, b"f", 1);
        let session = store.new_session().unwrap();
        let theirs = session.open_file(b"f").unwrap();
        let options = LeaseOptions { max_hold: Duration::ZERO };
        let lease = theirs.lease(.., Access::Read, &options).unwrap();
        let mut action = action;
        let done = lease.register(move || {
            action();
            Ok(())
        });
        (session, done.unwrap())
    };
    let called = outer.create(b"called").unwrap();
    let (below, count) = (called.clone(), seen.clone());
    let _inner = overdue(
        &inner,
        Box::new(move || {
            assert_eq!(kind(below.write_at(&[1; 1], 0)), ErrorKind::WouldDeadlock);
            count.fetch_add(1, Ordering::SeqCst);
        }),
    );
    let (deep, count) = (inner.open_file(b"f").unwrap(), seen.clone());
    let _outer = overdue(
        &outer,
        Box::new(move || {
            deep.truncate(0).unwrap();
            assert_eq!(kind(called.write_at(&[1; 1], 0)), ErrorKind::WouldDeadlock);
            count.fetch_add(1, Ordering::SeqCst);
        }),
    );
    outer.open_file(b"f").unwrap().truncate(0).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
