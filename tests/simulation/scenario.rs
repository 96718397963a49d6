//! The scenario language: programs and what befalls them, as plain data that prints, parses, shrinks and replays.

use alch::engine::DeleteStrategy;
use serde::{Deserialize, Serialize};

/// The kinds of the simulated cloud, each as hard as some real ones.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) enum Kind {
    /// Names are unique, objects carry no mark; a replacement is made before the old object goes.
    #[default]
    Thing,
    /// Names are not unique, objects carry a mark, and making one takes two requests.
    Note,
    /// As `Thing`, but the old object goes before its replacement is made.
    Rock,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Thing, Self::Note, Self::Rock];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thing => "sim::Thing",
            Self::Note => "sim::Note",
            Self::Rock => "sim::Rock",
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One declared thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thing {
    /// With its scopes: `database/main`.
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) kind: Kind,
    /// Changes in place.
    pub(crate) value: i64,
    /// Part of the name; another place is another object.
    #[serde(default = "here", skip_serializing_if = "is_here")]
    pub(crate) place: String,
    /// No part of the name; another soil is another object all the same.
    #[serde(default = "sand", skip_serializing_if = "is_sand")]
    pub(crate) soil: String,
    /// Ids of things declared before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) uses: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) secret: Option<String>,
    /// An explicit name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) protect: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) adopt: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) retain: bool,
}

fn here() -> String {
    "here".to_owned()
}

fn is_here(place: &String) -> bool {
    place == "here"
}

fn sand() -> String {
    "sand".to_owned()
}

fn is_sand(soil: &String) -> bool {
    soil == "sand"
}

/// A thing that refers to nothing.
pub(crate) fn thing(id: &str, value: i64) -> Thing {
    Thing {
        id: id.to_owned(),
        kind: Kind::Thing,
        value,
        place: here(),
        soil: sand(),
        uses: Vec::new(),
        secret: None,
        name: None,
        protect: false,
        adopt: false,
        retain: false,
    }
}

impl Thing {
    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn uses(mut self, ids: &[&str]) -> Self {
        self.uses = ids.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    pub(crate) fn at(mut self, place: &str) -> Self {
        self.place = place.to_owned();
        self
    }

    pub(crate) fn on(mut self, soil: &str) -> Self {
        self.soil = soil.to_owned();
        self
    }

    pub(crate) fn with_secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub(crate) fn protected(mut self) -> Self {
        self.protect = true;
        self
    }

    pub(crate) fn adopting(mut self) -> Self {
        self.adopt = true;
        self
    }

    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// What its object is called, unless it was renamed.
    pub(crate) fn object_name(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", self.id.replace('/', "."), self.place),
        }
    }
}

/// What a script says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    pub(crate) things: Vec<Thing>,
    /// Renames, told before anything is declared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) moved: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn of(things: impl Into<Vec<Thing>>) -> Self {
        Self {
            things: things.into(),
            moved: Vec::new(),
        }
    }

    pub(crate) fn moving(mut self, from: &str, to: &str) -> Self {
        self.moved.push((from.to_owned(), to.to_owned()));
        self
    }
}

/// What the person types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    #[default]
    Up,
    /// `run --refresh`
    Refresh,
    Plan,
    Destroy,
    /// `drift --repair`
    Repair,
}

/// How deletes go about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deletes {
    #[default]
    Sequential,
    Parallel,
    Batched,
}

impl Deletes {
    pub(crate) fn strategy(self) -> DeleteStrategy {
        match self {
            Self::Sequential => DeleteStrategy::Sequential,
            Self::Parallel => DeleteStrategy::Parallel,
            Self::Batched => DeleteStrategy::Batched(2),
        }
    }
}

/// Where in the course of an effect the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Moment {
    Before,
    Torn,
    After,
}

impl Moment {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::Torn, Self::After];
}

