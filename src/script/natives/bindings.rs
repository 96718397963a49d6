//! Functions for what a Worker is given that is no object of its own: `RateLimit(..)`, `Ai()`, `Service(worker, ..)`.

use rhai::{Dynamic, Engine, ImmutableString, Map};

use crate::{model::diagnostic::codes, provider::cloudflare::worker::MARK};

use super::super::{
    fault::{self, Outcome},
    handle::Resource,
};

/// Bindings that need nothing but their type: function and type.
const PLAIN: [(&str, &str); 4] = [
    ("Ai", "ai"),
    ("BrowserRendering", "browser"),
    ("Images", "images"),
    ("VersionMetadata", "version_metadata"),
];
/// Seconds that a rate limit can count over.
const PERIODS: [i64; 2] = [10, 60];

fn binding(kind: &'static str, fields: Map) -> Dynamic {
    let mut map = fields;
    map.insert(MARK.into(), kind.into());
    Dynamic::from_map(map)
}

fn wrong<T>(message: String) -> Outcome<T> {
    Err(fault::fail(codes::RUNTIME, message))
}

/// Refuses options that a function does not know.
fn known(function: &str, options: &Map, names: &[&str]) -> Outcome<()> {
    let unknown = options.keys().find(|key| !names.contains(&key.as_str()));
    match unknown {
        None => Ok(()),
        Some(key) => wrong(format!(
            "`{function}` has no option `{key}`: it takes {}",
            names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

fn number(options: &Map, names: &[&str]) -> Option<i64> {
    names
        .iter()
        .find_map(|name| options.get(*name))
        .and_then(|value| value.as_int().ok())
}

/// `RateLimit(#{ namespaceId: 1001, limit: 100, period: 60 })`; `simple: #{ limit, period }` is understood as well.
fn rate_limit(options: &Map) -> Outcome<Dynamic> {
    let names = ["namespaceId", "namespace_id", "limit", "period", "simple"];
    known("RateLimit", options, &names)?;
    let inner = options
        .get("simple")
        .and_then(|simple| simple.as_map_ref().ok().map(|map| map.clone()))
        .unwrap_or_else(|| options.clone());
    let id = ["namespaceId", "namespace_id"]
        .iter()
        .find_map(|name| options.get(*name))
        .map(ToString::to_string)
        .unwrap_or_default();
    if !id.parse::<u64>().is_ok_and(|id| id > 0) {
        return wrong(
            "`RateLimit` needs `namespaceId`: a positive number, the same for counters that are shared".to_owned(),
        );
    }
    let limit = number(&inner, &["limit"]);
    let Some(limit) = limit.filter(|limit| *limit > 0) else {
        return wrong("`RateLimit` needs `limit`: how many calls are let through".to_owned());
    };
    let period = number(&inner, &["period"]);
    let Some(period) = period.filter(|period| PERIODS.contains(period)) else {
        return wrong("`RateLimit` needs `period`: 10 or 60 seconds".to_owned());
    };
    let simple = Map::from([
        ("limit".into(), Dynamic::from_int(limit)),
        ("period".into(), Dynamic::from_int(period)),
    ]);
    let fields = Map::from([
        ("namespaceId".into(), id.into()),
        ("simple".into(), Dynamic::from_map(simple)),
    ]);
    Ok(binding("ratelimit", fields))
}

fn analytics(dataset: &str) -> Outcome<Dynamic> {
    if dataset.is_empty() {
        return wrong("`AnalyticsEngine` needs the name of a data set".to_owned());
    }
    let fields = Map::from([("dataset".into(), dataset.into())]);
    Ok(binding("analytics_engine", fields))
}

/// A service binding with what a plain handle cannot say.
fn service(function: &str, service: Option<Dynamic>, options: &Map) -> Outcome<Dynamic> {
    known(function, options, &["entrypoint", "props"])?;
    let mut fields = options.clone();
    if let Some(service) = service {
        fields.insert("service".into(), service);
    }
    Ok(binding("service", fields))
}

/// A binding of any type by its fields, as the API names them: for objects that no resource of the script stands for.
fn any(kind: &str, fields: &Map) -> Outcome<Dynamic> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if kind.is_empty() || !kind.chars().all(plain) {
        return wrong(format!(
            "`Binding` needs the type of the binding as Cloudflare's API calls it, such as `kv_namespace`, not `{kind}`"
        ));
    }
    let mut map = fields.clone();
    map.insert(MARK.into(), kind.into());
    Ok(Dynamic::from_map(map))
}

/// Registers all of them.
pub(super) fn register(engine: &mut Engine) {
    for (name, kind) in PLAIN {
        engine.register_fn(name, move || binding(kind, Map::new()));
    }
    engine.register_fn("Json", |value: Dynamic| {
        binding("json", Map::from([("json".into(), value)]))
    });
    engine.register_fn("RateLimit", |options: Map| rate_limit(&options));
    engine.register_fn("AnalyticsEngine", |dataset: ImmutableString| {
        analytics(&dataset)
    });
    engine.register_fn(
        "Service",
        |worker: Resource, options: Map| -> Outcome<Dynamic> {
            service("Service", Some(Dynamic::from(worker)), &options)
        },
    );
    engine.register_fn(
        "Service",
        |worker: ImmutableString, options: Map| -> Outcome<Dynamic> {
            service("Service", Some(worker.into()), &options)
        },
    );
    engine.register_fn("Binding", |kind: ImmutableString| any(&kind, &Map::new()));
    engine.register_fn("Binding", |kind: ImmutableString, fields: Map| {
        any(&kind, &fields)
    });
    engine.register_fn("Self", || service("Self", None, &Map::new()));
    engine.register_fn("Self", |options: Map| service("Self", None, &options));
}
