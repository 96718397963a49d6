//! Static assets: the files of a folder that are served before, or instead of, a Worker's code.
//!
//! State keeps one hash over all files and their rules. Contents are read when Cloudflare asks for them, a bucket at a time.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

use super::{
    super::{
        client::Call,
        multipart::Part,
        props::{self, mistake},
    },
    MARK, Worker, files,
    files::Files,
    path,
};
use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{
        Access, Existing, FailureKind, OperationContext, PropError, ProviderError, text_prop,
    },
    util::fs,
};

/// The binding when the script names none.
const BINDING: &str = "ASSETS";

/// The prop.
pub(super) fn prop() -> Prop {
    let object = vec![
        Prop::new("directory", PropType::String, "the folder of the files"),
        Prop::new("path", PropType::String, "another word for `directory`"),
        Prop::new(
            "binding",
            PropType::String,
            "the name under which the code finds them in `env`, `ASSETS` by default",
        ),
        Prop::new(
            "htmlHandling",
            PropType::OneOf(&[
                "auto-trailing-slash",
                "force-trailing-slash",
                "drop-trailing-slash",
                "none",
            ]),
            "how addresses of pages are written",
        ),
        Prop::new(
            "notFoundHandling",
            PropType::OneOf(&["none", "404-page", "single-page-application"]),
            "what is answered where there is no file",
        ),
        Prop::new(
            "runWorkerFirst",
            PropType::Either(vec![
                PropType::Bool,
                PropType::List(Box::new(PropType::String)),
            ]),
            "whether, or for which paths, the code is asked before the files",
        ),
        Prop::new(
            "_headers",
            PropType::String,
            "headers of the answers, instead of the file `_headers`",
        ),
        Prop::new(
            "_redirects",
            PropType::String,
            "redirects, instead of the file `_redirects`",
        ),
    ];
    Prop::new(
        "assets",
        PropType::Either(vec![PropType::String, PropType::Object(object)]),
        "the folder of static files to serve, and how they are served",
    )
}

/// Brings all ways to name assets to one form, and puts the hash of the files into it.
pub(super) fn normalise(
    folder: &Path,
    access: &Access,
    props: &mut Map,
    errors: &mut Vec<PropError>,
) {
    let bound = take_bound(props, errors);
    let mut assets = match props.remove("assets") {
        None if bound.is_none() => return,
        None => Map::new(),
        Some(Value::String(directory)) => {
            Map::from([("directory".to_owned(), Value::String(directory))])
        }
        Some(Value::Map(map)) => map,
        Some(_) => {
            errors.push(unknown(&["assets"]));
            return;
        }
    };
    if let Err(mut error) = props::merge_alias(&mut assets, "directory", "path") {
        error.path.insert(0, "assets".to_owned());
        errors.push(error);
        return;
    }
    if let Some((binding, directory)) = bound {
        for (key, value) in [("directory", directory), ("binding", Value::from(binding))] {
            if assets.get(key).is_some_and(|other| *other != value) {
                let message = format!("`{key}` of the assets is given here and in `bindings`");
                errors.push(mistake(
                    &["assets", key],
                    message,
                    "keep one of them".to_owned(),
                ));
            }
            assets.insert(key.to_owned(), value);
        }
    }
    if !assets.values().all(is_known) {
        errors.push(unknown(&["assets"]));
        return;
    }
    let has_code = props.contains_key("entrypoint") || props.contains_key("script");
    if has_code {
        assets
            .entry("binding".to_owned())
            .or_insert(Value::from(BINDING));
    } else {
        assets.remove("binding");
        if assets
            .get("runWorkerFirst")
            .is_some_and(|first| *first != Value::Bool(false))
        {
            errors.push(mistake(
                &["assets", "runWorkerFirst"],
                "the Worker has no code that could be asked first",
                "give an `entrypoint`, or leave this out".to_owned(),
            ));
        }
    }
    if let Some(name) = text_prop(&assets, "binding") {
        let taken = ["bindings", "env"].into_iter().find(|prop| {
            let map = props.get(*prop).and_then(Value::as_map);
            map.is_some_and(|map| map.contains_key(name))
        });
        if let Some(prop) = taken {
            errors.push(mistake(
                &[prop, name],
                format!("`{name}` is the binding to the static assets"),
                "choose another name, or set `binding` of `assets`".to_owned(),
            ));
        }
    }
    let Some(directory) = text_prop(&assets, "directory") else {
        errors.push(mistake(
            &["assets"],
            "`directory` is missing",
            "add `directory: \"./public\"`: the folder of the files".to_owned(),
        ));
        return;
    };
    match files::collect(folder, access, directory) {
        Ok(found) => {
            assets.insert("files".to_owned(), Value::from(found.hash()));
        }
        Err((message, help)) => errors.push(mistake(&["assets"], message, help)),
    }
    props.insert("assets".to_owned(), Value::Map(assets));
}

