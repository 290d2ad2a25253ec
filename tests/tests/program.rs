//! The program, end to end: the built `freehold` is run as a user runs it.
//!
//! `harness.rs` builds it and runs it; the other files hold the promises, by
//! subject. All bytes follow from fixed seeds. What kills processes is called
//! a process-kill test, and proves nothing about power loss.

mod program {
    pub(crate) mod bench;
    pub(crate) mod controller;
    pub(crate) mod demo;
    pub(crate) mod device;
    pub(crate) mod harness;
    pub(crate) mod journal;
    pub(crate) mod kill;
    pub(crate) mod names;
    pub(crate) mod race;
    pub(crate) mod transfer;
    pub(crate) mod trouble;
    pub(crate) mod usage;
    pub(crate) mod verbs;
}
