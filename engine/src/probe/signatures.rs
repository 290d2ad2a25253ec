//! What other formats write where, and finding it on a device.
//!
//! The places are those that the formats themselves document; a device is
//! read in a handful of small reads and never written.

use std::io;

/// Bytes that can be read at any offset: a device, a file, a test image.
pub(crate) trait Source {
    /// Size in bytes.
    fn len(&self) -> u64;

    /// Fills the slice from `offset`; a range outside is an error.
    ///
    /// # Errors
    /// What reading gave.
    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()>;
}

/// A format that is known by fixed bytes at a fixed place.
struct Magic {
    name: &'static str,
    at: u64,
    bytes: &'static [u8],
}

const fn magic(name: &'static str, at: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, at, bytes }
}

/// In the order in which they are looked for: what is more specific first.
const MAGICS: &[Magic] = &[
    magic("a Freehold store", 0, b"FREEHOLD"),
    magic("an XFS file system", 0, b"XFSB"),
    magic("a LUKS volume", 0, b"LUKS\xba\xbe"),
    magic("a LUKS volume", 0x4000, b"SKUL\xba\xbe"),
    magic("a BitLocker volume", 3, b"-FVE-FS-"),
    magic("an NTFS file system", 3, b"NTFS    "),
    magic("an exFAT file system", 3, b"EXFAT   "),
    magic("a FAT file system", 0x36, b"FAT12   "),
    magic("a FAT file system", 0x36, b"FAT16   "),
    magic("a FAT file system", 0x52, b"FAT32   "),
    magic("a squashfs file system", 0, b"hsqs"),
    magic("a squashfs file system", 0, b"sqsh"),
    magic("an APFS container", 32, b"NXSB"),
    magic("a Ceph BlueStore device", 0, b"bluestore block device"),
    magic("a QEMU disk image", 0, b"QFI\xfb"),
    magic("a VMware disk image", 0, b"KDMV"),
    magic("an SQLite database", 0, b"SQLite format 3\0"),
    magic("an F2FS file system", 0x400, &0xf2f5_2010u32.to_le_bytes()),
    magic("an EROFS file system", 0x400, &0xe0f5_e1e2u32.to_le_bytes()),
    magic("a NILFS2 file system", 0x406, &0x3434u16.to_le_bytes()),
    magic("an HFS+ file system", 0x400, b"H+\0\x04"),
    magic("an ext2/ext3/ext4 file system", 0x438, &0xef53u16.to_le_bytes()),
    magic("an MD RAID member", 0x1000, &MD_MAGIC.to_le_bytes()),
    magic("an MD RAID member", 0, &MD_MAGIC.to_le_bytes()),
    magic("a bcachefs file system", 0x1018, &BCACHEFS_UUID),
    magic("a bcache device", 0x1018, &BCACHE_UUID),
    magic("a JFS file system", 0x8000, b"JFS1"),
    magic("an ISO 9660 file system", 0x8001, b"CD001"),
    magic("a btrfs file system", 0x10040, b"_BHRfS_M"),
    magic("a ReiserFS file system", 0x10034, b"ReIsEr"),
];

/// Where a block of Freehold's says what it is, and what a journal's header says there.
const KIND_AT: u64 = 48;
const JOURNAL: u8 = 9;
const MD_MAGIC: u32 = 0xa92b_4efc;
/// c68573f6-66ce-90a9-d96a-60cf803df7ef
const BCACHEFS_UUID: [u8; 16] = 0xc68573f6_66ce_90a9_d96a_60cf803df7ef_u128.to_be_bytes();
/// c68573f6-4e1a-45ca-8265-f57f48ba6d81
const BCACHE_UUID: [u8; 16] = 0xc68573f6_4e1a_45ca_8265_f57f48ba6d81_u128.to_be_bytes();
const ZFS_UBERBLOCK: u64 = 0x00ba_b10c;

