//! Which bitmaps leave memory: those that are as the medium has them.

use super::{Group, Space, Words};
use std::sync::Arc;

/// A group's bitmaps, and its places in the lists.
pub(super) const GROUP_BYTES: u64 = (2 * size_of::<Words>() + 2 * size_of::<Group>() + 64) as u64;

impl Space {
    /// Looks at so many groups, and lets go of those that nobody came by since
    /// the last time and that a read of the medium would give back as they are.
    pub(crate) fn trim(&mut self, steps: usize) {
        for _ in 0..steps.min(self.circle.len()) {
            if !self.cache.is_over() {
                return;
            }
            let Some(g) = self.circle.pop_front() else { return };
            let used = self.groups.get_mut(&g).is_some_and(|x| std::mem::take(&mut x.used));
            if used || !self.is_as_written(g) {
                self.circle.push_back(g);
                continue;
            }
            self.groups.remove(&g);
            self.cache.evicted(GROUP_BYTES);
        }
    }

    /// Set-aside blocks and freed ones that are not reusable yet are busy and not
    /// logical; a checkpoint under way has changed groups whose descriptors are
    /// not in the tree yet.
    fn is_as_written(&self, g: u64) -> bool {
        let Some(group) = self.groups.get(&g) else { return true };
        !self.dirty.contains(&g)
            && self.cut.as_ref().is_none_or(|cut| !cut.has(g))
            && Arc::strong_count(&group.held) == 1
            && *group.busy == *group.logical
    }
}
