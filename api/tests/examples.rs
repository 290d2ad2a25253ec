//! The examples run, and what they claim holds.

#[path = "../examples/buffer_pool.rs"]
mod buffer_pool;
#[path = "../examples/recalls_in_tokio.rs"]
mod recalls_in_tokio;

#[test]
fn a_buffer_pool_answers_recalls() {
    buffer_pool::main().unwrap();
}

#[test]
fn an_async_task_answers_recalls() {
    recalls_in_tokio::main().unwrap();
}
