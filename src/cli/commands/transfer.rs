//! `alch state push|pull|migrate-store`: whole stages from one store to another.
//!
//! Both sides are locked. A stage is only replaced by a later state of the same history: same lineage, higher serial. What was
//! replaced is kept aside by its store. `migrate-store` leaves the old copy, marked with where the stage is now: whoever begins a run
//! there, also from another clone, is refused and told.
//!
//! That a stage was removed is a state like any other: it is brought along, and an older copy of the stage does not come back over it.

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
    model::{AppName, StagePath, diagnostic::codes},
    state::{
        JournalEntry, LockRequest, Removed, Session, SharedStore, Snapshot, StageHeader,
        StageState, StateError,
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
    /// Whether it goes out of the store in use.
    outwards: bool,
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
    /// Whether what was brought is that the stage was removed.
    removed: bool,
    header: StageHeader,
    /// Records of finished runs that cannot be read.
    left: Vec<StateError>,
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
        outwards,
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
    let text = match (moved.same, moved.removed) {
        (true, false) => format!("{stage} is the same in both stores: nothing to do"),
        (true, true) => format!("{stage} was removed in both stores: nothing to do"),
        (false, true) => format!(
            "{verb} {stage} {place}: it was removed, serial {}",
            moved.serial
        ),
        (false, false) => format!(
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
            "removed": moved.removed,
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
    let mut own = project.stores.own(&app)?;
    if own.0 == location {
        // Named by the environment already, and runs refuse it there.
        let ahead = project.stores.ahead_of(&app, &location, &store);
        own = project.runtime.block_on(ahead)?.unwrap_or(own);
    }
    let from = Side {
        location: own.0,
        store: own.1,
    };
    let to = Side { location, store };
    refuse_same(&from, &to)?;
    let mut transfer = Transfer {
        from: &from,
        to: &to,
        force: args.force,
        outwards: true,
        with_history: true,
        mark: false,
        request: LockRequest {
            wait: settings.lock_wait,
            command: context.command_line.clone(),
        },
    };
    let stages = project.runtime.block_on(async {
        let mut out = Vec::new();
        for stage in transfer.known_stages(&app).await? {
            let moved = transfer.stage(&stage).await?;
            out.push((stage, moved));
        }
        // Only when all are there: until then the old store is the one in use. What a run changed meanwhile goes along.
        transfer.mark = true;
        for (stage, moved) in &mut out {
            let left = std::mem::take(&mut moved.left);
            *moved = transfer.stage(stage).await?;
            moved.left.extend(left);
        }
        Ok::<_, CliError>(out)
    })?;
    project.stores.move_to(&app, &to.location)?;
    for error in stages.iter().flat_map(|(_, moved)| &moved.left) {
        context
            .ui
            .note(format!("left behind, as it cannot be read: {error}"));
    }
    for copy in project
        .runtime
        .block_on(transfer.orphaned_copies(&app, &stages))?
    {
        context.ui.note(format!(
            "nothing is known of {copy} in {}; the copy from before it was brought there stays marked: `alch scope restore --app {} --stage {}` \
             makes it the state again",
            from.location.label(),
            copy.app,
            copy.stage
        ));
    }
    let named = |removed: bool| -> Vec<&str> {
        let stages = stages.iter().filter(|(_, moved)| moved.removed == removed);
        stages.map(|(stage, _)| stage.stage.as_str()).collect()
    };
    let (names, removed) = (named(false), named(true));
    let mut text = format!(
        "{app} is in {} now: {}",
        to.location.label(),
        plural(names.len(), "stage"),
    );
    if !names.is_empty() {
        text.push_str(&format!(" ({})", names.join(", ")));
    }
    if !removed.is_empty() {
        text.push_str(&format!(
            "\nremoved before, so that no older copy counts there: {}",
            removed.join(", ")
        ));
    }
    if !names.is_empty() {
        text.push_str(&format!(
            "\nthe copy that stays in {} is marked: a run that begins there is refused and told of {}",
            from.location.label(),
            to.location.label()
        ));
    }
    if let Some(stores) = project.stores.ignored_for(&app)? {
        text.push_str(&format!(
            "\n`{}` still names {}: set it to \"{}\", or take it out of the environment",
            stores.variable,
            stores.named,
            to.location.url()
        ));
    }
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
            "removed": removed,
            "marked": !names.is_empty(),
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
    /// The command that brings a stage in the other direction.
    fn reverse(&self, stage: &StagePath) -> String {
        let of = format!("--app {} --stage {}", stage.app, stage.stage);
        match self.outwards {
            true => format!("alch state pull {of} --from \"{}\"", self.to.location.url()),
            false => format!("alch state push {of} --to \"{}\"", self.from.location.url()),
        }
    }

    /// The stages that there are, and those of which it is known that they were removed.
    async fn known_stages(&self, app: &AppName) -> Result<Vec<StagePath>, StateError> {
        let from = &self.from.store;
        let mut out = from.stages(app).await?;
        for stage in from.all_stages(app).await? {
            let is_other = stage.stage.test_parts().is_none() && !out.contains(&stage);
            if is_other && from.removed(&stage).await?.is_some() {
                out.push(stage);
            }
        }
        out.sort();
        Ok(out)
    }

    /// Copies that an earlier move in the other direction left, of stages of which nothing is known any more where they went.
    async fn orphaned_copies(
        &self,
        app: &AppName,
        known: &[(StagePath, Moved)],
    ) -> Result<Vec<StagePath>, StateError> {
        let origin = self.from.location.url();
        let mut out = Vec::new();
        for stage in self.to.store.stages(app).await? {
            if known.iter().any(|(known, _)| *known == stage) {
                continue;
            }
            if let Err(StateError::Moved { to, .. }) = self.to.store.load(&stage).await
                && to == origin
            {
                out.push(stage);
            }
        }
        Ok(out)
    }

    /// Brings one stage over, under the locks of both stores.
    async fn stage(&self, stage: &StagePath) -> Result<Moved, CliError> {
        let from = &self.from.store;
        if let Some(moved) = self.moved_before(stage).await? {
            return Ok(moved);
        }
        // Taking the lock would make the stage, so one that is not there is found out before.
        if from.load(stage).await?.is_none() && from.removed(stage).await?.is_none() {
            let others = from.stages(&stage.app).await?;
            return Err(CliError::no_stage(stage, &others)
                .with_note(format!("in {}", self.from.location.label())));
        }
        let session = from.open(stage, self.request.clone()).await?;
        let mut moved = self.locked(stage, session.as_ref()).await;
        if self.mark
            && let Ok(done) = &moved
            && !done.removed
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
            removed: false,
            header: state.header,
            left: Vec::new(),
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
        let source = match self.from.store.load(stage).await? {
            Some(state) => Source::Live(Box::new(state)),
            None => match self.from.store.removed(stage).await? {
                Some(removed) => Source::Removed(removed),
                None => return Err(CliError::no_stage(stage, &[])),
            },
        };
        let mut moved = Moved {
            resources: source.state().map_or(0, |state| state.records.len()),
            serial: source.serial(),
            same: self.is_there(stage, &source).await?,
            removed: source.state().is_none(),
            header: source.header(),
            left: Vec::new(),
        };
        if moved.same {
            return Ok(moved);
        }
        let request = self.request.clone();
        let (lineage, to) = (source.lineage().to_owned(), &self.to.store);
        // Removing it counts one more.
        let serial = source.serial() - u64::from(moved.removed);
        let session = to.receive(stage, lineage, serial, request).await?;
        let written = self.write(stage, session.as_ref(), &source).await;
        let released = session.release().await;
        moved.left = written?;
        released?;
        Ok(moved)
    }

    /// Answers the records of finished runs that cannot be read, and stay behind.
    async fn write(
        &self,
        stage: &StagePath,
        session: &dyn Session,
        source: &Source,
    ) -> Result<Vec<StateError>, StateError> {
        let mut left = Vec::new();
        let snapshot = match source {
            Source::Live(state) => Snapshot::of(stage, state),
            Source::Removed(_) => Snapshot::of(stage, &StageState::default()),
        };
        session
            .append(vec![JournalEntry::Replaced(Arc::new(snapshot))])
            .await?;
        session.checkpoint(source.header()).await?;
        if self.with_history {
            let mut runs = self.from.store.history(stage, HISTORY).await?;
            runs.reverse();
            for run in runs {
                match run {
                    Ok(run) => session.record_deployment(run).await?,
                    Err(error) => left.push(error),
                }
            }
        }
        if let Source::Removed(_) = source {
            session.remove_stage().await?;
        }
        Ok(left)
    }

    /// Whether the other store has this state; refuses one that it must not replace.
    async fn is_there(&self, stage: &StagePath, source: &Source) -> Result<bool, CliError> {
        let to = &self.to.store;
        let mut is_copy = false;
        let there = match to.load(stage).await {
            Err(StateError::Corrupt { .. }) if self.force => None,
            // The stage comes back to where it once was; the mark on the copy was a checkpoint of its own.
            Err(StateError::Moved { .. }) => {
                is_copy = true;
                let copy = to.salvage(stage).await?.snapshot;
                Some(Source::Live(Box::new(copy.into_state())))
            }
            Ok(None) => to.removed(stage).await?.map(Source::Removed),
            other => other?.map(|state| Source::Live(Box::new(state))),
        };
        let lineage = match &there {
            Some(there) => Some(there.lineage().to_owned()),
            None => to.salvage(stage).await?.lineage,
        };
        let same = match (source, &there) {
            (Source::Live(state), Some(Source::Live(there))) => {
                there.records == state.records
                    && there.header == state.header
                    && there.open_intents == state.open_intents
            }
            (Source::Removed(removed), Some(Source::Removed(there))) => {
                there.lineage == removed.lineage && there.serial >= removed.serial
            }
            _ => false,
        };
        if same || self.force {
            return Ok(same);
        }
        let refused = |what: String| {
            CliError::new(codes::OTHER_HISTORY, what).with_note("nothing was changed")
        };
        let by_force = "to replace it all the same, add `--force`; what is replaced is kept aside";
        let (place, own) = (self.to.location.label(), self.from.location.label());
        if let Some(lineage) = lineage.filter(|lineage| lineage != source.lineage()) {
            let what = format!(
                "{stage} has another history in {place}: lineage {lineage}, not {}",
                source.lineage()
            );
            return Err(refused(what).with_help(by_force));
        }
        match there {
            Some(there) if is_copy && there.serial() <= source.serial() + 1 => Ok(false),
            Some(Source::Removed(there)) if there.serial >= source.serial() => {
                let what = format!(
                    "{stage} was removed in {place}, at serial {}; what {own} has is an older copy, at serial {}",
                    there.serial,
                    source.serial()
                );
                Err(refused(what)
                    .with_help(format!(
                        "to take over that it was removed: `{}`",
                        self.reverse(stage)
                    ))
                    .with_help("to bring the older copy back all the same, add `--force`"))
            }
            Some(there) if there.serial() >= source.serial() => {
                let what = format!(
                    "{stage} is not older in {place}: it is at serial {} there, and at {} in {own}",
                    there.serial(),
                    source.serial(),
                );
                Err(refused(what).with_help(by_force))
            }
            _ => Ok(false),
        }
    }
}

/// What a store has of a stage.
enum Source {
    Live(Box<StageState>),
    Removed(Removed),
}

impl Source {
    fn state(&self) -> Option<&StageState> {
        match self {
            Self::Live(state) => Some(state),
            Self::Removed(_) => None,
        }
    }

    fn lineage(&self) -> &str {
        match self {
            Self::Live(state) => &state.lineage,
            Self::Removed(removed) => &removed.lineage,
        }
    }

    fn serial(&self) -> u64 {
        match self {
            Self::Live(state) => state.serial,
            // One that is read from a store is more than that.
            Self::Removed(removed) => removed.serial.max(2),
        }
    }

    fn header(&self) -> StageHeader {
        match self {
            Self::Live(state) => state.header.clone(),
            Self::Removed(removed) => StageHeader {
                deployment: removed.deployment.clone(),
                ..StageHeader::default()
            },
        }
    }
}
