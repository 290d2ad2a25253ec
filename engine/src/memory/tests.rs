//! Memory with a device behind it, and a peer's memory: what the laws ask of them.

use super::sealed::{HUGE, Sealed};
use super::*;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use rustix::fs::{MemfdFlags, SealFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A transport that remembers what it was told.
#[derive(Default)]
struct Recorder {
    /// Address, length and a descriptor of each region that the device has.
    known: Mutex<Vec<(u64, usize, Option<OwnedFd>)>>,
    addresses: Mutex<Option<iova::Allocator>>,
    adopts: bool,
    refuses: AtomicBool,
    keeps: AtomicBool,
}

impl Recorder {
    fn new(adopts: bool) -> Arc<Self> {
        let usable = [0..=0xffff_ffff];
        let addresses = Mutex::new(iova::Allocator::new(&usable, 4096 | 2 << 20).ok());
        Arc::new(Self { addresses, adopts, ..Self::default() })
    }

    fn address(&self, len: usize) -> Result<u64> {
        let mut addresses = self.addresses.lock().unwrap();
        let addresses = addresses.as_mut().unwrap();
        let align = addresses.alignment(len as u64);
        addresses.take(len as u64, align)
    }

    fn known(&self) -> Vec<(u64, usize)> {
        self.known.lock().unwrap().iter().map(|&(iova, len, _)| (iova, len)).collect()
    }

    /// What the device finds at an address.
    fn device(&self, iova: u64) -> (PeerMemory, u64) {
        let known = self.known.lock().unwrap();
        let (first, len, fd) =
            known.iter().find(|k| (k.0..k.0 + k.1 as u64).contains(&iova)).expect("not mapped");
        let fd = fd.as_ref().expect("memory that has no file").as_fd();
        (PeerMemory::new(fd, 0, *len as u64, true).unwrap(), iova - first)
    }
}

impl Backing for Recorder {
    fn added(&self, region: &RegionInfo<'_>) -> Result<u64> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(limits::map_refused(
                "mapping",
                region.len as u64,
                rustix::io::Errno::NOMEM,
            ));
        }
        let iova = self.address(region.len)?;
        let fd = region.fd.try_clone_to_owned().unwrap();
        self.known.lock().unwrap().push((iova, region.len, Some(fd)));
        Ok(iova)
    }

    fn removed(&self, iova: u64, len: usize) -> Result<()> {
        if self.keeps.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Gone, "the device does not answer"));
        }
        let mut known = self.known.lock().unwrap();
        let at = known.iter().position(|k| (k.0, k.1) == (iova, len)).expect("removed unknown");
        known.remove(at);
        self.addresses.lock().unwrap().as_mut().unwrap().give_back(iova, len as u64)
    }

    fn adopted(&self, _address: usize, len: usize) -> Result<Option<u64>> {
        if !self.adopts {
            return Ok(None);
        }
        let iova = self.address(len)?;
        self.known.lock().unwrap().push((iova, len, None));
        Ok(Some(iova))
    }
}

#[test]
fn the_device_finds_the_bytes_of_every_buffer_at_its_address() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    let mut buffers = Vec::new();
    for i in 0..400usize {
        let mut buffer = pool.take(BLOCK << (i % 6)).unwrap();
        let byte = i as u8;
        buffer.fill(byte);
        let rest = buffer.split_off(buffer.len() / BLOCK / 2 * BLOCK);
        buffers.extend([(buffer, byte), (rest, byte)]);
    }
    for (buffer, byte) in buffers.iter().filter(|(buffer, _)| !buffer.is_empty()) {
        let (memory, at) = recorder.device(pool.device_address(buffer).unwrap());
        assert!(memory.is_mapped(), "a region that its peer cannot map");
        let mut seen = vec![0; buffer.len()];
        memory.read(at, &mut seen).unwrap();
        assert!(seen.iter().all(|seen| seen == byte));
        memory.write(at, &[byte ^ 1; 16]).unwrap();
        assert_eq!(buffer[..16], [byte ^ 1; 16]);
    }
    let maps = recorder.known();
    assert!(maps.len() <= 8, "{} maps for {} bytes", maps.len(), pool.mapped());
    assert!(maps.iter().all(|&(iova, len)| iova % HUGE as u64 == 0 && len % HUGE == 0));
    assert_eq!(Pool::new().device_address(&buffers[0].0), None);
    assert_eq!(Pool::backed(recorder).device_address(&buffers[0].0), None);
    assert_eq!(pool.device_address(&Pool::new().take(1).unwrap()), None);
}

