//! R2 buckets: their routes, creating, listing, reading, deleting. Objects are in `r2_objects`, the settings of a bucket in
//! `r2_settings`.
//!
//! The header `cf-r2-jurisdiction` selects a separate name space in every call.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::number,
    r2_domains as domains, r2_objects as objects, r2_settings as settings,
};
use crate::{
    local::{Cloud, control::is_conflict, data, layout},
    util::fs,
};

/// The code for a body that is wrong.
pub(super) const INVALID: u32 = 10040;
const EXISTS: u32 = 10004;
const BAD_NAME: u32 = 10005;
const NOT_FOUND: u32 = 10006;
const NOT_EMPTY: u32 = 10008;
const LIST_LIMIT: i64 = 1000;
const LOCATIONS: [&str; 6] = ["apac", "eeur", "enam", "weur", "wnam", "oc"];
const STORAGE_CLASSES: [&str; 2] = ["Standard", "InfrequentAccess"];
const COLUMNS: &str = "jurisdiction, name, id, created_at, location, storage_class, public";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("r2/buckets");
    let one = format!("{all}/{{bucket}}");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(&one, get(run(read)).patch(run(update)).delete(run(delete)))
        .route(
            &format!("{one}/cors"),
            get(run(settings::read_cors))
                .put(run(settings::write_cors))
                .delete(run(settings::delete_cors)),
        )
        .route(
            &format!("{one}/lifecycle"),
            get(run(settings::read_lifecycle)).put(run(settings::write_lifecycle)),
        )
        .route(
            &format!("{one}/lock"),
            get(run(settings::read_lock)).put(run(settings::write_lock)),
        )
        .route(
            &format!("{one}/domains/managed"),
            get(run(settings::read_public)).put(run(settings::write_public)),
        )
        .route(
            &format!("{one}/domains/custom"),
            get(run(domains::list)).post(run(domains::create)),
        )
        .route(
            &format!("{one}/domains/custom/{{domain}}"),
            get(run(domains::read))
                .put(run(domains::update))
                .delete(run(domains::delete)),
        )
        .route(
            &format!("{one}/objects"),
            get(run(objects::list)).delete(run(objects::delete_many)),
        )
        .route(
            &format!("{one}/objects/{{*key}}"),
            get(run(objects::read))
                .put(run(objects::write))
                .delete(run(objects::delete)),
        )
}

/// A bucket as the control plane knows it.
pub(super) struct Bucket {
    jurisdiction: String,
    name: String,
    pub(super) id: String,
    created_at: String,
    location: String,
    /// The class of objects that are stored without saying one.
    pub(super) storage_class: String,
    pub(super) public: bool,
}

impl Bucket {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            jurisdiction: row.get(0)?,
            name: row.get(1)?,
            id: row.get(2)?,
            created_at: row.get(3)?,
            location: row.get(4)?,
            storage_class: row.get(5)?,
            public: row.get(6)?,
        })
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "creation_date": self.created_at,
            "location": self.location,
            "storage_class": self.storage_class,
            "jurisdiction": self.jurisdiction,
        })
    }

    /// The name under which its data is stored.
    pub(super) fn key(&self) -> String {
        layout::bucket_key(&self.jurisdiction, &self.name)
    }
}

/// The jurisdiction that the call is about.
pub(super) fn jurisdiction(call: &Call) -> Result<&str, ApiError> {
    match call.header("cf-r2-jurisdiction") {
        None | Some("" | "default") => Ok("default"),
        Some(name @ ("eu" | "fedramp")) => Ok(name),
        Some(other) => Err(ApiError::bad_request(
            INVALID,
            format!("cf-r2-jurisdiction must be default, eu or fedramp, not `{other}`"),
        )),
    }
}

/// The bucket of the path, which must exist.
pub(super) fn require(connection: &Connection, call: &Call) -> Result<Bucket, ApiError> {
    let name = call.parameter("bucket");
    connection
        .query_row(
            &format!("SELECT {COLUMNS} FROM r2_buckets WHERE jurisdiction = ?1 AND name = ?2"),
            [jurisdiction(call)?, name],
            Bucket::of,
        )
        .optional()?
        .ok_or_else(no_bucket)
}

