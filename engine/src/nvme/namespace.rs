//! What identify data say of a controller and a namespace, checked before it is
//! believed: pure functions.

use super::spec::identify::{
    IdentifyController, IdentifyNamespace, NSFEAT_ATOMICS, OACS_DOORBELL_BUFFER, ONCS_COMPARE,
    ONCS_COPY, ONCS_DATASET_MANAGEMENT, ONCS_WRITE_ZEROES, SGLS_SUPPORTED, VWC_PRESENT,
};
use super::spec::io::{CopyRange, NLB_MAX};
use super::spec::pointer::PRP_LIST_ENTRIES;
use super::spec::{PAGE, command};
use crate::medium::{BLOCK, Boundary, Error, ErrorKind, Geometry, Result};
use crate::memory::MAX_BUFFER;

/// The longest transfer of one command: what one page of PRPs names, whole.
const MAX_COMMAND: u64 = (PRP_LIST_ENTRIES * PAGE) as u64;
/// Source ranges of a copy that fit in a slot's page.
const COPY_RANGES: u32 = (PAGE / CopyRange::BYTES) as u32;

/// What the driver uses of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Bytes of one command's data; a multiple of [`BLOCK`].
    pub(super) max_command: u64,
    pub(super) doorbell_buffer: bool,
    pub(super) sgl: bool,
    pub(super) volatile_cache: bool,
    pub(super) write_zeroes: bool,
    pub(super) deallocate: bool,
    pub(super) compare: bool,
    copy: bool,
    awun: u16,
    awupf: u16,
}

/// What the driver uses of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) nsid: u32,
    pub(super) geometry: Geometry,
    /// Logical blocks in a block, as a shift: 0 or 3.
    pub(super) shift: u32,
    pub(super) write_protected: bool,
    pub(super) abilities: Abilities,
    /// Logical blocks of one range and of one command of a copy; zero without copies.
    pub(super) copy_range: u32,
    pub(super) copy_total: u32,
}

