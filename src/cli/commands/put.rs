//! Putting another state in the place of a stage's: what restore, import, reset and rebuild share. Says what would differ,
//! asks, and writes it in one durable step, whether the stage is whole, damaged or not there.

use serde_json::json;

use crate::{
    cli::{
        Context, commands::state::consent, error::CliError, select::Project, settings::Settings,
    },
    model::{StagePath, diagnostic::codes},
    state::{
        Deployment, JournalEntry, LockRequest, Session, Snapshot, StageState, StateError,
        difference::{Change, Difference, differences},
    },
    util::{
        clock::{Clock as _, SystemClock},
        ids::{Ids as _, SystemIds},
        text::plural,
    },
};

/// Differences that are listed one by one.
const SHOWN: usize = 20;

/// A stage as it is found before something is put in its place.
pub(super) enum Present {
    /// It has state.
    Whole(Box<StageState>),
    /// It has none.
    Absent,
    /// It has some that cannot be read, or is an old copy.
    Damaged(StateError),
}

impl Present {
    /// Looks at the stage.
    pub(super) fn look(project: &Project, stage: &StagePath) -> Result<Self, CliError> {
        match project.runtime.block_on(project.store.load(stage)) {
            Ok(Some(state)) => Ok(Self::Whole(Box::new(state))),
            Ok(None) => Ok(Self::Absent),
            Err(error @ (StateError::Corrupt { .. } | StateError::Moved { .. })) => {
                Ok(Self::Damaged(error))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What is put, and how it is spoken of.
pub(super) struct Put<'a> {
    /// The new state.
    pub(super) snapshot: Snapshot,
    /// Where it comes from: "backup `state-..`".
    pub(super) origin: String,
    /// The word for it in the history: `restore`.
    pub(super) command: &'a str,
    /// How to say the same with consent.
    pub(super) with_consent: String,
    /// Whether it was consented to.
    pub(super) yes: bool,
}

/// What was done.
pub(super) struct Placed {
    /// What differs now.
    pub(super) differences: Vec<Difference>,
    /// Where damaged files were set aside.
    pub(super) aside: Option<String>,
}

/// Shows what would differ, asks, and writes.
pub(super) fn put(
    context: &Context,
    project: &Project,
    stage: &StagePath,
    settings: &Settings,
    present: &Present,
    put: Put<'_>,
) -> Result<Placed, CliError> {
    let after = put.snapshot.clone().into_state();
    let before = match present {
        Present::Whole(state) => state.as_ref().clone(),
        Present::Absent => StageState::default(),
        Present::Damaged(_) => {
            let salvage = project.runtime.block_on(project.store.salvage(stage))?;
            salvage.snapshot.into_state()
        }
    };
    let differences = differences(&before, &after);
    let question = question(stage, present, &put, &differences);
    consent(
        context,
        put.yes,
        &question,
        stage.stage.as_str(),
        &put.with_consent,
    )?;
    let aside = project
        .runtime
        .block_on(write(context, project, stage, settings, present, put))?;
    Ok(Placed { differences, aside })
}

fn question(
    stage: &StagePath,
    present: &Present,
    put: &Put<'_>,
    differences: &[Difference],
) -> String {
    let mut text = format!("put {} in the place of the state of {stage}?", put.origin);
    match present {
        Present::Whole(_) => {}
        Present::Absent => text.push_str(" The stage has no state now."),
        Present::Damaged(error) => text.push_str(&format!(
            " Now {error}; the damaged files are kept among the backups."
        )),
    }
    text.push_str(" No object is touched.");
    if differences.is_empty() {
        text.push_str(" No resource differs.");
    }
    for line in lines(differences) {
        text.push_str(&format!("\n  {line}"));
    }
    text
}

/// Differences as lines for people.
pub(super) fn lines(differences: &[Difference]) -> Vec<String> {
    let mut lines: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(|difference| {
            let (name, kind) = (difference.fqn.within_stage(), &difference.kind);
            match &difference.change {
                Change::Added => format!("+ {name} ({kind})"),
                Change::Removed => format!("- {name} ({kind})"),
                Change::Changed { paths } => format!("~ {name} ({kind}): {}", paths.join(", ")),
            }
        })
        .collect();
    if differences.len() > SHOWN {
        lines.push(format!("and {} more", differences.len() - SHOWN));
    }
    lines
}

async fn write(
    context: &Context,
    project: &Project,
    stage: &StagePath,
    settings: &Settings,
    present: &Present,
    put: Put<'_>,
) -> Result<Option<String>, CliError> {
    let request = LockRequest {
        wait: settings.lock_wait,
        command: context.command_line.clone(),
    };
    let store = &project.store;
    let (session, aside) = match present {
        Present::Whole(seen) => {
            let session = store.open(stage, request).await?;
            let now = session.take_state();
            if now.serial != seen.serial || now.records != seen.records {
                session.release().await?;
                return Err(moved_on(stage));
            }
            (session, None)
        }
        Present::Absent | Present::Damaged(_) => {
            store.set_aside(stage, &put.snapshot, request).await?
        }
    };
    let written = replace(session.as_ref(), stage, settings, put).await;
    let released = session.release().await;
    written?;
    released?;
    Ok(aside)
}

async fn replace(
    session: &dyn Session,
    stage: &StagePath,
    settings: &Settings,
    put: Put<'_>,
) -> Result<(), StateError> {
    let begin = SystemClock.now();
    let header = put.snapshot.header.clone();
    let count = u64::try_from(put.snapshot.records.len()).unwrap_or(u64::MAX);
    session
        .append(vec![JournalEntry::Replaced(put.snapshot.into())])
        .await?;
    session.checkpoint(header).await?;
    session
        .record_deployment(Deployment {
            id: SystemIds.ulid(begin),
            stage: stage.clone(),
            command: put.command.to_owned(),
            actor: settings
                .environment
                .get("USER")
                .unwrap_or("unknown")
                .to_owned(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            started_at: begin,
            finished_at: SystemClock.now(),
            result: "succeeded".to_owned(),
            counts: [("resources".to_owned(), count)].into(),
            alch_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await
}

fn moved_on(stage: &StagePath) -> CliError {
    CliError::new(
        codes::STALE_PLAN,
        format!("{stage} was changed by another run meanwhile"),
    )
    .with_note("nothing was changed")
    .with_help("look again, then repeat the command")
}

/// Says what was put.
pub(super) fn tell(
    context: &Context,
    event: &'static str,
    stage: &StagePath,
    what: &str,
    placed: &Placed,
) {
    let count = placed.differences.len();
    let differs = match count {
        0 => "no resource differs from before".to_owned(),
        1 => "1 resource differs from before".to_owned(),
        _ => format!("{} differ from before", plural(count, "resource")),
    };
    context.ui.result(
        event,
        json!({
            "stage": stage.to_string(),
            "from": what,
            "differences": placed.differences,
            "set_aside": placed.aside,
        }),
        format!("{stage} is {what} now; {differs}"),
    );
    if let Some(aside) = &placed.aside {
        context
            .ui
            .note(format!("the files that were there are in `{aside}`"));
    }
    context.ui.note(format!(
        "no object was touched; `alch plan --stage {}` shows what the next run would do",
        stage.stage
    ));
}