#[test]
fn regions_are_taken_back_when_pool_and_last_buffer_and_pages_are_gone() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    let (buffer, pages) = (pool.take(BLOCK).unwrap(), pool.pages(BLOCK).unwrap());
    drop(pool.take(1 << 20).unwrap());
    let maps = recorder.known();
    drop(pool);
    assert_eq!(recorder.known(), maps);
    drop(buffer);
    assert_eq!(recorder.known(), maps);
    pages.store32(0, 1);
    drop(pages);
    assert_eq!(recorder.known(), []);
}

#[test]
fn a_refused_map_is_told_with_its_limit_and_leaves_the_pool_usable() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    recorder.refuses.store(true, Ordering::Relaxed);
    for refused in [pool.take(BLOCK).unwrap_err(), pool.pages(BLOCK).unwrap_err()] {
        assert_eq!(refused.kind(), ErrorKind::Limit);
        assert!(refused.message().contains("RLIMIT_MEMLOCK"), "{refused}");
    }
    assert_eq!((pool.mapped(), pool.taken()), (0, 0));
    recorder.refuses.store(false, Ordering::Relaxed);
    let buffer = pool.take(BLOCK).unwrap();
    assert!(pool.device_address(&buffer).is_some());
}

#[test]
fn pages_are_zeroed_shared_with_the_device_and_used_again() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    assert_eq!(Pool::new().pages(1).unwrap_err().kind(), ErrorKind::Unsupported);
    for bad in [0, usize::MAX, isize::MAX as usize] {
        assert_eq!(pool.pages(bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let pages = pool.pages(BLOCK + 1).unwrap();
    assert_eq!((pages.len(), pages.iova() % BLOCK as u64), (2 * BLOCK, 0));
    let (memory, at) = recorder.device(pages.iova());
    pages.store_words(64, &[1, 2, 3, u64::MAX]);
    pages.store64_release(0, 7);
    pages.store32_release(12, 9);
    assert_eq!(memory.load64(at).unwrap(), 7);
    assert_eq!(memory.load32_acquire(at + 12).unwrap(), 9);
    assert_eq!(memory.load64(at + 88).unwrap(), u64::MAX);
    memory.store32_release(at + 16, 0x0102_0304).unwrap();
    memory.store64_release(at + 24, 5).unwrap();
    assert_eq!((pages.load32_acquire(16), pages.load16(18)), (0x0102_0304, 0x0102));
    assert_eq!((pages.load64_acquire(24), pages.load_words(64)), (5, [1, 2, 3, u64::MAX]));
    let mut bytes = [0; 9];
    pages.write(4091, b"bytes too");
    pages.read(4091, &mut bytes);
    assert_eq!(&bytes, b"bytes too");
    let iova = pages.iova();
    drop(pages);
    let again = pool.pages(2 * BLOCK).unwrap();
    assert_eq!(again.iova(), iova);
    assert!((0..2 * BLOCK).step_by(8).all(|at| again.load64(at) == 0), "others' bytes");
    for bad in [2 * BLOCK, 2 * BLOCK - 2, 6] {
        let again = std::panic::AssertUnwindSafe(&again);
        assert!(std::panic::catch_unwind(|| again.load32(bad)).is_err());
        assert!(std::panic::catch_unwind(|| again.store_words(bad, &[0; 2])).is_err());
    }
}

#[test]
fn m4_withheld_memory_is_counted_and_never_handed_out_again() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    let mut buffer = pool.take(4 * BLOCK).unwrap();
    let rest = buffer.split_off(BLOCK);
    let (from, to) = (buffer.raw().addr(), buffer.raw().addr() + 4 * BLOCK);
    buffer.withhold();
    drop(rest);
    let pages = pool.pages(BLOCK).unwrap();
    let address = pages.iova();
    pages.withhold();
    assert_eq!(pool.withheld(), 2 * BLOCK);
    let slots: Vec<_> = (0..200).map(|_| pool.take(4 * BLOCK).unwrap()).collect();
    assert!(slots.iter().all(|b| b.raw().addr() >= to || b.raw().addr() + b.len() <= from));
    let later: Vec<_> = (0..200).map(|_| pool.pages(BLOCK).unwrap()).collect();
    assert!(later.iter().all(|pages| pages.iova() != address));
    // What is withheld keeps nothing alive but the bytes themselves.
    drop((slots, later, pool));
    assert_eq!(recorder.known(), []);
    let plain = Pool::new();
    plain.take(BLOCK).unwrap().withhold();
    assert_eq!((plain.withheld(), plain.taken()), (BLOCK, 1));
}

#[test]
fn m4_nothing_that_a_lost_device_was_given_is_used_again() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    let (mut one, two) = (pool.take(BLOCK).unwrap(), pool.take(2 * BLOCK).unwrap());
    let pages = pool.pages(BLOCK).unwrap();
    drop(two);
    pool.lose();
    // What a caller still has it may still look at.
    one[0] = 1;
    for refused in [pool.take(BLOCK).map(|_| ()), pool.pages(BLOCK).map(|_| ())] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Gone);
    }
    drop((one, pages));
    assert_eq!(pool.withheld(), 2 * BLOCK);
    recorder.keeps.store(true, Ordering::Relaxed);
    drop(pool);
    assert!(!recorder.known().is_empty(), "the address is not free while the device keeps it");
}