fn unsupported(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

/// Checks a controller.
///
/// # Errors
/// `Unsupported`, with the field's name.
pub(super) fn abilities(id: &IdentifyController) -> Result<Abilities> {
    for (name, sizes, log2) in [
        ("SQES", id.sqes(), command::Command::LOG2 as u8),
        ("CQES", id.cqes(), command::Cqe::LOG2 as u8),
    ] {
        if sizes & 0xf > log2 || sizes >> 4 < log2 {
            return Err(unsupported(format!(
                "its queue entries cannot have {} bytes ({name} is {sizes:02x}h)",
                1 << log2
            )));
        }
    }
    if id.cntrltype() > 1 {
        return Err(unsupported(format!(
            "it is no I/O controller (CNTRLTYPE is {})",
            id.cntrltype()
        )));
    }
    let max_command = match id.mdts() {
        0 => MAX_COMMAND,
        // 2^MDTS pages of the smallest page, which is 4 KiB here.
        mdts => (PAGE as u64).checked_shl(mdts.into()).filter(|_| mdts < 32).unwrap_or(u64::MAX),
    };
    let on = |bit: u16| id.oncs() & bit != 0;
    Ok(Abilities {
        max_command: max_command.min(MAX_COMMAND),
        doorbell_buffer: id.oacs() & OACS_DOORBELL_BUFFER != 0,
        sgl: matches!(id.sgls() & SGLS_SUPPORTED, 1 | 2),
        volatile_cache: id.vwc() & VWC_PRESENT != 0,
        write_zeroes: on(ONCS_WRITE_ZEROES),
        deallocate: on(ONCS_DATASET_MANAGEMENT),
        compare: on(ONCS_COMPARE),
        // Format 0 of the ranges; before Base 2.0 the field that says so was reserved.
        copy: on(ONCS_COPY) && (id.ocfs() == 0 || id.ocfs() & 1 == 1),
        awun: id.awun(),
        awupf: id.awupf(),
    })
}

/// Checks a namespace.
///
/// # Errors
/// `NotFound` for one that is not active; `Unsupported`, with the field's name.
pub(super) fn namespace(
    nsid: u32,
    abilities: Abilities,
    max_depth: u32,
    id: &IdentifyNamespace,
) -> Result<Namespace> {
    if id.nsze() == 0 {
        let text = format!("there is no active namespace {nsid}; ns=N names another");
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    let format = id.current_format();
    let shift = match format.lbads {
        9 => 3,
        12 => 0,
        other => {
            return Err(unsupported(format!(
                "namespace {nsid} has blocks of 2^{other} bytes (LBADS); 512 and 4096 are \
                 supported: format it so"
            )));
        }
    };
    if format.metadata != 0 {
        return Err(unsupported(format!(
            "namespace {nsid} has {} bytes of metadata with each block (LBA format {}): format \
             it without",
            format.metadata,
            id.flbas() & 0xf
        )));
    }
    if id.dps() & 7 != 0 {
        return Err(unsupported(format!(
            "namespace {nsid} has protection information of type {} (DPS): format it without",
            id.dps() & 7
        )));
    }
    let blocks = id.nsze() >> shift;
    if blocks == 0 || blocks > u64::MAX / BLOCK as u64 {
        return Err(unsupported(format!("namespace {nsid} has {} blocks (NSZE)", id.nsze())));
    }
    let lba_bytes = 1u32 << format.lbads;
    let mut space = Namespace {
        nsid,
        geometry: Geometry {
            blocks,
            lba_bytes,
            max_transfer: MAX_BUFFER as u32,
            max_depth,
            atomic_bytes: lba_bytes,
            atomic_boundary: None,
            volatile_cache: abilities.volatile_cache,
            copy: false,
            deallocate: abilities.deallocate,
            compare: abilities.compare,
            window: false,
        },
        shift,
        write_protected: id.nsattr() & 1 == 1,
        abilities,
        copy_range: 0,
        copy_total: 0,
    };
    set_atomics(&mut space, id);
    set_copies(&mut space, id);
    Ok(space)
}

/// Atomic limits (Base 1.4, 6.4): what holds while it runs and across a power failure.
fn set_atomics(space: &mut Namespace, id: &IdentifyNamespace) {
    let lba = u64::from(space.geometry.lba_bytes);
    let own = id.nsfeat() & NSFEAT_ATOMICS != 0;
    let pick = |namespace: u16, controller: u16| if own { namespace } else { controller };
    let normal = pick(id.nawun(), space.abilities.awun);
    let power_fail = pick(id.nawupf(), space.abilities.awupf);
    // Both count from zero. What is one write must be one command.
    let bytes = (u64::from(normal.min(power_fail)) + 1) * lba;
    space.geometry.atomic_bytes = bytes.min(space.abilities.max_command) as u32;
    if !own {
        return;
    }
    let lines = [id.nabsn(), id.nabspf()].into_iter().filter(|&size| size != 0);
    // Where there are two distances, the lines at their common divisor have all of both.
    let every = lines.map(|size| u64::from(size) + 1).reduce(divisor);
    space.geometry.atomic_boundary =
        every.map(|every| Boundary { first: u64::from(id.nabo()) * lba, every: every * lba });
}

/// The greatest common divisor of two numbers above zero.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Limits of copies (NVM 1.0, 4.1.5.1): none where one of them is zero.
fn set_copies(space: &mut Namespace, id: &IdentifyNamespace) {
    if !space.abilities.copy || id.mssrl() == 0 || id.mcl() == 0 {
        return;
    }
    let ranges = (u32::from(id.msrc()) + 1).min(COPY_RANGES);
    space.copy_range = u32::from(id.mssrl());
    space.copy_total = id.mcl().min(space.copy_range.saturating_mul(ranges)).min(NLB_MAX);
    space.geometry.copy = true;
}

/// What a medium over a namespace would be, by identify data alone: for tests and for
/// those who look at a controller without opening it. Any bytes are data.
///
/// # Errors
/// `Unsupported` or `NotFound`, as opening it would answer.
pub fn geometry_of(
    controller: &IdentifyController,
    namespace_id: u32,
    namespace_data: &IdentifyNamespace,
    max_depth: u32,
) -> Result<Geometry> {
    let able = abilities(controller)?;
    Ok(namespace(namespace_id, able, max_depth, namespace_data)?.geometry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::spec::identify::LbaFormat;

    fn controller() -> IdentifyController {
        let mut id = IdentifyController::new();
        id.set_sqes(0x66);
        id.set_cqes(0x44);
        id.set_mdts(5);
        id.set_oncs(0x10d);
        id.set_sgls(2);
        id.set_vwc(7);
        id
    }

    fn disk(lbads: u8) -> IdentifyNamespace {
        let mut id = IdentifyNamespace::new();
        id.set_nsze(4096);
        id.set_lba_format(0, LbaFormat { metadata: 0, lbads, performance: 0 });
        id
    }

    fn read(c: &IdentifyController, n: &IdentifyNamespace) -> Result<Namespace> {
        namespace(1, abilities(c)?, 255, n)
    }

    #[test]
    fn sound_data_are_believed() {
        let able = abilities(&controller()).unwrap();
        assert_eq!(able.max_command, 128 << 10);
        assert!(able.sgl && able.volatile_cache && able.compare && able.deallocate);
        assert!(able.write_zeroes && !able.doorbell_buffer);
        let four = read(&controller(), &disk(12)).unwrap();
        assert_eq!((four.geometry.blocks, four.shift, four.geometry.lba_bytes), (4096, 0, 4096));
        let small = read(&controller(), &disk(9)).unwrap();
        assert_eq!((small.geometry.blocks, small.shift), (512, 3));
        assert!(!small.geometry.copy, "no limits, no copies");
        for (mdts, most) in [(0, MAX_COMMAND), (1, 8192), (20, MAX_COMMAND), (255, MAX_COMMAND)] {
            let mut id = controller();
            id.set_mdts(mdts);
            assert_eq!(abilities(&id).unwrap().max_command, most, "MDTS {mdts}");
        }
    }

    #[test]
    fn what_cannot_be_driven_is_refused_by_name() {
        type Spoil = fn(&mut IdentifyController, &mut IdentifyNamespace);
        let cases: [(&str, Spoil); 8] = [
            ("SQES", |c, _| c.set_sqes(0x77)),
            ("CQES", |c, _| c.set_cqes(0x33)),
            ("CNTRLTYPE", |c, _| c.set_cntrltype(2)),
            ("LBADS", |_, n| n.set_flbas(1)),
            ("metadata", |_, n| {
                n.set_lba_format(0, LbaFormat { metadata: 8, lbads: 12, performance: 0 });
            }),
            ("DPS", |_, n| n.set_dps(1)),
            ("NSZE", |_, n| n.set_nsze(u64::MAX)),
            ("NSZE", |_, n| {
                n.set_lba_format(0, LbaFormat { metadata: 0, lbads: 9, performance: 0 });
                n.set_nsze(7);
            }),
        ];
        for (name, spoil) in cases {
            let (mut c, mut n) = (controller(), disk(12));
            spoil(&mut c, &mut n);
            let error = read(&c, &n).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(name), "{error}");
        }
        let mut none = disk(12);
        none.set_nsze(0);
        assert_eq!(read(&controller(), &none).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn atomic_limits_are_the_lesser_ones_inside_all_lines() {
        let (mut c, mut n) = (controller(), disk(9));
        assert_eq!(read(&c, &n).unwrap().geometry.atomic_bytes, 512);
        c.set_awun(63);
        c.set_awupf(15);
        assert_eq!(read(&c, &n).unwrap().geometry.atomic_bytes, 8192);
        // Those of the namespace are not in force until it says so.
        n.set_nawun(127);
        n.set_nawupf(31);
        n.set_nabsn(63);
        n.set_nabspf(47);
        n.set_nabo(8);
        assert_eq!(read(&c, &n).unwrap().geometry.atomic_bytes, 8192);
        n.set_nsfeat(NSFEAT_ATOMICS);
        let g = read(&c, &n).unwrap().geometry;
        assert_eq!(g.atomic_bytes, 16384);
        assert_eq!(g.atomic_boundary, Some(Boundary { first: 4096, every: 8192 }));
        assert!(g.writes_atomically(0, 1) && g.writes_atomically(1, 2));
        assert!(!g.writes_atomically(0, 2) && !g.writes_atomically(2, 2));
        c.set_awun(u16::MAX);
        c.set_awupf(u16::MAX);
        let most = read(&c, &disk(12)).unwrap().geometry.atomic_bytes;
        assert_eq!(most, 128 << 10, "a write is one command at the most");
    }

    #[test]
    fn copies_have_limits() {
        let (c, mut n) = (controller(), disk(12));
        n.set_mssrl(128);
        n.set_mcl(200);
        let space = read(&c, &n).unwrap();
        assert_eq!((space.copy_range, space.copy_total), (128, 128), "MSRC is zero: one range");
        n.set_msrc(255);
        assert_eq!(read(&c, &n).unwrap().copy_total, 200);
        n.set_mcl(u32::MAX);
        assert_eq!(read(&c, &n).unwrap().copy_total, 128 * COPY_RANGES);
        n.set_mcl(0);
        assert!(!read(&c, &n).unwrap().geometry.copy);
    }

    /// Whatever a controller says, the answer is a sound geometry or an error.
    #[test]
    fn any_bytes_are_data() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        for _ in 0..300 {
            let mut c = *controller().as_bytes();
            let mut n = *disk(12).as_bytes();
            for _ in 0..1 + next() % 12 {
                c[(next() % 544) as usize] = next() as u8;
                n[(next() % 192) as usize] = next() as u8;
            }
            let (c, n) = (IdentifyController::from_bytes(c), IdentifyNamespace::from_bytes(n));
            if let Ok(g) = geometry_of(&c, 1, &n, 255) {
                assert!(g.blocks > 0 && g.blocks.checked_mul(4096).is_some());
                assert!(g.lba_bytes == 512 || g.lba_bytes == 4096);
                assert!(g.atomic_bytes >= g.lba_bytes);
                assert!(g.atomic_boundary.is_none_or(|b| b.every > 0));
                let _ = g.writes_atomically(next(), next() % 8);
            }
        }
    }
}
