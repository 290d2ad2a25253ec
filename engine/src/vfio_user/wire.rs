//! The messages of vfio-user as data: numbers, flags and layouts, with bounds.
//!
//! The specification is QEMU's docs/interop/vfio-user.rst ("vfio-user Protocol
//! Specification"), named here as *spec* with the title of the section; what it takes over
//! from the kernel's interface is named as linux/vfio.h. All numbers are in the byte order
//! of the host, by the specification. Nothing here does I/O.

/// The protocol's major version (spec, `VFIO_USER_VERSION`).
pub const MAJOR: u16 = 0;
/// The newest minor version that this code speaks.
pub const MINOR: u16 = 1;

/// Bytes of data in one transfer message when nobody said otherwise (spec,
/// `VFIO_USER_VERSION`, Capabilities); also the most that this code takes.
pub const MAX_DATA: u32 = 1 << 20;
/// The longest message that is taken: the longest transfer, with its head.
pub const MAX_MESSAGE: usize = Header::LEN + RegionAccess::LEN + MAX_DATA as usize;
/// Descriptors that a peer takes with one message when it did not say.
pub const DEFAULT_FDS: u32 = 1;
/// The most descriptors that this code takes with one message.
pub const MAX_FDS: usize = 16;
/// Mappings at once when nobody said otherwise.
pub const DEFAULT_MAPS: u32 = 65535;
/// Page sizes of mappings when nobody said otherwise, as a bit mask: 4 KiB.
pub const DEFAULT_PAGE_SIZES: u64 = 4096;

/// What a message asks for (spec, Commands).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Command {
    /// Proposes a version and capabilities, or answers that.
    Version = 1,
    /// Lets the server reach memory.
    DmaMap = 2,
    /// Takes memory back.
    DmaUnmap = 3,
    /// Asks what the device is.
    GetInfo = 4,
    /// Asks for one region.
    GetRegionInfo = 5,
    /// Asks for descriptors that stand for parts of a region.
    GetRegionIoFds = 6,
    /// Asks for one type of interrupt.
    GetIrqInfo = 7,
    /// Says what shall happen on interrupts.
    SetIrqs = 8,
    /// Reads a region.
    RegionRead = 9,
    /// Writes a region.
    RegionWrite = 10,
    /// Server to client: reads memory that was given without a descriptor.
    DmaRead = 11,
    /// Server to client: writes such memory.
    DmaWrite = 12,
    /// Resets the device.
    Reset = 13,
    /// Dirty pages, in versions before the migration commands.
    DirtyPages = 14,
    /// Several small writes in one message, where negotiated.
    RegionWriteMulti = 15,
    /// Gets, sets or probes a feature of the device.
    Feature = 16,
    /// Reads migration data.
    MigrationRead = 17,
    /// Writes migration data.
    MigrationWrite = 18,
}

impl Command {
    /// All of them, in the order of their numbers.
    pub const ALL: [Command; 18] = [
        Command::Version,
        Command::DmaMap,
        Command::DmaUnmap,
        Command::GetInfo,
        Command::GetRegionInfo,
        Command::GetRegionIoFds,
        Command::GetIrqInfo,
        Command::SetIrqs,
        Command::RegionRead,
        Command::RegionWrite,
        Command::DmaRead,
        Command::DmaWrite,
        Command::Reset,
        Command::DirtyPages,
        Command::RegionWriteMulti,
        Command::Feature,
        Command::MigrationRead,
        Command::MigrationWrite,
    ];

