//! `freehold check --discard-journal`: give up a journal that is lost.

use crate::failure::{Failure, Outcome};
use crate::{name, output, size};
use freehold::{Discarded, ErrorKind, OpenOptions, Store};
use serde_json::json;

/// Says what is lost, and with `force` goes on without the journal.
pub(super) fn run(uri: &str, force: bool, as_json: bool) -> Outcome {
    let said =
        Store::discard_journal(uri, &OpenOptions::default(), force).map_err(|error| match error
            .kind()
        {
            ErrorKind::Invalid | ErrorKind::Corrupt => Failure::new(error),
            _ => Failure::open(uri, &error),
        })?;
    if as_json {
        let lost = said.lost.as_ref().map(|lost| {
            let files: Vec<_> = lost.files.iter().map(|f| name::show(f)).collect();
            json!({ "groups": lost.groups, "records": lost.records, "files": files })
        });
        output::json(&json!({
            "store_id": name::hex(&said.store_id),
            "journal_id": name::hex(&said.journal_id),
            "checkpoint": said.checkpoint,
            "last_record": said.last_record,
            "refused": said.refused,
            "lost": lost,
            "uncertain": said.uncertain,
            "done": said.done,
        }))?;
    } else {
        for line in lines(&said) {
            output::line(line)?;
        }
    }
    if said.done { Ok(()) } else { Err(Failure::Told) }
}

fn lines(said: &Discarded) -> Vec<String> {
    let mut lines = vec![
        format!(
            "the store goes back to checkpoint {}, record {}: names, sizes and maps as of then",
            said.checkpoint, said.last_record
        ),
        "bytes that were overwritten since are the newer ones, also where files shared their \
         blocks then, or had them at another place"
            .to_string(),
    ];
    if let Some(why) = &said.refused {
        lines.push(format!("the journal that was named is of no use: {why}"));
    }
    match &said.lost {
        None => lines.push(
            "what came after that is lost; without the journal nobody can tell what it was"
                .to_string(),
        ),
        Some(lost) => {
            lines.push(format!(
                "lost are {} in {} that can be read",
                size::of(lost.records, "record"),
                size::of(lost.groups, "group")
            ));
            lines.extend(lost.files.iter().map(|file| format!("  {}", name::show(file))));
        }
    }
    if said.uncertain {
        lines.push(
            "one superblock is damaged: if it was the newer one, blocks of this checkpoint may \
             have been used again; run `freehold check` afterwards, and compare what matters \
             with a backup"
                .to_string(),
        );
    }
    lines.push(match said.done {
        true => format!(
            "done: the journal is in the store from now on; should journal {} come back, it is \
             refused",
            name::hex(&said.journal_id)
        ),
        false => "nothing was changed; --force does it".to_string(),
    });
    lines
}
