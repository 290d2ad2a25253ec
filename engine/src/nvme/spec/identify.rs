//! Identify data: controller, namespace, lists (Base 1.4, 5.15; NVM 1.0, 4.1.5).

use super::{fits, layout};

/// Bytes of every Identify answer.
pub const BYTES: usize = 4096;

/// What Identify is asked for (5.15.1).
pub mod cns {
    /// One namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// The controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Numbers of active namespaces above the given one.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Descriptors that identify one namespace.
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
}

/// OACS: Doorbell Buffer Config is supported.
pub const OACS_DOORBELL_BUFFER: u16 = 1 << 8;
/// ONCS: Compare.
pub const ONCS_COMPARE: u16 = 1 << 0;
/// ONCS: Write Uncorrectable.
pub const ONCS_WRITE_UNCORRECTABLE: u16 = 1 << 1;
/// ONCS: Dataset Management.
pub const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
/// ONCS: Write Zeroes.
pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;
/// ONCS: the Save and Select fields of features.
pub const ONCS_SAVE_SELECT: u16 = 1 << 4;
/// ONCS: Timestamp.
pub const ONCS_TIMESTAMP: u16 = 1 << 6;
/// ONCS: Verify.
pub const ONCS_VERIFY: u16 = 1 << 7;
/// ONCS: Copy (NVM 1.0).
pub const ONCS_COPY: u16 = 1 << 8;
/// VWC: a volatile write cache is there.
pub const VWC_PRESENT: u8 = 1 << 0;
/// VWC bits 2:1 of value 11b: Flush takes the namespace that names all.
pub const VWC_FLUSH_ALL: u8 = 3 << 1;
/// SGLS bits 1:0: SGLs are supported, 01b at any alignment, 10b at dwords.
pub const SGLS_SUPPORTED: u32 = 3;
/// LPA: SMART data of each namespace apart.
pub const LPA_SMART_PER_NAMESPACE: u8 = 1 << 0;
/// LPA: Get Log Page takes an offset and a length of 32 bits.
pub const LPA_EXTENDED: u8 = 1 << 2;
/// NSFEAT: the namespace has atomic limits of its own.
pub const NSFEAT_ATOMICS: u8 = 1 << 1;
/// NSFEAT: NPWG and its neighbours are defined.
pub const NSFEAT_OPTIMAL_IO: u8 = 1 << 4;
/// DLFEAT bits 2:0: deallocated blocks read as zeroes.
pub const DLFEAT_READS_ZEROES: u8 = 1;
/// DLFEAT: Write Zeroes may deallocate.
pub const DLFEAT_WRITE_ZEROES: u8 = 1 << 3;