/// Takes the value of `Assets(..)` out of the bindings: its name and its folder.
fn take_bound(props: &mut Map, errors: &mut Vec<PropError>) -> Option<(String, Value)> {
    let mut found: Option<(String, Value)> = None;
    for prop in ["bindings", "env"] {
        let Some(Value::Map(map)) = props.get_mut(prop) else {
            continue;
        };
        let names: Vec<String> = map
            .iter()
            .filter(|(_, value)| is_assets(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let directory = match map.remove(&name) {
                Some(Value::Map(mut value)) => value.remove("path").unwrap_or(Value::Null),
                _ => Value::Null,
            };
            if found.is_some() {
                errors.push(mistake(
                    &[prop, &name],
                    "a Worker has one folder of static assets",
                    "keep one of them".to_owned(),
                ));
            }
            found = Some((name, directory));
        }
    }
    found
}

fn is_assets(value: &Value) -> bool {
    value
        .as_map()
        .is_some_and(|map| map.get(MARK).and_then(Value::as_str) == Some("assets"))
}

fn is_known(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(is_known),
        Value::String(_) | Value::Bool(_) => true,
        _ => false,
    }
}

fn unknown(path: &[&str]) -> PropError {
    mistake(
        path,
        "static assets must be known before the run",
        "write the folder and the options themselves".to_owned(),
    )
}

/// The binding that the code finds the assets by.
pub(super) fn binding(props: &Map) -> Option<Json> {
    let assets = props::map_prop(props, "assets")?;
    let name = text_prop(assets, "binding")?;
    Some(json!({ "name": name, "type": "assets" }))
}

/// How the assets are served, as the API takes it.
fn config(assets: &Map, found: &Files) -> Json {
    let mut out = json!({});
    for (prop, field) in [
        ("htmlHandling", "html_handling"),
        ("notFoundHandling", "not_found_handling"),
    ] {
        if let Some(text) = text_prop(assets, prop) {
            out[field] = json!(text);
        }
    }
    match assets.get("runWorkerFirst") {
        Some(Value::Bool(first)) => out["run_worker_first"] = json!(first),
        Some(Value::Array(rules)) => {
            let rules: Vec<&str> = rules.iter().filter_map(Value::as_str).collect();
            out["run_worker_first"] = json!(rules);
        }
        _ => {}
    }
    for (prop, file) in [
        ("_headers", &found.headers),
        ("_redirects", &found.redirects),
    ] {
        if let Some(text) = text_prop(assets, prop).or(file.as_deref()) {
            out[prop] = json!(text);
        }
    }
    out
}

