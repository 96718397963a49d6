//! Objects as they are now, by the list of their bucket. It is read only where known keys can be: from what all of them begin
//! with to the last of them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{HEADERS, Place, R2Object, outputs};
use crate::{
    model::{Map, Value},
    provider::{
        Difference, Existing, Observation, OperationContext, Provider as _, ProviderError,
        cloudflare::{client::Call, props},
        observe,
    },
};

/// Objects on one page, the most that the API gives.
const PER_PAGE: usize = 1000;

impl R2Object {
    /// The known objects that are there.
    pub(super) async fn observed(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let mut buckets: BTreeMap<(String, Option<String>), BTreeMap<&str, &Existing>> =
            BTreeMap::new();
        for existing in known {
            let place = Place::known(context, existing)?;
            let objects = buckets
                .entry((place.bucket, place.jurisdiction))
                .or_default();
            objects.insert(&existing.physical_name, existing);
        }
        if buckets.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::new();
        for ((bucket, jurisdiction), known) in buckets {
            let place = Place::new(&bucket, jurisdiction.as_deref());
            let (Some((first, _)), Some((last, _))) =
                (known.first_key_value(), known.last_key_value())
            else {
                continue;
            };
            let call = Call::get(format!("{}/objects", place.bucket_path()))
                .query("per_page", PER_PAGE.to_string());
            let call = match common(first, last) {
                "" => call,
                prefix => call.query("prefix", prefix),
            };
            let call = place.within(call);
            let listed = self
                .client
                .all_behind_cursors_until(context, &call, |item| {
                    props::text(item, "key").is_some_and(|key| key >= *last)
                })
                .await;
            let listed = match listed {
                // With the bucket its objects are gone.
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            for item in &listed {
                let key = props::text(item, "key").unwrap_or_default();
                if known.contains_key(key) {
                    let outputs = outputs(item, &place, key, &call.describe())?;
                    out.push(Observation {
                        id: self.object_id(key, &outputs),
                        physical_name: key.to_owned(),
                        props: shown(item),
                        outputs,
                    });
                }
            }
        }
        Ok(Some(out))
    }
}

/// What both begin with, and so everything between them.
fn common<'a>(first: &'a str, last: &str) -> &'a str {
    let end = first
        .char_indices()
        .zip(last.chars())
        .find(|((_, a), b)| a != b)
        .map_or(first.len().min(last.len()), |((at, _), _)| at);
    &first[..end]
}

/// The headers that an item of the list shows.
fn shown(item: &Json) -> Map {
    let mut out = Map::new();
    if let Some(metadata) = item.get("http_metadata") {
        // What the answer does not name is not set.
        for (prop, _) in HEADERS {
            out.insert(prop.to_owned(), Value::Null);
        }
        props::copy(&mut out, metadata, &[("contentType", "contentType")]);
        props::copy(&mut out, metadata, &HEADERS.map(|(prop, _)| (prop, prop)));
    }
    out
}

/// By what R2 knows the content by, its length and the headers.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut out = observe::compare(&existing.physical_name, &existing.props, seen);
    for output in ["etag", "size"] {
        out.extend(observe::compare_output(output, &existing.outputs, seen));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn the_common_beginning_ends_between_characters() {
        for (first, last, expected) in [
            ("a/b", "a/c", "a/"),
            ("a", "a/b", "a"),
            ("é1", "è2", ""),
            ("same", "same", "same"),
            ("a", "b", ""),
        ] {
            assert_eq!(common(first, last), expected);
        }
    }
}
