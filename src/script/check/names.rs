//! Names that a script uses: variables, modules, and functions with their arity.

use std::collections::BTreeSet;

use rhai::{FnCallExpr, Position, Stmt};

use super::{
    super::{modules, natives::resources, signature},
    Checker, Names,
};
use crate::{
    model::{Diagnostic, diagnostic::codes},
    util::text,
};

impl Checker<'_> {
    pub(super) fn variable(
        &mut self,
        name: &str,
        namespace: &rhai::Namespace,
        position: Position,
        names: &Names,
    ) {
        if !namespace.is_empty() {
            let root = namespace.root().to_owned();
            self.namespace(&root, namespace.position(), names);
            return;
        }
        if name == "alchemy"
            || self.script.contains_key(name)
            || names.iter().any(|known| known == name)
        {
            return;
        }
        let known = names.iter().map(String::as_str).chain(["alchemy"]);
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("no variable `{name}`"));
        let diagnostic = if self.functions.arities.contains_key(name) {
            diagnostic.with_help(format!("`{name}` is a function: call it with `{name}(..)`"))
        } else if self.is_global(name) {
            diagnostic.with_help(format!(
                "functions do not see variables of the script: pass it in, or declare `const {name}` and write `global::{name}`"
            ))
        } else {
            match text::suggestions(name, known, 1).first() {
                Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
                None => diagnostic.with_help(format!("declare it first: `let {name} = ..;`")),
            }
        };
        self.problem(diagnostic, position);
    }

    /// Whether the script declares the name at its top level.
    fn is_global(&self, name: &str) -> bool {
        self.loaded
            .ast
            .statements()
            .iter()
            .any(|statement| matches!(statement, Stmt::Var(var, ..) if var.0.name == name))
    }

    fn namespace(&mut self, root: &str, position: Position, names: &Names) {
        let fixed = ["global", "json", "yaml", "toml"];
        let known = names.iter().map(String::as_str).chain(fixed);
        // A function sees the imports of its file.
        let imported =
            self.loaded.ast.statements().iter().any(
                |statement| matches!(statement, Stmt::Import(parts, _) if parts.1.name == root),
            );
        if imported || known.clone().any(|name| name == root) {
            return;
        }
        let diagnostic = Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("no module `{root}`"));
        let standard = format!("alch/{root}");
        let help = if modules::standard().contains(&standard) {
            format!("import it first: `import \"{standard}\" as {root};`")
        } else {
            match text::suggestions(root, known, 1).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("import it first: `import \"./file\" as {root};`"),
            }
        };
        self.problem(diagnostic.with_help(help), position);
    }

    pub(super) fn call(
        &mut self,
        call: &FnCallExpr,
        position: Position,
        method: bool,
        names: &mut Names,
    ) {
        for argument in &call.args {
            self.expression(argument, names);
        }
        if call.is_operator_call() {
            return;
        }
        if call.is_qualified() {
            let root = call.namespace.root().to_owned();
            self.namespace(&root, call.namespace.position(), names);
            return;
        }
        self.known_function(call, position, method, names);
        self.literal_props(call);
    }

    fn known_function(
        &mut self,
        call: &FnCallExpr,
        position: Position,
        method: bool,
        names: &Names,
    ) {
        let name = call.name.as_str();
        if name.contains('$') || name.starts_with("__") {
            return;
        }
        let count = call.args.len();
        let native = self.functions.arities.get(name);
        let script = self.script.get(name);
        let fits = if method {
            // A key of a map may hold a closure, which is called like a method.
            native.is_some() || script.is_some() || self.keys.contains(name)
        } else {
            native.is_some_and(|counts| counts.contains(&count))
                || script.is_some_and(|counts| counts.contains(&count))
        };
        let resource_arity = resources::function(name).is_some() && script.is_none();
        if fits && !(method && resource_arity && !(1..=2).contains(&count)) {
            return;
        }
        let diagnostic = if !method && names.iter().any(|known| known == name) {
            Diagnostic::error(
                codes::UNKNOWN_FUNCTION,
                format!("`{name}` is a variable, not a function"),
            )
            .with_help(format!("call the closure in it with `{name}.call(..)`"))
        } else if resource_arity {
            Diagnostic::error(
                codes::WRONG_ARGUMENTS,
                format!(
                    "`{name}` takes (id) or (id, props); you passed {}",
                    text::plural(count, "argument")
                ),
            )
            .with_help(format!("write `{name}(\"my-id\", #{{ .. }})`"))
        } else if let Some(counts) = script.filter(|_| !method) {
            let diagnostic = wrong_arity(name, counts, count);
            let defined = self.loaded.ast.iter_functions().filter(|f| f.name == name);
            defined.fold(diagnostic, |diagnostic, function| {
                let parameters = function.params.join(", ");
                diagnostic.with_help(format!("it is defined as `fn {name}({parameters})`"))
            })
        } else if native.is_some() {
            let forms: Vec<String> = self
                .functions
                .forms
                .iter()
                .filter(|form| form.name == name)
                .map(|form| format!("({})", form.parameters.join(", ")))
                .collect();
            Diagnostic::error(
                codes::WRONG_ARGUMENTS,
                format!(
                    "`{name}` takes {}; you passed {}",
                    forms.join(" or "),
                    text::plural(count, "argument")
                ),
            )
        } else {
            let known = self.functions.arities.keys().chain(self.script.keys());
            signature::unknown(name, known.map(String::as_str))
        };
        self.problem(diagnostic, position);
    }
}

fn wrong_arity(name: &str, counts: &BTreeSet<usize>, count: usize) -> Diagnostic {
    let counts: Vec<String> = counts
        .iter()
        .map(|count| text::plural(*count, "argument"))
        .collect();
    Diagnostic::error(
        codes::WRONG_ARGUMENTS,
        format!("`{name}` takes {}; you passed {count}", counts.join(" or ")),
    )
}