    /// The command of a number, if there is one.
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Bits of [`Header::flags`] (spec, Header).
pub mod flag {
    /// The bits that say what kind of message it is.
    pub const TYPE: u32 = 0xf;
    /// A message that asks.
    pub const COMMAND: u32 = 0;
    /// A message that answers.
    pub const REPLY: u32 = 1;
    /// No answer is wanted.
    pub const NO_REPLY: u32 = 1 << 4;
    /// The answer is that it failed.
    pub const ERROR: u32 = 1 << 5;
}

/// Bits of [`DmaMapRequest::flags`] (spec, `VFIO_USER_DMA_MAP`).
pub mod dma {
    /// The device may read the memory.
    pub const READABLE: u32 = 1 << 0;
    /// The device may write it.
    pub const WRITEABLE: u32 = 1 << 1;
    /// Set by old clients beside a descriptor; says nothing more.
    pub const MAPPABLE: u32 = 1 << 2;
    /// Of an unmap: all that is mapped (linux/vfio.h, `VFIO_DMA_UNMAP_FLAG_ALL`).
    pub const UNMAP_ALL: u32 = 1 << 1;
}

/// Bits of [`DeviceInfo::flags`] (spec, `VFIO_USER_DEVICE_GET_INFO`).
pub mod device {
    /// It can be reset.
    pub const RESET: u32 = 1 << 0;
    /// It is a PCI device.
    pub const PCI: u32 = 1 << 1;
}

/// Bits, numbers and ids of regions (spec, `VFIO_USER_DEVICE_GET_REGION_INFO`).
pub mod region {
    /// It can be read.
    pub const READ: u32 = 1 << 0;
    /// It can be written.
    pub const WRITE: u32 = 1 << 1;
    /// It can be mapped, at least in parts.
    pub const MMAP: u32 = 1 << 2;
    /// Capabilities follow.
    pub const CAPS: u32 = 1 << 3;
    /// The id of the capability that lists what can be mapped.
    pub const SPARSE_MMAP: u16 = 1;
    /// The configuration space's number (linux/vfio.h, `VFIO_PCI_CONFIG_REGION_INDEX`).
    pub const CONFIG: u32 = 7;
    /// How many regions a PCI device has (`VFIO_PCI_NUM_REGIONS`).
    pub const COUNT: u32 = 9;
    /// The longest answer about a region that is asked for: far more areas than
    /// any device has.
    pub const MAX_INFO: u32 = 4096;
}

/// Bits and numbers of interrupts (spec, `VFIO_USER_DEVICE_GET_IRQ_INFO`, `..._SET_IRQS`).
pub mod irq {
    /// An eventfd can be signalled.
    pub const EVENTFD: u32 = 1 << 0;
    /// New ones cannot be enabled one by one.
    pub const NORESIZE: u32 = 1 << 3;
    /// The number of MSI-X among the types (linux/vfio.h, `VFIO_PCI_MSIX_IRQ_INDEX`).
    pub const MSIX: u32 = 2;
    /// How many types a PCI device has (`VFIO_PCI_NUM_IRQS`).
    pub const COUNT: u32 = 5;
    /// The most vectors that MSI-X has (PCI Express Base, 7.7.2: 11 bits, from 1 on).
    pub const MAX_VECTORS: u32 = 2048;
    /// No data in the request.
    pub const DATA_NONE: u32 = 1 << 0;
    /// A byte for each interrupt.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// Descriptors beside the request.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// About masking.
    pub const ACTION_MASK: u32 = 1 << 3;
    /// About unmasking.
    pub const ACTION_UNMASK: u32 = 1 << 4;
    /// About triggering.
    pub const ACTION_TRIGGER: u32 = 1 << 5;
    /// The data bits.
    pub const DATA: u32 = 7;
    /// The action bits.
    pub const ACTION: u32 = 7 << 3;
}

macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$about])* pub $field: $kind,)* }

        impl $name {
            /// Bytes of it in a message.
            pub const LEN: usize = 0 $(+ size_of::<$kind>())*;

            /// Appends it to a message.
            pub fn encode(&self, to: &mut Vec<u8>) {
                $(to.extend_from_slice(&self.$field.to_ne_bytes());)*
            }

            /// Reads it from the front of some bytes; `None` when they are too few.
            pub fn decode(bytes: &[u8]) -> Option<Self> {
                let mut rest = bytes;
                $(let $field = {
                    let (front, after) = rest.split_first_chunk()?;
                    rest = after;
                    <$kind>::from_ne_bytes(*front)
                };)*
                let _ = rest;
                Some(Self { $($field,)* })
            }
        }
    )*};
}

