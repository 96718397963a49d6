//! Cases that once failed, as short as they could be made.

use super::{cases::log_of, report::Tally, scenario::Case};

const CASES: &[(&str, &str)] = &[
    (
        "a delete that dies while it looks whether its object was ever made",
        r#"{"seed":119,"steps":[{"program":{"things":[{"id":"web/inner/d","value":0}]},"blows":[{"Cloud":{"request":0,"fault":"DieTorn"}}]},{"program":{"things":[]},"blows":[{"Cloud":{"request":0,"fault":"DieBefore"}}]}]}"#,
    ),
    (
        "what was made a moment ago is not visible yet when it is no longer wanted",
        r#"{"seed":1,"steps":[{"program":{"things":[{"id":"c","value":0}]},"blows":[{"Cloud":{"request":0,"fault":"DieAfter"}}]},{"program":{"things":[]},"pause":11,"blows":[{"Stale":{"seconds":36}}]}]}"#,
    ),
    (
        "an object that was just removed hides the one that was just made",
        r#"{"seed":17,"steps":[{"program":{"things":[{"id":"e","value":0}]}},{"program":{"things":[{"id":"e","value":0,"soil":"rock"}]},"blows":[{"Cloud":{"request":1,"fault":"DieAfter"}}]},{"program":{"things":[]},"pause":29,"blows":[{"Stale":{"seconds":37}}]}]}"#,
    ),
    (
        "another kind takes the place of an object that may never have been made",
        r#"{"seed":254,"steps":[{"program":{"things":[{"id":"a","value":0},{"id":"b","kind":"Note","value":0},{"id":"c","value":0,"uses":["a","b","a"]}]},"blows":[{"Cloud":{"request":3,"fault":"DieAfter"}}]},{"program":{"things":[{"id":"c","kind":"Note","value":0}]}}]}"#,
    ),
    (
        "an object that was made late, then come upon, then not filled",
        r#"{"seed":384,"steps":[{"program":{"things":[{"id":"c","value":0}]},"blows":[{"Cloud":{"request":2,"fault":"LostAfter"}},{"Cloud":{"request":0,"fault":"TooSlowAfter"}}]}]}"#,
    ),
    (
        "records of a checkpoint that died belong to nobody once their resources are gone",
        r#"{"seed":394,"steps":[{"program":{"things":[{"id":"web/a","value":0},{"id":"web/inner/d","value":0},{"id":"new/deep/er/e","value":0}]},"blows":[{"Power":{"effect":41,"moment":"Before","lost":{"Some":805}}}]},{"program":{"things":[]}}]}"#,
    ),
    (
        "a look at something that is renamed in the same run",
        r#"{"seed":208,"steps":[{"program":{"things":[{"id":"d","value":0},{"id":"web/f","kind":"Rock","value":2,"place":"there","uses":["d"]}]}},{"command":"Refresh","program":{"things":[{"id":"d","value":0},{"id":"n","kind":"Rock","value":2,"place":"there","uses":["d"]}],"moved":[["web/f","n"]]},"meddling":[{"Change":{"id":"web/f","value":77}}],"blows":[{"Power":{"effect":5,"moment":"Torn","lost":"Everything"}}]}]}"#,
    ),
    (
        "a second try at making something, not visible yet when it is no longer wanted",
        r#"{"seed":86,"steps":[{"program":{"things":[]}},{"program":{"things":[{"id":"a","value":0},{"id":"b","value":0},{"id":"e","value":0}]},"blows":[{"Cloud":{"request":2,"fault":"DieAfter"}}]},{"program":{"things":[{"id":"a","value":0},{"id":"b","value":0},{"id":"c","value":0},{"id":"e","value":0}]},"blows":[{"Power":{"effect":18,"moment":"Before","lost":"Nothing"}}]},{"program":{"things":[]},"pause":25,"blows":[{"Stale":{"seconds":36}}]}]}"#,
    ),
    (
        "a death while another kind takes the place of an object that may never have been made",
        r#"{"seed":2301,"steps":[{"program":{"things":[{"id":"a","value":0},{"id":"b","kind":"Note","value":0},{"id":"c","value":0,"uses":["a","b","a"]}]},"blows":[{"Cloud":{"request":3,"fault":"DieAfter"}}]},{"program":{"things":[{"id":"c","kind":"Rock","value":0}]},"blows":[{"Cloud":{"request":0,"fault":"DieAfter"}}]}]}"#,
    ),
    (
        "a delete of what the same run renamed",
        r#"{"seed":1894,"steps":[{"program":{"things":[{"id":"c","value":0},{"id":"web/in/g","value":0,"uses":["c"]}]}},{"program":{"things":[],"moved":[["web/in/g","n"]]}}]}"#,
    ),
    (
        "protection that comes with the change that it forbids",
        r#"{"seed":43,"steps":[{"program":{"things":[{"id":"c","value":0}]}},{"program":{"things":[{"id":"c","value":0,"soil":"rock","protect":true}]}}]}"#,
    ),
    (
        "a plan says that what a replacement may have left goes",
        r#"{"seed":5183,"steps":[{"program":{"things":[{"id":"b","kind":"Note","value":0,"place":"there"}]}},{"program":{"things":[{"id":"a","value":0},{"id":"b","kind":"Note","value":0},{"id":"d","value":0}]},"blows":[{"Cloud":{"request":3,"fault":"TooSlowAfter"}},{"Cloud":{"request":4,"fault":"LostBefore"}}]},{"program":{"things":[{"id":"b","kind":"Note","value":0,"place":"there"}]},"deletes":"Parallel","concurrency":1,"planned":true}]}"#,
    ),
    (
        "a plan says that what a repair may have made goes",
        r#"{"seed":1599,"steps":[{"program":{"things":[{"id":"b","kind":"Note","value":0},{"id":"web/in/g","value":0}]}},{"command":"Repair","program":{"things":[]},"meddling":[{"Remove":{"id":"web/in/g"}}],"blows":[{"Cloud":{"request":3,"fault":"LostBefore"}}]},{"program":{"things":[{"id":"web/in/g","value":0,"name":"y-web.in.g"}]},"planned":true}]}"#,
    ),
    (
        "a replacement of what a cut-short update may have given the name already",
        r#"{"seed":8494,"steps":[{"program":{"things":[{"id":"b","kind":"Note","value":0,"soil":"rock"},{"id":"c","kind":"Rock","value":0,"name":"y-c"},{"id":"web/in/g","value":0,"uses":["b"]}]}},{"program":{"things":[{"id":"a","value":0},{"id":"b","kind":"Note","value":0},{"id":"c","kind":"Rock","value":0},{"id":"web/f","value":0},{"id":"web/in/g","value":0,"uses":["b"],"name":"x-web.in.g"}]},"blows":[{"Cloud":{"request":7,"fault":"DieAfter"}}]},{"command":"Refresh","program":{"things":[{"id":"web/in/g","value":0,"place":"there","name":"x-web.in.g"}]}}]}"#,
    ),
    (
        "what was tried again stays unseen for as long from then on",
        r#"{"seed":86,"steps":[{"program":{"things":[{"id":"b","value":0}]}},{"program":{"things":[{"id":"a","value":0},{"id":"b","value":0,"place":"there"},{"id":"e","value":0}]},"blows":[{"Cloud":{"request":2,"fault":"DieAfter"}}]},{"program":{"things":[{"id":"a","value":0},{"id":"b","value":0,"place":"there"},{"id":"c","value":0},{"id":"e","value":0}]},"blows":[{"Power":{"effect":18,"moment":"Before","lost":"Nothing"}}]},{"program":{"things":[{"id":"b","value":0,"place":"there"}]},"pause":25,"blows":[{"Stale":{"seconds":36}}]}]}"#,
    ),
];

#[test]
fn what_once_failed_does_not_fail_again() {
    let mut tally = Tally::new("regressions");
    for (name, text) in CASES {
        let case: Case = serde_json::from_str(text).unwrap();
        tally.run(&case);
        tally.count(*name);
    }
    tally.tell();
}

/// The case that `scripts/simulate --replay` hands over.
#[test]
fn replay() {
    let Ok(text) = std::env::var("ALCH_SIMULATION_CASE") else {
        return;
    };
    let case: Case = serde_json::from_str(&text).expect("ALCH_SIMULATION_CASE holds a case");
    let mut tally = Tally::new("replay");
    for line in log_of(&case) {
        tally.say(&line);
    }
    tally.run(&case);
    tally.tell();
}
