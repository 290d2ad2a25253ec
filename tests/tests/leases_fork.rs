//! A forked child owns nothing (law R3): every call is refused there, what it drops ends
//! nothing of its parent's, and its parent notices nothing.

use freehold::{
    Access, ErrorKind, File, Kinds, Lease, LeaseBuffer, LeaseOptions, LeaseState, Memory, Pin,
    Registration, Result, Seal, SealOptions, Session, Store,
};

fn forked<T>(what: &str, done: Result<T>) -> bool {
    let refused = matches!(&done, Err(e) if e.kind() == ErrorKind::ForkedChild);
    if !refused {
        eprintln!("in a forked child, {what}: {:?}", done.err());
    }
    refused
}

struct Owned {
    store: Store,
    session: Session,
    file: File,
    lease: Lease,
    window: LeaseBuffer,
    dma: LeaseBuffer,
    seal: Seal,
    registration: Registration,
}

impl Owned {
    fn new() -> Result<Owned> {
        let store = Store::format("mem:16M", &Default::default())?;
        let session = store.new_session()?;
        let file = session.create(b"f")?;
        file.write_at(&[7; 16384], 0)?;
        file.sync()?;
        let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
        let window = lease.buffer(Memory::Window)?;
        let mut dma = lease.buffer_at(0..4096)?;
        dma.pin_mut()?.store(0, b"dirty")?;
        let seal = file.seal(Kinds::SHRINK, .., &SealOptions::default())?;
        let registration = lease.register(|| Ok(()))?;
        Ok(Owned { store, session, file, lease, window, dma, seal, registration })
    }

    /// In the child.
    fn is_refused(&mut self) -> bool {
        let (lease, options) = (&mut self.lease, LeaseOptions::default());
        let mut bytes = [0; 8];
        forked("a pin", self.window.pin().map(drop))
            && forked("a pin of memory", self.dma.pin().map(drop))
            && forked("a mutable pin", self.window.pin_mut().map(drop))
            && forked("a mutable pin of memory", self.dma.pin_mut().map(drop))
            && forked("a buffer", lease.buffer(Memory::Dma))
            && forked("a part's buffer", lease.buffer_at(0..4096))
            && forked("a registration", lease.register(|| Ok(())))
            && forked("a delegate", lease.delegate(&self.session, 0..4096, Access::Read))
            && forked("a refresh", lease.refresh())
            && forked("a partial return", lease.return_part(0..4096))
            && forked("a return", lease.return_())
            && forked("a reacquire", lease.reacquire())
            && lease.state() == LeaseState::Returned
            && forked("a grant", self.file.lease(.., Access::Read, &options))
            && forked("a seal", self.file.seal(Kinds::GROW, .., &SealOptions::default()))
            && forked("a read", self.file.read_at(&mut bytes, 0))
            && forked("a write", self.file.write_at(&bytes, 0))
            && forked("a truncate", self.file.truncate(0))
            && forked("a sync", self.file.sync())
            && forked("a session", self.store.new_session())
            && forked("the end of a session", self.session.end())
            && forked("a file", self.store.create(b"g"))
            && forked("a queue", self.store.queue(1))
            && forked("a checkpoint", self.store.checkpoint())
            && self.store.leases().is_empty()
            && self.store.inflight().is_empty()
    }
}

/// A pin that is there when the child is made ends in both of them.
fn pinned(owned: &Owned) -> Result<Pin<'_>> {
    owned.window.pin()
}

#[test]
fn r3_a_forked_child_owns_nothing() -> Result<()> {
    let mut owned = Owned::new()?;
    let refused = freehold_engine::fork::holds_in_child(|| owned.is_refused());
    assert!(refused.expect("a child"), "a call was not refused in a forked child");
    // Drops wait for nothing there, and end nothing here.
    let bytes = owned.dma.pin().map(|pin| pin.len())?;
    let pin = pinned(&owned)?;
    let (held, ended) = (Some(pin), Some(Owned::new()?));
    let dropped = freehold_engine::fork::holds_in_child(|| {
        drop(held);
        let Some(Owned { store, session, file, lease, window, dma, seal, registration }) = ended
        else {
            return false;
        };
        drop((registration, seal, window, dma, lease, file, session));
        forked("a close", store.close())
    });
    assert!(dropped.expect("a child"), "a drop in a forked child hangs, or a store was closed");
    assert_eq!((bytes, owned.lease.state()), (4096, LeaseState::Held));
    assert!(owned.dma.is_dirty() && owned.seal.is_set());
    let mut got = [0; 4];
    owned.window.pin()?.load(0, &mut got)?;
    assert_eq!(got, [7; 4]);
    // Nothing is counted twice: what the parent gives up is over.
    let Owned { store, session, file, lease, window, mut dma, seal, registration } = owned;
    dma.discard();
    assert!(registration.end());
    drop((window, dma, seal));
    lease.return_()?;
    drop((lease, file, session));
    assert!(store.leases().is_empty() && store.inflight().is_empty());
    store.close()
}
