//! One case: a scenario on a cloud, its kills, and what is looked at after each.

use std::{
    fmt,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::Command,
    str::FromStr,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    inventory::{Inventory, in_the_cloud, is_counted, lost_results, messages, recorded, strays},
    proxy::{Moment, Proxy},
    scenarios::{ALL, FILES, Scenario},
};
use crate::support::{Project, cloud::ServedCloud};

/// How long any run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a run is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// At the n-th request, from 1.
    Request(usize, Moment),
    /// After so many thousandths of the time that a run without a kill takes.
    Time(u32),
}

/// A scenario with its kills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// Its place in [`ALL`].
    pub(super) scenario: usize,
    /// Whether the cloud is in the killed process, and dies with it.
    in_process: bool,
    kills: Vec<Kill>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.in_process { "inside" } else { "served" };
        write!(f, "{}/{place}", ALL[self.scenario].name)?;
        for kill in &self.kills {
            match kill {
                Kill::Request(nth, moment) => write!(f, "/{}:{nth}", moment.name())?,
                Kill::Time(share) => write!(f, "/time:{share}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let scenario = ALL.iter().position(|scenario| scenario.name == name);
        let in_process = match parts.next() {
            Some("inside") => true,
            Some("served") => false,
            _ => return Err("expected `inside` or `served`".to_owned()),
        };
        let kills = parts.map(|part| {
            let (when, number) = part.split_once(':').ok_or("expected `when:number`")?;
            let number: usize = number.parse().map_err(|_| "expected a number")?;
            let moment = Moment::ALL.into_iter().find(|one| one.name() == when);
            match moment {
                Some(moment) => Ok(Kill::Request(number, moment)),
                None if when == "time" => Ok(Kill::Time(u32::try_from(number).unwrap_or(1000))),
                None => Err(format!("no such moment: {when}")),
            }
        });
        Ok(Self {
            scenario: scenario.ok_or("no such scenario")?,
            in_process,
            kills: kills.collect::<Result<_, String>>()?,
        })
    }
}

/// What a scenario comes to without a kill.
pub(super) struct Sound {
    /// Requests of the run that is to be killed.
    pub(super) requests: usize,
    /// How long it takes.
    duration: Duration,
    /// What is there in the end.
    result: Inventory,
}

/// Counts over cases.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) kills: usize,
    pub(super) readable: usize,
    pub(super) orphans: usize,
    pub(super) duplicates: usize,
    pub(super) lost: usize,
    pub(super) not_converged: usize,
    pub(super) quicker: usize,
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) body: usize,
    pub(super) timed: usize,
    pub(super) second: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.readable += other.readable;
        self.orphans += other.orphans;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.not_converged += other.not_converged;
        self.quicker += other.quicker;
        self.before += other.before;
        self.after += other.after;
        self.body += other.body;
        self.timed += other.timed;
        self.second += other.second;
    }

    fn killed(&mut self, kill: Kill, earlier: usize) {
        self.kills += 1;
        self.second += usize::from(earlier > 0);
        *match kill {
            Kill::Request(_, Moment::Before) => &mut self.before,
            Kill::Request(_, Moment::After) => &mut self.after,
            Kill::Request(_, Moment::Body) => &mut self.body,
            Kill::Time(_) => &mut self.timed,
        } += 1;
    }
}

/// Every single kill at a request, in an order that the seed gives.
pub(super) fn points(sounds: &[Sound], seed: u64) -> Vec<Case> {
    let mut all = Vec::new();
    for (scenario, sound) in sounds.iter().enumerate() {
        for nth in 1..=sound.requests {
            all.extend(Moment::ALL.map(|moment| Case {
                scenario,
                in_process: false,
                kills: vec![Kill::Request(nth, moment)],
            }));
        }
    }
    let mut random = StdRng::seed_from_u64(seed);
    for index in (1..all.len()).rev() {
        all.swap(index, random.random_range(0..=index));
    }
    all
}

/// The n-th case of a seed: two of three are single points while they last, the others kill twice, or at a random time.
pub(super) fn nth(index: usize, points: &[Case], sounds: &[Sound], seed: u64) -> Case {
    if index % 3 != 2
        && let Some(case) = points.get(index - index / 3)
    {
        return case.clone();
    }
    let mut random = StdRng::seed_from_u64(seed ^ ((index as u64 + 1) << 20));
    let scenario = random.random_range(0..sounds.len());
    let requests = sounds[scenario].requests;
    let inside = random.random_range(0..4) == 0;
    let mut at = |in_process: bool, up_to: usize| {
        if in_process || random.random_range(0..3) == 0 {
            return Kill::Time(random.random_range(0..1000));
        }
        let moment = Moment::ALL[random.random_range(0..3)];
        Kill::Request(random.random_range(1..=up_to), moment)
    };
    let mut kills = vec![at(inside, requests)];
    if index % 5 < 3 {
        // A recovery has less to do.
        kills.push(at(inside, requests.div_ceil(2)));
    }
    Case {
        scenario,
        in_process: inside,
        kills,
    }
}

