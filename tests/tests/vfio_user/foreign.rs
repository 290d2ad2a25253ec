//! Both ends against another's code: the crate `vfio_user`, where it is good enough (it
//! passes over errors that it is told, so it is asked for nothing that fails).

use freehold_engine::bus::Function;
use freehold_engine::medium::ErrorKind;
use freehold_engine::vfio_user::{Client, ClientOptions};
use freehold_tests::vfio_user::{Dir, Event, PAGE, Served, VECTORS, kind, reg, until};
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use vfio_bindings::bindings::vfio::{vfio_region_info, vfio_region_sparse_mmap_area};

fn memory() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("test", flags).unwrap();
    rustix::fs::ftruncate(&file, 2 * PAGE).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

#[test]
fn a_foreign_client_uses_our_server() {
    let served = Served::new();
    let mut client = vfio_user::Client::new(served.path()).unwrap();
    let mut id = [0; 4];
    client.region_read(7, 0, &mut id).unwrap();
    assert_eq!(id, [0x86, 0x80, 0x45, 0x58]);
    let region = client.region(0).unwrap();
    assert_eq!((region.size, region.sparse_areas.len()), (2 * PAGE, 1));
    assert_eq!((region.sparse_areas[0].offset, region.sparse_areas[0].size), (PAGE, PAGE));
    // The page that it may map is the one that its messages reach.
    let shared: OwnedFd = region.file_offset.as_ref().unwrap().file().try_clone().unwrap().into();
    client.region_write(0, PAGE + 4, b"shared").unwrap();
    let mut back = [0; 6];
    rustix::io::pread(&shared, &mut back, PAGE + 4).unwrap();
    assert_eq!(&back, b"shared");

    let file = memory();
    rustix::io::pwrite(&file, b"HAL", PAGE).unwrap();
    client.dma_map(PAGE, 0x7000, PAGE, file.as_raw_fd()).unwrap();
    client.region_write(0, reg::ADDRESS, &0x7000u64.to_le_bytes()).unwrap();
    client.region_write(0, reg::COUNT, &3u32.to_le_bytes()).unwrap();
    client.region_write(0, reg::GO, &[0; 4]).unwrap();
    let mut back = [0; 3];
    rustix::io::pread(&file, &mut back, PAGE).unwrap();
    assert_eq!(&back, b"IBM");
    client.dma_unmap(0x7000, PAGE).unwrap();

    let info = client.get_irq_info(2).unwrap();
    assert_eq!((info.count, info.flags & 1), (VECTORS, 1));
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    client.set_irqs(2, 4 | 1 << 5, 1, 1, &[event.as_raw_fd()]).unwrap();
    client.region_write(0, reg::SIGNAL, &[1, 0, 0, 0]).unwrap();
    assert_eq!(rustix::io::read(&event, &mut [0; 8]), Ok(8));
    client.reset().unwrap();
    client.shutdown().unwrap();
    until("it is gone", || served.control.saw(Event::Gone));
    let expected = [
        Event::Added(0x7000, PAGE),
        Event::Removed(0x7000, PAGE),
        Event::Attached(1, true),
        Event::Reset,
    ];
    assert_eq!(served.control.events()[..4], expected);
}

/// What a foreign server's device was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Wrote(u32, u64, Vec<u8>),
    Irqs(u32, u32, u32, u32, usize),
    Reset,
}

struct Backend {
    registers: Vec<u8>,
    told: Sender<Told>,
}

impl vfio_user::ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if region != 0 || offset >= PAGE {
            return Err(io::Error::other("no"));
        }
        data.copy_from_slice(&self.registers[offset as usize..][..data.len()]);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.registers[offset as usize..][..data.len()].copy_from_slice(data);
        self.told.send(Told::Wrote(region, offset, data.to_vec())).unwrap();
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: vfio_user::DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: vfio_user::DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.told.send(Told::Reset).unwrap();
        Ok(())
    }

    fn set_irqs(&mut self, i: u32, f: u32, s: u32, c: u32, fds: Vec<File>) -> io::Result<()> {
        self.told.send(Told::Irqs(i, f, s, c, fds.len())).unwrap();
        Ok(())
    }
}

fn regions(shared: &OwnedFd) -> Vec<vfio_user::ServerRegion> {
    let region = |index: u32| {
        let size = if index == 0 { 2 * PAGE } else { 0 };
        let flags = if index == 0 { 7 } else { 0 };
        let argsz = size_of::<vfio_region_info>() as u32;
        let region_info = vfio_region_info { argsz, flags, index, size, ..Default::default() };
        let area = vfio_region_sparse_mmap_area { offset: PAGE, size: PAGE };
        let areas = Vec::from([vfio_user::SparseArea { area }]);
        vfio_user::ServerRegion {
            region_info,
            sparse_areas: if index == 0 { areas } else { Vec::new() },
            mmap_fd: (index == 0).then_some(shared.as_raw_fd()),
        }
    };
    (0..9).map(region).collect()
}

#[test]
fn our_client_uses_a_foreign_server() {
    let (dir, shared) = (Dir::new(), memory());
    let path = dir.path("foreign.sock");
    let irq = |index| vfio_user::IrqInfo { index, flags: 1, count: u32::from(index == 2) * 3 };
    let irqs = (0..5).map(irq).collect();
    let server = vfio_user::Server::new(&path, true, irqs, regions(&shared)).unwrap();
    let (told, heard): (Sender<Told>, Receiver<Told>) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut backend = Backend { registers: vec![0; PAGE as usize], told };
            server.run(&mut backend).unwrap();
        });
        let client = Client::connect(&path, &ClientOptions::default()).unwrap();
        assert_eq!(client.vectors(), 3);
        let bar = client.bar(0).unwrap();
        bar.write32(0x40, 0x0102_0304).unwrap();
        assert_eq!(bar.read64(0x40).unwrap(), 0x0102_0304);
        assert_eq!(heard.recv().unwrap(), Told::Wrote(0, 0x40, vec![4, 3, 2, 1]));
        // The page that it shares is mapped.
        let register = bar.register(PAGE + 8).unwrap();
        assert!(register.is_mapped());
        register.write(7).unwrap();
        let mut back = [0; 4];
        rustix::io::pread(&shared, &mut back, PAGE + 8).unwrap();
        assert_eq!(back, [7, 0, 0, 0]);
        // Its errors are told, and it goes on.
        assert_eq!(kind(client.config(0, &mut [0; 4])), ErrorKind::Io);
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        client.attach(2, Some(event.as_fd())).unwrap();
        client.attach(2, None).unwrap();
        assert_eq!(heard.recv().unwrap(), Told::Irqs(2, 4 | 1 << 5, 2, 1, 1));
        assert_eq!(heard.recv().unwrap(), Told::Irqs(2, 4 | 1 << 5, 2, 1, 0));
        drop((client, bar, register));
    });
}
