//! What the kernel's headers say: requests by name, and the structures of iommufd.
//!
//! Structures and constants of VFIO are those of the crate `vfio_bindings`, made from
//! `linux/vfio.h`. Those few of `linux/iommufd.h` that are needed stand here.

use std::fmt;
use vfio_bindings::bindings::vfio;

/// A request of `linux/vfio.h` or `linux/iommufd.h`. All are `_IO(';', n)`: a type and a
/// number, without a direction and a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Request {
    /// `VFIO_GET_API_VERSION`
    ApiVersion = 100,
    /// `VFIO_CHECK_EXTENSION`
    CheckExtension = 101,
    /// `VFIO_SET_IOMMU`
    SetIommu = 102,
    /// `VFIO_GROUP_GET_STATUS`
    GroupStatus = 103,
    /// `VFIO_GROUP_SET_CONTAINER`
    GroupSetContainer = 104,
    /// `VFIO_GROUP_GET_DEVICE_FD`
    GroupDevice = 106,
    /// `VFIO_DEVICE_GET_INFO`
    DeviceInfo = 107,
    /// `VFIO_DEVICE_GET_REGION_INFO`
    RegionInfo = 108,
    /// `VFIO_DEVICE_GET_IRQ_INFO`
    IrqInfo = 109,
    /// `VFIO_DEVICE_SET_IRQS`
    SetIrqs = 110,
    /// `VFIO_DEVICE_RESET`
    DeviceReset = 111,
    /// `VFIO_IOMMU_GET_INFO`
    IommuInfo = 112,
    /// `VFIO_IOMMU_MAP_DMA`
    MapDma = 113,
    /// `VFIO_IOMMU_UNMAP_DMA`
    UnmapDma = 114,
    /// `VFIO_DEVICE_BIND_IOMMUFD`
    BindIommufd = 118,
    /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`
    AttachPageTable = 119,
    /// `IOMMU_IOAS_ALLOC`
    IoasAlloc = 0x81,
    /// `IOMMU_IOAS_IOVA_RANGES`
    IoasRanges = 0x84,
    /// `IOMMU_IOAS_MAP`
    IoasMap = 0x85,
    /// `IOMMU_IOAS_UNMAP`
    IoasUnmap = 0x86,
}

impl Request {
    /// As `ioctl(2)` takes it.
    pub(super) fn number(self) -> u32 {
        u32::from(vfio::VFIO_TYPE) << 8 | self as u32
    }

    /// Its argument is a number, or is not looked at.
    pub(super) fn takes_number(self) -> bool {
        matches!(
            self,
            Request::ApiVersion
                | Request::CheckExtension
                | Request::SetIommu
                | Request::DeviceReset
        )
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `struct iommu_ioas_alloc`
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct IoasAlloc {
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) out_ioas_id: u32,
}

/// `struct iommu_iova_range`: the last address is in it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct IovaRange {
    pub(super) start: u64,
    pub(super) last: u64,
}

/// `struct iommu_ioas_iova_ranges`
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct IoasRanges {
    pub(super) size: u32,
    pub(super) ioas_id: u32,
    pub(super) num_iovas: u32,
    pub(super) reserved: u32,
    pub(super) allowed_iovas: u64,
    pub(super) out_iova_alignment: u64,
}

/// `IOMMU_IOAS_MAP_FIXED_IOVA`, `_WRITEABLE` and `_READABLE`.
pub(super) const MAP_FIXED_IOVA: u32 = 1;
pub(super) const MAP_WRITEABLE: u32 = 2;
pub(super) const MAP_READABLE: u32 = 4;

/// `struct iommu_ioas_map`
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct IoasMap {
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) ioas_id: u32,
    pub(super) reserved: u32,
    pub(super) user_va: u64,
    pub(super) length: u64,
    pub(super) iova: u64,
}

/// `struct iommu_ioas_unmap`
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct IoasUnmap {
    pub(super) size: u32,
    pub(super) ioas_id: u32,
    pub(super) iova: u64,
    pub(super) length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// `_IO(';', n)`, of the numbers that stand beside the requests in the headers.
    #[test]
    fn requests_have_the_numbers_of_the_headers() {
        assert_eq!((vfio::VFIO_TYPE, vfio::VFIO_BASE), (b';', 100));
        for (request, number) in [
            (Request::ApiVersion, 0x3b64),
            (Request::CheckExtension, 0x3b65),
            (Request::SetIommu, 0x3b66),
            (Request::GroupStatus, 0x3b67),
            (Request::GroupSetContainer, 0x3b68),
            (Request::GroupDevice, 0x3b6a),
            (Request::DeviceInfo, 0x3b6b),
            (Request::RegionInfo, 0x3b6c),
            (Request::IrqInfo, 0x3b6d),
            (Request::SetIrqs, 0x3b6e),
            (Request::DeviceReset, 0x3b6f),
            (Request::IommuInfo, 0x3b70),
            (Request::MapDma, 0x3b71),
            (Request::UnmapDma, 0x3b72),
            (Request::BindIommufd, 0x3b76),
            (Request::AttachPageTable, 0x3b77),
            (Request::IoasAlloc, 0x3b81),
            (Request::IoasRanges, 0x3b84),
            (Request::IoasMap, 0x3b85),
            (Request::IoasUnmap, 0x3b86),
        ] {
            assert_eq!(request.number(), number, "{request}");
        }
    }

    #[test]
    fn structures_of_iommufd_lie_as_the_header_says() {
        assert_eq!(size_of::<IoasAlloc>(), 12);
        assert_eq!((size_of::<IovaRange>(), offset_of!(IovaRange, last)), (16, 8));
        assert_eq!(size_of::<IoasRanges>(), 32);
        assert_eq!(offset_of!(IoasRanges, allowed_iovas), 16);
        assert_eq!(offset_of!(IoasRanges, out_iova_alignment), 24);
        assert_eq!(size_of::<IoasMap>(), 40);
        assert_eq!((offset_of!(IoasMap, user_va), offset_of!(IoasMap, iova)), (16, 32));
        assert_eq!((size_of::<IoasUnmap>(), offset_of!(IoasUnmap, length)), (24, 16));
    }

    /// What is taken apart by hand in `chain` and `device` is where the structures have it.
    #[test]
    fn structures_of_vfio_lie_where_they_are_looked_for() {
        use vfio::*;
        assert_eq!(size_of::<vfio_info_cap_header>(), 8);
        assert_eq!(size_of::<vfio_region_info>(), 32);
        assert_eq!(offset_of!(vfio_region_info, cap_offset), 12);
        assert_eq!(offset_of!(vfio_region_info, offset), 24);
        assert_eq!(offset_of!(vfio_region_info_cap_sparse_mmap, nr_areas), 8);
        assert_eq!(offset_of!(vfio_region_info_cap_sparse_mmap, areas), 16);
        assert_eq!(size_of::<vfio_region_sparse_mmap_area>(), 16);
        assert_eq!(size_of::<vfio_iommu_type1_info>(), 24);
        assert_eq!(offset_of!(vfio_iommu_type1_info, cap_offset), 16);
        assert_eq!(offset_of!(vfio_iommu_type1_info_cap_iova_range, iova_ranges), 16);
        assert_eq!(offset_of!(vfio_iommu_type1_info_dma_avail, avail), 8);
        assert_eq!(size_of::<vfio_irq_set>(), 20);
        assert_eq!(size_of::<vfio_iommu_type1_dma_map>(), 32);
        assert_eq!(size_of::<vfio_iommu_type1_dma_unmap>(), 24);
        assert_eq!(size_of::<vfio_device_bind_iommufd>(), 24);
        assert_eq!(size_of::<vfio_device_attach_iommufd_pt>(), 16);
    }
}
