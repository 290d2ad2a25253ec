//! What `check` finds: each way in which a map can contradict itself, written
//! into a real store under right checksums, is found with its structure and
//! address; a sound store has no finding.

use freehold::Finding;
use freehold_blockmap::format::types::{Extent, FileMap, GroupDesc, Kind, NodeRef};
use freehold_blockmap::format::{CountRun, Counts, Extents, Files, Names, Space, superblock};
use freehold_tests::fuzz::resum;
use freehold_tests::specimen::surgery::Surgery;
use freehold_tests::specimen::{BLOCKS, Specimen, medium, open};
use std::sync::OnceLock;

fn closed() -> &'static Specimen {
    static CLOSED: OnceLock<Specimen> = OnceLock::new();
    CLOSED.get_or_init(|| Specimen::make().closed())
}

fn surgery() -> Surgery {
    Surgery::on(&closed().image)
}

/// The findings of a check, the same when the store is opened for reading only.
fn findings(s: &Surgery) -> Vec<Finding> {
    let check = |read_only| {
        let sim = medium(&s.image);
        let store = open(&sim, read_only).expect("what is wrong is not what opening reads");
        let report = store.check().expect("a check runs");
        assert_eq!(report.clean(), report.findings.is_empty());
        report.findings
    };
    let found = check(false);
    assert_eq!(found, check(true), "a check depends on how the store was opened");
    found
}

/// Demands a finding of this structure at this address that says so.
#[track_caller]
fn demand(s: &Surgery, structure: &str, address: u64, what: &str) {
    let found = findings(s);
    let hit = found
        .iter()
        .any(|f| f.structure == structure && f.address == address && f.what.contains(what));
    assert!(hit, "no finding of {structure} at {address} with {what:?} among {found:#?}");
}

/// The first extents of a file whose map is in its record.
fn inline(s: &Surgery, name: &[u8]) -> Vec<(u64, Extent)> {
    match s.before.record(name).map {
        FileMap::Inline { extents, .. } => extents,
        other => panic!("no inline map: {other:?}"),
    }
}

#[test]
fn a_sound_store_has_no_finding() {
    for specimen in [&Specimen::make(), closed()] {
        for read_only in [true, false] {
            let store = open(&medium(&specimen.image), read_only).unwrap();
            let report = store.check().unwrap();
            assert_eq!(report.findings, []);
            assert!(report.clean() && report.nodes > 30 && report.blocks > 700, "{report:?}");
            assert!(report.files as usize >= specimen.contents.len(), "{report:?}");
        }
    }
}

#[test]
fn a_leaked_block() {
    let mut s = surgery();
    let block = s.free_block();
    s.mark(block, true);
    demand(&s, "space bitmap", block, "leaked");
    assert_eq!(findings(&s).len(), 1);
}

#[test]
fn a_block_that_is_owned_and_marked_free() {
    let mut s = surgery();
    let data = inline(&s, b"sparse")[0].1.phys;
    let node = s.leaves(b"many")[0].addr;
    for block in [data, node] {
        s.mark(block, false);
        demand(&s, "space bitmap", block, "marked free");
    }
    assert_eq!(findings(&s).len(), 2);
}

#[test]
fn a_doubly_owned_block() {
    let mut s = surgery();
    let theirs = inline(&s, b"sparse")[0].1.phys;
    let leaf = s.leaves(b"other")[0];
    let ours = s.extents(leaf)[0].1.phys;
    s.leaf::<Extents>(leaf, |e| e[0].1.phys = theirs);
    demand(&s, "count tree", theirs, "doubly owned");
    demand(&s, "space bitmap", ours, "leaked");
}

#[test]
fn a_node_with_two_owners() {
    let mut s = surgery();
    let root = s.before.sb.names;
    s.superblock(|sb| sb.counts = NodeRef { generation: 1, ..root });
    // As a node of counts it is of the wrong kind; the names' claim stands.
    demand(&s, "count tree", root.addr, "expected");
    let mut s = surgery();
    let leaf = s.before.nodes(Kind::Names, true)[0];
    s.inner::<Names>(root, |c| {
        let last = c.last().unwrap().0.clone();
        c.push(([&last[..], b"z"].concat().into(), leaf.into()));
    });
    demand(&s, "name tree", leaf.addr, "two owners");
}

