//! Migrations: the `*.sql` files of a folder, applied once each and in order, and recorded in a table of the database
//! in the shape that other Cloudflare tools read.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{baseline, imports, sql};
use crate::{
    model::{Map, Value},
    provider::{
        Access, FailureKind, OperationContext, PropError, ProviderError,
        cloudflare::{
            client::{Call, Client, encode},
            props::{self, mistake},
        },
        text_prop,
    },
    util::{fs, text},
};

/// The table's name when none is given.
pub(in super::super) const DEFAULT_TABLE: &str = "d1_migrations";

/// Replaces the folder in `migrations` by the names and hashes of its files, and keeps the folder beside them.
pub(in super::super) fn normalise(
    folder: &Path,
    access: &Access,
    props: &mut Map,
) -> Result<(), PropError> {
    let table = props::known_text(props, "migrationsTable")?.unwrap_or(DEFAULT_TABLE);
    if table.is_empty() || !table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(mistake(
            &["migrationsTable"],
            format!("`{table}` is no valid table name"),
            "use letters, digits and `_`".to_owned(),
        ));
    }
    let Some(given) = props::known_text(props, "migrations")?.map(str::to_owned) else {
        return Ok(());
    };
    let table = table.to_owned();
    let files = files(folder, access, &given)
        .map_err(|(message, help)| mistake(&["migrations"], message, help))?;
    let files = files
        .into_iter()
        .map(|file| {
            Value::Map(Map::from([
                ("name".to_owned(), Value::String(file.name)),
                ("hash".to_owned(), Value::String(file.hash)),
            ]))
        })
        .collect();
    props.insert("migrations".to_owned(), Value::Array(files));
    props.insert("migrationsFolder".to_owned(), Value::String(given));
    props.insert("migrationsTable".to_owned(), Value::String(table));
    Ok(())
}

struct File {
    name: String,
    hash: String,
    sql: String,
}

/// The `*.sql` files of a folder: by the number they begin with, then by name.
fn files(base: &Path, access: &Access, given: &str) -> Result<Vec<File>, (String, Option<String>)> {
    // Without the `./` in the middle.
    let folder: std::path::PathBuf = base.join(given).components().collect();
    let shown = folder.display();
    let readable = |path: &Path| {
        access
            .read(path)
            .map_err(|denied| (denied.message, Some(denied.help)))
    };
    readable(&folder)?;
    let cannot = |error: fs::FsError| (format!("{error}: {}", error.source), None);
    if !folder.is_dir() {
        let message = if folder.exists() {
            format!("`{shown}` is no folder")
        } else {
            format!("the folder `{shown}` does not exist")
        };
        let help = format!(
            "make it and put `0001_first.sql` into it; the path is relative to `{}`",
            base.display()
        );
        return Err((message, Some(help)));
    }
    let mut files = Vec::new();
    for path in fs::list(&folder).map_err(cannot)? {
        if path.extension().is_none_or(|extension| extension != "sql") || path.is_dir() {
            continue;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err((
                format!("the name of `{}` is not UTF-8", path.display()),
                Some("rename the file".to_owned()),
            ));
        };
        let sql = fs::read_to_string(&readable(&path)?).map_err(cannot)?;
        files.push(File {
            name: name.to_owned(),
            hash: blake3::hash(sql.as_bytes()).to_hex().to_string(),
            sql,
        });
    }
    files.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    Ok(files)
}

fn order(name: &str) -> (u64, &str) {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    (name[..digits].parse().unwrap_or(u64::MAX), name)
}

/// Refuses content that changed after it was applied: `before` are the props that the database has.
pub(in super::super) fn refuse_rewritten(before: &Map, now: &Map) -> Result<(), ProviderError> {
    let hashes = |props: &Map| -> Map {
        let list = props.get("migrations").and_then(Value::as_array);
        list.unwrap_or_default()
            .iter()
            .filter_map(Value::as_map)
            .filter_map(|file| {
                Some((
                    text_prop(file, "name")?.to_owned(),
                    file.get("hash")?.clone(),
                ))
            })
            .collect()
    };
    let before = hashes(before);
    for (name, hash) in hashes(now) {
        if before.get(&name).is_some_and(|old| *old != hash) {
            let folder = text_prop(now, "migrationsFolder").unwrap_or_default();
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!("the migration `{name}` in `{folder}` changed after it was applied"),
            )
            .with_help(format!(
                "restore `{name}` and put the change into a new file"
            )));
        }
    }
    Ok(())
}

