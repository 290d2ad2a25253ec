//! Controller properties in BAR0: where they lie and what their bits mean
//! (Base 1.4, 3.1; Base 2.0, 3.1.3).
//!
//! 64-bit registers may be read as two halves, lower first, where a bus has no
//! 64-bit access; CMBMSC must be written by one 64-bit access.

use super::{fields, fits};

/// CAP, controller capabilities, 64 bits (Base 1.4, 3.1.1).
pub const CAP: u64 = 0x00;
/// VS, version, 32 bits (3.1.2).
pub const VS: u64 = 0x08;
/// INTMS, interrupt mask set, 32 bits; not used with MSI-X (3.1.3).
pub const INTMS: u64 = 0x0c;
/// INTMC, interrupt mask clear, 32 bits (3.1.4).
pub const INTMC: u64 = 0x10;
/// CC, controller configuration, 32 bits (3.1.5).
pub const CC: u64 = 0x14;
/// CSTS, controller status, 32 bits (3.1.6).
pub const CSTS: u64 = 0x1c;
/// NSSR, NVM subsystem reset, 32 bits (3.1.7).
pub const NSSR: u64 = 0x20;
/// AQA, admin queue attributes, 32 bits (3.1.8).
pub const AQA: u64 = 0x24;
/// ASQ, admin submission queue base address, 64 bits (3.1.9).
pub const ASQ: u64 = 0x28;
/// ACQ, admin completion queue base address, 64 bits (3.1.10).
pub const ACQ: u64 = 0x30;
/// CMBLOC, controller memory buffer location, 32 bits (3.1.11).
pub const CMBLOC: u64 = 0x38;
/// CMBSZ, controller memory buffer size, 32 bits (3.1.12).
pub const CMBSZ: u64 = 0x3c;
/// BPINFO, boot partition information, 32 bits (3.1.13).
pub const BPINFO: u64 = 0x40;
/// BPRSEL, boot partition read select, 32 bits (3.1.14).
pub const BPRSEL: u64 = 0x44;
/// BPMBL, boot partition memory buffer location, 64 bits (3.1.15).
pub const BPMBL: u64 = 0x48;
/// CMBMSC, controller memory buffer memory space control, 64 bits (3.1.16).
pub const CMBMSC: u64 = 0x50;
/// CMBSTS, controller memory buffer status, 32 bits (3.1.17).
pub const CMBSTS: u64 = 0x58;
/// CRTO, controller ready timeouts, 32 bits (Base 2.0, 3.1.3).
pub const CRTO: u64 = 0x68;
/// PMRCAP, persistent memory region capabilities, 32 bits (Base 1.4, 3.1.18).
pub const PMRCAP: u64 = 0xe00;
/// PMRCTL, persistent memory region control, 32 bits (3.1.19).
pub const PMRCTL: u64 = 0xe04;
/// PMRSTS, persistent memory region status, 32 bits (3.1.20).
pub const PMRSTS: u64 = 0xe08;
/// PMREBS, persistent memory region elasticity buffer size, 32 bits (3.1.21).
pub const PMREBS: u64 = 0xe0c;
/// PMRSWTP, persistent memory region sustained write throughput, 32 bits (3.1.22).
pub const PMRSWTP: u64 = 0xe10;
/// PMRMSCL, lower half of the region's memory space control, 32 bits (3.1.23).
pub const PMRMSCL: u64 = 0xe14;
/// PMRMSCU, its upper half, 32 bits, written before the lower one (3.1.23).
pub const PMRMSCU: u64 = 0xe18;
/// The first doorbell (3.1, SQyTDBL).
pub const DOORBELLS: u64 = 0x1000;

/// What the bits of an all-ones answer are: no device gives them, a vanished one does.
pub const ALL_ONES: u32 = u32::MAX;

/// Offset in BAR0 of the tail doorbell of submission queue `qid` (3.1, SQyTDBL).
pub const fn sq_doorbell(qid: u16, dstrd: u32) -> u64 {
    DOORBELLS + shadow_sq(qid, dstrd)
}

/// Offset in BAR0 of the head doorbell of completion queue `qid` (3.1, CQyHDBL).
pub const fn cq_doorbell(qid: u16, dstrd: u32) -> u64 {
    DOORBELLS + shadow_cq(qid, dstrd)
}

/// Offset of that tail in the shadow doorbell and EventIdx pages (5.7).
pub const fn shadow_sq(qid: u16, dstrd: u32) -> u64 {
    (2 * qid as u64) << (2 + dstrd)
}

