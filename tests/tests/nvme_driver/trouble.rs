//! Faults of a controller.
