//! What a map takes in memory, and that a look-up takes nothing.

use freehold::{OpenOptions, Store};
use freehold_engine::counting::{Counting, allocations, held};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const B: u64 = 4096;

/// At most 32 bytes for an extent, all in all, whether the map was filled in order
/// or not; and the store's own account says about the same.
#[test]
fn an_extent_takes_at_most_32_bytes_and_a_look_up_none() {
    const EXTENTS: u64 = 60_000;
    for step in [1, 37_199] {
        let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(512 << 20).unwrap());
        let store = Store::format_on(medium.clone()).unwrap();
        let file = store.create(b"f").unwrap();
        for i in 0..EXTENTS {
            file.allocate(i * step % EXTENTS * 2 * B, B).unwrap();
        }
        drop(file);
        store.close().unwrap();
        let store = Store::open_on(medium, &OpenOptions::default()).unwrap();
        let file = store.open_file(b"f").unwrap();
        let (before, used) = (held(), store.stats().cache_used);
        for i in 0..EXTENTS {
            assert!(file.extent_at(i * 2 * B).unwrap().address.is_some());
        }
        let took = (held() - before) as f64 / EXTENTS as f64;
        assert!((24.0..=32.0).contains(&took), "{took} bytes for an extent");
        let said = (store.stats().cache_used - used) as f64 / EXTENTS as f64;
        assert!((said - took).abs() < 1.5, "the account says {said}, it is {took}");
        let before = allocations();
        for i in 0..EXTENTS {
            file.extent_at(i * 2 * B).unwrap();
        }
        assert_eq!(allocations(), before, "a look-up allocates");
        println!("{took:.1} bytes for an extent");
    }
}