/// Offset of that head in the shadow doorbell and EventIdx pages (5.7).
pub const fn shadow_cq(qid: u16, dstrd: u32) -> u64 {
    (2 * qid as u64 + 1) << (2 + dstrd)
}

/// Whether a new doorbell value must be written to the real doorbell too, because
/// the move from `old` to `new` passes what the controller asked for (5.7, EventIdx).
pub const fn crosses_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

fields! {
    /// The value of CAP (3.1.1).
    Cap: u64 {
        /// Largest queue, zero-based.
        mqes, with_mqes: 0, 16;
        /// Queues must be physically contiguous.
        cqr, with_cqr: 16, 1;
        /// Arbitration mechanisms beside round robin.
        ams, with_ams: 17, 2;
        /// Longest time until CSTS.RDY follows CC.EN, in units of 500 ms.
        to, with_to: 24, 8;
        /// Doorbell stride: 2^(2 + DSTRD) bytes.
        dstrd, with_dstrd: 32, 4;
        /// NVM subsystem reset is there.
        nssrs, with_nssrs: 36, 1;
        /// Command sets: bit 0 NVM, bit 6 one or more by CC.CSS 110b, bit 7 admin only.
        css, with_css: 37, 8;
        /// Boot partitions are there.
        bps, with_bps: 45, 1;
        /// Smallest memory page: 2^(12 + MPSMIN).
        mpsmin, with_mpsmin: 48, 4;
        /// Largest memory page: 2^(12 + MPSMAX).
        mpsmax, with_mpsmax: 52, 4;
        /// A persistent memory region is there.
        pmrs, with_pmrs: 56, 1;
        /// A controller memory buffer is there; CMBMSC.CRE shows its registers.
        cmbs, with_cmbs: 57, 1;
        /// NVM subsystem shutdown (Base 2.0).
        nsss, with_nsss: 58, 1;
        /// Controller ready modes (Base 2.0).
        crms, with_crms: 59, 2;
    }
}

fields! {
    /// The value of VS (3.1.2).
    Version: u32 {
        /// Tertiary version.
        tertiary, with_tertiary: 0, 8;
        /// Minor version.
        minor, with_minor: 8, 8;
        /// Major version.
        major, with_major: 16, 16;
    }
}

impl Version {
    /// 1.4.0.
    pub const V1_4: Self = Self(0x0001_0400);
}

fields! {
    /// The value of CC (3.1.5).
    Cc: u32 {
        /// Enable.
        en, with_en: 0, 1;
        /// Command set: 000b NVM, 110b all supported, 111b admin only.
        css, with_css: 4, 3;
        /// Memory page: 2^(12 + MPS).
        mps, with_mps: 7, 4;
        /// Arbitration: 000b round robin.
        ams, with_ams: 11, 3;
        /// Shutdown: 00b none, 01b normal, 10b abrupt.
        shn, with_shn: 14, 2;
        /// I/O submission entry: 2^IOSQES bytes.
        iosqes, with_iosqes: 16, 4;
        /// I/O completion entry: 2^IOCQES bytes.
        iocqes, with_iocqes: 20, 4;
    }
}

fields! {
    /// The value of CSTS (3.1.6).
    Csts: u32 {
        /// Ready.
        rdy, with_rdy: 0, 1;
        /// Controller fatal status.
        cfs, with_cfs: 1, 1;
        /// Shutdown status: 00b normal operation, 01b occurring, 10b complete.
        shst, with_shst: 2, 2;
        /// An NVM subsystem reset occurred.
        nssro, with_nssro: 4, 1;
        /// Processing paused.
        pp, with_pp: 5, 1;
    }
}

fields! {
    /// The value of AQA (3.1.8).
    Aqa: u32 {
        /// Admin submission queue entries, zero-based.
        asqs, with_asqs: 0, 12;
        /// Admin completion queue entries, zero-based.
        acqs, with_acqs: 16, 12;
    }
}

