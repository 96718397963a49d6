//! What a user is told of each fault: call, status, Cloudflare's code and words, request id, the line of the script.

use snapbox::{IntoData, str};

use super::{Setting, proxy::Fault};

/// Runs a script of one queue with faults at its requests, and compares what is told.
#[track_caller]
fn told(faults: &[(&str, Fault, bool)], expected: impl IntoData) {
    let setting = Setting::new("let app = alchemy(\"shop\");\nlet jobs = Queue(\"jobs\");\n");
    for (target, fault, for_ever) in faults {
        setting.spoil(target, *fault, *for_ever);
    }
    setting.run().check(expected);
}

#[test]
fn a_server_error() {
    told(
        &[("POST queues", Fault::ServerError, false)],
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  internal error
error[E0301]: `jobs` (cloudflare::Queue): create failed: internal error [1000]
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues, answered with HTTP 500, ray 8c0ffee000000000-AMS
  = help: run again: what did happen is found and kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]],
    );
}

#[test]
fn a_web_page() {
    told(
        &[
            ("POST queues", Fault::WebPage, false),
            ("GET queues", Fault::WebPage, true),
        ],
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  the answer (HTTP 502) cannot be read: it is a web page (502 Bad Gateway)
error[E0301]: `jobs` (cloudflare::Queue): create failed: the answer (HTTP 502) cannot be read: it is a web page (502 Bad Gateway)
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues, answered with HTTP 502, ray 8c0ffee000000000-AMS
  = help: check that the base URL is that of Cloudflare's API and that no proxy answers in its place
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 6 API calls)

"#]],
    );
}

#[test]
fn a_reset() {
    told(
        &[("POST queues", Fault::ResetBefore, false)],
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  the connection to http://PROXY broke off: connection closed before message completed
error[E0301]: `jobs` (cloudflare::Queue): create failed: the connection to http://PROXY broke off: connection closed before message completed
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues
  = help: run again: what did happen is found and kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]],
    );
}

#[test]
fn json_that_is_cut_off() {
    told(
        &[
            ("POST queues", Fault::Truncated, false),
            ("GET queues", Fault::Truncated, true),
        ],
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  the answer (HTTP 200) cannot be read: its JSON is cut off after 191 bytes
error[E0301]: `jobs` (cloudflare::Queue): create failed: the answer (HTTP 200) cannot be read: its JSON is cut off after 191 bytes
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues, answered with HTTP 200, ray 8c0ffee000000000-AMS
  = help: check that the base URL is that of Cloudflare's API and that no proxy answers in its place
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 6 API calls)

"#]],
    );
}

#[test]
fn a_token_that_is_refused() {
    told(
        &[("POST queues", Fault::ExpiredToken, false)],
        str![[r#"
exit 3
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  Invalid access token
error[E0303]: `jobs` (cloudflare::Queue): create failed: Invalid access token [9109]
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues, answered with HTTP 403, ray 8c0ffee000000000-AMS
  = help: check the API token: it must be valid, belong to this account and have `Queues: Edit`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn throttling_that_does_not_end() {
    told(
        &[("POST queues", Fault::Throttled(Some(0)), true)],
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  jobs (cloudflare::Queue)
  failed    jobs  Please wait and consider throttling your request speed
error[E0301]: `jobs` (cloudflare::Queue): create failed: Please wait and consider throttling your request speed [971]
 --> alchemy.run.rhai:2:12
  |
2 | let jobs = Queue("jobs");
  |            ^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues, answered with HTTP 429, ray 8c0ffee000000000-AMS
  = help: wait five minutes: an account may send 1200 requests in that time
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 5 API calls)

"#]],
    );
}
