//! Whole stores that bytes have damaged, opened and used.
//!
//! The damage is under right checksums, so that it reaches the code behind them.
//! What comes of it is not judged, only that it is an answer or an error, in
//! bounded time and memory.

use super::{ID as OTHER_ID, resum, resum_group, seeded};
use crate::specimen::anatomy::{Anatomy, What};
use crate::specimen::{B, BLOCKS, ID, Specimen, long_name, medium, names, open};
use freehold::{Error, File, Result, Store};
use freehold_blockmap::format::header::NO_ID;
use freehold_blockmap::format::journal::{GROUP_MAX_PAYLOAD, RECORDS_AT, encode_group};
use freehold_blockmap::format::record::encode_record;
use freehold_blockmap::format::types::{Extent, GroupHead, Kind, MapPart, Record};
use freehold_blockmap::format::{BLOCK, bitmap};
use freehold_engine::sim::SimImage;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A store to damage.
struct Base {
    image: SimImage,
    anatomy: Anatomy,
    /// Numbers that mean something somewhere in it, or are the last of their kind.
    numbers: Vec<u64>,
}

fn bases() -> &'static [Base; 2] {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    BASES.get_or_init(|| {
        let specimen = Specimen::make();
        [specimen.closed().image, specimen.image].map(|image| {
            let anatomy = Anatomy::of(&image);
            let mut numbers = vec![0, 1, 2, 3, 4, 0xff, 4095, 4096, BLOCKS - 1, BLOCKS, BLOCKS + 1];
            numbers.extend([31, 32, 52, 62, 63].iter().flat_map(|b| [(1 << b) - 1, 1 << b]));
            numbers.extend([u64::MAX, u64::MAX - 1, u64::from(u32::MAX), i64::MAX as u64]);
            let sb = &anatomy.sb;
            numbers.extend([
                sb.checkpoint,
                sb.checkpoint + 1,
                sb.cut_seq,
                sb.cut_pos,
                sb.next_file,
            ]);
            numbers.extend(anatomy.parts.iter().map(|p| p.addr));
            numbers.extend(anatomy.counts.iter().take(20).map(|(k, _)| *k));
            numbers.extend(anatomy.files.iter().map(|(k, _)| *k));
            Base { image, anatomy, numbers }
        })
    })
}

/// Takes bytes off the front; zeroes when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> usize {
        usize::from(self.u8()) << 8 | usize::from(self.u8())
    }

    /// A number of the store, or one near it.
    fn number(&mut self, base: &Base) -> u64 {
        let number = base.numbers[self.u16() % base.numbers.len()];
        match self.u8() {
            0..200 => number,
            by => number.wrapping_add(u64::from(by)).wrapping_sub(228),
        }
    }

    fn name(&mut self) -> Vec<u8> {
        match self.u8() {
            n @ 0..60 => long_name(n.into()),
            60..90 => b"small".to_vec(),
            90..120 => b"many".to_vec(),
            120..150 => b"late".to_vec(),
            n => vec![n; usize::from(n) - 149],
        }
    }

    fn file(&mut self, base: &Base) -> u64 {
        match self.u8() {
            n @ 0..200 => u64::from(n) % 100,
            _ => self.number(base),
        }
    }

    fn small(&mut self, base: &Base) -> u64 {
        match self.u8() {
            n @ 0..220 => u64::from(n),
            _ => self.number(base),
        }
    }

    fn tail(&mut self, base: &Base) -> u64 {
        if self.u8() < 200 { 0 } else { self.number(base) }
    }
}

