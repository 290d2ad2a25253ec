//! The bitmap of a space group. Finding free blocks in it is elsewhere.

use super::codec::{Reader, Writer};
use super::entries::{EntryCodec, Space};
use super::header::{self, HEADER, HeaderFields};
use super::layout::{Layout, contiguous, end};
use super::types::{GROUP_BLOCKS, GroupDesc, Kind};
use super::{FormatError, Result};

/// Words of a bitmap.
pub const WORDS: usize = GROUP_BLOCKS as usize / 64;

/// A group's blocks, the first in the lowest bit of the first word; 1 is in
/// use. Bits for blocks behind the store's end are 1.
pub type Bitmap = [u64; WORDS];

/// The fields behind the header.
pub const LAYOUT: Layout = &[("group", 64, 8), ("words", 72, 3968)];

const _: () = assert!(contiguous(LAYOUT, HEADER) && end(LAYOUT) == 72 + WORDS * 8);
const _: () = assert!(WORDS as u64 * 64 == GROUP_BLOCKS);

/// Free blocks in a bitmap.
pub fn free(words: &Bitmap) -> u32 {
    words.iter().map(|w| w.count_zeros()).sum()
}

/// Writes the bitmap of group `group`, which is to lie where `desc` says, into `block`.
pub fn encode(
    words: &Bitmap,
    group: u64,
    desc: &GroupDesc,
    id: &[u8; 16],
    block: &mut [u8],
) -> Result<()> {
    Space::check_entry(&group, desc)?;
    check_free(words, desc)?;
    let payload = block.get_mut(HEADER..).ok_or(FormatError::Short("bitmap"))?;
    let mut w = Writer::new(payload);
    w.u64(group);
    words.iter().for_each(|word| w.u64(*word));
    let payload_len = w.finish()? as u32;
    let fields = HeaderFields {
        kind: Kind::Bitmap,
        addr: desc.addr,
        generation: desc.generation,
        stamp: 0,
        entries: WORDS as u32,
        payload_len,
        level: 0,
    };
    header::seal(block, id, fields)
}

/// Reads the bitmap of group `group`, which lies where `desc` says.
pub fn decode(block: &[u8], id: &[u8; 16], group: u64, desc: &GroupDesc) -> Result<Box<Bitmap>> {
    Space::check_entry(&group, desc)?;
    let (head, payload) = header::open(block, id, desc.addr, Some(desc.generation), Kind::Bitmap)?;
    if head.entries != WORDS as u32 || head.stamp != 0 || head.level != 0 {
        return Err(FormatError::Malformed("a bitmap of another size, or with a stamp or level"));
    }
    let mut r = Reader::new(payload);
    if r.u64("bitmap")? != group {
        return Err(FormatError::Malformed("the bitmap of another space group"));
    }
    let mut words = Box::new([0; WORDS]);
    for word in words.iter_mut() {
        *word = r.u64("bitmap")?;
    }
    if r.remaining() != 0 {
        return Err(FormatError::Malformed("bytes behind the bitmap"));
    }
    check_free(&words, desc)?;
    Ok(words)
}

fn check_free(words: &Bitmap, desc: &GroupDesc) -> Result<()> {
    if free(words) != desc.free {
        return Err(FormatError::Malformed(
            "the bitmap has not as many free blocks as its descriptor says",
        ));
    }
    Ok(())
}
