//! The account of a local cloud: one id, which clients must name, and which `alch` itself finds in the data.

use serde_json::{Value, json};
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, request},
};

/// Status and first error of a request for an account.
fn ask(served: &Served, account: &str, path: &str) -> (u16, Value) {
    let host = format!("127.0.0.1:{}", served.api_port());
    let headers = [("host", host.as_str()), ("authorization", "Bearer t")];
    let path = format!("/client/v4/accounts/{account}{path}");
    let (status, body) = request(served.api_port(), "GET", &path, &headers, "");
    let body: Value = serde_json::from_str(&body).unwrap();
    (status, body["errors"][0].clone())
}

#[test]
fn requests_for_another_account_are_refused_as_cloudflare_refuses_them() {
    let project = Project::new();
    let served = Served::with(&project, &["--account", "mine"]);
    assert_eq!(served.account, "mine");
    let refused = (
        403,
        json!({"code": 10000, "message": "Authentication error"}),
    );
    for path in ["", "/d1/database", "/workers/scripts", "/nothing"] {
        assert_eq!(ask(&served, "local", path), refused, "{path}");
    }
    assert_eq!(ask(&served, "mine", "/d1/database").0, 200);
    drop(served);

    // Who serves the same data later, and whoever runs a script over it, finds the account there: a zone names its own.
    let served = Served::start(&project);
    assert_eq!(served.account, "mine");
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("owned");
let zone = Zone("zone", #{ name: "example.com" });
let store = SecretsStore("store");
app.finalize();
"#,
    );
    project.alch(["run"]).success();
    let zones = ask_zones(&served);
    assert_eq!(zones["result"][0]["account"]["id"], "mine");
    let stores: Value =
        serde_json::from_str(&served.call("GET", "secrets_store/stores", "")).unwrap();
    assert_eq!(stores["result"][0]["account_id"], "mine");

    // Not under the feet of a server that tells clients another one.
    project
        .alch(["local", "serve", "--port", "0", "--account", "other"])
        .check(str![[r#"
exit 1
-- stderr
error[E0502]: another `alch local serve` runs the Workers of `[ROOT]/project/.alchemy/local`
 = help: stop it first, or use it: it serves this project

"#]]);
}

fn ask_zones(served: &Served) -> Value {
    let host = format!("127.0.0.1:{}", served.api_port());
    let headers = [("host", host.as_str()), ("authorization", "Bearer t")];
    let (status, body) = request(served.api_port(), "GET", "/client/v4/zones", &headers, "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn without_a_word_the_account_is_local() {
    let project = Project::new();
    let served = Served::start(&project);
    assert_eq!(served.account, "local");
    assert_eq!(ask(&served, "local", "").0, 200);
    assert_eq!(ask(&served, "10ca1c10ad0000000000000000000000", "").0, 403);
}

#[test]
fn an_account_that_can_stand_in_no_path_is_refused() {
    let project = Project::new();
    project
        .alch(["local", "serve", "--account", "a/b"])
        .check(str![[r#"
exit 2
-- stderr
error: invalid value 'a/b' for '--account <ID>': an account is 1 to 32 letters, digits, `-` and `_`

For more information, try '--help'.

"#]]);
}
