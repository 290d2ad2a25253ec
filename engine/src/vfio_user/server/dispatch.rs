//! What each request means, with its bounds and its refusals.
//!
//! A request that makes no sense is refused with an errno and changes nothing; the
//! connection goes on. Only what leaves the two sides without a common stream ends it.

use super::device::{Device, DmaMemory, DmaRegion, Interrupt, Region};
use super::remote::{RemoteMemory, errno_of};
use super::session::{End, Session};
use crate::bus::DmaAccess;
use crate::vfio_user::socket::Message;
use crate::vfio_user::version::{self, Capabilities};
use crate::vfio_user::wire::{
    self, CapHeader, Command, DeviceInfo, DmaMapRequest, DmaUnmapRequest, IrqInfo, RegionAccess,
    RegionInfo, SetIrqsRequest, SparseArea, SparseHead,
};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Smallest page of DMA memory.
const PAGE: u64 = wire::DEFAULT_PAGE_SIZES;

/// What is answered when it succeeded.
#[derive(Debug, Default)]
struct Reply {
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl From<Vec<u8>> for Reply {
    fn from(payload: Vec<u8>) -> Self {
        Self { payload, fds: Vec::new() }
    }
}

type Answer = Result<Reply, Errno>;

impl Session {
    /// Does what a message asks and queues the answer.
    ///
    /// # Errors
    /// The session is over.
    pub(super) fn answer(&mut self, message: Message, device: &mut dyn Device) -> Result<(), End> {
        let Message { header, payload, fds, lost_fds } = message;
        if !header.is_command() {
            return Err(End::ClientDropped("it answered what was not asked".into()));
        }
        let command = Command::of(header.command);
        let answer = match command {
            _ if lost_fds => Err(Errno::INVAL),
            None => Err(Errno::OPNOTSUPP),
            Some(Command::Version) => self.version(&payload, &fds),
            Some(_) if !self.agreed => Err(Errno::INVAL),
            Some(Command::DmaMap) => self.dma_map(&payload, fds, device),
            Some(Command::SetIrqs) => self.set_irqs(&payload, fds, device),
            Some(_) if !fds.is_empty() => Err(Errno::INVAL),
            Some(Command::DmaUnmap) => self.dma_unmap(&payload, device),
            Some(Command::GetInfo) => device_info(&payload),
            Some(Command::GetRegionInfo) => self.region_info(&payload),
            Some(Command::GetIrqInfo) => self.irq_info(&payload),
            Some(Command::RegionRead) => self.region_read(&payload, device),
            Some(Command::RegionWrite) => self.region_write(&payload, device),
            Some(Command::Reset) => reset(&payload, device),
            // The others are for the other direction, were not negotiated, or are options
            // that this server does not have.
            Some(_) => Err(Errno::OPNOTSUPP),
        };
        if let Err(errno) = answer {
            tracing::debug!(?command, number = header.command, %errno, "a request is refused");
        }
        if header.wants_reply() {
            let mut wire = self.lock();
            match answer {
                Ok(Reply { payload, fds }) => {
                    wire.link.queue(wire::frame(&header.reply(payload.len()), &payload), fds);
                }
                Err(errno) => {
                    let number = errno.raw_os_error().unsigned_abs();
                    wire.link.queue(wire::frame(&header.failure(number), &[]), Vec::new());
                }
            }
            wire.link.flush()?;
        }
        if !self.agreed {
            return Err(End::ClientDropped("no version was agreed on".into()));
        }
        Ok(())
    }

    /// Spec, `VFIO_USER_VERSION`.
    fn version(&mut self, payload: &[u8], fds: &[OwnedFd]) -> Answer {
        if self.agreed || !fds.is_empty() {
            return Err(Errno::INVAL);
        }
        let (version, theirs) = version::decode(payload).map_err(|why| {
            tracing::info!(%why, "a client proposes nonsense");
            Errno::INVAL
        })?;
        if version.major != wire::MAJOR {
            return Err(Errno::PROTONOSUPPORT);
        }
        self.lock().max_data = theirs.max_data;
        self.agreed = true;
        let ours = Capabilities::ours(self.options.max_maps).answering(&theirs);
        Ok(ours.encode(version.minor.min(wire::MINOR)).into())
    }

