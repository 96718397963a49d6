//! One run of one stage, and how it starts: lock, state, target, key, and what a crashed run left.
//!
//! What the script host and the commands do with it stands in `declare`, `ask` and `finish`. Declarations and questions are
//! synchronous and take the graph's one lock for a moment; only waiting, `finalize` and `destroy` are asynchronous. No lock is
//! held across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    model::{Diagnostic, Fqn, StagePath, diagnostic::codes},
    provider::Made,
    secret::{KeyMaterial, Keyring},
    state::{
        JournalEntry, KeyCheck, Lease, LockRequest, Session, StageHeader, StageState, StateError,
    },
    util::text,
};

use super::{
    adoption::Lists,
    event::{Event, Summary},
    failure::RunError,
    node::Graph,
    options::{Phase, RunOptions, World},
    rebuild::BackedUp,
    recover::close_open_intents,
    stakes::at_stake,
};

/// One run of one stage.
pub struct Run {
    pub(super) world: World,
    pub(super) stage: StagePath,
    pub(super) options: RunOptions,
    pub(super) keyring: Keyring,
    pub(super) session: Option<Box<dyn Session>>,
    /// Asked before every call to a provider.
    pub(super) lease: Lease,
    pub(super) lineage: String,
    pub(super) serial: u64,
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
    pub(super) header: StageHeader,
    /// What state holds of [`Run::facts`]. Held while it is made durable, so that no intent comes before its key.
    recorded: tokio::sync::Mutex<Facts>,
    pub(super) started_at: jiff::Timestamp,
    pub(super) deployment: String,
    pub(super) begin: Duration,
    graph: Mutex<Graph>,
    /// Where each resource stands in the plan that this run must keep to.
    pub(super) plan_index: OnceLock<HashMap<Fqn, usize>>,
    pub(super) finished: tokio::sync::Mutex<Option<Summary>>,
    /// What it has made so far.
    pub(super) made: Made,
    /// What there is of kinds of which a plan may adopt objects.
    pub(super) lists: Lists,
    /// What backups have, for a rebuild.
    pub(super) backed_up: tokio::sync::OnceCell<BackedUp>,
}

/// The part of a stage's header that must be durable before the first change that rests on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    target: Option<String>,
    script: Option<String>,
    key: Option<KeyCheck>,
}

impl Facts {
    fn of(header: &StageHeader) -> Self {
        Self {
            target: header.target.clone(),
            script: header.script.clone(),
            key: header.key.clone(),
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// Takes the lock (phases `Up` and `Destroy`), loads state, resolves what a crashed run left.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(
        world: World,
        stage: StagePath,
        key: KeyMaterial,
        options: RunOptions,
    ) -> Result<Arc<Self>, RunError> {
        let begin = world.clock.monotonic();
        let started_at = world.clock.now();
        let deployment = world.ids.ulid(started_at);
        world.events.emit(Event::RunStarted {
            stage: stage.clone(),
            phase: options.phase,
            target: options.target.clone(),
            deployment: deployment.clone(),
        });
        let writes = options.phase.writes();
        if matches!(
            options.phase,
            Phase::Destroy | Phase::Read | Phase::Drift | Phase::Repair
        ) {
            require_stage(&world, &stage).await?;
        }
        let (session, mut state) = if writes {
            let session = open_session(&world, &stage, &options).await?;
            for note in session.notes() {
                let warning = Diagnostic::warning(codes::KEPT, note);
                world.events.emit(Event::Diagnostic(Box::new(warning)));
            }
            let state = session.take_state();
            (Some(session), state)
        } else {
            let state = reading(&world, world.store.load(&stage)).await?;
            (None, state.unwrap_or_default())
        };
        let prepared = prepare(
            &world,
            &stage,
            key,
            &options,
            session.as_deref(),
            &mut state,
        )
        .await;
        let keyring = match prepared {
            Ok(keyring) => keyring,
            Err(error) => {
                release(&world, session.as_deref()).await?;
                return Err(error);
            }
        };
        let StageState {
            lineage,
            serial,
            header,
            records,
            ..
        } = state;
        let graph = Graph {
            at_stake: at_stake(&world.registry, &options, &records),
            prior: records,
            ..Graph::default()
        };
        let run = Arc::new(Self {
            world,
            stage,
            options,
            keyring,
            lease: session
                .as_ref()
                .map_or_else(Lease::always, |session| session.lease()),
            session,
            lineage,
            serial,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            recorded: tokio::sync::Mutex::new(Facts::of(&header)),
            header,
            started_at,
            deployment,
            begin,
            graph: Mutex::new(graph),
            plan_index: OnceLock::new(),
            made: Made::default(),
            lists: Lists::default(),
            backed_up: tokio::sync::OnceCell::new(),
            finished: tokio::sync::Mutex::new(None),
        });
        let looks = run.options.refresh && matches!(run.options.phase, Phase::Up | Phase::Plan);
        if (looks || matches!(run.options.phase, Phase::Drift | Phase::Repair))
            && let Err(error) = run.look().await
        {
            release(&run.world, run.session.as_deref()).await?;
            return Err(error);
        }
        Ok(run)
    }

    /// The graph. A panic while it was held has ended the run anyway, so poisoning is no further error.
    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stage.
    #[must_use]
    pub fn stage(&self) -> &StagePath {
        &self.stage
    }

    /// What the run was asked to do.
    #[must_use]
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Where this run deploys to, from which script, and with which key as far as it met a secret.
    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts {
            key: self.keyring.key_check(),
            ..Facts::of(&self.header)
        };
        if matches!(self.options.phase, Phase::Up | Phase::Import) {
            facts.target = Some(self.options.target.clone());
        }
        if self.options.phase == Phase::Up {
            facts.script.clone_from(&self.options.script);
        }
        facts
    }

