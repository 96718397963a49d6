//! The one account, its one user, and the token: enough for clients that look before they work.

use std::sync::Arc;

use axum::{Router, routing::get};
use serde_json::{Value, json};

use super::{
    call::{Call, run},
    envelope::{ApiResult, ok, ok_with_info},
    page::Page,
};
use crate::local::Cloud;

/// The path that clients check their token with.
pub(super) const VERIFY: &str = "/client/v4/user/tokens/verify";
/// Fixed ids: there is nothing to tell apart.
const USER_ID: &str = "10ca105e100000000000000000000000";
const TOKEN_ID: &str = "10ca1708e00000000000000000000000";
const MEMBERSHIP_ID: &str = "10ca1e3be00000000000000000000000";
pub(super) const ACCOUNT_NAME: &str = "Local cloud";
const EMAIL: &str = "local@localhost";
/// The account has no history; it has been there since Cloudflare's own first day.
const CREATED: &str = "2010-09-27T00:00:00Z";

pub(super) fn routes() -> Router<Arc<Cloud>> {
    Router::new()
        .route(VERIFY, get(run(verify)))
        .route(
            "/client/v4/accounts/{account}/tokens/verify",
            get(run(verify)),
        )
        .route("/client/v4/user", get(run(user)))
        .route("/client/v4/accounts", get(run(accounts)))
        .route("/client/v4/accounts/{account}", get(run(account)))
        .route("/client/v4/memberships", get(run(memberships)))
}

fn verify(_: &Cloud, _: &Call) -> ApiResult {
    ok(&json!({"id": TOKEN_ID, "status": "active"}))
}

fn user(_: &Cloud, _: &Call) -> ApiResult {
    ok(&json!({
        "id": USER_ID,
        "email": EMAIL,
        "first_name": null,
        "last_name": null,
        "two_factor_authentication_enabled": false,
        "suspended": false,
        "organizations": [],
        "created_on": CREATED,
        "modified_on": CREATED,
    }))
}

fn account_value(cloud: &Cloud) -> Value {
    json!({
        "id": cloud.account(),
        "name": ACCOUNT_NAME,
        "type": "standard",
        "settings": {"enforce_twofactor": false},
        "created_on": CREATED,
    })
}

fn accounts(cloud: &Cloud, call: &Call) -> ApiResult {
    one_item_list(call, account_value(cloud))
}

fn account(cloud: &Cloud, _: &Call) -> ApiResult {
    ok(&account_value(cloud))
}

fn memberships(cloud: &Cloud, call: &Call) -> ApiResult {
    one_item_list(
        call,
        json!({
            "id": MEMBERSHIP_ID,
            "status": "accepted",
            "account": account_value(cloud),
            "roles": ["Super Administrator - All Privileges"],
        }),
    )
}

fn one_item_list(call: &Call, item: Value) -> ApiResult {
    let page = Page::of(call, 20, 50, 1001)?;
    let items = if page.offset() == 0 {
        vec![item]
    } else {
        Vec::new()
    };
    let info = page.info(items.len(), 1);
    ok_with_info(&Value::Array(items), &info)
}

#[cfg(test)]
mod tests {
    use crate::local::{DEFAULT_ACCOUNT, testing::Client};

    #[tokio::test]
    async fn clients_find_the_account_once() {
        let client = Client::new();
        let accounts = client.ok("GET", "/accounts?page=1", None).await;
        assert_eq!(accounts["result"][0]["id"], DEFAULT_ACCOUNT);
        let next = client.ok("GET", "/accounts?page=2", None).await;
        assert_eq!(next["result"].as_array().map(Vec::len), Some(0));
        let verify = client.ok("GET", "/user/tokens/verify", None).await;
        assert_eq!(verify["result"]["status"], "active");
        let member = client.ok("GET", "/memberships", None).await;
        assert_eq!(member["result"][0]["account"]["id"], DEFAULT_ACCOUNT);
    }
}
