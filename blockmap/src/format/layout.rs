//! Tables of fields: name, offset, size. The codecs take their offsets from
//! these tables when they are compiled, and a test compares the same tables
//! with docs/format.md, so that the document and the code cannot part.

/// Fields in order: name, offset in bytes, size in bytes.
pub type Layout = &'static [(&'static str, usize, usize)];

/// The offset of a field. For constants only: an unknown name does not compile.
pub(super) const fn at(layout: Layout, name: &str) -> usize {
    let mut i = 0;
    while i < layout.len() {
        if same(layout[i].0, name) {
            return layout[i].1;
        }
        i += 1;
    }
    panic!("no such field");
}

/// The offset behind the last field.
pub(super) const fn end(layout: Layout) -> usize {
    layout[layout.len() - 1].1 + layout[layout.len() - 1].2
}

/// True if each field begins where the one before it ends, the first at `start`.
pub(super) const fn contiguous(layout: Layout, start: usize) -> bool {
    let mut next = start;
    let mut i = 0;
    while i < layout.len() {
        if layout[i].1 != next {
            return false;
        }
        next += layout[i].2;
        i += 1;
    }
    true
}

/// String equality that a constant can use.
pub(super) const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
