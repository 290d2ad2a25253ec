//! Random values of everything that lies on a medium. Nothing is tested here.

use freehold_blockmap::format::entries::CountRun;
use freehold_blockmap::format::types::*;
use freehold_blockmap::format::{BLOCK_LIMIT, FILE_LIMIT, bitmap};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Small numbers as often as large ones.
fn number(below: u64) -> impl Strategy<Value = u64> {
    (0..64u32, any::<u64>()).prop_map(move |(shift, n)| (n >> shift) % below)
}

fn file() -> impl Strategy<Value = FileId> {
    number(FILE_LIMIT - 1).prop_map(|n| n + 1)
}

fn tail() -> impl Strategy<Value = FileId> {
    prop_oneof![Just(0), file()]
}

/// A name.
pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(1..=255u8, 1..=12), 1 => vec(1..=255u8, 1..=255)]
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    number(BLOCK_LIMIT)
        .prop_flat_map(|start| (Just(start), number(BLOCK_LIMIT - start).prop_map(|len| len + 1)))
}

/// Up to `most` extents from file block `start` on, in order.
fn extents_from(start: u64, most: usize) -> impl Strategy<Value = Vec<(u64, Extent)>> {
    let one = (number(1 << 20), 0..32u32, any::<u32>(), number(1 << 51), any::<[bool; 2]>());
    vec(one, 0..=most).prop_map(move |parts| {
        let mut next = start;
        let mut list = Vec::new();
        for (gap, shift, len, phys, [unwritten, own]) in parts {
            let (block, len, phys) = (next + gap, (len >> shift).max(1), phys + 2);
            next = block + u64::from(len);
            if next > BLOCK_LIMIT || phys + u64::from(len) > BLOCK_LIMIT {
                break;
            }
            list.push((block, Extent { phys, len, unwritten, own }));
        }
        list
    })
}

/// The entries of an extent leaf.
pub(crate) fn extents(most: usize) -> impl Strategy<Value = Vec<(u64, Extent)>> {
    number(BLOCK_LIMIT).prop_flat_map(move |start| extents_from(start, most))
}

/// A node that a node of generation 1000 at block 1 may point to.
pub(crate) fn node_ref(level: u8) -> impl Strategy<Value = NodeRef> {
    (number(1 << 40), 1..=1000u64).prop_map(move |(addr, generation)| NodeRef {
        addr: addr + 2,
        generation,
        level,
    })
}

/// A file's record under its key.
pub(crate) fn file_record() -> impl Strategy<Value = (u64, FileRecord)> {
    let map = prop_oneof![
        (any::<u64>(), extents(INLINE_EXTENTS))
            .prop_map(|(stamp, extents)| FileMap::Inline { stamp, extents }),
        (0..=12u8).prop_flat_map(node_ref).prop_map(FileMap::Tree),
    ];
    (file(), any::<[u64; 4]>(), any::<bool>(), map).prop_map(|(id, numbers, condemned, map)| {
        let [size, blocks, extents, share_gen] = numbers;
        let key = if condemned { id | FILE_LIMIT } else { id };
        (key, FileRecord { size, blocks, extents, share_gen, condemned, map })
    })
}

/// The entries of a leaf of files.
pub(crate) fn files() -> impl Strategy<Value = Vec<(u64, FileRecord)>> {
    vec(file_record(), 0..=27)
        .prop_map(|list| list.into_iter().collect::<std::collections::BTreeMap<_, _>>())
        .prop_map(|map| map.into_iter().collect())
}

/// The entries of a leaf of names.
pub(crate) fn names() -> impl Strategy<Value = Vec<(Box<[u8]>, FileId)>> {
    btree_map(name().prop_map(Vec::into_boxed_slice), file(), 0..=15)
        .prop_map(|map| map.into_iter().collect())
}

/// The entries of a leaf of counts.
pub(crate) fn counts() -> impl Strategy<Value = Vec<(u64, CountRun)>> {
    (extents(200), 2..=u32::MAX).prop_map(|(extents, count)| {
        let run = |(i, (block, extent)): (usize, (u64, Extent))| {
            let count = (count >> (i % 30)).max(2);
            (block, CountRun { len: extent.len, count })
        };
        extents.into_iter().filter(|(b, _)| *b >= 2).enumerate().map(run).collect()
    })
}

/// The entries of a leaf of space groups.
pub(crate) fn space() -> impl Strategy<Value = Vec<(u64, GroupDesc)>> {
    let desc = (number(BLOCK_LIMIT - 2), any::<u64>(), 0..=GROUP_BLOCKS as u32).prop_map(
        |(addr, generation, free)| GroupDesc {
            addr: addr + 2,
            generation: generation.max(1),
            free,
        },
    );
    btree_map(number(BLOCK_LIMIT / GROUP_BLOCKS), desc, 0..=144)
        .prop_map(|map| map.into_iter().collect())
}

/// A bitmap.
pub(crate) fn bitmap() -> impl Strategy<Value = bitmap::Bitmap> {
    let word = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    vec(word, bitmap::WORDS).prop_map(|words| words.try_into().unwrap())
}

fn root() -> impl Strategy<Value = NodeRef> {
    prop_oneof![1 => Just(NodeRef::default()), 4 => (0..=12u8).prop_flat_map(node_ref)]
}

