//! What a script may not do unasked: programs, hosts, files outside its folder. Every refusal comes before anything happens.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use snapbox::str;

use crate::support::{Output, Project};

/// A web server that answers every request alike and keeps the lines that asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn answering(answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (keep, answer) = (Arc::clone(&asked), answer.into());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).expect("a request");
                let text = String::from_utf8_lossy(&bytes[..count]);
                let line = text.lines().next().unwrap_or_default().to_owned();
                keep.lock().unwrap().push(line);
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        Self { address, asked }
    }

    fn plain() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    }

    fn redirecting(to: &str) -> Self {
        Self::answering(format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("a port").1
    }
}

/// Runs a script that declares `body`.
fn run(body: &str, flags: &[&str]) -> (Project, Output) {
    let project = Project::with_script(&format!("alchemy(\"app\");\n{body}\n"));
    let output = project.alch([&["run"], flags].concat());
    (project, output)
}

#[track_caller]
fn refused(output: &Output, message: &str, help: &str) {
    let told = &output.stderr;
    assert!(
        told.contains(&format!("no permission to {message}")),
        "{told}"
    );
    assert!(told.contains(help), "{told}");
    assert_ne!(output.code, Some(0));
}

#[test]
fn a_shell_command_needs_the_shell_and_not_its_first_word() {
    let body = r#"Exec("x", #{ command: "echo hi; touch made" });"#;
    let (project, output) = run(body, &["--allow-exec=echo"]);
    output.check(str![[r#"
exit 1
-- stderr
alch: app app, stage dev, phase up, target local
error[E0116]: no permission to run a shell command
 --> alchemy.run.rhai:2:1
  |
2 | Exec("x", #{ command: "echo hi; touch made" });
  | ^^^^
  |
  = help: allow it with `--allow-exec` if you trust the script, or write it as an array of program and arguments, which needs that program alone
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert!(!project.path("made").exists());
    for flag in ["--allow-exec=sh", "--allow-exec", "--allow-exec=git,sh"] {
        let (project, output) = run(body, &[flag]);
        output.success();
        assert!(project.path("made").exists(), "{flag}");
    }
}

#[test]
fn a_program_needs_its_own_name() {
    let body = r#"Exec("x", #{ command: ["touch", "made"] });"#;
    let (project, output) = run(body, &["--allow-exec=echo,tou,touchx,./touch"]);
    refused(&output, "start `touch`", "`--allow-exec=touch`");
    assert!(!project.path("made").exists());
    run(body, &["--allow-exec=touch"]).1.success();
    let native = r#"exec("touch", ["made"]);"#;
    refused(&run(native, &[]).1, "start `touch`", "`--allow-exec=touch`");
    run(native, &["--allow-exec=touch"]).1.success();
}

#[test]
fn the_environment_cannot_make_an_allowed_program_another() {
    let project = Project::with_script(
        "alchemy(\"app\");\nExec(\"x\", #{ command: [\"git\"], env: #{ PATH: \".\" } });",
    );
    project.file("git", "#!/bin/sh\ntouch made\n");
    let output = project.alch(["run", "--allow-exec=git"]);
    refused(&output, "start a program with `PATH`", "`--allow-exec`");
    assert!(!project.path("made").exists());
}

#[test]
fn what_is_known_only_later_is_refused_before_it_is_used() {
    let server = Server::plain();
    let script = format!(
        "let host = Exec(\"host\", #{{ command: [\"echo\", \"-n\", \"{}\"] }});\nHttpRequest(\"x\", #{{ url: `http://${{host.ref(\"stdout\")}}/` }});",
        server.address
    );
    let (_, output) = run(&script, &["--allow-exec=echo", "--allow-net=example.com"]);
    refused(&output, "speak to `127.0.0.1`", "`--allow-net=127.0.0.1`");
    assert!(server.asked().is_empty());
    let (_, output) = run(&script, &["--allow-exec=echo", "--allow-net=127.0.0.1"]);
    output.success();
    assert_eq!(server.asked(), ["GET / HTTP/1.1"]);
}

#[test]
fn every_address_of_a_request_is_checked() {
    let server = Server::plain();
    let fine = format!("http://{}/made", server.address);
    for (key, shown) in [("onDelete", "evil.test"), ("on_delete", "evil.test")] {
        let body = format!(
            "HttpRequest(\"x\", #{{ url: \"{fine}\", {key}: #{{ url: \"http://evil.test/\" }} }});"
        );
        let (_, output) = run(&body, &["--allow-net=127.0.0.1"]);
        refused(
            &output,
            &format!("speak to `{shown}`"),
            "`--allow-net=evil.test`",
        );
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn hosts_that_look_like_an_allowed_one_are_refused() {
    for (url, host) in [
        ("http://example.com.evil.test/", "example.com.evil.test"),
        ("http://example.com@evil.test/", "evil.test"),
        ("http://example.com:pass@evil.test:81/", "evil.test"),
        ("http://EVIL.test/example.com", "evil.test"),
        ("http://notexample.com/", "notexample.com"),
        ("http://[::1]:81/", "[::1]"),
        ("http://example.com:8081/", "example.com"),
    ] {
        for body in [
            format!("fetch(\"{url}\");"),
            format!("HttpRequest(\"x\", #{{ url: \"{url}\" }});"),
        ] {
            let (_, output) = run(&body, &["--allow-net=example.com:80"]);
            refused(&output, &format!("speak to `{host}`"), "--allow-net=");
        }
    }
    for flag in [
        "https://example.com",
        "user@example.com",
        "example.com/path",
    ] {
        let (_, output) = run("", &["--allow-net", flag]);
        assert!(
            output.stderr.contains(&format!("`{flag}` is no host")),
            "{}",
            output.stderr
        );
        output.code(2);
    }
}

#[test]
fn a_redirect_leads_to_no_other_host() {
    let inside = Server::plain();
    let there = format!("http://localhost:{}/stolen", inside.port());
    let outside = Server::redirecting(&there);
    let url = format!("http://{}/", outside.address);
    let (_, output) = run(&format!("fetch(\"{url}\");"), &["--allow-net=127.0.0.1"]);
    refused(&output, "speak to `localhost`", "`--allow-net=localhost`");
    let (_, output) = run(
        &format!("HttpRequest(\"x\", #{{ url: \"{url}\" }});"),
        &["--allow-net=127.0.0.1"],
    );
    assert!(
        output.stderr.contains("answered with HTTP 302"),
        "{}",
        output.stderr
    );
    output.code(4);
    assert!(inside.asked().is_empty(), "{:?}", inside.asked());
    let both = "--allow-net=127.0.0.1,localhost";
    run(&format!("fetch(\"{url}\");"), &[both]).1.success();
    assert_eq!(inside.asked(), ["GET /stolen HTTP/1.1"]);
}

/// A project with a secret beside it, and links that lead out.
fn beside_secrets(script: &str) -> Project {
    let project = Project::with_script(script);
    let evil = project.folder().with_file_name("project-evil");
    std::fs::create_dir(&evil).unwrap();
    std::fs::write(evil.join("secret.js"), "export default {}; // hunter2").unwrap();
    std::fs::write(evil.join("0001_secret.sql"), "select 'hunter2';").unwrap();
    std::fs::write(evil.join("secret.rhai"), "export const x = \"hunter2\";").unwrap();
    std::os::unix::fs::symlink(&evil, project.path("out")).unwrap();
    std::fs::create_dir(project.path("migrations")).unwrap();
    for (from, to) in [
        ("secret.js", "link.js"),
        ("0001_secret.sql", "migrations/0001.sql"),
        ("secret.rhai", "link.rhai"),
        ("none", "dangling"),
    ] {
        std::os::unix::fs::symlink(evil.join(from), project.path(to)).unwrap();
    }
    project
        .file(
            "src/imports.js",
            "import x from '../../project-evil/secret.js'; export default x;",
        )
        .file(
            "src/links.js",
            "import x from '../link.js'; export default x;",
        );
    project
}

#[test]
fn nothing_outside_the_folder_is_read() {
    for body in [
        r#"file("../project-evil/secret.js");"#,
        r#"file("out/secret.js");"#,
        r#"file("link.js");"#,
        r#"file("src/../../project-evil/secret.js");"#,
        r#"read_blob("link.js");"#,
        r#"file_exists("out/secret.js");"#,
        r#"Worker("w", #{ entrypoint: "../project-evil/secret.js" });"#,
        r#"Worker("w", #{ entrypoint: "link.js" });"#,
        r#"Worker("w", #{ entrypoint: "src/imports.js" });"#,
        r#"Worker("w", #{ entrypoint: "src/links.js" });"#,
        r#"Database("d", #{ migrations: "out" });"#,
        r#"Database("d", #{ migrations: "migrations" });"#,
        r#"import "./link" as m; print(m::x);"#,
        r#"import "../project-evil/secret" as m; print(m::x);"#,
    ] {
        let project = beside_secrets(&format!("alchemy(\"app\");\n{body}\n"));
        let output = project.alch(["run"]);
        assert!(
            output.stderr.contains("no permission to read `"),
            "{body}: {}",
            output.stderr
        );
        assert!(output.stderr.contains("--allow-read="), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2") && !output.stdout.contains("hunter2"));
        let allowed = project.alch(["run", "--allow-read=../project-evil"]);
        assert_eq!(allowed.code, Some(0), "{body}: {}", allowed.stderr);
    }
    let project = beside_secrets("print(glob(\"**/*\")); print(glob(\"../**\"));");
    let listed = project.alch(["run"]).success().stdout;
    assert!(!listed.contains("secret"), "{listed}");
}

#[test]
fn nothing_outside_the_folder_is_written() {
    for (body, path) in [
        (
            r#"write_file("../project-evil/new", "x");"#,
            "../project-evil/new",
        ),
        (r#"write_file("out/new", "x");"#, "out/new"),
        (r#"write_file("dangling", "x");"#, "dangling"),
        (
            r#"File("f", #{ path: "../project-evil/new", content: "x" });"#,
            "../project-evil/new",
        ),
        (
            r#"File("f", #{ path: "out/new", content: "x" });"#,
            "out/new",
        ),
        (
            r#"File("f", #{ path: "src/../out/new", content: "x" });"#,
            "src/../out/new",
        ),
        (
            r#"File("f", #{ path: "dangling", content: "x" });"#,
            "dangling",
        ),
    ] {
        let project = beside_secrets(&format!("alchemy(\"app\");\n{body}\n"));
        let output = project.alch(["run"]);
        refused(&output, &format!("write `{path}`"), "--allow-write=");
        let evil = project.folder().with_file_name("project-evil");
        assert!(!evil.join("new").exists() && !evil.join("none").exists());
        project
            .alch(["run", "--allow-write=../project-evil"])
            .success();
    }
}

#[test]
fn a_delete_from_state_needs_the_permissions_that_making_needed() {
    let server = Server::plain();
    let url = format!("http://{}", server.address);
    let project = Project::with_script(&format!(
        "alchemy(\"app\");\nHttpRequest(\"x\", #{{ url: \"{url}/made\", onDelete: #{{ url: \"{url}/gone\" }} }});\n\
         File(\"f\", #{{ path: \"../note\", content: \"x\" }});"
    ));
    let flags = ["--allow-net=127.0.0.1", "--allow-write=.."];
    project.alch([&["run"], &flags[..]].concat()).success();
    let note = project.folder().with_file_name("note");
    let output = project.alch(["destroy", "--yes"]);
    refused(&output, "speak to `127.0.0.1`", "`--allow-net=127.0.0.1`");
    refused(&output, "write `../note`", "--allow-write=");
    assert_eq!(output.code, Some(4));
    assert_eq!(server.asked(), ["GET /made HTTP/1.1"]);
    assert!(note.exists());
    project
        .alch([&["destroy", "--yes"], &flags[..]].concat())
        .success();
    assert_eq!(server.asked(), ["GET /made HTTP/1.1", "GET /gone HTTP/1.1"]);
    assert!(!note.exists());
}

#[test]
fn what_a_project_grants_itself_counts_once_it_is_trusted() {
    let project = Project::with_script(
        "alchemy(\"app\");\nExec(\"x\", #{ command: [\"touch\", \"made\"] });",
    );
    project.file("alch.toml", "[permissions]\nexec = [\"touch\"]\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app app, stage dev, phase up, target local
error[E0116]: no permission to start `touch`
 --> alchemy.run.rhai:2:1
  |
2 | Exec("x", #{ command: ["touch", "made"] });
  | ^^^^
  |
  = help: allow it with `--allow-exec=touch` if you trust the script; `[ROOT]/project/alch.toml` grants permissions and is not trusted: read it, then `alch trust`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert!(!project.path("made").exists());
    project.alch(["run", "--trust"]).success();
    project.alch(["trust"]).check(str![[r#"
exit 0
-- stdout
trusted `alch.toml` until it changes; it allows
  exec  touch
  net   nothing
  read  nothing
  write nothing

"#]]);
    project.alch(["run"]).success();
    project.file("alch.toml", "[permissions]\nexec = true\n");
    project.alch(["run", "--force"]).code(1);
    project.alch(["trust", ".", "--json"]).success();
    project.alch(["run", "--force"]).success();
    project.alch(["trust", "--revoke"]).success();
    project.alch(["run", "--force"]).code(1);
    let none = Project::new();
    none.alch(["trust"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: there is no `alch.toml` to trust
 = help: `alch help trust` shows what stands in such a file

"#]]);
}