    /// Spec, `VFIO_USER_DMA_MAP`.
    fn dma_map(&mut self, payload: &[u8], fds: Vec<OwnedFd>, device: &mut dyn Device) -> Answer {
        let request = exactly(payload, DmaMapRequest::LEN, DmaMapRequest::decode)?;
        let known = wire::dma::READABLE | wire::dma::WRITEABLE | wire::dma::MAPPABLE;
        let access = match request.flags & (wire::dma::READABLE | wire::dma::WRITEABLE) {
            _ if request.flags & !known != 0 => return Err(Errno::INVAL),
            wire::dma::READABLE => DmaAccess::Read,
            wire::dma::WRITEABLE => DmaAccess::Write,
            0 => return Err(Errno::INVAL),
            _ => DmaAccess::ReadWrite,
        };
        let DmaMapRequest { address: iova, size: len, offset, .. } = request;
        let end = iova.checked_add(len).ok_or(Errno::INVAL)?;
        let pages = [iova, len, offset].iter().all(|n| n.is_multiple_of(PAGE));
        if (request.argsz as usize) < DmaMapRequest::LEN || len == 0 || !pages || fds.len() > 1 {
            return Err(Errno::INVAL);
        }
        if self.maps.range(..end).next_back().is_some_and(|(&from, &len)| from + len > iova) {
            return Err(Errno::EXIST);
        }
        if self.maps.len() >= self.options.max_maps as usize {
            return Err(Errno::NOSPC);
        }
        let memory = match fds.into_iter().next() {
            Some(file) => {
                check_file(&file, offset, len)?;
                DmaMemory::File { file, offset }
            }
            None => {
                let patience = self.options.patience;
                DmaMemory::Messages(RemoteMemory::new(&self.wire, iova, len, patience))
            }
        };
        let added = device.dma_added(DmaRegion { iova, len, access, memory });
        added.map_err(|error| errno_of(&error))?;
        self.maps.insert(iova, len);
        Ok(Reply::default())
    }

    /// Spec, `VFIO_USER_DMA_UNMAP`: the answer says that the device has let go.
    fn dma_unmap(&mut self, payload: &[u8], device: &mut dyn Device) -> Answer {
        let request = exactly(payload, DmaUnmapRequest::LEN, DmaUnmapRequest::decode)?;
        let DmaUnmapRequest { argsz, flags, address, size } = request;
        if (argsz as usize) < DmaUnmapRequest::LEN {
            return Err(Errno::INVAL);
        }
        match flags {
            0 if self.maps.get(&address) == Some(&size) => {
                device.dma_removed(address, size);
                self.maps.remove(&address);
            }
            0 => return Err(Errno::NOENT),
            wire::dma::UNMAP_ALL if address == 0 && size == 0 => {
                for (iova, len) in std::mem::take(&mut self.maps) {
                    device.dma_removed(iova, len);
                }
            }
            // Dirty pages are not tracked.
            _ => return Err(Errno::INVAL),
        }
        Ok(payload.to_vec().into())
    }

    /// Spec, `VFIO_USER_DEVICE_GET_REGION_INFO`.
    fn region_info(&self, payload: &[u8]) -> Answer {
        let asked = exactly(payload, RegionInfo::LEN, RegionInfo::decode)?;
        let region = self.regions.get(asked.index as usize).ok_or(Errno::INVAL)?;
        if (asked.argsz as usize) < RegionInfo::LEN {
            return Err(Errno::INVAL);
        }
        let mut info = RegionInfo {
            argsz: RegionInfo::LEN as u32,
            index: asked.index,
            size: region.len,
            ..RegionInfo::default()
        };
        if region.len > 0 {
            info.flags = wire::region::READ | wire::region::WRITE;
        }
        let (mut caps, mut fds) = (Vec::new(), Vec::new());
        if let Some(shared) = &region.shared {
            info.flags |= wire::region::MMAP;
            info.offset = shared.offset;
            fds.push(rustix::io::fcntl_dupfd_cloexec(&shared.file, 0)?);
            caps = capabilities(region);
        }
        if !caps.is_empty() {
            info.flags |= wire::region::CAPS;
            info.argsz += caps.len() as u32;
            if info.argsz <= asked.argsz {
                info.cap_offset = RegionInfo::LEN as u32;
            } else {
                caps.clear(); // No room: `argsz` says how much is needed.
            }
        }
        let mut payload = Vec::with_capacity(RegionInfo::LEN + caps.len());
        info.encode(&mut payload);
        payload.extend_from_slice(&caps);
        Ok(Reply { payload, fds })
    }

