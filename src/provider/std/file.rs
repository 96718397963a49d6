//! `std::File`: a file with the content that the script gives.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::blocking;
use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError, Provider,
        ProviderError, Touch, text_prop,
    },
    util::fs::{self, FsError},
};

const KIND: &str = "std::File";

/// The kind.
#[derive(Debug)]
pub struct File {
    schema: KindSchema,
}

impl Default for File {
    fn default() -> Self {
        Self::new()
    }
}

impl File {
    /// The kind.
    #[must_use]
    pub fn new() -> Self {
        Self { schema: schema() }
    }
}

fn schema() -> KindSchema {
    let mode = PropType::Either(vec![
        PropType::Integer { min: 0, max: 0o777 },
        PropType::String,
    ]);
    KindSchema {
        kind: KIND.into(),
        doc: "A file with the content that the script gives.".to_owned(),
        props: vec![
            Prop::new(
                "path",
                PropType::String,
                "where the file is, relative to the script",
            )
            .required()
            .replaces(),
            Prop::new(
                "content",
                PropType::String,
                "what is in it, text or a secret",
            )
            .required()
            .secret(),
            Prop::new(
                "mode",
                mode,
                "its permissions, as `0o640` or \"0640\"; 0644 by default, 0600 for a secret",
            ),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("path", "where the file is, as given"),
            Attribute::new("sha256", "the hash of its content in hexadecimal"),
            Attribute::new("size", "its length in bytes"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 4096,
    }
}

fn refused(error: &FsError) -> ProviderError {
    ProviderError::new(FailureKind::Refused, format!("{error}: {}", error.source))
}

/// The content of checked and resolved props.
fn content(props: &Map) -> Vec<u8> {
    match props.get("content") {
        Some(Value::Secret(Secret::Plain(text))) => text.as_bytes().to_vec(),
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        _ => Vec::new(),
    }
}

fn is_secret(props: &Map) -> bool {
    matches!(props.get("content"), Some(Value::Secret(_)))
}

fn mode(props: &Map) -> u32 {
    let default = if is_secret(props) { 0o600 } else { 0o644 };
    text_prop(props, "mode")
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .unwrap_or(default)
}

/// `secret`: whether the hash would give a short content away.
fn outputs(path: &str, bytes: &[u8], secret: bool) -> Map {
    let hash = hex::encode(Sha256::digest(bytes));
    let hash = if secret {
        Value::Secret(Secret::plain(hash))
    } else {
        Value::from(hash)
    };
    Map::from([
        ("path".to_owned(), Value::from(path)),
        ("sha256".to_owned(), hash),
        (
            "size".to_owned(),
            Value::Int(i64::try_from(bytes.len()).unwrap_or(i64::MAX)),
        ),
    ])
}

async fn look(path: PathBuf) -> Result<Option<Vec<u8>>, ProviderError> {
    blocking(move || fs::read_if_present(&path).map_err(|error| refused(&error))).await
}

async fn write(context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
    let given = text_prop(props, "path").unwrap_or_default();
    let path = context.folder.join(given);
    let bytes = content(props);
    let outputs = outputs(given, &bytes, is_secret(props));
    let mode = mode(props);
    blocking(move || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| refused(&error))?;
        }
        fs::write_atomic_with_mode(&path, &bytes, mode).map_err(|error| refused(&error))
    })
    .await?;
    Ok(outputs)
}

/// The mode in one spelling.
fn normalise_mode(props: &mut Map) -> Result<(), PropError> {
    let octal = match props.get("mode") {
        Some(Value::Int(bits)) => u32::try_from(*bits).ok(),
        Some(Value::String(text)) => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            u32::from_str_radix(digits, 8).ok()
        }
        Some(_) => None,
        None => return Ok(()),
    };
    match octal.filter(|bits| *bits <= 0o777) {
        Some(bits) => {
            props.insert("mode".to_owned(), Value::String(format!("{bits:04o}")));
            Ok(())
        }
        None => Err(PropError {
            path: vec!["mode".to_owned()],
            message: "the mode is no octal number up to 0777".to_owned(),
            help: Some("write it as `0o640` or \"0640\"".to_owned()),
            at_key: false,
        }),
    }
}

fn known_path(props: &Map) -> Result<&str, PropError> {
    match props.get("path") {
        Some(Value::String(path)) if !path.is_empty() => Ok(path),
        other => Err(PropError {
            path: vec!["path".to_owned()],
            message: match other {
                Some(Value::String(_)) => "the path is empty".to_owned(),
                _ => "the path must be known before the run".to_owned(),
            },
            help: Some("write the path itself".to_owned()),
            at_key: false,
        }),
    }
}

/// One spelling for one file, so that two resources on it are noticed.
fn identity(folder: &Path, path: &str) -> String {
    let mut out = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    format!("{KIND}:{}", out.display())
}

#[async_trait]
impl Provider for File {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let mut errors: Vec<PropError> = normalise_mode(&mut props).err().into_iter().collect();
        let path = match known_path(&props) {
            Ok(path) if errors.is_empty() => path.to_owned(),
            Ok(_) => return Err(errors),
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        Ok(Checked {
            props,
            known: Map::from([("path".to_owned(), Value::from(path.as_str()))]),
            identity: Some(identity(&context.folder, &path)),
            physical_name: path,
            explicit_name: true,
        })
    }

