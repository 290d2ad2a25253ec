//! The store's own costs, on the memory medium so that the device is small
//! beside them: plain I/O through a queue, look-ups, reflinks, copies on write.
//!
//! `cargo bench -p freehold-bench`. Numbers of one machine; ratios are for
//! `docs/benchmarks.md`.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freehold::{Buffer, Completion, File, FormatOptions, Queue, Store};
use freehold_bench::{BLOCK, many_extents};
use std::hint::black_box;
use std::time::Duration;

fn store(size: &str) -> Store {
    Store::format(&format!("mem:{size}"), &FormatOptions::default()).expect("memory")
}

/// A queue with `depth` reads or writes in flight on 16 MiB of one extent.
struct Plain {
    queue: Queue,
    file: File,
    idle: Vec<Buffer>,
    done: Vec<Completion>,
    next: u64,
}

impl Plain {
    fn new(store: &Store, name: &str, depth: usize) -> Self {
        let file = store.create(name.as_bytes()).expect("a new name");
        file.write_at(&vec![1; 16 << 20], 0).expect("room");
        let queue = store.queue(depth as u32).expect("a queue");
        let idle = (0..depth).map(|_| queue.buffer(BLOCK as usize).expect("memory")).collect();
        Plain { queue, file, idle, done: Vec::with_capacity(depth), next: 0 }
    }

    /// Submits all idle buffers and takes back what has completed.
    fn turn(&mut self, write: bool) -> u64 {
        while let Some(buf) = self.idle.pop() {
            let at = self.next % 4096 * BLOCK;
            self.next = self.next.wrapping_add(1237);
            let taken = if write {
                self.queue.write(&self.file, at, buf, 0)
            } else {
                self.queue.read(&self.file, at, buf, 0)
            };
            taken.expect("room for the queue's own depth");
        }
        self.queue.poll(&mut self.done);
        let n = self.done.len() as u64;
        self.idle.extend(self.done.drain(..).filter_map(|c| c.buf));
        n
    }
}

fn plain(c: &mut Criterion) {
    let store = store("256M");
    let mut g = c.benchmark_group("plain_4k");
    g.throughput(Throughput::Elements(1));
    for depth in [1, 32] {
        for write in [false, true] {
            let name = format!("{}_qd{depth}", if write { "overwrite" } else { "read" });
            let mut p = Plain::new(&store, &name, depth);
            g.bench_function(&name, |b| {
                b.iter_custom(|iters| {
                    let begun = std::time::Instant::now();
                    let mut n = 0;
                    while n < iters {
                        n += p.turn(write);
                    }
                    begun.elapsed().mul_f64(iters as f64 / n as f64)
                });
            });
        }
    }
    g.finish();
}

fn lookup(c: &mut Criterion) {
    let store = store("16G");
    let mut g = c.benchmark_group("look_up_one_block");
    for extents in [1_000u64, 1_000_000] {
        let file = many_extents(&store, &format!("f{extents}"), extents).expect("room");
        let mut at = 0u64;
        g.bench_function(BenchmarkId::from_parameter(extents), |b| {
            b.iter(|| {
                at = at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                black_box(file.extent_at((at >> 20) % extents * 2 * BLOCK)).expect("a map")
            });
        });
    }
    g.finish();
}

fn reflink(c: &mut Criterion) {
    let store = store("16G");
    let mut g = c.benchmark_group("reflink_durable");
    let mut n = 0u64;
    for extents in [1u64, 1_000, 400_000, 1_000_000] {
        let file = many_extents(&store, &format!("f{extents}"), extents).expect("room");
        g.bench_function(BenchmarkId::from_parameter(extents), |b| {
            b.iter(|| {
                n += 1;
                let copy = file.reflink(format!("c{n}").as_bytes()).expect("a new name");
                copy.sync().expect("a sound store");
            });
        });
    }
    g.finish();
}

fn copy_on_write(c: &mut Criterion) {
    let store = store("16G");
    let file = many_extents(&store, "f", 100_000).expect("room");
    let mut n = 0u64;
    c.bench_function("first_write_to_shared_block", |b| {
        b.iter_batched(
            || {
                n += 1;
                if n.is_multiple_of(50_000) {
                    store.remove(b"c").expect("it is there");
                }
                if n % 50_000 == 1 {
                    file.reflink(b"c").expect("a new name");
                }
                n % 50_000
            },
            |i| file.write_at(&[2; 4096], i * 2 * BLOCK).expect("room"),
            BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500))
        .sample_size(20);
    targets = plain, lookup, reflink, copy_on_write
}
criterion_main!(benches);
