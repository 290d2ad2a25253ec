//! The NVMe specification as data: layouts, numbers and their names. No I/O, no state.
//!
//! It follows NVM Express Base Specification 1.4 ("Base 1.4"), and where that was
//! changed or extended, Base Specification 2.0 ("Base 2.0") and the NVM Command Set
//! Specification 1.0 ("NVM 1.0"). Each item names its section. Multi-byte values are
//! little-endian in memory (Base 1.4, 1.8); values here are in the host's order, and
//! each type says how it becomes bytes.
//!
//! Every structure is encoded and decoded by the same code, so that the driver and
//! the emulated controller cannot differ about where a field lies; that the place is
//! right is checked by tests against images written by hand.

pub mod command;
pub mod feature;
pub mod identify;
pub mod io;
pub mod log;
pub mod pointer;
pub mod registers;
pub mod status;

/// The memory page that the driver runs a controller with (CC.MPS = 0): the unit of
/// PRP entries, PRP lists, and of queue memory.
pub const PAGE: usize = 4096;

/// A namespace identifier that names all namespaces (Base 1.4, 6.1).
pub const ALL_NAMESPACES: u32 = u32::MAX;

/// Whether a field lies inside its structure; for the macros below.
const fn fits(at: usize, len: usize, size: usize) -> bool {
    len <= size && at <= size - len
}

/// Declares a register or a packed word: a newtype with, for each field, a getter and
/// a `with_` form that returns the word with the field set (cut to its width).
macro_rules! fields {
    (
        $(#[$meta:meta])* $name:ident: $word:ty {
            $( $(#[$field_meta:meta])* $get:ident, $with:ident: $low:literal, $bits:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(pub $word);

        impl $name {
            $(
                $(#[$field_meta])*
                pub const fn $get(self) -> $word {
                    const { assert!($bits < <$word>::BITS && fits($low, $bits, <$word>::BITS as usize)) };
                    (self.0 >> $low) & ((1 << $bits) - 1)
                }

                /// The same word with that field set.
                #[must_use]
                pub const fn $with(self, value: $word) -> Self {
                    let mask: $word = ((1 << $bits) - 1) << $low;
                    Self((self.0 & !mask) | ((value << $low) & mask))
                }
            )*
        }
    };
}

/// Declares a structure as a view of its bytes: for each field, a getter and a setter
/// at a fixed offset. Bytes that no field names are kept as they are.
macro_rules! layout {
    (
        $(#[$meta:meta])* $name:ident: $size:literal {
            $( $(#[$field_meta:meta])* $get:ident, $set:ident: $word:ty, $at:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Box<[u8; $size]>);

        impl $name {
            /// Bytes that it has.
            pub const BYTES: usize = $size;

            /// All bytes zero.
            pub fn new() -> Self {
                Self(Box::new([0; $size]))
            }

            /// From bytes of a device; every value of every byte is taken.
            pub fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(Box::new(bytes))
            }

            /// The bytes, as the device sends them.
            pub fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            $(
                $(#[$field_meta])*
                pub fn $get(&self) -> $word {
                    const { assert!(fits($at, size_of::<$word>(), $size)) };
                    let mut raw = [0; size_of::<$word>()];
                    raw.copy_from_slice(&self.0[$at..$at + size_of::<$word>()]);
                    <$word>::from_le_bytes(raw)
                }

                /// Sets that field.
                pub fn $set(&mut self, value: $word) {
                    self.0[$at..$at + size_of::<$word>()].copy_from_slice(&value.to_le_bytes());
                }
            )*

            /// Offset and length of every field, by name.
            #[cfg(test)]
            pub(super) fn fields() -> Vec<(&'static str, usize, usize)> {
                vec![$((stringify!($get), $at, size_of::<$word>())),*]
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($get), &self.$get()))*
                    .finish()
            }
        }
    };
}

use {fields, layout};

#[cfg(test)]
mod tests;
