//! Our client and our server, as they are meant to work together.

use freehold_engine::bus::Function;
use freehold_engine::medium::ErrorKind;
use freehold_engine::vfio_user::{Client, ClientOptions, Mapping, Timeouts};
use freehold_tests::vfio_user::{Event, PAGE, Served, VECTORS, kind, reg, until};
use rustix::event::EventfdFlags;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn connect(served: &Served) -> Arc<Client> {
    Client::connect(served.path(), &ClientOptions::default()).unwrap()
}

#[test]
fn registers_go_by_messages_and_by_stores() {
    let served = Served::new();
    let client = connect(&served);
    let mut id = [0; 4];
    client.config(0, &mut id).unwrap();
    assert_eq!(id, [0x86, 0x80, 0x45, 0x58]);
    client.set_config(0x42, &[1, 2]).unwrap();
    let mut two = [0; 2];
    client.config(0x42, &mut two).unwrap();
    assert_eq!(two, [1, 2]);

    let bar = client.bar(0).unwrap();
    assert_eq!((bar.len(), bar.areas().len()), (2 * PAGE, 1));
    bar.write32(0x100, 0x0403_0201).unwrap();
    bar.write32(0x104, 5).unwrap();
    assert_eq!(bar.read64(0x100).unwrap(), 0x5_0403_0201);
    bar.write64(0x108, u64::MAX - 1).unwrap();
    assert_eq!(bar.read32(0x108).unwrap(), u32::MAX - 1);

    // The shared page, by stores and by messages: the same memory.
    let plain = ClientOptions { mapping: Mapping::Never, ..ClientOptions::default() };
    let register = bar.register(PAGE + 8).unwrap();
    assert!(register.is_mapped() && !bar.register(PAGE - 4).unwrap().is_mapped());
    register.write(0x1234_5678).unwrap();
    assert_eq!(bar.read32(PAGE + 8).unwrap(), 0x1234_5678);
    register.send(7).unwrap();
    assert_eq!(bar.read32(PAGE + 8).unwrap(), 7);
    drop((client, bar, register));
    let client = Client::connect(served.path(), &plain).unwrap();
    let bar = client.bar(0).unwrap();
    assert!(bar.areas().is_empty());
    assert_eq!(bar.read32(PAGE + 8).unwrap(), 7);

    assert_eq!(kind(client.bar(1)), ErrorKind::NotFound);
    assert_eq!(kind(client.bar(6)), ErrorKind::NotFound);
    assert_eq!(kind(client.bar(7)), ErrorKind::NotFound);
    assert_eq!(kind(client.config(1, &mut two)), ErrorKind::Invalid);
    assert_eq!(kind(client.config(0, &mut [0; 3])), ErrorKind::Invalid);
    assert_eq!(kind(client.config(4096, &mut two)), ErrorKind::Invalid);
    assert_eq!(kind(bar.write32(2 * PAGE, 0)), ErrorKind::Invalid);
    assert!(client.check().is_ok());
}

#[test]
fn errors_of_the_device_reach_the_driver_and_the_connection_goes_on() {
    let served = Served::new();
    let client = connect(&served);
    let bar = client.bar(0).unwrap();
    assert_eq!(kind(bar.write32(reg::FAIL, 0)), ErrorKind::Io);
    assert_eq!(kind(bar.write32(reg::FAIL, 1)), ErrorKind::Unsupported);
    assert_eq!(kind(bar.write32(reg::FAIL, 2)), ErrorKind::Limit);
    assert_eq!(kind(bar.write32(reg::GO, 0)), ErrorKind::Io);
    bar.write32(0x100, 1).unwrap();
    client.reset().unwrap();
    assert_eq!(bar.read32(0x100).unwrap(), 0);
    assert!(served.control.saw(Event::Reset));
}

#[test]
fn vectors_are_attached_and_signalled() {
    let served = Served::new();
    let client = connect(&served);
    assert_eq!(client.vectors(), VECTORS);
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    client.attach(2, Some(event.as_fd())).unwrap();
    assert_eq!(kind(client.attach(VECTORS, Some(event.as_fd()))), ErrorKind::Invalid);
    // Anything that is no eventfd is refused.
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(kind(client.attach(1, Some(file.as_fd()))), ErrorKind::Io);
    let bar = client.bar(0).unwrap();
    bar.write32(reg::SIGNAL, 2).unwrap();
    assert_eq!(rustix::io::read(&event, &mut [0; 8]), Ok(8));
    client.attach(3, None).unwrap();
    client.attach(2, None).unwrap();
    bar.write32(reg::SIGNAL, 2).unwrap();
    assert!(rustix::io::read(&event, &mut [0; 8]).is_err());
    let seen = served.control.events();
    assert_eq!(seen, [Event::Attached(2, true), Event::Attached(2, false)]);
}

#[test]
fn clients_are_served_one_after_another() {
    let served = Served::new();
    let first = connect(&served);
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { connect: short, ..Timeouts::default() };
    let options = ClientOptions { timeouts, ..ClientOptions::default() };
    let error = Client::connect(served.path(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    drop(first);
    // The one that gave up waits in the queue, is accepted and found closed.
    for _ in 0..3 {
        let next = connect(&served);
        next.bar(0).unwrap().write32(0x100, 9).unwrap();
    }
    until("all are gone", || {
        served.control.log.lock().unwrap().iter().filter(|e| **e == Event::Gone).count() == 5
    });
}

#[test]
fn a_busy_device_and_a_sleeping_one_both_answer() {
    let served = Served::new();
    let client = connect(&served);
    let bar = client.bar(0).unwrap();
    for busy in [true, false, true] {
        served.control.busy.store(busy, Ordering::Relaxed);
        for number in 0..100 {
            bar.write32(0x100, number).unwrap();
            assert_eq!(bar.read32(0x100).unwrap(), number);
        }
    }
}
