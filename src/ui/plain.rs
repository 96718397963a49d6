//! Append-only lines for people: stable, so that they can be searched and compared.
//!
//! A fold: events and the passing of time in, lines out. Where they go is [`super::printer`]'s business; what is said at the end
//! of a run is counted up in [`super::summary`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    engine::{Action, Event, Outcome, Phase, Summary, plan::PlannedAction},
    model::{Diagnostic, Fqn},
    ui::{
        diff::{self, Detail},
        frame,
        style::{self, paint},
        summary::{Explain, totals, unhandled},
    },
    util::text::{duration, plural},
};

/// The longest silence while something is in flight.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Longer lists of failures and names are cut.
const MANY: usize = 20;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Results and problems only.
    Quiet,
    /// What changes.
    #[default]
    Normal,
    /// Also what does not change.
    Verbose,
}

/// Which standard stream a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Results.
    Out,
    /// Progress and diagnostics.
    Err,
}

/// One piece of text for a stream; may hold several lines, ends without a line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it goes.
    pub stream: Stream,
    /// The text, with ANSI styles.
    pub text: String,
}

/// How the fold tells things.
#[derive(Clone)]
pub struct PlainOptions {
    /// How much.
    pub verbosity: Verbosity,
    /// How much of a plan.
    pub detail: Detail,
    /// Whether a live line shows what is in flight, so that beginnings need no line of their own.
    pub live: bool,
    /// Width of the terminal.
    pub width: Option<usize>,
    /// How failures are explained.
    pub explain: Explain,
}

struct Flight {
    action: Action,
    started: Duration,
}

/// The fold.
pub struct Plain {
    options: PlainOptions,
    flights: BTreeMap<Fqn, Flight>,
    plan: Vec<Arc<PlannedAction>>,
    done: usize,
    last_line: Duration,
    waiting_since: Option<Duration>,
    /// The line of totals: held back, as diagnostics may follow the end of a run and it comes last.
    totals: Option<String>,
}

impl Plain {
    /// A fold that has seen nothing.
    #[must_use]
    pub fn new(options: PlainOptions) -> Self {
        Self {
            options,
            flights: BTreeMap::new(),
            plan: Vec::new(),
            done: 0,
            last_line: Duration::ZERO,
            waiting_since: None,
            totals: None,
        }
    }

    /// From here on only results and problems.
    pub(super) fn quieten(&mut self) {
        self.options.verbosity = Verbosity::Quiet;
        self.options.live = false;
    }

    /// Nothing more follows.
    pub fn end(&mut self, out: &mut Vec<Line>) {
        if let Some(text) = self.totals.take() {
            progress(out, text);
        }
    }

    /// Takes one event at the moment `now` of any monotonic clock.
    pub fn event(&mut self, event: &Event, now: Duration, out: &mut Vec<Line>) {
        let before = out.len();
        self.fold(event, now, out);
        if out.len() > before {
            self.last_line = now;
        }
    }

    fn fold(&mut self, event: &Event, now: Duration, out: &mut Vec<Line>) {
        let quiet = self.options.verbosity == Verbosity::Quiet;
        match event {
            Event::RunStarted {
                stage,
                phase,
                target,
                ..
            } => {
                self.end(out);
                self.waiting_since = None;
                self.done = 0;
                self.plan.clear();
                if !quiet {
                    progress(
                        out,
                        format!(
                            "alch: app {}, stage {}, phase {}, target {target}",
                            stage.app,
                            stage.stage,
                            phase.as_str()
                        ),
                    );
                }
            }
            Event::WaitingForLock { stage } => {
                self.waiting_since = Some(now);
                if !quiet {
                    progress(out, format!("waiting for the lock of stage {stage}"));
                }
            }
            Event::Planned(action) => self.plan.push(Arc::clone(action)),
            Event::Unchanged { fqn, kind } => {
                self.done += 1;
                if self.options.verbosity == Verbosity::Verbose {
                    let text = format!("  unchanged {}  ({kind})", fqn.within_stage());
                    progress(out, paint(style::FAINT, text));
                }
            }
            Event::Started { fqn, kind, action } => {
                self.flights.insert(
                    fqn.clone(),
                    Flight {
                        action: *action,
                        started: now,
                    },
                );
                if !quiet && !self.options.live {
                    let style = style::of_action(*action);
                    progress(
                        out,
                        format!(
                            "{} {:<9} {} {}",
                            paint(style, action.sign()),
                            action.progressive(),
                            fqn.within_stage(),
                            paint(style::FAINT, format!("({kind})"))
                        ),
                    );
                }
            }
            Event::Progress { fqn, message } => {
                if !quiet {
                    progress(
                        out,
                        paint(
                            style::FAINT,
                            format!("  {:<9} {}  {message}", "..", fqn.within_stage()),
                        ),
                    );
                }
            }
            Event::Finished {
                fqn,
                action,
                physical_name,
                duration: took,
                ..
            } => {
                self.flights.remove(fqn);
                self.done += 1;
                if !quiet {
                    let name = if physical_name.is_empty() {
                        String::new()
                    } else {
                        format!("  {physical_name}")
                    };
                    progress(
                        out,
                        format!(
                            "  {} {}{name}  {}",
                            paint(style::of_action(*action), format!("{:<9}", action.past())),
                            fqn.within_stage(),
                            paint(style::FAINT, duration(*took))
                        ),
                    );
                }
            }
            Event::Failed(failure) => {
                self.flights.remove(&failure.fqn);
                self.done += 1;
                // What Ctrl-C kept from starting is told once, at the end.
                if !quiet && !failure.was_stopped() {
                    progress(
                        out,
                        format!(
                            "  {} {}  {}",
                            paint(style::BAD, format!("{:<9}", "failed")),
                            failure.fqn.within_stage(),
                            first_line(&failure.cause.to_string())
                        ),
                    );
                }
            }
            Event::Skipped { fqn, because } => {
                self.flights.remove(fqn);
                self.done += 1;
                if !quiet {
                    progress(
                        out,
                        format!(
                            "  {} {}  because {} failed",
                            paint(style::CHANGE, format!("{:<9}", "skipped")),
                            fqn.within_stage(),
                            because.within_stage()
                        ),
                    );
                }
            }
            Event::Print(text) => out.push(Line {
                stream: Stream::Out,
                text: text.clone(),
            }),
            Event::Log { message, position } => {
                let text = match position {
                    Some(position) => format!("{position}: {message}"),
                    None => message.clone(),
                };
                if !quiet {
                    progress(out, text);
                }
            }
            Event::Diagnostic(diagnostic) => self.diagnostic(diagnostic, out),
            Event::RunFinished(summary) => self.finished(summary, out),
        }
    }

