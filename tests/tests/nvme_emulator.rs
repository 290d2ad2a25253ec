//! The emulated controller, by commands that are made by hand: registers, queues, all
//! commands with their refusals, shadow doorbells and sleep, faults, hostile memory.

mod nvme_emulator {
    mod admin;
    mod cmb;
    mod hostile;
    mod io;
    mod region;
    mod registers;
    mod sleeping;
}
