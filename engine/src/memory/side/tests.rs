//! Views over windows that have a file: side by side, in segments, and taken away.

use super::*;
use crate::bus::Mmio;
use crate::medium::{BLOCK, ErrorKind};
use crate::memory::persist::Volatile;
use crate::memory::sealed::Sealed;
use crate::memory::{Access, Piece, SharedMemory, WindowMemory};
use crate::pin::{PinRef, PinState, Waiter, recall};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

const B: u64 = BLOCK as u64;

/// One test at a time: they count the mappings of the process.
static ALONE: Mutex<()> = Mutex::new(());

struct Stage {
    memory: WindowMemory,
    shared: Arc<SharedMemory>,
    lease: PinRef,
}

/// A window over a file, each of whose blocks is full of its own number.
fn stage(blocks: u64) -> Stage {
    over(Arc::new(Sealed::small((blocks * B) as usize).unwrap()), blocks)
}

fn over(file: Arc<dyn Mmio>, blocks: u64) -> Stage {
    // SAFETY: this is the only window over it.
    let shared = unsafe { SharedMemory::over(file, blocks * B, Arc::new(Volatile)) };
    let shared = Arc::new(shared.unwrap());
    for block in 0..blocks {
        shared.store(block * B, &[block as u8; BLOCK]).unwrap();
    }
    let memory = WindowMemory::new(Arc::clone(&shared));
    Stage { memory, shared, lease: PinState::new(&Waiter::none()).shared() }
}

