//! `alch logs`: what Workers printed and threw. The local cloud keeps it in files; `remote` follows a Worker at Cloudflare.

mod remote;

use std::{path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{
        Context,
        args::{EventStatus, LogsArgs, RunFlags},
        error::CliError,
        exit::Exit,
        select::Project,
        settings::{Settings, Target},
        wiring,
        workers::{self, Found},
    },
    local::logs::{Follower, Record},
    model::diagnostic::codes,
    ui::Ui,
    util::fs::FsResult,
};

/// How often it is looked for more.
const POLL: Duration = Duration::from_millis(100);

/// What is wanted of the records.
struct Filter {
    worker: Option<String>,
    since: Option<i64>,
    status: Option<EventStatus>,
    grep: Option<String>,
}

impl Filter {
    fn passes(&self, record: &Record) -> bool {
        self.worker
            .as_ref()
            .is_none_or(|worker| record.worker == *worker)
            && self.since.is_none_or(|since| record.time >= since)
            && self.status.is_none_or(|status| status == ended(record))
            && self
                .grep
                .as_ref()
                .is_none_or(|wanted| record.text().contains(wanted))
    }
}

fn ended(record: &Record) -> EventStatus {
    match record.item["outcome"].as_str() {
        Some("ok") => EventStatus::Ok,
        Some("canceled" | "responseStreamDisconnected") => EventStatus::Canceled,
        _ => EventStatus::Error,
    }
}

pub(in crate::cli) fn run(context: &Context, args: &LogsArgs) -> Result<Exit, CliError> {
    let since = args.since.as_deref().map(since).transpose()?;
    let project = Project::find(context)?;
    let flags = RunFlags {
        stage: args.stage.clone(),
        target: args.target,
        profile: args.profile.clone(),
        ..RunFlags::default()
    };
    let settings = Settings::resolve(&context.environment, &flags, None)?;
    let found = match &args.worker {
        Some(typed) => Some(workers::find(&project, &settings, typed)?),
        None => None,
    };
    // Without a name it is about the local cloud, unless a flag says otherwise.
    let target = match &found {
        Some(Found {
            known: Some((_, target)),
            ..
        }) => *target,
        Some(_) => settings.target(None)?,
        None => settings.target_flag.unwrap_or(Target::Local),
    };
    let filter = Filter {
        worker: found.map(|found| found.name),
        since,
        status: args.status,
        grep: args.grep.clone(),
    };
    if target == Target::Cloudflare {
        return remote::run(context, &project, &settings, args, &filter);
    }
    let folder = wiring::local_folder(&project.folder);
    project
        .runtime
        .block_on(show(context, folder, filter, args.follow))
}

async fn show(
    context: &Context,
    folder: PathBuf,
    filter: Filter,
    follow: bool,
) -> Result<Exit, CliError> {
    let refused = |error: std::io::Error| {
        CliError::new(codes::LOCAL_RUNTIME, "cannot watch for signals").with_note(error.to_string())
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut follower = blocking(move || Follower::open(&folder)).await?;
    let mut any = false;
    loop {
        let (back, records) = blocking(move || {
            let records = follower.more()?;
            Ok((follower, records))
        })
        .await?;
        follower = back;
        for record in records.iter().filter(|record| filter.passes(record)) {
            any = true;
            print(&context.ui, record);
        }
        context.ui.flush();
        if !follow {
            break;
        }
        tokio::select! {
            _ = interrupt.recv() => return Ok(Exit::Success),
            _ = terminate.recv() => return Ok(Exit::Success),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    if !any {
        let of = match &filter.worker {
            Some(worker) => format!("of the Worker `{worker}` "),
            None => String::new(),
        };
        context
            .ui
            .note(format!("no logs {of}here; `alch local serve` keeps them"));
    }
    Ok(Exit::Success)
}

fn print(ui: &Ui, record: &Record) {
    let fields = json!({
        "time": record.time,
        "worker": record.worker,
        "version": record.version,
        "event": record.item,
    });
    ui.result("log", fields, record.text());
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> FsResult<T> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(
            CliError::new(codes::LOCAL_RUNTIME, "the logs cannot be read")
                .with_note(error.to_string()),
        ),
    }
}

/// The moment of `--since` in milliseconds since 1970: a time ago, or a moment.
fn since(text: &str) -> Result<i64, CliError> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.as_millisecond());
    }
    let ago = text.parse::<SignedDuration>().ok();
    ago.filter(|ago| !ago.is_negative())
        .and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .map(|moment| moment.as_millisecond())
        .ok_or_else(|| {
            CliError::usage(format!("`--since {text}` is neither a duration nor a time"))
                .with_help("write it as `10m`, `2h` or `2026-07-30T12:00:00Z`")
        })
}
