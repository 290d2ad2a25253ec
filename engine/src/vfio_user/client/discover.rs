//! What a server says its device is: regions, what of them can be mapped, interrupts.
//!
//! All of it is a stranger's word: counts are bounded, lists must lead forward, areas must
//! lie in their region. What does not is a broken protocol; what merely cannot be mapped
//! is reached by messages.

use super::channel::Channel;
use super::mapping::{Pages, may_map};
use super::{Client, Mapping};
use crate::bus::{Area, Mmio};
use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::socket::Message;
use crate::vfio_user::wire::{
    self, CapHeader, Command, DeviceInfo, IrqInfo, RegionInfo, SparseArea, SparseHead,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Asks what the device is, and refuses what is no PCI device.
pub(super) fn device(channel: &Channel) -> Result<DeviceInfo> {
    let mut payload = Vec::new();
    DeviceInfo { argsz: DeviceInfo::LEN as u32, ..DeviceInfo::default() }.encode(&mut payload);
    let answer = channel.ask(Command::GetInfo, &payload)?;
    let info = DeviceInfo::decode(&answer.payload)
        .ok_or_else(|| channel.nonsense("a short answer to GetInfo"))?;
    if info.flags & wire::device::PCI == 0 || info.regions <= wire::region::CONFIG {
        let text = format!("{} serves no PCI device", channel.name());
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(info)
}

/// Asks how many MSI-X vectors there are that an eventfd can hear.
pub(super) fn vectors(channel: &Channel, device: &DeviceInfo) -> Result<u32> {
    if device.irqs <= wire::irq::MSIX {
        return Ok(0);
    }
    let mut payload = Vec::new();
    let wanted =
        IrqInfo { argsz: IrqInfo::LEN as u32, index: wire::irq::MSIX, ..Default::default() };
    wanted.encode(&mut payload);
    let answer = match channel.ask(Command::GetIrqInfo, &payload) {
        Ok(answer) => answer,
        // Some servers refuse to speak of interrupts that they do not have.
        Err(error) if error.kind() != ErrorKind::Gone => return Ok(0),
        Err(error) => return Err(error),
    };
    match IrqInfo::decode(&answer.payload) {
        Some(info) if info.index == wire::irq::MSIX => {
            let usable = info.flags & wire::irq::EVENTFD != 0;
            Ok(if usable { info.count.min(wire::irq::MAX_VECTORS) } else { 0 })
        }
        _ => Err(channel.nonsense("the answer to GetIrqInfo is about something else")),
    }
}

/// A region: its description and what of it is mapped.
pub(super) fn region(client: &Client, index: u32) -> Result<(RegionInfo, Vec<Area>)> {
    let channel = &client.channel;
    let (mut info, mut answer) = ask_region(channel, index, RegionInfo::LEN as u32)?;
    if info.argsz > RegionInfo::LEN as u32 && info.argsz <= wire::region::MAX_INFO {
        // Capabilities did not fit: once more, with room for them (spec, Message sizes).
        (info, answer) = ask_region(channel, index, info.argsz)?;
    }
    let areas = areas(&info, &answer.payload).map_err(|what| channel.nonsense(what))?;
    let both = wire::region::READ | wire::region::WRITE | wire::region::MMAP;
    if client.mapping == Mapping::Never || info.flags & both != both {
        return Ok((info, Vec::new()));
    }
    Ok((info, map(client, &info, &areas, &answer.fds)))
}

fn ask_region(channel: &Channel, index: u32, argsz: u32) -> Result<(RegionInfo, Message)> {
    let mut payload = Vec::new();
    RegionInfo { argsz, index, ..RegionInfo::default() }.encode(&mut payload);
    let answer = channel.ask(Command::GetRegionInfo, &payload)?;
    match RegionInfo::decode(&answer.payload) {
        Some(info) if info.index == index => Ok((info, answer)),
        _ => Err(channel.nonsense("the answer to GetRegionInfo is about something else")),
    }
}

/// The parts of a region that can be mapped: those that a capability lists, or all of it.
fn areas(info: &RegionInfo, payload: &[u8]) -> std::result::Result<Vec<SparseArea>, &'static str> {
    let whole = vec![SparseArea { offset: 0, size: info.size }];
    if info.flags & wire::region::CAPS == 0 {
        return Ok(whole);
    }
    let (mut at, mut before) = (info.cap_offset as usize, RegionInfo::LEN - 1);
    // A server that had no room for the capabilities says so with an offset of zero.
    while at != 0 {
        if at <= before {
            return Err("a list of capabilities that leads back");
        }
        before = at;
        let rest = payload.get(at..).ok_or("a capability outside its message")?;
        let cap = CapHeader::decode(rest).ok_or("a capability that is cut off")?;
        if cap.id == wire::region::SPARSE_MMAP {
            return sparse(info, &rest[CapHeader::LEN..]);
        }
        at = cap.next as usize;
    }
    let cut_off = info.argsz as usize > payload.len();
    Ok(if cut_off { Vec::new() } else { whole })
}

fn sparse(info: &RegionInfo, rest: &[u8]) -> std::result::Result<Vec<SparseArea>, &'static str> {
    let head = SparseHead::decode(rest).ok_or("a list of areas that is cut off")?;
    let list = &rest[SparseHead::LEN..];
    if head.areas as usize > list.len() / SparseArea::LEN {
        return Err("more areas than fit in their message");
    }
    let areas = list.chunks_exact(SparseArea::LEN).take(head.areas as usize);
    let areas: Vec<SparseArea> = areas.filter_map(SparseArea::decode).collect();
    let inside = |a: &SparseArea| a.offset.checked_add(a.size).is_some_and(|end| end <= info.size);
    if !areas.iter().all(inside) {
        return Err("an area outside its region");
    }
    Ok(areas)
}

