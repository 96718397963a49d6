//! How a case runs: its steps, each checked; then, if its last step was struck, clean ones until nothing is left to do.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    check::{self, Memory},
    harness::{Ended, Simulation},
    places::Omission,
    scenario::{Case, Command, Meddling, Step},
};

/// What a case did, for the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Steps that ended by a death, an error, or with failures.
    pub(crate) struck: usize,
    /// Runs of the engine.
    pub(crate) lives: usize,
    /// Everything that happened: events, effects of the disk.
    pub(crate) log: Vec<String>,
}

/// A world and what is remembered of it.
pub(crate) struct Course {
    pub(crate) simulation: Simulation,
    memory: Memory,
    /// Whether somebody else changed objects: only those who look see that.
    drifted: bool,
    done: Done,
}

impl Course {
    pub(crate) fn new(seed: u64, omission: Option<Omission>) -> Self {
        let mut simulation = Simulation::new(seed);
        simulation.disk.omission = omission;
        Self {
            simulation,
            memory: Memory::default(),
            drifted: false,
            done: Done::default(),
        }
    }

    /// Another course from here.
    pub(crate) fn fork(&self) -> Self {
        Self {
            simulation: self.simulation.fork(),
            memory: self.memory.clone(),
            drifted: self.drifted,
            done: Done::default(),
        }
    }

    /// Runs one step and checks what it left.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Ended, String> {
        let mut plan = None;
        if step.planned && matches!(step.command, Command::Up | Command::Refresh) {
            let planning = Step {
                command: Command::Plan,
                blows: Vec::new(),
                ..step.clone()
            };
            let ended = self.run(&planning, None)?;
            plan = matches!(ended.result, Some(Ok(_))).then(|| Arc::new(ended.plan));
        }
        let ended = self.run(step, plan.clone())?;
        if let Some(plan) = plan {
            check::follows(&plan, &ended)?;
        }
        Ok(ended)
    }

    fn run(&mut self, step: &Step, plan: Option<Arc<alch::engine::Plan>>) -> Result<Ended, String> {
        let changes =
            |act: &Meddling| matches!(act, Meddling::Remove { .. } | Meddling::Change { .. });
        self.drifted |= step.meddling.iter().any(changes);
        let ended = self.simulation.live_with(step, plan);
        self.done.lives += 1;
        self.done.log.extend(ended.lines());
        let whole = matches!(&ended.result, Some(Ok(summary)) if summary.failed.is_empty());
        self.done.struck += usize::from(!whole);
        self.memory.check(&self.simulation, step, &ended)?;
        Ok(ended)
    }

    /// Goes on from what others did to the world.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        self.memory.look(&self.simulation)
    }

    /// One clean run comes to where the step was to go, and the next one does nothing.
    pub(crate) fn settle(&mut self, step: &Step) -> Result<(), String> {
        let clean = Step {
            command: match step.command {
                Command::Destroy => Command::Destroy,
                _ if self.drifted => Command::Refresh,
                _ => Command::Up,
            },
            program: step.program.clone(),
            ..Step::default()
        };
        let ended = self.step(&clean)?;
        let blocked = self.memory.settled(&self.simulation, &clean, &ended)?;
        if blocked {
            return Ok(());
        }
        let again = Step {
            command: match clean.command {
                Command::Refresh => Command::Up,
                other => other,
            },
            ..clean
        };
        let serial = self.simulation.state().serial;
        let ended = self.step(&again)?;
        check::idle(serial, &self.simulation, &ended)
    }

    /// Everything that happened.
    pub(crate) fn finish(mut self) -> Done {
        self.done.log.extend(self.simulation.disk.trace());
        self.done
    }
}

/// Runs a whole case. Panics of the engine are violations like any other.
pub(crate) fn run(case: &Case, omission: Option<&Omission>) -> Result<Done, String> {
    let (course, verdict) = follow(case, omission);
    verdict.map(|()| course.finish())
}

/// Everything that happens in a case, to where it fails.
pub(crate) fn log_of(case: &Case) -> Vec<String> {
    follow(case, None).0.finish().log
}

fn follow(case: &Case, omission: Option<&Omission>) -> (Course, Result<(), String>) {
    let mut course = Course::new(case.seed, omission.cloned());
    let result = catch_unwind(AssertUnwindSafe(|| {
        for (index, step) in case.steps.iter().enumerate() {
            let at = |error: String| format!("step {index}: {error}");
            course.step(step).map_err(at)?;
        }
        if let Some(last) = case.steps.last() {
            let at = |error: String| format!("settling: {error}");
            course.settle(last).map_err(at)?;
        }
        Ok(())
    }));
    let verdict = result.unwrap_or_else(|panic| Err(format!("panic: {}", text_of(panic.as_ref()))));
    (course, verdict)
}

pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("something without words").to_owned()
}
