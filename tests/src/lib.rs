//! What the specification tests share. The tests themselves are in `tests/`.

pub mod fuzz;
