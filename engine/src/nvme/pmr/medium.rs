//! A region as a medium: its blocks are reached by copies and by views, and are durable
//! behind its barrier.

use super::super::Claim;
use super::super::controller::Controller;
use super::super::describe;
use super::Health;
use super::region::Region;
use crate::medium::{BLOCK, Error, ErrorKind, Fact, Geometry, Medium, Queue, Result, Window};
use crate::memory::{MAX_BUFFER, Persistence, Pool, Refused, SharedMemory, WindowMemory};
use crate::window::{MAX_DEPTH, WindowQueue};
use std::fmt;
use std::sync::Arc;

/// What the region counts as among the namespaces of its controller: none has this number.
const REGION: u32 = 0;

/// Bytes that a store changes all or nothing.
const WORD: u32 = 8;

/// How a region is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Use {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
    /// To be written anew, whatever it held.
    Format,
}

/// Opens the region of a controller.
///
/// # Errors
/// `Unsupported`, with the field's name, and where the region cannot be mapped; `Busy` when
/// it is open; `Io` for a region that cannot be written, or whose contents are not what was
/// written; `Gone`.
pub(in super::super) fn open(
    controller: &Arc<Controller>,
    uri: &str,
    wanted: Use,
) -> Result<Arc<dyn Medium>> {
    let name = controller.link.function.name();
    if let Some(end) = controller.end() {
        return Err(end.error.clone());
    }
    // Also readers are alone: each window has a ledger of its own.
    let Some(claim) = Claim::take(&controller.claims, REGION, false) else {
        let text =
            format!("the Persistent Memory Region of {name} is open in this process already");
        return Err(Error::new(ErrorKind::Busy, text));
    };
    let region = Arc::new(Region::enable(Arc::clone(controller), claim)?);
    let writes = usable(region.health(), wanted)
        .map_err(|e| Error::new(e.kind(), format!("{name}: {}", e.message())))?;
    let area = region
        .bar()
        .areas()
        .iter()
        .find(|area| area.offset == 0 && area.memory.len() as u64 == region.bar().len());
    let Some(area) = area else {
        let text = format!(
            "{name}: its Persistent Memory Region cannot be mapped as a whole, so it is no window: \
             the server has to share it as one memory file that cannot shrink"
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    };
    let persistence: Arc<dyn Persistence> = Arc::<Region>::clone(&region);
    // SAFETY: the driver accesses the BAR of a region for barriers alone, behind `len`; the
    // claim, which the region has and the memory keeps, makes this the only window over it.
    let memory = unsafe { SharedMemory::over(Arc::clone(&area.memory), region.len(), persistence) };
    let memory = memory.map_err(|e| Error::new(e.kind(), format!("{name}: {}", e.message())))?;
    let geometry = Geometry {
        blocks: memory.len() / BLOCK as u64,
        lba_bytes: BLOCK as u32,
        max_transfer: MAX_BUFFER as u32,
        max_depth: MAX_DEPTH,
        atomic_bytes: WORD,
        atomic_boundary: None,
        volatile_cache: true,
        copy: true,
        deallocate: false,
        compare: true,
        window: true,
    };
    let memory = Arc::new(memory.refusing(Refused { writes, ..Refused::default() }));
    let (uri, pool) = (uri.to_owned(), Pool::new());
    Ok(Arc::new(PmrMedium { uri, geometry, memory, region, pool }))
}

/// Whether a region may be used so, and if not to be written, why.
fn usable(health: Health, wanted: Use) -> Result<Option<&'static str>> {
    let refuse = |text: &str| Err(Error::new(ErrorKind::Io, text));
    match (health, wanted) {
        (_, Use::Read) => Ok(Some("the region is open for reading only")),
        (Health::Sound, _) | (Health::NotRestored, Use::Format) => Ok(None),
        (Health::NotRestored, Use::Write) => refuse(
            "the contents of its Persistent Memory Region were not restored (PMRSTS.HSTS): they \
             may be older than what was promised. Open it for reading only, or format it",
        ),
        (Health::ReadOnly, _) => Err(Error::new(
            ErrorKind::Permission,
            "its Persistent Memory Region has become read only (PMRSTS.HSTS): open it for \
             reading only",
        )),
        (Health::Unreliable, _) => refuse(
            "its Persistent Memory Region is unreliable (PMRSTS.HSTS): open it for reading only, \
             and copy what can be read",
        ),
    }
}

/// A region as a medium.
struct PmrMedium {
    uri: String,
    geometry: Geometry,
    memory: Arc<SharedMemory>,
    region: Arc<Region>,
    pool: Pool,
}

impl Medium for PmrMedium {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        if crate::fork::in_child() {
            let text = "a forked child has no part in its parent's controller: open its own";
            return Err(Error::new(ErrorKind::Gone, text));
        }
        self.region.sound(false)?;
        let (memory, geometry) = (Arc::clone(&self.memory), self.geometry.clone());
        Ok(Box::new(WindowQueue::new(memory, geometry, depth)))
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn window(&self) -> Option<&dyn Window> {
        Some(&*self.memory)
    }

    fn window_memory(&self) -> Option<WindowMemory> {
        Some(WindowMemory::new(Arc::clone(&self.memory)))
    }

    fn losses(&self) -> u64 {
        self.region.losses()
    }

    fn describe(&self) -> Result<Vec<Fact>> {
        let controller = self.region.controller();
        let mut facts = describe::identity(controller);
        facts.extend(self.region.facts());
        facts.extend(describe::health(controller));
        Ok(facts)
    }
}

impl fmt::Debug for PmrMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PmrMedium")
            .field("uri", &self.uri)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
