//! The PCI configuration space: an NVMe function with power management, MSI-X and
//! PCI Express capabilities (PCI Local Bus 3.0, PCI Express Base 3.0).
//!
//! Each byte has a mask of the bits that a client may change; the others keep what
//! they are. Writing ones to a base address reads back its size by that mask.

use super::controller::{BAR0_BYTES, MSIX_PENDING, MSIX_TABLE};

/// Bytes of the space.
pub(super) const CONFIG_BYTES: usize = 4096;

const COMMAND: usize = 0x04;
const BAR0: usize = 0x10;
const POWER: usize = 0x40;
const MSIX: usize = 0x50;
const EXPRESS: usize = 0x60;
const DEVICE_CONTROL: usize = EXPRESS + 8;

/// What a write brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing beyond the bytes.
    None,
    /// A function level reset was asked for.
    Reset,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ConfigSpace {
    bytes: Box<[u8; CONFIG_BYTES]>,
    writable: Box<[u8; CONFIG_BYTES]>,
}

impl ConfigSpace {
    /// The space after a reset. `cmb` and `region`: bytes of the Controller Memory
    /// Buffer and of the Persistent Memory Region, powers of two, or 0.
    pub(super) fn new(vendor: u16, vectors: u16, cmb: u64, region: u64) -> Self {
        let mut space =
            Self { bytes: Box::new([0; CONFIG_BYTES]), writable: Box::new([0; CONFIG_BYTES]) };
        space.put16(0x00, vendor, 0);
        space.put16(0x02, 0xfe40, 0);
        // Memory space, bus master, interrupt disable.
        space.put16(COMMAND, 0, 0x0406);
        // A list of capabilities is there.
        space.put16(0x06, 0x0010, 0);
        // Revision 0, NVM Express I/O controller.
        space.put32(0x08, 0x0108_0200, 0);
        // 64-bit memory, not prefetchable.
        space.put32(BAR0, 0x4, !(BAR0_BYTES as u32 - 1));
        space.put32(BAR0 + 4, 0, u32::MAX);
        space.put_bar(super::cmb::BAR as usize, cmb);
        space.put_bar(super::region::BAR as usize, region);
        space.put16(0x2c, vendor, 0);
        space.put16(0x2e, 0xfe40, 0);
        space.bytes[0x34] = POWER as u8;
        // Interrupt line; no pin, there are message-signalled interrupts alone.
        space.writable[0x3c] = 0xff;
        // Power management, version 3; leaving D3 keeps the state.
        space.put32(POWER, 0x0003_0001 | (MSIX as u32) << 8, 0);
        space.put16(POWER + 4, 0x0008, 0x0003);
        // MSI-X: the table size is zero-based.
        space.put16(MSIX, 0x0011 | (EXPRESS as u16) << 8, 0);
        space.put16(MSIX + 2, vectors - 1, 0xc000);
        space.put32(MSIX + 4, MSIX_TABLE as u32, 0);
        space.put32(MSIX + 8, MSIX_PENDING as u32, 0);
        // PCI Express endpoint, version 2, with function level reset.
        space.put16(EXPRESS, 0x0010, 0);
        space.put16(EXPRESS + 2, 0x0002, 0);
        space.put32(EXPRESS + 4, 1 << 28 | 1 << 15, 0);
        // Everything but the bit that asks for the reset, which reads as zero.
        space.put16(DEVICE_CONTROL, 0x2810, 0x7fff);
        // A link of one lane at 2.5 GT/s, as a function without a real link says.
        space.put32(EXPRESS + 0x0c, 0x11, 0);
        space.put16(EXPRESS + 0x12, 0x11, 0);
        space
    }

    /// A base address of prefetchable 64-bit memory; none for no bytes.
    fn put_bar(&mut self, index: usize, len: u64) {
        if len == 0 {
            return;
        }
        let (at, mask) = (BAR0 + 4 * index, !(len - 1));
        self.put32(at, 0xc, mask as u32 & !0xf);
        self.put32(at + 4, 0, (mask >> 32) as u32);
    }

    fn put16(&mut self, at: usize, value: u16, writable: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32, writable: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }

    /// Reads bytes; what lies outside reads as zeroes.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) {
        for (i, byte) in to.iter_mut().enumerate() {
            let place = offset.checked_add(i as u64).and_then(|at| usize::try_from(at).ok());
            *byte = place.and_then(|at| self.bytes.get(at)).copied().unwrap_or(0);
        }
    }

    /// Writes bytes, as far as they may be written.
    pub(super) fn write(&mut self, offset: u64, from: &[u8]) -> Effect {
        let mut effect = Effect::None;
        let Ok(start) = usize::try_from(offset) else { return effect };
        for (i, byte) in from.iter().enumerate() {
            let Some(at) = start.checked_add(i).filter(|at| *at < CONFIG_BYTES) else { break };
            let mask = self.writable[at];
            self.bytes[at] = self.bytes[at] & !mask | byte & mask;
            if at == DEVICE_CONTROL + 1 && byte & 0x80 != 0 {
                effect = Effect::Reset;
            }
        }
        effect
    }

    /// Whether the function may reach memory: bus master enabled, in power state D0.
    pub(super) fn is_bus_master(&self) -> bool {
        self.bytes[COMMAND] & 0x04 != 0 && self.bytes[POWER + 4] & 3 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(space: &ConfigSpace, at: u64) -> u32 {
        let mut bytes = [0; 4];
        space.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn it_is_an_nvme_function_whose_base_address_has_a_size() {
        let mut space = ConfigSpace::new(1, 65, 0, 1 << 33);
        assert_eq!(read32(&space, 8) >> 8, 0x01_08_02);
        space.write(0x10, &[0xff; 8]);
        assert_eq!(read32(&space, 0x10), !(BAR0_BYTES as u32 - 1) | 4);
        assert_eq!(read32(&space, 0x14), u32::MAX);
        assert_eq!((read32(&space, 0x20), read32(&space, 0x24)), (0xc, 0));
        space.write(0x20, &[0xff; 8]);
        assert_eq!((read32(&space, 0x20), read32(&space, 0x24)), (0xc, u32::MAX << 1));
        assert_eq!(read32(&space, 0x18), 0, "there is no such base address");
        assert_eq!(space.write(0, &[0xff; 4]), Effect::None);
        assert_eq!(read32(&space, 0) as u16, 1);
    }

    #[test]
    fn the_capabilities_are_a_list_that_ends() {
        let space = ConfigSpace::new(1, 65, 0, 0);
        let (mut at, mut found) = (space.bytes[0x34], Vec::new());
        while at != 0 && found.len() < 10 {
            found.push(space.bytes[at as usize]);
            at = space.bytes[at as usize + 1];
        }
        assert_eq!(found, [0x01, 0x11, 0x10]);
        assert_eq!(read32(&space, MSIX as u64) >> 16, 64);
    }

    #[test]
    fn bus_mastering_and_resets_are_noticed() {
        let mut space = ConfigSpace::new(1, 2, 0, 0);
        assert!(!space.is_bus_master());
        space.write(COMMAND as u64, &[0x06, 0x04]);
        assert!(space.is_bus_master());
        space.write(POWER as u64 + 4, &[3]);
        assert!(!space.is_bus_master());
        assert_eq!(space.write(DEVICE_CONTROL as u64, &[0, 0x80]), Effect::Reset);
        assert_eq!(space.bytes[DEVICE_CONTROL + 1] & 0x80, 0);
        assert_eq!(space.write(u64::MAX - 1, &[1, 2, 3, 4]), Effect::None);
    }
}
