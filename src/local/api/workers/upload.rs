//! Uploads of code: the multipart body of metadata and modules, checked before anything is stored.

use axum::http::header;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, Part, into_object, now, parse_json},
        error::ApiError,
    },
    INVALID, REFUSED,
    assets::Assets,
    model::{Draft, Format, Module},
};

/// The largest upload, before compression.
const CODE_LIMIT: usize = 64 * 1024 * 1024;
const TAGS_LIMIT: usize = 100;

/// A checked upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) metadata: Map<String, Value>,
    pub(super) entry: String,
    pub(super) format: Format,
    /// In the order of the body.
    pub(super) contents: Vec<(Module, Bytes)>,
}

impl Upload {
    /// The version that it makes, with these bindings.
    pub(super) fn draft(&self, bindings: Vec<Value>, assets: Option<Assets>) -> Draft {
        Draft {
            source: "api",
            entry: self.entry.clone(),
            format: self.format,
            modules: self
                .contents
                .iter()
                .map(|(module, _)| module.clone())
                .collect(),
            bindings,
            assets,
            settings: versioned(&self.metadata),
            annotations: annotations(&self.metadata),
        }
    }
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(REFUSED, message)
}

/// Reads the body of an upload.
pub(super) fn read(call: &Call) -> Result<Upload, ApiError> {
    let Some(parts) = &call.parts else {
        return read_plain(call);
    };
    let metadata = call
        .part("metadata")
        .ok_or_else(|| ApiError::bad_request(INVALID, "the upload has no part `metadata`"))?;
    let metadata = into_object(parse_json(&metadata.bytes, INVALID)?, INVALID)?;
    of_parts(parts, metadata)
}

/// Reads an upload of code alone, whose main part a header may name in the place of metadata.
pub(super) fn read_code(call: &Call) -> Result<Upload, ApiError> {
    let Some(parts) = &call.parts else {
        return read_plain(call);
    };
    if call.part("metadata").is_some() {
        return read(call);
    }
    let named = [
        ("cf-worker-main-module-part", "main_module"),
        ("cf-worker-body-part", "body_part"),
    ];
    let metadata = named
        .into_iter()
        .filter_map(|(header, field)| Some((field.to_owned(), json!(call.header(header)?))))
        .collect();
    of_parts(parts, metadata)
}

fn of_parts(parts: &[Part], metadata: Map<String, Value>) -> Result<Upload, ApiError> {
    check(&metadata)?;
    let mut contents: Vec<(Module, Bytes)> = Vec::new();
    let mut size = 0_usize;
    for part in parts.iter().filter(|part| part.name != "metadata") {
        let module = module(part);
        if contents.iter().any(|(other, _)| other.name == module.name) {
            return Err(refused(format!(
                "module `{}` is uploaded twice",
                module.name
            )));
        }
        size = size.saturating_add(part.bytes.len());
        contents.push((module, part.bytes.clone()));
    }
    if size > CODE_LIMIT {
        return Err(ApiError::too_large(format!(
            "Your Worker exceeded the size limit of {CODE_LIMIT} bytes."
        )));
    }
    let name = |field: &str| match metadata.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(_) => Err(refused(format!("`{field}` must be a string"))),
    };
    let (entry, format) = match (name("main_module")?, name("body_part")?) {
        (Some(entry), None) => (entry, Format::Modules),
        (None, Some(entry)) => (entry, Format::Script),
        (Some(_), Some(_)) => {
            return Err(refused("`main_module` and `body_part` exclude each other"));
        }
        // Assets alone need no code.
        (None, None) if contents.is_empty() && has_assets(&metadata) => {
            (String::new(), Format::Modules)
        }
        (None, None) => return Err(refused("`main_module` or `body_part` is required")),
    };
    if !entry.is_empty() && !contents.iter().any(|(module, _)| module.name == entry) {
        return Err(refused(format!(
            "No such module \"{entry}\": the upload has no part of this name"
        )));
    }
    Ok(Upload {
        metadata,
        entry,
        format,
        contents,
    })
}

/// A service worker script as the whole body.
fn read_plain(call: &Call) -> Result<Upload, ApiError> {
    let kind = call.content_type().unwrap_or_default();
    if !matches!(kind.as_str(), "application/javascript" | "text/javascript") {
        return Err(ApiError::bad_request(
            INVALID,
            "Content-Type must be one of: application/javascript, text/javascript, multipart/form-data",
        ));
    }
    let entry = "worker.js".to_owned();
    let module = Module::of(&entry, "application/javascript", &call.body);
    Ok(Upload {
        metadata: Map::new(),
        entry,
        format: Format::Script,
        contents: vec![(module, call.body.clone())],
    })
}

fn module(part: &Part) -> Module {
    // Both are the module's path; some clients put it only in the file name.
    let name = part
        .file_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(&part.name);
    let kind = part
        .content_type
        .as_deref()
        .unwrap_or("application/octet-stream");
    Module::of(name, kind, &part.bytes)
}

fn has_assets(metadata: &Map<String, Value>) -> bool {
    metadata.get("assets").is_some_and(Value::is_object)
        || metadata.get("keep_assets") == Some(&Value::Bool(true))
}

fn check(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    let given = |field: &str| {
        metadata.get(field).is_some_and(|value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        })
    };
    if given("exports") {
        return Err(ApiError::bad_request(
            10074,
            "`exports` is not available in the local cloud: use `migrations`",
        ));
    }
    if given("containers") {
        return Err(refused(
            "containers are not available in the local cloud yet",
        ));
    }
    check_settings(metadata)
}