    /// Spec, `VFIO_USER_DEVICE_GET_IRQ_INFO`.
    fn irq_info(&self, payload: &[u8]) -> Answer {
        let asked = exactly(payload, IrqInfo::LEN, IrqInfo::decode)?;
        if (asked.argsz as usize) < IrqInfo::LEN || asked.index >= wire::irq::COUNT {
            return Err(Errno::INVAL);
        }
        let mut info = IrqInfo { argsz: IrqInfo::LEN as u32, index: asked.index, ..asked };
        (info.flags, info.count) = (0, 0);
        if asked.index == wire::irq::MSIX {
            info.flags = wire::irq::EVENTFD;
            info.count = self.vectors.len() as u32;
        }
        let mut payload = Vec::with_capacity(IrqInfo::LEN);
        info.encode(&mut payload);
        Ok(payload.into())
    }

    /// Spec, `VFIO_USER_DEVICE_SET_IRQS`.
    fn set_irqs(&mut self, payload: &[u8], fds: Vec<OwnedFd>, device: &mut dyn Device) -> Answer {
        use wire::irq::{ACTION, ACTION_TRIGGER, DATA, DATA_BOOL, DATA_EVENTFD, DATA_NONE, MSIX};
        let request = SetIrqsRequest::decode(payload).ok_or(Errno::INVAL)?;
        let SetIrqsRequest { argsz, flags, index, start, count } = request;
        let bools = &payload[SetIrqsRequest::LEN..];
        let have = if index == MSIX { self.vectors.len() as u32 } else { 0 };
        let inside = start.checked_add(count).is_some_and(|end| end <= have);
        let known = argsz as usize >= payload.len() && flags & !(DATA | ACTION) == 0;
        if !known || index >= wire::irq::COUNT || !inside {
            return Err(Errno::INVAL);
        }
        if flags & ACTION != ACTION_TRIGGER {
            return Err(Errno::OPNOTSUPP); // Masking is MSI-X's own, in its table.
        }
        let range = start as usize..(start + count) as usize;
        match flags & DATA {
            DATA_EVENTFD if bools.is_empty() && (fds.is_empty() || fds.len() == range.len()) => {
                let made: Result<Vec<Interrupt>, Errno> =
                    fds.into_iter().map(Interrupt::new).collect();
                let mut made = made?.into_iter();
                for vector in range {
                    self.attach(vector, made.next(), device);
                }
            }
            DATA_NONE if bools.is_empty() && fds.is_empty() && (start, count) == (0, 0) => {
                for vector in 0..self.vectors.len() {
                    self.attach(vector, None, device);
                }
            }
            DATA_NONE if bools.is_empty() && fds.is_empty() => {
                self.vectors[range].iter().flatten().for_each(Interrupt::signal);
            }
            DATA_BOOL if bools.len() == range.len() && fds.is_empty() => {
                let wanted = self.vectors[range].iter().zip(bools).filter(|(_, b)| **b != 0);
                wanted.filter_map(|(vector, _)| vector.as_ref()).for_each(Interrupt::signal);
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(Reply::default())
    }

    fn attach(&mut self, vector: usize, interrupt: Option<Interrupt>, device: &mut dyn Device) {
        if interrupt.is_some() || self.vectors[vector].is_some() {
            device.attach(vector as u32, interrupt.clone());
            self.vectors[vector] = interrupt;
        }
    }

    /// Checks an access to a region.
    fn access(&self, payload: &[u8]) -> Result<RegionAccess, Errno> {
        let access = RegionAccess::decode(payload).ok_or(Errno::INVAL)?;
        let region = self.regions.get(access.region as usize).ok_or(Errno::INVAL)?;
        match access.offset.checked_add(access.count.into()) {
            Some(end) if end <= region.len && access.count <= wire::MAX_DATA => Ok(access),
            _ => Err(Errno::INVAL),
        }
    }

    /// Spec, `VFIO_USER_REGION_READ`.
    fn region_read(&self, payload: &[u8], device: &mut dyn Device) -> Answer {
        let access = self.access(exactly(payload, RegionAccess::LEN, Some)?)?;
        if access.count > self.lock().max_data {
            return Err(Errno::INVAL);
        }
        let mut reply = Vec::with_capacity(RegionAccess::LEN + access.count as usize);
        access.encode(&mut reply);
        reply.resize(RegionAccess::LEN + access.count as usize, 0);
        if access.count > 0 {
            let to = &mut reply[RegionAccess::LEN..];
            device.read(access.region, access.offset, to).map_err(|error| errno_of(&error))?;
        }
        Ok(reply.into())
    }

    /// Spec, `VFIO_USER_REGION_WRITE`.
    fn region_write(&self, payload: &[u8], device: &mut dyn Device) -> Answer {
        let access = self.access(payload)?;
        let data = &payload[RegionAccess::LEN..];
        if data.len() != access.count as usize {
            return Err(Errno::INVAL);
        }
        if !data.is_empty() {
            device.write(access.region, access.offset, data).map_err(|error| errno_of(&error))?;
        }
        Ok(payload[..RegionAccess::LEN].to_vec().into())
    }
}

/// Reads a payload that must have exactly a length.
fn exactly<'a, T>(
    payload: &'a [u8],
    len: usize,
    decode: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<T, Errno> {
    if payload.len() != len {
        return Err(Errno::INVAL);
    }
    decode(payload).ok_or(Errno::INVAL)
}

/// Memory that a client gives is in a regular file (a memfd is one) that is long enough.
fn check_file(file: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    match offset.checked_add(len) {
        Some(end) if regular && end <= size => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

/// The capability that lists what of a region can be mapped; nothing when all of it can.
fn capabilities(region: &Region) -> Vec<u8> {
    let areas = region.shared.as_ref().map_or(&[][..], |shared| &shared.areas);
    if let [all] = areas
        && *all == (0..region.len)
    {
        return Vec::new();
    }
    let mut caps = Vec::new();
    CapHeader { id: wire::region::SPARSE_MMAP, version: 1, next: 0 }.encode(&mut caps);
    SparseHead { areas: areas.len() as u32, reserved: 0 }.encode(&mut caps);
    for area in areas {
        SparseArea { offset: area.start, size: area.end - area.start }.encode(&mut caps);
    }
    caps
}

/// Spec, `VFIO_USER_DEVICE_GET_INFO`.
fn device_info(payload: &[u8]) -> Answer {
    let asked = exactly(payload, DeviceInfo::LEN, DeviceInfo::decode)?;
    if (asked.argsz as usize) < DeviceInfo::LEN {
        return Err(Errno::INVAL);
    }
    let info = DeviceInfo {
        argsz: DeviceInfo::LEN as u32,
        flags: wire::device::RESET | wire::device::PCI,
        regions: wire::region::COUNT,
        irqs: wire::irq::COUNT,
    };
    let mut reply = Vec::with_capacity(DeviceInfo::LEN);
    info.encode(&mut reply);
    Ok(reply.into())
}

/// Spec, `VFIO_USER_DEVICE_RESET`.
fn reset(payload: &[u8], device: &mut dyn Device) -> Answer {
    if !payload.is_empty() {
        return Err(Errno::INVAL);
    }
    device.reset().map_err(|error| errno_of(&error))?;
    Ok(Reply::default())
}
