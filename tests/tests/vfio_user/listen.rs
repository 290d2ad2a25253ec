//! Sockets' files: made for the owner alone, taken over from the dead, never from the
//! living.

use freehold_engine::medium::ErrorKind;
use freehold_engine::vfio_user::server::{Server, ServerOptions};
use freehold_engine::vfio_user::{Client, ClientOptions};
use freehold_tests::vfio_user::{Dir, Served, kind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn bind(path: &Path) -> freehold_engine::medium::Result<Server> {
    Server::bind(path, &ServerOptions::default())
}

#[test]
fn the_file_is_for_the_owner_and_goes_with_the_server() {
    let dir = Dir::new();
    let path = dir.path("s");
    let server = bind(&path).unwrap();
    assert_eq!(server.path(), path);
    let meta = std::fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    drop(server);
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_dead_server_is_taken_over() {
    let dir = Dir::new();
    let path = dir.path("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener that just goes leaves its file");
    let connected = Client::connect(&path, &ClientOptions::default());
    assert_eq!(kind(connected), ErrorKind::NotFound);
    let server = bind(&path).unwrap();
    assert_eq!(kind(bind(&path)), ErrorKind::Busy);
    drop(server);
    drop(bind(&path).unwrap());
}

#[test]
fn a_live_server_is_left_alone() {
    let served = Served::new();
    let client = Client::connect(served.path(), &ClientOptions::default()).unwrap();
    assert_eq!(kind(bind(served.path())), ErrorKind::Busy);
    drop(client);
    // The look at it came and went as a client that said nothing.
    assert_eq!(kind(bind(served.path())), ErrorKind::Busy);
    let again = Client::connect(served.path(), &ClientOptions::default()).unwrap();
    assert!(again.bar_is_there());
}

/// Two servers that find the same dead file at once: one of them gets it.
#[test]
fn one_of_two_servers_gets_a_dead_file() {
    let dir = Dir::new();
    for round in 0..30 {
        let path = dir.path(&format!("s{round}"));
        drop(UnixListener::bind(&path).unwrap());
        let both: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| bind(&path)));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(both.iter().filter(|server| server.is_ok()).count(), 1, "{both:?}");
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }
}

#[test]
fn a_server_removes_no_file_but_its_own() {
    let dir = Dir::new();
    let path = dir.path("s");
    let server = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
    drop(other);
}

#[test]
fn paths_that_are_none_are_refused_with_what_to_do() {
    let dir = Dir::new();
    let file = dir.path("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(kind(bind(&file)), ErrorKind::Occupied);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert_eq!(kind(bind(&dir.path("no/such/s"))), ErrorKind::NotFound);
    let long = dir.path(&"x".repeat(120));
    assert_eq!(kind(bind(&long)), ErrorKind::Invalid);
    assert_eq!(kind(bind(Path::new(""))), ErrorKind::Invalid);
    let connect = |path: &Path| kind(Client::connect(path, &ClientOptions::default()));
    assert_eq!(connect(&dir.path("nobody")), ErrorKind::NotFound);
    assert_eq!(connect(&file), ErrorKind::NotFound);
    assert_eq!(connect(&long), ErrorKind::Invalid);
    assert_eq!(connect(Path::new("")), ErrorKind::Invalid);
}

/// A short look at a client that works.
trait BarIsThere {
    fn bar_is_there(&self) -> bool;
}

impl BarIsThere for Client {
    fn bar_is_there(&self) -> bool {
        freehold_engine::bus::Function::bar(self, 0).is_ok()
    }
}