    fn touches(&self, props: &Map) -> Vec<Touch> {
        let path = text_prop(props, "path");
        path.map(|path| Touch::Write(path.to_owned()))
            .into_iter()
            .collect()
    }

    fn touches_on_delete(&self, existing: &Existing) -> Vec<Touch> {
        vec![Touch::Write(existing.physical_name.clone())]
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let path = existing.physical_name.as_str();
        let bytes = look(context.folder.join(path)).await?;
        Ok(bytes.map(|bytes| outputs(path, &bytes, is_secret(&existing.props))))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let given = text_prop(props, "path").unwrap_or_default();
        // Equal content is no proof that it is ours: another stage may have written it, and a destroy would remove it there.
        if let Some(bytes) = look(context.folder.join(given)).await? {
            let (how, verb) = match bytes == content(props) {
                true => ("the same", "take it over"),
                false => ("other", "overwrite it"),
            };
            return Err(ProviderError::new(
                FailureKind::Conflict,
                format!("the file `{given}` is there already, with {how} content"),
            )
            .with_help(format!(
                "{verb} with `adopt: true` (or `--adopt`), or choose another `path`, such as one with `${{alchemy.stage}}` in it"
            )));
        }
        write(context, props).await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Map, ProviderError> {
        write(context, props).await
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        let path = context.folder.join(&existing.physical_name);
        let Some(bytes) = look(path.clone()).await? else {
            return Ok(());
        };
        if bytes != content(&existing.props) {
            (context.progress)(&format!(
                "`{}` was changed by somebody else and stays",
                existing.physical_name
            ));
            return Ok(());
        }
        blocking(move || fs::remove_file(&path).map_err(|error| refused(&error))).await
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "a file is declared with its content",
            "declare it as `File(.., #{ path: .., content: .., adopt: true })`, and `alch run` takes it over",
        ])
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let path = context.physical_name.as_str();
        let bytes = look(context.folder.join(path)).await?;
        Ok(bytes.map(|bytes| Found {
            ours: Some(bytes == content(props)),
            outputs: outputs(path, &bytes, is_secret(props)),
            created_at: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::provider::cloudflare::testing::{checked, context};

    fn at(folder: &Path, path: &str) -> OperationContext {
        OperationContext {
            folder: folder.into(),
            ..context(path)
        }
    }

    fn mode_of(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_file_is_written_with_its_mode_and_removed_while_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let kind = File::new();
        let context = at(folder.path(), "out/a.txt");
        let checked = checked(
            &kind,
            json!({ "path": "out/a.txt", "content": "hi", "mode": 0o640 }),
        );
        let outputs = kind.create(&context, &checked.props).await.unwrap();
        let path = folder.path().join("out/a.txt");
        assert_eq!(fs::read_to_string(&path).unwrap(), "hi");
        assert_eq!(mode_of(&path), 0o640);
        assert_eq!(outputs["size"], Value::Int(2));
        assert_eq!(
            outputs["sha256"].as_str().unwrap(),
            "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"
        );
        let existing = Existing {
            props: checked.props,
            outputs,
            physical_name: "out/a.txt".to_owned(),
            settled: true,
            attempted: Map::new(),
        };
        fs::write_atomic(&path, b"changed").unwrap();
        kind.delete(&context, &existing).await.unwrap();
        assert!(path.exists());
        fs::write_atomic(&path, b"hi").unwrap();
        kind.delete(&context, &existing).await.unwrap();
        assert!(!path.exists());
        kind.delete(&context, &existing).await.unwrap();
        assert_eq!(kind.read(&context, &existing).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_foreign_file_is_a_conflict_and_an_interrupted_write_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let kind = File::new();
        let context = at(folder.path(), "a.txt");
        let props = checked(&kind, json!({ "path": "a.txt", "content": "ours" })).props;
        fs::write_atomic(&folder.path().join("a.txt"), b"theirs").unwrap();
        let error = kind.create(&context, &props).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict);
        let found = kind.find(&context, &props).await.unwrap().unwrap();
        assert_eq!(found.ours, Some(false));
        fs::write_atomic(&folder.path().join("a.txt"), b"ours").unwrap();
        let found = kind.find(&context, &props).await.unwrap().unwrap();
        assert_eq!(found.ours, Some(true));
        let error = kind.create(&context, &props).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict);
    }

    #[tokio::test]
    async fn a_secret_file_is_private_and_so_is_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let kind = File::new();
        let mut props = checked(&kind, json!({ "path": "key", "content": "" })).props;
        props.insert(
            "content".to_owned(),
            Value::Secret(Secret::plain("hunter2")),
        );
        let outputs = kind
            .create(&at(folder.path(), "key"), &props)
            .await
            .unwrap();
        assert_eq!(mode_of(&folder.path().join("key")), 0o600);
        assert!(matches!(outputs["sha256"], Value::Secret(_)));
    }
}
