//! A canary in everything that is secret, looked for in everything that is said or written, by every command there is.
//!
//! `tests/secrets.rs` looks closer at single ways out; this walk is as wide as the command line itself: a command that is not
//! listed in [`WALK`] is run as it stands, so that a new one is not forgotten.

use alch::cli::args::Cli;
use base64::{Engine as _, engine::general_purpose};
use clap::CommandFactory as _;

use crate::support::{Output, Project, cloud::ServedCloud};

/// What each secret input is called, and with it its canary.
const INPUTS: [&str; 8] = [
    "PROP",
    "DOTENV",
    "OUTPUT",
    "EXEC",
    "HEADER",
    "PASSWORD",
    "NEWPASSWORD",
    "SCRIPTPASSWORD",
];

/// A text that is found by its bytes alone, and that looks different under each encoding.
fn canary(input: &str) -> String {
    format!("kanari+{input}/ä %zwitscher{input} zwitscher")
}

/// Every form in which a canary may get out.
fn forms(canary: &str) -> Vec<String> {
    let bytes = canary.as_bytes();
    let percent: String = bytes
        .iter()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(*byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    vec![
        canary.to_owned(),
        // A piece, for a text that was cut, and for JSON that escapes what is not ASCII.
        canary.split('/').next().unwrap().to_owned(),
        canary.rsplit('%').next().unwrap().to_owned(),
        percent,
        hex::encode(bytes),
        hex::encode_upper(bytes),
        general_purpose::STANDARD_NO_PAD.encode(bytes),
        general_purpose::URL_SAFE_NO_PAD.encode(bytes),
    ]
}

const SCRIPT: &str = r#"
let app = alchemy("vault");
let prop = secret(env("PROP"));
let Kept = resource("my::Kept", #{
    create: |ctx, id, props| #{ token: secret(env("OUTPUT")), size: props.size },
    update: |ctx, id, props| #{ token: secret(env("OUTPUT")), size: props.size },
    delete: |ctx, id, props| (),
});
let kept = Kept.declare("kept", #{ size: [SIZE] });
let api = Worker("api", #{
    script: "export default {}",
    bindings: #{ PROP: prop, FILE: secret(env("DOTENV")), KEPT: kept.ref("token"), ALSO: `${prop}!` },
});
Exec("said", #{ command: "echo \"$KEY\"; echo \"$KEY\" >&2", env: #{ KEY: secret(env("EXEC")) } });
HttpRequest("asked", #{ url: "[WEB]/client/v4/user/tokens/verify", method: "GET", headers: #{ authorization: secret("Bearer " + env("TOKEN")), other: secret(env("HEADER")) } });
let back = fetch("[WEB]/client/v4/user/tokens/verify", #{ headers: #{ authorization: secret("Bearer " + env("TOKEN")), other: secret(env("HEADER")) } });
KV("cache-[SIZE]");
print(`${prop} ${kept.token}`);
log(env("PROP"));
[END]
app.finalize();
"#;

/// What a command is run with; `LIST` where it says nothing that depends on a stage.
const WALK: &[(&str, &[&[&str]])] = &[
    ("run", &[]),
    (
        "plan",
        &[&["--env-file", "secrets.env", "--out", "saved.plan"]],
    ),
    ("drift", &[&[]]),
    ("read", &[&["--env-file", "secrets.env"]]),
    ("check", &[&[]]),
    ("scan", &[&[]]),
    ("import", &[&["KV", "none"]]),
    ("stages", &[&[]]),
    ("state ls", &[&[]]),
    (
        "state show",
        &[&["api"], &["kept"], &["said"], &["asked"], &["none"]],
    ),
    ("state mv", &[&["kept", "moved"], &["moved", "kept"]]),
    ("state rm", &[&["none", "--yes"]]),
    ("scope unlock", &[&[]]),
    ("logs", &[&[]]),
    ("explain", &[&["E0401"]]),
    ("completions", &[&["bash"]]),
    // Rotation has a walk of its own below; these two wait for requests, or for a program from a registry.
    ("secrets rotate", &[]),
    ("local serve", &[]),
    ("local prepare", &[]),
    // These change the user's own files: last.
    ("destroy", &[]),
    ("configure", &[&["--target", "local"]]),
    ("login", &[]),
    ("logout", &[&[]]),
];

/// Every command that has none below it, as it is typed.
fn commands() -> Vec<String> {
    fn walk(command: &clap::Command, path: &str, out: &mut Vec<String>) {
        for below in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            let path = format!("{path} {}", below.get_name());
            match below.has_subcommands() {
                true => walk(below, &path, out),
                false => out.push(path.trim().to_owned()),
            }
        }
    }
    let mut out = Vec::new();
    walk(&Cli::command(), "", &mut out);
    out
}

struct Aviary {
    project: Project,
    cloud: ServedCloud,
    /// Name and forms of each canary.
    canaries: Vec<(String, Vec<String>)>,
    runs: usize,
}

impl Aviary {
    fn new() -> Self {
        let cloud = ServedCloud::quick();
        let mut project = Project::new();
        cloud.serve_to(&mut project);
        project
            .env("RUST_BACKTRACE", "1")
            .env("ALCH_LOG", "trace,hyper=info,h2=info")
            .env("ALCHEMY_PASSWORD", &canary("PASSWORD"))
            .env("TOKEN", &cloud.token);
        for input in ["PROP", "OUTPUT", "EXEC", "HEADER"] {
            project.env(input, &canary(input));
        }
        project.file("secrets.env", format!("DOTENV='{}'\n", canary("DOTENV")));
        let mut canaries: Vec<_> = INPUTS
            .iter()
            .map(|input| ((*input).to_owned(), forms(&canary(input))))
            .collect();
        canaries.push(("API token".to_owned(), vec![cloud.token.clone()]));
        let mut aviary = Self {
            project,
            cloud,
            canaries,
            runs: 0,
        };
        aviary.write(1, "");
        aviary
    }

    fn write(&mut self, size: usize, end: &str) {
        let web = self.cloud.base_url();
        let web = web.trim_end_matches("/client/v4");
        let script = SCRIPT
            .replace("[SIZE]", &size.to_string())
            .replace("[WEB]", web)
            .replace("[END]", end);
        self.project.file("alchemy.run.rhai", script);
    }

    /// Runs a command as text, as JSON and as verbose as it gets; looks at all it said.
    fn run(&mut self, command: &str, arguments: &[&str]) -> [Output; 2] {
        [&["--json"][..], &["--verbose"]].map(|how| {
            let all: Vec<&str> = command
                .split(' ')
                .chain(arguments.iter().copied())
                .chain(how.iter().copied())
                .collect();
            let output = self.project.alch(&all);
            for (name, forms) in &self.canaries {
                for form in forms {
                    for text in [&output.stdout, &output.stderr] {
                        assert!(
                            !text.contains(form),
                            "{name} as `{form}` in {all:?}: {text}"
                        );
                    }
                }
            }
            assert!(
                !output.stderr.contains("panicked at"),
                "{all:?}: {}",
                output.stderr
            );
            self.runs += 1;
            output
        })
    }

    /// Deploys, with all that the script needs.
    fn deploy(&mut self, more: &[&str]) -> [Output; 2] {
        let mut arguments = vec![
            "--target",
            "cloudflare",
            "--env-file",
            "secrets.env",
            "--allow-exec",
            "--allow-net",
            "*",
            "--json-into",
            "events.ndjson",
        ];
        arguments.extend(more);
        self.run("run", &arguments)
    }

    /// Looks through every file of the project and of the user, but for the two where a secret is at home.
    fn look(&self) {
        let root = self.project.folder();
        for entry in walkdir::WalkDir::new(root.parent().unwrap()) {
            let path = entry.unwrap().into_path();
            let at_home = path.ends_with("secrets.env") || path.ends_with("state.key");
            if at_home || !path.is_file() {
                continue;
            }
            // Forms are ASCII but for the first, and what is not UTF-8 around them does no harm.
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            for (name, forms) in &self.canaries {
                for form in forms {
                    let path = path.display();
                    assert!(!text.contains(form), "{name} as `{form}` is in {path}");
                }
            }
        }
    }
}

#[track_caller]
fn all(outputs: [Output; 2], codes: &[i32]) {
    for output in outputs {
        assert!(
            codes.contains(&output.code.unwrap()),
            "{:?}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
    }
}

#[test]
fn no_canary_gets_out_of_any_command() {
    let mut aviary = Aviary::new();
    all(aviary.deploy(&[]), &[0]);
    aviary.look();

    // An update, and runs that fail: at the provider, in the script, in a command.
    aviary.write(2, "");
    aviary.cloud.refuse(Some(("PUT", "workers")));
    all(aviary.deploy(&["--force"]), &[4]);
    aviary.cloud.refuse(None);
    for (size, end) in [
        (3, "throw `no: ${env(\"PROP\")}`;"),
        (
            4,
            "Exec(\"fails\", #{ command: \"echo \\\"$KEY\\\"; exit 3\", env: #{ KEY: secret(env(\"EXEC\")) } });",
        ),
        (5, "KV(\"bad\", #{ titel: env(\"PROP\") });"),
        (
            6,
            "Worker(\"bad\", #{ script: \"export default {}\", name: `${prop}` });",
        ),
    ] {
        aviary.write(size, end);
        for output in aviary.deploy(&[]) {
            assert_ne!(output.code, Some(0), "{end}");
        }
        aviary.look();
    }
    aviary.write(7, "");
    all(aviary.deploy(&[]), &[0]);

    let mut commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    // Those at the end of the list come last; those that are not in it before them.
    let place = |command: &String| WALK.iter().position(|(name, _)| name == command);
    let first_last = WALK
        .iter()
        .position(|(name, _)| *name == "destroy")
        .unwrap();
    commands.sort_by_key(|command| {
        place(command).map_or(first_last, |at| at + usize::from(at >= first_last))
    });
    for (name, _) in WALK {
        assert!(
            commands.iter().any(|command| command == name),
            "there is no `{name}`"
        );
    }
    for command in &commands {
        if command == "destroy" {
            for output in aviary.run("destroy", &["--target", "cloudflare", "--yes"]) {
                // The second time there is nothing left.
                assert!(matches!(output.code, Some(0 | 6)), "{}", output.stderr);
            }
        }
        let ways: &[&[&str]] = match place(command) {
            Some(at) => WALK[at].1,
            None => &[&[]],
        };
        for arguments in ways {
            aviary.run(command, arguments);
        }
        aviary.look();
    }
    println!(
        "{} commands, {} runs, {} canaries",
        commands.len(),
        aviary.runs,
        aviary.canaries.len()
    );
}

#[test]
fn no_canary_gets_out_while_the_password_changes() {
    let mut aviary = Aviary::new();
    all(aviary.deploy(&[]), &[0]);
    aviary
        .project
        .env("ALCHEMY_NEW_PASSWORD", &canary("NEWPASSWORD"));
    aviary.run("secrets rotate", &[]);
    aviary.look();
    aviary.project.env("ALCHEMY_PASSWORD", "neither of the two");
    all(aviary.deploy(&[]), &[3]);
    aviary.project.env("ALCHEMY_NEW_PASSWORD", "nor this one");
    all(aviary.run("secrets rotate", &[]), &[3]);
    aviary
        .project
        .env("ALCHEMY_PASSWORD", &canary("NEWPASSWORD"));
    for output in aviary.deploy(&[]) {
        assert!(
            output.stderr.contains("0 updated") || output.code == Some(0),
            "{}",
            output.stderr
        );
    }
    aviary.look();
}

#[test]
fn a_password_in_the_script_stays_there() {
    let mut aviary = Aviary::new();
    aviary
        .project
        .env("SCRIPTPASSWORD", &canary("SCRIPTPASSWORD"));
    let script = aviary.project.read("alchemy.run.rhai").replace(
        "alchemy(\"vault\")",
        "alchemy(\"vault\", #{ password: env(\"SCRIPTPASSWORD\") })",
    );
    aviary.project.file("alchemy.run.rhai", &script);
    all(aviary.deploy(&[]), &[0]);
    aviary.run("scope inspect", &[]);
    aviary.look();
}

#[test]
fn no_canary_gets_out_of_a_panic() {
    let mut aviary = Aviary::new();
    all(aviary.deploy(&[]), &[0]);
    // A release build has no way to be made to panic.
    if std::env::var_os("ALCH_TEST_BINARY").is_some() {
        return;
    }
    // What the command knows as secret, in every form in which it is blanked.
    let mut text = format!("token {}", aviary.cloud.token);
    for input in ["PROP", "OUTPUT", "HEADER", "EXEC", "PASSWORD"] {
        let canary = canary(input);
        let forms = forms(&canary);
        let [percent, standard, url_safe] = [3, 6, 7].map(|at| &forms[at]);
        text.push_str(&format!(
            "; {canary} {canary:?} {percent} {standard} {url_safe}"
        ));
    }
    for backtrace in ["0", "1"] {
        aviary.project.env("RUST_BACKTRACE", backtrace);
        aviary.project.env("ALCH_DEBUG_PANIC", &text);
        let output = aviary.project.alch([
            "run",
            "--target",
            "cloudflare",
            "--env-file",
            "secrets.env",
            "--allow-exec",
            "--allow-net",
            "*",
            "--force",
        ]);
        assert_eq!(output.code, Some(101), "{}", output.stderr);
        let told = output.stderr.matches("alch itself is at fault").count();
        assert_eq!(told, 2, "{}", output.stderr);
        assert!(output.stderr.contains("<secret>"), "{}", output.stderr);
        for (name, forms) in &aviary.canaries {
            for form in forms {
                assert!(!output.stderr.contains(form), "{name}: {}", output.stderr);
            }
        }
        aviary.look();
    }
}