layouts! {
    /// What every message begins with (spec, Header).
    Header {
        /// Chosen by whoever asks, repeated by the answer.
        id: u16,
        /// A [`Command`].
        command: u16,
        /// Bytes of the whole message, this header among them.
        size: u32,
        /// See [`flag`].
        flags: u32,
        /// In a failed answer: an errno, or zero.
        error: u32,
    }

    /// The front of both messages of [`Command::Version`]; JSON may follow, ended by a
    /// zero byte.
    Version {
        /// See [`MAJOR`].
        major: u16,
        /// See [`MINOR`].
        minor: u16,
    }

    /// [`Command::DmaMap`]; answered without data.
    DmaMapRequest {
        /// Bytes of this structure.
        argsz: u32,
        /// See [`dma`].
        flags: u32,
        /// Where in the descriptor's file it begins.
        offset: u64,
        /// Where the device finds it.
        address: u64,
        /// Bytes.
        size: u64,
    }

    /// [`Command::DmaUnmap`]; answered with the same.
    DmaUnmapRequest {
        /// The longest answer that is wanted.
        argsz: u32,
        /// See [`dma`].
        flags: u32,
        /// As it was mapped.
        address: u64,
        /// As it was mapped.
        size: u64,
    }

    /// Both messages of [`Command::GetInfo`].
    DeviceInfo {
        /// The longest answer that is wanted, or that there is.
        argsz: u32,
        /// See [`device`].
        flags: u32,
        /// How many regions.
        regions: u32,
        /// How many types of interrupts.
        irqs: u32,
    }

    /// Both messages of [`Command::GetRegionInfo`]; capabilities follow in the answer.
    RegionInfo {
        /// The longest answer that is wanted, or that there is.
        argsz: u32,
        /// See [`region`].
        flags: u32,
        /// Which region.
        index: u32,
        /// Where the first capability is, from the start of this structure; 0: none.
        cap_offset: u32,
        /// Bytes of the region.
        size: u64,
        /// Where in the descriptor's file the region begins.
        offset: u64,
    }

    /// What each capability begins with.
    CapHeader {
        /// Which it is.
        id: u16,
        /// Its version.
        version: u16,
        /// Where the next is, from the start of [`RegionInfo`]; 0: no more.
        next: u32,
    }

    /// What follows the header of the capability [`region::SPARSE_MMAP`].
    SparseHead {
        /// How many [`SparseArea`]s follow.
        areas: u32,
        /// Nothing.
        reserved: u32,
    }

    /// A part of a region that can be mapped.
    SparseArea {
        /// Where it begins in the region.
        offset: u64,
        /// Bytes.
        size: u64,
    }

    /// Both messages of [`Command::GetIrqInfo`].
    IrqInfo {
        /// The longest answer that is wanted, or that there is.
        argsz: u32,
        /// See [`irq`].
        flags: u32,
        /// Which type.
        index: u32,
        /// How many interrupts of it.
        count: u32,
    }

    /// [`Command::SetIrqs`]; answered without data.
    SetIrqsRequest {
        /// Bytes of this structure and its data.
        argsz: u32,
        /// See [`irq`].
        flags: u32,
        /// Which type.
        index: u32,
        /// The first interrupt.
        start: u32,
        /// How many.
        count: u32,
    }

    /// Front of [`Command::RegionRead`] and [`Command::RegionWrite`] and of their answers.
    RegionAccess {
        /// Where in the region.
        offset: u64,
        /// Which region.
        region: u32,
        /// Bytes.
        count: u32,
    }

    /// Front of [`Command::DmaRead`] and [`Command::DmaWrite`] and of their answers.
    DmaAccess {
        /// Where.
        address: u64,
        /// Bytes.
        count: u64,
    }
}

