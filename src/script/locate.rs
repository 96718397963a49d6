//! From a call and the path of a prop to the place where the prop is written, when it is written as a literal.

use rhai::{AST, ASTNode, Expr, Position, Stmt};

/// The place of a prop in the literal map that a call is given: its key or its value; the nearest place above it when it is not
/// written there, `None` when the call has no literal map.
pub(super) fn prop(ast: &AST, call: Position, path: &[String], at_key: bool) -> Option<Position> {
    let mut found = None;
    arguments(ast, call, &mut |arguments| {
        let literal = arguments
            .iter()
            .rev()
            .find(|argument| matches!(argument, Expr::Map(..)));
        if let Some(map) = literal {
            found = Some(descend(map, path, at_key));
        }
    });
    found
}

/// Calls `visit` with the arguments of the call at a position.
fn arguments(ast: &AST, call: Position, visit: &mut dyn FnMut(&[Expr])) {
    ast.walk(&mut |nodes: &[ASTNode]| {
        let call_here = match nodes.last() {
            Some(ASTNode::Stmt(Stmt::FnCall(function, position))) => Some((function, position)),
            Some(ASTNode::Expr(
                Expr::FnCall(function, position) | Expr::MethodCall(function, position),
            )) => Some((function, position)),
            _ => None,
        };
        match call_here {
            Some((function, position)) if *position == call => {
                visit(&function.args);
                false
            }
            _ => true,
        }
    });
}

/// Walks literal maps and lists down a path.
pub(super) fn descend(expression: &Expr, path: &[String], at_key: bool) -> Position {
    let Some((step, rest)) = path.split_first() else {
        return expression.start_position();
    };
    match expression {
        Expr::Map(map, position) => match map.0.iter().find(|(key, _)| key.name == step.as_str()) {
            Some((key, _)) if rest.is_empty() && at_key => key.pos,
            Some((_, value)) => descend(value, rest, at_key),
            None => *position,
        },
        Expr::Array(items, position) => {
            match step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index))
            {
                Some(item) => descend(item, rest, at_key),
                None => *position,
            }
        }
        other => other.start_position(),
    }
}

/// The first call of a method or function named `name` on or after a position-less error: for errors that Rhai raises without a place.
pub(super) fn first_call(ast: &AST, name: &str) -> Option<Position> {
    let mut found = None;
    ast.walk(&mut |nodes: &[ASTNode]| {
        let call = match nodes.last() {
            Some(ASTNode::Expr(Expr::MethodCall(function, position))) => Some((function, position)),
            _ => None,
        };
        if let Some((function, position)) = call
            && function.name == name
            && function.args.iter().any(captures)
        {
            found = Some(*position);
            return false;
        }
        true
    });
    found
}

/// Whether an argument is a closure that captures variables: Rhai writes it as a block that shares them first.
fn captures(argument: &Expr) -> bool {
    match argument {
        Expr::Stmt(block) => block
            .iter()
            .any(|statement| matches!(statement, Stmt::Share(..))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rhai::{Engine, OptimizationLevel};

    use super::*;

    #[test]
    fn keys_and_values_are_found_in_nested_literals() {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        let text = "let f = || {\n  Worker(\"api\", #{ bindings: #{ \"A\": 1, B: [x, 22] }, crons: c })\n};";
        let ast = engine.compile(text).unwrap();
        let line: Vec<&str> = text.lines().collect();
        let call = Position::new(2, 3);
        for (path, at_key, expected) in [
            (vec!["bindings", "B"], true, "B: "),
            (vec!["bindings", "B", "1"], false, "22"),
            (vec!["bindings", "A"], true, "\"A\""),
            (vec!["crons"], false, "c }"),
            (vec!["crons", "0"], false, "c }"),
            (vec!["missing"], true, "#{ bindings"),
        ] {
            let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
            let found = prop(&ast, call, &path, at_key).unwrap();
            let expected = line[1].find(expected).unwrap() + 1;
            assert_eq!(
                (found.line(), found.position()),
                (Some(2), Some(expected)),
                "{path:?}"
            );
        }
        assert_eq!(prop(&ast, Position::new(1, 1), &[], false), None);
    }

    #[test]
    fn the_method_that_is_given_a_capturing_closure_is_found() {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        let ast = engine
            .compile("let app = 1;\napp.run(\"a\", || 1);\napp.run(\"b\", || app);")
            .unwrap();
        let found = first_call(&ast, "run").unwrap();
        assert_eq!(found.line(), Some(3));
    }
}