layout! {
    /// Identify Controller (5.15.2.2). Offsets are those of the specification's figure.
    IdentifyController: 4096 {
        /// VID: PCI vendor.
        vid, set_vid: u16, 0;
        /// SSVID: PCI subsystem vendor.
        ssvid, set_ssvid: u16, 2;
        /// RAB: recommended arbitration burst.
        rab, set_rab: u8, 72;
        /// CMIC: multi-path and sharing.
        cmic, set_cmic: u8, 76;
        /// MDTS: largest transfer, 2^MDTS pages of CAP.MPSMIN; 0 is no limit.
        mdts, set_mdts: u8, 77;
        /// CNTLID.
        cntlid, set_cntlid: u16, 78;
        /// VER: as register VS.
        ver, set_ver: u32, 80;
        /// RTD3R: resume latency in microseconds.
        rtd3r, set_rtd3r: u32, 84;
        /// RTD3E: entry latency in microseconds.
        rtd3e, set_rtd3e: u32, 88;
        /// OAES: optional asynchronous events.
        oaes, set_oaes: u32, 92;
        /// CTRATT: attributes.
        ctratt, set_ctratt: u32, 96;
        /// CNTRLTYPE: 1 is an I/O controller.
        cntrltype, set_cntrltype: u8, 111;
        /// OACS: optional admin commands.
        oacs, set_oacs: u16, 256;
        /// ACL: abort commands at a time, zero-based.
        acl, set_acl: u8, 258;
        /// AERL: asynchronous event requests at a time, zero-based.
        aerl, set_aerl: u8, 259;
        /// FRMW: firmware slots.
        frmw, set_frmw: u8, 260;
        /// LPA: log page attributes.
        lpa, set_lpa: u8, 261;
        /// ELPE: error log entries, zero-based.
        elpe, set_elpe: u8, 262;
        /// NPSS: power states, zero-based.
        npss, set_npss: u8, 263;
        /// WCTEMP: warning temperature in kelvins.
        wctemp, set_wctemp: u16, 266;
        /// CCTEMP: critical temperature in kelvins.
        cctemp, set_cctemp: u16, 268;
        /// TNVMCAP: capacity in bytes.
        tnvmcap, set_tnvmcap: u128, 280;
        /// UNVMCAP: unallocated capacity in bytes.
        unvmcap, set_unvmcap: u128, 296;
        /// KAS: granularity of keep alive in 100 ms.
        kas, set_kas: u16, 320;
        /// SANICAP: sanitize.
        sanicap, set_sanicap: u32, 328;
        /// SQES: submission entry sizes, 2^n: largest in bits 7:4, smallest in 3:0.
        sqes, set_sqes: u8, 512;
        /// CQES: completion entry sizes, the same.
        cqes, set_cqes: u8, 513;
        /// MAXCMD: commands of one queue that it takes at a time.
        maxcmd, set_maxcmd: u16, 514;
        /// NN: highest number of a namespace.
        nn, set_nn: u32, 516;
        /// ONCS: optional NVM commands.
        oncs, set_oncs: u16, 520;
        /// FUSES: fused operations.
        fuses, set_fuses: u16, 522;
        /// FNA: Format NVM attributes.
        fna, set_fna: u8, 524;
        /// VWC: volatile write cache.
        vwc, set_vwc: u8, 525;
        /// AWUN: atomic write unit while it runs, logical blocks, zero-based.
        awun, set_awun: u16, 526;
        /// AWUPF: atomic write unit across power failure, the same.
        awupf, set_awupf: u16, 528;
        /// NWPC: write protection of namespaces.
        nwpc, set_nwpc: u8, 531;
        /// ACWU: atomic compare and write unit, zero-based.
        acwu, set_acwu: u16, 532;
        /// OCFS: copy descriptor formats, one bit each (Base 2.0).
        ocfs, set_ocfs: u16, 534;
        /// SGLS: SGL support.
        sgls, set_sgls: u32, 536;
        /// MNAN: most namespaces; zero where NN is that.
        mnan, set_mnan: u32, 540;
    }
}

/// Copies text into a field, padded as the field's kind demands.
fn set_text(field: &mut [u8], text: &str, pad: u8) {
    field.fill(pad);
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}

/// The text of a field without its padding; bytes that are not ASCII print as dots.
fn text(field: &[u8]) -> String {
    let printable = |&byte: &u8| if (0x20..0x7f).contains(&byte) { byte as char } else { '.' };
    let end = field.iter().rposition(|&byte| byte != b' ' && byte != 0).map_or(0, |at| at + 1);
    field[..end].iter().map(printable).collect()
}

impl IdentifyController {
    /// SN: serial number, bytes 4 to 23.
    pub fn serial(&self) -> String {
        text(&self.0[4..24])
    }

    /// Sets the serial number.
    pub fn set_serial(&mut self, value: &str) {
        set_text(&mut self.0[4..24], value, b' ');
    }

    /// MN: model number, bytes 24 to 63.
    pub fn model(&self) -> String {
        text(&self.0[24..64])
    }

    /// Sets the model number.
    pub fn set_model(&mut self, value: &str) {
        set_text(&mut self.0[24..64], value, b' ');
    }

