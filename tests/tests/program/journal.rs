//! A store whose journal is in another file, and what is said when that is lost.

use crate::program::device::emulated;
use crate::program::harness::{Place, bytes};

#[test]
fn a_journal_on_a_medium_of_its_own_is_made_shown_and_needed() {
    let place = Place::empty();
    let journal = format!("file:{}/ring", place.dir.display());
    let uri = format!("{}?journal={journal}", place.uri);
    let made =
        place.run(["format", &uri, "--size", "64M", "--journal-size", "1M", "--json"]).json();
    assert_eq!(made["journal"]["uri"], journal);
    assert_eq!(made["journal"]["bytes"], (1 << 20) - 8192);
    place.local("f", &bytes(1, 100_000));
    place.run(["put", &uri, "f", "f"]).ok();
    let info = place.run(["info", &uri, "--json"]).json();
    assert_eq!(info["journal"], made["journal"]);
    assert_eq!(info["journal"]["window"], false);
    let shown = place.run(["info", &uri]).ok();
    assert!(shown.contains(&journal) && shown.contains(made["journal"]["id"].as_str().unwrap()));
    let df = place.run(["df", &uri, "--json"]).json();
    assert_eq!(df["journal_apart"], (1 << 20) - 8192);
    assert!(place.run(["df", &uri]).ok().contains("journal apart"));
    assert_eq!(place.run(["check", &uri, "--json"]).json()["clean"], true);
    place.run(["ls", &place.uri]).refused(2, "journal=URI");
    assert!(place.run(["doctor", &uri]).ok().contains(&format!("its own, on {journal}")));
    let without = place.run(["doctor", &place.uri]);
    assert_eq!(without.code, Some(1));
    assert!(String::from_utf8_lossy(&without.stdout).contains("freehold check --discard-journal"));
    std::fs::rename(place.path("ring"), place.path("elsewhere")).unwrap();
    place.run(["ls", &uri]).refused(2, "--discard-journal");
    let elsewhere = format!("{}?journal=file:{}/elsewhere", place.uri, place.dir.display());
    assert_eq!(place.run(["ls", &elsewhere]).ok(), "f\n");
}

#[test]
fn a_journal_is_given_up_by_force_alone() {
    let place = Place::empty();
    let uri = format!("{}?journal=file:{}/ring", place.uri, place.dir.display());
    place.run(["format", &uri, "--size", "64M"]).ok();
    place.local("f", &bytes(1, 100_000));
    place.run(["put", &uri, "f", "f"]).ok();
    assert_eq!(place.run(["check", &uri, "--force"]).code, Some(2));
    place.run(["check", &uri, "--discard-journal", "--force"]).refused(1, "right journal");
    std::fs::remove_file(place.path("ring")).unwrap();
    for with in [&uri, &place.uri] {
        let said = place.run(["check", with, "--discard-journal"]);
        assert_eq!((said.code, &*said.stderr), (Some(1), ""));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("goes back to checkpoint") && text.contains("--force"), "{text}");
    }
    let said = place.run(["check", &place.uri, "--discard-journal", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&json["done"], json["lost"].is_null()), (&false.into(), true));
    place.run(["ls", &place.uri]).refused(2, "journal");
    assert!(place.run(["check", &uri, "--discard-journal", "--force"]).ok().contains("done"));
    assert_eq!(place.names(), ["f"]);
    place.assert_clean();
    place.run(["check", &place.uri, "--discard-journal"]).refused(1, "there is none");
}

#[test]
fn a_journal_on_the_region_of_the_stores_own_controller() {
    let place = Place::empty();
    let more = ["--backing", "disk", "--volatile-cache", "--pmr", "region:2M"];
    let device = || emulated(&place, &more);
    let first = device();
    let uri = "vfio-user:sock?journal=pmr";
    let made = place.run(["format", uri, "--json"]).json();
    assert_eq!(made["journal"]["uri"], "pmr:vfio-user:sock");
    assert_eq!(made["journal"]["window"], true);
    assert_eq!(made["journal"]["bytes"], (2 << 20) - 8192);
    place.local("f", &bytes(1, 100_000));
    place.run(["put", uri, "f", "f"]).ok();
    assert_eq!(place.run(["info", uri, "--json"]).json()["journal"], made["journal"]);
    assert!(place.run(["info", uri]).ok().contains("stores and a barrier"));
    // A kill loses what no flush and no barrier covered, of both.
    drop(first);
    let second = device();
    assert!(place.run(["cat", uri, "f"]).stdout == bytes(1, 100_000));
    assert_eq!(place.run(["check", uri, "--json"]).json()["clean"], true);
    place.run(["ls", "vfio-user:sock"]).refused(2, "journal=URI");
    place.run(["ls", "pmr:vfio-user:sock"]).refused(2, "holds the journal");
    place.run(["format", "pmr:vfio-user:sock"]).refused(2, "the journal of a Freehold store");
    place.run(["check", uri, "--discard-journal", "--force"]).refused(1, "right journal");
    drop(second);
    // The region of another controller.
    std::fs::rename(place.path("region"), place.path("elsewhere")).unwrap();
    let _third = device();
    place.run(["ls", uri]).refused(2, "holds no journal");
    let said = place.run(["check", uri, "--discard-journal", "--force"]).ok();
    assert!(said.contains("done"), "{said}");
    assert_eq!(place.run(["ls", "vfio-user:sock"]).ok(), "f\n");
}
