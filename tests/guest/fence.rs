//! What the IOMMU stops: memory that was taken back is not reached any more, whatever the
//! device is told.

use crate::place::{FIRST, bound, kernel_log, opened, wait};
use crate::raw::Raw;
use freehold_engine::bus::Function;
use freehold_engine::memory::Page;
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::identify::cns;
use std::sync::Arc;

/// See the test; the function is opened as the caller likes.
pub(crate) fn stale_dma_is_stopped(function: Arc<dyn Function>) {
    let mut raw = Raw::open(function);
    let adopted = raw.pool.adopt(vec![Page::default(); 4]).expect("memory of the caller");
    let buffer = adopted.buffer().expect("a buffer");
    let iova = raw.pool.device_address(&buffer).expect("the device reaches it where it is");
    assert_eq!(identify(&mut raw, iova), 0);
    assert!(buffer[..4096].iter().any(|b| *b != 0), "the device did not write where it was told");
    drop(buffer);
    let mut pages = adopted.into_inner().map_err(|(_, e)| e).expect("it comes back");
    pages.iter_mut().for_each(|page| page.0.fill(0x5a));

    // QEMU's controller says that all is well: only the IOMMU knows.
    let before = faults(iova);
    let _ = identify(&mut raw, iova);
    wait("the IOMMU's report", || faults(iova) > before);
    assert!(pages.iter().all(|page| page.0.iter().all(|b| *b == 0x5a)), "a stale DMA landed");

    // The address may be used again, for other memory; what was there stays as it is.
    let other = raw.pool.adopt(vec![Page::default(); 4]).expect("other memory");
    let buffer = other.buffer().expect("a buffer");
    let iova = raw.pool.device_address(&buffer).expect("an address");
    assert_eq!(identify(&mut raw, iova), 0);
    assert!(buffer[..4096].iter().any(|b| *b != 0), "the device did not write where it was told");
    assert!(pages.iter().all(|page| page.0.iter().all(|b| *b == 0x5a)), "a stale DMA landed");
}

/// Has the controller write a page at an address.
fn identify(raw: &mut Raw, iova: u64) -> u64 {
    raw.run(&Command::identify(cns::CONTROLLER, 0).with_prps(iova, 0))
}

/// Law M4: the caller's own memory, registered page by page, comes back when the IOMMU has let
/// go of it; a command that still names its old address then changes nothing, neither there
/// nor in memory that is used anew, and the IOMMU says so.
#[test]
fn vfio_m4_dma_to_memory_that_was_taken_back_is_stopped() {
    bound(FIRST);
    stale_dma_is_stopped(opened(FIRST));
}

/// Reports of faults at an address, in the kernel's log.
fn faults(iova: u64) -> usize {
    let address = format!("{iova:x}");
    let log = kernel_log();
    let told = log.lines().filter(|line| line.contains("DMAR") && line.contains("fault addr"));
    told.filter(|line| line.to_lowercase().contains(&address)).count()
}
