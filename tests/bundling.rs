//! Workers in TypeScript, JSX and with packages: bundled by `alch run`, uploaded, and run.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use snapbox::str;

use crate::support::{
    Project,
    served::{self, Served, with_runtime},
};

/// A module that adds two numbers, in the binary form.
const ADD: &[u8] = b"\0asm\x01\0\0\0\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\0\x07\x07\x01\x03add\0\0\x0a\x09\x01\x07\0\x20\0\x20\x01\x6a\x0b";

const SCRIPT: &str = r#"
let app = alchemy("shop");
let api = Worker("api", #{ entrypoint: "src/server.tsx", compatibility: "node" });
app.finalize();
"#;

const SERVER: &str = r#"/** @jsx element */
import { join } from "path";
import { createHash } from "node:crypto";
import { element, shout } from "tiny";
import wasm from "./add.wasm";
import module from "./add.wasm?module";
import poem from "./poem.txt";
import bytes from "./bytes.bin";
import table from "./table.json";
import { Greeting } from "./greeting";

interface Env {}

export default {
    async fetch(request: Request, _env: Env): Promise<Response> {
        const path: string = new URL(request.url).pathname;
        if (path === "/boom") throw new TypeError("planned");
        const added = (which: WebAssembly.Module) =>
            (new WebAssembly.Instance(which).exports.add as (a: number, b: number) => number)(2, 3);
        return Response.json({
            joined: join("/a", "b"),
            hash: createHash("sha256").update("x").digest("hex").slice(0, 8),
            shout: shout("hi"),
            page: <p class="big"><Greeting name="you" /></p>,
            sum: added(wasm) + added(module),
            poem,
            bytes: new Uint8Array(bytes).length,
            table,
        });
    },
};
"#;

fn project() -> Project {
    let project = Project::with_script(SCRIPT);
    project
        .file("src/server.tsx", SERVER)
        .file(
            "src/greeting.tsx",
            "/** @jsx element */\nimport { element } from \"tiny\";\nexport const Greeting = ({ name }: { name: string }) => <b>Hello {name}</b>;\n",
        )
        .file("src/add.wasm", ADD)
        .file("src/poem.txt", "a poem")
        .file("src/bytes.bin", [1, 2, 3])
        .file("src/table.json", "{\"a\": 1}")
        .file(
            "node_modules/tiny/package.json",
            "{\"name\": \"tiny\", \"version\": \"1.0.0\", \"main\": \"index.js\"}",
        )
        // In the old syntax, and in need of Node.js.
        .file(
            "node_modules/tiny/index.js",
            "const { format } = require('util');
             exports.shout = (text) => format('%s!', text.toUpperCase());
             exports.element = (tag, props, ...children) => typeof tag === 'function' ? tag(props ?? {})
                 : `<${tag}${Object.entries(props ?? {}).map(([k, v]) => ` ${k}=\"${v}\"`).join('')}>${children.join('')}</${tag}>`;",
        );
    project
}

/// The project with a bundler that writes a line at each start.
fn with_esbuild(mut project: Project) -> Option<Project> {
    let esbuild = served::esbuild()?;
    let starts = project.home().join("starts");
    let wrapper = project.home().join("esbuild");
    let text = format!(
        "#!/bin/sh\necho start >> '{}'\nexec '{esbuild}' \"$@\"\n",
        starts.display()
    );
    std::fs::write(&wrapper, text).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    project.env("ALCH_ESBUILD_PATH", &wrapper.display().to_string());
    Some(project)
}

/// How often the bundler was started.
fn starts(project: &Project) -> usize {
    let starts = std::fs::read_to_string(project.home().join("starts"));
    starts.unwrap_or_default().lines().count()
}

/// The contents of all modules that the local cloud holds.
fn uploaded(project: &Project) -> BTreeMap<String, Vec<u8>> {
    walkdir::WalkDir::new(project.path(".alchemy/local"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file() && path.display().to_string().contains("modules"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let content = std::fs::read(path).unwrap();
            (name, content)
        })
        .collect()
}

#[test]
fn a_worker_in_typescript_runs_with_packages_jsx_wasm_text_and_data() {
    let Some(project) = with_runtime(project()) else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("api-dev", "/"),
        json!({
            "joined": "/a/b",
            "hash": "2d711642",
            "shout": "HI!",
            "page": "<p class=\"big\"><b>Hello you</b></p>",
            "sum": 10,
            "poem": "a poem",
            "bytes": 3,
            "table": {"a": 1},
        })
    );
}

#[test]
fn an_unchanged_bundle_starts_nothing_and_calls_nothing() {
    let Some(project) = with_esbuild(project()) else {
        return;
    };
    project.alch(["run"]).success();
    let before = uploaded(&project);
    let root = project.folder().display().to_string();
    for content in before.values() {
        let text = String::from_utf8_lossy(content);
        assert!(
            !text.contains(&root) && !text.contains("/tmp/"),
            "a path of this machine: {text}"
        );
    }
    // Once more with a `require`, as a package asks for one.
    assert_eq!(starts(&project), 2);
    let unchanged = "0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)";
    assert_eq!(project.alch(["run"]).success().last_line(), unchanged);
    project.alch(["plan"]).success();
    assert_eq!(starts(&project), 2);

    let source = project.read("src/server.tsx");
    project.file("src/server.tsx", source.replace("(2, 3)", "(2, 4)"));
    let changed = project.alch(["run"]).success().last_line();
    assert!(changed.starts_with("0 created, 1 updated"), "{changed}");
    assert_eq!(starts(&project), 4);

    // A file beside the sources may be what an import means from now on; here it is not.
    project.file("src/greeting.css", "");
    assert_eq!(project.alch(["run"]).success().last_line(), unchanged);
    assert_eq!(starts(&project), 6);

    // A new version of a package.
    let package = project.read("node_modules/tiny/index.js");
    project.file("node_modules/tiny/index.js", package.replace("%s!", "%s?"));
    let changed = project.alch(["run"]).success().last_line();
    assert!(changed.starts_with("0 created, 1 updated"), "{changed}");

    // As it was: the same bytes once more.
    project.file("node_modules/tiny/index.js", package);
    project.file("src/server.tsx", source);
    let known = uploaded(&project);
    project.alch(["run"]).success();
    assert_eq!(uploaded(&project), known);
}

#[test]
fn a_bundler_of_the_project_is_run_only_when_it_is_allowed() {
    let Some(mut project) = with_esbuild(project()) else {
        return;
    };
    let package = match std::env::consts::ARCH {
        "aarch64" => "linux-arm64",
        _ => "linux-x64",
    };
    let installed = format!("node_modules/@esbuild/{package}/bin/esbuild");
    project.file(&installed, "");
    std::fs::rename(project.home().join("esbuild"), project.path(&installed)).unwrap();
    project.env("ALCH_ESBUILD_PATH", "");
    let mut command = project.command(["run"]);
    command.env("PATH", project.home());
    let refused = project.output_of(&mut command);
    assert_eq!(starts(&project), 0);
    refused.check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
obtaining @esbuild/linux-x64@0.28.2 (5 MB, once) with npm into [ROOT]/home/.cache/alch/runtime
error[E0202]: `entrypoint` of cloudflare::Worker: bundling a Worker needs the package `@esbuild/linux-x64@0.28.2`, and there is no `npm` to obtain it with
 --> alchemy.run.rhai:3:40
  |
3 | let api = Worker("api", #{ entrypoint: "src/server.tsx", compatibility: "node" });
  |                                        ^^^^^^^^^^^^^^^^
  |
  = help: install Node.js, whose npm obtains it once; or set `ALCH_ESBUILD_PATH` to an esbuild binary; or let the project's own be run with `--allow-exec=esbuild`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.alch(["run", "--allow-exec=esbuild"]).success();
    assert_eq!(starts(&project), 2);
}

#[test]
fn mistakes_are_shown_at_their_place_in_the_source() {
    let Some(project) = with_esbuild(project()) else {
        return;
    };
    project.file(
        "src/server.tsx",
        "import { a } from \"absent\";\nexport default { fetch( { } };\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `entrypoint` of cloudflare::Worker: src/server.tsx:2:29: Expected ")" but found "}"
 --> alchemy.run.rhai:3:40
  |
3 | let api = Worker("api", #{ entrypoint: "src/server.tsx", compatibility: "node" });
  |                                        ^^^^^^^^^^^^^^^^
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "src/server.tsx",
        "import { a } from \"@scope/absent/part\";\nexport default { a };\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `entrypoint` of cloudflare::Worker: src/server.tsx:1:19: Could not resolve "@scope/absent/part"
 --> alchemy.run.rhai:3:40
  |
3 | let api = Worker("api", #{ entrypoint: "src/server.tsx", compatibility: "node" });
  |                                        ^^^^^^^^^^^^^^^^
  |
  = help: install the package: `npm install @scope/absent`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "alchemy.run.rhai",
        SCRIPT.replace(", compatibility: \"node\"", ""),
    );
    project.file(
        "src/server.tsx",
        "import { join } from \"node:path\";\nexport default { a: join };\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `entrypoint` of cloudflare::Worker: `src/server.tsx` imports `node:path`, a module of Node.js
 --> alchemy.run.rhai:3:40
  |
3 | let api = Worker("api", #{ entrypoint: "src/server.tsx" });
  |                                        ^^^^^^^^^^^^^^^^
  |
  = help: add `compatibility: "node"` to the Worker, which makes those available
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "src/server.tsx",
        "import secret from \"../../outside.txt\";\nexport default { a: secret };\n",
    );
    std::fs::write(project.folder().parent().unwrap().join("outside.txt"), "x").unwrap();
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `entrypoint` of cloudflare::Worker: no permission to read `[ROOT]/outside.txt`, which is outside the project folder
 --> alchemy.run.rhai:3:40
  |
3 | let api = Worker("api", #{ entrypoint: "src/server.tsx" });
  |                                        ^^^^^^^^^^^^^^^^
  |
  = help: allow it with `--allow-read=[ROOT]/outside.txt` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}
