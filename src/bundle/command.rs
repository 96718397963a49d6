//! The command line of `esbuild`: how a Worker is bundled.

use std::path::Path;

use super::bundler::{Format, NODE_MODULES, Options};

/// The name of the main module, without its extension.
pub(super) const MAIN: &str = "worker";
/// The version of JavaScript that the runtime knows.
const TARGET: &str = "es2024";
/// Gives packages in the old syntax the function that they ask for modules of Node.js with.
pub(super) const REQUIRE: &str = "--banner:js=import { createRequire as alchCreateRequire } from \"node:module\"; const require = alchCreateRequire(\"/\");";

/// What files are taken for, by extension; the same as in a Worker that is not bundled.
const LOADERS: &[(&str, &str)] = &[
    (".wasm", "copy"),
    (".bin", "copy"),
    (".txt", "text"),
    (".html", "text"),
    (".sql", "text"),
    (".md", "text"),
    (".css", "text"),
    // Alchemy and wrangler read JSX in plain JavaScript files too.
    (".js", "jsx"),
    (".mjs", "jsx"),
];

/// Where things are; all absolute, links resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paths<'a> {
    pub(super) project: &'a Path,
    pub(super) entrypoint: &'a Path,
    /// The folder of what comes out.
    pub(super) output: &'a Path,
    /// The file that says what went in and came out.
    pub(super) report: &'a Path,
}

/// The arguments. Every text of the user stands behind an option, so none can be taken for another option.
pub(super) fn arguments(paths: &Paths<'_>, options: &Options) -> Vec<String> {
    let format = match options.format {
        Format::Modules => "esm",
        Format::Script => "iife",
    };
    let target = options.target.as_deref().unwrap_or(TARGET);
    let mut out = vec![
        paths.entrypoint.display().to_string(),
        "--bundle".to_owned(),
        format!("--format={format}"),
        format!("--target={target}"),
        "--platform=browser".to_owned(),
        "--main-fields=browser,module,main".to_owned(),
        format!("--outdir={}", paths.output.display()),
        format!("--metafile={}", paths.report.display()),
        format!("--entry-names={MAIN}"),
        "--asset-names=[name]-[hash]".to_owned(),
        "--log-level=warning".to_owned(),
        "--log-limit=10".to_owned(),
        "--color=false".to_owned(),
        "--external:cloudflare:*".to_owned(),
        "--external:node:*".to_owned(),
        "--external:workerd:*".to_owned(),
    ];
    let conditions: Vec<&str> = options
        .conditions
        .iter()
        .map(String::as_str)
        .chain(["workerd", "worker", "browser"])
        .collect();
    out.push(format!("--conditions={}", conditions.join(",")));
    if options.minify {
        out.push("--minify".to_owned());
        // Names of classes are part of what a Worker offers.
        out.push("--keep-names".to_owned());
    }
    if options.source_map {
        out.push("--sourcemap=external".to_owned());
    }
    if options.node {
        for module in NODE_MODULES {
            if !options.alias.contains_key(*module) {
                out.push(format!("--alias:{module}=node:{module}"));
            }
        }
    }
    for (from, to) in &options.alias {
        out.push(format!("--alias:{from}={to}"));
    }
    for name in &options.external {
        out.push(format!("--external:{name}"));
    }
    for (extension, loader) in LOADERS {
        if !options.loader.contains_key(*extension) {
            out.push(format!("--loader:{extension}={loader}"));
        }
    }
    for (extension, loader) in &options.loader {
        out.push(format!("--loader:{extension}={loader}"));
    }
    for (name, value) in [
        ("process.env.NODE_ENV", "\"production\""),
        ("navigator.userAgent", "\"Cloudflare-Workers\""),
    ] {
        if !options.define.contains_key(name) {
            out.push(format!("--define:{name}={value}"));
        }
    }
    for (name, value) in &options.define {
        out.push(format!("--define:{name}={value}"));
    }
    for (option, value) in [
        ("--jsx", &options.jsx),
        ("--jsx-import-source", &options.jsx_import_source),
    ] {
        if let Some(value) = value {
            out.push(format!("{option}={value}"));
        }
    }
    out
}
