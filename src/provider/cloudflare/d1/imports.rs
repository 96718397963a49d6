//! Imports: SQL files that go into a database once each, through D1's own import (upload, ingest, poll).
//!
//! What was imported stands in a table of the database, written by the same import: an import is undone whole when it fails,
//! and the table takes no content twice, so that neither a lost answer nor a run that was killed imports anything twice.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::{Value as Json, json};

use super::{ending::Ending, migrations::query};
use crate::{
    model::{Map, Value},
    provider::{
        Access, Existing, FailureKind, OperationContext, PropError, ProviderError,
        cloudflare::{
            client::{Call, Client, encode},
            props,
            transfer::FileContent,
        },
        text_prop,
    },
    util::{fs, text},
};

/// The prop.
const PROP: &str = "importFiles";
/// The table in which imported files are recorded.
pub(super) const TABLE: &str = "d1_imports";
/// Time between two looks at an import that is under way.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file that props name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    hash: String,
}

/// Puts the hash of each file beside its name.
pub(in super::super) fn normalise(
    folder: &Path,
    access: &Access,
    props: &mut Map,
) -> Result<(), PropError> {
    let Some(Value::Array(given)) = props.get(PROP) else {
        return Ok(());
    };
    let mut files: Vec<Listed> = Vec::new();
    for (index, value) in given.iter().enumerate() {
        let mistake = |message: String, help: Option<String>| PropError {
            path: vec![PROP.to_owned(), index.to_string()],
            message,
            help,
            at_key: false,
        };
        let Some(name) = value.as_str() else {
            return Err(mistake(
                "it must be known before the run, and cannot come from an output of another resource".to_owned(),
                Some("write the path itself".to_owned()),
            ));
        };
        // `./seed.sql` and `seed.sql` are one file.
        let name = name.trim_start_matches("./");
        let path = place(folder, access, name).map_err(|(message, help)| mistake(message, help))?;
        let hash = hash(&path).map_err(|error| {
            let help = format!("correct the path; it is relative to `{}`", folder.display());
            mistake(format!("{error}: {}", error.source), Some(help))
        })?;
        if let Some(same) = files
            .iter()
            .find(|file| file.name == name || file.hash == hash)
        {
            return Err(mistake(
                format!(
                    "`{name}` has the content of `{}`, which stands before it",
                    same.name
                ),
                Some("name each file once: a content is imported once".to_owned()),
            ));
        }
        files.push(Listed {
            name: name.to_owned(),
            hash,
        });
    }
    let files = files
        .into_iter()
        .map(|file| {
            Value::Map(Map::from([
                ("name".to_owned(), Value::String(file.name)),
                ("hash".to_owned(), Value::String(file.hash)),
            ]))
        })
        .collect();
    props.insert(PROP.to_owned(), Value::Array(files));
    Ok(())
}

/// Where a file lies, if it may be read.
fn place(base: &Path, access: &Access, name: &str) -> Result<PathBuf, (String, Option<String>)> {
    // Without the `./` in the middle.
    let path: PathBuf = base.join(name).components().collect();
    access
        .read(&path)
        .map_err(|denied| (denied.message, Some(denied.help)))
}

fn hash(path: &Path) -> fs::FsResult<String> {
    let mut hasher = blake3::Hasher::new();
    fs::read_in_pieces(path, |piece| {
        hasher.update(piece);
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn listed(props: &Map) -> Vec<Listed> {
    let list = props.get(PROP).and_then(Value::as_array);
    list.unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .filter_map(|file| {
            Some(Listed {
                name: text_prop(file, "name")?.to_owned(),
                hash: text_prop(file, "hash")?.to_owned(),
            })
        })
        .collect()
}

/// Refuses content that changed after it was imported: `before` are the props that the database has.
pub(in super::super) fn refuse_rewritten(before: &Map, now: &Map) -> Result<(), ProviderError> {
    refuse_changed(&listed(before), &listed(now))
}

fn refuse_changed(before: &[Listed], now: &[Listed]) -> Result<(), ProviderError> {
    for file in now {
        if is_among(before, file) {
            continue;
        }
        if before.iter().any(|old| old.name == file.name) {
            let name = &file.name;
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!("the file `{name}` changed after it was imported"),
            )
            .with_help(format!(
                "restore `{name}`, and import what is new from a file with another name"
            )));
        }
    }
    Ok(())
}

/// Whether the content of a file is among others, under whatever name.
fn is_among(files: &[Listed], file: &Listed) -> bool {
    files.iter().any(|other| other.hash == file.hash)
}

/// Imports what the database has not got yet. One that does not exist `before` may not be visible everywhere.
pub(in super::super) async fn apply(
    client: &Client,
    context: &OperationContext,
    database: &str,
    before: Option<&Existing>,
    props: &Map,
) -> Result<(), ProviderError> {
    let listed = listed(props);
    let mut waiting = listed.clone();
    if let Some(existing) = before {
        let known = match existing.settled {
            true => self::listed(&existing.props),
            false => Vec::new(),
        };
        waiting.retain(|file| !is_among(&known, file));
        if !waiting.is_empty() {
            let imported = imported(client, context, database).await?;
            refuse_changed(&imported, &listed)?;
            waiting.retain(|file| !is_among(&imported, file));
        }
    }
    for (done, file) in waiting.iter().enumerate() {
        (context.progress)(&format!("importing `{}`", file.name));
        import(client, context, database, file, before.is_none())
            .await
            .map_err(|mut error| {
                if done > 0 {
                    error.message.push_str(&format!(
                        " ({} imported before it)",
                        text::plural(done, "file")
                    ));
                }
                error
            })?;
    }
    Ok(())
}

/// What the table of imported files holds; a database without the table has none.
async fn imported(
    client: &Client,
    context: &OperationContext,
    database: &str,
) -> Result<Vec<Listed>, ProviderError> {
    let sql = format!("{}\nSELECT name, hash FROM {TABLE};", table());
    let call = query(database, &sql).idempotent();
    let result = client.call(context, &call).await?.result;
    let rows = result
        .get(1)
        .and_then(|statement| statement.get("results"))
        .and_then(Json::as_array);
    Ok(rows
        .into_iter()
        .flatten()
        .filter_map(|row| {
            Some(Listed {
                name: props::text(row, "name")?.to_owned(),
                hash: props::text(row, "hash")?.to_owned(),
            })
        })
        .collect())
}

fn table() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (hash TEXT PRIMARY KEY, name TEXT NOT NULL, imported_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL);"
    )
}

