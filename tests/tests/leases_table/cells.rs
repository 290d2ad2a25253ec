//! What each word in a cell means, as a test.

use super::rows::{B, Row, World};
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{
    Error, ErrorKind, FileHandle, FormatSpec, LeaseCore, LeaseSpec, SealCore, SealSpec,
    SessionCore, Volume,
};
use freehold_engine::pin::{LongPin, State};
use freehold_engine::{FormatOptions, format_target};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So long a wait is watched before it is believed.
const WATCHED: Duration = Duration::from_millis(3);

#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    Lease(Access),
    Seal(Kinds),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub held: Held,
    pub breakable: bool,
}

impl Column {
    /// `LAYOUT!`, `WRITE?`, `Stable`.
    pub(super) fn named(name: &str) -> Column {
        let breakable = name.ends_with('?');
        let held = match name.trim_end_matches(['!', '?']) {
            "LAYOUT" => Held::Seal(Kinds::LAYOUT),
            "SHRINK" => Held::Seal(Kinds::SHRINK),
            "GROW" => Held::Seal(Kinds::GROW),
            "WRITE" => Held::Seal(Kinds::WRITE),
            "FUTURE_WRITE" => Held::Seal(Kinds::FUTURE_WRITE),
            "SEAL" => Held::Seal(Kinds::SEAL),
            "Read" => Held::Lease(Access::Read),
            "Write" => Held::Lease(Access::Write),
            "Stable" => Held::Lease(Access::Stable),
            "Exclusive" => Held::Lease(Access::Exclusive),
            other => panic!("no such column: {other}"),
        };
        Column { held, breakable }
    }
}

/// What is held while the operation comes.
enum Holding {
    Lease(Arc<LeaseCore>),
    Seal(SealCore),
}

struct Scene {
    world: Arc<World>,
    holding: Holding,
}

impl Scene {
    fn set(row: &Row, column: &Column, own: bool) -> Result<Scene, Error> {
        let medium = format_target("mem:16M", &FormatOptions::default())?;
        let vol = Volume::format(medium, &FormatSpec::default())?;
        vol.set_lease_time(Duration::from_secs(20));
        let who = vol.new_session();
        let holder = if own { who.clone() } else { vol.new_session() };
        let world = row.world(who, vol);
        let file = world.file.clone().for_session(holder.id());
        let holding = hold(&world.vol, &file, &holder, column)?;
        Ok(Scene { world: Arc::new(world), holding })
    }

    fn lease(&self) -> &Arc<LeaseCore> {
        match &self.holding {
            Holding::Lease(l) => l,
            Holding::Seal(_) => panic!("no lease in this column"),
        }
    }

    fn pin(&self) -> Option<LongPin> {
        match &self.holding {
            Holding::Lease(l) => Some(l.hold().expect("it is held")),
            Holding::Seal(_) => None,
        }
    }

    /// Is all as it was for the holder?
    fn untouched(&self) -> Result<(), String> {
        match &self.holding {
            Holding::Lease(l) if l.pins().state() != State::Held => {
                Err(format!("the lease is {:?}", l.pins().state()))
            }
            Holding::Seal(s) if !s.is_set() => Err("the seal is not set any more".into()),
            _ => Ok(()),
        }
    }

    fn ended(&self) -> Result<(), String> {
        match &self.holding {
            Holding::Lease(l) if l.pins().state() == State::Revoked => Ok(()),
            Holding::Lease(l) => Err(format!("the lease is {:?}", l.pins().state())),
            Holding::Seal(s) if s.is_set() => Err("the seal is still set".into()),
            Holding::Seal(_) => Ok(()),
        }
    }
}

fn hold(
    vol: &Arc<Volume>,
    file: &FileHandle,
    who: &Arc<SessionCore>,
    column: &Column,
) -> Result<Holding, Error> {
    Ok(match column.held {
        Held::Lease(access) => {
            let spec = LeaseSpec { access, max_hold: Duration::ZERO };
            Holding::Lease(vol.lease(file, who, (0, file.size()), spec)?)
        }
        Held::Seal(kinds) => {
            let (breakable, timeout) = (column.breakable, Duration::from_secs(1));
            let spec = SealSpec { kinds, breakable, timeout };
            Holding::Seal(vol.seal(file, who, (0, 32 * B), spec)?)
        }
    })
}

