//! Which function of scripts declares which kind, for code that writes scripts.

use super::natives::resources::FUNCTIONS;

/// Every resource function with the kind that it declares.
pub fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS
        .into_iter()
        .map(|function| (function.name, function.kind))
}

/// The functions that declare a kind, and whether each is a block, which names its object `<id>-<stage>`. Blocks come first.
#[must_use]
pub fn functions_of(kind: &str) -> Vec<(&'static str, bool)> {
    FUNCTIONS
        .into_iter()
        .filter(|function| function.kind == kind)
        .map(|function| (function.name, function.block))
        .collect()
}
