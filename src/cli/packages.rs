//! Where the programs are that are not part of this one: the runtime of Workers, and what bundles them.
//!
//! Only the process's own environment may name them: what a project's `.env` file says is the project's, and a program that
//! came with a project is not run unasked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::{
    bundle::{self, Bundler, Esbuild},
    cli::{Context, environment::Environment},
    local::runtime::packages::{self, Places},
    util::npm::Shelf,
};

/// Where the packages of the runtime are looked for.
pub(super) fn runtime(environment: &Environment, project: &Path) -> Places {
    Places {
        workerd: named(environment, packages::WORKERD_VARIABLE),
        simulators: named(environment, packages::SIMULATORS_VARIABLE),
        shelf: shelf(environment, project),
    }
}

/// Where the bundler is looked for.
pub(super) fn esbuild(environment: &Environment, project: &Path) -> bundle::package::Places {
    bundle::package::Places {
        esbuild: named(environment, bundle::package::ESBUILD_VARIABLE),
        shelf: shelf(environment, project),
    }
}

/// The bundler of a project, which is looked for when there is something to bundle, and works until `cancel`.
pub(super) fn bundler(
    context: &Context,
    project: &Path,
    cancel: CancellationToken,
) -> Arc<dyn Bundler> {
    let ui = Arc::clone(&context.ui);
    let bundler = Esbuild::new(
        esbuild(&context.environment, project),
        cache(&context.environment).join("bundles"),
        move |line| ui.note(line),
    );
    Arc::new(bundler.until(cancel))
}

fn named(environment: &Environment, variable: &str) -> Option<PathBuf> {
    let path = environment.get(variable)?;
    Some(environment.folder.join(path))
}

fn shelf(environment: &Environment, project: &Path) -> Shelf {
    Shelf {
        project: environment.folder.join(project),
        cache: cache(environment).join("runtime"),
    }
}

/// This program's part of the user's cache folder; one that is not absolute counts as not set, as its specification says.
fn cache(environment: &Environment) -> PathBuf {
    let named = environment.get("XDG_CACHE_HOME").map(PathBuf::from);
    named
        .filter(|path| path.is_absolute())
        .or_else(|| Some(Path::new(environment.get("HOME")?).join(".cache")))
        .unwrap_or_else(|| environment.folder.join(".cache"))
        .join("alch")
}
