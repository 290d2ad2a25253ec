//! The simulated medium: for crash tests, with everything that a device may do.
//!
//! It keeps what is durable apart from what is only visible, completes
//! operations late and in any order, mixes what overlaps, and dies when it is
//! told to. After that [`SimMedium::reopen`] gives, by seed, one of the media
//! that law M1 allows: writes that were not durable are kept, lost, torn at
//! 512 bytes (8 in window mode) or reordered; what was durable stays. A
//! single-threaded run with the same seed goes the same way every time.
//!
//! `cache` is the model of law M1, `state` has the operations, `crash`
//! chooses, `options` is what a test can set. There is no I/O here. `cached` is another one: a
//! window that is memory, for leases.

mod apply;
mod cache;
mod cached;
mod crash;
mod image;
mod options;
mod queue;
mod rng;
mod state;
mod window;

#[cfg(test)]
mod tests;

pub use cached::CachedMedium;
pub use image::{Block, SimImage};
pub use options::{FailPlan, Hold, OpKind, SimOptions, SimStats, Survival};

use crate::medium::{BLOCK, Error, ErrorKind, Geometry, Medium, Queue, Result, Window};
use crate::memory::Pool;
use crash::crash_image;
use queue::SimQueue;
use state::{State, Twin};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A simulated medium. Clones are handles of the same one, so that a test can
/// steer what a store uses.
#[derive(Debug, Clone)]
pub struct SimMedium {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    uri: String,
    geometry: Geometry,
    pool: Pool,
    state: Mutex<State>,
    /// Something was released, or the medium died.
    changed: Condvar,
}

