//! Log pages (Base 1.4, 5.14.1).

use super::{fits, layout};

/// Log page identifiers (5.14.1).
pub mod id {
    /// Supported log pages (Base 2.0).
    pub const SUPPORTED: u8 = 0x00;
    /// Error Information.
    pub const ERRORS: u8 = 0x01;
    /// SMART / Health Information.
    pub const SMART: u8 = 0x02;
    /// Firmware Slot Information.
    pub const FIRMWARE: u8 = 0x03;
    /// Changed Namespace List.
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands Supported and Effects.
    pub const EFFECTS: u8 = 0x05;
}

/// Critical warning: the spare is below its threshold.
pub const WARNING_SPARE: u8 = 1 << 0;
/// Critical warning: a temperature threshold was passed.
pub const WARNING_TEMPERATURE: u8 = 1 << 1;
/// Critical warning: reliability is degraded.
pub const WARNING_RELIABILITY: u8 = 1 << 2;
/// Critical warning: the medium is read-only.
pub const WARNING_READ_ONLY: u8 = 1 << 3;
/// Critical warning: the backup of volatile memory has failed.
pub const WARNING_BACKUP: u8 = 1 << 4;
/// Critical warning: the persistent memory region is read-only or unreliable.
pub const WARNING_PMR: u8 = 1 << 5;

layout! {
    /// SMART / Health Information (5.14.1.2).
    Smart: 512 {
        /// Critical warnings, see the constants of this module.
        critical_warning, set_critical_warning: u8, 0;
        /// Composite temperature in kelvins.
        temperature, set_temperature: u16, 1;
        /// Available spare in percent.
        spare, set_spare: u8, 3;
        /// Threshold of it.
        spare_threshold, set_spare_threshold: u8, 4;
        /// Percentage used; may pass 100.
        percentage_used, set_percentage_used: u8, 5;
        /// Data read in units of 512,000 bytes.
        data_units_read, set_data_units_read: u128, 32;
        /// Data written in the same units.
        data_units_written, set_data_units_written: u128, 48;
        /// Read commands.
        host_reads, set_host_reads: u128, 64;
        /// Write commands.
        host_writes, set_host_writes: u128, 80;
        /// Minutes that it was busy.
        busy_minutes, set_busy_minutes: u128, 96;
        /// Power cycles.
        power_cycles, set_power_cycles: u128, 112;
        /// Hours that it was on.
        power_on_hours, set_power_on_hours: u128, 128;
        /// Shutdowns without notification.
        unsafe_shutdowns, set_unsafe_shutdowns: u128, 144;
        /// Unrecovered data integrity errors.
        media_errors, set_media_errors: u128, 160;
        /// Error log entries over its life.
        error_entries, set_error_entries: u128, 176;
        /// Minutes above the warning temperature.
        warning_minutes, set_warning_minutes: u32, 192;
        /// Minutes above the critical temperature.
        critical_minutes, set_critical_minutes: u32, 196;
    }
}

layout! {
    /// One entry of Error Information (5.14.1.1).
    ErrorEntry: 64 {
        /// Error count; 0 is an entry that is not there.
        count, set_count: u64, 0;
        /// Submission queue of the command.
        sqid, set_sqid: u16, 8;
        /// Identifier of the command.
        cid, set_cid: u16, 10;
        /// Its status in bits 15:1, its phase tag in bit 0.
        status, set_status: u16, 12;
        /// Byte, and in bits 10:8 bit, of the parameter in error.
        location, set_location: u16, 14;
        /// First logical block in error.
        lba, set_lba: u64, 16;
        /// Namespace.
        nsid, set_nsid: u32, 24;
    }
}

layout! {
    /// Firmware Slot Information (5.14.1.3).
    FirmwareSlots: 512 {
        /// AFI: active slot in bits 2:0.
        afi, set_afi: u8, 0;
        /// FRS1: revision in slot 1, eight bytes of text.
        frs1, set_frs1: u64, 8;
    }
}