impl Header {
    /// The header of a question of `payload` bytes.
    pub fn command(id: u16, command: Command, payload: usize) -> Self {
        let size = (Self::LEN + payload) as u32;
        Self { id, command: command as u16, size, flags: flag::COMMAND, error: 0 }
    }

    /// The header of an answer of `payload` bytes to this question.
    pub fn reply(&self, payload: usize) -> Self {
        let size = (Self::LEN + payload) as u32;
        Self { size, flags: flag::REPLY, error: 0, ..*self }
    }

    /// The header, and the whole, of the answer that this question failed.
    pub fn failure(&self, errno: u32) -> Self {
        let size = Self::LEN as u32;
        Self { size, flags: flag::REPLY | flag::ERROR, error: errno, ..*self }
    }

    /// Whether it answers.
    pub fn is_reply(&self) -> bool {
        self.flags & flag::TYPE == flag::REPLY
    }

    /// Whether it asks.
    pub fn is_command(&self) -> bool {
        self.flags & flag::TYPE == flag::COMMAND
    }

    /// Whether somebody waits for an answer to it.
    pub fn wants_reply(&self) -> bool {
        self.flags & flag::NO_REPLY == 0
    }

    /// Whether it says that something failed.
    pub fn is_error(&self) -> bool {
        self.flags & flag::ERROR != 0
    }
}

/// The bytes of a question.
pub fn command(id: u16, command: Command, payload: &[u8]) -> Vec<u8> {
    frame(&Header::command(id, command, payload.len()), payload)
}

/// A header and what follows it, as they are sent.
pub fn frame(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(Header::LEN + payload.len());
    header.encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_the_sizes_of_the_specification() {
        let lens = [
            (Header::LEN, 16),
            (Version::LEN, 4),
            (DmaMapRequest::LEN, 32),
            (DmaUnmapRequest::LEN, 24),
            (DeviceInfo::LEN, 16),
            (RegionInfo::LEN, 32),
            (CapHeader::LEN, 8),
            (SparseHead::LEN, 8),
            (SparseArea::LEN, 16),
            (IrqInfo::LEN, 16),
            (SetIrqsRequest::LEN, 20),
            (RegionAccess::LEN, 16),
            (DmaAccess::LEN, 16),
        ];
        for (at, (found, specified)) in lens.into_iter().enumerate() {
            assert_eq!(found, specified, "layout {at}");
        }
    }

    #[test]
    fn fields_lie_where_the_specification_says() {
        let header = Header { id: 0x0102, command: 9, size: 0x21, flags: 0x31, error: 22 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(bytes[0..2], 0x0102u16.to_ne_bytes());
        assert_eq!(bytes[2..4], 9u16.to_ne_bytes());
        assert_eq!(bytes[4..8], 0x21u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 0x31u32.to_ne_bytes());
        assert_eq!(bytes[12..16], 22u32.to_ne_bytes());
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(Header::decode(&bytes[..15]), None);
        assert!(header.is_reply() && header.is_error() && !header.wants_reply());

        let map = DmaMapRequest { argsz: 32, flags: 3, offset: 8, address: 16, size: 24 };
        let mut bytes = Vec::new();
        map.encode(&mut bytes);
        assert_eq!(bytes[8..16], 8u64.to_ne_bytes());
        assert_eq!(bytes[16..24], 16u64.to_ne_bytes());
        assert_eq!(bytes[24..32], 24u64.to_ne_bytes());
        assert_eq!(DmaMapRequest::decode(&bytes), Some(map));
    }

    #[test]
    fn commands_have_the_numbers_of_the_specification() {
        for number in 0..=u16::MAX {
            let known = Command::of(number);
            assert_eq!(known.is_some(), (1..=18).contains(&number));
            assert!(known.is_none_or(|command| command as u16 == number));
        }
    }
}
