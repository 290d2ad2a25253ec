//! Memory that the next change, or the next group of a journal, takes over from the last.

/// The most that is kept, bytes: what a few writes take.
const MOST: usize = 64 << 10;

/// Keeps used memory, empty, for the next time, unless there is more of it already or it is
/// large.
pub(crate) fn keep(room: &mut Vec<u8>, mut used: Vec<u8>) {
    if used.capacity() > room.capacity() && used.capacity() <= MOST {
        used.clear();
        *room = used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_empty_and_not_large() {
        let mut room = Vec::new();
        keep(&mut room, vec![1; 100]);
        assert!(room.is_empty() && room.capacity() >= 100);
        keep(&mut room, vec![1; 10]);
        assert!(room.capacity() >= 100);
        keep(&mut room, vec![1; MOST + 1]);
        assert!(room.is_empty() && room.capacity() <= MOST);
    }
}