/// A file, ready to be sent.
struct Upload {
    content: FileContent,
    /// The MD5 of all that is sent.
    md5: String,
}

/// Looks at a file once more and makes ready what is sent: the file, and after it what records it.
fn prepare(context: &OperationContext, file: &Listed) -> Result<Upload, ProviderError> {
    let refused = |message: String, help: Option<String>| ProviderError {
        help,
        ..ProviderError::new(FailureKind::Refused, message)
    };
    let name = &file.name;
    let path = place(&context.folder, &context.access, name)
        .map_err(|(message, help)| refused(message, help))?;
    let (mut hash, mut md5, mut ending) = (blake3::Hasher::new(), Md5::new(), Ending::default());
    let size = fs::read_in_pieces(&path, |piece| {
        hash.update(piece);
        md5.update(piece);
        ending.feed(piece);
    })
    .map_err(|error| refused(format!("{error}: {}", error.source), None))?;
    if hash.finalize().to_hex().as_str() != file.hash {
        return Err(refused(
            format!("the file `{name}` changed during the run"),
            Some("run again".to_owned()),
        ));
    }
    let separator = ending.separator().ok_or_else(|| {
        refused(
            format!("the file `{name}` ends within a comment or a quoted text"),
            Some(format!("complete `{name}` and run again")),
        )
    })?;
    let quoted = name.replace('\'', "''");
    let tail = format!(
        "{separator}{}\nINSERT INTO {TABLE} (hash, name) VALUES ('{}', '{quoted}');\n",
        table(),
        file.hash
    );
    md5.update(&tail);
    Ok(Upload {
        md5: hex::encode(md5.finalize()),
        content: FileContent {
            path,
            size,
            tail: Bytes::from(tail),
        },
    })
}

async fn import(
    client: &Client,
    context: &OperationContext,
    database: &str,
    file: &Listed,
    new: bool,
) -> Result<(), ProviderError> {
    let (reading, name) = ((context.clone(), file.clone()), &file.name);
    let upload = tokio::task::spawn_blocking(move || prepare(&reading.0, &reading.1))
        .await
        .unwrap_or_else(|error| {
            let message = format!("the file `{name}` cannot be read: {error}");
            Err(ProviderError::new(FailureKind::Refused, message))
        })?;
    let mut error = match send(client, context, database, &upload, new).await {
        Ok(()) => return Ok(()),
        Err(error) if error.kind == FailureKind::Cancelled => return Err(error),
        Err(error) => error,
    };
    // The answer may have been lost and not the import; what the table says is so.
    if let Ok(imported) = imported(client, context, database).await
        && is_among(&imported, file)
    {
        return Ok(());
    }
    error.message = format!("the import of `{name}` failed: {}", error.message);
    error.help.get_or_insert_with(|| {
        format!("correct `{name}` and run again: nothing of it was imported, and what came before it is kept")
    });
    Err(error)
}

/// One import from its beginning to its end.
async fn send(
    client: &Client,
    context: &OperationContext,
    database: &str,
    upload: &Upload,
    new: bool,
) -> Result<(), ProviderError> {
    // Sent twice, each step does what it does once: the table takes no content twice.
    let call = |body: Json| {
        Call::post(format!("d1/database/{}/import", encode(database)))
            .json(&body)
            .idempotent()
    };
    let begin = call(json!({ "action": "init", "etag": upload.md5 })).visible_late(new);
    let mut step = client.call(context, &begin).await?.result;
    // What was uploaded before is not asked for again.
    if let Some(link) = props::text(&step, "upload_url") {
        let etag = client.transfer(context, link, &upload.content).await?;
        if etag.is_some_and(|etag| !etag.eq_ignore_ascii_case(&upload.md5)) {
            return Err(ProviderError::new(
                FailureKind::Refused,
                "the storage got other bytes than were sent",
            )
            .with_help("run again"));
        }
        let file = props::needed_text(&step, "filename", &begin.describe())?;
        let ingest = json!({ "action": "ingest", "etag": upload.md5, "filename": file });
        step = client.call(context, &call(ingest)).await?.result;
    }
    // How long this may take is the operation's own limit.
    loop {
        match (props::text(&step, "status"), props::text(&step, "error")) {
            (Some("complete"), _) => return Ok(()),
            (_, Some(reason)) => {
                return Err(ProviderError::new(FailureKind::Refused, reason));
            }
            (Some("error"), None) => {
                let reason = "D1 does not say why";
                return Err(ProviderError::new(FailureKind::Refused, reason));
            }
            _ => {}
        }
        let bookmark = props::needed_text(&step, "at_bookmark", &begin.describe())?;
        tokio::select! {
            biased;
            () = context.cancel.cancelled() => {
                return Err(ProviderError::new(FailureKind::Cancelled, "cancelled"));
            }
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let poll = json!({ "action": "poll", "current_bookmark": bookmark });
        step = client.call(context, &call(poll)).await?.result;
    }
}