fn lock(inner: &Inner) -> MutexGuard<'_, State> {
    // A test that panicked elsewhere is to be told by its own message.
    inner.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimMedium {
    /// A medium of zeroes.
    pub fn new(options: SimOptions) -> Self {
        Self::with_image(options, SimImage::new())
    }

    /// A medium that holds an image, all of it durable.
    pub fn with_image(options: SimOptions, image: SimImage) -> Self {
        Self::with_pool(options, image, Pool::new())
    }

    fn with_pool(options: SimOptions, image: SimImage, pool: Pool) -> Self {
        let inner = Inner {
            uri: format!("sim:{}", options.seed),
            geometry: options.geometry(),
            pool,
            state: Mutex::new(State::new(options, image)),
            changed: Condvar::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A handle as a store takes it.
    pub fn medium(&self) -> Arc<dyn Medium> {
        Arc::new(self.clone())
    }

    /// Steps so far: every write, flush, write-zeroes, deallocate and copy
    /// that was submitted, and every store and persist of the window, in order
    /// from 0. Reads are none.
    pub fn steps(&self) -> u64 {
        lock(&self.inner).steps
    }

    /// Makes the medium die at the moment when this step is submitted: the
    /// step itself and all in flight may leave any part of themselves behind.
    /// They complete with [`ErrorKind::Gone`], and everything later is refused.
    pub fn crash_at(&self, step: u64) {
        lock(&self.inner).crash_at = Some(step);
    }

    /// Makes the medium die now, as [`SimMedium::crash_at`] says.
    pub fn crash_now(&self) {
        lock(&self.inner).crash();
        self.inner.changed.notify_all();
    }

    /// From now on keeps what a crash at each step would find, for
    /// [`SimMedium::crash_of`]; forgets what was kept before.
    pub fn keep_crashes(&self) {
        lock(&self.inner).crashes = Some(Vec::new());
    }

    /// How many crashes were kept.
    pub fn crashes(&self) -> usize {
        lock(&self.inner).crashes.as_ref().map_or(0, Vec::len)
    }

    /// What a crash at a step leaves, as [`SimMedium::reopen_with`] gives it,
    /// while this medium goes on. Steps count from [`SimMedium::keep_crashes`].
    ///
    /// # Panics
    /// If that step was not kept.
    pub fn crash_of(&self, step: usize, survival: Survival, seed: u64) -> SimMedium {
        let state = lock(&self.inner);
        let kept = state.crashes.as_ref().and_then(|kept| kept.get(step));
        let (cache, _) = kept.expect("a crash that was kept");
        let image = crash_image(cache, survival, state.options.grain(), seed);
        let options = SimOptions { seed, ..state.options.clone() };
        Self::with_pool(options, image, self.inner.pool.clone())
    }

    /// From now on this medium and another one crash at one moment: each step of either is a
    /// crash that this one keeps, see [`SimMedium::crash_of_both`]. For runs of one thread.
    pub fn beside(&self, second: &SimMedium) {
        lock(&self.inner).twin = Some(Twin::Second(Arc::downgrade(&second.inner)));
        lock(&second.inner).twin = Some(Twin::First(Arc::downgrade(&self.inner)));
    }

    /// As [`SimMedium::crash_of`], of this medium and the one beside it. What was not durable
    /// on one is kept, lost or torn whatever became of the other.
    ///
    /// # Panics
    /// If that step was not kept, or there is no other medium.
    pub fn crash_of_both(
        &self,
        step: usize,
        survival: Survival,
        seed: u64,
    ) -> (SimMedium, SimMedium) {
        let first = self.crash_of(step, survival, seed);
        let (cache, second) = {
            let state = lock(&self.inner);
            let kept = state.crashes.as_ref().and_then(|kept| kept.get(step));
            let cache = kept.and_then(|(_, second)| second.clone());
            let second = match &state.twin {
                Some(Twin::Second(second)) => second.upgrade(),
                _ => None,
            };
            (cache.expect("a crash of two media"), second.expect("a medium beside this one"))
        };
        let options = SimOptions { seed, ..lock(&second).options.clone() };
        let image = crash_image(&cache, survival, options.grain(), seed.rotate_left(17) ^ 0x6a);
        let second = Self::with_pool(options, image, second.pool.clone());
        first.beside(&second);
        (first, second)
    }

    /// Whether it died.
    pub fn is_dead(&self) -> bool {
        lock(&self.inner).dead
    }

    /// What a crash leaves, as a new medium whose own behaviour the seed
    /// decides too. Kills the medium if it lives. May be called again, with
    /// other seeds, for other outcomes of the same crash. Plans, holds and the
    /// lie are not inherited; the options and the pool are.
    pub fn reopen(&self, seed: u64) -> SimMedium {
        self.reopen_with(Survival::Random, seed)
    }

    /// As [`SimMedium::reopen`], saying what survives.
    pub fn reopen_with(&self, survival: Survival, seed: u64) -> SimMedium {
        self.crash_now();
        let state = lock(&self.inner);
        let image = crash_image(&state.cache, survival, state.options.grain(), seed);
        let options = SimOptions { seed, ..state.options.clone() };
        Self::with_pool(options, image, self.inner.pool.clone())
    }

    /// Loses, at random, completed writes that no flush covered, as a
    /// reconnection does (law M3): [`Medium::losses`] rises and every later
    /// flush and write fails with [`ErrorKind::Gone`]. Reads go on.
    pub fn lose(&self, seed: u64) {
        let mut state = lock(&self.inner);
        let image = crash_image(&state.cache, Survival::Random, state.options.grain(), seed);
        state.cache = cache::Cache { visible: image.clone(), durable: image, ..Default::default() };
        state.losses += 1;
        for op in state.flying.iter_mut().filter(|op| op.kind != OpKind::Read) {
            op.fault_with(ErrorKind::Gone);
        }
    }

    /// Injects an error.
    pub fn fail(&self, plan: FailPlan) {
        lock(&self.inner).plan(plan);
    }

    /// Keeps operations in flight until [`SimMedium::release`].
    pub fn hold(&self, hold: Hold) {
        lock(&self.inner).holds.push(hold);
    }

    /// Keeps all operations with such tags in flight.
    pub fn hold_tags(&self, tags: Range<u64>) {
        self.hold(Hold { kind: None, tags });
    }

    /// Lets everything complete that was held.
    pub fn release(&self) {
        lock(&self.inner).holds.clear();
        self.inner.changed.notify_all();
    }

    /// Makes flushes, forced writes and persists complete without effect: a
    /// device that lies. A crash test that still passes proves nothing.
    pub fn set_liar(&self, liar: bool) {
        lock(&self.inner).liar = liar;
    }

    /// What was submitted.
    pub fn stats(&self) -> SimStats {
        lock(&self.inner).stats
    }

    /// Operations in flight, on all queues, dropped ones included.
    pub fn in_flight(&self) -> usize {
        lock(&self.inner).flying.len()
    }

    /// The durable bytes of a block.
    pub fn peek(&self, block: u64) -> Arc<Block> {
        lock(&self.inner).cache.durable.get(block)
    }

    /// What is durable, as a copy that stays as it is.
    pub fn image(&self) -> SimImage {
        lock(&self.inner).cache.durable.clone()
    }

    /// Replaces a block behind everybody's back, durably.
    ///
    /// # Errors
    /// `Invalid` outside the medium.
    pub fn poke(&self, block: u64, bytes: &Block) -> Result<()> {
        let mut state = lock(&self.inner);
        if block >= state.options.blocks {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no block {block}")));
        }
        let data = Arc::new(*bytes);
        state.cache.versions.remove(&block);
        state.cache.visible.set(block, Arc::clone(&data));
        state.cache.durable.set(block, data);
        Ok(())
    }

    /// Flips bits of one byte of a block, in what is durable and in what is
    /// visible.
    ///
    /// # Errors
    /// `Invalid` outside the medium or the block.
    pub fn corrupt(&self, block: u64, offset: usize, xor: u8) -> Result<()> {
        let mut state = lock(&self.inner);
        if block >= state.options.blocks || offset >= BLOCK {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("there is no byte {offset} in a block {block}"),
            ));
        }
        let cache = &mut state.cache;
        for image in [&mut cache.durable, &mut cache.visible] {
            let mut data = *image.get(block);
            data[offset] ^= xor;
            image.set(block, Arc::new(data));
        }
        Ok(())
    }
}

impl Medium for SimMedium {
    fn uri(&self) -> &str {
        &self.inner.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.inner.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        if self.is_dead() {
            return Err(State::gone());
        }
        let depth = depth.clamp(1, self.inner.geometry.max_depth) as usize;
        Ok(Box::new(SimQueue::new(&self.inner, depth)))
    }

    fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    fn window(&self) -> Option<&dyn Window> {
        self.inner.geometry.window.then_some(self)
    }

    fn losses(&self) -> u64 {
        lock(&self.inner).losses
    }
}
