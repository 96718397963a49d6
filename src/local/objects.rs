//! Simple objects of the control plane: a name, a body of JSON and perhaps secrets, in one table for all products.
//!
//! What a product accepts and answers is the business of its routes in `api`; here objects are kept, found and removed.
//!
//! Invariants: a name is unique among the objects of one kind below one parent, decided by the table itself; secrets are
//! stored encrypted only; an object that goes takes everything below it along.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};

use super::{
    control::{ControlError, is_conflict, seal_key},
    seal,
};

/// The table.
pub(super) const MIGRATION: &str = "
    CREATE TABLE objects(
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL,
        body TEXT NOT NULL, secrets TEXT NOT NULL DEFAULT '{}',
        created_at TEXT NOT NULL, modified_at TEXT NOT NULL, UNIQUE(kind, parent, name)
    ) STRICT;
    CREATE INDEX objects_parent ON objects(parent);
";

const COLUMNS: &str = "id, parent, name, body, secrets, created_at, modified_at";

/// An object of some kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    /// Unique among all objects.
    pub(super) id: String,
    /// The id of the object that it belongs to; empty for those of the account.
    pub(super) parent: String,
    /// Unique among its kind below its parent.
    pub(super) name: String,
    /// Everything else that is no secret.
    pub(super) body: Map<String, Value>,
    /// Secrets by the name of their field, encrypted.
    sealed: Map<String, Value>,
    /// When it was made.
    pub(super) created_at: String,
    /// When it was last changed.
    pub(super) modified_at: String,
}

impl Object {
    /// An object that is not stored yet.
    pub(super) fn new(
        id: impl Into<String>,
        parent: impl Into<String>,
        name: impl Into<String>,
        body: Map<String, Value>,
        now: String,
    ) -> Self {
        Self {
            id: id.into(),
            parent: parent.into(),
            name: name.into(),
            body,
            sealed: Map::new(),
            created_at: now.clone(),
            modified_at: now,
        }
    }

    /// Gives it a secret, or another value for one.
    pub(super) fn hide(
        &mut self,
        connection: &Connection,
        field: &str,
        text: &str,
    ) -> Result<(), ControlError> {
        let sealed = seal::seal(&seal_key(connection)?, text);
        self.sealed.insert(field.to_owned(), sealed.into());
        Ok(())
    }

    /// A secret of it; none when it has no such field.
    pub(super) fn reveal(
        &self,
        connection: &Connection,
        field: &str,
    ) -> Result<Option<String>, ControlError> {
        let Some(sealed) = self.sealed.get(field).and_then(Value::as_str) else {
            return Ok(None);
        };
        let text = seal::unseal(&seal_key(connection)?, sealed).ok_or_else(|| {
            ControlError::Unreadable {
                reason: format!(
                    "a secret of `{}` cannot be decrypted; set it again",
                    self.name
                ),
            }
        })?;
        Ok(Some(text))
    }

    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let json = |index: usize| -> Result<Map<String, Value>, rusqlite::Error> {
            let text: String = row.get(index)?;
            serde_json::from_str(&text).map_err(|error| {
                let text = rusqlite::types::Type::Text;
                rusqlite::Error::FromSqlConversionFailure(index, text, Box::new(error))
            })
        };
        Ok(Self {
            id: row.get(0)?,
            parent: row.get(1)?,
            name: row.get(2)?,
            body: json(3)?,
            sealed: json(4)?,
            created_at: row.get(5)?,
            modified_at: row.get(6)?,
        })
    }
}

/// Stores a new object. Answers `false`, and stores nothing, when the name is taken.
pub(super) fn insert(
    connection: &Connection,
    kind: &str,
    object: &Object,
) -> Result<bool, rusqlite::Error> {
    taken(connection.execute(
        &format!("INSERT INTO objects(kind, {COLUMNS}) VALUES(?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        params![
            object.id,
            object.parent,
            object.name,
            text(&object.body),
            text(&object.sealed),
            object.created_at,
            object.modified_at,
            kind,
        ],
    ))
}

/// Stores what an object has become. Answers `false`, and stores nothing, when its new name is taken.
pub(super) fn update(connection: &Connection, object: &Object) -> Result<bool, rusqlite::Error> {
    taken(connection.execute(
        "UPDATE objects SET name = ?2, body = ?3, secrets = ?4, modified_at = ?5 WHERE id = ?1",
        params![
            object.id,
            object.name,
            text(&object.body),
            text(&object.sealed),
            object.modified_at
        ],
    ))
}

