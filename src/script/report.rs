//! Errors of Rhai, of declarations and of resources as diagnostics: at the user's line and column, in words that name the next step.
//!
//! One file for each moment: before the run `syntax`, at a resource function `declaration`, when the script ends with an error
//! `evaluation`, and when a plan looks into a value that is not known yet `unknown`.

mod declaration;
mod evaluation;
mod syntax;
mod unknown;

pub(super) use declaration::{declare_error, failure, shared_name};
pub(super) use evaluation::evaluation;
pub(super) use syntax::{open_comment, parse};
pub(super) use unknown::forced_in_plan;
