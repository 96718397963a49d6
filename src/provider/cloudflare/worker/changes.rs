//! What an update of a Worker has to send: only what is not known to be there already.

use serde_json::{Value as Json, json};

use super::{Worker, metadata, path, refused};
use crate::{
    model::Map,
    provider::{Existing, OperationContext, ProviderError},
};

use super::super::client::Call;

/// Props of the address, which a call of its own sets.
const ADDRESS: &[&str] = &["url", "previewSubdomains"];
/// Props of the schedules, likewise.
const SCHEDULES: &[&str] = &["crons"];
/// Props that are set after the upload, and compared where that is done.
const LATER: &[&str] = &["domains", "eventSources", "routes"];
/// Props that all versions share: they can change without a new one.
const SHARED: &[&str] = &["observability", "logpush", "tags", "tailConsumers"];

/// The parts that differ from what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changes {
    /// Code, bindings, or anything else that belongs to a version.
    pub(super) version: bool,
    /// What all versions share.
    pub(super) shared: bool,
    /// Where the Worker answers.
    pub(super) address: bool,
    /// When it is called.
    pub(super) schedules: bool,
}

impl Changes {
    /// Compares with a Worker that is there. Where it is not known for sure what that one has, everything counts as changed.
    pub(super) fn between(existing: &Existing, props: &Map) -> Self {
        let differs = |name: &str| !existing.settled || existing.props.get(name) != props.get(name);
        let any = |names: &[&str]| names.iter().any(|name| differs(name));
        let apart = |name: &str| {
            [ADDRESS, SCHEDULES, LATER, SHARED]
                .iter()
                .any(|names| names.contains(&name))
        };
        let version = !existing.settled
            || props
                .keys()
                .chain(existing.props.keys())
                .any(|name| !apart(name) && differs(name));
        Self {
            version,
            shared: any(SHARED),
            address: any(ADDRESS),
            schedules: any(SCHEDULES),
        }
    }

    /// Everything, for a Worker that is new.
    pub(super) fn all() -> Self {
        Self {
            version: true,
            shared: true,
            address: true,
            schedules: true,
        }
    }
}

impl Worker {
    /// Sets what all versions share, without a new one.
    pub(super) async fn share(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
    ) -> Result<(), ProviderError> {
        let mut body = json!({ "logpush": false, "tail_consumers": [] });
        let all = metadata::metadata(context, props, "")?;
        for field in ["observability", "logpush", "tags", "tail_consumers"] {
            if let Some(value) = all.get(field).filter(|value| **value != Json::Null) {
                body[field] = value.clone();
            }
        }
        let call = Call::patch(path(name, "/script-settings")).json(&body);
        let answer = self.client.call(context, &call).await;
        answer.map_err(|error| refused::settings(context, props, error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cloudflare::testing::{existing, map};

    #[test]
    fn only_what_differs_is_sent_and_all_of_it_after_a_failure() {
        let before = json!({ "script": "a", "url": true, "crons": [], "tags": ["a"] });
        let nothing = Changes {
            version: false,
            shared: false,
            address: false,
            schedules: false,
        };
        let mut known = existing("api", before.clone(), json!({}));
        let check = |known: &Existing, next: Json, expected: Changes| {
            assert_eq!(Changes::between(known, &map(next)), expected);
        };
        check(&known, before.clone(), nothing);
        let next = |key: &str, value: Json| {
            let mut next = before.clone();
            next[key] = value;
            next
        };
        let version = Changes {
            version: true,
            ..nothing
        };
        check(&known, next("script", json!("b")), version);
        check(&known, next("unheard", json!(1)), version);
        let schedules = Changes {
            schedules: true,
            ..nothing
        };
        check(&known, next("crons", json!(["* * * * *"])), schedules);
        let address = Changes {
            address: true,
            ..nothing
        };
        check(&known, next("url", json!(false)), address);
        let shared = Changes {
            shared: true,
            ..nothing
        };
        check(&known, next("tags", json!([])), shared);
        known.settled = false;
        check(&known, before, Changes::all());
    }
}
