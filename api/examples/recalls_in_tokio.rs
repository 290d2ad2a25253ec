//! A session's descriptor in an async runtime: a task sleeps on `Session::event_fd` by
//! tokio's `AsyncFd`, and answers when its lease is asked for back.
//!
//! The task holds a Write lease with bytes that it has not flushed. Another thread, of another
//! session, reflinks the file: that has to wait for the flush, so the task is told. It
//! flushes and gives the lease back, and the copy has its bytes.

use freehold::{Access, Event, LeaseBuffer, LeaseOptions, Memory, Queue, Session, Store};
use std::error::Error;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) fn main() -> Outcome<()> {
    let store = Store::format("mem:16M", &Default::default())?;
    store.set_lease_time(Duration::from_secs(60));
    let session = store.new_session()?;
    let file = session.create(b"table")?;
    file.write_at(&[0; 65536], 0)?;

    let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    let mut buffer = lease.buffer(Memory::Dma)?;
    buffer.pin_mut()?.store(0, b"written through the lease")?;
    drop(lease); // the buffer keeps it

    let other = store.new_session()?;
    let copier = std::thread::spawn(move || other.reflink(b"table", b"copy"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(answer(&session, &mut store.queue(4)?, buffer))?;

    let copy = copier.join().map_err(|_| "the copying thread panicked")??;
    let mut bytes = [0; 25];
    copy.read_at(&mut bytes, 0)?;
    assert_eq!(&bytes, b"written through the lease");
    println!("the copy has what was flushed when the lease was recalled");
    Ok(())
}

/// Sleeps until the lease is recalled, flushes, and gives it back.
async fn answer(session: &Session, queue: &mut Queue, buffer: LeaseBuffer) -> Outcome<()> {
    // A descriptor of its own for the runtime, which nobody closes under it.
    let fd = session.event_fd()?.try_clone_to_owned()?;
    #[allow(
        deprecated,
        reason = "what took its place is an unsafe call, for other types than this"
    )]
    let events = AsyncFd::with_interest(fd, Interest::READABLE)?;
    let id = buffer.lease().id();
    loop {
        // The runtime tells each change of the descriptor once: look first, then sleep.
        for event in session.events() {
            match event {
                Event::Recall { id: it, may_flush, grace, .. } if it == id => {
                    println!("lease {id} was recalled: {grace:?} are left");
                    if may_flush {
                        flush(queue, buffer)?;
                    }
                    return Ok(()); // the buffer is gone, and the lease with it
                }
                other => println!("told: {other:?}"),
            }
        }
        events.readable().await?.clear_ready();
    }
}

fn flush(queue: &mut Queue, buffer: LeaseBuffer) -> Outcome<()> {
    let mut done = Vec::new();
    queue
        .flush(buffer, 0)
        .map_err(|r| r.error.map_or("the queue is full".into(), |e| e.to_string()))?;
    while queue.poll(&mut done) == 0 {
        queue.wait(None)?;
    }
    for completion in done {
        completion.result?;
    }
    Ok(())
}
