//! The oracle: who may reach each block in any state that a crash could bring
//! back, and whether the counts agree with the trees. It walks; it trusts no
//! count, stamp or bit.

use super::rules::{Fault, Kind, fault};
use super::state::{BLOCKS, Block, Body, FILE, FileId, NodeId, State};

/// One place in one file, as an owner of a block. A block that is mapped twice
/// by one file, or stood at another offset in a state that a crash brings back,
/// has two owners.
pub(crate) type Place = (FileId, i32);

/// All that is mapped at one record.
pub(crate) type View = Vec<(Block, Place)>;

/// Who may reach a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Nobody,
    Only(Place),
    Several,
}

impl State {
    /// All that is mapped now.
    pub(crate) fn view(&self) -> Result<View, Fault> {
        let mut view = Vec::new();
        for (file, record) in &self.files {
            self.walk(*file, record.root, 0, FILE, &mut view)?;
        }
        Ok(view)
    }

    fn walk(
        &self,
        file: FileId,
        id: NodeId,
        base: i32,
        end: i32,
        view: &mut View,
    ) -> Result<(), Fault> {
        match &self.node(id)?.body {
            Body::Inner(kids) => {
                for (i, (b, kid)) in kids.iter().enumerate() {
                    let end = kids.get(i + 1).map_or(end, |next| base + next.0);
                    self.walk(file, *kid, base + b, end, view)?;
                }
            }
            Body::Leaf(leaf) => {
                let mut last = 0;
                for extent in &leaf.extents {
                    if extent.at < last || base + extent.at + extent.len > end {
                        return fault(
                            Kind::Count,
                            format!("leaf {id} of file {file} is out of order"),
                        );
                    }
                    last = extent.at + extent.len;
                    for i in 0..extent.len {
                        view.push((extent.block + i as usize, (file, base + extent.at + i)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Law B2: every count is what the trees say, and every block is free, or
    /// freed, or owned.
    pub(crate) fn audit(&self) -> Result<(), Fault> {
        let mut parents = vec![0; self.nodes.len()];
        let mut owners = [0; BLOCKS];
        self.files.values().for_each(|file| parents[file.root] += 1);
        for node in self.nodes.iter().flatten() {
            match &node.body {
                Body::Inner(kids) => kids.iter().for_each(|(_, kid)| parents[*kid] += 1),
                Body::Leaf(leaf) => {
                    for extent in &leaf.extents {
                        (0..extent.len as usize).for_each(|i| owners[extent.block + i] += 1);
                    }
                }
            }
        }
        for (id, parents) in parents.into_iter().enumerate() {
            let exact = self.nodes[id].as_ref().map_or(0, |node| node.exact);
            if exact != parents || (parents == 0 && self.nodes[id].is_some()) {
                return fault(
                    Kind::Count,
                    format!("node {id} counts {exact}, has {parents} parents"),
                );
            }
        }
        for (block, owners) in owners.into_iter().enumerate() {
            let exact = self.blocks[block].exact;
            let freed = self.freed.iter().filter(|(_, b)| *b == block).count();
            let free = usize::from(self.free.contains(&block)) + freed;
            if exact != owners {
                return fault(
                    Kind::Count,
                    format!("block {block} counts {exact}, has {owners} owners"),
                );
            }
            if free > 1 {
                return fault(Kind::DoubleFree, format!("block {block} is free {free} times"));
            }
            if (owners > 0) == (free == 1) {
                return fault(
                    Kind::Count,
                    format!("block {block}: {owners} owners, free {free} times"),
                );
            }
        }
        Ok(())
    }
}

/// Who may reach each block in any of the states, quarantine included.
pub(crate) fn owners<'a>(state: &State, views: impl Iterator<Item = &'a View>) -> [Owner; BLOCKS] {
    let mut owners = [Owner::Nobody; BLOCKS];
    for (block, place) in views.flatten() {
        owners[*block] = match owners[*block] {
            Owner::Nobody => Owner::Only(*place),
            Owner::Only(same) if same == *place => Owner::Only(same),
            _ => Owner::Several,
        };
    }
    for (block, count) in state.blocks.iter().enumerate() {
        if count.quarantine > 0 {
            owners[block] = Owner::Several;
        }
    }
    owners
}
