//! Workers as they are now. The list of an account's scripts tells whether the code is still the uploaded one; three calls a Worker
//! tell the rest (settings with bindings, schedules, address), because no list does. What leads to Workers from elsewhere is in
//! `leads`.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value as Json;

use super::{
    super::{client::Call, props},
    Worker, bound,
    leads::{self, Leads},
    metadata, migrations, path,
};
use crate::{
    model::{Map, Value, schema::camel_case},
    provider::{
        Difference, Existing, Observation, OperationContext, ProviderError, observe, text_prop,
    },
};

/// Workers that are asked at once; each is asked three things.
const AT_ONCE: usize = 4;

/// Props that the generic comparison must leave alone: compared below, or in modules of their own.
const APART: [&str; 8] = [
    "bindings",
    "crons",
    "domains",
    "eventSources",
    "modules",
    "routes",
    "tags",
    "tailConsumers",
];

/// One item of the list. `call` is the call for messages.
fn observation(item: &Json, call: &str) -> Result<Observation, ProviderError> {
    let name = props::needed_text(item, "id", call)?;
    let mut outputs = super::base_outputs(&name);
    props::copy(
        &mut outputs,
        item,
        &[
            ("created_on", "createdAt"),
            ("modified_on", "updatedAt"),
            ("etag", "etag"),
        ],
    );
    let mut seen = Map::new();
    props::copy(
        &mut seen,
        item,
        &[
            ("compatibility_date", "compatibilityDate"),
            ("compatibility_flags", "compatibilityFlags"),
            ("logpush", "logpush"),
        ],
    );
    Ok(Observation {
        id: name.clone(),
        physical_name: name,
        outputs,
        props: seen,
    })
}