/// The first known format found, as a name with its article.
///
/// # Errors
/// When the source cannot be read.
pub(crate) fn signature(source: &dyn Source) -> io::Result<Option<&'static str>> {
    if has(source, 0, b"FREEHOLD")? && has(source, KIND_AT, &[JOURNAL])? {
        return Ok(Some("the journal of a Freehold store"));
    }
    for magic in MAGICS {
        if has(source, magic.at, magic.bytes)? {
            return Ok(Some(magic.name));
        }
    }
    for find in [lvm, swap, md_at_end, zfs, partition_table] {
        if let Some(name) = find(source)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Reads a range if it is there.
fn get<const N: usize>(source: &dyn Source, at: u64) -> io::Result<Option<[u8; N]>> {
    match at.checked_add(N as u64) {
        Some(end) if end <= source.len() => {
            let mut bytes = [0; N];
            source.read(at, &mut bytes)?;
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

fn has(source: &dyn Source, at: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut found = [0; 32];
    let found = &mut found[..bytes.len()];
    if at.checked_add(bytes.len() as u64).is_none_or(|end| end > source.len()) {
        return Ok(false);
    }
    source.read(at, found)?;
    Ok(found == bytes)
}

/// An LVM2 label is in one of the first four sectors.
fn lvm(source: &dyn Source) -> io::Result<Option<&'static str>> {
    for sector in 0..4 {
        let at = sector * 512;
        if has(source, at, b"LABELONE")? && has(source, at + 24, b"LVM2 001")? {
            return Ok(Some("an LVM2 physical volume"));
        }
    }
    Ok(None)
}

/// Swap signs the end of its first page, whatever size pages have there.
fn swap(source: &dyn Source) -> io::Result<Option<&'static str>> {
    for page in [4096u64, 8192, 16384, 65536] {
        for bytes in [b"SWAPSPACE2", b"SWAP-SPACE"] {
            if has(source, page - 10, bytes)? {
                return Ok(Some("a swap area"));
            }
        }
        for bytes in [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB000"] {
            if has(source, page - 10, bytes)? {
                return Ok(Some("a hibernated system"));
            }
        }
    }
    Ok(None)
}

/// MD metadata 0.90 and 1.0 lie near the end.
fn md_at_end(source: &dyn Source) -> io::Result<Option<&'static str>> {
    let sectors = source.len() / 512;
    let old = (source.len() & !0xffff).checked_sub(0x10000);
    let new = sectors.checked_sub(16).map(|s| (s & !7) * 512);
    for at in [old, new].into_iter().flatten() {
        if has(source, at, &MD_MAGIC.to_le_bytes())? || has(source, at, &MD_MAGIC.to_be_bytes())? {
            return Ok(Some("an MD RAID member"));
        }
    }
    Ok(None)
}

/// A ZFS device has four labels, each with a ring of uberblocks.
fn zfs(source: &dyn Source) -> io::Result<Option<&'static str>> {
    const LABEL: u64 = 256 << 10;
    let end = source.len() & !(LABEL - 1);
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    for label in labels.into_iter().flatten() {
        for slot in 0..128 {
            let at = label + (128 << 10) + slot * 1024;
            let Some(bytes) = get::<8>(source, at)? else { break };
            if [u64::from_le_bytes(bytes), u64::from_be_bytes(bytes)].contains(&ZFS_UBERBLOCK) {
                return Ok(Some("a ZFS member"));
            }
        }
    }
    Ok(None)
}

/// GPT, at the start or as the backup at the end; then a plausible MBR.
fn partition_table(source: &dyn Source) -> io::Result<Option<&'static str>> {
    let last = |lba: u64| (source.len() / lba).checked_sub(1).map(|n| n * lba);
    for at in [Some(512), Some(4096), last(512), last(4096)].into_iter().flatten() {
        if has(source, at, b"EFI PART")? {
            return Ok(Some("a GPT partition table"));
        }
    }
    let Some(sector) = get::<512>(source, 0)? else { return Ok(None) };
    let entries = sector[446..510].as_chunks::<16>().0;
    let plausible = entries.iter().all(|e| e[0] == 0 || e[0] == 0x80)
        && entries.iter().any(|e| e[4] != 0 && e[12..16] != [0; 4]);
    Ok((sector[510..] == [0x55, 0xaa] && plausible).then_some("an MBR partition table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 4 << 20;

    struct Image(Vec<u8>);

    impl Source for Image {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
            let start = offset as usize;
            to.copy_from_slice(&self.0[start..start + to.len()]);
            Ok(())
        }
    }

    /// Bytes, and where they are in an image of zeroes.
    type Parts<'a> = &'a [(usize, &'a [u8])];

    fn found(parts: Parts<'_>) -> Option<&'static str> {
        let mut image = vec![0; SIZE];
        for (at, bytes) in parts {
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        signature(&Image(image)).unwrap()
    }

    #[test]
    fn every_fixed_signature_is_named() {
        for magic in MAGICS {
            assert_eq!(found(&[(magic.at as usize, magic.bytes)]), Some(magic.name));
        }
    }

    #[test]
    fn signatures_with_a_rule_are_named() {
        let md = MD_MAGIC.to_le_bytes();
        let uber = ZFS_UBERBLOCK.to_be_bytes();
        let mut entry = [0u8; 66];
        entry[0] = 0x80;
        entry[4] = 0x83;
        entry[12] = 1;
        entry[64..].copy_from_slice(&[0x55, 0xaa]);
        let cases: &[(Parts<'_>, &str)] = &[
            (&[(1024, b"LABELONE"), (1048, b"LVM2 001")], "an LVM2 physical volume"),
            (&[(4086, b"SWAPSPACE2")], "a swap area"),
            (&[(65526, b"SWAPSPACE2")], "a swap area"),
            (&[(4086, b"S1SUSPEND")], "a hibernated system"),
            (&[(SIZE - 65536, &md)], "an MD RAID member"),
            (&[(SIZE - 8192, &md)], "an MD RAID member"),
            (&[((256 << 10) + (128 << 10) + 5 * 1024, &uber)], "a ZFS member"),
            (&[(SIZE - (128 << 10), &uber)], "a ZFS member"),
            (&[(512, b"EFI PART")], "a GPT partition table"),
            (&[(SIZE - 512, b"EFI PART")], "a GPT partition table"),
            (&[(446, &entry)], "an MBR partition table"),
        ];
        for (parts, name) in cases {
            assert_eq!(found(parts), Some(*name));
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[(0, b"LABELONE")]), None);
        assert_eq!(found(&[(510, &[0x55, 0xaa])]), None, "a boot sector without partitions");
        for size in [0, 1, 511, 512, 4096, 5000] {
            assert_eq!(signature(&Image(vec![0; size])).unwrap(), None, "{size} bytes");
        }
    }

    #[test]
    fn any_short_image_is_read_within_its_bounds() {
        for size in (0..70_000).step_by(997) {
            let _ = signature(&Image(vec![0xff; size])).unwrap();
        }
    }
}