impl Worker {
    /// Uploads the files that Cloudflare has not; adds what the metadata says about assets. Files of a Worker that has the
    /// very same ones are left alone.
    pub(super) async fn with_assets(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        existing: Option<&Existing>,
        metadata: &mut Json,
    ) -> Result<(), ProviderError> {
        let Some(assets) = props::map_prop(props, "assets") else {
            return Ok(());
        };
        let found = Arc::new(load(context, assets).await?);
        metadata["assets"] = json!({ "config": config(assets, &found) });
        let same = |existing: &&Existing| {
            let before = props::map_prop(&existing.props, "assets");
            let files = |assets: &Map| text_prop(assets, "files").map(str::to_owned);
            existing.settled && before.and_then(files) == files(assets)
        };
        if existing.filter(same).is_some() {
            metadata["keep_assets"] = json!(true);
            return Ok(());
        }
        let manifest: BTreeMap<&str, Json> = found
            .files
            .iter()
            .map(|file| {
                let entry = json!({ "hash": file.hash, "size": file.size });
                (file.name.as_str(), entry)
            })
            .collect();
        let call = Call::post(path(name, "/assets-upload-session"))
            .idempotent()
            .json(&json!({ "manifest": manifest }));
        let answer = self.client.call(context, &call).await?;
        let mut token = props::needed_text(&answer.result, "jwt", &call.describe())?;
        let session = token.clone();
        let buckets: Vec<Vec<String>> = answer
            .result
            .get("buckets")
            .filter(|buckets| !buckets.is_null())
            .map(|buckets| serde_json::from_value(buckets.clone()))
            .transpose()
            .map_err(|error| {
                let message = format!("the answer's `buckets` cannot be read: {error}");
                ProviderError::new(FailureKind::Ambiguous, message)
            })?
            .unwrap_or_default();
        let count = buckets.len();
        for (index, bucket) in buckets.into_iter().enumerate() {
            if count > 1 {
                let text = format!("uploading static assets, part {} of {count}", index + 1);
                (context.progress)(&text);
            }
            let parts = read(Arc::clone(&found), bucket).await?;
            let call = Call::post("workers/assets/upload")
                .query("base64", "true")
                .idempotent()
                .bearer(&session)
                .multipart(&parts);
            let answer = self.client.call(context, &call).await?;
            if let Some(last) = props::text(&answer.result, "jwt") {
                token = last.to_owned();
            }
        }
        if count > 0 && token == session {
            return Err(ProviderError::new(
                FailureKind::Ambiguous,
                "Cloudflare did not confirm the upload of the static assets",
            )
            .with_help("run again: what was uploaded is kept"));
        }
        metadata["assets"]["jwt"] = json!(token);
        Ok(())
    }
}

async fn load(context: &OperationContext, assets: &Map) -> Result<Files, ProviderError> {
    let (folder, access) = (Arc::clone(&context.folder), Arc::clone(&context.access));
    let directory = text_prop(assets, "directory")
        .unwrap_or_default()
        .to_owned();
    let expected = text_prop(assets, "files").map(str::to_owned);
    blocking(move || {
        let found = files::collect(&folder, &access, &directory).map_err(|(message, help)| {
            ProviderError {
                help,
                ..ProviderError::new(FailureKind::Refused, message)
            }
        })?;
        if expected.as_deref() == Some(&found.hash()) {
            return Ok(found);
        }
        Err(changed(&directory))
    })
    .await
}

/// The parts of one upload.
async fn read(found: Arc<Files>, bucket: Vec<String>) -> Result<Vec<Part>, ProviderError> {
    blocking(move || {
        bucket
            .into_iter()
            .map(|hash| {
                let file = found
                    .files
                    .iter()
                    .find(|file| file.hash == hash)
                    .ok_or_else(|| {
                        let message = format!("Cloudflare asks for a file `{hash}`, which is none");
                        ProviderError::new(FailureKind::Refused, message)
                    })?;
                let content = fs::read(&file.path).map_err(|error| {
                    let message = format!("{error}: {}", error.source);
                    ProviderError::new(FailureKind::Refused, message)
                })?;
                if files::hash(&file.path, &content) != hash {
                    return Err(changed(&file.path.display().to_string()));
                }
                Ok(Part {
                    name: hash.clone(),
                    file_name: Some(hash),
                    content_type: file.content_type.to_owned(),
                    content: STANDARD.encode(content).into(),
                })
            })
            .collect()
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            let message = format!("the static assets cannot be read: {error}");
            Err(ProviderError::new(FailureKind::Refused, message))
        })
}

fn changed(what: &str) -> ProviderError {
    let message = format!("the static assets in `{what}` changed during the run");
    ProviderError::new(FailureKind::Refused, message).with_help("run again")
}
