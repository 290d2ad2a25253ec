//! The disk against a model: what is read is what was written last, and what is left
//! without the cache is, piece by piece, something that was written since the last
//! flush or was there then.

use super::*;
use crate::emulator::random::Random;

const LEN: u64 = 1 << 20;
const SECTORS: u64 = LEN / SECTOR as u64;

fn disk(backing: &Backing, cache: Option<usize>, seed: u64) -> Disk {
    Disk::open(&Plan { backing, len: LEN, cache, seed }).unwrap()
}

/// A sector that says which write it is of.
fn sector(write: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&write.to_le_bytes()));
    bytes
}

fn write_of(bytes: &[u8]) -> u64 {
    let write = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(bytes, sector(write), "a sector is torn");
    write
}

/// Random operations; gives the last write of each sector, now and at the last flush.
fn churn(disk: &mut Disk, random: &mut Random, unit: u64) -> (Vec<u64>, Vec<Vec<u64>>) {
    let mut now = vec![0; SECTORS as usize];
    let mut since: Vec<Vec<u64>> = vec![vec![0]; SECTORS as usize];
    for write in 1..2000 {
        let units = SECTORS / unit;
        let first = random.below(units);
        let count = (1 + random.below(20)).min(units - first);
        let range = (first * unit) as usize..((first + count) * unit) as usize;
        let at = range.start as u64 * SECTOR as u64;
        let len = range.len() as u64 * SECTOR as u64;
        match random.below(20) {
            0 => {
                disk.flush().unwrap();
                since.iter_mut().zip(&now).for_each(|(since, now)| *since = vec![*now]);
            }
            kind @ 1..4 => {
                disk.zero(at, len, kind == 1, kind == 2).unwrap();
                for i in range {
                    now[i] = 0;
                    if kind == 2 {
                        since[i].clear();
                    }
                    since[i].push(0);
                }
            }
            kind => {
                let bytes = sector(write).repeat(range.len());
                disk.write(at, &bytes, kind == 4).unwrap();
                for i in range {
                    now[i] = write;
                    if kind == 4 {
                        since[i].clear();
                    }
                    since[i].push(write);
                }
            }
        }
        let mut bytes = vec![0xee; len as usize];
        disk.read(at, &mut bytes).unwrap();
        for (bytes, now) in bytes.chunks_exact(SECTOR).zip(&now[at as usize / SECTOR..]) {
            assert_eq!(write_of(bytes), *now);
        }
    }
    (now, since)
}

#[test]
fn reads_give_what_was_written_last() {
    let path = std::env::temp_dir().join(format!("freehold-disk-{}", std::process::id()));
    for (backing, cache) in [
        (Backing::Memory, None),
        (Backing::File(path.clone()), None),
        (Backing::Memory, Some(512)),
        (Backing::File(path.clone()), Some(4096)),
    ] {
        let _ = std::fs::remove_file(&path);
        let mut disk = disk(&backing, cache, 1);
        let unit = cache.map_or(1, |unit| (unit / SECTOR) as u64);
        let (now, _) = churn(&mut disk, &mut Random::new(1), unit);
        let mut bytes = vec![0; LEN as usize];
        disk.read(0, &mut bytes).unwrap();
        let found: Vec<u64> = bytes.chunks_exact(SECTOR).map(write_of).collect();
        assert_eq!(found, now);
    }
    let _ = std::fs::remove_file(&path);
}

#[test]
fn without_the_cache_each_piece_is_as_old_as_the_last_flush_at_most() {
    let (mut lost, mut early) = (0, 0);
    for (seed, unit) in [(1, 1), (2, 1), (3, 8), (4, 8)] {
        let mut disk = disk(&Backing::Memory, Some(unit as usize * SECTOR), seed);
        let (now, since) = churn(&mut disk, &mut Random::new(seed), unit);
        // What a kill leaves.
        disk.cache = None;
        let mut bytes = vec![0; LEN as usize];
        disk.read(0, &mut bytes).unwrap();
        let found: Vec<u64> = bytes.chunks_exact(SECTOR).map(write_of).collect();
        for (sector, write) in found.iter().enumerate() {
            assert!(since[sector].contains(write), "sector {sector}: {write}");
            lost += u32::from(*write != now[sector]);
            early += u32::from(*write == now[sector] && since[sector].len() > 1);
        }
        for piece in found.chunks(unit as usize) {
            assert!(piece.iter().all(|write| *write == piece[0]), "a piece is torn: {piece:?}");
        }
    }
    assert!(lost > 100 && early > 100, "{lost} lost, {early} destaged early");
}

#[test]
fn the_cache_is_bounded() {
    let len = 2 * cache::MOST as u64 * 4096;
    let plan = Plan { backing: &Backing::Memory, len, cache: Some(512), seed: 1 };
    let mut disk = Disk::open(&plan).unwrap();
    for block in 0..2 * cache::MOST as u64 {
        disk.write(block * 4096, &[1; SECTOR], false).unwrap();
    }
    disk.flush().unwrap();
    let mut bytes = [0; SECTOR];
    disk.read(len - 4096, &mut bytes).unwrap();
    assert_eq!(bytes, [1; SECTOR]);
    assert!(disk.allocated(0, len) > 0);
}

#[test]
fn files_of_another_size_or_in_use_are_refused() {
    let path = std::env::temp_dir().join(format!("freehold-disk-size-{}", std::process::id()));
    let backing = Backing::File(path.clone());
    let first = disk(&backing, None, 0);
    let again = |len| Disk::open(&Plan { backing: &backing, len, cache: None, seed: 0 });
    assert_eq!(again(LEN).unwrap_err().kind(), crate::medium::ErrorKind::Busy);
    assert_eq!(first.allocated(0, LEN), 0);
    drop(first);
    assert_eq!(again(2 * LEN).unwrap_err().kind(), crate::medium::ErrorKind::Invalid);
    assert!(again(LEN).is_ok());
    std::fs::remove_file(&path).unwrap();
}
