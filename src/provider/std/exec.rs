//! `std::Exec`: a command that runs again when its props or the files that it is said to depend on change.

use std::{path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

mod inputs;

use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Secret, Value,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError, Provider,
        ProviderError, Touch, text_prop,
    },
};

/// Most bytes of each output stream that are kept.
const KEPT: usize = 64 << 10;
/// Longest line that is shown at once.
const LINE: usize = 8 << 10;
/// Lines of a failed command that its message quotes.
const QUOTED_LINES: usize = 10;
/// How long output is awaited after the command has ended, from what it left running.
const DRAIN: Duration = Duration::from_secs(1);

/// The kind.
#[derive(Debug)]
pub struct Exec {
    schema: KindSchema,
}

impl Default for Exec {
    fn default() -> Self {
        Self::new()
    }
}

impl Exec {
    /// The kind.
    #[must_use]
    pub fn new() -> Self {
        Self { schema: schema() }
    }
}

fn schema() -> KindSchema {
    let texts = || PropType::List(Box::new(PropType::String));
    let patterns = vec![
        Prop::new(
            "patterns",
            texts(),
            "globs of the files that the command depends on, relative to `cwd`",
        )
        .required(),
    ];
    KindSchema {
        kind: "std::Exec".into(),
        doc: "A command that runs again when what it depends on changes.".to_owned(),
        props: vec![
            Prop::new(
                "command",
                PropType::Either(vec![PropType::String, texts()]),
                "the command: text for `sh -c`, or program and arguments",
            )
            .required(),
            Prop::new(
                "cwd",
                PropType::String,
                "the folder it runs in, relative to the script",
            ),
            Prop::new(
                "env",
                PropType::MapOf(Box::new(PropType::String)),
                "environment variables beside those of the run; secrets may stand here",
            )
            .secret(),
            Prop {
                default: Some(Value::Bool(true)),
                ..Prop::new(
                    "memoize",
                    PropType::Either(vec![PropType::Bool, PropType::Object(patterns)]),
                    "whether an unchanged command is not run again; with `patterns`, unless these files change",
                )
            },
        ],
        open_props: false,
        attributes: vec![
            Attribute::new("exitCode", "the exit code, 0"),
            Attribute::new(
                "stdout",
                "what it wrote to standard output, the first 64 KiB",
            ),
            Attribute::new(
                "stderr",
                "what it wrote to standard error, the first 64 KiB",
            ),
            Attribute::new("hash", "the hash of the files that `memoize` names"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: 255,
    }
}

/// Kills the process group of a command unless it was seen to end: also when the operation is dropped half-way.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take()
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            // Usually the group is gone already.
            tracing::debug!(%error, "cannot kill the process group of a command");
        }
    }
}

/// What a command wrote to one stream.
#[derive(Default)]
struct Captured {
    kept: Vec<u8>,
    last: Vec<String>,
}

impl Captured {
    fn line(&mut self, line: &[u8], show: &(dyn Fn(&str) + Send + Sync)) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        show(text);
        if self.last.len() == QUOTED_LINES {
            self.last.remove(0);
        }
        self.last.push(text.to_owned());
    }
}

async fn capture(
    mut stream: impl AsyncRead + Unpin,
    captured: &mut Captured,
    show: &(dyn Fn(&str) + Send + Sync),
) {
    let mut buffer = vec![0; 16 << 10];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "cannot read the output of a command");
                break;
            }
        };
        let room = KEPT.saturating_sub(captured.kept.len());
        captured.kept.extend_from_slice(&buffer[..count.min(room)]);
        for byte in &buffer[..count] {
            line.push(*byte);
            if *byte == b'\n' || line.len() == LINE {
                captured.line(&line, show);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        captured.line(&line, show);
    }
}

/// The command line of resolved props: program and arguments.
fn arguments(props: &Map) -> Vec<String> {
    match props.get("command") {
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(text)) => vec!["sh".to_owned(), "-c".to_owned(), text.clone()],
        _ => Vec::new(),
    }
}