/// Bytes as changes of metadata blocks of a sound store.
pub fn fuzz_image(data: &[u8]) {
    let mut bytes = Bytes(data);
    let base = &bases()[usize::from(bytes.u8() & 1)];
    let mut image = base.image.clone();
    while !bytes.0.is_empty() {
        let part = &base.anatomy.parts[bytes.u16() % base.anatomy.parts.len()];
        let mut block = *image.get(part.addr);
        // The first entries and the header more often than the rest.
        let offset = match bytes.u8() {
            low @ 0..160 => usize::from(low) + 16,
            high => (usize::from(high) << 8 | usize::from(bytes.u8())) % (BLOCK - 32),
        };
        match bytes.u8() % 5 {
            0 => block[offset] ^= bytes.u8(),
            1 => block[offset] = bytes.u8(),
            2 => block[offset..][..8].copy_from_slice(&bytes.number(base).to_le_bytes()),
            3 => block[offset..][..4].copy_from_slice(&bytes.number(base).to_le_bytes()[..4]),
            _ => {
                let from = 64 + bytes.u16() % (BLOCK - 64 - 24);
                block.copy_within(from..from + 24, offset.min(BLOCK - 24));
            }
        }
        image.set(part.addr, Arc::new(block));
        seal(&mut image, base, &part.what, part.addr);
    }
    exercise(&image);
}

/// Gives what was changed its checksums, and a bitmap its number of free blocks.
fn seal(image: &mut SimImage, base: &Base, what: &What, addr: u64) {
    let put = |image: &mut SimImage, addr: u64, bytes: &[u8]| {
        image.set(addr, Arc::new(bytes.try_into().expect("one block")));
    };
    let mut block = image.get(addr).to_vec();
    match what {
        What::Super { .. } => resum(&mut block, &NO_ID),
        What::Node(..) => resum(&mut block, &ID),
        What::Group { head, .. } => {
            let sb = &base.anatomy.sb;
            let place = |i: u64| sb.journal_start + (head.pos + i) % sb.journal_blocks;
            let blocks: Vec<u64> = (0..u64::from(head.blocks)).map(place).collect();
            let mut bytes: Vec<u8> = blocks.iter().flat_map(|b| *image.get(*b)).collect();
            let crc = head_checksum(&bytes);
            bytes[RECORDS_AT - 4..RECORDS_AT].copy_from_slice(&crc.to_le_bytes());
            resum_group(&mut bytes);
            for (at, part) in blocks.iter().zip(bytes.chunks(BLOCK)) {
                put(image, *at, part);
            }
            return;
        }
        What::Bitmap(group, _) => {
            resum(&mut block, &ID);
            let words = &block[72..72 + bitmap::WORDS * 8];
            let free: u32 = words.iter().map(|b| b.count_zeros()).sum();
            let index = base.anatomy.space.iter().position(|(g, _)| g == group).unwrap_or(0);
            if let [leaf] = base.anatomy.nodes(Kind::Space, true)[..] {
                let mut entries = image.get(leaf.addr).to_vec();
                entries[64 + index * 28 + 24..][..4].copy_from_slice(&free.to_le_bytes());
                resum(&mut entries, &ID);
                put(image, leaf.addr, &entries);
            }
        }
    }
    put(image, addr, &block);
}

fn head_checksum(bytes: &[u8]) -> u32 {
    let mut head = bytes[..RECORDS_AT - 4].to_vec();
    head[12..16].fill(0);
    seeded(&NO_ID, &head)
}

/// Bytes as journal groups of sound records, which say anything.
pub fn fuzz_journal(data: &[u8]) {
    let mut bytes = Bytes(data);
    let base = &bases()[usize::from(bytes.u8() & 1)];
    let sb = &base.anatomy.sb;
    let mut image = base.image.clone();
    let last = base.anatomy.groups.last();
    let (mut number, mut pos, mut seq) = last
        .map_or((sb.cut_group, sb.cut_pos, sb.cut_seq + 1), |(h, _)| {
            (h.number + 1, h.pos + u64::from(h.blocks), h.first_seq + u64::from(h.records))
        });
    while !bytes.0.is_empty() {
        let mut payload = Vec::new();
        let mut records = 0;
        for _ in 0..1 + bytes.u8() % 8 {
            let before = payload.len();
            let done = encode_record(&mut payload, &record(&mut bytes, base));
            if done.is_err() || payload.len() > GROUP_MAX_PAYLOAD {
                payload.truncate(before);
                continue;
            }
            records += 1;
        }
        let mut head =
            GroupHead { number, pos, blocks: 0, first_seq: seq, records, confirmed: number - 1 };
        // Now and then the head says something else.
        match bytes.u8() {
            0 => head.first_seq = bytes.number(base),
            1 => head.confirmed = bytes.number(base),
            2 => head.number = bytes.number(base),
            3 => head.pos = bytes.number(base),
            _ => {}
        }
        let id = if bytes.u8() == 0 { OTHER_ID } else { ID };
        let Ok(group) = encode_group(head, &payload, &id) else { continue };
        for (i, block) in group.chunks(BLOCK).enumerate() {
            let at = sb.journal_start + (pos + i as u64) % sb.journal_blocks;
            image.set(at, Arc::new(block.try_into().expect("one block")));
        }
        number += 1;
        pos += (group.len() / BLOCK) as u64;
        seq += u64::from(records);
    }
    exercise(&image);
}

