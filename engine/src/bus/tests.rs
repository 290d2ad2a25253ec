//! Registers reach their place in the width that was asked for: memory where it is mapped,
//! a message elsewhere, nothing where there is none.

use super::{Area, Bar, Mmio, Registers};
use crate::medium::{ErrorKind, Result};
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

/// A page that stands for device memory.
#[repr(align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: reached by volatile accesses through its address alone, by one thread.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

// SAFETY: aligned to 4096 by its type, lives as long as the value, and nothing makes a
// reference to what is in the cell.
unsafe impl Mmio for Page {
    fn base(&self) -> NonNull<u8> {
        NonNull::from(&self.0).cast()
    }

    fn len(&self) -> usize {
        4096
    }
}

/// A message: offset, width, and what was written, if it was.
type Message = (u64, usize, Option<Vec<u8>>);

/// What went by message.
#[derive(Default)]
struct Messages(Mutex<Vec<Message>>, bool);

impl Registers for Messages {
    fn read(&self, bar: u8, offset: u64, to: &mut [u8]) -> Result<()> {
        assert_eq!(bar, 2);
        to.fill(0xc3);
        self.0.lock().unwrap().push((offset, to.len(), None));
        Ok(())
    }

    fn write(&self, bar: u8, offset: u64, from: &[u8]) -> Result<()> {
        assert_eq!(bar, 2);
        self.0.lock().unwrap().push((offset, from.len(), Some(from.to_vec())));
        Ok(())
    }

    fn sees_stores(&self) -> bool {
        self.1
    }
}

/// A doorbell of hardware is a store, also where one at a process has to be a message: a system
/// call for each would be what this driver is there to avoid.
#[test]
fn a_register_is_sent_where_stores_are_not_seen() {
    for seen in [false, true] {
        let messages = Arc::new(Messages(Mutex::default(), seen));
        let memory = Arc::new(Page(UnsafeCell::new([0; 4096])));
        let others: Arc<dyn Registers> = Arc::<Messages>::clone(&messages);
        let bar = Bar::new(2, 0x4000, vec![Area { offset: 0x1000, memory }], others);
        bar.register(0x1004).unwrap().send(7).unwrap();
        assert_eq!(messages.0.lock().unwrap().is_empty(), seen);
        assert_eq!(bar.read32(0x1004).unwrap(), if seen { 7 } else { 0 });
        // What is not mapped goes by message in any case.
        bar.register(0x2004).unwrap().send(7).unwrap();
        assert_eq!(messages.0.lock().unwrap().len(), if seen { 1 } else { 2 });
    }
}

fn bar() -> (Bar, Arc<Messages>) {
    let messages = Arc::new(Messages::default());
    let page = || Arc::new(Page(UnsafeCell::new([0; 4096])));
    let areas = [0x1000, 0x3000].map(|offset| Area { offset, memory: page() });
    let others: Arc<dyn Registers> = Arc::<Messages>::clone(&messages);
    (Bar::new(2, 0x4000, Vec::from(areas), others), messages)
}

#[test]
fn what_is_mapped_is_memory_and_the_rest_is_messages() {
    let (bar, messages) = bar();
    bar.write32(0x1000, 0x0403_0201).unwrap();
    bar.write32(0x1004, 0x0807_0605).unwrap();
    assert_eq!(bar.read64(0x1000).unwrap(), 0x0807_0605_0403_0201);
    bar.write64(0x3ff8, u64::MAX - 1).unwrap();
    assert_eq!(bar.read32(0x3ff8).unwrap(), u32::MAX - 1);
    assert!(messages.0.lock().unwrap().is_empty());

    bar.write32(0xffc, 7).unwrap();
    bar.write64(0x2000, 8).unwrap();
    assert_eq!(bar.read32(0).unwrap(), 0xc3c3_c3c3);
    assert_eq!(bar.read64(0x2ff8).unwrap(), 0xc3c3_c3c3_c3c3_c3c3);
    let seen = std::mem::take(&mut *messages.0.lock().unwrap());
    let expected = [
        (0xffc, 4, Some(vec![7, 0, 0, 0])),
        (0x2000, 8, Some(vec![8, 0, 0, 0, 0, 0, 0, 0])),
        (0, 4, None),
        (0x2ff8, 8, None),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_register_stores_where_it_is_mapped_and_can_be_sent() {
    let (bar, messages) = bar();
    let (mapped, other) = (bar.register(0x1008).unwrap(), bar.register(0x2008).unwrap());
    assert!(mapped.is_mapped() && !other.is_mapped());
    mapped.write(5).unwrap();
    assert!(messages.0.lock().unwrap().is_empty());
    mapped.send(6).unwrap();
    other.write(7).unwrap();
    let bytes = |value: u8| Some(vec![value, 0, 0, 0]);
    assert_eq!(*messages.0.lock().unwrap(), [(0x1008, 4, bytes(6)), (0x2008, 4, bytes(7))]);
    // It keeps its space mapped.
    let again = bar.register(0x1008).unwrap();
    drop((mapped, bar));
    again.write(9).unwrap();
}

#[test]
fn what_is_outside_or_unaligned_is_refused() {
    let (bar, messages) = bar();
    let invalid = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid);
    for offset in [2, 0x1001, 0x4000, 0x4000 - 2, u64::MAX, u64::MAX - 3] {
        invalid(bar.read32(offset).map(|_| ()));
        invalid(bar.write32(offset, 0));
        invalid(bar.register(offset).map(|_| ()));
    }
    for offset in [4, 0x1004, 0x3ffc, 0x4000, u64::MAX - 7] {
        invalid(bar.read64(offset).map(|_| ()));
        invalid(bar.write64(offset, 0));
    }
    assert!(messages.0.lock().unwrap().is_empty());
}