    /// Shows a diagnostic.
    pub fn diagnostic(&self, diagnostic: &Diagnostic, out: &mut Vec<Line>) {
        progress(out, frame::render(diagnostic, self.options.width));
    }

    fn finished(&mut self, summary: &Summary, out: &mut Vec<Line>) {
        self.flights.clear();
        // Besides plans, dry runs of deletes say what they would do.
        if summary.phase == Phase::Plan || !self.plan.is_empty() {
            out.push(Line {
                stream: Stream::Out,
                text: diff::render(&self.plan, self.options.detail),
            });
            self.plan.clear();
        }
        let diagnostics = unhandled(summary, &self.options.explain);
        for diagnostic in diagnostics.iter().take(MANY) {
            self.diagnostic(diagnostic, out);
        }
        if diagnostics.len() > MANY {
            let more = plural(diagnostics.len() - MANY, "more failure");
            progress(out, format!("and {more}, named above"));
        }
        let changes = !matches!(summary.phase, Phase::Plan | Phase::Read | Phase::Drift);
        if !summary.left.is_empty() && summary.outcome != Outcome::Succeeded && changes {
            let mut text = paint(style::STRONG, "still there:");
            for fqn in summary.left.iter().take(MANY) {
                text.push_str("\n  ");
                text.push_str(fqn.within_stage());
            }
            if summary.left.len() > MANY {
                let more = summary.left.len() - MANY;
                text.push_str(&format!("\n  and {more} more; `alch state ls` lists them"));
            }
            progress(out, text);
        }
        if summary.unreached > 0 && summary.outcome != Outcome::Cancelled && changes {
            let text = match summary.unreached {
                1 => "1 resource was not reached and stays".to_owned(),
                count => format!("{count} resources were not reached and stay"),
            };
            progress(out, text);
        }
        if summary.outcome == Outcome::Cancelled {
            let text = match changes {
                true => "stopped; what was done is recorded, and the next run goes on from there",
                false => "stopped; nothing was changed",
            };
            progress(out, text.to_owned());
        }
        let silent = !changes
            || (self.options.verbosity == Verbosity::Quiet
                && summary.outcome == Outcome::Succeeded);
        if !silent {
            self.totals = Some(totals(summary));
        }
    }

    /// Time passes: says that things are alive when nothing was said for long.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Line>) {
        if self.options.verbosity == Verbosity::Quiet
            || now.saturating_sub(self.last_line) < SIGN_OF_LIFE
        {
            return;
        }
        let oldest = self.flights.iter().min_by_key(|(_, flight)| flight.started);
        let text = if let Some((fqn, flight)) = oldest {
            let others = match self.flights.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!(
                "  still {} {} ({}){others}",
                flight.action.progressive(),
                fqn.within_stage(),
                seconds(now.saturating_sub(flight.started))
            )
        } else if let Some(since) = self.waiting_since {
            format!(
                "  still waiting for the lock ({})",
                seconds(now.saturating_sub(since))
            )
        } else {
            return;
        };
        self.last_line = now;
        progress(out, paint(style::FAINT, text));
    }

    /// The live line for terminals: how much is done and what is in flight.
    #[must_use]
    pub fn status(&self, now: Duration) -> Option<String> {
        if !self.options.live || self.flights.is_empty() {
            return None;
        }
        let mut flights: Vec<(&Fqn, &Flight)> = self.flights.iter().collect();
        flights.sort_by_key(|(_, flight)| flight.started);
        let names: Vec<String> = flights
            .iter()
            .take(4)
            .map(|(fqn, flight)| {
                format!(
                    "{} {}",
                    fqn.within_stage(),
                    seconds(now.saturating_sub(flight.started))
                )
            })
            .collect();
        let more = match flights.len().saturating_sub(4) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text = format!(
            "{} done, {} in flight: {}{more}",
            self.done,
            flights.len(),
            names.join(", ")
        );
        let width = self.options.width.unwrap_or(80).saturating_sub(1);
        Some(text.chars().take(width).collect())
    }
}

fn progress(out: &mut Vec<Line>, text: String) {
    out.push(Line {
        stream: Stream::Err,
        text,
    });
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn seconds(value: Duration) -> String {
    if value.as_secs() < 60 {
        format!("{} s", value.as_secs())
    } else {
        duration(value)
    }
}

#[cfg(test)]
pub(crate) mod tests;
