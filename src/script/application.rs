//! The application of a script that is not run: what commands go by that work beside it.

use rhai::{Expr, Stmt};

use super::program::Program;

/// The name that `alchemy("name", ..)` gives at the top level of a script; none where it is computed, or where there are several.
#[must_use]
pub fn application(program: &Program) -> Option<&str> {
    let mut names = program
        .main
        .ast
        .statements()
        .iter()
        .filter_map(|statement| {
            let (name, arguments) = match statement {
                Stmt::Var(var, ..) => called(&var.1)?,
                Stmt::Expr(expression) => called(expression)?,
                Stmt::FnCall(call, _) => (call.name.as_str(), call.args.as_slice()),
                _ => return None,
            };
            (name == "alchemy").then(|| match arguments.first() {
                Some(Expr::StringConstant(text, _)) => Some(text.as_str()),
                _ => None,
            })
        });
    match (names.next(), names.next()) {
        (Some(name), None) => name,
        _ => None,
    }
}

fn called(expression: &Expr) -> Option<(&str, &[Expr])> {
    match expression {
        Expr::FnCall(call, _) => Some((call.name.as_str(), call.args.as_slice())),
        _ => None,
    }
}
