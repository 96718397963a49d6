//! What a local cloud holds, read from its own files; and what a command printed of state.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use alch::local::layout;
use rusqlite::Connection;
use serde_json::Value;

/// Kind and physical name.
pub(super) type Name = (String, String);

/// What there is, by kind and name.
pub(super) type Inventory = BTreeMap<Name, Object>;

/// An object of the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// What the cloud calls it; another one after it was made anew.
    pub(super) id: String,
    /// What is in it, without what differs from run to run.
    pub(super) content: String,
}

/// The five kinds whose objects are counted: kind, and a query for id, name and content.
const KINDS: [(&str, &str); 5] = [
    (
        "cloudflare::D1Database",
        "SELECT uuid, name, replication FROM d1_databases",
    ),
    (
        "cloudflare::KVNamespace",
        "SELECT id, title, '' FROM kv_namespaces",
    ),
    (
        "cloudflare::Queue",
        "SELECT id, name, settings || ' to ' || (SELECT coalesce(group_concat(script), '') FROM queue_consumers WHERE queue = queues.id)
        FROM queues",
    ),
    (
        "cloudflare::R2Bucket",
        // Rules of notifications have ids of their own, and no rules are as good as rules that were never set.
        "SELECT id, name, storage_class || ' public ' || public || (SELECT coalesce(group_concat(text), '') FROM (
            SELECT ' ' || kind || ' ' || CASE kind
                WHEN 'notifications' THEN (SELECT group_concat(key || json_extract(value, '$[0].actions')) FROM json_each(body))
                ELSE body END AS text
            FROM r2_settings WHERE bucket = r2_buckets.id AND body NOT IN ('{\"rules\":[]}', '{}') ORDER BY kind))
        FROM r2_buckets",
    ),
    (
        "cloudflare::Worker",
        "SELECT tag, name,
            (SELECT bindings FROM versions WHERE script = scripts.name ORDER BY number DESC LIMIT 1)
            || ' modules ' || (SELECT group_concat(hash) FROM version_modules WHERE version =
                (SELECT id FROM versions WHERE script = scripts.name ORDER BY number DESC LIMIT 1))
            || ' crons ' || (SELECT coalesce(group_concat(json_extract(value, '$.cron')), '') FROM json_each(schedules))
            || ' open ' || subdomain || ' migration ' || coalesce(migration_tag, '')
            || ' classes ' || (SELECT coalesce(group_concat(class), '') FROM
                (SELECT class FROM durable_object_namespaces WHERE script = scripts.name ORDER BY class))
        FROM scripts",
    ),
];

/// Everything that the cloud with this folder holds.
pub(super) fn in_the_cloud(folder: &Path) -> Result<Inventory, String> {
    read(folder).map_err(|error| format!("the cloud cannot be read: {error}"))
}

fn read(folder: &Path) -> rusqlite::Result<Inventory> {
    let control = folder.join("control.sqlite");
    if !control.exists() {
        return Ok(Inventory::new());
    }
    let connection = Connection::open(control)?;
    let mut out = Inventory::new();
    // Killed between making the file and making its tables, which is one transaction: nothing is in it yet.
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(out);
    }
    for (kind, query) in KINDS {
        let mut statement = connection.prepare(query)?;
        let rows = statement.query_map([], |row| {
            let name: String = row.get(1)?;
            let object = Object {
                id: row.get(0)?,
                content: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            };
            Ok(((kind.to_owned(), name), object))
        })?;
        for row in rows {
            let ((kind, name), mut object) = row?;
            if kind == "cloudflare::D1Database" {
                let items = items(&layout::d1_file(folder, &object.id))?;
                object.content = format!("{items} replication {}", object.content);
            }
            out.insert((kind, name), object);
        }
    }
    for object in out.values_mut() {
        object.content = without_sealed(&object.content);
    }
    // Contents name other objects by ids, which differ from run to run.
    let ids: Vec<(String, String)> = out
        .iter()
        .map(|((_, name), object)| (object.id.clone(), name.clone()))
        .collect();
    let mut classes =
        connection.prepare("SELECT id, class FROM durable_object_namespaces ORDER BY class")?;
    let classes: Vec<(String, String)> = classes
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for object in out.values_mut() {
        for (id, name) in ids.iter().chain(&classes) {
            object.content = object.content.replace(id, &format!("<{name}>"));
        }
    }
    Ok(out)
}

/// Takes out secrets, which are sealed anew each time.
fn without_sealed(content: &str) -> String {
    const BEFORE: &str = r#""sealed":{"text":""#;
    let mut parts = content.split(BEFORE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += BEFORE;
        out += part.find('"').map_or(part, |end| &part[end..]);
    }
    out
}

/// The rows of a database's only table.
fn items(file: &Path) -> rusqlite::Result<String> {
    if !file.exists() {
        return Ok("no file".to_owned());
    }
    let connection = Connection::open(file)?;
    let tables: u32 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'items'",
        [],
        |row| row.get(0),
    )?;
    if tables == 0 {
        return Ok("no table".to_owned());
    }
    connection.query_row(
        "SELECT coalesce(group_concat(name, ' '), '') FROM (SELECT name FROM items ORDER BY rowid)",
        [],
        |row| row.get(0),
    )
}

/// The files of D1 databases that no database has.
pub(super) fn strays(folder: &Path, inventory: &Inventory) -> Vec<String> {
    let known: BTreeSet<_> = inventory
        .iter()
        .filter(|((kind, _), _)| kind == "cloudflare::D1Database")
        .map(|(_, object)| layout::d1_file(folder, &object.id))
        .collect();
    walkdir::WalkDir::new(folder.join("d1"))
        .into_iter()
        // There is no folder where there never was a database.
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|end| end == "sqlite"))
        .filter(|path| !known.contains(path))
        .map(|path| path.display().to_string())
        .collect()
}

/// A resource as state has it.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) fqn: String,
    pub(super) name: Name,
    pub(super) status: String,
}

/// The resources that `state ls --json` printed.
pub(super) fn recorded(stdout: &str) -> Result<Vec<Recorded>, String> {
    let listed = messages(stdout)
        .find(|message| message["type"] == "resources")
        .ok_or_else(|| format!("no list of resources: {stdout}"))?;
    let all = listed["resources"].as_array().cloned().unwrap_or_default();
    let text = |resource: &Value, name: &str| resource[name].as_str().unwrap_or("").to_owned();
    Ok(all
        .iter()
        .map(|one| Recorded {
            fqn: text(one, "fqn"),
            name: (text(one, "kind"), text(one, "physical_name")),
            status: text(one, "status"),
        })
        .collect())
}

/// The messages of `--json`, without a last one that was cut off.
pub(super) fn messages(stdout: &str) -> impl Iterator<Item = Value> + '_ {
    stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// What of the results that a run printed state does not have.
pub(super) fn lost_results(stdout: &str, state: &[Recorded]) -> Vec<String> {
    let mut told: BTreeMap<(String, String), Value> = BTreeMap::new();
    for message in messages(stdout).filter(|message| message["type"] == "apply_complete") {
        let text = |name: &str| message[name].as_str().unwrap_or("").to_owned();
        told.insert((text("fqn"), text("physical_name")), message);
    }
    told.iter()
        .filter(|((fqn, name), message)| {
            let mut all = state.iter();
            let there = all.any(|one| one.fqn == *fqn && one.name.1 == *name);
            there == (message["action"] == "delete")
        })
        .map(|(_, message)| message.to_string())
        .collect()
}

pub(super) fn is_counted(name: &Name) -> bool {
    KINDS.iter().any(|(kind, _)| name.0 == *kind)
}
