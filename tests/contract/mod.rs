//! Everything that goes over the wire fits Cloudflare's own description of its API: what the provider sends, and what the
//! local cloud answers.
//!
//! The description is not part of this repository. `ALCH_CLOUDFLARE_OPENAPI` names the file, an OpenAPI 3.1 document;
//! without it these tests say so and check nothing.

mod account;
mod adopt;
mod d1;
mod description;
mod durable;
mod exceptions;
mod kinds;
mod kv;
mod local;
mod provider;
mod queues;
mod r2;
mod stores;
mod workers;
mod workflows;
mod zones;

use std::{collections::BTreeSet, io::Write as _, sync::OnceLock};

use self::{
    description::{Description, Problem},
    exceptions::EXCEPTIONS,
};
use crate::support::exchange::Exchange;

const VARIABLE: &str = "ALCH_CLOUDFLARE_OPENAPI";

/// The description, if there is one.
fn description() -> Option<&'static Description> {
    static DESCRIPTION: OnceLock<Option<Description>> = OnceLock::new();
    DESCRIPTION
        .get_or_init(|| {
            let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
                // Not `eprintln!`, which the test runner keeps to itself unless a test fails.
                writeln!(
                    std::io::stderr(),
                    "SKIPPED contract: {VARIABLE} does not name Cloudflare's API description; requests and answers are not checked"
                )
                .expect("stderr");
                return None;
            };
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{VARIABLE}={}: {error}", path.display()));
            Some(Description::parse(&text))
        })
        .as_ref()
}

/// What the exchanges of a test showed.
#[derive(Default)]
struct Verdict {
    problems: BTreeSet<String>,
    /// The exceptions that were needed, by index.
    excused: BTreeSet<usize>,
    /// Operations that succeeded at least once.
    succeeded: BTreeSet<String>,
    /// Operations that answered an error at least once.
    failed: BTreeSet<String>,
}

impl Verdict {
    /// Holds an exchange against the description. `of_request` is false where a bad request was sent on purpose.
    fn add(&mut self, description: &Description, exchange: &Exchange, of_request: bool) {
        if let Some(name) = description.name(exchange) {
            let reached = match exchange.status {
                200..=299 => &mut self.succeeded,
                _ => &mut self.failed,
            };
            reached.insert(name.to_owned());
        }
        for problem in description.problems(exchange, of_request) {
            match excuse(&problem) {
                Some(index) => {
                    self.excused.insert(index);
                }
                None => {
                    let Problem {
                        operation,
                        place,
                        message,
                    } = problem;
                    self.problems
                        .insert(format!("{operation}\n    {place}: {message}"));
                }
            }
        }
    }

    /// Ends the test when there was a problem.
    #[track_caller]
    fn assert_fits(&self) {
        let all: Vec<&str> = self.problems.iter().map(String::as_str).collect();
        assert!(
            all.is_empty(),
            "{} differences from Cloudflare's description:\n{}",
            all.len(),
            all.join("\n")
        );
    }
}

/// The exception for a problem.
fn excuse(problem: &Problem) -> Option<usize> {
    EXCEPTIONS.iter().position(|exception| {
        let operation = match exception.operation.strip_suffix('*') {
            Some(start) => problem.operation.starts_with(start),
            None => problem.operation == exception.operation,
        };
        operation && problem.place.starts_with(exception.place)
    })
}