/// Does the operation what the cell says?
pub(super) fn check(row: &Row, column: &Column, cell: &str, own: bool) -> Result<(), String> {
    let scene = || Scene::set(row, column, own).map_err(|e| format!("the scene: {e}"));
    // What needs a process of its own, or a parent lease, is done elsewhere.
    if matches!(row.name, "delegate" | "process-exit" | "fork") {
        return Ok(());
    }
    match cell {
        "on" | "name goes" | "goes round" => {
            goes_on(row, scene()?, false)?;
            goes_on(row, scene()?, true)
        }
        "Sealed" => refused(row, &scene()?, ErrorKind::Sealed),
        "Busy" => refused(row, &scene()?, ErrorKind::Busy),
        "Exists" => refused(row, &scene()?, ErrorKind::Exists),
        "recall" => recalls(row, &scene, column),
        "recall, drain" => {
            recalls(row, &scene, column)?;
            gives_up(row, &scene()?, ErrorKind::Busy)
        }
        "recall, else Busy" => {
            recalls(row, &scene, column)?;
            let scene = scene()?;
            scene.world.vol.set_lease_time(Duration::from_millis(2));
            gives_up(row, &scene, ErrorKind::Busy)
        }
        "refresh" => refreshes(row, &scene),
        "take" => {
            let idle = scene()?;
            act(row, &idle)?;
            idle.ended()?;
            deadlocks(row, &scene()?)
        }
        "drops" => {
            let scene = scene()?;
            act(row, &scene)?;
            // Closing the store asks; what is dropped with it, is dropped by its handle.
            if row.name == "session-end" { scene.ended() } else { Ok(()) }
        }
        other => Err(format!("no test for the word {other:?}")),
    }
}

fn act(row: &Row, scene: &Scene) -> Result<(), String> {
    (row.act)(&scene.world).map_err(|e| format!("{:?}: {e}", e.kind()))
}

fn goes_on(row: &Row, scene: Scene, pinned: bool) -> Result<(), String> {
    let pin = pinned.then(|| scene.pin());
    let begun = Instant::now();
    act(row, &scene)?;
    if begun.elapsed() > Duration::from_secs(10) {
        return Err("it waited".into());
    }
    drop(pin);
    scene.untouched()
}

fn refused(row: &Row, scene: &Scene, kind: ErrorKind) -> Result<(), String> {
    match (row.act)(&scene.world) {
        Err(e) if e.kind() == kind => scene.untouched(),
        Err(e) => Err(format!("refused with {:?}: {e}", e.kind())),
        Ok(()) => Err("it was not refused".into()),
    }
}

fn gives_up(row: &Row, scene: &Scene, kind: ErrorKind) -> Result<(), String> {
    let pin = scene.pin();
    refused(row, scene, kind).or_else(|why| match why.starts_with("the lease is Recalled") {
        // Closing leaves the recall pending: the next one joins it.
        true if row.name == "close-store" => Ok(()),
        _ => Err(why),
    })?;
    drop(pin);
    Ok(())
}

fn begin(row: &Row, scene: &Scene) -> JoinHandle<Result<(), Error>> {
    let (world, act) = (scene.world.clone(), row.act);
    std::thread::spawn(move || act(&world))
}

fn recalls(
    row: &Row,
    scene: &dyn Fn() -> Result<Scene, String>,
    column: &Column,
) -> Result<(), String> {
    if matches!(column.held, Held::Lease(_)) {
        let idle = scene()?;
        act(row, &idle)?;
        idle.ended()?;
    }
    // In use: until that ends, and no longer.
    let busy = scene()?;
    let pin = busy.pin();
    let running = begin(row, &busy);
    std::thread::sleep(WATCHED);
    let early = running.is_finished();
    let Scene { world, holding } = busy;
    drop(pin);
    let holding = match holding {
        Holding::Seal(seal) => {
            drop(seal);
            None
        }
        lease => Some(lease),
    };
    let done = running.join().map_err(|_| "it panicked".to_owned())?;
    done.map_err(|e| format!("in use: {:?}: {e}", e.kind()))?;
    if early {
        return Err("it did not wait for the holder".into());
    }
    match holding {
        Some(holding) => Scene { world, holding }.ended(),
        None => Ok(()),
    }
}

fn deadlocks(row: &Row, scene: &Scene) -> Result<(), String> {
    let pin = scene.pin();
    let done = refused(row, scene, ErrorKind::WouldDeadlock);
    drop(pin);
    done
}

fn refreshes(row: &Row, scene: &dyn Fn() -> Result<Scene, String>) -> Result<(), String> {
    let idle = scene()?;
    act(row, &idle)?;
    let lease = idle.lease();
    if !lease.is_stale() || lease.pins().state() == State::Held {
        return Err("the lease is not stale".into());
    }
    deadlocks(row, &scene()?)
}
