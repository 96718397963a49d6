//! Errors as the user sees them: the whole of what the binary says, with its exit code.
//!
//! Every snapshot names the place, the error id and the next step; every id in them is explained by `alch explain`.

mod before;
mod check;
mod explain;
mod names;
mod plans;
mod props;
mod providers;
mod running;
mod secrets;
mod syntax;

use snapbox::IntoData;

use crate::support::{Output, Project};

/// What `alch run` says of a script whose first line starts the application `shop`.
pub(crate) fn run(text: &str) -> Output {
    shop(text).alch(["run"])
}

/// The project of such a script.
pub(crate) fn shop(text: &str) -> Project {
    Project::with_script(&format!("let app = alchemy(\"shop\");\n{text}\n"))
}

/// Compares all that `alch run` says with a snapshot.
#[track_caller]
pub(crate) fn says(text: &str, expected: impl IntoData) {
    run(text).check(expected);
}
