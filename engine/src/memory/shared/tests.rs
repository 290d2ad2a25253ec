//! Windows as memory: bounds, what is beside a copy, and what is written back.

use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn port(len: u64) -> (Arc<SharedMemory>, Port) {
    let memory = Arc::new(SharedMemory::new(len).unwrap());
    let port = Port::new(Arc::clone(&memory));
    (memory, port)
}

#[test]
fn bytes_come_back_and_neighbours_stay() {
    let (memory, mut port) = port(2 * 4096);
    memory.store(4090, b"across a block").unwrap();
    let mut back = [0xffu8; 16];
    memory.load(4089, &mut back).unwrap();
    assert_eq!(&back, b"\0across a block\0");
    port.transfer(4096, 0, 4096).unwrap();
    memory.load(0, &mut back[..8]).unwrap();
    assert_eq!(&back[..8], b" a block");
    port.discard(4096, 4096).unwrap();
    port.zero(0, 4096).unwrap();
    let mut all = vec![1u8; 8192];
    port.load(0, &mut all).unwrap();
    assert!(all.iter().all(|&b| b == 0));
}

#[test]
fn ranges_outside_are_refused() {
    let (memory, mut port) = port(4096);
    assert!(memory.store(4095, &[0; 2]).is_err());
    assert!(memory.load(u64::MAX, &mut [0; 2]).is_err());
    assert!(memory.store(4096, &[]).is_ok());
    assert!(port.zero(0, 8192).is_err());
    assert!(port.zero(8, 8).is_err());
    assert!(port.load(8, &mut [0; 8]).is_err());
    assert!(port.transfer(0, 0, 4096).is_err());
    assert!(SharedMemory::new(0).is_err());
    assert!(SharedMemory::new(4097).is_err());
    assert!(SharedMemory::new(u64::MAX - 4095).is_err());
}

#[test]
fn ranges_longer_than_a_word_names_go_in_steps() {
    let step = MOST_BLOCKS * 4096;
    assert_eq!(steps(0).count(), 0);
    assert_eq!(steps(step).collect::<Vec<_>>(), [(0, step)]);
    assert_eq!(steps(2 * step + 1).last(), Some((2 * step, 1)));
    let (memory, mut port) = port(2 * step);
    memory.store(step - 1, &[7; 2]).unwrap();
    port.discard(0, 2 * step).unwrap();
    let mut back = [1; 2];
    memory.load(step - 1, &mut back).unwrap();
    assert_eq!(back, [0; 2]);
}

/// Notes what is written back, and how often it is fenced.
#[derive(Debug, Default)]
struct Noted {
    lines: Mutex<Vec<Range<usize>>>,
    fences: AtomicUsize,
}

impl Persistence for Noted {
    fn streams(&self) -> bool {
        true
    }

    fn write_back(&self, at: *const u8, len: usize) {
        self.lines
            .lock()
            .unwrap()
            .push(at.addr() / 64 * 64..(at.addr() + len).next_multiple_of(64));
    }

    fn fence(&self) -> Result<()> {
        self.fences.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Law M1: what does not go past the caches is written back, before one fence.
#[test]
fn m1_each_line_goes_past_the_caches_or_is_written_back() {
    let noted = Arc::new(Noted::default());
    let map = Bytes::Own(Mapping::new(4 * BLOCK).unwrap());
    let memory = SharedMemory::with(map, Arc::clone(&noted) as Arc<dyn Persistence>);
    let base = memory.map.base().as_ptr().addr();
    for (round, offset) in [0, 1, 63, 64, 100, 4090].into_iter().enumerate() {
        for len in [1, 63, 64, 65, 127, 128, 129, 192, 1000, 4096, 5000] {
            memory.store_nodrain(offset, &vec![round as u8 + 1; len]).unwrap();
            let back: Vec<_> = noted.lines.lock().unwrap().drain(..).collect();
            let start = base + offset as usize;
            for at in start..start + len {
                let line = at / 64 * 64..at / 64 * 64 + 64;
                let whole = start <= line.start && line.end <= start + len;
                let past = len >= stream::FROM_UNREAD && whole;
                let is = back.iter().any(|lines| lines.contains(&at));
                assert!(past || is, "{len} bytes at {offset}: {} is in a cache", at - base);
            }
        }
        memory.drain(&[(offset, 5000)]).unwrap();
        assert_eq!(noted.fences.load(Ordering::Relaxed), round + 1);
    }
}
