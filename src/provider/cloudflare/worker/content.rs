//! The modules of a deployed Worker as files, for import: what an upload of these files would send is what is there. What no call
//! gives back is refused, not left out.

use std::collections::BTreeSet;

use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Response, header};
use serde_json::Value as Json;

use super::{
    super::{client::Call, props},
    Worker,
    observe::of_settings,
    path,
};
use crate::{
    model::{Map, Value},
    provider::{Content, FailureKind, Observation, OperationContext, ProviderError},
};

/// Name of the one module of a Worker that is no modules.
const SCRIPT: &str = "worker.js";
/// Workers that are asked at once.
const AT_ONCE: usize = 4;
/// Modules that only debuggers read.
const SOURCE_MAP: &str = "application/source-map";
/// Types of bindings whose values no call shows.
const SECRETS: [&str; 2] = ["secret_text", "secret_key"];

fn refused(message: impl Into<String>, help: impl Into<String>) -> ProviderError {
    ProviderError::new(FailureKind::Refused, message).with_help(help)
}

fn serves_assets() -> ProviderError {
    refused(
        "it serves static assets, which no call gives back",
        "declare it with `assets: \"./folder\"` and `adopt: true`, and `alch run` takes it over",
    )
}

impl Worker {
    /// For each of `listed` why [`Self::content_of`] would refuse it, as far as the list and one call a Worker tell.
    pub(super) async fn refusals(
        &self,
        context: &OperationContext,
        listed: &[Observation],
    ) -> Result<Vec<Option<ProviderError>>, ProviderError> {
        let serving = &self.serving_assets(context).await?;
        stream::iter(listed.to_vec())
            .map(|mut seen| async move {
                let name = seen.physical_name.clone();
                if serving.contains(&name) {
                    return Ok(Some(serves_assets()));
                }
                let Some(settings) = self.get(context, path(&name, "/settings")).await? else {
                    return Ok(None);
                };
                seen.props.extend(of_settings(&settings, &name));
                Ok(self.declarable_bindings(&name, &mut seen).err())
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Adds the code to what is seen of a Worker: the hashes of its modules, and the one module where it is text, for a script
    /// that stands in the props. What cannot be read is not compared.
    pub(super) async fn code_of(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<(), ProviderError> {
        let call = Call::get(path(&seen.physical_name, "/content/v2"));
        let unknown = |error: &ProviderError| {
            matches!(error.kind, FailureKind::NotFound | FailureKind::Refused)
        };
        let answer = self.client.whole(context, &call).await;
        let response = match answer.map_err(ProviderError::from) {
            Err(error) if unknown(&error) => return Ok(()),
            response => response?,
        };
        let modules = match modules(response, &call).await {
            Err(error) if unknown(&error) => return Ok(()),
            found => found?.0,
        };
        if let [(_, content)] = &modules[..]
            && let Ok(text) = std::str::from_utf8(content)
        {
            seen.props.insert("script".to_owned(), Value::from(text));
        }
        seen.props.insert("modules".to_owned(), hashes(&modules));
        Ok(())
    }

    /// The Workers that serve static assets.
    async fn serving_assets(
        &self,
        context: &OperationContext,
    ) -> Result<BTreeSet<String>, ProviderError> {
        let answer = self
            .client
            .call(context, &Call::get("workers/scripts"))
            .await?;
        let items = answer.result.as_array().into_iter().flatten();
        let serving = items.filter(|item| {
            let has = item.get("has_assets").and_then(Json::as_bool);
            has == Some(true)
        });
        Ok(serving
            .filter_map(|item| props::text(item, "id"))
            .map(str::to_owned)
            .collect())
    }

    /// Everything that declares the Worker: settings go into `seen`, modules are answered.
    pub(super) async fn content_of(
        &self,
        context: &OperationContext,
        seen: &mut Observation,
    ) -> Result<Content, ProviderError> {
        let name = seen.physical_name.clone();
        let gone = || {
            ProviderError::new(
                FailureKind::NotFound,
                format!("the Worker `{name}` is gone"),
            )
        };
        if !self.complete(context, seen).await? {
            return Err(gone());
        }
        let mut notes = self.declarable_bindings(&name, seen)?;
        notes.extend(self.led(context, seen).await?);
        if self.serving_assets(context).await?.contains(&name) {
            return Err(serves_assets());
        }
        let call = Call::get(path(&name, "/content/v2"));
        let response = self.client.whole(context, &call).await?;
        let (modules, main) = modules(response, &call).await?;
        seen.props.insert("modules".to_owned(), hashes(&modules));
        seen.props.insert("noBundle".to_owned(), Value::Bool(true));
        if main.is_none() {
            seen.props.insert("format".to_owned(), Value::from("cjs"));
        }
        Ok(Content {
            files: modules,
            prop: "entrypoint",
            main: main.unwrap_or_else(|| SCRIPT.to_owned()),
            notes,
        })
    }

    /// Brings the bindings of `seen` to what a script writes; answers what it cannot write.
    fn declarable_bindings(
        &self,
        worker: &str,
        seen: &mut Observation,
    ) -> Result<Vec<String>, ProviderError> {
        let bindings = props::map_prop(&seen.props, "bindings");
        let (mut kept, mut names) = (Vec::new(), Vec::new());
        for (name, binding) in bindings.into_iter().flatten() {
            let field = |key: &str| binding.at(&[key.to_owned()]).and_then(Value::as_str);
            let kind = field("type").unwrap_or_default();
            if kind == "durable_object_namespace" && field("script_name") == Some(worker) {
                let class = field("class_name").unwrap_or_default();
                return Err(refused(
                    format!(
                        "it owns the Durable Object class `{class}` (binding `{name}`), which is a resource of its own"
                    ),
                    format!(
                        "declare both, the class as `{name}: DurableObjectNamespace(.., #{{ className: \"{class}\" }})` among the \
                         bindings, with `adopt: true`: `alch run` takes them over, and the objects keep their data"
                    ),
                ));
            }
            if SECRETS.contains(&kind) {
                names.push(format!("`{name}`"));
                let kind = Value::from(kind);
                if !kept.contains(&kind) {
                    kept.push(kind);
                }
            }
        }
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let note = format!(
            "no call shows the values of secrets ({}): `keepBindings` leaves them as they are; to set one from the script, bind \
             it as `secret(env(\"NAME\"))` and take its type out of `keepBindings` when all are bound",
            names.join(", ")
        );
        seen.props
            .insert("keepBindings".to_owned(), Value::Array(kept));
        Ok(vec![note])
    }
}

/// The hashes of modules by their names.
fn hashes(modules: &[(String, Vec<u8>)]) -> Value {
    let one = |(name, content): &(String, Vec<u8>)| {
        let hash = Value::from(blake3::hash(content).to_hex().to_string());
        let fields = Map::from([("hash".to_owned(), hash)]);
        (name.clone(), Value::Map(fields))
    };
    Value::Map(modules.iter().map(one).collect())
}

/// Modules by path, and the main one; none where it is one script.
async fn modules(
    response: Response<Bytes>,
    call: &Call,
) -> Result<(Vec<(String, Vec<u8>)>, Option<String>), ProviderError> {
    let text = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let content_type = text("content-type").unwrap_or_default();
    let entry = text("cf-entrypoint");
    if !content_type.starts_with("multipart/") {
        let content = response.into_body().to_vec();
        return Ok((vec![(SCRIPT.to_owned(), content)], None));
    }
    let unreadable = |reason: String| {
        let mut error = ProviderError::new(
            FailureKind::Refused,
            format!("its modules cannot be read: {reason}"),
        );
        error.call = Some(call.describe());
        error
    };
    let request = Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(response.into_body().into())
        .map_err(|error| unreadable(error.to_string()))?;
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let mut found = Vec::new();
    while let Some(part) = parts
        .next_field()
        .await
        .map_err(|error| unreadable(error.to_string()))?
    {
        let name = part.file_name().or(part.name()).unwrap_or_default();
        let name =
            clean(name).ok_or_else(|| unreadable(format!("`{name}` is no path below a folder")))?;
        let is_map = part.content_type() == Some(SOURCE_MAP);
        let content = part
            .bytes()
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        if !is_map {
            found.push((name, content.to_vec()));
        }
    }
    let entry = entry.as_deref().and_then(clean);
    let main = match entry {
        Some(entry) if found.iter().any(|(name, _)| *name == entry) => entry,
        _ => match found.first() {
            Some((name, _)) => name.clone(),
            None => return Err(unreadable("there are none".to_owned())),
        },
    };
    // Names are paths below what all share: an upload of the files would name them so.
    let shared = shared(&found);
    let below = |name: &str| name[shared..].to_owned();
    let main = below(&main);
    let mut out: Vec<(String, Vec<u8>)> = found
        .into_iter()
        .map(|(name, content)| (below(&name), content))
        .collect();
    out.sort_by(|a, b| (a.0 != main, &a.0).cmp(&(b.0 != main, &b.0)));
    Ok((out, Some(main)))
}

/// A module's name as a path below a folder; none where it leads out of it.
fn clean(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| *part != ".").collect();
    let fits = |part: &str| {
        !part.is_empty()
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    (!parts.is_empty() && parts.iter().all(|part| fits(part))).then(|| parts.join("/"))
}

/// Bytes of the folder that all names begin with.
fn shared(modules: &[(String, Vec<u8>)]) -> usize {
    let folder = |name: &str| name.rfind('/').map_or(0, |at| at + 1);
    let Some((first, _)) = modules.first() else {
        return 0;
    };
    let mut end = folder(first);
    while end > 0
        && !modules
            .iter()
            .all(|(name, _)| name.starts_with(&first[..end]))
    {
        end = folder(&first[..end - 1]);
    }
    end
}

/// What a Worker is declared with: what it shows, without what it has by itself.
pub(super) fn declarable(seen: &Observation) -> Map {
    let mut props = seen.props.clone();
    props.remove("modules");
    let kept = |value: &Value| !matches!(value, Value::Null);
    for (prop, keys) in [
        ("placement", &["mode", "region", "host", "hostname"][..]),
        ("limits", &["cpuMs", "subrequests"]),
        (
            "observability",
            &["enabled", "headSamplingRate", "logs", "traces"],
        ),
    ] {
        if let Some(Value::Map(map)) = props.get_mut(prop) {
            map.retain(|key, value| keys.contains(&key.as_str()) && kept(value));
            for inner in map.values_mut() {
                if let Value::Map(inner) = inner {
                    inner.retain(|_, value| kept(value));
                }
            }
        }
    }
    if props.get("observability")
        == Some(&Value::Map(Map::from([(
            "enabled".to_owned(),
            Value::Bool(true),
        )])))
    {
        props.remove("observability");
    }
    if let Some(Value::Array(tags)) = props.get_mut("tags") {
        tags.retain(|tag| !tag.as_str().is_some_and(super::observe::is_mark));
    }
    if let Some(Value::Map(bindings)) = props.remove("bindings") {
        let worker = seen.physical_name.as_str();
        let bindings: Map = bindings
            .into_iter()
            .filter_map(|(name, binding)| Some((name, super::bound::written(binding, worker)?)))
            .collect();
        props.insert("bindings".to_owned(), Value::Map(bindings));
    }
    super::import::declarable(&mut props);
    let by_itself = |prop: &str, value: &Value| match value {
        Value::Bool(value) => *value == (prop == "url"),
        Value::Array(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Null => true,
        _ => false,
    };
    props.retain(|prop, value| !by_itself(prop, value));
    props
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_folder() {
        assert_eq!(clean("./a/./b.js").as_deref(), Some("a/b.js"));
        for name in [
            "",
            "/etc/passwd",
            "../a.js",
            "a/../../b",
            "a\\b",
            "c:/x",
            "a//b",
            ".",
        ] {
            assert_eq!(clean(name), None, "{name}");
        }
    }

    #[test]
    fn what_all_names_begin_with_is_left_out() {
        let all = |names: &[&str]| -> usize {
            let list: Vec<_> = names
                .iter()
                .map(|name| ((*name).to_owned(), Vec::new()))
                .collect();
            shared(&list)
        };
        assert_eq!(all(&["index.js"]), 0);
        assert_eq!(all(&["src/index.js"]), 4);
        assert_eq!(all(&["src/a/index.js", "src/b.js"]), 4);
        assert_eq!(all(&["src/index.js", "lib/b.js"]), 0);
        assert_eq!(all(&["src/x.js", "srcs/b.js"]), 0);
    }
}