#[test]
fn counts_that_are_wrong_either_way() {
    let (start, run) = surgery().before.counts[0];
    let counted = |change: fn(&mut CountRun)| {
        let mut s = surgery();
        let leaf = s.count_leaf(start);
        s.leaf::<Counts>(leaf, |e| {
            change(&mut e.iter_mut().find(|(k, _)| *k == start).unwrap().1);
        });
        s
    };
    demand(&counted(|r| r.count += 1), "count tree", start, "owners");
    let three = surgery().before.counts.iter().copied().find(|(_, r)| r.count > 2);
    let (block, many) = three.expect("something with three owners");
    let mut s = surgery();
    let leaf = s.count_leaf(block);
    s.leaf::<Counts>(leaf, |e| e.iter_mut().find(|(k, _)| *k == block).unwrap().1.count -= 1);
    let what = format!("count is {}, but it has {} owners", many.count - 1, many.count);
    demand(&s, "count tree", block, &what);
    // Too low by all: no count at all.
    let mut s = surgery();
    let leaf = s.count_leaf(start);
    s.leaf::<Counts>(leaf, |e| e.retain(|(k, _)| *k != start));
    demand(&s, "count tree", start, &format!("{} owners, but no count", run.count));
    // A count for what nobody shares, and for what nobody has.
    for block in [inline(&surgery(), b"sparse")[0].1.phys, surgery().free_block()] {
        let mut s = surgery();
        let leaf = s.before.nodes(Kind::Counts, true)[0];
        s.leaf::<Counts>(leaf, |e| {
            e.push((block, CountRun { len: 1, count: 2 }));
            e.sort_by_key(|(k, _)| *k);
        });
        demand(&s, "count tree", block, "count is 2");
    }
}

#[test]
fn keys_out_of_order() {
    // Inside a node, which no codec would write.
    let mut s = surgery();
    let leaf = s.leaves(b"many")[0];
    s.raw(leaf.addr, |bytes| {
        let (a, b) = bytes[64..112].split_at_mut(24);
        a.swap_with_slice(b);
    });
    demand(&s, "extent tree", leaf.addr, "ascend");
    // Between a node and its parent, and between neighbours.
    let mut s = surgery();
    s.leaf::<Extents>(leaf, |e| e[0].0 += 1);
    demand(&s, "extent tree", leaf.addr, "its parent says");
    let mut s = surgery();
    let next = s.extents(s.leaves(b"many")[1])[0].0;
    s.leaf::<Extents>(leaf, |e| e.last_mut().unwrap().0 = next + 1);
    demand(&s, "extent tree", leaf.addr, "out of order with the next node");
    let mut s = surgery();
    s.leaf::<Extents>(leaf, |e| e.last_mut().unwrap().1.len = 4);
    demand(&s, "extent tree", leaf.addr, "reaches into the next node");
    let mut s = surgery();
    let names = s.before.nodes(Kind::Names, true)[0];
    s.leaf::<Names>(names, |e| e.last_mut().unwrap().0 = Box::from(&b"zzz"[..]));
    demand(&s, "name tree", names.addr, "out of order with the next node");
}

#[test]
fn bad_checksums_of_every_kind_of_block() {
    let structures = [
        (Kind::Names, "name tree"),
        (Kind::Files, "file tree"),
        (Kind::Counts, "count tree"),
        (Kind::Space, "space tree"),
        (Kind::Extents, "extent tree"),
    ];
    for (kind, structure) in structures {
        for leaf in [true, false] {
            // The last leaf of the files is read at opening: that it is told
            // then is for another test.
            let Some(at) = surgery().before.nodes(kind, leaf).first().copied() else { continue };
            let mut s = surgery();
            s.flip(at.addr, 1000, 0x10);
            let found = open(&medium(&s.image), true).map(|_| ());
            match found {
                Ok(()) => demand(&s, structure, at.addr, "checksum"),
                Err(e) => assert_eq!(e.place().map(|p| p.at), Some(at.addr), "{e}"),
            }
        }
    }
    let mut s = surgery();
    let bitmap = s.before.space[0].1.addr;
    s.flip(bitmap, 4000, 1);
    demand(&s, "space bitmap", bitmap, "checksum");
    let mut s = surgery();
    let older = 1 - s.before.slot;
    s.flip(older, 100, 1);
    let sim = medium(&s.image);
    let found = open(&sim, true).unwrap().check().unwrap().findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&*found[0].structure, found[0].address), ("superblock", older));
    assert!(found[0].what.contains("checksum"), "{found:?}");
    // A crash may have torn it: opening for writing makes it good.
    assert_eq!(open(&sim, false).unwrap().check().unwrap().findings, []);
}

#[test]
fn wrong_generations() {
    let mut s = surgery();
    let leaf = s.leaves(b"many")[0];
    s.raw(leaf.addr, |bytes| bytes[24] ^= 1);
    demand(&s, "extent tree", leaf.addr, "generation");
    let mut s = surgery();
    let names = s.before.nodes(Kind::Names, true)[0];
    s.raw(names.addr, |bytes| bytes[24..32].fill(0));
    demand(&s, "name tree", names.addr, "generation");
    let mut s = surgery();
    let (_, desc) = s.before.space[0];
    s.raw(desc.addr, |bytes| bytes[24] ^= 1);
    demand(&s, "space bitmap", desc.addr, "generation");
}

