//! Golden images: stores that a build of the past wrote, small enough to keep.
//!
//! The file has the blocks that are not all zeroes. Numbers are varints.
//!
//! ```text
//! "FHGOLD1\n" blocks
//! then for each block: its address, and pieces up to its 4096 bytes:
//!     length * 2      and so many bytes
//!     length * 2 + 1  and one byte, which is there so many times
//! ```

use freehold_blockmap::format::codec::{Reader, put_varint};
use freehold_engine::sim::{Block, SimImage};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"FHGOLD1\n";
const BLOCK: usize = 4096;

/// Shorter runs cost more than they save.
const RUN: usize = 4;

/// The file of an image of so many blocks.
pub fn encode(image: &SimImage, blocks: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_varint(&mut out, blocks);
    for addr in image.touched(0, blocks) {
        let bytes = image.get(addr);
        if bytes.iter().any(|b| *b != 0) {
            put_varint(&mut out, addr);
            put_block(&mut out, &bytes);
        }
    }
    out
}

fn put_block(out: &mut Vec<u8>, bytes: &Block) {
    let run_at = |at: usize| bytes[at..].iter().take_while(|b| **b == bytes[at]).count();
    let mut at = 0;
    while at < BLOCK {
        let run = run_at(at);
        if run >= RUN {
            put_varint(out, run as u64 * 2 + 1);
            out.push(bytes[at]);
            at += run;
            continue;
        }
        let mut end = at;
        while end < BLOCK && run_at(end) < RUN {
            end += 1;
        }
        put_varint(out, (end - at) as u64 * 2);
        out.extend_from_slice(&bytes[at..end]);
        at = end;
    }
}

/// The image of a file, and its blocks.
///
/// # Errors
/// What is wrong with the file.
pub fn decode(file: &[u8]) -> Result<(SimImage, u64), String> {
    let wrong = |e: freehold_blockmap::format::FormatError| e.to_string();
    let mut r = Reader::new(file);
    if r.array::<8>("magic").map_err(wrong)? != MAGIC {
        return Err("no golden image".to_owned());
    }
    let blocks = r.varint("blocks").map_err(wrong)?;
    let mut image = SimImage::new();
    while r.remaining() > 0 {
        let addr = r.varint("address").map_err(wrong)?;
        let mut bytes: Vec<u8> = Vec::with_capacity(BLOCK);
        while bytes.len() < BLOCK {
            let piece = r.varint("piece").map_err(wrong)? as usize;
            let len = piece / 2;
            if len == 0 || len > BLOCK - bytes.len() {
                return Err(format!("a piece of {len} bytes in block {addr}"));
            }
            match piece % 2 {
                0 => bytes.extend_from_slice(r.bytes(len, "bytes").map_err(wrong)?),
                _ => bytes.resize(bytes.len() + len, r.u8("byte").map_err(wrong)?),
            }
        }
        let block: Block = bytes.try_into().map_err(|_| "a block of another size")?;
        image.set(addr, Arc::new(block));
    }
    Ok((image, blocks))
}
