//! Files and processes, as far as the user permits, and the log.

use std::{path::Path, process::Stdio, sync::Arc};

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext};

use crate::{
    engine::{Event, Phase},
    model::diagnostic::codes,
    util::fs::{self, FsError},
};

use super::super::{
    fault::{self, Outcome},
    host::Host,
    lazy::Lazy,
    options::Options,
};

fn file_error(path: &str, error: &FsError) -> Box<EvalAltResult> {
    fault::fail_with_help(
        codes::MISSING_FILE,
        format!("cannot {} `{path}`: {}", error.operation, error.source),
        "paths are relative to the project folder",
    )
}

fn read_text(host: &Host, path: &str) -> Outcome<String> {
    let real = host.options.access.read(path).map_err(fault::refused)?;
    fs::read_to_string(&real).map_err(|error| file_error(path, &error))
}

fn write(host: &Host, path: &str, bytes: &[u8]) -> Outcome<()> {
    let real = host.options.access.write(path).map_err(fault::refused)?;
    if let Some(phase @ (Phase::Plan | Phase::Read)) = host.phase() {
        host.emit(Event::Log {
            message: format!(
                "`{path}` is not written: phase {} changes nothing",
                phase.as_str()
            ),
            position: None,
        });
        return Ok(());
    }
    let folder = real.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write_atomic(&real, bytes))
        .map_err(|error| file_error(path, &error))
}

/// The files below the project that a pattern matches, sorted, relative to it.
fn glob(host: &Host, pattern: &str) -> Outcome<Array> {
    let matcher = globset::GlobBuilder::new(pattern.strip_prefix("./").unwrap_or(pattern))
        .literal_separator(true)
        .build()
        .map_err(|error| {
            fault::fail(
                codes::WRONG_ARGUMENTS,
                format!("`{pattern}` is no pattern: {error}"),
            )
        })?
        .compile_matcher();
    let project = &host.options.project;
    // Links are not followed, so nothing outside the project is seen.
    let files = walkdir::WalkDir::new(project)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_hidden_store(entry))
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_type().is_dir());
    Ok(files
        .filter_map(|entry| {
            let relative = entry.path().strip_prefix(project).ok()?;
            matcher
                .is_match(relative)
                .then(|| Dynamic::from(relative.to_string_lossy().into_owned()))
        })
        .collect())
}

/// Folders that are never the user's own files.
fn is_hidden_store(entry: &walkdir::DirEntry) -> bool {
    matches!(
        entry.file_name().to_str(),
        Some(".git" | ".alchemy" | "node_modules")
    )
}

/// `exec(program, arguments, options)`: waits for the program and answers its exit code and output.
fn exec(
    host: &Host,
    context: &NativeCallContext,
    program: &str,
    arguments: &[Dynamic],
    options: Map,
) -> Outcome<Map> {
    let access = &host.options.access;
    access.program(program).map_err(fault::refused)?;
    let mut options = Options::new("exec", options, &["check", "folder"])?;
    let check = options.bool("check")?.unwrap_or(true);
    let folder = match options.string("folder")? {
        Some(folder) => access.read(&folder).map_err(fault::refused)?,
        None => host.options.project.clone(),
    };
    let mut texts = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if let Some(lazy) = argument.read_lock::<Lazy>() {
            return Err(host.force(&lazy, context));
        }
        texts.push(argument.to_string());
    }
    host.options.meter.count();
    let mut command = tokio::process::Command::new(program);
    command
        .args(&texts)
        .current_dir(folder)
        .envs(host.options.environment.iter())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = host
        .wait(context.engine(), async move { command.output().await })?
        .map_err(|error| {
            fault::fail(codes::RUNTIME, format!("cannot start `{program}`: {error}"))
        })?;
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        host.options.redactor.redact(text.trim_end()).into_owned()
    };
    let code = output.status.code().map_or(-1, i64::from);
    if check && !output.status.success() {
        let stderr = text(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default().to_owned();
        return Err(fault::fail_with_help(
            codes::RUNTIME,
            format!("`{program}` ended with code {code}: {last}"),
            "pass `#{ check: false }` to look at the code yourself",
        ));
    }
    Ok(Map::from([
        ("code".into(), code.into()),
        ("stdout".into(), text(&output.stdout).into()),
        ("stderr".into(), text(&output.stderr).into()),
    ]))
}

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn("file", move |path: ImmutableString| read_text(&on, &path));
    let on = Arc::clone(host);
    engine.register_fn(
        "read_blob",
        move |path: ImmutableString| -> Outcome<rhai::Blob> {
            let real = on
                .options
                .access
                .read(path.as_str())
                .map_err(fault::refused)?;
            fs::read(&real).map_err(|error| file_error(&path, &error))
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "file_exists",
        move |path: ImmutableString| -> Outcome<bool> {
            let access = &on.options.access;
            let real = access.read(path.as_str()).map_err(fault::refused)?;
            Ok(real.exists())
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "write_file",
        move |path: ImmutableString, text: ImmutableString| write(&on, &path, text.as_bytes()),
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "write_file",
        move |path: ImmutableString, bytes: rhai::Blob| write(&on, &path, &bytes),
    );
    let on = Arc::clone(host);
    engine.register_fn("glob", move |pattern: ImmutableString| glob(&on, &pattern));
    register_exec(engine, host);
    register_log(engine, host);
}

fn register_exec(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn(
        "exec",
        move |context: NativeCallContext, command: ImmutableString| -> Outcome<Map> {
            let mut words = command.split_whitespace();
            let program = words.next().unwrap_or_default().to_owned();
            let arguments: Vec<Dynamic> = words.map(|word| word.to_owned().into()).collect();
            exec(&on, &context, &program, &arguments, Map::new())
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "exec",
        move |context: NativeCallContext, program: ImmutableString, arguments: Array| {
            exec(&on, &context, &program, &arguments, Map::new())
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "exec",
        move |context: NativeCallContext,
              program: ImmutableString,
              arguments: Array,
              options: Map| { exec(&on, &context, &program, &arguments, options) },
    );
}

/// `log(value)`. Numbers are left to the logarithm of that name.
fn register_log(engine: &mut Engine, host: &Arc<Host>) {
    fn log<T: Clone + Send + Sync + 'static>(engine: &mut Engine, host: &Arc<Host>, name: &str) {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, value: T| -> Outcome<()> {
                let text = context.call_native_fn::<ImmutableString>("to_string", (value,))?;
                on.emit(Event::Log {
                    message: on.tokens.display(&text),
                    position: None,
                });
                Ok(())
            },
        );
    }
    log::<Array>(engine, host, "log");
    log::<Map>(engine, host, "log");
    log::<Lazy>(engine, host, "log");
    let on = Arc::clone(host);
    engine.register_fn("log", move |text: ImmutableString| {
        on.emit(Event::Log {
            message: on.tokens.display(&text),
            position: None,
        });
    });
}
