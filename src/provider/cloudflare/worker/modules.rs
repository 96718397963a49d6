//! The modules of a Worker: inline code, JavaScript modules as they are, or a bundle.
//!
//! State keeps names and hashes, never the content.

use std::path::{Path, PathBuf};

use super::{
    super::props::{known_text, mistake},
    bundling,
    graph::{self, Problem},
};
use crate::{
    bundle::{Bundler, Format},
    model::{Map, Value},
    provider::{Access, FailureKind, PropError, ProviderError, text_prop},
};

/// Name of the module that inline code becomes.
const INLINE: &str = "worker.js";
pub(super) const JAVASCRIPT: &str = "application/javascript+module";
const SCRIPT: &str = "application/javascript";

/// One module, ready to be uploaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Path below the folder that all modules share.
    pub(super) name: String,
    /// What the upload declares it as.
    pub(super) content_type: &'static str,
    /// The content.
    pub(super) content: Vec<u8>,
}

impl Module {
    fn hash(&self) -> String {
        blake3::hash(&self.content).to_hex().to_string()
    }
}

/// Where modules come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    /// The folder that the entrypoint is relative to.
    pub(super) folder: &'a Path,
    /// What may be read beyond it.
    pub(super) access: &'a Access,
    /// For what is no plain JavaScript.
    pub(super) bundler: &'a dyn Bundler,
}

/// The shape of the code.
pub(super) fn format(props: &Map) -> Format {
    match text_prop(props, "format") {
        Some("cjs") => Format::Script,
        _ => Format::Modules,
    }
}

/// Puts names and hashes of the modules into `modules`. A Worker of assets alone has none.
pub(super) fn normalise(sources: &Sources<'_>, props: &mut Map, errors: &mut Vec<PropError>) {
    match (
        props.contains_key("script"),
        props.contains_key("entrypoint"),
    ) {
        (true, false) => return,
        (false, true) => {}
        (false, false) if props.contains_key("assets") => return,
        (both, _) => {
            errors.push(mistake(
                if both { &["script"] } else { &[] },
                if both {
                    "`script` and `entrypoint` cannot both be given"
                } else {
                    "the Worker has no code"
                },
                "give `entrypoint: \"./src/worker.js\"`, or the code itself as `script`".to_owned(),
            ));
            return;
        }
    }
    if let Err(error) = known_text(props, "entrypoint") {
        errors.push(error);
        return;
    }
    let before = errors.len();
    bundling::normalise(props, errors);
    if errors.len() > before {
        return;
    }
    match collect(sources, props) {
        Ok(modules) => {
            props.insert("modules".to_owned(), listing(&modules));
        }
        Err(problems) => errors.extend(
            problems
                .into_iter()
                .map(|problem| mistake(&["entrypoint"], problem.message, problem.help)),
        ),
    }
}

fn listing(modules: &[Module]) -> Value {
    let item = |module: &Module| {
        Value::Map(Map::from([
            ("name".to_owned(), Value::from(module.name.as_str())),
            ("hash".to_owned(), Value::from(module.hash())),
        ]))
    };
    Value::Array(modules.iter().map(item).collect())
}

/// The modules that checked props mean, the main one first; none for a Worker of assets alone. It blocks while it reads
/// and bundles.
pub(super) fn load(sources: &Sources<'_>, props: &Map) -> Result<Vec<Module>, ProviderError> {
    if let Some(script) = text_prop(props, "script") {
        return Ok(vec![Module {
            name: INLINE.to_owned(),
            content_type: match format(props) {
                Format::Modules => JAVASCRIPT,
                Format::Script => SCRIPT,
            },
            content: script.as_bytes().to_vec(),
        }]);
    }
    let Some(entrypoint) = text_prop(props, "entrypoint") else {
        return Ok(Vec::new());
    };
    let modules = collect(sources, props).map_err(|problems| {
        let mut problems = problems.into_iter();
        let first = problems.next().unwrap_or_else(|| Problem {
            message: format!("`{entrypoint}` cannot be read"),
            help: None,
            bundling: false,
        });
        ProviderError {
            help: first.help,
            ..ProviderError::new(FailureKind::Refused, first.message)
        }
    })?;
    if props.get("modules") != Some(&listing(&modules)) {
        return Err(ProviderError::new(
            FailureKind::Refused,
            format!("the modules of `{entrypoint}` changed during the run"),
        )
        .with_help("run again"));
    }
    Ok(modules)
}

fn collect(sources: &Sources<'_>, props: &Map) -> Result<Vec<Module>, Vec<Problem>> {
    let entrypoint = text_prop(props, "entrypoint").unwrap_or_default();
    let main = graph::main_file(sources.folder, entrypoint).map_err(|problem| vec![problem])?;
    let bundled = |main: &PathBuf| bundling::bundle(sources, props, main);
    match props.get("bundle") {
        Some(Value::Bool(false)) => {}
        Some(_) => return bundled(&main),
        // One script is what only a bundler can make of several modules.
        None if format(props) == Format::Script => return bundled(&main),
        None => {}
    }
    match graph::collect(sources.folder, sources.access, entrypoint) {
        Ok(mut modules) => {
            if format(props) == Format::Script
                && let [module] = &mut modules[..]
            {
                module.content_type = SCRIPT;
            }
            Ok(modules)
        }
        Err(problem) if problem.bundling && !props.contains_key("bundle") => bundled(&main),
        Err(problem) => Err(vec![problem]),
    }
}