#[test]
fn m4_adopted_memory_is_never_given_to_a_peer() {
    let recorder = Recorder::new(false);
    let pool = Pool::backed(recorder.clone());
    let adopted = pool.adopt(vec![Page([3; BLOCK]); 4]).unwrap();
    let buffer = adopted.buffer().unwrap();
    assert_eq!((buffer.len(), buffer[0]), (4 * BLOCK, 3));
    assert_eq!(pool.device_address(&buffer), None, "it has to be bounced");
    assert_eq!(recorder.known(), []);
    drop(buffer);
    assert_eq!(adopted.into_inner().unwrap().len(), 4);
}

#[test]
fn m4_adopted_memory_comes_back_when_the_device_has_let_go() {
    let recorder = Recorder::new(true);
    let pool = Pool::backed(recorder.clone());
    let pages = vec![Page::default(); 3];
    let place = pages.as_ptr().addr();
    let adopted = pool.adopt(pages).unwrap();
    let mut buffer = adopted.buffer().unwrap();
    let rest = buffer.split_off(BLOCK);
    assert_eq!(buffer.raw().addr(), place);
    let known = recorder.known();
    assert_eq!(pool.device_address(&buffer), Some(known[0].0));
    assert_eq!(pool.device_address(&rest), Some(known[0].0 + BLOCK as u64));
    assert_eq!(adopted.buffer().unwrap_err().kind(), ErrorKind::Busy);
    drop(buffer);
    let (adopted, why) = adopted.into_inner().unwrap_err();
    assert_eq!((why.kind(), recorder.known().len()), (ErrorKind::Busy, 1));
    drop(rest);
    adopted.buffer().unwrap()[2 * BLOCK] = 9;
    recorder.keeps.store(true, Ordering::Relaxed);
    let (adopted, why) = adopted.into_inner().unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Gone);
    recorder.keeps.store(false, Ordering::Relaxed);
    let pages = adopted.into_inner().unwrap();
    assert_eq!((pages[2].0[0], pages.as_ptr().addr()), (9, place));
    assert_eq!(recorder.known(), []);
}

/// Pages that tell when they are dropped.
struct Told(Vec<Page>, Arc<AtomicBool>);

