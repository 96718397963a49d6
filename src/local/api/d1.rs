//! D1 databases: create, list, read, settings, delete. SQL is in `d1_query`.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, now, run},
    d1_export, d1_import, d1_query, d1_time_travel,
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
};
use crate::local::{Cloud, control::is_conflict, data, discarded, layout};

/// The code for a property that is wrong.
pub(super) const INVALID: u32 = 7400;
const EXISTS: u32 = 7502;
const NOT_FOUND: u32 = 7404;
const NAME_LIMIT: usize = 63;
const LOCATIONS: [&str; 6] = ["wnam", "enam", "weur", "eeur", "apac", "oc"];
const JURISDICTIONS: [&str; 2] = ["eu", "fedramp"];
const COLUMNS: &str = "uuid, name, created_at, jurisdiction, location, replication";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let one = account_path("d1/database/{database}");
    Router::new()
        .route(
            &account_path("d1/database"),
            get(run(list)).post(run(create)),
        )
        .route(
            &one,
            get(run(read))
                .put(run(update))
                .patch(run(update))
                .delete(run(delete)),
        )
        .route(&format!("{one}/query"), post(run(d1_query::query)))
        .route(&format!("{one}/raw"), post(run(d1_query::raw)))
        .route(&format!("{one}/import"), post(run(d1_import::import)))
        .route(&format!("{one}/export"), post(run(d1_export::export)))
        .route(
            &format!("{one}/time_travel/bookmark"),
            get(run(d1_time_travel::read)),
        )
        .route(
            &format!("{one}/time_travel/restore"),
            post(run(d1_time_travel::restore)),
        )
}

/// A database as the control plane knows it.
pub(super) struct Database {
    /// Its id, which names its file.
    pub(super) uuid: String,
    name: String,
    created_at: String,
    jurisdiction: Option<String>,
    location: Option<String>,
    replication: String,
}

impl Database {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            uuid: row.get(0)?,
            name: row.get(1)?,
            created_at: row.get(2)?,
            jurisdiction: row.get(3)?,
            location: row.get(4)?,
            replication: row.get(5)?,
        })
    }

    fn summary(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("uuid".to_owned(), json!(self.uuid));
        map.insert("name".to_owned(), json!(self.name));
        map.insert("created_at".to_owned(), json!(self.created_at));
        map.insert("version".to_owned(), json!("production"));
        map.insert("jurisdiction".to_owned(), json!(self.jurisdiction));
        map
    }

    fn details(&self, cloud: &Cloud) -> Result<Value, ApiError> {
        let file = layout::d1_file(&cloud.folder, &self.uuid);
        let connection = data::open(&file)?;
        let (tables, size) = connection.query_row(
            "SELECT (SELECT count(*) FROM sqlite_schema WHERE type = 'table'
                     AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'),
                    (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        let mut map = self.summary();
        map.insert("num_tables".to_owned(), json!(tables));
        map.insert("file_size".to_owned(), json!(size));
        map.insert(
            "running_in_region".to_owned(),
            json!(self.location.as_deref().unwrap_or("local").to_uppercase()),
        );
        map.insert(
            "read_replication".to_owned(),
            json!({"mode": self.replication}),
        );
        Ok(Value::Object(map))
    }
}

/// The database that the path names by id or by name.
pub(super) fn find(cloud: &Cloud, call: &Call) -> Result<Database, ApiError> {
    let wanted = call.parameter("database");
    let found = cloud.control.run(|connection| {
        connection
            .query_row(
                &format!(
                    "SELECT {COLUMNS} FROM d1_databases WHERE uuid = ?1 OR name = ?1
                     ORDER BY uuid = ?1 DESC LIMIT 1"
                ),
                [wanted],
                Database::of,
            )
            .optional()
            .map_err(ApiError::from)
    })?;
    found.ok_or_else(|| not_found(wanted))
}

/// Whether a database with this id exists.
pub(super) fn exists(connection: &Connection, uuid: &str) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM d1_databases WHERE uuid = ?1")?
        .exists([uuid])
}

