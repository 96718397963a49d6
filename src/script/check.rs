//! Looks through a script before anything is touched: names, functions and their arity, props in literal maps, modules.
//! This file walks files and their syntax; what is asked of a name is in `names`, of literal props in `props`.

mod names;
mod props;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use rhai::{ASTNode, Engine, Expr, Position, Stmt};

use crate::model::{Diagnostic, diagnostic::codes};

use super::{
    host::Host,
    modules,
    signature::{self, Form},
    sources::Loaded,
};

/// Every problem of a script and of the modules that it imports by a literal name.
pub(super) fn program(host: &Host, engine: &Engine, main: &Arc<Loaded>) -> Vec<Diagnostic> {
    let functions = Functions::of(engine);
    let mut problems = Vec::new();
    let mut seen = HashSet::from([main.file.name.clone()]);
    let mut chain = vec![main.file.name.clone()];
    file(
        host,
        engine,
        &functions,
        main,
        &mut chain,
        &mut seen,
        &mut problems,
    );
    problems
}

fn file(
    host: &Host,
    engine: &Engine,
    functions: &Functions,
    loaded: &Arc<Loaded>,
    chain: &mut Vec<String>,
    seen: &mut HashSet<String>,
    problems: &mut Vec<Diagnostic>,
) {
    let mut checker = Checker::new(host, functions, loaded);
    checker.check();
    problems.append(&mut checker.problems);
    for (path, position) in std::mem::take(&mut checker.imports) {
        let label = |diagnostic: Diagnostic| match loaded.label(position, "", true) {
            Some(label) if diagnostic.labels.is_empty() => diagnostic.with_label(label),
            _ => diagnostic,
        };
        let found = match modules::find(host, Some(loaded), &path) {
            Ok(found) => found,
            Err(diagnostic) => {
                problems.push(label(diagnostic));
                continue;
            }
        };
        match modules::load(host, engine, &found) {
            Err(diagnostics) => problems.extend(diagnostics.into_iter().map(label)),
            Ok(module) => {
                let name = module.file.name.clone();
                if let Some(start) = chain.iter().position(|other| *other == name) {
                    problems.push(label(modules::cycle(&chain[start..], &name)));
                } else if seen.insert(name.clone()) {
                    chain.push(name);
                    file(host, engine, functions, &module, chain, seen, problems);
                    chain.pop();
                }
            }
        }
    }
}

/// The functions that natives offer.
struct Functions {
    forms: Vec<Form>,
    arities: BTreeMap<String, BTreeSet<usize>>,
}

impl Functions {
    fn of(engine: &Engine) -> Self {
        let forms = signature::forms(engine);
        let mut arities: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for form in &forms {
            arities
                .entry(form.name.clone())
                .or_default()
                .insert(form.parameters.len());
        }
        // Handled by Rhai's evaluator itself.
        for (name, counts) in [
            ("Fn", &[1_usize] as &[usize]),
            ("curry", &[2, 3, 4, 5, 6, 7, 8]),
            ("call", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ("type_of", &[1]),
            ("print", &[0, 1]),
            ("debug", &[0, 1]),
            ("is_def_var", &[1]),
            ("is_def_fn", &[2, 3]),
            ("is_shared", &[1]),
        ] {
            arities
                .entry(name.to_owned())
                .or_default()
                .extend(counts.iter().copied());
        }
        Self { forms, arities }
    }
}

/// Names in scope, innermost last.
type Names = Vec<String>;

struct Checker<'a> {
    host: &'a Host,
    functions: &'a Functions,
    loaded: &'a Loaded,
    script: BTreeMap<String, BTreeSet<usize>>,
    keys: HashSet<String>,
    problems: Vec<Diagnostic>,
    imports: Vec<(String, Position)>,
    reported: HashSet<(Option<usize>, Option<usize>)>,
}

impl<'a> Checker<'a> {
    fn new(host: &'a Host, functions: &'a Functions, loaded: &'a Loaded) -> Self {
        let mut script: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for function in loaded.ast.iter_functions() {
            script
                .entry(function.name.to_owned())
                .or_default()
                .insert(function.params.len());
        }
        Self {
            host,
            functions,
            loaded,
            script,
            keys: HashSet::new(),
            problems: Vec::new(),
            imports: Vec::new(),
            reported: HashSet::new(),
        }
    }

    fn check(&mut self) {
        let ast = &self.loaded.ast;
        let keys = &mut self.keys;
        ast.walk(&mut |nodes: &[ASTNode]| {
            if let Some(ASTNode::Expr(Expr::Map(map, _))) = nodes.last() {
                keys.extend(map.0.iter().map(|(key, _)| key.name.to_string()));
            }
            true
        });
        let mut names = Names::new();
        self.block(ast.statements(), &mut names);
        self.bodies();
    }

    /// Bodies of functions and closures. Rhai hands them out only through its walk, as statements without their function:
    /// the span of the body tells to which one each belongs.
    fn bodies(&mut self) {
        let ast = &self.loaded.ast;
        let spans: Bodies = ast
            .iter_fn_def()
            .map(|function| {
                let parameters = function.params.iter().map(ToString::to_string).collect();
                let start = key(function.body.start_position());
                (start, (function.body.end_position(), parameters))
            })
            .collect();
        let top = ast.statements().len();
        let mut index = 0;
        let mut current: Option<(Key, Names)> = None;
        ast.walk(&mut |nodes: &[ASTNode]| {
            let [ASTNode::Stmt(statement)] = nodes else {
                return true;
            };
            index += 1;
            if index <= top {
                return true;
            }
            let owner = owner(&spans, statement.position());
            let mut names = match (current.take(), owner) {
                (Some((last, names)), Some(owner)) if last == owner => names,
                (_, Some(owner)) => spans[&owner].1.clone(),
                // An empty body has no statements, so every statement has an owner.
                (_, None) => return true,
            };
            self.statement(statement, &mut names);
            current = owner.map(|owner| (owner, names));
            true
        });
    }

