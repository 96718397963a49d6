//! `cloudflare::R2Object`: one object of a bucket, with the content that the script or a file gives.

mod look;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value as Json;

use super::{
    client::{Call, Client, encode},
    error::missing,
    props::{self, mistake},
    r2_bucket,
    transfer::FileContent,
    worker::files::known_content_type,
};
use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        Access, CheckContext, Checked, Difference, Existing, FailureKind, Found, Observation,
        OperationContext, PropError, Provider, ProviderError, text_prop,
    },
    util::fs,
};

pub(super) const KIND: &str = "cloudflare::R2Object";
/// Most bytes of a key.
const KEY_LIMIT: usize = 1024;
/// Most bytes of a content that the API takes in one request.
const SIZE_LIMIT: u64 = 300 * 1024 * 1024;
/// The prop in state that stands for the content of a file.
const HASH: &str = "hash";

/// Headers that are kept with an object, and the props that give them.
const HEADERS: [(&str, &str); 4] = [
    ("cacheControl", "cache-control"),
    ("contentDisposition", "content-disposition"),
    ("contentEncoding", "content-encoding"),
    ("contentLanguage", "content-language"),
];

/// The kind.
#[derive(Debug)]
pub struct R2Object {
    client: Arc<Client>,
    schema: KindSchema,
}

/// Where an object lies.
struct Place {
    bucket: String,
    jurisdiction: Option<String>,
}

impl R2Object {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }

    /// What the bucket's list says of a key. The list is asked because an object itself answers with its whole content.
    async fn look(
        &self,
        context: &OperationContext,
        place: &Place,
        key: &str,
        new: bool,
    ) -> Result<Option<Json>, ProviderError> {
        // Keys come in order, and the first that begins with this one is this one.
        let list = Call::get(format!("{}/objects", place.bucket_path()))
            .query("prefix", key)
            .query("per_page", "1")
            .visible_late(new && context.made.has(&place.bucket));
        let answer = self.client.look(context, &place.within(list)).await?;
        let first = answer.and_then(|answer| answer.result.get(0).cloned());
        Ok(first.filter(|object| props::text(object, "key") == Some(key)))
    }

    async fn upload(
        &self,
        context: &OperationContext,
        place: &Place,
        props: &Map,
    ) -> Result<Map, ProviderError> {
        let key = context.physical_name.as_str();
        let kind = text_prop(props, "contentType").unwrap_or_else(|| guessed(key));
        let mut call = with_content(context, props, Call::put(place.path(key)), kind).await?;
        for (prop, header) in HEADERS {
            if let Some(value) = text_prop(props, prop) {
                call = call.header(header, value);
            }
        }
        if let Some(class) = text_prop(props, "storageClass") {
            call = call.header("cf-r2-storage-class", class);
        }
        let call = place.within(call);
        // What is not found is the bucket: an upload needs no object to be there.
        let answer = self.client.call(context, &call).await.map_err(|error| {
            let no_bucket = error.is_not_found();
            let error = ProviderError::from(error);
            match no_bucket {
                true => missing("bucket", props.get("bucket"), error),
                false => error,
            }
        })?;
        outputs(&answer.result, place, key, &call.describe())
    }
}

impl Place {
    /// Where `props`, all known, say that the object belongs.
    fn wanted(props: &Map) -> Result<Self, ProviderError> {
        let (bucket, jurisdiction) = match props.get("bucket") {
            Some(Value::Resource(view)) => (
                props::known_output(&view.outputs, "name", view.fqn.as_str())?,
                text_prop(&view.outputs, "jurisdiction"),
            ),
            other => {
                let name = other.and_then(Value::as_str).ok_or_else(|| {
                    ProviderError::new(FailureKind::Refused, "prop `bucket` names no bucket")
                })?;
                (name, text_prop(props, "jurisdiction"))
            }
        };
        Ok(Self::new(bucket, jurisdiction))
    }

    /// Where the object of state lies.
    fn known(context: &OperationContext, existing: &Existing) -> Result<Self, ProviderError> {
        let outputs = &existing.outputs;
        let bucket = props::known_output(outputs, "bucket", context.fqn.as_str())?;
        Ok(Self::new(bucket, text_prop(outputs, "jurisdiction")))
    }

    fn new(bucket: &str, jurisdiction: Option<&str>) -> Self {
        Self {
            bucket: bucket.to_owned(),
            jurisdiction: jurisdiction
                .filter(|place| *place != "default")
                .map(str::to_owned),
        }
    }