/// A few extents from a file block on.
fn extents(bytes: &mut Bytes<'_>, base: &Base, start: u64) -> Vec<(u64, Extent)> {
    let mut extents = Vec::new();
    let mut block = start;
    for _ in 0..bytes.u8() % 4 {
        let (phys, len) = (bytes.number(base), 1 + bytes.u8() as u32 % 8);
        let extent = Extent { phys, len, unwritten: bytes.u8() & 1 == 1, own: true };
        extents.push((block, extent));
        block = block.saturating_add(u64::from(len) + u64::from(bytes.u8() % 3));
    }
    extents
}

fn atomic(bytes: &mut Bytes<'_>, base: &Base) -> Record {
    let (file, size) = (bytes.file(base), bytes.small(base));
    let part = |bytes: &mut Bytes<'_>| {
        let (start, len) = (bytes.small(base), bytes.small(base));
        MapPart { start, len, extents: extents(bytes, base, start) }
    };
    Record::Atomic { file, size, parts: (0..bytes.u8() % 4).map(|_| part(bytes)).collect() }
}

fn record(bytes: &mut Bytes<'_>, base: &Base) -> Record {
    match bytes.u8() % 18 {
        0 => Record::Mark { checkpoint: bytes.number(base) },
        1 => Record::Create { file: bytes.number(base), name: bytes.name() },
        2 => Record::Remove { name: bytes.name() },
        3 => Record::Rename { from: bytes.name(), to: bytes.name() },
        4 | 5 => {
            let (file, start, len) = (bytes.file(base), bytes.small(base), bytes.small(base));
            let extents = extents(bytes, base, start);
            Record::Map { file, start, len, size: bytes.small(base), extents: extents.into() }
        }
        6 => Record::Convert {
            file: bytes.file(base),
            start: bytes.small(base),
            len: bytes.small(base),
            size: bytes.number(base),
        },
        7 => Record::Grow { file: bytes.file(base), size: bytes.number(base) },
        8 => Record::Truncate {
            file: bytes.file(base),
            size: bytes.small(base).wrapping_mul(B),
            tail: bytes.tail(base),
        },
        9 => Record::Punch {
            file: bytes.file(base),
            start: bytes.small(base),
            len: bytes.small(base),
            tail: bytes.tail(base),
        },
        10 => Record::Reflink {
            from: bytes.file(base),
            to: bytes.number(base),
            name: bytes.name(),
            share_gen: bytes.number(base),
        },
        11 => Record::ReflinkRange {
            from: bytes.file(base),
            from_start: bytes.small(base),
            to: bytes.file(base),
            to_start: bytes.small(base),
            len: bytes.small(base),
            size: bytes.number(base),
            share_gen: bytes.number(base),
            tail: bytes.tail(base),
        },
        12 => Record::Zero {
            file: bytes.file(base),
            start: bytes.small(base),
            len: bytes.small(base),
        },
        13 => atomic(bytes, base),
        14 => Record::Collapse {
            file: bytes.file(base),
            start: bytes.small(base),
            len: bytes.small(base),
            tail: bytes.tail(base),
        },
        15 => Record::Insert {
            file: bytes.file(base),
            start: bytes.number(base),
            len: bytes.number(base),
        },
        16 => Record::Data {
            file: bytes.file(base),
            block: bytes.small(base),
            bytes: vec![bytes.u8() | 1; usize::from(bytes.u8()) * 16],
        },
        _ => Record::Slice { file: bytes.file(base), cursor: bytes.small(base) },
    }
}

