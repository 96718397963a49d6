//! Which project, application and stage a command that works from state alone is about.

use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::{
    cli::{
        Context,
        args::{RunFlags, StageArgs},
        error::CliError,
        settings::Settings,
        stores::Stores,
        wiring,
    },
    model::{AppName, Fqn, StagePath, diagnostic::codes},
    state::{SharedStore, StageState, StateError},
};

/// The state of a project, opened without a script.
pub(super) struct Project {
    /// The folder that holds `.alchemy`.
    pub(super) folder: PathBuf,
    /// The state in it, and in the buckets that its applications use.
    pub(super) store: SharedStore,
    /// Which of them is which.
    pub(super) stores: Stores,
    /// Runs what the store answers later.
    pub(super) runtime: Runtime,
}

impl Project {
    /// The project of the working folder: itself, or its nearest parent with a `.alchemy` folder.
    pub(super) fn find(context: &Context) -> Result<Self, CliError> {
        let start = &context.environment.folder;
        // The user's own folder of profiles has the same name and is no project.
        let user_folder = context.environment.user_folder();
        let folder = start
            .ancestors()
            .find(|folder| {
                let state = folder.join(".alchemy");
                state != user_folder && state.is_dir()
            })
            .unwrap_or(start)
            .to_owned();
        let stores = Stores::new(context, &context.environment, &folder)?;
        Ok(Self {
            store: stores.all()?,
            stores,
            folder,
            runtime: wiring::runtime()?,
        })
    }

    /// Every stage of which anything is kept, also of tests and of removed ones, by application.
    pub(super) fn all_stages(&self) -> Result<Vec<StagePath>, CliError> {
        self.runtime.block_on(async {
            let mut out = Vec::new();
            for app in self.store.apps().await? {
                out.extend(self.store.all_stages(&app).await?);
            }
            Ok(out)
        })
    }

    /// Every stage that has state, by application.
    pub(super) fn stages(&self) -> Result<Vec<StagePath>, CliError> {
        self.runtime.block_on(async {
            let mut out = Vec::new();
            for app in self.store.apps().await? {
                out.extend(self.store.stages(&app).await?);
            }
            Ok(out)
        })
    }

    /// The application: the one that is named, or the only one there is.
    pub(super) fn app(&self, named: Option<&str>) -> Result<AppName, CliError> {
        if let Some(name) = named {
            return Ok(AppName::new(name)?);
        }
        let apps = self.runtime.block_on(self.store.apps())?;
        match apps.as_slice() {
            [app] => Ok(app.clone()),
            [] => Err(CliError::new(
                codes::NO_STAGE,
                format!("no state in `{}`", self.folder.join(".alchemy").display()),
            )
            .with_help("`alch run` deploys a script; state-only commands run in its folder")),
            several => {
                let names: Vec<&str> = several.iter().map(AppName::as_str).collect();
                Err(CliError::usage(format!(
                    "there are several applications here: {}",
                    names.join(", ")
                ))
                .with_help(format!("choose one with `--app {}`", names[0])))
            }
        }
    }

    /// The settings of a command that works on state alone.
    pub(super) fn settings(
        &self,
        context: &Context,
        args: &StageArgs,
    ) -> Result<Settings, CliError> {
        let flags = RunFlags {
            stage: args.stage.clone(),
            lock_timeout: args.lock_timeout,
            ..RunFlags::default()
        };
        Settings::resolve(&context.environment, &flags, None)
    }

    /// The stage that flags and environment name.
    pub(super) fn stage(
        &self,
        context: &Context,
        args: &StageArgs,
    ) -> Result<(StagePath, Settings), CliError> {
        let settings = self.settings(context, args)?;
        let path = StagePath::new(self.app(args.app.as_deref())?, settings.stage(None)?);
        Ok((path, settings))
    }

    /// Reads a stage; one without state is an error that lists those with.
    pub(super) fn load(&self, stage: &StagePath) -> Result<StageState, CliError> {
        match self.runtime.block_on(self.store.load(stage))? {
            Some(state) => Ok(state),
            None => Err(self.no_stage(stage)?),
        }
    }

    /// Refuses a stage of which nothing is kept, no history and no lock either: its name is mistyped.
    pub(super) fn require_known(&self, stage: &StagePath) -> Result<(), CliError> {
        let is_known = self.runtime.block_on(async {
            let kept = self.store.all_stages(&stage.app).await?;
            let locks = self.store.locks(&stage.app).await?;
            Ok::<_, StateError>(
                kept.contains(stage)
                    || locks.iter().any(|lock| lock.stage == *stage)
                    || !self.store.history(stage, 1).await?.is_empty(),
            )
        })?;
        match is_known {
            true => Ok(()),
            false => Err(self.no_stage(stage)?),
        }
    }

    /// The error that a stage has no state.
    pub(super) fn no_stage(&self, stage: &StagePath) -> Result<CliError, CliError> {
        let error = CliError::no_stage(stage, &self.stages()?);
        let removed = self.runtime.block_on(self.store.removed(stage))?;
        Ok(match removed {
            Some(removed) => error.with_note(format!(
                "it was removed at {:.0}, after serial {}",
                removed.at,
                removed.serial.saturating_sub(1)
            )),
            None => error,
        })
    }
}

/// A resource as people type it: within the stage, or whole.
pub(super) fn fqn(stage: &StagePath, typed: &str) -> Result<Fqn, CliError> {
    let typed = typed.trim_end_matches('/');
    let whole = if typed.starts_with(&format!("{stage}/")) {
        typed.to_owned()
    } else {
        format!("{stage}/{typed}")
    };
    Ok(Fqn::parse(&whole)?)
}

/// The record's name, or an error that suggests near ones.
pub(super) fn known(state: &StageState, stage: &StagePath, typed: &str) -> Result<Fqn, CliError> {
    let fqn = fqn(stage, typed)?;
    if state.records.contains_key(&fqn) {
        return Ok(fqn);
    }
    let names = state.records.keys().map(Fqn::within_stage);
    let near = crate::util::text::suggestions(fqn.within_stage(), names, 3);
    let error = CliError::new(
        codes::NO_STAGE,
        format!("`{}` is not in state of {stage}", fqn.within_stage()),
    );
    Err(match near.as_slice() {
        [] => error.with_help("`alch state ls` lists what is"),
        near => error.with_help(format!("did you mean `{}`?", near.join("`, `"))),
    })
}
