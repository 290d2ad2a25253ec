//! Tests that run in a guest with an IOMMU, NVMe controllers and persistent memory, which
//! `tests/qemu` boots. They do to the machine what tests of a host must not: they give
//! controllers to VFIO, take them out, and are killed with all of it.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `place` | the controllers of the guest, and how it asks its host for something |
//! | `suites` | the suites of other media, on controllers over VFIO |
//! | `memory` | CMB and PMR |
//! | `owners` | the kernel's driver and ours, one after the other |
//! | `raw` | a controller driven by hand |
//! | `fence` | what the IOMMU stops |
//! | `iommufd` | the kernel's newer interface |
//! | `trouble` | removal under load, a controller that goes fatal |
//! | `killed` | the whole machine killed in the middle of work |
//! | `dax` | persistent memory |

mod dax;
mod fence;
mod iommufd;
mod killed;
mod memory;
mod owners;
mod place;
mod raw;
mod suites;
mod trouble;
