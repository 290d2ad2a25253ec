//! The shortest way through everything.
use freehold::*;

#[test]
fn round_trip() {
    let store = Store::format("mem:64M", &Default::default()).unwrap();
    let f = store.create(b"a").unwrap();
    f.write_at(b"hello", 10).unwrap();
    f.sync().unwrap();
    let mut b = [0u8; 15];
    assert_eq!(f.read_at(&mut b, 0).unwrap(), 15);
    assert_eq!(&b[10..], b"hello");
    let g = f.reflink(b"b").unwrap();
    f.write_at(b"HELLO", 10).unwrap();
    g.read_at(&mut b, 0).unwrap();
    assert_eq!(&b[10..], b"hello");
    f.read_at(&mut b, 0).unwrap();
    assert_eq!(&b[10..], b"HELLO");
    store.checkpoint().unwrap();
    for i in 0..1000u64 {
        f.write_at(&[i as u8; 4096], i * 8192).unwrap();
    }
    assert_eq!(f.stat().unwrap().extents, 1000);
    let r = store.check().unwrap();
    assert!(r.clean(), "{r:?}");
    store.sync().unwrap();
    drop(g);
    store.remove(b"b").unwrap();
    f.truncate(5000).unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let r = store.check().unwrap();
    assert!(r.clean(), "{r:?}");
}