/// Checks the settings that uploads and PATCH share.
pub(super) fn check_settings(settings: &Map<String, Value>) -> Result<(), ApiError> {
    if let Some(date) = settings.get("compatibility_date").and_then(Value::as_str)
        && is_date(date)
    {
        let today = &now()[..10];
        if date > today.max(KNOWN_DATE) {
            return Err(refused(format!(
                "Can't set compatibility date in the future: \"{date}\". Today's date (UTC) is \"{today}\"."
            )));
        }
    }
    if let Some(observability) = settings.get("observability") {
        let parts = [
            observability,
            &observability["logs"],
            &observability["traces"],
        ];
        for part in parts {
            let rate = &part["head_sampling_rate"];
            let fits = |rate: f64| (0.0..=1.0).contains(&rate);
            if !rate.is_null() && !rate.as_f64().is_some_and(fits) {
                return Err(refused(format!(
                    "`head_sampling_rate` must be from 0 to 1, not {rate}"
                )));
            }
        }
    }
    for (name, value) in settings {
        let fits = match (name.as_str(), value) {
            (_, Value::Null) => true,
            ("compatibility_date", Value::String(date)) => is_date(date),
            ("tags" | "compatibility_flags", Value::Array(items)) => {
                items.len() <= TAGS_LIMIT && items.iter().all(Value::is_string)
            }
            ("keep_bindings", Value::Array(items)) => items.iter().all(Value::is_string),
            ("observability" | "placement" | "limits" | "annotations", value) => value.is_object(),
            ("logpush" | "keep_assets", value) => value.is_boolean(),
            ("assets", value) => value.is_object(),
            ("tail_consumers", Value::Array(items)) => {
                items.iter().all(|item| item["service"].is_string())
            }
            ("usage_model", value) => value.is_string(),
            (
                "compatibility_date"
                | "tags"
                | "compatibility_flags"
                | "keep_bindings"
                | "tail_consumers",
                _,
            ) => false,
            _ => true,
        };
        if !fits {
            return Err(refused(format!("`{name}` cannot be {value}")));
        }
    }
    Ok(())
}

/// The newest compatibility date that is in use; a clock that is slow does not make it one of the future.
const KNOWN_DATE: &str = "2026-07-30";

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// The settings that belong to a version.
const VERSIONED: [&str; 7] = [
    "compatibility_date",
    "compatibility_flags",
    "limits",
    "placement",
    "usage_model",
    "cache_options",
    "package_dependencies",
];
/// The settings that all versions of a script share.
const SHARED: [&str; 4] = ["logpush", "observability", "tags", "tail_consumers"];

/// The part of `settings` that belongs to a version.
pub(super) fn versioned(settings: &Map<String, Value>) -> Map<String, Value> {
    part(settings, &VERSIONED)
}

/// The part of `settings` that all versions share.
pub(super) fn shared(settings: &Map<String, Value>) -> Map<String, Value> {
    part(settings, &SHARED)
}

fn part(settings: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    settings
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The annotations of an upload.
pub(super) fn annotations(metadata: &Map<String, Value>) -> Map<String, Value> {
    metadata
        .get("annotations")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The types that `keep_bindings` names. Without it secrets stay, which clients rely on that never learn their values.
pub(super) fn keep_bindings(metadata: &Map<String, Value>) -> Vec<String> {
    match metadata.get("keep_bindings").and_then(Value::as_array) {
        Some(kinds) => kinds
            .iter()
            .filter_map(|kind| kind.as_str().map(str::to_owned))
            .collect(),
        None => ["secret_text", "secret_key"].map(str::to_owned).into(),
    }
}

/// Who uploads, as versions tell it.
pub(super) fn source(call: &Call) -> &'static str {
    match call.header(header::USER_AGENT.as_str()) {
        Some(agent) if agent.starts_with("wrangler/") => "wrangler",
        _ => "api",
    }
}

/// A setting, or `default` when it is not set.
pub(super) fn setting(settings: &Map<String, Value>, name: &str, default: Value) -> Value {
    settings
        .get(name)
        .filter(|value| !value.is_null())
        .cloned()
        .unwrap_or(default)
}

/// The settings of a script and a version as answers show them.
pub(super) fn shown_settings(
    shared: &Map<String, Value>,
    versioned: &Map<String, Value>,
) -> Map<String, Value> {
    let mut shown = versioned.clone();
    for (name, default) in [
        ("compatibility_flags", json!([])),
        ("usage_model", json!("standard")),
    ] {
        shown.insert(name.to_owned(), setting(versioned, name, default));
    }
    shown.extend(shown_shared(shared));
    shown
}

/// The shared settings as answers show them.
pub(super) fn shown_shared(shared: &Map<String, Value>) -> Map<String, Value> {
    [
        ("logpush", json!(false)),
        ("observability", Value::Null),
        ("tags", json!([])),
        ("tail_consumers", Value::Null),
    ]
    .into_iter()
    .map(|(name, default)| (name.to_owned(), setting(shared, name, default)))
    .map(|(name, value)| match name.as_str() {
        "observability" => (name, all_switches(value)),
        _ => (name, value),
    })
    .collect()
}

/// Observability with its switches all said, as answers have them; clients may leave them out.
fn all_switches(mut observability: Value) -> Value {
    if let Value::Object(map) = &mut observability {
        if let Some(Value::Object(logs)) = map.get_mut("logs") {
            logs.entry("enabled").or_insert(json!(false));
            logs.entry("invocation_logs").or_insert(json!(true));
        }
        map.entry("enabled").or_insert(json!(false));
    }
    observability
}