fn pieces(blocks: &[u64]) -> Vec<Piece> {
    blocks.iter().map(|block| Piece::at(block * B, B)).collect()
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn pieces_lie_side_by_side_and_are_the_storage() {
    let _alone = alone();
    let stage = stage(32);
    let mut all = pieces(&[9, 3, 3, 20]);
    all.insert(2, Piece::zeroes(3 * B));
    all.push(Piece::at(5 * B, 100));
    let view = stage.memory.view(Access::Stable, &all, &stage.lease).unwrap();
    let pin = view.pin().unwrap();
    let bytes = pin.slice(0, view.len()).unwrap();
    assert_eq!(pin.parts().count(), 1);
    for (at, expect) in [9, 3, 0, 0, 0, 3, 20, 5].into_iter().enumerate() {
        let block = &bytes[at * BLOCK..(at * BLOCK + BLOCK).min(bytes.len())];
        assert!(block.iter().all(|&b| b == expect), "block {at}");
    }
    // The ledger knows blocks, wherever they are mapped.
    assert_eq!(stage.shared.store(20 * B, &[1]).unwrap_err().kind(), ErrorKind::Busy);
    drop(pin);
    drop(view);
    let view = stage.memory.view(Access::Write, &pieces(&[7, 1]), &stage.lease).unwrap();
    let pin = view.pin().unwrap();
    pin.store(B - 8, &[77; 16]).unwrap();
    let mut found = [0; 8];
    stage.shared.load(8 * B - 8, &mut found).unwrap();
    assert_eq!(found, [77; 8]);
    stage.shared.load(B, &mut found).unwrap();
    assert_eq!(found, [77; 8]);
    stage.shared.store(B + 8, &[78; 8]).unwrap();
    pin.load(B + 8, &mut found).unwrap();
    assert_eq!(found, [78; 8]);
    drop(pin);
    drop(view);
    let mut view = stage.memory.view(Access::Exclusive, &pieces(&[2, 0]), &stage.lease).unwrap();
    view.pin_mut().unwrap().slice_mut(B - 1, 2).unwrap().fill(5);
    drop(view);
    stage.shared.load(0, &mut found[..1]).unwrap();
    assert_eq!(found[0], 5);
}

#[test]
fn what_does_not_fit_pages_comes_in_segments() {
    let _alone = alone();
    let stage = stage(80);
    let parts = |pieces: &[Piece]| {
        let view = stage.memory.view(Access::Stable, pieces, &stage.lease).unwrap();
        let pin = view.pin().unwrap();
        let all: Vec<u8> = pin.parts().flatten().copied().collect();
        assert_eq!(all.len() as u64, view.len());
        (pin.parts().count(), all)
    };
    // Two pieces of one page, or one that begins inside of another's.
    let (count, all) = parts(&[Piece::at(B, 100), Piece::at(3 * B, 100)]);
    assert!(count == 2 && all[..100] == [1; 100] && all[100..] == [3; 100]);
    assert_eq!(parts(&[Piece::at(B, B), Piece::at(3 * B + 8, 100)]).0, 2);
    assert_eq!(parts(&[Piece::at(5 * B + 8, B - 8), Piece::at(3 * B, 100)]).0, 1);
    let many: Vec<u64> = (0..=MOST as u64).rev().collect();
    assert_eq!(parts(&pieces(&many[1..])).0, 1);
    let (count, all) = parts(&pieces(&many));
    assert_eq!(count, MOST + 1, "too many pieces");
    assert!(all.chunks_exact(BLOCK).zip(&many).all(|(c, &b)| c.iter().all(|&x| x == b as u8)));
    assert_eq!(parts(&[Piece::at(0, 3 * B)]).0, 1);
}

#[test]
fn too_many_mappings_give_segments() {
    let _alone = alone();
    let stage = stage(64);
    let blocks: Vec<u64> = (0..MOST as u64).rev().collect();
    let mut views = Vec::new();
    loop {
        let view = stage.memory.view(Access::Read, &pieces(&blocks), &stage.lease).unwrap();
        let in_one = view.pin().unwrap().as_ptr(0).unwrap().1 as u64 == view.len();
        let mut found = [0; 8];
        view.pin().unwrap().load(3 * B, &mut found).unwrap();
        assert_eq!(found, [60; 8]);
        views.push(view);
        if !in_one {
            break;
        }
        assert!(views.len() <= most_mappings() / MOST + 1, "there is no end to it");
    }
    assert!(views.len() > 1);
    // They are not counted for ever.
    drop(views);
    let view = stage.memory.view(Access::Stable, &pieces(&blocks), &stage.lease).unwrap();
    assert_eq!(view.pin().unwrap().parts().count(), 1);
}

/// Whether each page at an address is in this process's page tables.
fn present(at: *const u8, pages: u64) -> bool {
    let map = std::fs::File::open("/proc/self/pagemap").unwrap();
    (0..pages).all(|page| {
        let mut entry = [0; 8];
        map.read_exact_at(&mut entry, (at.addr() as u64 / B + page) * 8).unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    })
}

#[test]
fn a_view_has_its_page_tables_filled() {
    let _alone = alone();
    if rustix::param::page_size() != BLOCK {
        return;
    }
    let file = Arc::new(Sealed::small(64 * BLOCK).unwrap());
    assert!(!present(file.base().as_ptr(), 64), "nothing touched them");
    // SAFETY: this is the only window over it.
    let shared = unsafe { SharedMemory::over(file, 64 * B, Arc::new(Volatile)) }.unwrap();
    let memory = WindowMemory::new(Arc::new(shared));
    let lease = PinState::new(&Waiter::none()).shared();
    for access in [Access::Read, Access::Write] {
        for pieces in [vec![Piece::at(8 * B, 16 * B)], pieces(&[40, 30, 35])] {
            let view = memory.view(access, &pieces, &lease).unwrap();
            let (at, len) = view.pin().unwrap().as_ptr(0).unwrap();
            assert_eq!(len as u64, view.len());
            assert!(present(at, view.len() / B), "{access:?} {pieces:?}");
        }
    }
}

#[test]
fn what_is_closed_cannot_be_touched_and_keeps_its_addresses() {
    let _alone = alone();
    let stage = stage(16);
    let no = stage.memory.view_that_closes(Access::Stable, &pieces(&[1]), &stage.lease);
    assert_eq!(no.unwrap_err().kind(), ErrorKind::Invalid);
    for blocks in [&[4][..], &[4, 9, 2]] {
        let view = stage.memory.view_that_closes(Access::Write, &pieces(blocks), &stage.lease);
        let view = view.unwrap();
        let (pin, booking) = (view.hold().unwrap(), view.booking());
        pin.store(8, &[1, 2, 3]).unwrap();
        let at = pin.as_ptr(0).unwrap().0;
        let mut found = [0; 16];
        // SAFETY: the kernel checks the address, and writes to `found` alone.
        let mut peek = || unsafe { crate::memory::salvage::read(at, &mut found) };
        peek().unwrap();
        assert!(booking.close().unwrap() && booking.close().unwrap(), "twice is once");
        assert!(peek().is_err(), "it can be touched still");
        // Nobody else gets the addresses.
        let other = Sealed::small(view.len() as usize).unwrap();
        assert_ne!(other.base().as_ptr().cast_const(), at);
        assert!(peek().is_err());
        // What was written is in the storage, and is written back from there.
        assert!(booking.write_back().unwrap());
        stage.shared.load(4 * B + 8, &mut found[..3]).unwrap();
        assert_eq!(found[..3], [1, 2, 3]);
    }
    let plain = stage.memory.view(Access::Read, &pieces(&[4, 9]), &stage.lease).unwrap();
    assert!(!plain.booking().close().unwrap());
    plain.pin().unwrap().load(0, &mut [0; 8]).unwrap();
    let own = WindowMemory::new(Arc::new(SharedMemory::new(B).unwrap()));
    let no = own.view_that_closes(Access::Read, &[Piece::at(0, B)], &stage.lease);
    assert_eq!(no.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_view_that_is_laid_anew_lies_side_by_side_again() {
    let _alone = alone();
    let stage = stage(16);
    let view = stage.memory.view(Access::Stable, &pieces(&[1, 2]), &stage.lease).unwrap();
    let booking = view.booking();
    recall(&[&stage.lease]).unwrap();
    assert!(booking.retire());
    assert!(stage.memory.relay(&booking, &pieces(&[9, 4])).unwrap());
    stage.lease.renew();
    let pin = view.pin().unwrap();
    let bytes = pin.slice(0, 2 * B).unwrap();
    assert_eq!((bytes[0], bytes[BLOCK]), (9, 4));
}

/// Pages that the kernel reads for nobody, as those of a device's registers: a file whose
/// pages are secret.
#[test]
fn what_the_kernel_does_not_read_is_loaded() {
    struct Secret(std::ptr::NonNull<u8>);
    // SAFETY: an address.
    unsafe impl Send for Secret {}
    // SAFETY: as above.
    unsafe impl Sync for Secret {}
    // SAFETY: a page that stays mapped.
    unsafe impl Mmio for Secret {
        fn base(&self) -> std::ptr::NonNull<u8> {
            self.0
        }
        fn len(&self) -> usize {
            BLOCK
        }
    }
    // SAFETY: makes a descriptor, or fails.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let Ok(fd) = i32::try_from(fd).map_err(drop).and_then(|fd| match fd {
        0.. => Ok(fd),
        _ => Err(()),
    }) else {
        return;
    };
    use std::os::fd::FromRawFd;
    // SAFETY: it was just made, and is nobody else's.
    let file = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
    if rustix::fs::ftruncate(&file, B).is_err() {
        return;
    }
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping that stays.
    let base = unsafe { rustix::mm::mmap(null, BLOCK, prot, MapFlags::SHARED, &file, 0) };
    let Ok(base) = base else { return };
    let memory: Arc<dyn Mmio> = Arc::new(Secret(std::ptr::NonNull::new(base.cast()).unwrap()));
    let stage = over(memory, 1);
    stage.shared.store(0, &[3; 64]).unwrap();
    let mut found = [0; 64];
    // SAFETY: the kernel checks the address, and writes to `found` alone.
    assert!(unsafe { crate::memory::salvage::read(base.cast(), &mut found) }.is_err());
    stage.memory.salvage(0, &mut found).unwrap();
    assert_eq!(found, [3; 64]);
}