impl Worker {
    /// The account's Workers; those among `known` with all that can be seen of them.
    pub(super) async fn observed(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Vec<Observation>, ProviderError> {
        let call = Call::get("workers/scripts");
        let answer = self.client.call(context, &call).await?;
        let items = answer.result.as_array().map_or(&[][..], Vec::as_slice);
        let listed = items
            .iter()
            .map(|item| observation(item, &call.describe()))
            .collect::<Result<Vec<_>, _>>()?;
        let leads = Leads::read(&self.client, context, known).await?;
        let leads = &leads;
        stream::iter(listed)
            .map(|mut seen| async move {
                let known = known
                    .iter()
                    .find(|known| known.physical_name == seen.physical_name);
                let Some(known) = known else {
                    return Ok(Some(seen));
                };
                if !self.complete(context, &mut seen).await? {
                    return Ok(None);
                }
                leads.show(known, &mut seen);
                Ok(Some(seen))
            })
            .buffered(AT_ONCE)
            .try_filter_map(|seen| async move { Ok(seen) })
            .try_collect()
            .await
    }

    /// Adds what only calls about this one Worker tell. `false` when it is gone since it was listed.
    pub(super) async fn complete(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<bool, ProviderError> {
        let name = seen.physical_name.clone();
        let (settings, schedules, address) = futures::try_join!(
            self.get(context, path(&name, "/settings")),
            self.get(context, path(&name, "/schedules")),
            self.get(context, path(&name, "/subdomain")),
        )?;
        let Some(settings) = settings else {
            return Ok(false);
        };
        seen.props.extend(of_settings(&settings, &name));
        let list = schedules
            .as_ref()
            .and_then(|answer| answer.get("schedules"));
        let list = list.and_then(Json::as_array).into_iter().flatten();
        let list = list.filter_map(|item| props::text(item, "cron"));
        seen.props
            .insert("crons".to_owned(), list.map(Value::from).collect());
        if let Some(address) = &address {
            let fields = [
                ("enabled", "url"),
                ("previews_enabled", "previewSubdomains"),
            ];
            props::copy(&mut seen.props, address, &fields);
        }
        Ok(true)
    }
}

/// The settings of a script as props. What can be switched off is said to be off where the answer is silent about it.
pub(super) fn of_settings(settings: &Json, name: &str) -> Map {
    let mut out = Map::new();
    props::copy(
        &mut out,
        settings,
        &[
            ("compatibility_date", "compatibilityDate"),
            ("compatibility_flags", "compatibilityFlags"),
            ("logpush", "logpush"),
            ("tags", "tags"),
        ],
    );
    for (field, prop, switches) in [
        (
            "observability",
            "observability",
            &[("enabled", Value::Bool(false))][..],
        ),
        ("placement", "placement", &[("mode", Value::Null)]),
        (
            "limits",
            "limits",
            &[("cpuMs", Value::Null), ("subrequests", Value::Null)],
        ),
    ] {
        let mut found = match settings.get(field) {
            Some(given @ Json::Object(_)) => match camel_keys(given) {
                Value::Map(map) => map,
                _ => Map::new(),
            },
            _ => Map::new(),
        };
        for (key, off) in switches {
            found
                .entry((*key).to_owned())
                .or_insert_with(|| off.clone());
        }
        out.insert(prop.to_owned(), Value::Map(found));
    }
    let tails = settings.get("tail_consumers").and_then(Json::as_array);
    let tails = tails.into_iter().flatten();
    let tails = tails.filter_map(|tail| props::text(tail, "service"));
    out.insert("tailConsumers".to_owned(), tails.map(Value::from).collect());
    out.insert("bindings".to_owned(), bound::found(settings, name));
    out
}

fn camel_keys(json: &Json) -> Value {
    match json {
        Json::Object(map) => Value::Map(
            map.iter()
                .map(|(key, value)| (camel_case(key), camel_keys(value)))
                .collect(),
        ),
        Json::Array(items) => items.iter().map(camel_keys).collect(),
        other => Value::from_plain_json(other.clone()),
    }
}

/// As the default, by the hash that the provider gives the uploaded code, and by everything that is a set or lies elsewhere.
pub(super) fn compare(existing: &Existing, seen: &Observation) -> Vec<Difference> {
    let mut plain = existing.props.clone();
    plain.retain(|key, _| !APART.contains(&key.as_str()));
    let mut out = observe::compare(&existing.physical_name, &plain, seen);
    let hash = |outputs: &Map| {
        outputs
            .get("etag")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if let (Some(state), Some(found)) = (hash(&existing.outputs), hash(&seen.outputs))
        && state != found
    {
        out.push(Difference {
            path: vec!["code".to_owned()],
            state: Value::from(state),
            found: Value::from(found),
        });
    }
    out.extend(compare_code(&existing.props, &seen.props));
    for prop in ["crons", "tags", "tailConsumers"] {
        out.extend(compare_sets(existing, seen, prop));
    }
    out.extend(bound::compare(existing, seen));
    out.extend(leads::compare(existing, seen));
    out
}

/// The differences of modules, which only an import and an adoption see. A source map is no code.
fn compare_code(declared: &Map, seen: &Map) -> Vec<Difference> {
    let Some(found) = seen.get("modules").and_then(Value::as_map) else {
        return Vec::new();
    };
    // A script that stands in the props is compared as it is, where what is there is one, too.
    if let Some(script) = declared.get("script")
        && !seen.contains_key("script")
    {
        return vec![Difference {
            path: vec!["script".to_owned()],
            state: script.clone(),
            found: Value::Null,
        }];
    }
    let Some(list) = declared.get("modules").and_then(Value::as_array) else {
        return Vec::new();
    };
    let modules = list.iter().filter_map(|module| {
        let module = module.as_map()?;
        Some((text_prop(module, "name")?, text_prop(module, "hash")?))
    });
    let declared: BTreeMap<&str, &str> = modules.collect();
    let found: BTreeMap<&str, &str> = found
        .iter()
        .filter_map(|(name, module)| Some((name.as_str(), text_prop(module.as_map()?, "hash")?)))
        .collect();
    let is_map = |name: &str| {
        let of = name.strip_suffix(".map");
        of.is_some_and(|of| declared.contains_key(of) || found.contains_key(of))
    };
    let names: BTreeSet<&str> = declared.keys().chain(found.keys()).copied().collect();
    let hash = |hashes: &BTreeMap<&str, &str>, name: &str| {
        hashes
            .get(name)
            .map_or(Value::Null, |hash| Value::from(*hash))
    };
    names
        .into_iter()
        .filter(|name| !is_map(name) && declared.get(name) != found.get(name))
        .map(|name| Difference {
            path: ["modules", name, "hash"].map(str::to_owned).to_vec(),
            state: hash(&declared, name),
            found: hash(&found, name),
        })
        .collect()
}

/// The difference of two lists whose order says nothing. Marks are no tags of the user's.
fn compare_sets(existing: &Existing, seen: &Observation, prop: &str) -> Option<Difference> {
    let declared = existing.props.get(prop)?.as_array()?;
    let found = seen.props.get(prop)?.as_array()?;
    let name = |value: &Value| match value {
        Value::Resource(view) => Some(view.physical_name.clone()),
        other => other.as_str().map(str::to_owned),
    };
    // One that is not known cannot be told from the others.
    let declared: BTreeSet<String> = declared.iter().map(name).collect::<Option<_>>()?;
    let found: BTreeSet<String> = found
        .iter()
        .filter_map(name)
        .filter(|item| prop != "tags" || !is_mark(item))
        .collect();
    let list = |set: BTreeSet<String>| set.into_iter().map(Value::from).collect();
    (declared != found).then(|| Difference {
        path: vec![prop.to_owned()],
        state: list(declared),
        found: list(found),
    })
}

/// Whether a tag was set by a program and not by the user.
pub(super) fn is_mark(tag: &str) -> bool {
    tag.starts_with(metadata::MARK) || migrations::is_mark(tag)
}
