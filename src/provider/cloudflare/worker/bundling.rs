//! Bundles as modules of a Worker: the options of the prop `bundle`, and what is said when there is no bundle.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    super::props::mistake,
    graph::Problem,
    modules::{self, Module, Sources},
};
use crate::{
    bundle::{Bundle, BundleError, Options, Request},
    model::{Map, Prop, PropType, Value},
    provider::{Access, PropError, text_prop},
    util::npm::PackageError,
};

/// What files can be taken for.
const LOADERS: &[&str] = &[
    "js", "jsx", "ts", "tsx", "json", "text", "binary", "base64", "dataurl", "copy", "empty",
];

/// The prop `bundle`.
pub(super) fn prop() -> Prop {
    let texts = || PropType::List(Box::new(PropType::String));
    let named = || PropType::MapOf(Box::new(PropType::String));
    let options = vec![
        Prop::new("minify", PropType::Bool, "whether the code is made small"),
        Prop::new(
            "external",
            texts(),
            "imports that are left as they are; `*` stands for anything",
        ),
        Prop::new(
            "define",
            named(),
            "JavaScript expressions that take the place of global names",
        ),
        Prop::new("alias", named(), "packages that take the place of others"),
        Prop::new(
            "loader",
            PropType::MapOf(Box::new(PropType::OneOf(LOADERS))),
            "what files are taken for, by extension: `#{ \".svg\": \"text\" }`",
        ),
        Prop::new(
            "conditions",
            texts(),
            "more conditions for the `exports` of packages",
        ),
        Prop::new(
            "jsx",
            PropType::OneOf(&["automatic", "transform", "preserve"]),
            "what JSX becomes; else what tsconfig.json says",
        ),
        Prop::new(
            "jsxImportSource",
            PropType::String,
            "the package that JSX comes from",
        ),
        Prop::new(
            "target",
            PropType::String,
            "the version of JavaScript, `es2024` by default",
        ),
    ];
    Prop::new(
        "bundle",
        PropType::Either(vec![PropType::Bool, PropType::Object(options)]),
        "how the entrypoint is bundled with what it imports; `false` uploads modules as they are",
    )
}

/// Brings the shorthand `noBundle` to one form, and refuses options that are not known before the run.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    if let Some(no) = props.remove("noBundle") {
        if props.contains_key("bundle") {
            errors.push(mistake(
                &["noBundle"],
                "`noBundle` and `bundle` cannot both be given",
                "keep one of them".to_owned(),
            ));
        }
        if no == Value::Bool(true) {
            props.insert("bundle".to_owned(), Value::Bool(false));
        }
    }
    let unknown = match props.get("bundle") {
        None | Some(Value::Bool(_)) => false,
        Some(value) => !is_known(value),
    };
    if unknown {
        errors.push(mistake(
            &["bundle"],
            "the options of the bundle must be known before the run, and no secret stands in code",
            "write the values themselves, or bind them: `bindings: #{ KEY: .. }`".to_owned(),
        ));
    }
}

fn is_known(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.values().all(is_known),
        Value::Array(items) => items.iter().all(is_known),
        Value::String(_) | Value::Bool(_) => true,
        _ => false,
    }
}