    fn problem(&mut self, diagnostic: Diagnostic, position: Position) {
        if !self.reported.insert((position.line(), position.position())) {
            return;
        }
        let diagnostic = match self.loaded.label(position, "", true) {
            Some(label) => diagnostic.with_label(label),
            None => diagnostic,
        };
        self.problems.push(diagnostic);
    }

    fn block(&mut self, statements: &[Stmt], names: &mut Names) {
        let depth = names.len();
        for statement in statements {
            self.statement(statement, names);
        }
        // Names at the top level stay for those who come after; the walk is over then.
        names.truncate(depth);
    }

    fn statement(&mut self, statement: &Stmt, names: &mut Names) {
        match statement {
            Stmt::Var(var, ..) => {
                self.expression(&var.1, names);
                let starts = matches!(&var.1, Expr::FnCall(call, _) if call.name == "alchemy");
                if var.0.name == "alchemy" && !starts {
                    let diagnostic = Diagnostic::error(
                        codes::UNKNOWN_VARIABLE,
                        "`alchemy` cannot be the name of a variable",
                    );
                    let help = "choose another name; `alchemy` is always the application";
                    self.problem(diagnostic.with_help(help), var.0.pos);
                }
                names.push(var.0.name.to_string());
            }
            Stmt::If(flow, _) => {
                self.expression(&flow.expr, names);
                self.block(flow.body.statements(), names);
                self.block(flow.branch.statements(), names);
            }
            Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
                self.expression(&flow.expr, names);
                self.block(flow.body.statements(), names);
            }
            Stmt::For(parts, _) => {
                let (name, counter, flow) = &**parts;
                self.expression(&flow.expr, names);
                let depth = names.len();
                names.push(name.name.to_string());
                names.extend(counter.as_ref().map(|counter| counter.name.to_string()));
                self.block(flow.body.statements(), names);
                names.truncate(depth);
            }
            Stmt::TryCatch(flow, _) => {
                self.block(flow.body.statements(), names);
                let depth = names.len();
                if let Expr::Variable(variable, ..) = &flow.expr {
                    names.push(variable.1.to_string());
                }
                self.block(flow.branch.statements(), names);
                names.truncate(depth);
            }
            Stmt::Switch(parts, _) => {
                let (value, cases) = &**parts;
                self.expression(value, names);
                for case in &cases.expressions {
                    self.expression(&case.lhs, names);
                    self.expression(&case.rhs, names);
                }
            }
            Stmt::Assignment(parts) => {
                self.expression(&parts.1.lhs, names);
                self.expression(&parts.1.rhs, names);
            }
            Stmt::FnCall(call, position) => self.call(call, *position, false, names),
            Stmt::Block(block) => self.block(block.statements(), names),
            Stmt::Expr(expression) => self.expression(expression, names),
            Stmt::BreakLoop(Some(value), ..) | Stmt::Return(Some(value), ..) => {
                self.expression(value, names);
            }
            Stmt::Import(parts, position) => {
                let (path, alias) = &**parts;
                if let Expr::StringConstant(path, at) = path {
                    let at = if at.is_none() { *position } else { *at };
                    self.imports.push((path.to_string(), at));
                } else {
                    self.expression(path, names);
                }
                names.push(alias.name.to_string());
            }
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr, names: &mut Names) {
        match expression {
            Expr::Variable(variable, _, position) => {
                self.variable(&variable.1, &variable.2, *position, names);
            }
            Expr::InterpolatedString(items, _) | Expr::Array(items, _) => {
                for item in items {
                    self.expression(item, names);
                }
            }
            Expr::Map(map, _) => {
                for (_, value) in &map.0 {
                    self.expression(value, names);
                }
            }
            Expr::FnCall(call, position) => self.call(call, *position, false, names),
            Expr::MethodCall(call, position) => self.call(call, *position, true, names),
            Expr::Dot(parts, ..) | Expr::Index(parts, ..) => {
                self.expression(&parts.lhs, names);
                self.expression(&parts.rhs, names);
            }
            Expr::And(items, _) | Expr::Or(items, _) | Expr::Coalesce(items, _) => {
                for item in &***items {
                    self.expression(item, names);
                }
            }
            Expr::Stmt(block) => self.block(block.statements(), names),
            _ => {}
        }
    }
}

/// A place that can be compared.
type Key = (Option<usize>, Option<usize>);

/// Bodies of functions and closures by their start: their end and the parameters.
type Bodies = BTreeMap<Key, (Position, Names)>;

fn key(position: Position) -> Key {
    (position.line(), position.position())
}

/// The start of the body that a statement stands in: the innermost one around it. A body without braces has no end; it starts
/// exactly where its one statement does.
fn owner(bodies: &Bodies, at: Position) -> Option<Key> {
    let around = |start: &Key, end: Position| {
        if end.is_none() {
            *start == key(at)
        } else {
            key(at) <= key(end)
        }
    };
    bodies
        .range(..=key(at))
        .rev()
        .find(|(start, (end, _))| around(start, *end))
        .map(|(start, _)| *start)
}