fn not_found(wanted: &str) -> ApiError {
    ApiError::not_found(
        NOT_FOUND,
        format!("The database {wanted} could not be found"),
    )
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 1000, 10_000, INVALID)?;
    let name = call.query("name").unwrap_or_default();
    // `instr` and not LIKE: the name is text, not a pattern.
    let (rows, total) = cloud.control.run(|connection| {
        let total: i64 = connection.query_row(
            "SELECT count(*) FROM d1_databases WHERE instr(name, ?1) > 0",
            [name],
            |row| row.get(0),
        )?;
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM d1_databases WHERE instr(name, ?1) > 0
             ORDER BY created_at, name LIMIT ?2 OFFSET ?3"
        ))?;
        let rows = statement
            .query_map(params![name, page.limit(), page.offset()], Database::of)?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((rows, total))
    })?;
    let items: Vec<Value> = rows
        .into_iter()
        .map(|database| {
            let mut map = database.summary();
            let file = layout::d1_file(&cloud.folder, &database.uuid);
            // Only a hint here: what is in the log is not counted, opening every file would be too dear.
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            map.insert("file_size".to_owned(), json!(size));
            map.insert("num_tables".to_owned(), Value::Null);
            Value::Object(map)
        })
        .collect();
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    first
        && name.len() <= NAME_LIMIT
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        })
}

fn choice<'a>(
    body: &'a Map<String, Value>,
    name: &str,
    allowed: &[&str],
) -> Result<Option<&'a str>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if allowed.contains(&text.as_str()) => Ok(Some(text)),
        Some(other) => Err(invalid(format!(
            "invalid property: {name} must be one of {}, not {other}",
            allowed.join(", ")
        ))),
    }
}

