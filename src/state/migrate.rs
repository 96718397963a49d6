//! From the formats of earlier programs to that of this one.
//!
//! Every file of state says its format. A file of an older one goes through the steps from its format to [`FORMAT`], one at a time and
//! in memory; what is read so is written in the new format by the next checkpoint, which first keeps the last one as a backup.
//!
//! To change the format: raise [`FORMAT`], after which this file does not compile until [`STEPS`] has the step from the format before,
//! and write the fixture of the new format (`tests/formats.rs`).

use std::borrow::Cow;

use serde_json::Value as Json;

use super::record::FORMAT;

/// What a file is: the same member may mean different things in different files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The application record.
    Application,
    /// The stage record.
    Stage,
    /// A backup, an export, or a replacement in the journal.
    Snapshot,
    /// The header of a journal.
    Journal,
}

/// Turns the document of one format into that of the next.
pub(crate) type Step = fn(Role, Json) -> Result<Json, String>;

/// The step from format 1 to 2 first, and so on.
pub(crate) const STEPS: [Step; FORMAT as usize - 1] = [];

/// Brings a document of format `found` to this program's format.
///
/// # Errors
/// What is wrong with it. A newer format is the caller's to refuse.
pub(crate) fn migrate(role: Role, found: u32, json: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    through(&STEPS, role, found, json)
}

fn through<'a>(
    steps: &[Step],
    role: Role,
    found: u32,
    json: &'a [u8],
) -> Result<Cow<'a, [u8]>, String> {
    let passed = usize::try_from(found)
        .ok()
        .and_then(|found| found.checked_sub(1))
        .ok_or("its format is 0, which no program wrote")?;
    let Some(steps @ [_, ..]) = steps.get(passed..) else {
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
        let steps: [Step; 2] = [rename, double];
        let bytes = document.to_string();
        let migrated = through(&steps, Role::Stage, found, bytes.as_bytes())
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
