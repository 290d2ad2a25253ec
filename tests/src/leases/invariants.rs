//! References, part A, as far as one lease and its holder go.