/// The command as people wrote it, shortened.
fn shown(props: &Map) -> String {
    let text = match props.get("command") {
        Some(Value::String(text)) => text.clone(),
        _ => arguments(props).join(" "),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 80 || text.lines().count() > 1 {
        format!("{}…", line.chars().take(79).collect::<String>())
    } else {
        line.to_owned()
    }
}

async fn run(context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
    let arguments = arguments(props);
    let Some((program, rest)) = arguments.split_first() else {
        return Err(ProviderError::new(
            FailureKind::Refused,
            "the command is empty",
        ));
    };
    let folder = folder(context, props);
    let mut command = Command::new(program);
    command
        .args(rest)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        // The key to the state is no business of a command.
        .env_remove("ALCHEMY_PASSWORD");
    let mut secrets = Vec::new();
    for (name, value) in props
        .get("env")
        .and_then(Value::as_map)
        .into_iter()
        .flatten()
    {
        match value {
            Value::Secret(Secret::Plain(text)) => {
                command.env(name, text.as_str());
                secrets.push(text.as_str());
            }
            Value::String(text) => {
                command.env(name, text);
            }
            _ => {}
        }
    }
    if !folder.is_dir() {
        return Err(ProviderError::new(
            FailureKind::Refused,
            format!("the folder `{}` does not exist", folder.display()),
        )
        .with_help("correct `cwd`; it is relative to the script"));
    }
    context.meter.begin_call().await?;
    let mut child = command.spawn().map_err(|error| {
        ProviderError::new(
            FailureKind::Refused,
            format!("cannot start `{program}`: {error}"),
        )
        .with_help("install the program, or give its whole path")
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(pid.and_then(Pid::from_raw));
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ProviderError::new(
            FailureKind::Ambiguous,
            "the output of the command cannot be read",
        ));
    };
    let (mut out, mut err) = (Captured::default(), Captured::default());
    let show = &*context.progress;
    let (status, drained) = {
        let reading = async {
            tokio::join!(
                capture(stdout, &mut out, show),
                capture(stderr, &mut err, show)
            );
        };
        tokio::pin!(reading);
        let mut drained = false;
        let status = loop {
            tokio::select! {
                biased;
                () = context.cancel.cancelled() => {
                    return Err(ProviderError::new(FailureKind::Cancelled, "cancelled"));
                }
                () = &mut reading, if !drained => drained = true,
                status = child.wait() => break status,
            }
        };
        if !drained {
            drained = tokio::time::timeout(DRAIN, &mut reading).await.is_ok();
        }
        (status, drained)
    };
    if drained {
        group.0 = None;
    }
    // What is still running in the background holds the output open and ends here.
    drop(group);
    let status = status.map_err(|error| {
        ProviderError::new(
            FailureKind::Ambiguous,
            format!("the end of the command cannot be awaited: {error}"),
        )
    })?;
    if !status.success() {
        let how = match status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "was killed by a signal".to_owned(),
        };
        let lines = if err.last.is_empty() {
            &out.last
        } else {
            &err.last
        };
        let mut message = format!("`{}` {how}", shown(props));
        if !lines.is_empty() {
            message.push_str(&format!(
                ":\n{}",
                (context.redact)(&hide(&lines.join("\n"), &secrets))
            ));
        }
        return Err(ProviderError::new(FailureKind::Refused, message)
            .with_help(format!("run it by hand in `{}`", folder.display())));
    }
    let text = |bytes: &[u8]| {
        let own = hide(&String::from_utf8_lossy(bytes), &secrets);
        Value::String((context.redact)(&own))
    };
    Ok(Map::from([
        ("exitCode".to_owned(), Value::Int(0)),
        ("stdout".to_owned(), text(&out.kept)),
        ("stderr".to_owned(), text(&err.kept)),
        (
            "hash".to_owned(),
            props.get("hash").cloned().unwrap_or_default(),
        ),
    ]))
}

fn folder(context: &OperationContext, props: &Map) -> PathBuf {
    match text_prop(props, "cwd") {
        Some(cwd) => context.folder.join(cwd),
        None => context.folder.to_path_buf(),
    }
}

/// Whether a variable decides which code runs under the name of a program.
fn chooses_code(variable: &str) -> bool {
    variable == "PATH" || variable.starts_with("LD_") || variable.starts_with("DYLD_")
}

/// Outputs are stored in the open: the secrets that the command was given must not come back in them, whatever the run knows
/// of others.
fn hide(text: &str, secrets: &[&str]) -> String {
    let mut out = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        out = out.replace(secret, "<secret>");
    }
    out
}

#[async_trait]
impl Provider for Exec {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let empty = match props.get("command") {
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Array(parts)) => parts.is_empty(),
            _ => false,
        };
        if empty {
            return Err(vec![PropError {
                path: vec!["command".to_owned()],
                message: "the command is empty".to_owned(),
                help: Some(
                    "give text for `sh -c`, or an array of program and arguments".to_owned(),
                ),
                at_key: false,
            }]);
        }
        inputs::normalise(&context.folder, &mut props).map_err(|error| vec![error])?;
        Ok(Checked {
            // Not even the exit code: a command that fails has none that the script may go on with.
            known: Map::new(),
            props,
            physical_name: "exec".to_owned(),
            explicit_name: false,
            identity: None,
        })
    }

    fn touches(&self, props: &Map) -> Vec<Touch> {
        let mut out = match props.get("command") {
            Some(Value::String(_) | Value::Template(_)) => vec![Touch::Shell],
            Some(Value::Array(parts)) => {
                let program = parts.first().and_then(Value::as_str);
                program
                    .map(|program| Touch::Program(program.to_owned()))
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        };
        let names = props
            .get("env")
            .and_then(Value::as_map)
            .into_iter()
            .flat_map(Map::keys);
        out.extend(
            names
                .filter(|name| chooses_code(name))
                .map(|name| Touch::Redirected(name.clone())),
        );
        out.extend(text_prop(props, "cwd").map(|cwd| Touch::Read(cwd.to_owned())));
        out
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        run(context, props).await
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Map, ProviderError> {
        run(context, props).await
    }

    async fn delete(
        &self,
        _context: &OperationContext,
        _existing: &Existing,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "a command leaves no object that could be looked at",
            "declare it as `Exec(.., #{ command: .. })`: it runs with the next `alch run`",
        ])
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

#[cfg(test)]
mod tests;
