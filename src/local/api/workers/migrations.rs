//! Durable Object migrations: which classes of a script have namespaces, changed by tagged steps with an upload.
//!
//! A namespace keeps its id, and with it its data, when its class is renamed or moves to another script. The data of deleted
//! ones lies in files, which go after the transaction: a crash between the two leaves files that nothing names.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};

use super::{
    super::{
        call::{hex_id, now},
        error::ApiError,
    },
    REFUSED,
};
use crate::local::{Cloud, discarded, layout};

const CONFLICT: u32 = 10074;
const OTHER_TAG: u32 = 10079;
const STEPS_LIMIT: usize = 100;

/// The Durable Objects of one class of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Namespace {
    /// For life, whatever the class is called.
    pub(in crate::local) id: String,
    pub(in crate::local) script: String,
    pub(in crate::local) class: String,
    /// Whether its objects have the SQL interface.
    pub(in crate::local) sqlite: bool,
}

const QUERY: &str = "SELECT id, script, class, sqlite FROM durable_object_namespaces";

impl Namespace {
    /// Reads a row of `id, script, class, sqlite`.
    pub(in crate::local::api) fn of_row(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            script: row.get(1)?,
            class: row.get(2)?,
            sqlite: row.get(3)?,
        })
    }
}

/// The namespaces of a script, by class.
pub(super) fn namespaces(
    connection: &Connection,
    script: &str,
) -> Result<Vec<Namespace>, rusqlite::Error> {
    let mut statement =
        connection.prepare_cached(&format!("{QUERY} WHERE script = ?1 ORDER BY class"))?;
    statement.query_map([script], Namespace::of_row)?.collect()
}

/// The namespace of a class.
pub(super) fn namespace(
    connection: &Connection,
    script: &str,
    class: &str,
) -> Result<Option<Namespace>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("{QUERY} WHERE script = ?1 AND class = ?2"))?
        .query_row([script, class], Namespace::of_row)
        .optional()
}

/// Notes, in the transaction in which namespaces go, that their objects go with them.
pub(super) fn discard<'a>(
    cloud: &Cloud,
    transaction: &Connection,
    namespaces: impl IntoIterator<Item = &'a String>,
) -> Result<(), rusqlite::Error> {
    for id in namespaces {
        let objects = layout::objects_folder(&cloud.folder, id);
        discarded::note(transaction, &cloud.folder, &objects)?;
    }
    Ok(())
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(REFUSED, message)
}

fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(CONFLICT, message)
}