/// Maps what may be mapped. Servers send one descriptor for all areas, or one for each.
fn map(client: &Client, info: &RegionInfo, areas: &[SparseArea], fds: &[OwnedFd]) -> Vec<Area> {
    let mut mapped = Vec::new();
    let page = rustix::param::page_size() as u64;
    for (number, area) in areas.iter().enumerate().filter(|(_, area)| area.size > 0) {
        let one = if fds.len() == 1 { 0 } else { number };
        let Some(file) = fds.get(one) else { continue };
        // By itself, too: what is aligned in the region must be so in the mapping.
        let aligned = area.offset.is_multiple_of(page);
        let place = info.offset.checked_add(area.offset).filter(|_| aligned);
        let pages = match place {
            Some(place) if may_map(file.as_fd(), client.mapping, client.peer) => {
                Pages::map(file.as_fd(), place, area.size)
            }
            Some(_) => Err(Error::new(ErrorKind::Permission, "its file could shrink under us")),
            None => Err(Error::new(ErrorKind::Invalid, "it is not made of pages")),
        };
        match pages {
            Ok(pages) => {
                let memory: Arc<dyn Mmio> = Arc::new(pages);
                mapped.push(Area { offset: area.offset, memory });
            }
            Err(why) => tracing::info!(
                server = %client.channel.name(), region = info.index, offset = area.offset, %why,
                "registers are reached by messages"
            ),
        }
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(cap_offset: u32, tail: &[u8]) -> std::result::Result<Vec<SparseArea>, &'static str> {
        let argsz = (RegionInfo::LEN + tail.len()) as u32;
        let flags = wire::region::CAPS;
        let info = RegionInfo { argsz, flags, cap_offset, size: 0x3000, ..Default::default() };
        let mut payload = Vec::new();
        info.encode(&mut payload);
        payload.extend_from_slice(tail);
        areas(&info, &payload)
    }

    fn cap(id: u16, next: u32, count: u32, list: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        CapHeader { id, version: 1, next }.encode(&mut bytes);
        SparseHead { areas: count, reserved: 0 }.encode(&mut bytes);
        list.iter().for_each(|&(offset, size)| SparseArea { offset, size }.encode(&mut bytes));
        bytes
    }

    #[test]
    fn lists_of_areas_are_read() {
        let areas = listed(32, &cap(1, 0, 2, &[(0, 0x1000), (0x2000, 0x1000)])).unwrap();
        assert_eq!(areas, [0u64, 0x2000].map(|offset| SparseArea { offset, size: 0x1000 }));
        let mut two = cap(9, 48, 0, &[]);
        two.extend_from_slice(&cap(1, 0, 1, &[(0x1000, 0x2000)]));
        assert_eq!(listed(32, &two).unwrap(), [SparseArea { offset: 0x1000, size: 0x2000 }]);
        assert_eq!(listed(32, &cap(1, 0, 0, &[])).unwrap(), []);
        let other = listed(32, &cap(9, 0, 0, &[])).unwrap();
        assert_eq!(other, [SparseArea { offset: 0, size: 0x3000 }]);
    }

    #[test]
    fn lists_that_lie_are_refused() {
        assert!(listed(31, &cap(1, 0, 0, &[])).is_err());
        assert!(listed(4, &cap(1, 0, 0, &[])).is_err());
        assert!(listed(32, &cap(9, 32, 0, &[])).is_err());
        assert!(listed(4000, &cap(1, 0, 0, &[])).is_err());
        assert!(listed(u32::MAX, &cap(1, 0, 0, &[])).is_err());
        assert!(listed(32, &cap(1, 0, 2, &[(0, 0x1000)])).is_err());
        assert!(listed(32, &cap(1, 0, u32::MAX, &[(0, 0x1000)])).is_err());
        assert!(listed(32, &cap(1, 0, 1, &[(0x2000, 0x1001)])).is_err());
        assert!(listed(32, &cap(1, 0, 1, &[(u64::MAX, 2)])).is_err());
        assert!(listed(32, &[1, 0, 1, 0]).is_err());
    }
}
