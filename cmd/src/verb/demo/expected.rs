//! What a file must hold, known without asking the store.

use crate::failure::{Failure, Outcome};
use crate::pattern::{self, Rng};
use crate::verb::work::BLOCK;
use freehold::Store;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where the bytes come from at first.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A local file, which nobody changes meanwhile.
    Local(PathBuf),
    /// Pages that follow from a seed.
    Pages { seed: u64, size: u64 },
}

/// Bytes written over the source.
#[derive(Debug, Clone)]
struct Patch {
    offset: u64,
    len: usize,
    seed: u64,
}

impl Patch {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        Rng::new(self.seed).fill(&mut bytes);
        bytes
    }
}

/// A file's name and what it must hold.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: Vec<u8>,
    pub(super) source: Source,
    patches: Vec<Patch>,
}

/// Bytes compared at a time; a multiple of a page.
const STRETCH: usize = 1 << 20;

impl Expected {
    pub(super) fn new(name: Vec<u8>, source: Source) -> Expected {
        Expected { name, source, patches: Vec::new() }
    }

    /// Notes that random bytes will be written at `offset`, and gives them.
    pub(super) fn patch(&mut self, offset: u64, len: usize, seed: u64) -> Vec<u8> {
        let patch = Patch { offset, len, seed };
        let bytes = patch.bytes();
        self.patches.push(patch);
        bytes
    }

    /// Reads the whole file and compares every byte; gives how many there are.
    pub(super) fn verify(&self, store: &Store) -> Outcome<u64> {
        let what = || crate::name::show(&self.name);
        let file = store.open_file(&self.name)?;
        let local = match &self.source {
            Source::Local(path) => Some(
                std::fs::File::open(path)
                    .map_err(|error| Failure::local(path, "cannot read", &error))?,
            ),
            Source::Pages { .. } => None,
        };
        let (mut want, mut got) = (vec![0; STRETCH], vec![0; STRETCH]);
        let mut at = 0;
        loop {
            let n = self.fill(local.as_ref(), at, &mut want)?;
            let m =
                file.read_at(&mut got, at).map_err(|error| Failure::from(error).during(what()))?;
            if m != n {
                let (has, should) = (at + m as u64, at + n as u64);
                return Err(Failure::new(format!("{} ends at {has}, not at {should}", what())));
            }
            if let Some(i) = (0..n).find(|&i| want[i] != got[i]) {
                return Err(Failure::new(format!("{} is wrong at byte {}", what(), at + i as u64)));
            }
            at += n as u64;
            if n < STRETCH {
                return Ok(at);
            }
        }
    }

    /// The bytes from `at` on that the file must hold; less than `buf` at its end.
    fn fill(&self, local: Option<&std::fs::File>, at: u64, buf: &mut [u8]) -> Outcome<usize> {
        let n = match (&self.source, local) {
            (Source::Local(path), Some(file)) => {
                read_full(file, buf, at).map_err(|e| Failure::local(path, "cannot read", &e))?
            }
            (Source::Pages { seed, size }, _) => {
                let n = (size - at).min(buf.len() as u64) as usize;
                for (i, page) in buf[..n].chunks_mut(BLOCK as usize).enumerate() {
                    pattern::page(*seed, at / BLOCK + i as u64, page);
                }
                n
            }
            (Source::Local(_), None) => 0,
        };
        let end = at + n as u64;
        for patch in &self.patches {
            let (first, last) = (patch.offset.max(at), (patch.offset + patch.len as u64).min(end));
            if first < last {
                let from = (first - patch.offset) as usize;
                let len = (last - first) as usize;
                let to = (first - at) as usize;
                buf[to..to + len].copy_from_slice(&patch.bytes()[from..from + len]);
            }
        }
        Ok(n)
    }
}

fn read_full(file: &std::fs::File, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read_at(&mut buf[n..], at + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_lie_over_the_source_in_order() {
        let size = STRETCH as u64 + 100;
        let mut expected = Expected::new(b"x".to_vec(), Source::Pages { seed: 1, size });
        let first = expected.patch(10, 100, 2);
        let second = expected.patch(50, 10, 3);
        let across = expected.patch(STRETCH as u64 - 4, 8, 4);
        let mut buf = vec![0; STRETCH];
        assert_eq!(expected.fill(None, 0, &mut buf).unwrap(), STRETCH);
        assert_eq!(buf[10..50], first[..40]);
        assert_eq!(buf[50..60], second[..]);
        assert_eq!(buf[60..110], first[50..]);
        assert_eq!(buf[STRETCH - 4..], across[..4]);
        assert_eq!(expected.fill(None, STRETCH as u64, &mut buf).unwrap(), 100);
        assert_eq!(buf[..4], across[4..]);
    }
}
