//! A format 0 that never was, and the step from it: what tests take whole stores through.

use serde_json::Value as Json;

use super::{BEFORE, Role, Step};

/// In format 0 a physical name was called `place`, and the serial of a stage or a journal `number`.
const RENAMED: [(&str, &str); 2] = [("place", "physical_name"), ("number", "serial")];

/// Gives the members of a document their names in this format, or with `back` those of format 0.
pub(crate) fn rename(value: &mut Json, back: bool) {
    match value {
        Json::Object(map) => {
            for (old, new) in RENAMED {
                let (from, to) = if back { (new, old) } else { (old, new) };
                if let Some(member) = map.remove(from) {
                    map.insert(to.to_owned(), member);
                }
            }
            map.values_mut().for_each(|value| rename(value, back));
        }
        Json::Array(items) => items.iter_mut().for_each(|value| rename(value, back)),
        _ => {}
    }
}

/// The step from format 0 to 1.
pub(crate) fn step(role: Role, mut document: Json) -> Result<Json, String> {
    rename(&mut document, false);
    if matches!(role, Role::Record | Role::Deployment) {
        // In format 1 these say no format.
        document
            .as_object_mut()
            .ok_or("it is no object")?
            .remove("format");
    }
    Ok(document)
}

/// Puts a step in front of the table, for as long as it lives.
pub(crate) struct Older;

impl Older {
    pub(crate) fn with(step: Step) -> Self {
        BEFORE.set(Some(step));
        Self
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        BEFORE.set(None);
    }
}