#[test]
fn dangling_names_and_nameless_files() {
    let mut s = surgery();
    let was = s.before.file(b"sparse");
    s.name(b"sparse", |id| *id = 1 << 40);
    demand(&s, "name tree", 1 << 40, "'sparse' leads to no file");
    demand(&s, "file tree", was, "without a name");
    let mut s = surgery();
    let other = s.before.file(b"empty");
    s.name(b"sparse", |id| *id = other);
    demand(&s, "name tree", other, "two names");
    // A name for what is condemned, in the list of the living or where it belongs.
    let sim = medium(&closed().image);
    let store = open(&sim, false).unwrap();
    let held = store.open_file(b"sparse").unwrap();
    store.remove(b"sparse").unwrap();
    store.checkpoint().unwrap();
    let mut s = Surgery::on(&sim.image());
    drop((held, store));
    s.name(b"empty", |id| *id = was);
    let found = findings_read_only(&s);
    let hit = |f: &Finding| f.structure == "name tree" && f.what.contains("removed file");
    assert!(found.iter().any(hit), "{found:#?}");
}

/// Opened for writing, the removal would go on.
fn findings_read_only(s: &Surgery) -> Vec<Finding> {
    open(&medium(&s.image), true).unwrap().check().unwrap().findings
}

#[test]
fn sizes_and_numbers_that_do_not_fit_the_map() {
    for name in [&b"many"[..], b"sparse", b"small"] {
        let mut s = surgery();
        let id = s.before.file(name);
        s.record(id, |r| r.size = 1);
        demand(&s, "file record", id, "past its size");
        for change in [|r: &mut u64| *r += 1, |r: &mut u64| *r -= 1] {
            let mut s = surgery();
            s.record(id, |r| change(&mut r.blocks));
            demand(&s, "file record", id, "its record says");
            let mut s = surgery();
            s.record(id, |r| change(&mut r.extents));
            demand(&s, "file record", id, "its record says");
        }
    }
}

#[test]
fn addresses_past_the_end_of_the_store() {
    let mut s = surgery();
    let leaf = s.leaves(b"other")[0];
    s.leaf::<Extents>(leaf, |e| e[3].1.phys = BLOCKS);
    demand(&s, "extent tree", leaf.addr, "past the end of the store");
    let mut s = surgery();
    let id = s.before.file(b"sparse");
    s.record(id, |r| {
        if let FileMap::Inline { extents, .. } = &mut r.map {
            extents[0].1.phys = BLOCKS - 1;
        }
    });
    demand(&s, "file record", id, "past the end of the store");
    let mut s = surgery();
    let root = s.root(b"many");
    s.inner::<Extents>(root, |c| c[1].1.at.addr = BLOCKS + 5);
    demand(&s, "extent tree", BLOCKS + 5, "past the end of the store");
    let mut s = surgery();
    let start = s.before.counts.last().unwrap().0;
    let leaf = s.count_leaf(start);
    s.leaf::<Counts>(leaf, |e| e.push((BLOCKS * 2, CountRun { len: 1 << 30, count: 2 })));
    demand(&s, "count tree", BLOCKS * 2, "past the end of the store");
    let mut s = surgery();
    let space = s.before.nodes(Kind::Space, true)[0];
    let desc = GroupDesc { addr: s.free_block(), generation: 1, free: 0 };
    s.leaf::<Space>(space, |e| e.push((77, desc)));
    demand(&s, "space tree", desc.addr, "past the end of the store");
}

#[test]
fn superblocks_that_do_not_belong_or_miscount() {
    let mut s = surgery();
    s.superblock(|sb| sb.free -= 1);
    demand(&s, "superblock", s.before.slot, "are counted");
    let mut s = surgery();
    let older = 1 - s.before.slot;
    let mut bytes = s.image.get(older).to_vec();
    let mut sb = superblock::decode(&bytes, older).unwrap();
    sb.store_id[0] ^= 1;
    superblock::encode(&sb, older, &mut bytes).unwrap();
    resum(&mut bytes, &[0; 16]);
    s.put(older, &bytes);
    demand(&s, "superblock", older, "another store");
}

#[test]
fn a_file_with_two_records() {
    let mut s = surgery();
    let id = s.before.file(b"small");
    let record = s.before.record(b"small");
    let last = *s.before.nodes(Kind::Files, true).last().unwrap();
    s.leaf::<Files>(last, |e| {
        let key = id | 1 << 63;
        e.push((key, freehold_blockmap::format::types::FileRecord { condemned: true, ..record }));
    });
    let found = findings_read_only(&s);
    let hit = |f: &Finding| f.structure == "file tree" && f.address == id;
    assert!(found.iter().any(hit), "{found:#?}");
}
