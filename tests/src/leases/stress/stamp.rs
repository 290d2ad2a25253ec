//! What the bytes of the stress say of themselves.

use super::super::world::{B, text};
use freehold_blockmap::{FileHandle, Volume};
use std::sync::Arc;

const MAGIC: [u8; 2] = [0xf7, 0xee];
const CELL: usize = 16;
const STALE: u8 = 0xbd;

/// Bytes for a place of a file of a family. A stale writer's say so.
pub(super) fn stamp(family: u8, version: u32, offset: u64, len: usize, stale: bool) -> Vec<u8> {
    let first = offset / CELL as u64;
    let cells = (offset + len as u64).div_ceil(CELL as u64) - first;
    let mut out = Vec::with_capacity(cells as usize * CELL);
    for cell in first..first + cells {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[family + 0x41, if stale { STALE } else { 0 }]);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&cell.to_le_bytes());
    }
    let skip = (offset - first * CELL as u64) as usize;
    out[skip..skip + len].to_vec()
}

/// Are these bytes of the family, or zeroes? Each byte for itself: what is read while it is
/// written may be a mixture.
pub(super) fn check(bytes: &[u8], offset: u64, family: u8, stale: bool) -> Result<(), String> {
    for (i, byte) in bytes.iter().enumerate().filter(|(_, b)| **b != 0) {
        let at = offset + i as u64;
        let good = match at as usize % CELL {
            p @ (0 | 1) => *byte == MAGIC[p],
            2 => *byte == family + 0x41,
            3 => stale && *byte == STALE,
            _ => true,
        };
        if !good {
            let cell = i / CELL * CELL;
            return Err(format!(
                "byte {at:#x} is not of family {family}: {:02x?}",
                &bytes[cell..bytes.len().min(cell + CELL)]
            ));
        }
    }
    Ok(())
}

/// A whole file, as it is read in the ordinary way.
pub(super) fn check_file(vol: &Arc<Volume>, file: &FileHandle, family: u8) -> Result<(), String> {
    let mut bytes = vec![0; (file.size() + B) as usize];
    let n = vol.read_at(file, &mut bytes, 0).map_err(text)?;
    check(&bytes[..n], 0, family, false)
}