/// Carries out the `migrations` of an upload; the objects of the namespaces that are gone await the next sweep.
pub(super) fn apply(
    cloud: &Cloud,
    connection: &Connection,
    script: &str,
    migrations: Option<&Value>,
) -> Result<(), ApiError> {
    let migrations = match migrations {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(migrations)) if migrations.is_empty() => return Ok(()),
        Some(Value::Object(migrations)) => migrations,
        Some(_) => return Err(refused("`migrations` must be an object")),
    };
    let tag = |name: &str| match migrations.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(tag)) => Ok(Some(tag.as_str())),
        Some(_) => Err(refused(format!("`migrations.{name}` must be a string"))),
    };
    let (old, new) = (tag("old_tag")?, tag("new_tag")?);
    let present: Option<String> = connection.query_row(
        "SELECT migration_tag FROM scripts WHERE name = ?1",
        [script],
        |row| row.get(0),
    )?;
    if old.filter(|tag| !tag.is_empty()) != present.as_deref() {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            OTHER_TAG,
            format!(
                "Migration tag precondition failed for script {script}: got tag '{}' when expected tag is '{}'",
                old.unwrap_or_default(),
                present.unwrap_or_default()
            ),
        ));
    }
    let steps = match migrations.get("steps") {
        None | Some(Value::Null) => vec![migrations],
        Some(Value::Array(steps)) if steps.len() <= STEPS_LIMIT => steps
            .iter()
            .map(|step| {
                step.as_object()
                    .ok_or_else(|| refused("a step of `migrations` must be an object"))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => {
            return Err(refused(format!(
                "`migrations.steps` must be an array of at most {STEPS_LIMIT} steps"
            )));
        }
    };
    let mut gone = Vec::new();
    for step in steps {
        gone.extend(Step::read(step)?.apply(connection, script)?);
    }
    if new.is_some() {
        connection.execute(
            "UPDATE scripts SET migration_tag = ?2 WHERE name = ?1",
            params![script, new],
        )?;
    }
    Ok(discard(cloud, connection, &gone)?)
}

/// What one migration asks for.
#[derive(Debug, Default)]
struct Step<'a> {
    /// Class, and whether it has the SQL interface.
    new: Vec<(&'a str, bool)>,
    /// From and to.
    renamed: Vec<(&'a str, &'a str)>,
    /// From, the script it comes from, and to.
    transferred: Vec<(&'a str, &'a str, &'a str)>,
    deleted: Vec<&'a str>,
}

impl<'a> Step<'a> {
    fn read(map: &'a Map<String, Value>) -> Result<Self, ApiError> {
        let classes = |name: &'static str| {
            list(map, name)?
                .iter()
                .map(|class| {
                    class
                        .as_str()
                        .ok_or(name)
                        .and_then(|class| valid(class, name))
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|name| refused(format!("`migrations.{name}` must list names of classes")))
        };
        let field = |item: &'a Value, key: &str, name: &'static str| {
            item.get(key)
                .and_then(Value::as_str)
                .ok_or(name)
                .and_then(|class| match key {
                    "from_script" => Ok(class),
                    _ => valid(class, name),
                })
                .map_err(|name| refused(format!("`migrations.{name}` needs `{key}`, a name")))
        };
        let mut step = Self {
            deleted: classes("deleted_classes")?,
            ..Self::default()
        };
        for (name, sqlite) in [("new_classes", false), ("new_sqlite_classes", true)] {
            let new = classes(name)?;
            step.new
                .extend(new.into_iter().map(|class| (class, sqlite)));
        }
        for item in list(map, "renamed_classes")? {
            let name = "renamed_classes";
            step.renamed
                .push((field(item, "from", name)?, field(item, "to", name)?));
        }
        for item in list(map, "transferred_classes")? {
            let name = "transferred_classes";
            step.transferred.push((
                field(item, "from", name)?,
                field(item, "from_script", name)?,
                field(item, "to", name)?,
            ));
        }
        Ok(step)
    }

    /// Carries it out; answers the ids of the namespaces that are gone.
    fn apply(&self, connection: &Connection, script: &str) -> Result<Vec<String>, ApiError> {
        let mut sources = BTreeSet::new();
        let named = self
            .deleted
            .iter()
            .chain(self.renamed.iter().map(|(from, _)| from));
        if let Some(class) = named.into_iter().find(|class| !sources.insert(**class)) {
            return Err(conflict(format!(
                "class '{class}' is the subject of more than one migration"
            )));
        }
        let mut gone = Vec::new();
        for class in &self.deleted {
            gone.push(existing(connection, script, class, "deleted_classes")?);
        }
        for id in &gone {
            connection.execute("DELETE FROM durable_object_namespaces WHERE id = ?1", [id])?;
        }
        let mut moved = Vec::new();
        for (from, to) in &self.renamed {
            moved.push((existing(connection, script, from, "renamed_classes")?, *to));
        }
        for (from, from_script, to) in &self.transferred {
            let id = existing(connection, from_script, from, "transferred_classes")?;
            moved.push((id, *to));
        }
        // Out of the way first, so that classes can change their names among each other.
        for (id, _) in &moved {
            connection.execute(
                "UPDATE durable_object_namespaces SET script = ?2, class = ?3 WHERE id = ?1",
                params![id, script, format!("\0{id}")],
            )?;
        }
        for (id, to) in moved {
            free(connection, script, to)?;
            connection.execute(
                "UPDATE durable_object_namespaces SET class = ?2 WHERE id = ?1",
                params![id, to],
            )?;
        }
        for (class, sqlite) in &self.new {
            free(connection, script, class)?;
            connection.execute(
                "INSERT INTO durable_object_namespaces(id, script, class, sqlite, created_at) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![hex_id(), script, class, sqlite, now()],
            )?;
        }
        Ok(gone)
    }
}

fn list<'a>(map: &'a Map<String, Value>, name: &'static str) -> Result<&'a [Value], ApiError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(refused(format!("`migrations.{name}` must be an array"))),
    }
}