fn options(props: &Map) -> Options {
    let none = Map::new();
    let given = props.get("bundle").and_then(Value::as_map).unwrap_or(&none);
    let texts = |map: &Map, name: &str| -> Vec<String> {
        let list = map.get(name).and_then(Value::as_array).unwrap_or_default();
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let named = |name: &str| -> BTreeMap<String, String> {
        let map = given.get(name).and_then(Value::as_map);
        map.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let text = |name: &str| text_prop(given, name).map(str::to_owned);
    let flags = texts(props, "compatibilityFlags");
    Options {
        format: modules::format(props),
        node: text_prop(props, "compatibility") == Some("node")
            || flags.iter().any(|flag| flag.starts_with("nodejs_")),
        minify: given.get("minify") == Some(&Value::Bool(true)),
        source_map: props.get("sourceMap") != Some(&Value::Bool(false)),
        external: texts(given, "external"),
        define: named("define"),
        alias: named("alias"),
        loader: named("loader"),
        conditions: texts(given, "conditions"),
        jsx: text("jsx"),
        jsx_import_source: text("jsxImportSource"),
        target: text("target"),
    }
}

/// The modules of a bundle.
pub(super) fn bundle(
    sources: &Sources<'_>,
    props: &Map,
    main: &Path,
) -> Result<Vec<Module>, Vec<Problem>> {
    let main = sources.access.read(main).map_err(|denied| {
        vec![Problem {
            message: denied.message,
            help: Some(denied.help),
            bundling: false,
        }]
    })?;
    let options = options(props);
    let request = Request {
        project: sources.folder,
        entrypoint: &main,
        options: &options,
        trusted: sources.access.program("esbuild").is_ok(),
    };
    let bundle = sources.bundler.bundle(&request).map_err(problems)?;
    permitted(sources, &bundle)?;
    let module = |module: crate::bundle::Module| Module {
        name: module.name,
        content_type: module.content_type,
        content: module.content,
    };
    Ok(bundle.modules.into_iter().map(module).collect())
}

/// Whether the code is made only of what the script may read: the project, and the packages that are installed for it.
fn permitted(sources: &Sources<'_>, bundle: &Bundle) -> Result<(), Vec<Problem>> {
    let folder = std::fs::canonicalize(sources.folder);
    let folder: PathBuf = folder.unwrap_or_else(|_| sources.folder.to_owned());
    let installed = |path: &Path| {
        path.ancestors()
            .filter(|above| above.file_name().is_some_and(|name| name == "node_modules"))
            .filter_map(Path::parent)
            .any(|above| folder.starts_with(above))
    };
    let denied = |access: &Access, path: &Path| access.read(path).err();
    let problems: Vec<Problem> = bundle
        .inputs
        .iter()
        .filter(|path| !installed(path))
        .filter_map(|path| denied(sources.access, path))
        .map(|denied| Problem {
            message: denied.message,
            help: Some(denied.help),
            bundling: false,
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn problems(error: BundleError) -> Vec<Problem> {
    let one = |message: String, help: &str| {
        vec![Problem {
            message,
            help: (!help.is_empty()).then(|| help.to_owned()),
            bundling: false,
        }]
    };
    const BY_HAND: &str = "install Node.js, whose npm obtains it once; or set `ALCH_ESBUILD_PATH` to an esbuild binary; or let the \
                           project's own be run with `--allow-exec=esbuild`";
    match error {
        BundleError::Code(messages) => messages
            .into_iter()
            .map(|message| Problem {
                message: match message.place {
                    Some((file, line, column)) => {
                        format!("{file}:{line}:{column}: {}", message.text)
                    }
                    None => message.text,
                },
                help: message.help,
                bundling: false,
            })
            .collect(),
        BundleError::Package(error @ (PackageError::NoNpm { .. } | PackageError::Npm { .. })) => {
            one(error.to_string(), BY_HAND)
        }
        BundleError::Package(PackageError::File(error)) | BundleError::File(error) => {
            one(format!("{error}: {}", error.source), "")
        }
        BundleError::Package(error @ PackageError::Named { .. }) => {
            one(error.to_string(), "correct the variable or unset it")
        }
        BundleError::Package(error @ PackageError::Machine { .. }) => one(
            error.to_string(),
            "bundle the Worker into one JavaScript file elsewhere and point `entrypoint` at that",
        ),
        BundleError::Package(error) => one(
            error.to_string(),
            "run again; `alch local prepare` obtains what is missing, too",
        ),
        failed @ BundleError::Failed { .. } => one(
            failed.to_string(),
            "run the binary by hand with `--version` to see whether it works",
        ),
    }
}
