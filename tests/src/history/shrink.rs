//! Shorter histories that still fail.

use super::{BLOCK, Op};

/// Leaves out parts of a history, ever smaller ones, as long as what is left
/// still fails; then makes its numbers simpler. Gives up after so many tries.
pub fn shrink(ops: Vec<Op>, tries: usize, mut fails: impl FnMut(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops;
    let mut left = tries;
    let mut piece = ops.len().div_ceil(2);
    while piece > 0 && left > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < ops.len() && left > 0 {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            left -= 1;
            if fails(&fewer) {
                ops = fewer;
                shorter = true;
            } else {
                at += piece;
            }
        }
        if !shorter || piece > 1 {
            piece /= 2;
        }
    }
    for i in 0..ops.len() {
        for simple in simpler(&ops[i]) {
            if left == 0 {
                return ops;
            }
            left -= 1;
            let mut other = ops.clone();
            other[i] = simple;
            if fails(&other) {
                ops = other;
            }
        }
    }
    ops
}

/// Simpler forms of an operation.
fn simpler(op: &Op) -> Vec<Op> {
    let mut out = Vec::new();
    match op {
        Op::Write { who, off, len, tag } => {
            let (who, tag) = (*who, *tag);
            let down = off / BLOCK * BLOCK;
            for (off, len) in [(down, *len), (*off, BLOCK), (down, BLOCK), (0, BLOCK), (0, *len)] {
                out.push(Op::Write { who, off, len, tag });
            }
        }
        Op::Durable { who, off, len, tag } => {
            let (who, tag, down) = (*who, *tag, off / BLOCK * BLOCK);
            for (off, len) in [(down, *len), (*off, BLOCK), (down, BLOCK), (0, BLOCK)] {
                out.push(Op::Durable { who, off, len, tag });
            }
        }
        Op::Batch { who, parts, tag, sync } => {
            for i in 0..parts.len() {
                let mut parts = parts.clone();
                parts.remove(i);
                out.push(Op::Batch { who: *who, parts, tag: *tag, sync: *sync });
            }
            if let Some((off, len)) = parts.first() {
                out.push(Op::Write { who: *who, off: *off, len: *len, tag: *tag });
            }
        }
        Op::Sync { .. } => out.push(Op::SyncAll),
        Op::Truncate { who, .. } => out.push(Op::Truncate { who: *who, size: 0 }),
        _ => {}
    }
    out.retain(|simple| simple != op);
    out
}