    pub(super) fn header_with(&self, facts: Facts) -> StageHeader {
        StageHeader {
            target: facts.target,
            script: facts.script,
            key: facts.key,
            ..self.header.clone()
        }
    }

    /// Makes an entry durable, after the facts that it rests on. Those are written once or twice in the life of a stage.
    pub(super) async fn write_entry(
        &self,
        session: &dyn Session,
        entry: JournalEntry,
    ) -> Result<(), StateError> {
        let mut recorded = self.recorded.lock().await;
        let facts = self.facts();
        if *recorded == facts {
            drop(recorded);
            return session.append(vec![entry]).await;
        }
        *recorded = self.facts();
        let header = Arc::new(self.header_with(facts));
        session
            .append(vec![JournalEntry::Header(header), entry])
            .await
    }
}

async fn require_stage(world: &World, stage: &StagePath) -> Result<(), RunError> {
    let others = reading(world, world.store.stages(&stage.app)).await?;
    // The stages of tests are not listed.
    if others.contains(stage) || stage.stage.test_parts().is_some() {
        return Ok(());
    }
    Err(RunError::NoSuchStage {
        stage: stage.clone(),
        others,
    })
}

/// A new stage must not be spelt so that its objects get the names of another stage's.
async fn check_spelling(world: &World, stage: &StagePath) -> Result<(), RunError> {
    let spelling = |path: &StagePath| text::sanitise(&path.stage.plain()).replace('_', "-");
    let own = spelling(stage);
    let stages = reading(world, world.store.stages(&stage.app)).await?;
    match stages
        .into_iter()
        .find(|other| other != stage && spelling(other) == own)
    {
        Some(other) => Err(RunError::SameSpelling {
            stage: stage.clone(),
            other,
        }),
        None => Ok(()),
    }
}

/// Opens the stage; says so when it has to wait for another run.
async fn open_session(
    world: &World,
    stage: &StagePath,
    options: &RunOptions,
) -> Result<Box<dyn Session>, RunError> {
    let request = LockRequest {
        wait: Duration::ZERO,
        command: options.command.clone(),
    };
    match world.store.open(stage, request).await {
        Err(StateError::Locked { .. }) if !options.lock_wait.is_zero() => {
            world.events.emit(Event::WaitingForLock {
                stage: stage.clone(),
            });
            let request = LockRequest {
                wait: options.lock_wait,
                command: options.command.clone(),
            };
            tokio::select! {
                session = world.store.open(stage, request) => Ok(session?),
                () = world.cancel.soft.cancelled() => Err(RunError::Cancelled),
            }
        }
        other => Ok(other?),
    }
}

/// What must be in order before the first declaration: target, plan, key, and what a crashed run left.
async fn prepare(
    world: &World,
    stage: &StagePath,
    key: KeyMaterial,
    options: &RunOptions,
    session: Option<&dyn Session>,
    state: &mut StageState,
) -> Result<Keyring, RunError> {
    if let Some(deployed) = &state.header.target
        && *deployed != options.target
        && !state.is_empty()
    {
        return Err(RunError::OtherTarget {
            stage: stage.clone(),
            deployed: deployed.clone(),
            asked: options.target.clone(),
        });
    }
    if matches!(options.phase, Phase::Up | Phase::Plan | Phase::Import) && state.is_empty() {
        check_spelling(world, stage).await?;
    }
    if let Some(plan) = &options.expected_plan
        && (plan.lineage != state.lineage || plan.serial != state.serial)
        && !(plan.lineage.is_empty() && state.records.is_empty())
    {
        return Err(RunError::StalePlan {
            reason: format!(
                "it was made from state {} and the stage is at {}",
                plan.serial, state.serial
            ),
        });
    }
    let keyring = Keyring::new(
        stage.clone(),
        state.header.key.clone(),
        key,
        Arc::clone(&world.ids),
    );
    let keyring = if session.is_some() {
        keyring
    } else {
        keyring.without_writing()
    };
    // A wrong password is told before anything is touched, not at the first secret. Deletes need no secret of the script's.
    if state.header.key.is_some() {
        keyring.vault()?;
    }
    let entries = close_open_intents(state, world.clock.now());
    if let Some(session) = session
        && !entries.is_empty()
    {
        session.append(entries).await?;
    }
    Ok(keyring)
}

/// Gives the lock back, and says so where that could not be done.
pub(super) async fn release(
    world: &World,
    session: Option<&dyn Session>,
) -> Result<(), StateError> {
    let Some(session) = session else {
        return Ok(());
    };
    let released = session.release().await;
    if let Some(left) = session.left() {
        let warning = Diagnostic::warning(codes::BUCKET, left);
        world.events.emit(Event::Diagnostic(Box::new(warning)));
    }
    released
}

/// Reads state before anything is begun: the first signal ends it.
async fn reading<T>(
    world: &World,
    read: impl Future<Output = Result<T, StateError>>,
) -> Result<T, RunError> {
    tokio::select! {
        biased;
        found = read => Ok(found?),
        () = world.cancel.soft.cancelled() => Err(RunError::Cancelled),
    }
}