fn replication(body: &Map<String, Value>) -> Result<Option<&str>, ApiError> {
    match body.get("read_replication") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => choice(map, "mode", &["auto", "disabled"])?
            .map(Some)
            .ok_or_else(|| invalid("invalid property: read_replication.mode is required")),
        Some(_) => Err(invalid(
            "invalid property: read_replication must be an object",
        )),
    }
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let name = body
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("invalid property: name is required and must be a string"))?;
    if !valid_name(name) {
        return Err(invalid(format!(
            "invalid property: name `{name}` must match ^[a-z0-9][a-z0-9-_]*$ and have at most {NAME_LIMIT} characters"
        )));
    }
    let database = Database {
        uuid: uuid::Uuid::new_v4().to_string(),
        name: name.to_owned(),
        created_at: now(),
        jurisdiction: choice(&body, "jurisdiction", &JURISDICTIONS)?.map(str::to_owned),
        location: choice(&body, "primary_location_hint", &LOCATIONS)?.map(str::to_owned),
        replication: replication(&body)?.unwrap_or("disabled").to_owned(),
    };
    cloud.control.run(|connection| {
        let inserted = connection.execute(
            &format!("INSERT INTO d1_databases({COLUMNS}) VALUES(?1, ?2, ?3, ?4, ?5, ?6)"),
            params![
                database.uuid,
                database.name,
                database.created_at,
                database.jurisdiction,
                database.location,
                database.replication
            ],
        );
        match inserted {
            Err(error) if is_conflict(&error) => Err(ApiError::bad_request(
                EXISTS,
                format!("database with name '{name}' already exists"),
            )),
            other => Ok(other.map(drop)?),
        }
    })?;
    // A crash before this line leaves a database whose file is made at its first use.
    ok(&database.details(cloud)?)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let Value::Object(mut details) = find(cloud, call)?.details(cloud)? else {
        return Err(ApiError::internal("a database is not an object"));
    };
    if let Some(fields) = call.query("fields") {
        let wanted: Vec<&str> = fields.split(',').map(str::trim).collect();
        details.retain(|name, _| wanted.contains(&name.as_str()));
    }
    ok(&Value::Object(details))
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let mut database = find(cloud, call)?;
    let body = call.object(INVALID)?;
    if let Some(mode) = replication(&body)? {
        let changed = cloud.control.run(|connection| {
            connection
                .execute(
                    "UPDATE d1_databases SET replication = ?2 WHERE uuid = ?1",
                    [database.uuid.as_str(), mode],
                )
                .map_err(ApiError::from)
        })?;
        if changed == 0 {
            return Err(not_found(&database.uuid));
        }
        mode.clone_into(&mut database.replication);
    }
    ok(&database.details(cloud)?)
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let database = find(cloud, call)?;
    cloud.control.write(|transaction| {
        let removed =
            transaction.execute("DELETE FROM d1_databases WHERE uuid = ?1", [&database.uuid])?;
        if removed == 0 {
            return Err(not_found(&database.uuid));
        }
        let file = layout::d1_file(&cloud.folder, &database.uuid);
        Ok(discarded::note(transaction, &cloud.folder, &file)?)
    })?;
    cloud.control.sweep()?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::{layout, testing::Client};

    const PATH: &str = "/accounts/local/d1/database";

    #[tokio::test]
    async fn a_database_lives_and_dies_with_its_file() {
        let client = Client::new();
        let body = json!({"name": "main", "primary_location_hint": "weur"});
        let created = client.ok("POST", PATH, Some(body.clone())).await;
        let uuid = created["result"]["uuid"].as_str().unwrap();
        let file = layout::d1_file(client.folder.path(), uuid);
        assert!(file.exists());
        assert_eq!(client.fails("POST", PATH, Some(body)).await, (400, 7502));
        for key in [uuid, "main"] {
            let read = client.ok("GET", &format!("{PATH}/{key}"), None).await;
            assert_eq!(read["result"]["uuid"], uuid);
            assert_eq!(read["result"]["num_tables"], 0);
        }
        let fields = client
            .ok("GET", &format!("{PATH}/main?fields=uuid,name"), None)
            .await;
        assert_eq!(fields["result"], json!({"uuid": uuid, "name": "main"}));
        let changed = client
            .ok(
                "PATCH",
                &format!("{PATH}/{uuid}"),
                Some(json!({"read_replication": {"mode": "auto"}})),
            )
            .await;
        assert_eq!(changed["result"]["read_replication"]["mode"], "auto");
        let deleted = client.ok("DELETE", &format!("{PATH}/{uuid}"), None).await;
        assert!(deleted["result"].is_null());
        assert!(!file.exists());
        let one = format!("{PATH}/{uuid}");
        assert_eq!(client.fails("GET", &one, None).await, (404, 7404));
        assert_eq!(client.fails("DELETE", &one, None).await, (404, 7404));
    }

    #[tokio::test]
    async fn bad_bodies_are_refused() {
        let client = Client::new();
        for body in [
            json!({}),
            json!([]),
            json!({"name": 1}),
            json!({"name": "Upper"}),
            json!({"name": ""}),
            json!({"name": "-x"}),
            json!({"name": "a".repeat(64)}),
            json!({"name": "a", "primary_location_hint": "moon"}),
            json!({"name": "a", "jurisdiction": "us"}),
            json!({"name": "a", "read_replication": {"mode": "x"}}),
        ] {
            assert_eq!(client.fails("POST", PATH, Some(body)).await, (400, 7400));
        }
        let (status, body) = client.send("POST", PATH, &[], b"{".to_vec()).await;
        assert_eq!(
            (status.as_u16(), &body["errors"][0]["code"]),
            (400, &json!(7400))
        );
        let (status, _) = client
            .send(
                "POST",
                PATH,
                &[("content-type", "text/plain")],
                br#"{"name":"plain"}"#.to_vec(),
            )
            .await;
        assert_eq!(status.as_u16(), 200);
    }

    #[tokio::test]
    async fn lists_come_in_pages_and_end_empty() {
        let client = Client::new();
        for index in 0..5 {
            client
                .ok("POST", PATH, Some(json!({"name": format!("db-{index}")})))
                .await;
        }
        let page = client
            .ok("GET", &format!("{PATH}?per_page=2&page=3"), None)
            .await;
        assert_eq!(page["result"][0]["name"], "db-4");
        assert_eq!(
            page["result_info"],
            json!({"page": 3, "per_page": 2, "count": 1, "total_count": 5, "total_pages": 3})
        );
        let past = client
            .ok(
                "GET",
                &format!("{PATH}?per_page=2&page=9223372036854775807"),
                None,
            )
            .await;
        assert_eq!(past["result"], json!([]));
        let named = client.ok("GET", &format!("{PATH}?name=db-3"), None).await;
        assert_eq!(named["result_info"]["total_count"], 1);
        for query in ["page=0", "page=x", "per_page=-1"] {
            assert_eq!(
                client.fails("GET", &format!("{PATH}?{query}"), None).await,
                (400, 7400)
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_racers_for_a_name_one_wins() {
        let first = Client::new();
        let clients: Vec<Client> = (0..8).map(|_| first.sibling()).collect();
        let calls = clients
            .iter()
            .map(|client| client.call("POST", PATH, Some(json!({"name": "race"}))));
        let answers = futures::future::join_all(calls).await;
        let won = answers.iter().filter(|(status, _)| status.is_success());
        assert_eq!(won.count(), 1);
        for (status, body) in answers {
            assert!(
                status.is_success() || body["errors"][0]["code"] == 7502,
                "{body}"
            );
        }
        let list = first.ok("GET", PATH, None).await;
        assert_eq!(list["result_info"]["total_count"], 1);
    }
}
