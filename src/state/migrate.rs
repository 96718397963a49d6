//! From the formats of earlier programs to that of this one.
//!
//! Every document of state has a format: files and objects say theirs in the member `format`; entries of a journal have that of its header,
//! and records of resources and of deployments, which say none, have format 1. From format 2 on they have to say it. A document of an
//! older format goes through the steps from its format to [`FORMAT`], one at a time and in memory; what is read so is written in the new format by
//! the next checkpoint that changes it, which first keeps the last one as a backup. A newer one is refused.
//!
//! To change the format: raise [`FORMAT`], after which this file does not compile until [`STEPS`] has the step from the format before,
//! and write the fixture of the new format (`tests/formats.rs`). `file::migration_tests` and `bucket::tests::formats` put a
//! step in front of the table, and take a whole store through it.

#[cfg(test)]
pub(crate) mod older;

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::record::{FORMAT, from_json};

/// What a document is: the same member may mean different things in different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The application record.
    Application,
    /// The stage record of the file store.
    Stage,
    /// What is left of a stage that was removed, in the file store.
    Removal,
    /// The record of one resource, in the file store.
    Record,
    /// A backup, an export, or a replacement in the journal.
    Snapshot,
    /// The header of a journal of the file store.
    Journal,
    /// An entry of a journal of the file store.
    Entry,
    /// The record of a finished run.
    Deployment,
    /// The checkpoint of a stage in a bucket, and its backups.
    Checkpoint,
    /// A piece of the journal in a bucket.
    Segment,
    /// What could not be brought into a bucket and was kept on this machine.
    Kept,
    /// The lock of a stage in a bucket.
    Lock,
    /// The record of a bucket that is used as a store.
    Store,
}

/// A document that states its format.
pub(crate) trait Versioned {
    /// What it is, for the steps from older formats.
    const ROLE: Role;
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was written in this format, by a newer program.
    TooNew(u32),
    /// What is wrong with it.
    Wrong(String),
}

/// Turns the document of one format into that of the next.
pub(crate) type Step = fn(Role, Json) -> Result<Json, String>;

/// The step from format 1 to 2 first, and so on.
pub(crate) const STEPS: [Step; FORMAT as usize - 1] = [];

/// The format of documents that say none.
const UNSTATED: u32 = 1;

/// The steps that there are, and the format that the first begins at.
struct Table<'a> {
    oldest: u32,
    steps: Cow<'a, [Step]>,
}

#[cfg(not(test))]
fn table() -> Table<'static> {
    Table {
        oldest: 1,
        steps: Cow::Borrowed(&STEPS),
    }
}

#[cfg(test)]
thread_local! {
    /// A step from a format 0, for the tests of this thread.
    static BEFORE: std::cell::Cell<Option<Step>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
fn table() -> Table<'static> {
    let before = BEFORE.get();
    Table {
        oldest: 1 - u32::from(before.is_some()),
        steps: before.into_iter().chain(STEPS).collect(),
    }
}

/// Reads a document that states its format.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn read<T: DeserializeOwned + Versioned>(json: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Stated {
        format: u32,
    }
    let stated: Stated = from_json(json).map_err(Unreadable::Wrong)?;
    read_as(T::ROLE, stated.format, json)
}

/// Reads a document that need not state its format; `implied` is that of one that does not, where it stands in another document.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn read_unstated<T: DeserializeOwned>(
    role: Role,
    implied: Option<u32>,
    json: &[u8],
) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Stated {
        #[serde(default)]
        format: Option<u32>,
    }
    let implied = implied.unwrap_or(UNSTATED);
    // Most have this format, and are read once: one that states another is no `T` of this format.
    if implied == FORMAT
        && let Ok(value) = serde_json::from_slice(json)
    {
        return Ok(value);
    }
    let stated: Stated = from_json(json).map_err(Unreadable::Wrong)?;
    read_as(role, stated.format.unwrap_or(implied), json)
}

fn read_as<T: DeserializeOwned>(role: Role, found: u32, json: &[u8]) -> Result<T, Unreadable> {
    if found > FORMAT {
        return Err(Unreadable::TooNew(found));
    }
    through(&table(), role, found, json)
        .and_then(|json| from_json(&json))
        .map_err(Unreadable::Wrong)
}

fn through<'a>(
    table: &Table<'_>,
    role: Role,
    found: u32,
    json: &'a [u8],
) -> Result<Cow<'a, [u8]>, String> {
    let passed = found
        .checked_sub(table.oldest)
        .and_then(|passed| usize::try_from(passed).ok())
        .ok_or_else(|| format!("its format is {found}, which no program wrote"))?;
    let Some(steps @ [_, ..]) = table.steps.get(passed..) else {
        return Ok(Cow::Borrowed(json));
    };
    let mut document: Json = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut format = found;
    for step in steps {
        document = step(role, document)?;
        format += 1;
        if let Some(stated) = document.get_mut("format") {
            *stated = Json::from(format);
        }
    }
    serde_json::to_vec(&document)
        .map(Cow::Owned)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rename(role: Role, mut document: Json) -> Result<Json, String> {
        if role == Role::Stage {
            let serial = document["number"].take();
            document["serial"] = serial;
        }
        Ok(document)
    }

    fn double(_role: Role, mut document: Json) -> Result<Json, String> {
        let serial = document["serial"].as_u64().ok_or("it has no serial")?;
        document["serial"] = json!(serial * 2);
        Ok(document)
    }

    fn check(found: u32, document: &Json, expected: Result<Json, &str>) {
        let table = Table {
            oldest: 1,
            steps: Cow::Owned(vec![rename as Step, double]),
        };
        let bytes = document.to_string();
        let migrated = through(&table, Role::Stage, found, bytes.as_bytes())
            .map(|bytes| serde_json::from_slice::<Json>(&bytes).unwrap());
        assert_eq!(migrated, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_document_goes_through_every_step_from_its_format_on() {
        let first = json!({"format": 1, "number": 4});
        let last = json!({"format": 3, "number": null, "serial": 8});
        check(1, &first, Ok(last));
        let second = json!({"format": 2, "serial": 4});
        check(2, &second, Ok(json!({"format": 3, "serial": 8})));
        let third = json!({"format": 3, "serial": 8});
        check(3, &third, Ok(third.clone()));
        check(2, &json!({"format": 2}), Err("it has no serial"));
        check(
            0,
            &json!({}),
            Err("its format is 0, which no program wrote"),
        );
    }
}
