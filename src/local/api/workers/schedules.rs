//! Cron triggers of a script.

use serde_json::{Value, json};

use super::{
    super::{
        call::{Call, now},
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    INVALID, model,
};
use crate::{local::Cloud, util::cron::Schedule};

const SCHEDULES_LIMIT: usize = 250;
const BAD_CRON: u32 = 10100;

/// `GET …/schedules`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let schedules = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        stored(connection, &script.name)
    })?;
    ok(&json!({"schedules": schedules}))
}

fn stored(connection: &rusqlite::Connection, script: &str) -> Result<Vec<Value>, ApiError> {
    let text: String = connection.query_row(
        "SELECT schedules FROM scripts WHERE name = ?1",
        [script],
        |row| row.get(0),
    )?;
    serde_json::from_str(&text).map_err(ApiError::internal)
}

/// `PUT …/schedules`: replaces all.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.json(INVALID)?;
    // Some clients wrap the list as the answer does.
    let items = body
        .as_array()
        .or_else(|| body.get("schedules").and_then(Value::as_array))
        .ok_or_else(|| ApiError::bad_request(INVALID, "request body must be an array of {cron}"))?;
    if items.len() > SCHEDULES_LIMIT {
        return Err(ApiError::bad_request(
            INVALID,
            format!("more than {SCHEDULES_LIMIT} schedules"),
        ));
    }
    let crons = items
        .iter()
        .map(|item| {
            let cron = item.get("cron").and_then(Value::as_str).unwrap_or_default();
            match Schedule::parse(cron) {
                Ok(_) => Ok(cron),
                Err(error) => Err(ApiError::bad_request(
                    BAD_CRON,
                    format!("invalid cron string: {error}"),
                )),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let schedules = cloud.control.write(|transaction| {
        let script = model::require_called(transaction, call)?;
        let old = stored(transaction, &script.name)?;
        let now = now();
        let schedules: Vec<Value> = crons
            .iter()
            .map(|cron| {
                old.iter()
                    .find(|schedule| schedule["cron"] == *cron)
                    .cloned()
                    .unwrap_or(json!({"cron": cron, "created_on": now, "modified_on": now}))
            })
            .collect();
        transaction.execute(
            "UPDATE scripts SET schedules = ?2 WHERE name = ?1",
            [&script.name, &Value::Array(schedules.clone()).to_string()],
        )?;
        Ok::<_, ApiError>(schedules)
    })?;
    ok(&json!({"schedules": schedules}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::{Client, upload};

    #[tokio::test]
    async fn schedules_are_replaced() {
        let client = Client::new();
        upload(&client, "api", json!({})).await;
        let path = "/accounts/local/workers/scripts/api/schedules";
        let first = client
            .ok("PUT", path, Some(json!([{"cron": "0 2 * * *"}])))
            .await;
        let both = client
            .ok(
                "PUT",
                path,
                Some(json!([{"cron": "0 3 * * *"}, {"cron": "0 2 * * *"}])),
            )
            .await;
        assert_eq!(
            both["result"]["schedules"][1],
            first["result"]["schedules"][0]
        );
        assert_eq!(
            client
                .fails("PUT", path, Some(json!([{"cron": "x"}])))
                .await,
            (400, 10100)
        );
        client.ok("PUT", path, Some(json!([]))).await;
        assert_eq!(
            client.ok("GET", path, None).await["result"]["schedules"],
            json!([])
        );
        let missing = path.replace("api", "none");
        assert_eq!(client.fails("GET", &missing, None).await, (404, 10007));
    }
}
