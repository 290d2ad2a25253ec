//! What the driver's tests are served.

use freehold_engine::emulator::Options;
pub(crate) use freehold_tests::nvme::Served;

/// Bytes of the namespace.
pub(crate) const SIZE: u64 = 64 << 20;

/// A small emulator; the socket is named when it is served.
pub(crate) fn options() -> Options {
    Options::new("", SIZE)
}