// SAFETY: as for `Vec<Page>`.
unsafe impl Pages for Told {
    fn pages(&mut self) -> (std::ptr::NonNull<u8>, usize) {
        self.0.pages()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn m4_adopted_memory_outlives_its_handle_while_it_may_be_reached() {
    let recorder = Recorder::new(true);
    let pool = Pool::backed(recorder.clone());
    for keeps in [false, true] {
        let dropped = Arc::new(AtomicBool::new(false));
        let adopted = pool.adopt(Told(vec![Page::default(); 2], dropped.clone())).unwrap();
        let buffer = adopted.buffer().unwrap();
        drop(adopted);
        assert!(!dropped.load(Ordering::Relaxed), "dropped while a buffer is out");
        recorder.keeps.store(keeps, Ordering::Relaxed);
        drop(buffer);
        assert_eq!(dropped.load(Ordering::Relaxed), !keeps);
        assert_eq!(pool.withheld(), if keeps { 2 * BLOCK } else { 0 });
    }
    assert_eq!(pool.adopt(Vec::<Page>::new()).unwrap_err().kind(), ErrorKind::Invalid);
}

/// A memory file of a peer.
fn file(pages: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"peer", flags).unwrap();
    rustix::fs::ftruncate(&fd, pages * 4096).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn a_peer_that_shrinks_its_file_gets_an_error_and_no_signal() {
    let fd = file(3, SealFlags::empty());
    let memory = PeerMemory::new(fd.as_fd(), 4096, 8192, true).unwrap();
    assert!(!memory.is_mapped());
    memory.write(4090, b"across a page").unwrap();
    memory.store32(0, 77).unwrap();
    let mut back = [0; 13];
    memory.read(4090, &mut back).unwrap();
    assert_eq!((&back, memory.load32(0).unwrap()), (b"across a page", 77));
    rustix::fs::ftruncate(&fd, 8192).unwrap();
    assert_eq!(memory.load32(0).unwrap(), 77, "what is still there is reached");
    assert_eq!(memory.read(4090, &mut back).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(memory.write(4096, &[1]).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(memory.load64(4096).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(memory.store32_release(8188, 0).unwrap_err().kind(), ErrorKind::Gone);
}

#[test]
fn only_a_file_that_cannot_shrink_is_touched_directly() {
    for (seals, mapped) in [
        (SealFlags::SHRINK, true),
        (SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL, true),
        (SealFlags::GROW, false),
        (SealFlags::SEAL, false),
    ] {
        let memory = PeerMemory::new(file(1, seals).as_fd(), 0, 4096, true).unwrap();
        assert_eq!(memory.is_mapped(), mapped, "{seals:?}");
        memory.store64(8, 5).unwrap();
        assert_eq!(memory.load64(8).unwrap(), 5);
    }
}

#[test]
fn ranges_that_a_peer_may_not_name_are_refused() {
    let fd = file(2, SealFlags::SHRINK);
    let odd = [(0, 0), (0, 100), (100, 4096), (0, 3 * 4096), (8192, 4096), (u64::MAX - 4095, 4096)];
    for (offset, len) in odd.into_iter().chain([(4096, u64::MAX - 4095), (1 << 62, 1 << 62)]) {
        let refused = PeerMemory::new(fd.as_fd(), offset, len, true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{offset} {len}");
    }
    let memory = PeerMemory::new(fd.as_fd(), 0, 8192, false).unwrap();
    assert_eq!(memory.write(0, &[1]).unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(memory.store32(0, 1).unwrap_err().kind(), ErrorKind::Permission);
    let mut two = [0; 2];
    for bad in [8191, 8192, u64::MAX] {
        assert_eq!(memory.read(bad, &mut two).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(memory.load32(bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(memory.load64(4).unwrap_err().kind(), ErrorKind::Invalid);
    // A file that may not be written is not mapped for writing.
    let read_only = file(1, SealFlags::SHRINK | SealFlags::WRITE);
    assert!(PeerMemory::new(read_only.as_fd(), 0, 4096, true).is_err());
    assert!(PeerMemory::new(read_only.as_fd(), 0, 4096, false).is_ok());
}

#[test]
fn a_forked_child_has_neither_buffers_nor_pages_nor_adopted_memory() {
    let pool = Pool::backed(Recorder::new(true));
    let adopted = pool.adopt(vec![Page::default(); 1]).unwrap();
    let (buffer, mine) = (pool.take(BLOCK).unwrap(), adopted.buffer().unwrap());
    let sealed = Sealed::new(HUGE).unwrap();
    let places = [buffer.raw(), mine.raw(), sealed.map.base().as_ptr()];
    // SAFETY: the child calls nothing but what is judged here and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut page = 0u8;
        let gone = places.iter().all(|at| {
            // SAFETY: asks whether the page is there; touches nothing else.
            let answer = unsafe { libc::mincore(at.cast(), 4096, &raw mut page) };
            answer != 0
        });
        // SAFETY: ends the child without running anything of its parent's.
        unsafe { libc::_exit(i32::from(!gone)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made; `status` is ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
    drop((buffer, mine));
    assert!(adopted.into_inner().is_ok());
}

#[test]
fn buffers_are_given_back_while_the_pool_waits_for_the_device() {
    /// A device that takes its time.
    struct Slow(Mutex<Option<std::sync::mpsc::Receiver<()>>>);
    impl Backing for Slow {
        fn added(&self, region: &RegionInfo<'_>) -> Result<u64> {
            let answer = self.0.lock().unwrap().take();
            answer.map(|answer| answer.recv());
            Ok(region.address as u64)
        }
        fn removed(&self, _iova: u64, _len: usize) -> Result<()> {
            Ok(())
        }
    }
    let slow = Arc::new(Slow(Mutex::new(None)));
    let pool = Pool::backed(slow.clone());
    let mut all: Vec<_> = (0..64).map(|_| pool.take(BLOCK).unwrap()).collect();
    let (answer, asked) = std::sync::mpsc::channel();
    *slow.0.lock().unwrap() = Some(asked);
    std::thread::scope(|scope| {
        // More than what is mapped: this waits.
        let grower = scope.spawn(|| (0..1024).map(|_| pool.take(BLOCK)).collect::<Vec<_>>());
        while slow.0.lock().unwrap().is_some() {
            std::thread::yield_now();
        }
        drop(all.split_off(32));
        drop(pool.take(BLOCK).unwrap());
        answer.send(()).unwrap();
        let taken = grower.join().unwrap();
        assert!(taken.iter().all(std::result::Result::is_ok));
    });
}
