//! Account, user and token.

use serde_json::json;

use super::local::Local;

pub(super) fn drive(local: &mut Local) {
    for path in [
        "/user/tokens/verify",
        "/accounts/local/tokens/verify",
        "/user",
        "/accounts",
        "/accounts?page=2&per_page=5",
        "/accounts/local",
        "/memberships",
        "/memberships?page=2&per_page=5",
    ] {
        local.ok("GET", path, ());
    }
    let query = "query q($accountTag: String) { viewer { accounts(filter: {accountTag: $accountTag}) { d1AnalyticsAdaptiveGroups(limit: 1) { sum { rowsRead } } } } }";
    local.ok("POST", "/graphql", json!({"query": query, "variables": {}}));
    for path in ["/accounts?page=0", "/memberships?per_page=x"] {
        local.fails((400, 1001), "GET", path, ());
    }
}
