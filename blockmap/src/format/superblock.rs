//! The two superblocks: which checkpoint there is, and where everything
//! begins. Choosing between the two is recovery's business.

use super::codec::{get, get_u64, put};
use super::entries::{check_blocks, check_file};
use super::file_record::check_node;
use super::header::{self, HEADER, HeaderFields, NO_ID};
use super::layout::{Layout, at, contiguous, end};
use super::types::{Addr, ApartJournal, Kind, NodeRef, Superblock};
use super::{BLOCK, BLOCK_LIMIT, FIRST_BLOCK, FormatError, Result, VERSION};

/// The feature of a store whose journal is on a medium of its own.
pub const JOURNAL_APART: u64 = 1;
/// Features without which a store cannot be opened, that this program knows.
pub const KNOWN_REFUSE: u64 = JOURNAL_APART;
/// Features without which a store cannot be written, that this program knows.
pub const KNOWN_READONLY: u64 = 0;
/// Features that a program may ignore, that this one knows.
pub const KNOWN_IGNORE: u64 = GUARD;
/// The feature of a superblock that looks like an empty table of partitions to who does not know
/// it, and so is not taken for a device that nobody uses. To us it says nothing.
pub const GUARD: u64 = 1;

/// The fields behind the header. The checkpoint's number is the header's generation.
pub const LAYOUT: Layout = &[
    ("refuse_features", 64, 8),
    ("readonly_features", 72, 8),
    ("ignore_features", 80, 8),
    ("store_id", 88, 16),
    ("blocks", 104, 8),
    ("journal_start", 112, 8),
    ("journal_blocks", 120, 8),
    ("cut_seq", 128, 8),
    ("cut_group", 136, 8),
    ("cut_pos", 144, 8),
    ("share_generation", 152, 8),
    ("next_file", 160, 8),
    ("free", 168, 8),
    ("names_root", 176, 24),
    ("files_root", 200, 24),
    ("counts_root", 224, 24),
    ("space_root", 248, 24),
];

/// What the feature `JOURNAL_APART` appends.
pub const APART_LAYOUT: Layout = &[("journal_id", 272, 16), ("ring_blocks", 288, 8)];

/// What the feature `GUARD` appends: four empty entries, and what a boot sector ends with.
pub const GUARD_LAYOUT: Layout = &[("partitions", 446, 64), ("boot_signature", 510, 2)];
const BOOT_SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// A root in the superblock. Offsets count from the root's own beginning.
pub const ROOT_LAYOUT: Layout =
    &[("block", 0, 8), ("generation", 8, 8), ("level", 16, 1), ("reserved", 17, 7)];

const ROOT: usize = end(ROOT_LAYOUT);
const _: () = assert!(contiguous(LAYOUT, HEADER) && contiguous(ROOT_LAYOUT, 0) && ROOT == 24);
const _: () = assert!(contiguous(APART_LAYOUT, end(LAYOUT)));
const _: () = assert!(contiguous(GUARD_LAYOUT, 446) && end(GUARD_LAYOUT) == 512);

/// The offset of a field, found when this is compiled.
macro_rules! field {
    ($name:literal) => {
        const { at(LAYOUT, $name) }
    };
}

impl Superblock {
    /// A program that does not know all of this store's features may only read it.
    pub fn read_only(&self) -> bool {
        self.readonly_features & !KNOWN_READONLY != 0
    }
}