fields! {
    /// The value of CMBLOC (3.1.11).
    CmbLoc: u32 {
        /// BAR that has the buffer.
        bir, with_bir: 0, 3;
        /// Queue memory may be mixed with host memory.
        cqmms, with_cqmms: 3, 1;
        /// Queues need not be contiguous in it.
        cqpds, with_cqpds: 4, 1;
        /// PRP lists and SGLs in it may point to host memory.
        cdpmls, with_cdpmls: 5, 1;
        /// They may be there while their commands are not.
        cdpcils, with_cdpcils: 6, 1;
        /// Data may be mixed with host memory in one command.
        cdmmms, with_cdmmms: 7, 1;
        /// Queues need not be dword aligned.
        cqda, with_cqda: 8, 1;
        /// Offset in the BAR, in units of CMBSZ.SZU.
        ofst, with_ofst: 12, 20;
    }
}

fields! {
    /// The value of CMBSZ (3.1.12).
    CmbSz: u32 {
        /// Submission queues may lie in it.
        sqs, with_sqs: 0, 1;
        /// Completion queues may.
        cqs, with_cqs: 1, 1;
        /// PRP lists and SGL segments may.
        lists, with_lists: 2, 1;
        /// Data of reads may.
        rds, with_rds: 3, 1;
        /// Data of writes may.
        wds, with_wds: 4, 1;
        /// Unit: 4 KiB << (4 * SZU).
        szu, with_szu: 8, 4;
        /// Size in those units.
        sz, with_sz: 12, 20;
    }
}

fields! {
    /// The value of CMBMSC (3.1.16).
    CmbMsc: u64 {
        /// Capability registers enabled: CMBLOC and CMBSZ are shown.
        cre, with_cre: 0, 1;
        /// Memory space enabled: the base address is in force.
        cmse, with_cmse: 1, 1;
        /// Controller base address in units of 4 KiB.
        cba, with_cba: 12, 52;
    }
}

fields! {
    /// The value of PMRCAP (3.1.18).
    PmrCap: u32 {
        /// Data of reads may lie in it.
        rds, with_rds: 3, 1;
        /// Data of writes may.
        wds, with_wds: 4, 1;
        /// BAR that has the region.
        bir, with_bir: 5, 3;
        /// Unit of PMRTO: 00b 500 ms, 01b minutes.
        pmrtu, with_pmrtu: 8, 2;
        /// Write barriers: bit 0 a read of the region, bit 1 a read of PMRSTS.
        pmrwbm, with_pmrwbm: 10, 4;
        /// Longest time until it is ready.
        pmrto, with_pmrto: 16, 8;
        /// Controller memory space is there (PMRMSC).
        cmss, with_cmss: 24, 1;
    }
}

fields! {
    /// The value of PMRCTL (3.1.19).
    PmrCtl: u32 {
        /// Enable.
        en, with_en: 0, 1;
    }
}

fields! {
    /// The value of PMRSTS (3.1.20).
    PmrSts: u32 {
        /// Error of a write since the last barrier; zero is none.
        err, with_err: 0, 8;
        /// Not ready.
        nrdy, with_nrdy: 8, 1;
        /// Health status: 000b normal, 001b restore error, 010b read only, 011b unreliable.
        hsts, with_hsts: 9, 3;
        /// The controller base address was refused.
        cbai, with_cbai: 12, 1;
    }
}

fields! {
    /// The value of PMREBS (3.1.21).
    PmrEbs: u32 {
        /// Unit of the size: bytes, KiB, MiB, GiB.
        szu, with_szu: 0, 4;
        /// Reads do not wait for the buffer.
        bypass, with_bypass: 4, 1;
        /// Size of the elasticity buffer, in those units.
        size, with_size: 8, 24;
    }
}

fields! {
    /// The value of PMRSWTP (3.1.22).
    PmrSwtp: u32 {
        /// Unit of the throughput: bytes, KiB, MiB, GiB each second.
        unit, with_unit: 0, 4;
        /// Sustained write throughput, in those units.
        value, with_value: 8, 24;
    }
}

fields! {
    /// The value of PMRMSC: its lower half in PMRMSCL, its upper in PMRMSCU (3.1.23).
    PmrMsc: u64 {
        /// Memory space enabled: the base address is in force.
        cmse, with_cmse: 1, 1;
        /// Controller base address in units of 4 KiB.
        cba, with_cba: 12, 52;
    }
}

fields! {
    /// The value of CMBSTS (3.1.17).
    CmbSts: u32 {
        /// The controller base address was refused.
        cbai, with_cbai: 0, 1;
    }
}

const _: () = {
    assert!(sq_doorbell(0, 0) == 0x1000 && cq_doorbell(0, 0) == 0x1004);
    assert!(sq_doorbell(3, 0) == 0x1018 && cq_doorbell(3, 2) == 0x1000 + 7 * 16);
};