/// Whether a bucket exists.
pub(super) fn exists(
    connection: &Connection,
    jurisdiction: &str,
    name: &str,
) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM r2_buckets WHERE jurisdiction = ?1 AND name = ?2")?
        .exists([jurisdiction, name])
}

fn no_bucket() -> ApiError {
    ApiError::not_found(NOT_FOUND, "The specified bucket does not exist.")
}

/// The bucket of the path, read in a turn of its own at the database.
pub(super) fn find(cloud: &Cloud, call: &Call) -> Result<Bucket, ApiError> {
    cloud.control.run(|connection| require(connection, call))
}

fn valid_name(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

fn storage_class(value: Option<&str>) -> Result<Option<&str>, ApiError> {
    match value {
        None => Ok(None),
        Some(class) if STORAGE_CLASSES.contains(&class) => Ok(Some(class)),
        Some(other) => Err(ApiError::bad_request(
            INVALID,
            format!("storage class must be Standard or InfrequentAccess, not `{other}`"),
        )),
    }
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if !valid_name(name) {
        return Err(ApiError::bad_request(
            BAD_NAME,
            format!("The specified bucket name is not valid: `{name}` (3 to 63 of a-z, 0-9 and -)"),
        ));
    }
    let text = |field: &str| match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(ApiError::bad_request(
            INVALID,
            format!("`{field}` must be a string"),
        )),
    };
    let location = match text("locationHint")? {
        None => "weur".to_owned(),
        Some(hint) => hint.to_ascii_lowercase(),
    };
    if !LOCATIONS.contains(&location.as_str()) {
        return Err(ApiError::bad_request(
            INVALID,
            format!("`locationHint` must be one of {}", LOCATIONS.join(", ")),
        ));
    }
    let bucket = Bucket {
        jurisdiction: jurisdiction(call)?.to_owned(),
        name: name.to_owned(),
        id: hex_id(),
        created_at: now(),
        location: location.to_uppercase(),
        storage_class: storage_class(text("storageClass")?)?
            .unwrap_or("Standard")
            .to_owned(),
        public: false,
    };
    cloud.control.run(|connection| {
        let inserted = connection.execute(
            &format!("INSERT INTO r2_buckets({COLUMNS}) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
            params![
                bucket.jurisdiction,
                bucket.name,
                bucket.id,
                bucket.created_at,
                bucket.location,
                bucket.storage_class,
                bucket.public
            ],
        );
        match inserted {
            Err(error) if is_conflict(&error) => Err(ApiError::conflict(
                EXISTS,
                "The bucket you tried to create already exists, and you own it.",
            )),
            other => Ok(other.map(drop)?),
        }
    })?;
    ok(&bucket.value())
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let limit = number(call, "per_page", LIST_LIMIT, INVALID)?.min(LIST_LIMIT);
    let descending = match call.query("direction") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(other) => {
            return Err(ApiError::bad_request(
                INVALID,
                format!("`direction` must be asc or desc, not `{other}`"),
            ));
        }
    };
    let (order, compare) = if descending {
        ("DESC", "<")
    } else {
        ("ASC", ">")
    };
    let after = call
        .query("cursor")
        .filter(|cursor| !cursor.is_empty())
        .or(call.query("start_after"));
    let contains = call.query("name_contains").unwrap_or_default();
    let jurisdiction = jurisdiction(call)?;
    let mut buckets = cloud.control.run(|connection| {
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM r2_buckets
             WHERE jurisdiction = ?1 AND instr(name, ?2) > 0 AND (?3 IS NULL OR name {compare} ?3)
             ORDER BY name {order} LIMIT ?4"
        ))?;
        statement
            .query_map(
                params![jurisdiction, contains, after, limit + 1],
                Bucket::of,
            )?
            .collect::<Result<Vec<_>, _>>()
            .map_err(ApiError::from)
    })?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = buckets.len() > page;
    buckets.truncate(page);
    let mut info = json!({"per_page": limit});
    if let Some(last) = buckets.last().filter(|_| more) {
        info["cursor"] = json!(last.name);
    }
    let items: Vec<Value> = buckets.iter().map(Bucket::value).collect();
    ok_with_info(&json!({"buckets": items}), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    ok(&find(cloud, call)?.value())
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let class = storage_class(call.header("cf-r2-storage-class"))?.ok_or_else(|| {
        ApiError::bad_request(INVALID, "the header cf-r2-storage-class is required")
    })?;
    let bucket = cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        transaction.execute(
            "UPDATE r2_buckets SET storage_class = ?2 WHERE id = ?1",
            [bucket.id.as_str(), class],
        )?;
        require(transaction, call)
    })?;
    ok(&bucket.value())
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    // All in one transaction that shuts out writers of objects: they hold the same lock (see `r2_objects`).
    cloud.control.write(|transaction| {
        let bucket = require(transaction, call)?;
        let file = layout::r2_file(&cloud.folder, &bucket.key());
        if file.exists() && objects::any(&file)? {
            return Err(ApiError::conflict(
                NOT_EMPTY,
                "The bucket you tried to delete is not empty.",
            ));
        }
        data::remove(&file)?;
        fs::remove_dir_all(&layout::r2_folder(&cloud.folder, &bucket.key()))?;
        transaction.execute("DELETE FROM r2_buckets WHERE id = ?1", [&bucket.id])?;
        Ok(())
    })?;
    ok(&json!({}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::{Client, code};

    const PATH: &str = "/accounts/local/r2/buckets";

    #[tokio::test]
    async fn buckets_of_jurisdictions_are_apart() {
        let client = Client::new();
        let body = json!({"name": "files", "locationHint": "enam"});
        let created = client.ok("POST", PATH, Some(body.clone())).await;
        assert_eq!(created["result"]["location"], "ENAM");
        assert_eq!(created["result"]["storage_class"], "Standard");
        assert_eq!(
            client.fails("POST", PATH, Some(body.clone())).await,
            (409, 10004)
        );
        let eu = [("cf-r2-jurisdiction", "eu"), ("content-type", "text/plain")];
        let one = format!("{PATH}/files");
        let (status, answer) = client.send("GET", &one, &eu, Vec::new()).await;
        assert_eq!((status.as_u16(), code(&answer)), (404, 10006));
        let (status, _) = client
            .send("POST", PATH, &eu, body.to_string().into_bytes())
            .await;
        assert_eq!(status.as_u16(), 200);
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 10006));
        let (_, answer) = client.send("GET", &one, &eu, Vec::new()).await;
        assert_eq!(answer["result"]["jurisdiction"], "eu");
        let (status, _) = client
            .send("GET", &one, &[("cf-r2-jurisdiction", "mars")], Vec::new())
            .await;
        assert_eq!(status.as_u16(), 400);
    }

    #[tokio::test]
    async fn bad_names_are_refused() {
        let client = Client::new();
        for name in [
            json!("ab"),
            json!("-abc"),
            json!("abc-"),
            json!("a.b"),
            json!("Abc"),
            json!(1),
        ] {
            let body = json!({"name": name});
            assert_eq!(client.fails("POST", PATH, Some(body)).await, (400, 10005));
        }
    }

    #[tokio::test]
    async fn lists_follow_cursors() {
        let client = Client::new();
        for index in 0..5 {
            let body = json!({"name": format!("bucket-{index}")});
            client.ok("POST", PATH, Some(body)).await;
        }
        let first = client.ok("GET", &format!("{PATH}?per_page=3"), None).await;
        let cursor = first["result_info"]["cursor"].as_str().unwrap();
        let next = client
            .ok("GET", &format!("{PATH}?per_page=3&cursor={cursor}"), None)
            .await;
        assert_eq!(next["result"]["buckets"].as_array().unwrap().len(), 2);
        assert!(next["result_info"]["cursor"].is_null());
        let named = client
            .ok(
                "GET",
                &format!("{PATH}?name_contains=t-4&direction=desc"),
                None,
            )
            .await;
        assert_eq!(named["result"]["buckets"][0]["name"], "bucket-4");
    }
}
