//! Lines of the processor's caches: which instruction writes one back, found out by what
//! the processor says of itself.

use std::sync::OnceLock;

/// Bytes of a line.
const LINE: usize = 64;

/// How a line is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// It stays in the cache.
    Clwb,
    /// It leaves the cache; several at once.
    Clflushopt,
    /// It leaves the cache; one after the other.
    Clflush,
}

impl Lines {
    /// What this processor has; none on others than x86-64. Asked once: under a hypervisor the
    /// question costs microseconds.
    pub(super) fn of_this_processor() -> Option<Self> {
        static FOUND: OnceLock<Option<Lines>> = OnceLock::new();
        *FOUND.get_or_init(|| imp::features().and_then(|(one, seven)| Self::by(one, seven)))
    }

    /// By EBX and EDX of leaf 1 and EBX of leaf 7 (CPUID).
    fn by((ebx, edx): (u32, u32), seven: u32) -> Option<Self> {
        const CLFSH: u32 = 1 << 19;
        const CLFLUSHOPT: u32 = 1 << 23;
        const CLWB: u32 = 1 << 24;
        // In units of 8 bytes.
        let line = (ebx >> 8 & 0xff) as usize * 8;
        match (edx & CLFSH != 0 && line >= LINE, seven) {
            (false, _) => None,
            (true, seven) if seven & CLWB != 0 => Some(Self::Clwb),
            (true, seven) if seven & CLFLUSHOPT != 0 => Some(Self::Clflushopt),
            (true, _) => Some(Self::Clflush),
        }
    }

    /// The instruction's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clwb => "CLWB",
            Self::Clflushopt => "CLFLUSHOPT",
            Self::Clflush => "CLFLUSH",
        }
    }

    /// Begins to write back the lines that have bytes of a range, which is mapped. SFENCE
    /// ends that.
    ///
    /// # Safety
    /// The bytes are mapped.
    pub(super) unsafe fn write_back(self, at: *const u8, len: usize) {
        if len == 0 {
            return;
        }
        let skew = at.addr() % LINE;
        let (first, lines) = (at.wrapping_sub(skew), (skew + len).div_ceil(LINE));
        // SAFETY: mappings are made of pages, so the lines around the range are mapped, too.
        unsafe { imp::write_back(self, first, lines) };
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod imp {
    use super::{LINE, Lines};
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    pub(super) fn features() -> Option<((u32, u32), u32)> {
        let most = __cpuid(0).eax;
        let one = __cpuid(1);
        let seven = if most >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        Some(((one.ebx, one.edx), seven))
    }

    /// # Safety
    /// That many lines from `at` on are mapped, and the processor has the instruction.
    pub(super) unsafe fn write_back(how: Lines, at: *const u8, lines: usize) {
        for line in 0..lines {
            let at = at.wrapping_add(line * LINE);
            // SAFETY: the instructions change no byte and no register. That memory is not
            // said to be untouched keeps stores before them where they are.
            unsafe {
                match how {
                    Lines::Clwb => asm!("clwb [{}]", in(reg) at, options(nostack)),
                    Lines::Clflushopt => asm!("clflushopt [{}]", in(reg) at, options(nostack)),
                    Lines::Clflush => asm!("clflush [{}]", in(reg) at, options(nostack)),
                }
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod imp {
    use super::Lines;

    pub(super) fn features() -> Option<((u32, u32), u32)> {
        None
    }

    /// Never called: there are no [`Lines`].
    pub(super) unsafe fn write_back(_: Lines, _: *const u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_instruction_is_taken() {
        let sane = (8 << 8, 1 << 19);
        let all = (1 << 24) | (1 << 23);
        assert_eq!(Lines::by(sane, all), Some(Lines::Clwb));
        assert_eq!(Lines::by(sane, 1 << 23), Some(Lines::Clflushopt));
        assert_eq!(Lines::by(sane, 0), Some(Lines::Clflush));
        assert_eq!(Lines::by((8 << 8, 0), all), None, "it does not say so");
        assert_eq!(Lines::by((4 << 8, 1 << 19), all), None, "lines of 32 bytes");
    }

    #[test]
    fn what_this_processor_has_changes_nothing() {
        let Some(best) = Lines::of_this_processor() else { return };
        // Whoever has the better ones has the older ones, too.
        let all = match best {
            Lines::Clwb => &[Lines::Clwb, Lines::Clflush][..],
            Lines::Clflushopt => &[Lines::Clflushopt, Lines::Clflush],
            Lines::Clflush => &[Lines::Clflush],
        };
        let bytes = vec![7u8; 1000];
        for how in all {
            for (skip, len) in [(0, 1000), (63, 2), (1, 0), (999, 1)] {
                // SAFETY: the bytes are there.
                unsafe { how.write_back(bytes.as_ptr().wrapping_add(skip), len) };
            }
        }
        assert!(bytes.iter().all(|&b| b == 7));
    }
}