    fn bucket_path(&self) -> String {
        format!("{}/{}", r2_bucket::PATH, encode(&self.bucket))
    }

    fn path(&self, key: &str) -> String {
        format!("{}/objects/{}", self.bucket_path(), encode(key))
    }

    fn within(&self, call: Call) -> Call {
        r2_bucket::within(call, self.jurisdiction.as_deref())
    }
}

fn guessed(key: &str) -> &'static str {
    known_content_type(Path::new(key)).unwrap_or("application/octet-stream")
}

fn schema() -> KindSchema {
    let header = |name, doc| Prop::new(name, PropType::String, doc);
    KindSchema {
        kind: KIND.into(),
        doc: "An object of an R2 bucket.".to_owned(),
        props: vec![
            Prop::new(
                "bucket",
                PropType::Either(vec![
                    PropType::Resource(&[r2_bucket::KIND]),
                    PropType::String,
                ]),
                "the bucket, or its name",
            )
            .required()
            .replaces(),
            Prop::new(
                "jurisdiction",
                PropType::OneOf(&["default", "eu", "fedramp"]),
                "where the data of a bucket that is given by its name must stay",
            )
            .replaces(),
            Prop::new(
                "key",
                PropType::String,
                "the key in the bucket; the id of the resource when it is not given",
            )
            .replaces(),
            Prop::new("content", PropType::String, "the content, text or a secret").secret(),
            Prop::new(
                "file",
                PropType::String,
                "the file with the content, relative to the script",
            ),
            header(
                "contentType",
                "what the content is; guessed from the end of the key when it is not given",
            ),
            header("cacheControl", "how long readers may keep the content"),
            header(
                "contentDisposition",
                "whether a browser shows the content or saves it",
            ),
            header("contentEncoding", "how the content is compressed"),
            header("contentLanguage", "the language of the content"),
            Prop::new(
                "storageClass",
                PropType::OneOf(&["Standard", "InfrequentAccess"]),
                "the storage class; that of the bucket when it is not given",
            ),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("key", "the key"),
            Attribute::identity("bucket", "the name of the bucket"),
            Attribute::identity("jurisdiction", "where the data of the bucket must stay"),
            Attribute::new("etag", "what R2 knows the content by"),
            Attribute::new("size", "its length in bytes"),
            Attribute::new("type", "`r2_object`"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: KEY_LIMIT,
    }
}

/// Why a key cannot be used, if it cannot.
fn problem(key: &str) -> Option<String> {
    if key.is_empty() || key.len() > KEY_LIMIT {
        Some(format!("it must have 1 to {KEY_LIMIT} bytes"))
    } else if key.chars().any(char::is_control) {
        Some("it has control characters".to_owned())
    } else if key.split('/').any(|part| part == "." || part == "..") {
        Some("`.` and `..` between `/` get lost in URLs".to_owned())
    } else {
        None
    }
}

/// A file that is relative to `folder`, and the hash of its content; a message and a next step where there is none. No more
/// than a piece of it is in memory.
fn look_at(
    folder: &Path,
    access: &Access,
    file: &str,
) -> Result<(FileContent, String), (String, Option<String>)> {
    let path = folder.join(file);
    let path = access
        .read(&path)
        .map_err(|denied| (denied.message, Some(denied.help)))?;
    let mut hasher = blake3::Hasher::new();
    let size = fs::read_in_pieces(&path, |piece| {
        hasher.update(piece);
    })
    .map_err(|error| {
        let help = format!("correct the path; it is relative to `{}`", folder.display());
        (format!("{error}: {}", error.source), Some(help))
    })?;
    if size > SIZE_LIMIT {
        let message = format!("`{}` is larger than 300 MiB", path.display());
        let help = "upload it with a client of R2's S3 API".to_owned();
        return Err((message, Some(help)));
    }
    let content = FileContent {
        path,
        size,
        tail: Bytes::new(),
    };
    Ok((content, hasher.finalize().to_hex().to_string()))
}

/// `call` with the content of checked and resolved props.
async fn with_content(
    context: &OperationContext,
    props: &Map,
    call: Call,
    kind: &str,
) -> Result<Call, ProviderError> {
    let Some(file) = text_prop(props, "file").map(str::to_owned) else {
        return match props.get("content") {
            Some(Value::Secret(Secret::Plain(text))) => {
                Ok(call.content(kind, text.as_bytes().to_vec()))
            }
            Some(Value::String(text)) => Ok(call.content(kind, text.as_bytes().to_vec())),
            _ => Err(ProviderError::new(
                FailureKind::Refused,
                "prop `content` is no text",
            )),
        };
    };
    let (folder, access) = (Arc::clone(&context.folder), Arc::clone(&context.access));
    let name = file.clone();
    let reading = tokio::task::spawn_blocking(move || look_at(&folder, &access, &name));
    let (content, hash) = reading
        .await
        .unwrap_or_else(|error| Err((format!("`{file}` cannot be read: {error}"), None)))
        .map_err(|(message, help)| ProviderError {
            help,
            ..ProviderError::new(FailureKind::Refused, message)
        })?;
    if text_prop(props, HASH) != Some(hash.as_str()) {
        let message = format!("the file `{file}` changed during the run");
        return Err(ProviderError::new(FailureKind::Refused, message).with_help("run again"));
    }
    Ok(call.file(kind, content))
}

fn outputs(result: &Json, place: &Place, key: &str, call: &str) -> Result<Map, ProviderError> {
    let mut outputs = Map::from([
        ("key".to_owned(), Value::from(key)),
        ("bucket".to_owned(), Value::from(place.bucket.as_str())),
        (
            "jurisdiction".to_owned(),
            Value::from(place.jurisdiction.as_deref().unwrap_or("default")),
        ),
        ("type".to_owned(), Value::from("r2_object")),
        (
            "etag".to_owned(),
            Value::from(props::needed_text(result, "etag", call)?),
        ),
    ]);
    // A number in the list, text in the answer to an upload.
    let size = result.get("size");
    let size = size
        .and_then(Json::as_i64)
        .or_else(|| size?.as_str()?.parse().ok());
    if let Some(size) = size {
        outputs.insert("size".to_owned(), Value::Int(size));
    }
    Ok(outputs)
}

#[async_trait]
impl Provider for R2Object {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors = Vec::new();
        let key = match props::known_text(&props, "key") {
            Ok(key) => key.unwrap_or(&context.id).to_owned(),
            Err(error) => return Err(vec![error]),
        };
        if let Some(problem) = problem(&key) {
            let message = format!("`{key}` is no key: {problem}");
            errors.push(mistake(&["key"], message, None));
        }
        props.insert("key".to_owned(), Value::from(key.as_str()));
        match (props.contains_key("content"), props.contains_key("file")) {
            (true, false) => {}
            (false, true) => match props::known_text(&props, "file") {
                Err(error) => errors.push(error),
                Ok(file) => {
                    match look_at(&context.folder, &context.access, file.unwrap_or_default()) {
                        Ok((_, hash)) => {
                            props.insert(HASH.to_owned(), Value::from(hash));
                        }
                        Err((message, help)) => errors.push(mistake(&["file"], message, help)),
                    }
                }
            },
            (both, _) => {
                let message = if both {
                    "`content` and `file` both say what is in the object"
                } else {
                    "nothing says what is in the object"
                };
                let help = "give it `content` or `file`".to_owned();
                errors.push(mistake(&[], message, help));
            }
        }
        let place = text_prop(&props, "jurisdiction").unwrap_or("default");
        let (bucket, named) = match props.get("bucket") {
            Some(Value::String(name)) => (format!("{place}:{name}"), true),
            Some(Value::Ref(bucket)) => (bucket.fqn.as_str().to_owned(), false),
            _ => (String::new(), false),
        };
        if !named && props.contains_key("jurisdiction") {
            let message = "a handle of a bucket says itself where its data must stay";
            let help = "leave `jurisdiction` out".to_owned();
            errors.push(mistake(&["jurisdiction"], message, help));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Checked {
            known: Map::from([
                ("key".to_owned(), Value::from(key.as_str())),
                ("type".to_owned(), Value::from("r2_object")),
            ]),
            identity: Some(format!("{KIND}:{bucket}/{key}")),
            props,
            physical_name: key,
            // A bucket of the script tells its stages apart.
            explicit_name: named,
        })
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let place = Place::known(context, existing)?;
        let key = existing.physical_name.as_str();
        let found = self.look(context, &place, key, false).await?;
        found
            .map(|object| outputs(&object, &place, key, "the list of objects"))
            .transpose()
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let place = Place::wanted(props)?;
        let key = context.physical_name.as_str();
        // An upload replaces without asking whatever is there.
        if self.look(context, &place, key, true).await?.is_some() {
            let message = format!(
                "the bucket `{}` has an object `{key}` already",
                place.bucket
            );
            return Err(ProviderError::new(FailureKind::Conflict, message).with_help(
                "take it over with `adopt: true` (or `--adopt`), which replaces its content, or choose another `key`",
            ));
        }
        self.upload(context, &place, props).await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let place = Place::known(context, existing)?;
        self.upload(context, &place, props).await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let place = Place::known(context, existing)?;
        let call = Call::delete(place.path(&existing.physical_name));
        self.client
            .look(context, &place.within(call))
            .await
            .map(drop)
    }

    fn object_id(&self, physical_name: &str, outputs: &Map) -> String {
        let bucket = text_prop(outputs, "bucket").unwrap_or_default();
        format!("{bucket}/{physical_name}")
    }

    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        self.observed(context, known).await
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        look::compare(existing, seen)
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "an object of a bucket is declared with its content",
            "declare it as `R2Object(.., #{ bucket: .., key: .., file: .., adopt: true })`, and `alch run` takes it over",
        ])
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let place = Place::wanted(props)?;
        let key = context.physical_name.as_str();
        let Some(object) = self.look(context, &place, key, false).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            outputs: outputs(&object, &place, key, "the list of objects")?,
            created_at: props::moment(&object, "last_modified"),
            ours: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::cloudflare::testing::{
        Scripted, check_context, checked, context, existing, map, ok,
    };

    fn problems(props: Json) -> Vec<String> {
        let (_, client) = Scripted::new(Vec::new());
        let errors = R2Object::new(client)
            .check(&check_context("app/dev", "thing"), map(props))
            .unwrap_err();
        errors.into_iter().map(|error| error.message).collect()
    }

    #[test]
    fn props_that_do_not_fit_each_other_are_refused() {
        assert_eq!(
            problems(json!({ "bucket": "b", "key": "a/../b" })),
            [
                "`a/../b` is no key: `.` and `..` between `/` get lost in URLs",
                "nothing says what is in the object"
            ]
        );
        assert_eq!(
            problems(json!({ "bucket": "b", "content": "", "file": "x" })),
            ["`content` and `file` both say what is in the object"]
        );
        assert_eq!(
            problems(json!({ "bucket": "b", "content": "", "key": "" })),
            ["`` is no key: it must have 1 to 1024 bytes"]
        );
    }

    #[tokio::test]
    async fn an_object_that_is_there_is_not_replaced_unasked() {
        let (transport, client) = Scripted::new(vec![
            ok(json!([{ "key": "a b/c.css", "etag": "e", "size": 1 }])),
            ok(json!([{ "key": "a b/c.css.map", "etag": "e", "size": 1 }])),
            ok(json!({ "key": "a b/c.css", "etag": "f", "size": "4" })),
            ok(json!({ "key": "a b/c.css" })),
        ]);
        let kind = R2Object::new(client);
        let props = json!({ "bucket": "b", "jurisdiction": "eu", "key": "a b/c.css", "content": "body",
            "cacheControl": "no-store" });
        let checked = checked(&kind, props);
        let context = context(&checked.physical_name);
        let error = kind.create(&context, &checked.props).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict);
        let outputs = kind.create(&context, &checked.props).await.unwrap();
        assert_eq!(outputs["etag"], Value::from("f"));
        assert_eq!(outputs["size"], Value::Int(4));
        let mut there = existing("a b/c.css", json!({}), json!({}));
        there.outputs = outputs;
        kind.delete(&context, &there).await.unwrap();
        assert_eq!(
            transport.requests(),
            [
                "GET r2/buckets/b/objects?prefix=a%20b%2Fc.css&per_page=1",
                "GET r2/buckets/b/objects?prefix=a%20b%2Fc.css&per_page=1",
                "PUT r2/buckets/b/objects/a%20b%2Fc.css body",
                "DELETE r2/buckets/b/objects/a%20b%2Fc.css",
            ]
        );
        for (name, value) in [
            ("content-type", "text/css; charset=utf-8"),
            ("cache-control", "no-store"),
            ("cf-r2-jurisdiction", "eu"),
        ] {
            assert_eq!(transport.header(2, name).as_deref(), Some(value));
        }
    }
}