/// What is gone after the power failed of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lost {
    /// The process died, the machine did not.
    Nothing,
    Everything,
    Some(u64),
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CloudFault {
    /// The process dies as the request leaves: it never arrives.
    DieBefore,
    /// The process dies while the request is on its way: it arrives all the same.
    DieTorn,
    /// The process dies before the answer arrives.
    DieAfter,
    /// The answer comes after so many seconds.
    Slow(u32),
    /// Refused without a change.
    Refuse,
    /// Nothing was changed, and nobody knows that.
    LostBefore,
    /// It was done, and the answer is lost.
    LostAfter,
    /// It was done, and the answer comes too late for the time limit of the operation.
    TooSlowAfter,
    /// Somebody else makes an object of that name just before.
    Taken,
    /// Somebody else removes the object just before.
    Vanished,
    /// Somebody else changed the object: the cloud asks to look again.
    Contended,
    /// From now on the token is not valid.
    Expired,
    /// It was done, and the answer holds more than the kind knows.
    Strange,
    /// A list comes without its first page.
    PageMissing,
    /// A list holds things twice.
    PageTwice,
}

/// Something that goes wrong in a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Blow {
    /// At this request of the step, counted from 0.
    Cloud { request: u64, fault: CloudFault },
    /// The power fails at this effect of the disk, counted from 1.
    Power {
        effect: u64,
        moment: Moment,
        lost: Lost,
    },
    /// This call of the disk, counted from 0, fails with this error; of bytes the first half is written where it is short.
    Disk { call: u64, errno: i32, short: bool },
    /// After the end of the process the power fails.
    Outage { lost: Lost },
    /// Looks at the cloud see it as it was so many seconds ago.
    Stale { seconds: u32 },
}

/// What somebody else does to the cloud before a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Meddling {
    /// Makes an object.
    Make { kind: Kind, name: String },
    /// Removes the object of a thing.
    Remove { id: String },
    /// Sets its value.
    Change { id: String, value: i64 },
    /// Removes what somebody else made and no resource took over.
    GiveBack,
}

/// One run of the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) command: Command,
    pub(crate) program: Program,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) deletes: Deletes,
    /// Operations at once; 4 when 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) concurrency: usize,
    /// Seconds since the step before; 1,000 when 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) pause: u32,
    /// Whether it looks at the cloud first, which refreshed runs and repairs do anyway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) looks: bool,
    /// Whether a plan is made first, which the run must then keep to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) planned: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) meddling: Vec<Meddling>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) blows: Vec<Blow>,
}

impl Step {
    pub(crate) fn up(program: Program) -> Self {
        Self {
            program,
            ..Self::default()
        }
    }

    pub(crate) fn destroy() -> Self {
        Self {
            command: Command::Destroy,
            ..Self::default()
        }
    }

    pub(crate) fn struck(&self, blow: Blow) -> Self {
        let mut step = self.clone();
        step.blows.push(blow);
        step
    }
}

/// Everything that one case does; with its seed it does so again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

/// A scenario: what stands already, and the step that is looked at.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) before: Vec<Step>,
    pub(crate) step: Step,
}

impl Scenario {
    /// The step that makes everything as it was before, names too.
    pub(crate) fn taken_back(&self) -> Step {
        let before = self.before.iter().rev();
        let mut ups = before.filter(|step| step.command == Command::Up);
        let mut program = ups
            .next()
            .map_or_else(Program::default, |step| step.program.clone());
        let moved = self.step.program.moved.iter().rev();
        program.moved = moved.map(|(from, to)| (to.clone(), from.clone())).collect();
        Step::up(program)
    }
}

fn chain() -> Vec<Thing> {
    vec![
        thing("a", 1),
        thing("b", 2).kind(Kind::Note).uses(&["a"]),
        thing("c", 3).uses(&["a", "b", "a"]),
    ]
}

