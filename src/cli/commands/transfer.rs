//! `alch state push|pull|migrate-store`: whole stages from one store to another.
//!
//! Both sides are locked. A stage is only replaced by a later state of the same history: same lineage, higher serial. What was
//! replaced is kept aside by its store. `migrate-store` leaves the old copy, marked with where the stage is now: whoever begins a run
//! there, also from another clone, is refused and told.

use std::sync::Arc;

use serde_json::json;

use crate::{
    cli::{
        Context,
        args::{MigrateArgs, PullArgs, PushArgs, StageArgs},
        error::CliError,
        exit::Exit,
        select::Project,
        stores::Location,
    },
    model::{StagePath, diagnostic::codes},
    state::{
        JournalEntry, LockRequest, Session, SharedStore, Snapshot, StageHeader, StageState,
        StateError,
    },
    util::text::plural,
};

/// How many records of finished runs are taken along.
const HISTORY: usize = 1000;

/// One of the two stores.
struct Side {
    location: Location,
    store: SharedStore,
}

/// From where to where, and how.
struct Transfer<'a> {
    from: &'a Side,
    to: &'a Side,
    force: bool,
    /// Whether records of finished runs go along.
    with_history: bool,
    /// Whether what stays behind is marked as an old copy.
    mark: bool,
    request: LockRequest,
}

/// What became of a stage.
struct Moved {
    resources: usize,
    serial: u64,
    /// Whether the other store had this state already.
    same: bool,
    header: StageHeader,
}

pub(in crate::cli) fn push(context: &Context, args: &PushArgs) -> Result<Exit, CliError> {
    one_stage(context, &args.stage, &args.to, args.force, true)
}

pub(in crate::cli) fn pull(context: &Context, args: &PullArgs) -> Result<Exit, CliError> {
    one_stage(context, &args.stage, &args.from, args.force, false)
}

fn one_stage(
    context: &Context,
    args: &StageArgs,
    url: &str,
    force: bool,
    outwards: bool,
) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let (location, store) = project.stores.named(url)?;
    let (stage, settings) = match project.stage(context, args) {
        Err(_) if !outwards && args.app.is_none() => {
            // Nothing is here yet: the application is the one that the other store has.
            let apps = project.runtime.block_on(store.apps())?;
            let [app] = apps.as_slice() else {
                return Err(CliError::usage(format!(
                    "{} has {}",
                    location.label(),
                    plural(apps.len(), "application")
                ))
                .with_help("choose one with `--app NAME`"));
            };
            let args = StageArgs {
                app: Some(app.to_string()),
                ..args.clone()
            };
            project.stage(context, &args)?
        }
        other => other?,
    };
    let own = Side {
        location: project.stores.location(&stage.app)?,
        store: Arc::clone(&project.store),
    };
    let other = Side { location, store };
    refuse_same(&own, &other)?;
    let (from, to) = match outwards {
        true => (&own, &other),
        false => (&other, &own),
    };
    let transfer = Transfer {
        from,
        to,
        force,
        with_history: false,
        mark: false,
        request: LockRequest {
            wait: settings.lock_wait,
            command: context.command_line.clone(),
        },
    };
    let moved = project.runtime.block_on(transfer.stage(&stage))?;
    let verb = if outwards { "pushed" } else { "pulled" };
    let place = match outwards {
        true => format!("to {}", to.location.label()),
        false => format!("from {}", from.location.label()),
    };
    let text = match moved.same {
        true => format!("{stage} is the same in both stores: nothing to do"),
        false => format!(
            "{verb} {stage} {place}: {}, serial {}",
            plural(moved.resources, "resource"),
            moved.serial
        ),
    };
    context.ui.result(
        verb,
        json!({
            "stage": stage.to_string(),
            "from": from.location.url(),
            "to": to.location.url(),
            "resources": moved.resources,
            "serial": moved.serial,
            "changed": !moved.same,
        }),
        text,
    );
    Ok(Exit::Success)
}

pub(in crate::cli) fn migrate(context: &Context, args: &MigrateArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let stage_args = StageArgs {
        app: args.app.clone(),
        stage: None,
        lock_timeout: args.lock_timeout,
    };
    let (any, settings) = project.stage(context, &stage_args)?;
    let app = any.app;
    let (location, store) = project.stores.named(&args.to)?;
    let from = Side {
        location: project.stores.location(&app)?,
        store: Arc::clone(&project.store),
    };
    let to = Side { location, store };
    refuse_same(&from, &to)?;
    let mut transfer = Transfer {
        from: &from,
        to: &to,
        force: args.force,
        with_history: true,
        mark: false,
        request: LockRequest {
            wait: settings.lock_wait,
            command: context.command_line.clone(),
        },
    };
    let stages = project.runtime.block_on(async {
        let mut out = Vec::new();
        for stage in project.store.stages(&app).await? {
            let moved = transfer.stage(&stage).await?;
            out.push((stage, moved));
        }
        // Only when all are there: until then the old store is the one in use. What a run changed meanwhile goes along.
        transfer.mark = true;
        for (stage, moved) in &mut out {
            *moved = transfer.stage(stage).await?;
        }
        Ok::<_, CliError>(out)
    })?;
    project.stores.move_to(&app, &to.location)?;
    let names: Vec<&str> = stages
        .iter()
        .map(|(stage, _)| stage.stage.as_str())
        .collect();
    let mut text = format!(
        "{app} is in {} now: {} ({})",
        to.location.label(),
        plural(stages.len(), "stage"),
        names.join(", ")
    );
    text.push_str(&format!(
        "\nthe copy that stays in {} is marked: a run that begins there is refused and told of {}",
        from.location.label(),
        to.location.label()
    ));
    text.push_str(match to.location {
        Location::Folder => "\ntake `stateStore` out of the script, and `ALCHEMY_STATE_STORE` out of the environment",
        Location::Bucket(_) => "\ndeclare it in the script, for everybody else: `alchemy(.., #{ stateStore: s3(..) })`",
    });
    context.ui.result(
        "migrated",
        json!({
            "app": app,
            "from": from.location.url(),
            "to": to.location.url(),
            "stages": names,
            "marked": true,
        }),
        text,
    );
    Ok(Exit::Success)
}

