//! What parses, what does not, and that the two directions agree.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn target(text: &str) -> Target {
    Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).target
}

fn refusal(text: &str) -> String {
    let error = Uri::parse(text).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    error.message().to_owned()
}

#[test]
fn every_medium_has_its_form() {
    let file = |path: &str| Target::File { path: path.into() };
    assert_eq!(target("file:/dev/sdb"), file("/dev/sdb"));
    assert_eq!(target("/dev/sdb"), file("/dev/sdb"));
    assert_eq!(target("store.fh"), file("store.fh"));
    assert_eq!(target("./nvme:x"), file("./nvme:x"));
    assert_eq!(target("a/b:c"), file("a/b:c"));
    assert_eq!(target("file:with%20space%3f"), file("with space?"));
    assert_eq!(target("mem:64M"), Target::Mem { bytes: 64 << 20 });
    assert_eq!(
        target("pmem:/mnt/x?volatile=1"),
        Target::Pmem { path: "/mnt/x".into(), volatile: true, exclusive: false }
    );
    assert_eq!(
        target("nvme:0000:01:00.0?ns=3"),
        Target::Nvme { address: "0000:01:00.0".into(), namespace: 3 }
    );
    assert_eq!(
        target("nvme:0A:1f.7"),
        Target::Nvme { address: "0000:0a:1f.7".into(), namespace: 1 }
    );
    assert_eq!(
        target("vfio-user:/run/x.sock"),
        Target::VfioUser { socket: "/run/x.sock".into(), namespace: 1 }
    );
    assert_eq!(
        target("pmr:vfio-user:/run/x"),
        Target::Pmr { controller: Controller::VfioUser("/run/x".into()) }
    );
    assert_eq!(
        target("pmr:0000:02:00.1"),
        Target::Pmr { controller: Controller::Pci("0000:02:00.1".into()) }
    );
    assert_eq!(target("broker:/run/b"), Target::Broker { socket: "/run/b".into() });
}

#[test]
fn paths_need_not_be_text() {
    let bytes = b"/tmp/\xff\xfe %?&=";
    let text = format!("file:{}", encode(bytes));
    assert_eq!(target(&text), Target::File { path: OsStr::from_bytes(bytes).into() });
}

#[test]
fn every_byte_survives_encoding() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
}

#[test]
fn a_journal_is_a_uri_inside() {
    let inner = Uri::parse("pmem:/mnt/j?volatile=1").unwrap();
    let text = format!("file:/dev/sdb?journal={}", encode(b"pmem:/mnt/j?volatile=1"));
    assert_eq!(Uri::parse(&text).unwrap().journal, Some(Journal::Medium(Box::new(inner))));
    assert_eq!(Uri::parse("nvme:01:00.0?journal=pmr").unwrap().journal, Some(Journal::Pmr));
    let nested = format!("file:a?journal={}", encode(b"file:b?journal=pmr"));
    assert!(refusal(&nested).contains("cannot have a journal"));
}

#[test]
fn mistakes_are_explained() {
    for (text, says) in [
        ("", "path is missing"),
        ("file:", "path is missing"),
        ("file:a%00b", "zero byte"),
        ("file:100%", "%25"),
        ("file:a%4", "%25"),
        ("file:a%é", "%25"),
        ("foo:bar", "no medium 'foo:'"),
        ("file:x?qd=3", "no key 'qd'"),
        ("file:x?ns=1", "no key 'ns'"),
        ("mem:1M?ns=1", "no key 'ns'"),
        ("nvme:01:00.0?ns=0", "from 1"),
        ("nvme:01:00.0?ns=x", "from 1"),
        ("nvme:01:00.0?ns=1&ns=2", "given twice"),
        ("nvme:01:00.0?ns", "no value"),
        ("pmem:x?volatile=yes", "0 or 1"),
        ("nvme:zz:00.0", "PCI address"),
        ("nvme:0000:01:20.0", "PCI address"),
        ("nvme:0000:01:00.8", "PCI address"),
        ("nvme:0000:01:00:00.0", "PCI address"),
        ("nvme:", "PCI address"),
        ("mem:", "not a size"),
        ("mem:-1", "not a size"),
        ("mem:1.5G", "not a size"),
        ("mem:K", "not a size"),
        ("mem:1é", "not a size"),
        ("mem:99999999999999999999", "not a size"),
        ("mem:16777216T", "not a size"),
    ] {
        let message = refusal(text);
        assert!(message.contains(says), "{text}: {message}");
    }
}

#[test]
fn sizes_are_powers_of_1024() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4K", 4 << 10),
        ("4k", 4 << 10),
        ("1M", 1 << 20),
        ("2G", 2 << 30),
        ("1T", 1 << 40),
        ("3p", 3 << 50),
    ] {
        assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn the_journal_of_a_uri_is_named() {
    let named = |text: &str| journal_uri(text).map_err(|e| e.kind());
    assert_eq!(named("file:/a"), Ok(None));
    assert_eq!(named("/a?journal=file:/b%2526c"), Ok(Some("file:/b%26c".to_owned())));
    assert_eq!(
        named("vfio-user:/s%20t?ns=2&journal=pmr"),
        Ok(Some("pmr:vfio-user:/s%20t".to_owned()))
    );
    assert_eq!(named("nvme:01:00.0?journal=pmr"), Ok(Some("pmr:0000:01:00.0".to_owned())));
    assert_eq!(named("file:/a?journal=pmr"), Err(ErrorKind::Invalid));
    assert_eq!(named("file:/a?journal=nothing:/b"), Err(ErrorKind::Invalid));
}
