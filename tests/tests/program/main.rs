//! The program, end to end: the built `freehold` is run as a user runs it.

mod bench;
mod demo;
mod harness;
mod kill;
mod names;
mod race;
mod transfer;
mod trouble;
mod usage;
mod verbs;