fn refuse_same(a: &Side, b: &Side) -> Result<(), CliError> {
    if a.location != b.location {
        return Ok(());
    }
    Err(
        CliError::usage(format!("{} is the store in use", a.location.label()))
            .with_help("name another store: `s3://bucket/prefix?endpoint=URL`, `r2://bucket/prefix` or `local`"),
    )
}

impl Transfer<'_> {
    /// Brings one stage over, under the locks of both stores.
    async fn stage(&self, stage: &StagePath) -> Result<Moved, CliError> {
        let from = &self.from.store;
        if let Some(moved) = self.moved_before(stage).await? {
            return Ok(moved);
        }
        // Taking the lock would make the stage, so one that is not there is found out before.
        if from.load(stage).await?.is_none() {
            let others = from.stages(&stage.app).await?;
            return Err(CliError::no_stage(stage, &others)
                .with_note(format!("in {}", self.from.location.label())));
        }
        let session = from.open(stage, self.request.clone()).await?;
        let mut moved = self.locked(stage, session.as_ref()).await;
        if self.mark
            && let Ok(done) = &moved
            && let Err(error) = self.leave(session.as_ref(), &done.header).await
        {
            moved = Err(error.into());
        }
        let released = session.release().await;
        let moved = moved?;
        released?;
        Ok(moved)
    }

    /// A stage that an earlier, interrupted move had brought over and marked.
    async fn moved_before(&self, stage: &StagePath) -> Result<Option<Moved>, CliError> {
        let target = self.to.location.url();
        match self.from.store.load(stage).await {
            Err(StateError::Moved { to, .. }) if to == target => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(None),
        }
        let there = self.to.store.load(stage).await?;
        Ok(there.map(|state| Moved {
            resources: state.records.len(),
            serial: state.serial,
            same: true,
            header: state.header,
        }))
    }

    /// Marks what stays behind.
    async fn leave(&self, session: &dyn Session, header: &StageHeader) -> Result<(), StateError> {
        let header = StageHeader {
            moved_to: Some(self.to.location.url()),
            ..header.clone()
        };
        session.checkpoint(header).await
    }

    async fn locked(&self, stage: &StagePath, source: &dyn Session) -> Result<Moved, CliError> {
        // What a run left in the journal gets its serial.
        source.checkpoint(source.take_state().header).await?;
        let Some(state) = self.from.store.load(stage).await? else {
            return Err(CliError::no_stage(stage, &[]));
        };
        let moved = Moved {
            resources: state.records.len(),
            serial: state.serial,
            same: self.is_there(stage, &state).await?,
            header: state.header.clone(),
        };
        if moved.same {
            return Ok(moved);
        }
        let to = &self.to.store;
        let session = to
            .receive(
                stage,
                state.lineage.clone(),
                state.serial,
                self.request.clone(),
            )
            .await?;
        let written = self.write(stage, session.as_ref(), &state).await;
        let released = session.release().await;
        written?;
        released?;
        Ok(moved)
    }

    async fn write(
        &self,
        stage: &StagePath,
        session: &dyn Session,
        state: &StageState,
    ) -> Result<(), StateError> {
        let snapshot = Snapshot::of(stage, state);
        session
            .append(vec![JournalEntry::Replaced(Arc::new(snapshot))])
            .await?;
        session.checkpoint(state.header.clone()).await?;
        if self.with_history {
            let mut runs = self.from.store.deployments(stage, HISTORY).await?;
            runs.reverse();
            for run in runs {
                session.record_deployment(run).await?;
            }
        }
        Ok(())
    }

    /// Whether the other store has this state; refuses one that it must not replace.
    async fn is_there(&self, stage: &StagePath, state: &StageState) -> Result<bool, CliError> {
        let to = &self.to.store;
        let mut is_copy = false;
        let there = match to.load(stage).await {
            Err(StateError::Corrupt { .. }) if self.force => None,
            // The stage comes back to where it once was; the mark on the copy was a checkpoint of its own.
            Err(StateError::Moved { .. }) => {
                is_copy = true;
                Some(to.salvage(stage).await?.snapshot.into_state())
            }
            other => other?,
        };
        let lineage = match &there {
            Some(there) => Some(there.lineage.clone()),
            None => to.salvage(stage).await?.lineage,
        };
        if let Some(there) = &there
            && there.records == state.records
            && there.header == state.header
            && there.open_intents == state.open_intents
        {
            return Ok(true);
        }
        if self.force {
            return Ok(false);
        }
        let refused = |what: String| {
            Err(CliError::new(codes::OTHER_HISTORY, what)
                .with_note("nothing was changed")
                .with_help(
                    "to replace it all the same, add `--force`; what is replaced is kept aside",
                ))
        };
        let place = self.to.location.label();
        if let Some(lineage) = lineage.filter(|lineage| *lineage != state.lineage) {
            return refused(format!(
                "{stage} has another history in {place}: lineage {lineage}, not {}",
                state.lineage
            ));
        }
        match there {
            Some(there) if is_copy && there.serial <= state.serial + 1 => Ok(false),
            Some(there) if there.serial >= state.serial => refused(format!(
                "{stage} is not older in {place}: it is at serial {} there, and at {} in {}",
                there.serial,
                state.serial,
                self.from.location.label()
            )),
            _ => Ok(false),
        }
    }
}