/// Applies what the database has not seen yet. A `new` one may not be visible everywhere.
pub(in super::super) async fn apply(
    client: &Client,
    context: &OperationContext,
    database: &str,
    props: &Map,
    new: bool,
) -> Result<(), ProviderError> {
    let Some(listed) = props.get("migrations").and_then(Value::as_array) else {
        return Ok(());
    };
    if listed.is_empty() {
        return Ok(());
    }
    let folder = text_prop(props, "migrationsFolder").unwrap_or_default();
    let table = text_prop(props, "migrationsTable").unwrap_or(DEFAULT_TABLE);
    let files = files(&context.folder, &context.access, folder).map_err(|(message, help)| {
        ProviderError {
            help,
            ..ProviderError::new(FailureKind::Refused, message)
        }
    })?;
    let mut seen = Seen::read(client, context, database, table, new).await?;
    let mut names: Vec<&str> = listed
        .iter()
        .filter_map(|file| text_prop(file.as_map()?, "name"))
        .collect();
    if !new {
        baseline::apply(client, context, database, table, &mut seen, &names, props).await?;
    }
    names.retain(|name| !seen.names.iter().any(|known| known == name));
    for (done, name) in names.iter().enumerate() {
        let hash = listed
            .iter()
            .filter_map(Value::as_map)
            .find(|file| text_prop(file, "name") == Some(name))
            .and_then(|file| text_prop(file, "hash"));
        let Some(file) = files
            .iter()
            .find(|file| file.name == *name && Some(file.hash.as_str()) == hash)
        else {
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!("the migration `{name}` in `{folder}` changed during the run"),
            )
            .with_help("run again"));
        };
        (context.progress)(&format!("applying migration `{name}`"));
        apply_one(client, context, database, table, &seen, file)
            .await
            .map_err(|mut error| {
                if done > 0 {
                    error.message.push_str(&format!(
                        " ({} applied before it)",
                        text::plural(done, "migration")
                    ));
                }
                error
            })?;
    }
    Ok(())
}

/// File and record go in one query, which D1 applies whole or not at all.
async fn apply_one(
    client: &Client,
    context: &OperationContext,
    database: &str,
    table: &str,
    seen: &Seen,
    file: &File,
) -> Result<(), ProviderError> {
    let record = seen.record(table, &file.name);
    let open = sql::statements(&file.sql)
        .last()
        .is_some_and(|statement| !statement.closed);
    let separator = if open { "\n;\n" } else { "\n" };
    let text = format!("{}{separator}{record}", file.sql);
    match client.call(context, &query(database, &text)).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut error = ProviderError::from(error);
            let place = match sql::culprit(&file.sql, &error.message) {
                Some(statement) => format!(
                    "`{}`, line {}, `{}`",
                    file.name,
                    statement.line,
                    shorten(statement.text)
                ),
                None => format!("`{}`", file.name),
            };
            error.message = format!("migration {place} failed: {}", error.message);
            error.help = Some(format!(
                "correct `{}` and run again: nothing of it was applied, and what came before it is kept",
                file.name
            ));
            Err(error)
        }
    }
}

fn shorten(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 80 {
        return line;
    }
    let start: String = line.chars().take(79).collect();
    format!("{start}…")
}

/// What the table of applied migrations holds.
pub(super) struct Seen {
    pub(super) names: Vec<String>,
    /// Whether ids are text, as one tool makes them, and not numbers.
    text_ids: bool,
    /// The first few tables that no migration or import of ours keeps its records in.
    pub(super) tables: Vec<String>,
}

impl Seen {
    /// The statement that puts a migration on record.
    pub(super) fn record(&self, table: &str, name: &str) -> String {
        let quoted = name.replace('\'', "''");
        if self.text_ids {
            format!(
                "INSERT INTO {table} (id, name, applied_at) VALUES ((SELECT printf('%05d', COALESCE(MAX(CAST(id AS INTEGER)), 0) + 1) FROM {table}), '{quoted}', datetime('now'));"
            )
        } else {
            format!("INSERT INTO {table} (name) VALUES ('{quoted}');")
        }
    }

    async fn read(
        client: &Client,
        context: &OperationContext,
        database: &str,
        table: &str,
        new: bool,
    ) -> Result<Self, ProviderError> {
        let text = format!(
            "CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL);\n\
             PRAGMA table_info({table});\n\
             SELECT name FROM {table} ORDER BY id;\n\
             SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('{table}', '{}') AND name NOT GLOB 'sqlite_*' \
             AND name NOT GLOB '_cf_*' ORDER BY name LIMIT 4;",
            imports::TABLE
        );
        let call = query(database, &text).idempotent().visible_late(new);
        let result = client.call(context, &call).await?.result;
        let rows = |index: usize| -> &[Json] {
            result
                .get(index)
                .and_then(|statement| statement.get("results"))
                .and_then(Json::as_array)
                .map_or(&[], Vec::as_slice)
        };
        let names = |index: usize| {
            let names = rows(index).iter();
            names
                .filter_map(|row| props::text(row, "name"))
                .map(str::to_owned)
                .collect()
        };
        Ok(Self {
            names: names(2),
            tables: names(3),
            text_ids: rows(1).iter().any(|column| {
                props::text(column, "name") == Some("id")
                    && props::text(column, "type").is_some_and(|ty| ty.eq_ignore_ascii_case("text"))
            }),
        })
    }
}

/// A call that runs SQL.
pub(super) fn query(database: &str, sql: &str) -> Call {
    Call::post(format!("d1/database/{}/query", encode(database))).json(&json!({ "sql": sql }))
}