/// The scenarios of the gate.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let all = vec![
        ("create", vec![], Step::up(Program::of(chain()))),
        (
            "update",
            vec![Step::up(Program::of(chain()))],
            Step::up(Program::of([
                thing("a", 9),
                thing("b", 8).kind(Kind::Note).uses(&["a"]),
                thing("c", 3).uses(&["a", "b", "a"]),
            ])),
        ),
        (
            "replace, create first",
            vec![Step::up(Program::of(chain()))],
            Step::up(Program::of([
                thing("a", 1).at("there"),
                thing("b", 2).kind(Kind::Note).uses(&["a"]).at("there"),
                thing("c", 3).uses(&["a", "b", "a"]),
            ])),
        ),
        (
            "replace, delete first",
            vec![Step::up(Program::of([
                thing("a", 1).kind(Kind::Rock),
                thing("b", 2).uses(&["a"]),
                thing("c", 3).uses(&["b"]),
            ]))],
            Step::up(Program::of([
                thing("a", 1).kind(Kind::Rock).at("there"),
                thing("b", 2).uses(&["a"]),
                // The same name: the old object must go first, whatever its kind prefers.
                thing("c", 3).uses(&["b"]).on("rock"),
            ])),
        ),
        (
            "delete",
            vec![Step::up(Program::of(chain()))],
            Step {
                deletes: Deletes::Parallel,
                ..Step::up(Program::of([thing("a", 1)]))
            },
        ),
        (
            "nested scopes",
            vec![Step::up(Program::of([
                thing("web/a", 1),
                thing("web/inner/b", 2).uses(&["web/a"]),
                thing("old/c", 3),
            ]))],
            Step::up(Program::of([
                thing("web/a", 7),
                thing("web/inner/d", 4).kind(Kind::Note).uses(&["web/a"]),
                thing("new/deep/er/e", 5).uses(&["web/inner/d"]),
            ])),
        ),
        (
            "adopt",
            vec![Step::up(Program::of([thing("a", 1)]))],
            Step {
                meddling: vec![
                    Meddling::Make {
                        kind: Kind::Thing,
                        name: "z-here".to_owned(),
                    },
                    Meddling::Make {
                        kind: Kind::Rock,
                        name: "y-here".to_owned(),
                    },
                ],
                ..Step::up(Program::of([
                    thing("a", 1),
                    thing("y", 5).kind(Kind::Rock).adopting(),
                    thing("z", 2).adopting().uses(&["a"]),
                ]))
            },
        ),
        (
            "move",
            vec![Step::up(Program::of([
                thing("a", 1).with_secret("canary-moved-0"),
                thing("old/b", 2).uses(&["a"]),
                thing("old/c", 3).uses(&["old/b"]),
            ]))],
            Step::up(
                Program::of([
                    thing("A1", 1).with_secret("canary-moved-0"),
                    thing("new/b", 2).uses(&["A1"]),
                    thing("new/c", 4).uses(&["new/b"]),
                ])
                .moving("a", "A1")
                .moving("old", "new"),
            ),
        ),
        (
            "protected",
            vec![Step::up(Program::of([
                thing("a", 1).protected(),
                thing("b", 2).uses(&["a"]).protected(),
                thing("c", 3),
            ]))],
            Step::up(Program::of([
                thing("a", 1).at("there").protected(),
                thing("d", 4),
            ])),
        ),
        (
            "secret rotation",
            vec![Step::up(Program::of([
                thing("a", 1).with_secret("canary-first-0"),
                thing("b", 2).kind(Kind::Note).with_secret("canary-first-1"),
                thing("c", 3).uses(&["a"]).with_secret("canary-first-2"),
            ]))],
            Step::up(Program::of([
                thing("a", 1).with_secret("canary-second-0"),
                thing("b", 2)
                    .kind(Kind::Note)
                    .with_secret("canary-second-1"),
                thing("c", 3)
                    .uses(&["a"])
                    .at("there")
                    .with_secret("canary-first-2"),
            ])),
        ),
        (
            "destroy",
            vec![Step::up(Program::of([
                thing("a", 1).with_secret("canary-gone-0"),
                thing("web/b", 2).kind(Kind::Note).uses(&["a"]),
                thing("c", 3).retained(),
                thing("d", 4).uses(&["web/b"]),
            ]))],
            Step::destroy(),
        ),
        (
            "recovery",
            vec![
                Step::up(Program::of(chain())),
                // Dies in the middle of a create, an update and a replacement at once.
                Step::up(Program::of([
                    thing("a", 9),
                    thing("b", 8).kind(Kind::Note).at("there"),
                    thing("c", 5).uses(&["a"]),
                    thing("e", 5).kind(Kind::Note),
                ]))
                .struck(Blow::Cloud {
                    request: 3,
                    fault: CloudFault::DieAfter,
                }),
            ],
            Step::up(Program::of([
                thing("a", 4),
                thing("b", 8).kind(Kind::Note).at("there"),
                thing("c", 5).uses(&["a"]),
                thing("e", 5).kind(Kind::Note).on("rock"),
            ])),
        ),
    ];
    all.into_iter()
        .map(|(name, before, step)| Scenario { name, before, step })
        .collect()
}