/// A project, and the cloud that it deploys to.
struct Place {
    project: Project,
    served: Option<(Proxy, ServedCloud)>,
}

/// How a run ended.
struct Ended {
    code: Option<i32>,
    killed: bool,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Place {
    fn new(in_process: bool) -> Self {
        let mut project = Project::new();
        for (name, content) in FILES {
            project.file(name, content);
        }
        let served = (!in_process).then(|| {
            let cloud = ServedCloud::quick();
            let proxy = Proxy::start(&cloud.base_url());
            cloud.serve_to(&mut project);
            project.env("CLOUDFLARE_API_BASE_URL", &proxy.base_url());
            (proxy, cloud)
        });
        Self { project, served }
    }

    fn script(&self, script: &str) {
        self.project.file("alchemy.run.rhai", script);
    }

    fn cloud(&self) -> PathBuf {
        match &self.served {
            Some((_, cloud)) => cloud.folder(),
            None => self.project.path(".alchemy/local"),
        }
    }

    fn inventory(&self) -> Result<Inventory, String> {
        in_the_cloud(&self.cloud())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let target = if self.served.is_some() {
            "cloudflare"
        } else {
            "local"
        };
        // A destroy knows its target from state.
        let more: &[&str] = if arguments[0] == "run" {
            &["--target", target, "--json"]
        } else {
            &["--json"]
        };
        self.project.command(arguments.iter().chain(more))
    }

    /// Runs a command to its end, or to its kill.
    fn run(
        &self,
        arguments: &[&str],
        kill: Option<Kill>,
        sound: Duration,
    ) -> Result<Ended, String> {
        let proxy = self.served.as_ref().map(|(proxy, _)| proxy);
        let trap = match kill {
            Some(Kill::Request(nth, moment)) => Some((nth, moment)),
            _ => None,
        };
        if let Some(proxy) = proxy {
            proxy.set(trap);
        }
        let logs = ["stdout", "stderr"].map(|name| self.project.home().join(name));
        let file = |index: usize| std::fs::File::create(&logs[index]).unwrap();
        let mut command = self.command(arguments);
        let begun = Instant::now();
        let mut child = command.stdout(file(0)).stderr(file(1)).spawn().unwrap();
        let due = match kill {
            Some(Kill::Time(share)) => Some(begun + sound * share / 1000),
            _ => None,
        };
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            let caught = trap.is_some() && proxy.is_some_and(|proxy| proxy.caught(Duration::ZERO));
            let late = begun.elapsed() > PATIENCE;
            if caught || late || due.is_some_and(|due| Instant::now() >= due) {
                child.kill().unwrap();
                let status = child.wait().unwrap();
                if late {
                    return Err(format!("{arguments:?} did not end in {PATIENCE:?}"));
                }
                break status;
            }
            let pause = Duration::from_millis(1);
            match proxy {
                Some(proxy) if trap.is_some() => {
                    proxy.caught(pause);
                }
                _ => std::thread::sleep(pause),
            }
        };
        let took = begun.elapsed();
        if let Some((proxy, _)) = &self.served {
            let count = proxy.count();
            proxy.release();
            if !proxy.settle() {
                return Err(format!(
                    "the cloud does not come to rest after {count} requests"
                ));
            }
        }
        let read = |index: usize| std::fs::read_to_string(&logs[index]).unwrap();
        let ended = Ended {
            code: status.code(),
            killed: status.signal() == Some(9),
            stdout: read(0),
            stderr: read(1),
            took,
        };
        if ended.stderr.contains("panicked") {
            return Err(format!("a panic: {}", ended.stderr));
        }
        Ok(ended)
    }

    /// Runs a command that must succeed.
    fn good(&self, arguments: &[&str], codes: &[i32]) -> Result<Ended, String> {
        let ended = self.run(arguments, None, Duration::ZERO)?;
        if ended.code.is_some_and(|code| codes.contains(&code)) {
            return Ok(ended);
        }
        Err(format!(
            "`{}` ended with {:?}:\n{}{}",
            arguments.join(" "),
            ended.code,
            ended.stdout,
            ended.stderr
        ))
    }

    /// Requests of the last run.
    fn requests(&self) -> usize {
        self.served.as_ref().map_or(0, |(proxy, _)| proxy.count())
    }
}

/// Measures a scenario without a kill.
pub(super) fn sound(scenario: &Scenario) -> Sound {
    let measured = || -> Result<Sound, String> {
        let place = Place::new(false);
        if let Some(before) = scenario.before {
            place.script(before);
            place.good(&["run"], &[0])?;
        }
        place.script(scenario.killed);
        let ended = place.good(scenario.command, &[0])?;
        let requests = place.requests();
        if scenario.then != scenario.killed {
            place.script(scenario.then);
            place.good(scenario.command, &[0])?;
        }
        Ok(Sound {
            requests,
            duration: ended.took,
            result: place.inventory()?,
        })
    };
    measured().unwrap_or_else(|problem| panic!("`{}` without a kill: {problem}", scenario.name))
}

