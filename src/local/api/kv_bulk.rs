//! KV in bulk: many pairs written, many keys deleted or read in one call.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, parse_json},
    envelope::{ApiResult, ok},
    error::ApiError,
    kv::INVALID,
    kv_values::{Pair, check_key, check_value, expiration, invalid, metadata_text, open},
};
use crate::local::Cloud;

const NO_KEYS: u32 = 10029;
const PAIRS_LIMIT: usize = 10_000;
const BULK_READ_LIMIT: usize = 100;

fn strings(values: &[Value], maximum: usize) -> Result<Vec<&str>, ApiError> {
    if values.len() > maximum {
        return Err(invalid(format!("at most {maximum} keys at once")));
    }
    values
        .iter()
        .map(|value| {
            value
                .as_str()
                .or_else(|| value.get("name").and_then(Value::as_str))
                .ok_or_else(|| invalid("keys must be strings"))
                .and_then(check_key)
        })
        .collect()
}

/// `PUT …/bulk`.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    let Value::Array(items) = call.json(INVALID)? else {
        return Err(invalid("request body must be an array of pairs"));
    };
    if items.len() > PAIRS_LIMIT {
        return Err(invalid(format!("at most {PAIRS_LIMIT} pairs at once")));
    }
    let pairs = items.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    open(cloud, call)?.write(&pairs)?;
    ok(&answer(pairs.len()))
}

fn answer(count: usize) -> Value {
    json!({"successful_key_count": count, "unsuccessful_keys": []})
}

fn pair(item: &Value) -> Result<Pair, ApiError> {
    let text = |name| {
        item.get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| invalid(format!("every pair needs a string `{name}`")))
    };
    let whole = |name| match item.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| invalid(format!("`{name}` must be a whole number"))),
    };
    let value = text("value")?;
    let value = if item.get("base64").and_then(Value::as_bool).unwrap_or(false) {
        STANDARD
            .decode(value)
            .map_err(|error| invalid(format!("a value is not base64: {error}")))?
    } else {
        value.as_bytes().to_vec()
    };
    Ok(Pair {
        key: check_key(text("key")?)?.to_owned(),
        value: check_value(value)?,
        expiration: expiration(whole("expiration")?, whole("expiration_ttl")?)?,
        metadata: metadata_text(item.get("metadata"))?,
    })
}

/// `POST …/bulk/delete` and `DELETE …/bulk`.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let Value::Array(items) = call.json(INVALID)? else {
        return Err(invalid("request body must be an array of keys"));
    };
    let keys = strings(&items, PAIRS_LIMIT)?;
    open(cloud, call)?.delete(keys.iter().copied())?;
    ok(&answer(keys.len()))
}

/// `POST …/bulk/get`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let items = match body.get("keys") {
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => {
            return Err(ApiError::bad_request(
                NO_KEYS,
                "at least one key is required",
            ));
        }
    };
    let keys = strings(items, BULK_READ_LIMIT)?;
    let as_json = match body.get("type").and_then(Value::as_str) {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return Err(invalid(format!(
                "`type` must be text or json, not `{other}`"
            )));
        }
    };
    let with_metadata = body
        .get("withMetadata")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let store = open(cloud, call)?;
    let mut values = Map::new();
    for key in keys {
        let Some(entry) = store.read(key)? else {
            values.insert(key.to_owned(), Value::Null);
            continue;
        };
        let value = if as_json {
            parse_json(&entry.value, INVALID)?
        } else {
            json!(String::from_utf8_lossy(&entry.value))
        };
        let value = if with_metadata {
            let at = entry.expiration.map(|at| at / 1000);
            json!({"value": value, "metadata": entry.metadata, "expiration": at})
        } else {
            value
        };
        values.insert(key.to_owned(), value);
    }
    ok(&json!({"values": values}))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::local::testing::Client;

    #[tokio::test]
    async fn bulk_calls_and_cursors() {
        let client = Client::new();
        let path = "/accounts/local/storage/kv/namespaces";
        let created = client.ok("POST", path, Some(json!({"title": "n"}))).await;
        let path = format!("{path}/{}", created["result"]["id"].as_str().unwrap());
        let pairs: Vec<Value> = (0..25)
            .map(|index| json!({"key": format!("a{index:02}"), "value": format!("{index}")}))
            .chain([json!({"key": "b", "value": "AP8=", "base64": true, "metadata": {"m": 1}})])
            .collect();
        let wrote = client
            .ok("PUT", &format!("{path}/bulk"), Some(json!(pairs)))
            .await;
        assert_eq!(wrote["result"]["successful_key_count"], 26);
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let list = client
                .ok(
                    "GET",
                    &format!("{path}/keys?prefix=a&limit=10&cursor={cursor}"),
                    None,
                )
                .await;
            names.extend(list["result"].as_array().unwrap().clone());
            cursor = list["result_info"]["cursor"]
                .as_str()
                .unwrap()
                .replace('=', "%3D");
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(names.len(), 25);
        let got = client
            .ok(
                "POST",
                &format!("{path}/bulk/get"),
                Some(json!({"keys": ["a01", "zz"], "withMetadata": true, "type": "json"})),
            )
            .await;
        assert_eq!(
            got["result"]["values"],
            json!({"a01": {"value": 1, "metadata": null, "expiration": null}, "zz": null})
        );
        client
            .ok(
                "POST",
                &format!("{path}/bulk/delete"),
                Some(json!(["a01", "zz"])),
            )
            .await;
        client
            .ok("DELETE", &format!("{path}/bulk"), Some(json!(["a02"])))
            .await;
        let list = client
            .ok("GET", &format!("{path}/keys?prefix=a"), None)
            .await;
        assert_eq!(list["result_info"]["count"], 23);
    }
}
