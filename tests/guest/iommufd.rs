//! The kernel's newer interface: iommufd, and a node for each device. And groups beside it, on
//! the same kernel.

use crate::fence::stale_dma_is_stopped;
use crate::place::{FIRST, bound, namespace};
use freehold_engine::vfio::{Interface, Options, Vfio};
use freehold_engine::{OpenOptions, open};
use freehold_tests::conformance::run_all;
use freehold_tests::nvme::killed;
use freehold_tests::random::Random;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

fn conforms(interface: Interface) {
    let next = AtomicU32::new(0);
    run_all(&|| {
        let ns = 1 + next.fetch_add(1, Ordering::Relaxed) % 4;
        let options = OpenOptions { vfio: interface, ..OpenOptions::default() };
        open(&namespace(FIRST, ns), &options).expect("it opens")
    });
}

#[test]
fn iommufd_conformance() {
    bound(FIRST);
    assert!(Path::new("/dev/iommu").exists(), "this kernel has iommufd");
    conforms(Interface::Iommufd);
}

#[test]
fn iommufd_groups_beside_it() {
    conforms(Interface::Group);
}

#[test]
fn iommufd_m4_dma_to_memory_that_was_taken_back_is_stopped() {
    bound(FIRST);
    let options = Options { interface: Interface::Iommufd };
    stale_dma_is_stopped(Vfio::open(FIRST, options).expect("it opens"));
}

/// What is opened without a word is opened by it.
#[test]
fn iommufd_a_store_keeps_what_it_is_given() {
    let uri = namespace(FIRST, 2);
    let mut promises = killed::prepare(&uri).expect("a new store");
    killed::work(&uri, &mut promises, &mut Random::new(3), 150, |_| {});
    killed::judge(&uri, &mut promises).expect("it is all there");
}
