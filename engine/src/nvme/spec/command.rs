//! Submission and completion queue entries (Base 1.4, 4.2 and 4.6), opcodes, and the
//! admin commands (5).

use super::pointer::{DataPointer, SglDescriptor};
use super::status::Status;

/// Opcodes of the admin command set (5).
pub mod admin {
    /// Delete I/O Submission Queue (5.6).
    pub const DELETE_SQ: u8 = 0x00;
    /// Create I/O Submission Queue (5.4).
    pub const CREATE_SQ: u8 = 0x01;
    /// Get Log Page (5.14).
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O Completion Queue (5.5).
    pub const DELETE_CQ: u8 = 0x04;
    /// Create I/O Completion Queue (5.3).
    pub const CREATE_CQ: u8 = 0x05;
    /// Identify (5.15).
    pub const IDENTIFY: u8 = 0x06;
    /// Abort (5.1).
    pub const ABORT: u8 = 0x08;
    /// Set Features (5.21).
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features (5.13).
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request (5.2).
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Keep Alive (5.16).
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Doorbell Buffer Config (5.7).
    pub const DOORBELL_BUFFER: u8 = 0x7c;
}

/// Opcodes of the NVM command set (Base 1.4, 6; NVM 1.0, 3.2).
pub mod nvm {
    /// Flush (6.8).
    pub const FLUSH: u8 = 0x00;
    /// Write (6.15).
    pub const WRITE: u8 = 0x01;
    /// Read (6.9).
    pub const READ: u8 = 0x02;
    /// Write Uncorrectable (6.16).
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    /// Compare (6.6).
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes (6.17).
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management (6.7).
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify (6.14).
    pub const VERIFY: u8 = 0x0c;
    /// Copy (NVM 1.0, 3.2.2).
    pub const COPY: u8 = 0x19;
}

/// PSDT: the data pointer holds PRPs (4.2).
pub const PSDT_PRP: u8 = 0;
/// PSDT: the data pointer holds an SGL, the metadata pointer an address (4.2).
pub const PSDT_SGL: u8 = 1;
/// PSDT: the data pointer holds an SGL, and the metadata pointer does (4.2).
pub const PSDT_SGL_BOTH: u8 = 2;

/// A submission queue entry: 64 bytes, as eight words (4.2). Words, not fields, so that
/// it goes to queue memory by eight stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Command(pub [u64; 8]);

const _: () = assert!(size_of::<Command>() == Command::BYTES);

impl Command {
    /// Bytes that one has.
    pub const BYTES: usize = 64;
    /// Its size as a power of two, for CC.IOSQES and SQES.
    pub const LOG2: u32 = 6;

    /// A command with everything else zero.
    pub const fn new(opcode: u8, nsid: u32) -> Self {
        let mut words = [0; 8];
        words[0] = opcode as u64 | (nsid as u64) << 32;
        Self(words)
    }

    /// The same with a command identifier.
    #[must_use]
    pub const fn with_cid(mut self, cid: u16) -> Self {
        self.0[0] = (self.0[0] & !0xffff_0000) | (cid as u64) << 16;
        self
    }

    /// The same with a data pointer.
    #[must_use]
    #[inline]
    pub const fn with_data(mut self, data: DataPointer) -> Self {
        self.0[0] = (self.0[0] & !0xc000) | (data.psdt as u64) << 14;
        [self.0[3], self.0[4]] = data.words;
        self
    }

    /// The same with a data pointer of two PRPs.
    #[must_use]
    pub const fn with_prps(self, prp1: u64, prp2: u64) -> Self {
        self.with_data(DataPointer::prps(prp1, prp2))
    }

    /// The same with a data pointer of one SGL descriptor.
    #[must_use]
    pub const fn with_sgl(self, descriptor: SglDescriptor) -> Self {
        self.with_data(DataPointer::sgl(descriptor))
    }

    /// The same with one of command dwords 10 to 15.
    #[must_use]
    pub const fn with_cdw(mut self, number: usize, value: u32) -> Self {
        assert!(number >= 10 && number <= 15);
        let shift = number % 2 * 32;
        let word = number / 2;
        self.0[word] = (self.0[word] & !(0xffff_ffff << shift)) | (value as u64) << shift;
        self
    }

    /// Opcode.
    pub const fn opcode(&self) -> u8 {
        self.0[0] as u8
    }

    /// FUSE: zero for a normal command.
    pub const fn fuse(&self) -> u8 {
        (self.0[0] >> 8) as u8 & 3
    }

    /// PSDT: what the data pointer holds.
    pub const fn psdt(&self) -> u8 {
        (self.0[0] >> 14) as u8 & 3
    }

    /// Command identifier.
    pub const fn cid(&self) -> u16 {
        (self.0[0] >> 16) as u16
    }

    /// Namespace identifier.
    pub const fn nsid(&self) -> u32 {
        (self.0[0] >> 32) as u32
    }

    /// Metadata pointer.
    pub const fn mptr(&self) -> u64 {
        self.0[2]
    }

    /// PRP entry 1.
    pub const fn prp1(&self) -> u64 {
        self.0[3]
    }

    /// PRP entry 2.
    pub const fn prp2(&self) -> u64 {
        self.0[4]
    }

    /// The data pointer as an SGL descriptor.
    pub const fn sgl(&self) -> SglDescriptor {
        SglDescriptor::from_words([self.0[3], self.0[4]])
    }

    /// One of the sixteen command dwords.
    pub const fn cdw(&self, number: usize) -> u32 {
        (self.0[number / 2] >> (number % 2 * 32)) as u32
    }