    /// FR: firmware revision, bytes 64 to 71.
    pub fn firmware(&self) -> String {
        text(&self.0[64..72])
    }

    /// Sets the firmware revision.
    pub fn set_firmware(&mut self, value: &str) {
        set_text(&mut self.0[64..72], value, b' ');
    }

    /// SUBNQN: name of the subsystem, bytes 768 to 1023.
    pub fn subnqn(&self) -> String {
        text(&self.0[768..1024])
    }

    /// Sets the name of the subsystem.
    pub fn set_subnqn(&mut self, value: &str) {
        set_text(&mut self.0[768..1024], value, 0);
    }
}

layout! {
    /// Identify Namespace (5.15.2.1; Copy limits: NVM 1.0, 4.1.5.1). Numbers of blocks
    /// are logical blocks.
    IdentifyNamespace: 4096 {
        /// NSZE: size.
        nsze, set_nsze: u64, 0;
        /// NCAP: capacity.
        ncap, set_ncap: u64, 8;
        /// NUSE: utilization.
        nuse, set_nuse: u64, 16;
        /// NSFEAT: features.
        nsfeat, set_nsfeat: u8, 24;
        /// NLBAF: LBA formats, zero-based.
        nlbaf, set_nlbaf: u8, 25;
        /// FLBAS: format in use in bits 3:0; bit 4: metadata lies behind the data.
        flbas, set_flbas: u8, 26;
        /// MC: metadata capabilities.
        mc, set_mc: u8, 27;
        /// DPC: protection capabilities.
        dpc, set_dpc: u8, 28;
        /// DPS: protection in use in bits 2:0.
        dps, set_dps: u8, 29;
        /// NMIC: sharing.
        nmic, set_nmic: u8, 30;
        /// RESCAP: reservations.
        rescap, set_rescap: u8, 31;
        /// FPI: format progress.
        fpi, set_fpi: u8, 32;
        /// DLFEAT: deallocated blocks.
        dlfeat, set_dlfeat: u8, 33;
        /// NAWUN: as AWUN, zero-based, with NSFEAT_ATOMICS.
        nawun, set_nawun: u16, 34;
        /// NAWUPF: as AWUPF, zero-based.
        nawupf, set_nawupf: u16, 36;
        /// NACWU: as ACWU, zero-based.
        nacwu, set_nacwu: u16, 38;
        /// NABSN: boundary that atomic writes may not cross, zero-based; 0 is none.
        nabsn, set_nabsn: u16, 40;
        /// NABO: where the first boundary is.
        nabo, set_nabo: u16, 42;
        /// NABSPF: boundary across power failure, zero-based; 0 is none.
        nabspf, set_nabspf: u16, 44;
        /// NOIOB: optimal I/O boundary; 0 is none.
        noiob, set_noiob: u16, 46;
        /// NVMCAP: capacity in bytes.
        nvmcap, set_nvmcap: u128, 48;
        /// NPWG: preferred write granularity, zero-based.
        npwg, set_npwg: u16, 64;
        /// NPWA: preferred write alignment, zero-based.
        npwa, set_npwa: u16, 66;
        /// NPDG: preferred deallocate granularity, zero-based.
        npdg, set_npdg: u16, 68;
        /// NPDA: preferred deallocate alignment, zero-based.
        npda, set_npda: u16, 70;
        /// NOWS: optimal write size, zero-based.
        nows, set_nows: u16, 72;
        /// MSSRL: longest source range of a copy.
        mssrl, set_mssrl: u16, 74;
        /// MCL: most blocks of a copy.
        mcl, set_mcl: u32, 76;
        /// MSRC: most source ranges of a copy, zero-based.
        msrc, set_msrc: u8, 80;
        /// NSATTR: bit 0 write protected.
        nsattr, set_nsattr: u8, 99;
        /// NGUID: globally unique identifier, big-endian as bytes.
        nguid, set_nguid: u128, 104;
        /// EUI64: the same of 64 bits.
        eui64, set_eui64: u64, 120;
    }
}

