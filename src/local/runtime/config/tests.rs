//! The configuration as text: escapes, what stays out of it, what makes it another one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::local::api::DeployedModule;

/// Reads the string at the beginning of `text` as the language's own reader does; answers it and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut out = String::new();
    loop {
        let first = rest.chars().next()?;
        rest = &rest[first.len_utf8()..];
        match first {
            '"' => return Some((out, rest)),
            '\n' => return None,
            '\\' => {
                let escape = rest.chars().next()?;
                rest = &rest[escape.len_utf8()..];
                match escape {
                    '"' | '\\' => out.push(escape),
                    'x' => {
                        let code = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
                        out.push(char::from(code));
                        rest = &rest[2..];
                    }
                    _ => return None,
                }
            }
            other => out.push(other),
        }
    }
}

proptest! {
    #[test]
    fn no_text_ends_its_string(
        text in "(?s).*|[\"\\\\\n\r\0\x07\x7f#(){};,a-f0-9xé💥]*",
        after in ".*",
    ) {
        let line = format!("{}{after}", quoted(&text));
        prop_assert_eq!(unquoted(&line), Some((text, after.as_str())));
    }
}

fn worker(name: &str, bindings: Value) -> DeployedWorker {
    DeployedWorker {
        name: name.to_owned(),
        version: "v1".to_owned(),
        created_at: "then".to_owned(),
        entry: "b.js".to_owned(),
        service_syntax: false,
        modules: [
            ("a.wasm", "application/wasm"),
            ("b.js", "application/javascript+module"),
            ("b.js.map", "application/source-map"),
        ]
        .map(|(name, content_type)| DeployedModule {
            name: name.to_owned(),
            content_type: content_type.to_owned(),
            hash: format!("hash-of-{name}"),
            text: None,
        })
        .into(),
        bindings: serde_json::from_value(bindings).unwrap(),
        compatibility_date: Some("2999-01-01".to_owned()),
        compatibility_flags: vec!["nodejs_compat".to_owned()],
        assets: None,
        incarnations: Vec::new(),
        tail_consumers: Vec::new(),
        share: 100.0,
        others: Vec::new(),
        namespaces: Vec::new(),
        workflows: Vec::new(),
        hosts: [].into(),
    }
}

fn config(workers: &[DeployedWorker], broken: &[(&str, &str)]) -> Config {
    let broken = broken
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned()))
        .collect();
    write(
        workers,
        &Setting {
            folder: Path::new("/data"),
            simulators: Path::new("/simulators"),
            newest_date: "2026-07-30",
            broken: &broken,
            link: &Link {
                address: "127.0.0.1:1234".parse().unwrap(),
                token: "the-token".to_owned(),
            },
        },
    )
}

#[test]
fn the_entry_module_comes_first_and_the_date_is_known_to_the_binary() {
    let config = config(&[worker("api", json!([]))], &[]);
    let code = "compatibilityDate = \"2026-07-30\", compatibilityFlags = [\"nodejs_compat\"], \
        modules = [(name = \"b.js\", esModule = embed \"/data/workers/modules/hash-of-b.js\"), \
        (name = \"a.wasm\", wasm = embed \"/data/workers/modules/hash-of-a.wasm\")], bindings = []";
    assert!(config.text.contains(code), "{}", config.text);
    assert_eq!(config.notices.len(), 1, "{:?}", config.notices);
}

#[test]
fn secrets_stay_out_of_the_text_and_still_count() {
    let with = |text: &str| {
        let binding = json!([{"name": "KEY", "type": "secret_text", "text": text}]);
        config(&[worker("api", binding)], &[])
    };
    let (one, other) = (with("hunter2"), with("hunter3"));
    assert!(!one.text.contains("hunter2"));
    assert_eq!(one.text, other.text);
    assert_ne!(one.fingerprint(), other.fingerprint());
    assert_eq!(one.fingerprint(), with("hunter2").fingerprint());
}

#[test]
fn a_new_bucket_of_an_old_name_is_another_configuration() {
    let with = |id: &str| {
        let mut worker = worker("api", json!([]));
        worker.incarnations.push(id.to_owned());
        config(&[worker], &[]).fingerprint()
    };
    assert_ne!(with("1"), with("2"));
}

#[test]
fn a_binding_that_there_is_not_is_said_and_left_out() {
    let config = config(&[worker("api", json!([{"name": "AI", "type": "ai"}]))], &[]);
    assert!(!config.text.contains("\"AI\""));
    assert!(
        config.notices.iter().any(|notice| notice.contains("`AI`")),
        "{:?}",
        config.notices
    );
}

#[test]
fn workers_that_are_not_there_are_replaced() {
    let bindings = json!([
        {"name": "A", "type": "service", "service": "gone", "entrypoint": "Api"},
        {"name": "B", "type": "service", "service": "bad"},
        {"name": "C", "type": "service", "service": "api", "entrypoint": "Api"},
    ]);
    let workers = [worker("api", bindings), worker("bad", json!([]))];
    let config = config(&workers, &[("bad", "Uncaught \"x\"")]);
    for part in [
        "(name = \"A\", service = \"worker:gone\")",
        "(name = \"B\", service = \"worker:bad\")",
        "(name = \"C\", service = (name = \"worker:api\", entrypoint = \"Api\"))",
        "text = \"the Worker `gone` cannot run: it is not deployed\"",
        "text = \"the Worker `bad` cannot run: Uncaught \\\"x\\\"\"",
    ] {
        assert!(config.text.contains(part), "{part}\n{}", config.text);
    }
    assert_eq!(
        config.text.matches("name = \"worker:bad\", worker").count(),
        1
    );
}
