//! Features: identifiers and the words of those that are used (Base 1.4, 5.21.1).

use super::{fields, fits};

/// Feature identifiers (5.21.1).
pub mod id {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Power Management.
    pub const POWER: u8 = 0x02;
    /// Temperature Threshold.
    pub const TEMPERATURE: u8 = 0x04;
    /// Error Recovery.
    pub const ERROR_RECOVERY: u8 = 0x05;
    /// Volatile Write Cache.
    pub const WRITE_CACHE: u8 = 0x06;
    /// Number of Queues.
    pub const QUEUES: u8 = 0x07;
    /// Interrupt Coalescing.
    pub const COALESCING: u8 = 0x08;
    /// Interrupt Vector Configuration.
    pub const VECTOR: u8 = 0x09;
    /// Write Atomicity Normal.
    pub const WRITE_ATOMICITY: u8 = 0x0a;
    /// Asynchronous Event Configuration.
    pub const ASYNC_EVENTS: u8 = 0x0b;
    /// Timestamp.
    pub const TIMESTAMP: u8 = 0x0e;
    /// Keep Alive Timer.
    pub const KEEP_ALIVE: u8 = 0x0f;
}

fields! {
    /// Number of Queues: asked for in dword 11, granted in dword 0 of the completion
    /// (5.21.1.7). Both zero-based; FFFFh may not be asked for.
    Queues: u32 {
        /// I/O submission queues.
        submission, with_submission: 0, 16;
        /// I/O completion queues.
        completion, with_completion: 16, 16;
    }
}

fields! {
    /// Arbitration (5.21.1.1).
    Arbitration: u32 {
        /// Burst: 2^n commands, 7 is no limit.
        burst, with_burst: 0, 3;
        /// Low priority weight, zero-based.
        low, with_low: 8, 8;
        /// Medium priority weight, zero-based.
        medium, with_medium: 16, 8;
        /// High priority weight, zero-based.
        high, with_high: 24, 8;
    }
}

fields! {
    /// Temperature Threshold (5.21.1.4).
    Temperature: u32 {
        /// Threshold in kelvins.
        threshold, with_threshold: 0, 16;
        /// Which sensor; 0 is the composite temperature.
        sensor, with_sensor: 16, 4;
        /// 00b above, 01b below.
        side, with_side: 20, 2;
    }
}

fields! {
    /// Error Recovery (5.21.1.5).
    ErrorRecovery: u32 {
        /// Time-limited error recovery in units of 100 ms; 0 is none.
        tler, with_tler: 0, 16;
        /// Reads of deallocated blocks fail.
        dulbe, with_dulbe: 16, 1;
    }
}

fields! {
    /// Volatile Write Cache (5.21.1.6).
    WriteCache: u32 {
        /// The cache is on.
        enabled, with_enabled: 0, 1;
    }
}

fields! {
    /// Interrupt Coalescing (5.21.1.8).
    Coalescing: u32 {
        /// Completions gathered, zero-based.
        threshold, with_threshold: 0, 8;
        /// Longest delay in units of 100 us; 0 is none.
        time, with_time: 8, 8;
    }
}

fields! {
    /// Interrupt Vector Configuration (5.21.1.9).
    Vector: u32 {
        /// The vector.
        vector, with_vector: 0, 16;
        /// Coalescing is off for it.
        uncoalesced, with_uncoalesced: 16, 1;
    }
}

fields! {
    /// Write Atomicity Normal (5.21.1.10).
    WriteAtomicity: u32 {
        /// Only AWUPF is kept, AWUN is not.
        disabled, with_disabled: 0, 1;
    }
}

fields! {
    /// Asynchronous Event Configuration (5.21.1.11): which events are sent.
    AsyncEvents: u32 {
        /// SMART critical warnings, by the bits of the log's field.
        smart, with_smart: 0, 8;
        /// Namespace attributes changed.
        namespace, with_namespace: 8, 1;
        /// Firmware activation begins.
        firmware, with_firmware: 9, 1;
    }
}

fields! {
    /// Dword 0 of the completion of an Asynchronous Event Request (5.2.1).
    AsyncEvent: u32 {
        /// 000b error, 001b SMART, 010b notice, 110b I/O command set, 111b vendor.
        kind, with_kind: 0, 3;
        /// What happened, by kind.
        info, with_info: 8, 8;
        /// The log page to read; reading it allows the next event of the kind.
        log_page, with_log_page: 16, 8;
    }
}
