//! A run is told line by line; quiet and verbose tell less and more; silence is broken.

use snapbox::{assert_data_eq, str};

use super::*;
use crate::{
    engine::{Failure, FailureCause},
    model::{StagePath, diagnostic::codes},
    provider::{FailureKind, ProviderError},
};

pub(crate) fn fqn(text: &str) -> Fqn {
    Fqn::parse(text).unwrap()
}

pub(crate) fn stage() -> StagePath {
    fqn("my-app/dev/x").stage()
}

pub(crate) fn failure() -> Arc<Failure> {
    Arc::new(Failure {
        fqn: fqn("my-app/dev/api"),
        kind: "cloudflare::Worker".into(),
        action: Action::Create,
        cause: FailureCause::Provider(ProviderError::new(
            FailureKind::Conflict,
            "a Worker of that name exists",
        )),
        position: None,
    })
}

pub(crate) fn summary(phase: Phase) -> Summary {
    Summary {
        stage: stage(),
        phase,
        outcome: Outcome::Succeeded,
        counts: BTreeMap::from([(Action::Create, 3), (Action::Unchanged, 120)]),
        failed: Vec::new(),
        handled: 0,
        skipped: Vec::new(),
        left: Vec::new(),
        unreached: 0,
        elapsed: Duration::from_millis(4_100),
        critical_path: Duration::from_millis(3_200),
        calls: 41,
    }
}

pub(crate) fn story() -> Vec<Event> {
    let kind: Arc<str> = "cloudflare::D1Database".into();
    let name = fqn("my-app/dev/database/main-db");
    vec![
        Event::RunStarted {
            stage: stage(),
            phase: Phase::Up,
            target: "local".to_owned(),
            deployment: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        },
        Event::Unchanged {
            fqn: fqn("my-app/dev/same"),
            kind: Arc::clone(&kind),
        },
        Event::Started {
            fqn: name.clone(),
            kind: Arc::clone(&kind),
            action: Action::Create,
        },
        Event::Print("hello".to_owned()),
        Event::Finished {
            fqn: name,
            kind,
            action: Action::Create,
            physical_name: "main-db-dev".to_owned(),
            duration: Duration::from_millis(53),
        },
        Event::Failed(failure()),
        Event::Skipped {
            fqn: fqn("my-app/dev/route"),
            because: fqn("my-app/dev/api"),
        },
        Event::RunFinished(Box::new(Summary {
            outcome: Outcome::Partial,
            failed: vec![failure()],
            skipped: vec![fqn("my-app/dev/route")],
            ..summary(Phase::Up)
        })),
    ]
}

pub(crate) fn explain() -> Explain {
    Arc::new(|failure: &Failure| Diagnostic::error(codes::CONFLICT, failure.cause.to_string()))
}

fn options(verbosity: Verbosity) -> PlainOptions {
    PlainOptions {
        verbosity,
        detail: Detail::Normal,
        live: false,
        width: None,
        explain: explain(),
    }
}

fn tell(verbosity: Verbosity) -> String {
    let mut fold = Plain::new(options(verbosity));
    let mut lines = Vec::new();
    for event in story() {
        fold.event(&event, Duration::ZERO, &mut lines);
    }
    fold.end(&mut lines);
    lines
        .iter()
        .map(|line| {
            let mark = match line.stream {
                Stream::Out => "out",
                Stream::Err => "err",
            };
            format!("{mark}| {}\n", anstream::adapter::strip_str(&line.text))
        })
        .collect()
}

#[test]
fn a_run_is_told_line_by_line() {
    assert_data_eq!(
        tell(Verbosity::Normal),
        str![[r#"
err| alch: app my-app, stage dev, phase up, target local
err| + creating  database/main-db (cloudflare::D1Database)
out| hello
err|   created   database/main-db  main-db-dev  53 ms
err|   failed    api  a Worker of that name exists
err|   skipped   route  because api failed
err| error[E0302]: a Worker of that name exists
err| 3 created, 0 updated, 0 deleted, 120 unchanged, 1 failed, 1 skipped in 4.1 s (critical path 3.2 s, 41 API calls)

"#]]
    );
}

#[test]
fn quiet_leaves_results_and_problems() {
    assert_data_eq!(
        tell(Verbosity::Quiet),
        str![[r#"
out| hello
err| error[E0302]: a Worker of that name exists
err| 3 created, 0 updated, 0 deleted, 120 unchanged, 1 failed, 1 skipped in 4.1 s (critical path 3.2 s, 41 API calls)

"#]]
    );
}

#[test]
fn verbose_names_what_is_unchanged() {
    assert!(tell(Verbosity::Verbose).contains("err|   unchanged same  (cloudflare::D1Database)"));
}

#[test]
fn silence_is_broken_after_ten_seconds() {
    let mut fold = Plain::new(options(Verbosity::Normal));
    let mut lines = Vec::new();
    fold.event(&story()[2], Duration::from_secs(1), &mut lines);
    lines.clear();
    fold.tick(Duration::from_secs(10), &mut lines);
    assert!(lines.is_empty());
    fold.tick(Duration::from_secs(21), &mut lines);
    fold.tick(Duration::from_secs(22), &mut lines);
    assert_eq!(lines.len(), 1);
    assert_eq!(
        anstream::adapter::strip_str(&lines[0].text).to_string(),
        "  still creating database/main-db (20 s)"
    );
}

#[test]
fn failures_that_the_script_caught_are_not_explained_again() {
    let caught = Summary {
        failed: vec![failure()],
        handled: 1,
        ..summary(Phase::Up)
    };
    assert!(unhandled(&caught, &explain()).is_empty());
}