/// The name of a class that a module can export.
fn valid<'a>(class: &'a str, name: &'static str) -> Result<&'a str, &'static str> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    let fits = class.starts_with(letter)
        && class.len() <= 255
        && class.chars().all(|c| letter(c) || c.is_ascii_digit());
    if fits { Ok(class) } else { Err(name) }
}

/// The id of the namespace of a class that must be there.
fn existing(
    connection: &Connection,
    script: &str,
    class: &str,
    what: &str,
) -> Result<String, ApiError> {
    namespace(connection, script, class)?
        .map(|namespace| namespace.id)
        .ok_or_else(|| {
            conflict(format!(
                "Cannot apply {what} migration to class '{class}': script '{script}' has no Durable Objects of it"
            ))
        })
}

/// Refuses a class that is there already.
fn free(connection: &Connection, script: &str, class: &str) -> Result<(), ApiError> {
    match namespace(connection, script, class)? {
        None => Ok(()),
        Some(_) => Err(conflict(format!(
            "Cannot apply migration to class '{class}' that is already depended on by existing Durable Objects"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        local::{
            layout,
            testing::{Client, code, try_upload, upload},
        },
        util::fs,
    };

    const NAMESPACES: &str = "/accounts/local/workers/durable_objects/namespaces";

    async fn all(client: &Client) -> Vec<Value> {
        let list = client.ok("GET", NAMESPACES, None).await;
        list["result"].as_array().unwrap().clone()
    }

    fn names(namespaces: &[Value]) -> Vec<String> {
        let name = |namespace: &Value| namespace["name"].as_str().unwrap().to_owned();
        namespaces.iter().map(name).collect()
    }

    #[tokio::test]
    async fn classes_come_change_their_names_move_and_go_with_their_data() {
        let client = Client::new();
        let first =
            json!({"new_tag": "v1", "new_sqlite_classes": ["Room"], "new_classes": ["Old"]});
        let binding =
            json!({"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"});
        upload(
            &client,
            "api",
            json!({"migrations": first, "bindings": [binding]}),
        )
        .await;
        let service = "/accounts/local/workers/services/api";
        let tag = "/result/default_environment/script/migration_tag";
        let seen = client.ok("GET", service, None).await;
        assert_eq!(seen.pointer(tag), Some(&json!("v1")));
        let before = all(&client).await;
        assert_eq!(names(&before), ["api_Old", "api_Room"]);
        assert_eq!(
            (&before[1]["use_sqlite"], &before[0]["use_sqlite"]),
            (&json!(true), &json!(false))
        );
        let settings = client
            .ok("GET", "/accounts/local/workers/scripts/api/settings", None)
            .await;
        assert_eq!(
            settings["result"]["bindings"][0]["namespace_id"],
            before[1]["id"]
        );

        let id = before[1]["id"].as_str().unwrap();
        let folder = layout::objects_folder(client.folder.path(), id);
        fs::create_dir_all(&folder).unwrap();
        let object = "ab".repeat(32);
        for file in [
            format!("{object}.sqlite"),
            format!("{object}.sqlite-wal"),
            "metadata.sqlite".to_owned(),
        ] {
            fs::write_atomic(&folder.join(file), b"x").unwrap();
        }
        let objects = format!("{NAMESPACES}/{id}/objects");
        let listed = client.ok("GET", &objects, None).await;
        assert_eq!(
            listed["result"],
            json!([{"id": object, "hasStoredData": true}])
        );
        assert_eq!(
            client
                .fails(
                    "GET",
                    &format!("{NAMESPACES}/{}/objects", "0".repeat(32)),
                    None
                )
                .await,
            (404, 10066)
        );

        let second = json!({"old_tag": "v1", "new_tag": "v2", "steps": [
            {"renamed_classes": [{"from": "Room", "to": "Old"}, {"from": "Old", "to": "Room"}]},
            {"renamed_classes": [{"from": "Old", "to": "Hall"}]},
        ]});
        upload(&client, "api", json!({"migrations": second})).await;
        let after = all(&client).await;
        assert_eq!(names(&after), ["api_Hall", "api_Room"]);
        assert_eq!(
            (&after[0]["id"], &after[1]["id"]),
            (&before[1]["id"], &before[0]["id"])
        );

        let moved = json!({"new_tag": "a", "transferred_classes": [{"from": "Hall", "from_script": "api", "to": "Den"}]});
        upload(&client, "other", json!({"migrations": moved})).await;
        assert_eq!(names(&all(&client).await), ["api_Room", "other_Den"]);
        assert_eq!(
            client.ok("GET", &objects, None).await["result"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        let gone = json!({"old_tag": "a", "new_tag": "b", "deleted_classes": ["Den"]});
        upload(&client, "other", json!({"migrations": gone})).await;
        assert!(!folder.exists());
        client
            .ok("DELETE", "/accounts/local/workers/scripts/api", None)
            .await;
        assert!(all(&client).await.is_empty());
    }

    #[tokio::test]
    async fn migrations_that_do_not_fit_change_nothing() {
        let client = Client::new();
        let first = json!({"new_tag": "v1", "new_sqlite_classes": ["Room"]});
        upload(&client, "api", json!({"migrations": first})).await;
        for (migrations, status, expected) in [
            (json!({"new_tag": "v2", "new_classes": ["B"]}), 412, 10079),
            (
                json!({"old_tag": "v0", "new_tag": "v2", "new_classes": ["B"]}),
                412,
                10079,
            ),
            (
                json!({"old_tag": "v1", "new_tag": "v2", "new_classes": ["B", "Room"]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "new_classes": ["B"], "new_sqlite_classes": ["B"]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "deleted_classes": ["No"]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "renamed_classes": [{"from": "No", "to": "B"}]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "deleted_classes": ["Room"], "renamed_classes": [{"from": "Room", "to": "B"}]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "transferred_classes": [{"from": "A", "from_script": "x", "to": "B"}]}),
                400,
                10074,
            ),
            (
                json!({"old_tag": "v1", "renamed_classes": [{"from": "Room"}]}),
                400,
                10021,
            ),
            (json!({"old_tag": "v1", "new_classes": ["1st"]}), 400, 10021),
            (json!({"old_tag": "v1", "new_classes": "B"}), 400, 10021),
            (json!({"old_tag": "v1", "steps": [1]}), 400, 10021),
            (json!([1]), 400, 10021),
        ] {
            let (got, body) = try_upload(&client, "api", json!({"migrations": migrations})).await;
            assert_eq!(
                (got.as_u16(), code(&body)),
                (status, expected),
                "{migrations}: {body}"
            );
        }
        assert_eq!(names(&all(&client).await), ["api_Room"]);
        let (_, body) = try_upload(&client, "api", json!({"migrations": {"new_tag": "x"}})).await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("when expected tag is 'v1'"), "{message}");
    }

    #[tokio::test]
    async fn objects_of_another_script_are_bound_by_its_name() {
        let client = Client::new();
        let first = json!({"new_tag": "v1", "new_sqlite_classes": ["Room"]});
        upload(&client, "api", json!({"migrations": first})).await;
        let binding = |script: &str| {
            json!([{
            "name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": script}])
        };
        upload(&client, "web", json!({"bindings": binding("api")})).await;
        for script in ["web", "nobody"] {
            let (_, body) = try_upload(&client, "web", json!({"bindings": binding(script)})).await;
            assert_eq!(code(&body), 10061, "{body}");
        }
    }
}