/// An LBA format: four bytes (5.15.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LbaFormat {
    /// MS: metadata bytes of each block.
    pub metadata: u16,
    /// LBADS: data bytes are 2^LBADS; 0 is a format that is not there.
    pub lbads: u8,
    /// RP: relative performance, 0 best to 3.
    pub performance: u8,
}

impl LbaFormat {
    /// As the dword of the table.
    pub const fn word(self) -> u32 {
        self.metadata as u32 | (self.lbads as u32) << 16 | (self.performance as u32 & 3) << 24
    }

    /// Of a dword of the table.
    pub const fn from_word(word: u32) -> Self {
        Self {
            metadata: word as u16,
            lbads: (word >> 16) as u8,
            performance: (word >> 24) as u8 & 3,
        }
    }
}

impl IdentifyNamespace {
    /// Formats that the table has room for in Base 1.4.
    pub const FORMATS: usize = 16;
    const TABLE: usize = 128;

    /// One of the formats, by index below [`Self::FORMATS`].
    pub fn lba_format(&self, index: usize) -> LbaFormat {
        let at = Self::TABLE + 4 * (index % Self::FORMATS);
        let mut raw = [0; 4];
        raw.copy_from_slice(&self.0[at..at + 4]);
        LbaFormat::from_word(u32::from_le_bytes(raw))
    }

    /// Sets one of the formats.
    pub fn set_lba_format(&mut self, index: usize, format: LbaFormat) {
        let at = Self::TABLE + 4 * (index % Self::FORMATS);
        self.0[at..at + 4].copy_from_slice(&format.word().to_le_bytes());
    }

    /// The format in use: FLBAS bits 3:0.
    pub fn current_format(&self) -> LbaFormat {
        self.lba_format(usize::from(self.flbas() & 0xf))
    }
}

/// Encodes a list of active namespaces: the lowest 1,024 numbers, in order; the rest
/// is zero (5.15.2.3).
pub fn encode_namespace_list(numbers: impl Iterator<Item = u32>) -> Box<[u8; BYTES]> {
    let mut bytes = Box::new([0; BYTES]);
    for (chunk, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Decodes such a list: up to the first zero.
pub fn decode_namespace_list(bytes: &[u8; BYTES]) -> Vec<u32> {
    let words = bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    words.take_while(|&number| number != 0).collect()
}

/// A namespace identification descriptor (5.15.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// NIDT: 1 EUI64, 2 NGUID, 3 UUID, 4 command set.
    pub kind: u8,
    /// The identifier: 8, 16, 16 and 1 bytes.
    pub id: Vec<u8>,
}

/// Encodes descriptors; those that do not fit are left out.
pub fn encode_descriptors(descriptors: &[Descriptor]) -> Box<[u8; BYTES]> {
    let mut bytes = Box::new([0; BYTES]);
    let mut at = 0;
    for Descriptor { kind, id } in descriptors {
        if at + 4 + id.len() > BYTES || id.len() > usize::from(u8::MAX) {
            break;
        }
        bytes[at] = *kind;
        bytes[at + 1] = id.len() as u8;
        bytes[at + 4..at + 4 + id.len()].copy_from_slice(id);
        at += 4 + id.len();
    }
    bytes
}

/// Decodes descriptors up to the end, or to one without length or beyond the end.
pub fn decode_descriptors(bytes: &[u8; BYTES]) -> Vec<Descriptor> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 4 <= BYTES {
        let len = usize::from(bytes[at + 1]);
        if len == 0 || at + 4 + len > BYTES {
            break;
        }
        found.push(Descriptor { kind: bytes[at], id: bytes[at + 4..at + 4 + len].to_vec() });
        at += 4 + len;
    }
    found
}