/// Writes a superblock that is to lie in slot `addr`, 0 or 1, into `block`.
pub fn encode(sb: &Superblock, addr: Addr, block: &mut [u8]) -> Result<()> {
    check(sb)?;
    check_slot(addr)?;
    {
        let b: &mut [u8; BLOCK] =
            block.try_into().map_err(|_| FormatError::Malformed("not one block of bytes"))?;
        put(b, field!("refuse_features"), sb.refuse_features.to_le_bytes());
        put(b, field!("readonly_features"), sb.readonly_features.to_le_bytes());
        put(b, field!("ignore_features"), sb.ignore_features.to_le_bytes());
        put(b, field!("store_id"), sb.store_id);
        put(b, field!("blocks"), sb.blocks.to_le_bytes());
        put(b, field!("journal_start"), sb.journal_start.to_le_bytes());
        put(b, field!("journal_blocks"), sb.journal_blocks.to_le_bytes());
        put(b, field!("cut_seq"), sb.cut_seq.to_le_bytes());
        put(b, field!("cut_group"), sb.cut_group.to_le_bytes());
        put(b, field!("cut_pos"), sb.cut_pos.to_le_bytes());
        put(b, field!("share_generation"), sb.share_gen.to_le_bytes());
        put(b, field!("next_file"), sb.next_file.to_le_bytes());
        put(b, field!("free"), sb.free.to_le_bytes());
        put(b, field!("names_root"), root_bytes(sb.names));
        put(b, field!("files_root"), root_bytes(sb.files));
        put(b, field!("counts_root"), root_bytes(sb.counts));
        put(b, field!("space_root"), root_bytes(sb.space));
        if let Some(apart) = sb.apart {
            put(b, const { at(APART_LAYOUT, "journal_id") }, apart.id);
            put(b, const { at(APART_LAYOUT, "ring_blocks") }, apart.blocks.to_le_bytes());
        }
        if sb.ignore_features & GUARD != 0 {
            b[fields_end(sb.refuse_features)..end(GUARD_LAYOUT)].fill(0);
            put(b, const { at(GUARD_LAYOUT, "boot_signature") }, BOOT_SIGNATURE);
        }
    }
    let fields = HeaderFields {
        kind: Kind::Super,
        addr,
        generation: sb.checkpoint,
        stamp: 0,
        entries: 0,
        payload_len: payload_len(sb.refuse_features, sb.ignore_features) as u32,
        level: 0,
    };
    header::seal(block, &NO_ID, fields)
}

/// The version of the program that wrote a sound superblock.
pub fn version(block: &[u8]) -> u32 {
    block.first_chunk().map_or(0, header::version)
}

/// Reads slot `addr`. What is no superblock at all is `NotAStore`; a sound one
/// that needs a newer program is `TooNew`, whatever else has changed in it.
pub fn decode(block: &[u8], addr: Addr) -> Result<Superblock> {
    check_slot(addr)?;
    let head = match header::verify(block, &NO_ID) {
        Err(FormatError::BadMagic) => return Err(FormatError::NotAStore),
        head => head?,
    };
    let b: &[u8; BLOCK] = block.try_into().map_err(|_| FormatError::Short("superblock"))?;
    let refuse = get_u64(b, field!("refuse_features"));
    let version = header::version(head);
    // A journal's header has other fields where a superblock has its features.
    if version == VERSION
        && let Err(e @ FormatError::WrongKind { .. }) = header::get_fields(head, Kind::Super)
    {
        return Err(e);
    }
    // A group's or a node's checksum has another seed; a superblock's does not change.
    if version > VERSION || (version == VERSION && refuse & !KNOWN_REFUSE != 0) {
        return Err(FormatError::TooNew { version, refuse });
    }
    let (head, payload) = header::open(block, &NO_ID, addr, None, Kind::Super)?;
    // Features that may be ignored can append fields.
    let ignore = get_u64(b, field!("ignore_features"));
    if payload.len() < payload_len(refuse, ignore) {
        return Err(FormatError::Short("superblock"));
    }
    check_guard(b, refuse, ignore)?;
    if head.entries != 0 || head.stamp != 0 || head.level != 0 {
        return Err(FormatError::Malformed("a superblock has no entries, stamp or level"));
    }
    let sb = Superblock {
        refuse_features: refuse,
        readonly_features: get_u64(b, field!("readonly_features")),
        ignore_features: ignore,
        store_id: get(b, field!("store_id")),
        blocks: get_u64(b, field!("blocks")),
        journal_start: get_u64(b, field!("journal_start")),
        journal_blocks: get_u64(b, field!("journal_blocks")),
        checkpoint: head.generation,
        cut_seq: get_u64(b, field!("cut_seq")),
        cut_group: get_u64(b, field!("cut_group")),
        cut_pos: get_u64(b, field!("cut_pos")),
        names: root(get(b, field!("names_root")))?,
        files: root(get(b, field!("files_root")))?,
        counts: root(get(b, field!("counts_root")))?,
        space: root(get(b, field!("space_root")))?,
        share_gen: get_u64(b, field!("share_generation")),
        next_file: get_u64(b, field!("next_file")),
        free: get_u64(b, field!("free")),
        apart: (refuse & JOURNAL_APART != 0).then(|| ApartJournal {
            id: get(b, const { at(APART_LAYOUT, "journal_id") }),
            blocks: get_u64(b, const { at(APART_LAYOUT, "ring_blocks") }),
        }),
    };
    check(&sb)?;
    Ok(sb)
}