/// How many stores could be opened for writing: how deep the damage got.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// Of the stores that [`fuzz_image`] and [`fuzz_journal`] were given so far, how
/// many could be opened for writing.
pub fn opened() -> u64 {
    OPENED.load(Ordering::Relaxed)
}

/// Opens the store both ways, looks at all of it and changes all of it.
fn exercise(image: &SimImage) {
    for read_only in [true, false] {
        let sim = medium(image);
        match open(&sim, read_only) {
            Ok(store) => {
                look(&store);
                let _ = store.check().map_err(sane);
                if !read_only {
                    OPENED.fetch_add(1, Ordering::Relaxed);
                    let _ = change(&store).map_err(sane);
                    let _ = store.check().map_err(sane);
                    let _ = store.close().map_err(sane);
                }
            }
            Err(e) => sane(e),
        }
        if !read_only {
            match open(&sim, true) {
                Ok(store) => look(&store),
                Err(e) => sane(e),
            }
        }
    }
}

fn sane(e: Error) {
    assert!(e.to_string().len() > 10 && e.to_string().len() < 4096, "{e:?}");
}

/// Everything that can be read, but no more of a file than a little at its ends.
fn look(store: &Store) {
    let mut buf = vec![0; 64 << 10];
    let mut before: Option<File> = None;
    for name in names(store).unwrap_or_default().iter().take(300) {
        let Ok(file) = store.open_file(name) else { continue };
        let size = file.size();
        for at in [0, size / 2, size.saturating_sub(buf.len() as u64 / 2)] {
            let _ = file.read_at(&mut buf, at).map_err(sane);
        }
        let _ = file.iomap(0, 1 << 24).map_err(sane);
        let _ = file.iomap(size.saturating_sub(1 << 20), u64::MAX).map_err(sane);
        let _ = file.stat().map_err(sane);
        if let Some(before) = &before {
            let _ = file.diff(before).map_err(sane);
        }
        before = Some(file);
    }
}

fn change(store: &Store) -> Result<()> {
    let all = names(store)?;
    for (i, name) in all.iter().enumerate().take(300) {
        let Ok(file) = store.open_file(name) else { continue };
        let _ = one(store, &file, i as u64).map_err(sane);
    }
    store.sync()?;
    for name in &all {
        let _ = store.remove(name).map_err(sane);
    }
    store.checkpoint()?;
    store.create(b"after all")?.write_at(&[1; 9000], 100)?;
    store.checkpoint()
}

fn one(store: &Store, file: &File, i: u64) -> Result<()> {
    let size = file.size();
    match i % 12 {
        0 => file.write_at(&[2; 5000], size.min(1 << 40))?,
        1 => file.truncate(size / 2)?,
        2 => file.punch(4096, 100_000)?,
        3 => file.allocate(0, 50_000)?,
        4 => drop(file.reflink(format!("copy {i}").as_bytes())?),
        5 => store.create(format!("new {i}").as_bytes())?.write_at(&[3; 4096], 0)?,
        6 => file.reflink_range(0, &store.create(format!("part {i}").as_bytes())?, 0, 4096)?,
        7 => file.zero(100, 30_000)?,
        8 => file.collapse(4096, 8192)?,
        9 => file.insert(4096, 1 << 40)?,
        10 => drop(file.defrag(0, u64::MAX)?),
        _ => file.write_durable_at(&[7; 700], 5000)?,
    }
    if i.is_multiple_of(3) {
        file.write_atomic(&[(3000, &[5; 3000]), (size.min(1 << 40), &[6; 100])])?;
    }
    file.write_at(&[4; 100], 10)
}