    /// Command dwords `low` and `low + 1` as one value; `low` is even.
    pub const fn cdw_pair(&self, low: usize) -> u64 {
        self.0[low / 2]
    }

    /// As bytes of queue memory.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes of queue memory.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        }
        Self(words)
    }
}

/// Builders of admin commands; memory pointers and identifiers are added by `with_`.
impl Command {
    /// Identify (5.15): `cns` from [`cns`](super::identify::cns).
    pub const fn identify(cns: u8, nsid: u32) -> Self {
        Self::new(admin::IDENTIFY, nsid).with_cdw(10, cns as u32)
    }

    /// Create I/O Completion Queue, contiguous, of `entries` (5.3). With a vector its
    /// interrupts are enabled.
    pub const fn create_cq(qid: u16, entries: u32, address: u64, vector: Option<u16>) -> Self {
        let cdw11 = match vector {
            Some(vector) => 0b11 | (vector as u32) << 16,
            None => 0b01,
        };
        Self::new(admin::CREATE_CQ, 0)
            .with_prps(address, 0)
            .with_cdw(10, queue_dword(qid, entries))
            .with_cdw(11, cdw11)
    }

    /// Create I/O Submission Queue, contiguous, of `entries`, that completes on `cqid`
    /// (5.4).
    pub const fn create_sq(qid: u16, entries: u32, address: u64, cqid: u16) -> Self {
        Self::new(admin::CREATE_SQ, 0)
            .with_prps(address, 0)
            .with_cdw(10, queue_dword(qid, entries))
            .with_cdw(11, 0b01 | (cqid as u32) << 16)
    }

    /// Delete I/O Submission Queue (5.6).
    pub const fn delete_sq(qid: u16) -> Self {
        Self::new(admin::DELETE_SQ, 0).with_cdw(10, qid as u32)
    }

    /// Delete I/O Completion Queue (5.5).
    pub const fn delete_cq(qid: u16) -> Self {
        Self::new(admin::DELETE_CQ, 0).with_cdw(10, qid as u32)
    }

    /// Set Features (5.21): `value` is command dword 11.
    pub const fn set_features(id: u8, value: u32) -> Self {
        Self::new(admin::SET_FEATURES, 0).with_cdw(10, id as u32).with_cdw(11, value)
    }

    /// Get Features, the current value (5.13).
    pub const fn get_features(id: u8) -> Self {
        Self::new(admin::GET_FEATURES, 0).with_cdw(10, id as u32)
    }

    /// Get Log Page of `len` bytes, a multiple of four, from its beginning (5.14).
    pub const fn get_log_page(lid: u8, nsid: u32, len: u32) -> Self {
        let numd = len / 4 - 1;
        Self::new(admin::GET_LOG_PAGE, nsid)
            .with_cdw(10, lid as u32 | (numd & 0xffff) << 16)
            .with_cdw(11, numd >> 16)
    }

    /// Abort of a command of a queue (5.1).
    pub const fn abort(sqid: u16, cid: u16) -> Self {
        Self::new(admin::ABORT, 0).with_cdw(10, sqid as u32 | (cid as u32) << 16)
    }

    /// Asynchronous Event Request (5.2).
    pub const fn async_event() -> Self {
        Self::new(admin::ASYNC_EVENT, 0)
    }

    /// Doorbell Buffer Config with the pages of the shadow doorbells and of EventIdx
    /// (5.7).
    pub const fn doorbell_buffer(shadow: u64, event: u64) -> Self {
        Self::new(admin::DOORBELL_BUFFER, 0).with_prps(shadow, event)
    }
}

/// Dword 10 of the commands that create a queue: the size is zero-based.
const fn queue_dword(qid: u16, entries: u32) -> u32 {
    qid as u32 | entries.wrapping_sub(1) << 16
}

/// A completion queue entry: 16 bytes, as two words (4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Cqe(pub [u64; 2]);

const _: () = assert!(size_of::<Cqe>() == Cqe::BYTES);

impl Cqe {
    /// Bytes that one has.
    pub const BYTES: usize = 16;
    /// Its size as a power of two, for CC.IOCQES and CQES.
    pub const LOG2: u32 = 4;

    /// An entry. The phase is what the queue's pass over the ring demands.
    pub const fn new(
        result: u32,
        sq_head: u16,
        sqid: u16,
        cid: u16,
        status: Status,
        phase: bool,
    ) -> Self {
        Self([
            result as u64,
            sq_head as u64
                | (sqid as u64) << 16
                | (cid as u64) << 32
                | (phase as u64) << 48
                | ((status.0 & 0x7fff) as u64) << 49,
        ])
    }

    /// Dword 0: what the command returns.
    pub const fn result(&self) -> u32 {
        self.0[0] as u32
    }

    /// SQHD: how far the controller has taken submission entries.
    pub const fn sq_head(&self) -> u16 {
        self.0[1] as u16
    }

    /// The submission queue of the command.
    pub const fn sqid(&self) -> u16 {
        (self.0[1] >> 16) as u16
    }

    /// The identifier of the command.
    pub const fn cid(&self) -> u16 {
        (self.0[1] >> 32) as u16
    }

    /// The phase tag.
    pub const fn phase(&self) -> bool {
        self.0[1] >> 48 & 1 == 1
    }

    /// How it ended.
    pub const fn status(&self) -> Status {
        Status((self.0[1] >> 49) as u16)
    }

    /// As bytes of queue memory.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }
}
