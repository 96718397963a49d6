//! `Assets(..)`: a folder of static files, as a binding of a Worker.

use rhai::{Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use crate::{model::diagnostic::codes, provider::cloudflare::worker::MARK};

use super::super::fault::{self, Outcome};

fn assets(path: ImmutableString) -> Map {
    Map::from([
        (MARK.into(), "assets".into()),
        ("path".into(), Dynamic::from(path)),
    ])
}

/// The folder in the options of `Assets`.
fn folder(mut options: Map) -> Outcome<Map> {
    let path = options
        .remove("path")
        .or_else(|| options.remove("directory"))
        .and_then(Dynamic::try_cast::<ImmutableString>);
    match (path, options.keys().next()) {
        (Some(path), None) => Ok(assets(path)),
        (Some(_), Some(key)) => Err(fault::fail_with_help(
            codes::WRONG_ARGUMENTS,
            format!("`Assets` does not know `{key}`"),
            "it takes `path`; how files are served stands in `assets` of the Worker",
        )),
        (None, _) => Err(fault::fail_with_help(
            codes::WRONG_ARGUMENTS,
            "`Assets` needs the folder of the files",
            "write `Assets(\"./public\")`",
        )),
    }
}

/// Registers `Assets(path)`, also with options, and with an id as Alchemy has it.
pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("Assets", assets);
    engine.register_fn("Assets", |context: NativeCallContext, options: Map| {
        fault::at(&context, folder(options))
    });
    engine.register_fn(
        "Assets",
        |context: NativeCallContext, _id: ImmutableString, options: Map| {
            fault::at(&context, folder(options))
        },
    );
}