/// A superblock, of a store with its journal inside or apart.
pub(crate) fn superblock() -> impl Strategy<Value = Superblock> {
    let apart = proptest::option::of((any::<[u8; 16]>(), number(BLOCK_LIMIT)));
    (plain_superblock(), apart).prop_map(|(sb, apart)| {
        let apart = apart.map(|(mut id, blocks)| {
            id[0] |= 1;
            ApartJournal { id, blocks: blocks + 1 }
        });
        Superblock { refuse_features: u64::from(apart.is_some()), apart, ..sb }
    })
}

/// A header of a journal that has a medium of its own.
pub(crate) fn journal_header() -> impl Strategy<Value = JournalHeader> {
    let ids = any::<[[u8; 16]; 2]>();
    (ids, number(BLOCK_LIMIT - 2), 1..=u64::MAX).prop_map(|(mut ids, blocks, epoch)| {
        ids.iter_mut().for_each(|id| id[0] |= 1);
        let [store_id, journal_id] = ids;
        JournalHeader { store_id, journal_id, ring_blocks: blocks + 1, epoch }
    })
}

fn plain_superblock() -> impl Strategy<Value = Superblock> {
    let numbers = any::<[u64; 6]>();
    let small = (1..1u64 << 30, 1..1u64 << 30, any::<u64>());
    (numbers, any::<[u8; 16]>(), small, file(), [root(), root(), root(), root()]).prop_map(
        |(numbers, mut store_id, (start, journal_blocks, checkpoint), next_file, roots)| {
            let [readonly_features, ignore_features, cut_seq, cut_group, cut_pos, share_gen] =
                numbers;
            store_id[0] |= 1;
            let blocks = 1 << 41;
            Superblock {
                refuse_features: 0,
                readonly_features,
                ignore_features,
                store_id,
                blocks,
                journal_start: start + 1,
                journal_blocks,
                checkpoint: checkpoint.max(1000),
                cut_seq,
                cut_group: cut_group.max(1),
                cut_pos,
                names: roots[0],
                files: roots[1],
                counts: roots[2],
                space: roots[3],
                share_gen,
                next_file,
                free: cut_pos % (blocks + 1),
                apart: None,
            }
        },
    )
}

fn map() -> impl Strategy<Value = Record> {
    let extents = number(1 << 50).prop_flat_map(|start| (Just(start), extents_from(start, 40)));
    (file(), extents, 1..9u64, any::<u64>()).prop_map(|(file, (start, mut extents), more, size)| {
        extents.iter_mut().for_each(|(_, extent)| extent.own = true);
        let end = extents.last().map_or(start, |(block, e)| block + u64::from(e.len));
        let len = (end + more).min(BLOCK_LIMIT) - start;
        Record::Map { file, start, len, size, extents: extents.into() }
    })
}

/// A block's bytes without the zeroes at its end.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=4096).prop_map(|mut bytes| {
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        bytes
    })
}

fn atomic() -> impl Strategy<Value = Record> {
    let part = (0..1u64 << 20, extents_from(0, 12), 1..9u64);
    (file(), any::<u64>(), vec(part, 1..=6)).prop_map(|(file, size, list)| {
        let mut next = 0;
        let mut parts = Vec::new();
        for (gap, extents, more) in list {
            let start = next + gap;
            let place = |(block, e): (u64, Extent)| (start + block, Extent { own: true, ..e });
            let extents: Vec<_> = extents.into_iter().map(place).collect();
            let end = extents.last().map_or(start, |(block, e)| block + u64::from(e.len));
            parts.push(MapPart { start, len: end + more - start, extents });
            next = end + more;
        }
        Record::Atomic { file, size, parts }
    })
}

/// A record of any sort.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let reflink_range = (
        file(),
        file(),
        number(1 << 51),
        number(1 << 51),
        1..=1u64 << 51,
        any::<[u64; 2]>(),
        tail(),
    )
        .prop_map(|(from, to, from_start, to_start, len, [size, share_gen], tail)| {
            Record::ReflinkRange { from, from_start, to, to_start, len, size, share_gen, tail }
        });
    prop_oneof![
        (1..=u64::MAX).prop_map(|checkpoint| Record::Mark { checkpoint }),
        (file(), name()).prop_map(|(file, name)| Record::Create { file, name }),
        name().prop_map(|name| Record::Remove { name }),
        (name(), name()).prop_map(|(from, to)| Record::Rename { from, to }),
        map(),
        map(),
        atomic(),
        (file(), range(), any::<u64>()).prop_map(|(file, (start, len), size)| Record::Convert {
            file,
            start,
            len,
            size
        }),
        (file(), any::<u64>()).prop_map(|(file, size)| Record::Grow { file, size }),
        (file(), any::<u64>(), tail()).prop_map(|(file, size, tail)| Record::Truncate {
            file,
            size,
            tail
        }),
        (file(), range(), tail()).prop_map(|(file, (start, len), tail)| Record::Punch {
            file,
            start,
            len,
            tail
        }),
        (file(), range()).prop_map(|(file, (start, len))| Record::Zero { file, start, len }),
        (file(), range(), tail()).prop_map(|(file, (start, len), tail)| Record::Collapse {
            file,
            start,
            len,
            tail
        }),
        (file(), range()).prop_map(|(file, (start, len))| Record::Insert { file, start, len }),
        (file(), file(), name(), any::<u64>())
            .prop_map(|(from, to, name, share_gen)| Record::Reflink { from, to, name, share_gen }),
        reflink_range,
        (file(), number(BLOCK_LIMIT)).prop_map(|(file, cursor)| Record::Slice { file, cursor }),
        (file(), number(BLOCK_LIMIT), data()).prop_map(|(file, block, bytes)| Record::Data {
            file,
            block,
            bytes
        }),
    ]
}
