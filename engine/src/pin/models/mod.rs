//! The protocol of pins under loom.