/// Where the fields end that are there without the guard.
fn fields_end(refuse: u64) -> usize {
    end(if refuse & JOURNAL_APART != 0 { APART_LAYOUT } else { LAYOUT })
}

/// Bytes of the payload that a store with these features needs.
fn payload_len(refuse: u64, ignore: u64) -> usize {
    let end = if ignore & GUARD != 0 { end(GUARD_LAYOUT) } else { fields_end(refuse) };
    end - HEADER
}

/// A guard is what it says, and nothing is in front of it but what other features append.
fn check_guard(b: &[u8; BLOCK], refuse: u64, ignore: u64) -> Result<()> {
    if ignore & GUARD == 0 {
        return Ok(());
    }
    let signature: [u8; 2] = get(b, const { at(GUARD_LAYOUT, "boot_signature") });
    let from = match ignore & !KNOWN_IGNORE {
        0 => fields_end(refuse),
        _ => const { at(GUARD_LAYOUT, "partitions") },
    };
    let empty = b[from..const { at(GUARD_LAYOUT, "boot_signature") }].iter().all(|byte| *byte == 0);
    match empty && signature == BOOT_SIGNATURE {
        true => Ok(()),
        false => Err(FormatError::Malformed("a superblock's guard is another table")),
    }
}

fn root_bytes(root: NodeRef) -> [u8; ROOT] {
    let mut bytes = [0; ROOT];
    put(&mut bytes, const { at(ROOT_LAYOUT, "block") }, root.addr.to_le_bytes());
    put(&mut bytes, const { at(ROOT_LAYOUT, "generation") }, root.generation.to_le_bytes());
    put(&mut bytes, const { at(ROOT_LAYOUT, "level") }, [root.level]);
    bytes
}

fn root(bytes: [u8; ROOT]) -> Result<NodeRef> {
    if get(&bytes, const { at(ROOT_LAYOUT, "reserved") }) != [0u8; 7] {
        return Err(FormatError::Malformed("reserved bytes of a root are not zero"));
    }
    let [level] = get(&bytes, const { at(ROOT_LAYOUT, "level") });
    Ok(NodeRef {
        addr: get_u64(&bytes, const { at(ROOT_LAYOUT, "block") }),
        generation: get_u64(&bytes, const { at(ROOT_LAYOUT, "generation") }),
        level,
    })
}

fn check_slot(addr: Addr) -> Result<()> {
    if addr < FIRST_BLOCK {
        Ok(())
    } else {
        Err(FormatError::Malformed("a superblock lies in block 0 or 1"))
    }
}

/// Whether a checkpoint can be so.
fn check(sb: &Superblock) -> Result<()> {
    let bad = |what| Err(FormatError::Malformed(what));
    if sb.store_id == NO_ID {
        return bad("a store's id is not zero");
    }
    if sb.blocks > BLOCK_LIMIT || sb.free > sb.blocks {
        return bad("more blocks than can be");
    }
    if sb.journal_blocks == 0 {
        return bad("a store without a journal");
    }
    check_blocks(sb.journal_start, sb.journal_blocks)?;
    if sb.journal_start + sb.journal_blocks > sb.blocks {
        return bad("the journal ends behind the store");
    }
    if sb.apart.is_some() != (sb.refuse_features & JOURNAL_APART != 0) {
        return bad("a journal apart without its feature, or the other way round");
    }
    if sb.apart.is_some_and(|j| j.id == NO_ID || j.blocks == 0 || j.blocks > BLOCK_LIMIT) {
        return bad("a journal apart without an id, or of no length that can be");
    }
    if sb.checkpoint == 0 || sb.cut_group == 0 {
        return bad("checkpoints and groups are counted from 1");
    }
    check_file(sb.next_file)?;
    for root in [sb.names, sb.files, sb.counts, sb.space] {
        if root == NodeRef::default() {
            continue;
        }
        check_node(&root)?;
        if root.addr >= sb.blocks || root.generation > sb.checkpoint {
            return bad("a root behind the store's end, or younger than its checkpoint");
        }
    }
    Ok(())
}