/// Plays a case, adding to the tally.
pub(super) fn play(case: &Case, sound: &Sound, tally: &mut Tally) -> Result<(), String> {
    let scenario = &ALL[case.scenario];
    let place = Place::new(case.in_process);
    if let Some(before) = scenario.before {
        place.script(before);
        place.good(&["run"], &[0])?;
    }
    place.script(scenario.killed);
    let mut left = Inventory::new();
    for (index, kill) in case.kills.iter().enumerate() {
        let ended = place.run(scenario.command, Some(*kill), sound.duration)?;
        // Also of a run that was quicker than its kill: a destroy may have come to its end.
        left = place.inventory()?;
        if !ended.killed {
            tally.quicker += 1;
            break;
        }
        tally.killed(*kill, index);
        readable(&place, &ended, &left, tally)?;
        // A changed script comes after the first kill, and is killed as well.
        place.script(scenario.then);
    }
    place.script(scenario.then);
    converged(&place, scenario, sound, &left).inspect_err(|_| tally.not_converged += 1)?;
    compare(&place, sound, &left, tally)
}

/// Ends the case unless state can be read after a kill and holds what the run had printed.
fn readable(
    place: &Place,
    ended: &Ended,
    left: &Inventory,
    tally: &mut Tally,
) -> Result<(), String> {
    // 6 says that there is no state: right only where nothing is there that it could be about.
    let codes: &[i32] = if left.is_empty() { &[0, 6] } else { &[0] };
    let listed = place.good(&["state", "ls"], codes)?;
    tally.readable += 1;
    let state = match listed.code {
        Some(0) => recorded(&listed.stdout)?,
        _ => Vec::new(),
    };
    let lost = lost_results(&ended.stdout, &state);
    tally.lost += lost.len();
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!("printed, and not in state: {lost:#?}\n{state:#?}"))
}

/// Ends the case unless one clean run succeeds and the next calls nothing.
fn converged(
    place: &Place,
    scenario: &Scenario,
    sound: &Sound,
    left: &Inventory,
) -> Result<(), String> {
    // A destroy that had done everything finds no stage any more.
    let gone = scenario.command[0] == "destroy" && left.is_empty();
    let clean = place.good(scenario.command, if gone { &[0, 6] } else { &[0] })?;
    let next = place.good(
        scenario.command,
        if sound.result.is_empty() { &[6] } else { &[0] },
    )?;
    let calls = messages(&next.stdout)
        .find(|message| message["type"] == "change_summary")
        .map_or(0, |summary| summary["calls"].as_u64().unwrap_or(u64::MAX));
    if (calls, place.requests()) == (0, 0) {
        return Ok(());
    }
    Err(format!(
        "the second run made {calls} calls:\n{}\nafter\n{}",
        next.stdout, clean.stdout
    ))
}

/// Ends the case unless cloud, state and the run without a kill agree.
fn compare(
    place: &Place,
    sound: &Sound,
    left: &Inventory,
    tally: &mut Tally,
) -> Result<(), String> {
    let cloud = place.inventory()?;
    let listed = place.good(
        &["state", "ls"],
        if cloud.is_empty() { &[0, 6] } else { &[0] },
    )?;
    let state = match listed.code {
        Some(0) => recorded(&listed.stdout)?,
        _ => Vec::new(),
    };
    let mut problems = Vec::new();
    let mut names: Vec<_> = state.iter().map(|one| one.name.clone()).collect();
    names.retain(is_counted);
    for name in cloud.keys().filter(|name| !names.contains(name)) {
        tally.orphans += 1;
        problems.push(format!("in the cloud, and not in state: {name:?}"));
    }
    for stray in strays(&place.cloud(), &cloud) {
        tally.orphans += 1;
        problems.push(format!("a file of no database: {stray}"));
    }
    for name in names.iter().filter(|name| !cloud.contains_key(name)) {
        tally.lost += 1;
        problems.push(format!("in state, and not in the cloud: {name:?}"));
    }
    for one in state.iter().filter(|one| one.status != "ready") {
        problems.push(format!("not ready: {one:?}"));
    }
    for (name, object) in &cloud {
        match sound.result.get(name) {
            None => {
                tally.duplicates += 1;
                problems.push(format!("nobody asked for it: {name:?}"));
            }
            Some(expected) if expected.content != object.content => {
                tally.lost += 1;
                problems.push(format!(
                    "{name:?} holds\n  {}\ninstead of\n  {}",
                    object.content, expected.content
                ));
            }
            Some(_) => {}
        }
        if left.get(name).is_some_and(|before| before.id != object.id) {
            tally.lost += 1;
            problems.push(format!("made anew: {name:?}"));
        }
    }
    for name in sound.result.keys().filter(|name| !cloud.contains_key(name)) {
        tally.lost += 1;
        problems.push(format!("missing: {name:?}"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(problems.join("\n"))
}