fn taken(changed: Result<usize, rusqlite::Error>) -> Result<bool, rusqlite::Error> {
    match changed {
        Ok(_) => Ok(true),
        Err(error) if is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn text(map: &Map<String, Value>) -> String {
    Value::Object(map.clone()).to_string()
}

/// The object of that id.
pub(super) fn get(
    connection: &Connection,
    kind: &str,
    id: &str,
) -> Result<Option<Object>, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND id = ?2"
        ))?
        .query_row([kind, id], Object::of)
        .optional()
}

/// The object of that name below a parent.
pub(super) fn named(
    connection: &Connection,
    kind: &str,
    parent: &str,
    name: &str,
) -> Result<Option<Object>, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND parent = ?2 AND name = ?3"
        ))?
        .query_row([kind, parent, name], Object::of)
        .optional()
}

/// All objects below a parent, oldest first.
pub(super) fn below(
    connection: &Connection,
    kind: &str,
    parent: &str,
) -> Result<Vec<Object>, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND parent = ?2 ORDER BY created_at, name"
        ))?
        .query_map([kind, parent], Object::of)?
        .collect()
}

/// All objects of a kind, oldest first.
pub(super) fn all(connection: &Connection, kind: &str) -> Result<Vec<Object>, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM objects WHERE kind = ?1 ORDER BY created_at, name"
        ))?
        .query_map([kind], Object::of)?
        .collect()
}

/// Removes an object and everything below it. Answers whether there was one.
pub(super) fn remove(
    connection: &Connection,
    kind: &str,
    id: &str,
) -> Result<bool, rusqlite::Error> {
    let removed = connection.execute(
        "WITH RECURSIVE gone(id) AS (
            SELECT id FROM objects WHERE kind = ?1 AND id = ?2
            UNION SELECT objects.id FROM objects JOIN gone ON objects.parent = gone.id
        ) DELETE FROM objects WHERE id IN gone",
        [kind, id],
    )?;
    Ok(removed > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::local::control::Control;

    fn object(id: &str, parent: &str, name: &str) -> Object {
        Object::new(
            id,
            parent,
            name,
            Map::new(),
            "2026-01-02T03:04:05Z".to_owned(),
        )
    }

    #[test]
    fn names_are_unique_below_a_parent_and_children_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::new(folder.path().join("control.sqlite"));
        control
            .write::<_, ControlError>(|connection| {
                assert!(insert(connection, "zone", &object("z1", "", "a"))?);
                assert!(!insert(connection, "zone", &object("z2", "", "a"))?);
                assert!(insert(connection, "zone", &object("z3", "", "b"))?);
                for (id, parent) in [("r1", "z1"), ("r2", "z3"), ("s1", "r1")] {
                    assert!(insert(connection, "route", &object(id, parent, "same"))?);
                }
                let mut renamed = object("z3", "", "a");
                assert!(!update(connection, &renamed)?);
                renamed.name = "c".to_owned();
                assert!(update(connection, &renamed)?);
                assert_eq!(named(connection, "zone", "", "c")?.unwrap().id, "z3");
                assert!(!remove(connection, "route", "z1")?);
                assert!(remove(connection, "zone", "z1")?);
                let left: Vec<_> = all(connection, "route")?
                    .into_iter()
                    .map(|o| o.id)
                    .collect();
                assert_eq!(left, ["r2"]);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn secrets_are_stored_encrypted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sqlite");
        let control = Control::new(path);
        control
            .write::<_, ControlError>(|connection| {
                let mut made = object("s1", "", "key");
                made.body.insert("a".to_owned(), json!(1));
                made.hide(connection, "value", "very-secret-value")?;
                insert(connection, "secret", &made)?;
                let found = get(connection, "secret", "s1")?.unwrap();
                assert_eq!(found, made);
                let text = found.reveal(connection, "value")?;
                assert_eq!(text.as_deref(), Some("very-secret-value"));
                assert_eq!(found.reveal(connection, "other")?, None);
                Ok(())
            })
            .unwrap();
        for file in ["control.sqlite", "control.sqlite-wal"] {
            let bytes = crate::util::fs::read(&folder.path().join(file)).unwrap();
            let plain = b"very-secret-value";
            assert!(!bytes.windows(plain.len()).any(|window| window == plain));
        }
    }
}
