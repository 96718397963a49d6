//! What the killed runs are about: from one script to the next, and sometimes to a third one after the kill.

/// A step in the life of a stage that is killed.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The script that was deployed before; none for a new stage.
    pub(super) before: Option<&'static str>,
    /// The script whose run is killed.
    pub(super) killed: &'static str,
    /// The script of the runs after the kill.
    pub(super) then: &'static str,
    /// The command that is killed and run again, with its arguments.
    pub(super) command: &'static [&'static str],
}

/// The command that most scenarios are about. The replacement of a database needs the consent.
const RUN: &[&str] = &["run", "--allow-data-loss"];

const SHOP: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("data", || Database("main", #{ migrations: "./one", importFiles: ["./seed.sql"] }));
let cache = KV("cache");
let files = Bucket("files");
let jobs = Queue("jobs");
Worker("api", #{
    script: "export default { fetch() { return new Response('one') } }",
    bindings: #{ DB: db, CACHE: cache, FILES: files, JOBS: jobs, KEY: secret("planted-one") },
    crons: ["0 2 * * *"],
});
app.finalize();
"#;

const UPDATED: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("data", || Database("main", #{ migrations: "./two", importFiles: ["./seed.sql"] }));
let cache = KV("cache", #{ title: "another-title" });
let files = Bucket("files");
let jobs = Queue("jobs", #{ settings: #{ deliveryDelay: 5 } });
Worker("api", #{
    script: "export default { fetch() { return new Response('two') } }",
    bindings: #{ DB: db, CACHE: cache, JOBS: jobs, KEY: secret("planted-two") },
    crons: ["0 3 * * *", "0 4 * * *"],
});
app.finalize();
"#;

const REPLACED: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("data", || Database("main", #{ name: "second", migrations: "./one", importFiles: ["./seed.sql"] }));
let cache = KV("cache");
let files = Bucket("files", #{ name: "more-files" });
let jobs = Queue("jobs", #{ name: "more-jobs" });
Worker("api", #{
    script: "export default { fetch() { return new Response('one') } }",
    bindings: #{ DB: db, CACHE: cache, FILES: files, JOBS: jobs, KEY: secret("planted-one") },
    crons: ["0 2 * * *"],
});
app.finalize();
"#;

const SMALL: &str = r#"
let app = alchemy("shop");
let cache = KV("cache");
Worker("api", #{ script: "export default { fetch() { return new Response('one') } }", bindings: #{ CACHE: cache } });
app.finalize();
"#;

const PLAIN: &str = r#"
let app = alchemy("shop");
KV("cache");
Queue("jobs");
Bucket("files");
app.finalize();
"#;

const RETITLED: &str = r#"
let app = alchemy("shop");
KV("cache", #{ title: "another-title" });
Queue("jobs");
Bucket("files");
app.finalize();
"#;

const RENAMED: &str = r#"
let app = alchemy("shop");
moved("cache", "storage/cache");
moved("jobs", "storage/jobs");
alchemy.run("storage", || { KV("cache", #{ title: "cache-of-storage" }); Queue("jobs"); });
Bucket("files");
KV("beside");
app.finalize();
"#;

const CHAIN: &str = r#"
let app = alchemy("shop");
let first = KV("first");
let second = Database("second", #{ migrations: "./one" });
let third = Queue(`third-${first.id.len()}`);
let fourth = KV("fourth", #{ title: `after-${second.name}-${third.name}` });
Worker("last", #{
    script: "export default {}",
    bindings: #{ FIRST: first, SECOND: second.id, THIRD: third, FOURTH: fourth.id },
});
app.finalize();
"#;

const OTHER: &str = r#"
let app = alchemy("shop");
let first = KV("first");
let fifth = Bucket("fifth");
Worker("last", #{ script: "export default { fetch() {} }", bindings: #{ FIRST: first, FIFTH: fifth } });
app.finalize();
"#;

const CLASSES: &str = r#"
let app = alchemy("shop");
let room = DurableObject("room", #{ className: "Room" });
Worker("api", #{ script: "export class Room {}; export default {}", bindings: #{ ROOM: room, JOBS: Queue("jobs") } });
app.finalize();
"#;

const MORE_CLASSES: &str = r#"
let app = alchemy("shop");
let room = DurableObject("room", #{ className: "Room" });
let hall = DurableObject("hall", #{ className: "Hall" });
Worker("api", #{
    script: "export class Room {}; export class Hall {}; export default {}",
    bindings: #{ ROOM: room, HALL: hall, JOBS: Queue("jobs") },
});
app.finalize();
"#;

const BARE: &str = r#"
let app = alchemy("shop");
let jobs = Queue("jobs");
Database("main");
Bucket("files");
Worker("api", #{ script: "export default { fetch() {}, queue() {}, scheduled() {} }" });
app.finalize();
"#;

const SETTINGS: &str = r#"
let app = alchemy("shop");
let jobs = Queue("jobs", #{ settings: #{ deliveryDelay: 5, deliveryPaused: true } });
Database("main", #{ readReplication: #{ mode: "auto" } });
Bucket("files", #{
    storageClass: "InfrequentAccess",
    devDomain: true,
    cors: [#{ allowed: #{ origins: ["*"], methods: ["GET"] } }],
    lifecycle: [#{ id: "old", enabled: true, conditions: #{ prefix: "" },
                   deleteObjectsTransition: #{ condition: #{ type: "Age", maxAge: 86400 } } }],
    lock: [#{ id: "keep", enabled: true, condition: #{ type: "Age", maxAgeSeconds: 60 } }],
    notifications: [#{ queue: jobs, actions: ["PutObject"] }],
});
Worker("api", #{
    script: "export default { fetch() {}, queue() {}, scheduled() {} }",
    crons: ["0 2 * * *"], eventSources: [jobs],
});
app.finalize();
"#;

/// The files that the scripts name.
pub(super) const FILES: [(&str, &str); 4] = [
    (
        "one/0001_items.sql",
        "CREATE TABLE items(name TEXT); INSERT INTO items VALUES ('one');",
    ),
    (
        "two/0001_items.sql",
        "CREATE TABLE items(name TEXT); INSERT INTO items VALUES ('one');",
    ),
    (
        "two/0002_more.sql",
        "INSERT INTO items VALUES ('two'); INSERT INTO items VALUES ('three');",
    ),
    ("seed.sql", "INSERT INTO items VALUES ('seed');"),
];

pub(super) const ALL: [Scenario; 13] = [
    scenario("create", None, SHOP),
    scenario("update", Some(SHOP), UPDATED),
    scenario("replace", Some(SHOP), REPLACED),
    scenario("delete", Some(SHOP), SMALL),
    scenario("rename", Some(PLAIN), RENAMED),
    scenario("chain", None, CHAIN),
    scenario("classes", Some(CLASSES), MORE_CLASSES),
    Scenario {
        then: OTHER,
        ..scenario("changed-create", None, CHAIN)
    },
    Scenario {
        then: REPLACED,
        ..scenario("changed-update", Some(SHOP), UPDATED)
    },
    Scenario {
        then: PLAIN,
        ..scenario("taken-back", Some(PLAIN), RETITLED)
    },
    Scenario {
        then: BARE,
        ..scenario("settings-taken-back", Some(BARE), SETTINGS)
    },
    Scenario {
        then: BARE,
        ..scenario("settings-never-made", None, SETTINGS)
    },
    Scenario {
        command: &["destroy", "--yes"],
        ..scenario("destroy", Some(SHOP), SHOP)
    },
];

const fn scenario(
    name: &'static str,
    before: Option<&'static str>,
    killed: &'static str,
) -> Scenario {
    Scenario {
        name,
        before,
        killed,
        then: killed,
        command: RUN,
    }
}
