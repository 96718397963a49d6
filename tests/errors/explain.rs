//! `alch explain`: every id that a message can show is explained.

use std::collections::BTreeSet;

use snapbox::str;

use crate::support::Project;

#[test]
fn an_id() {
    Project::new().alch(["explain", "E0114"]).check(str![[r#"
exit 0
-- stdout
E0114: A plan cannot decide on a value that only the provider will know.

A plan asks nobody, so what a provider will only answer at the run is not known: it prints as
`(known after apply)`. It can be put into text, lists, maps and props. Comparing it, branching on
it or computing with it would give a false answer, so the plan stops in that scope, says so, and
marks what follows as conditional. `alch run` waits for the resource and decides.

In a run, `db.ref("id")` is such a value too: read `db.id` to wait for it.

"#]]);
}

#[test]
fn an_id_that_is_none() {
    Project::new().alch(["explain", "E0999"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: there is no error `E0999`
 = help: `alch explain` lists them all

"#]]);
}

#[test]
fn an_id_as_data() {
    let output = Project::new().alch(["explain", "e205", "--json"]).success();
    let messages = output.messages();
    assert_eq!(messages[1]["type"], "explanation");
    assert_eq!(messages[1]["code"], "E0205");
}

/// Reads the snapshots of this folder: what they show is what users see.
#[test]
fn every_id_of_the_snapshots_is_explained() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut ids = BTreeSet::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_none_or(|extension| extension != "rs")
        {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for sort in ["error[E", "warning[E"] {
            ids.extend(text.match_indices(sort).filter_map(|(at, _)| {
                let id = text.get(at + sort.len() - 1..at + sort.len() + 4)?;
                id[1..].parse::<u16>().is_ok().then(|| id.to_owned())
            }));
        }
    }
    assert!(ids.len() > 25, "{ids:?}");
    let list = Project::new().alch(["explain"]).success().stdout;
    for id in ids {
        assert!(list.contains(&format!("{id}  ")), "{id} is not listed");
        let output = Project::new().alch(["explain", &id]).success();
        assert!(output.stdout.lines().count() >= 3, "{}", output.stdout);
    }
}
