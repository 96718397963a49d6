//! Props that do not fit their kind: the frame shows the very key or value, however deep it stands.

use snapbox::str;

use super::says;

#[test]
fn an_unknown_prop() {
    says(
        "let db = Database(\"main\", #{\n    migratons: \"./migrations\",\n});",
        str![[r#"
exit 1
-- stderr
error[E0201]: unknown prop `migratons` of `Database`
 --> alchemy.run.rhai:3:5
  |
3 |     migratons: "./migrations",
  |     ^^^^^^^^^
  |
  = help: did you mean `migrations`?

"#]],
    );
}

#[test]
fn an_unknown_prop_of_a_prop() {
    says(
        "Worker(\"api\", #{\n    script: \"export default {}\",\n    placement: #{ mod: \"smart\" },\n});",
        str![[r#"
exit 1
-- stderr
error[E0201]: unknown prop `mod` of `Worker.placement`
 --> alchemy.run.rhai:4:19
  |
4 |     placement: #{ mod: "smart" },
  |                   ^^^
  |
  = help: did you mean `mode`?

"#]],
    );
}

#[test]
fn an_unknown_prop_in_a_map_that_is_not_a_literal() {
    says(
        "let placement = #{ mod: \"smart\" };\nWorker(\"api\", #{ script: \"export default {}\", placement: placement });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0201]: unknown prop `placement.mod` of cloudflare::Worker
 --> alchemy.run.rhai:3:58
  |
3 | Worker("api", #{ script: "export default {}", placement: placement });
  |                                                          ^^^^^^^^^
  |
  = help: did you mean `mode`?
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_unknown_prop_without_a_near_one() {
    says(
        "KV(\"cache\", #{ colour: \"blue\" });",
        str![[r#"
exit 1
-- stderr
error[E0201]: unknown prop `colour` of `KV`
 --> alchemy.run.rhai:2:16
  |
2 | KV("cache", #{ colour: "blue" });
  |                ^^^^^^
  |
  = help: it takes `name`, `title`, `values`, `naming`, `adopt`, `protect`, `delete`

"#]],
    );
}

#[test]
fn a_wrong_type_in_a_map() {
    says(
        "Worker(\"api\", #{\n    script: \"export default {}\",\n    observability: #{ enabled: \"yes\" },\n});",
        str![[r#"
exit 1
-- stderr
error[E0202]: `enabled` of `Worker.observability`: expected true or false, found string
 --> alchemy.run.rhai:4:32
  |
4 |     observability: #{ enabled: "yes" },
  |                                ^^^^^
  |
  = help: write `true` or `false`, without quotes

"#]],
    );
}

#[test]
fn a_wrong_type_in_a_list() {
    says(
        "Worker(\"api\", #{ script: \"export default {}\", crons: [\"0 2 * * *\", 5] });",
        str![[r#"
exit 1
-- stderr
error[E0202]: `crons.1` of `Worker`: expected string, found integer
 --> alchemy.run.rhai:2:68
  |
2 | Worker("api", #{ script: "export default {}", crons: ["0 2 * * *", 5] });
  |                                                                    ^
  |
  = help: write it as text in quotes: `".."`

"#]],
    );
}

#[test]
fn a_wrong_type_that_only_the_run_shows() {
    says(
        "let crons = [\"0 2 * * *\", 5];\nWorker(\"api\", #{ script: \"export default {}\", crons: crons });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `crons.1` of cloudflare::Worker: expected string, found integer
 --> alchemy.run.rhai:3:54
  |
3 | Worker("api", #{ script: "export default {}", crons: crons });
  |                                                      ^^^^^
  |
  = help: write it as text in quotes: `".."`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_value_that_is_not_one_of_the_choices() {
    says(
        "Worker(\"api\", #{ script: \"export default {}\", placement: #{ mode: \"smrt\" } });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `placement.mode` of cloudflare::Worker: "smrt" is not a known value
 --> alchemy.run.rhai:2:67
  |
2 | Worker("api", #{ script: "export default {}", placement: #{ mode: "smrt" } });
  |                                                                   ^^^^^^
  |
  = help: did you mean "smart"?
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_handle_where_text_is_expected() {
    says(
        "let cache = KV(\"cache\");\nFile(\"note\", #{ path: \"note.txt\", content: cache });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  cache (cloudflare::KVNamespace)
  created   cache  cache-dev  [TIME]
error[E0202]: `content` of std::File: expected string, found resource
 --> alchemy.run.rhai:3:44
  |
3 | File("note", #{ path: "note.txt", content: cache });
  |                                            ^^^^^
  |
  = help: pass one of its attributes, such as `.name` or `.id` of `cache`
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn a_closure_cannot_be_stored() {
    says(
        "KV(\"cache\", #{ title: || 1 });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `title` of cloudflare::KVNamespace: a closure cannot be stored
 --> alchemy.run.rhai:2:23
  |
2 | KV("cache", #{ title: || 1 });
  |                       ^
  |
  = help: pass plain values, handles or secrets
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_required_prop_is_missing() {
    says(
        "File(\"note\", #{ content: \"hello\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0203]: std::File: `path` is missing
 --> alchemy.run.rhai:2:14
  |
2 | File("note", #{ content: "hello" });
  |              ^
  |
  = help: add `path: ..`: where the file is, relative to the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_worker_without_code() {
    says(
        "Worker(\"api\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: cloudflare::Worker: the Worker has no code
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api");
  | ^^^^^^
  |
  = help: give `entrypoint: "./src/worker.js"`, or the code itself as `script`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_missing_entrypoint() {
    says(
        "Worker(\"api\", #{\n    entrypoint: \"src/server.js\",\n});",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `entrypoint` of cloudflare::Worker: the file `[ROOT]/project/src/server.js` does not exist
 --> alchemy.run.rhai:3:17
  |
3 |     entrypoint: "src/server.js",
  |                 ^^^^^^^^^^^^^^^
  |
  = help: correct the path; it is relative to `[ROOT]/project`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_missing_folder_of_assets() {
    says(
        "Worker(\"site\", #{ assets: \"./public\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `assets` of cloudflare::Worker: the folder of assets `[ROOT]/project/public` does not exist
 --> alchemy.run.rhai:2:27
  |
2 | Worker("site", #{ assets: "./public" });
  |                           ^^^^^^^^^^
  |
  = help: correct the path; it is relative to `[ROOT]/project`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_missing_folder_of_migrations() {
    says(
        "Database(\"main\", #{ migrations: \"./migrations\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `migrations` of cloudflare::D1Database: the folder `[ROOT]/project/migrations` does not exist
 --> alchemy.run.rhai:2:33
  |
2 | Database("main", #{ migrations: "./migrations" });
  |                                 ^^^^^^^^^^^^^^
  |
  = help: make it and put `0001_first.sql` into it; the path is relative to `[ROOT]/project`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}
