//! Objects that go or change behind alch's back: `--refresh` and `drift --repair` bring them back, also through death between
//! every two effects.

use alch::{
    engine::{Action, Outcome},
    model::Value,
};

use super::{
    harness::{Simulation, planned},
    scenario::{
        Blow, CloudFault, Command, Kind, Lost, Meddling, Moment, Program, Step, Thing, thing,
    },
};

/// Three things, one of which refers to another in all three ways.
fn chain() -> Vec<Thing> {
    vec![
        thing("a", 1),
        thing("b", 2).uses(&["a", "a", "a"]),
        thing("c", 3),
    ]
}

/// The chain, deployed; then somebody else deletes `a` and changes `c`.
fn drifted(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    simulation.live(&step(Command::Up)).summary();
    let mut stock = simulation.cloud.stock.lock().unwrap();
    stock.remove_named("a-here");
    stock.change("c-here", |object| object.value = Value::Int(99));
    drop(stock);
    simulation
}

fn step(command: Command) -> Step {
    Step {
        command,
        ..Step::up(Program::of(chain()))
    }
}

/// A look at everything before the plan is made.
fn refreshed_plan() -> Step {
    Step {
        looks: true,
        ..step(Command::Plan)
    }
}

#[test]
fn a_run_that_does_not_look_calls_nothing_and_sees_nothing() {
    let mut simulation = drifted(1);
    let ended = simulation.live(&step(Command::Up));
    assert_eq!(ended.calls, 0);
    assert_eq!(ended.summary().count(Action::Unchanged), 3);
}

#[test]
fn a_refreshed_run_looks_once_and_brings_back_what_the_script_says() {
    let mut simulation = drifted(2);
    let plan = simulation.live(&refreshed_plan());
    assert_eq!(plan.calls, 1, "one list for three things");
    assert_eq!(planned(&plan.plan, Action::Create), 1);
    // `c` was changed, and `b` refers to an object that will be another one.
    assert_eq!(planned(&plan.plan, Action::Update), 2);
    let ended = simulation.live(&step(Command::Refresh));
    let summary = ended.summary();
    assert_eq!(summary.count(Action::Create), 1);
    assert_eq!(summary.count(Action::Update), 2);
    simulation.assert_settled(&chain(), "after a refreshed run");
    let again = simulation.live(&step(Command::Refresh));
    assert_eq!(again.calls, 1);
    assert_eq!(again.summary().count(Action::Unchanged), 3);
}

#[test]
fn a_repair_needs_no_script_and_the_script_then_finds_nothing_to_do() {
    let mut simulation = drifted(3);
    let summary = simulation.live(&step(Command::Repair));
    assert_eq!(summary.summary().outcome, Outcome::Succeeded);
    assert_eq!(summary.summary().count(Action::Create), 1);
    assert_eq!(summary.summary().count(Action::Update), 2);
    simulation.assert_settled(&chain(), "after a repair");
    let run = simulation.live(&step(Command::Up));
    assert_eq!(run.calls, 0);
    assert_eq!(run.summary().count(Action::Unchanged), 3);
    // Dependencies are what they were: a destroy still takes `b` before `a`.
    let ended = simulation.live(&step(Command::Destroy));
    let lines = ended.lines();
    let place = |line: &str| lines.iter().position(|other| other == line);
    assert!(place("deleted app/dev/b") < place("deleted app/dev/a"));
}

#[test]
fn a_repair_that_is_refused_leaves_state_as_it_was() {
    let mut simulation = drifted(4);
    // Somebody else's object has the name now.
    let repair = Step {
        meddling: vec![Meddling::Make {
            kind: Kind::Thing,
            name: "a-here".to_owned(),
        }],
        ..step(Command::Repair)
    };
    let before = simulation.state().records;
    let ended = simulation.live(&repair);
    assert_eq!(ended.summary().outcome, Outcome::Partial);
    let after = simulation.state().records;
    let a = before.keys().next().unwrap();
    assert_eq!(before[a], after[a], "state still says what it said");
    let stock = simulation.cloud.stock.lock().unwrap();
    let other = stock.named(Kind::Thing, "a-here").unwrap();
    assert_eq!(other.maker, None);
    assert_eq!(other.value, Value::Int(-1), "it was left alone");
}

/// Dies at each of these, and then does the same once more without dying.
fn die_and_recover(command: Command, blow: Blow) -> Option<()> {
    let context = format!("{command:?} struck by {blow:?}");
    let mut simulation = drifted(5);
    if !simulation.live(&step(command).struck(blow)).died() {
        return None;
    }
    let ended = simulation.live(&step(command));
    assert_eq!(ended.summary().outcome, Outcome::Succeeded, "{context}");
    simulation.assert_settled(&chain(), &context);
    let again = simulation.live(&step(Command::Up));
    assert_eq!(again.calls, 0, "{context}: the next run calls nothing");
    Some(())
}

#[test]
fn death_between_any_two_effects_is_made_good_by_doing_it_again() {
    for command in [Command::Refresh, Command::Repair] {
        for fault in [CloudFault::DieBefore, CloudFault::DieAfter] {
            let blow = |request| Blow::Cloud { request, fault };
            let requests =
                (0..500).take_while(|request| die_and_recover(command, blow(*request)).is_some());
            assert!(requests.count() > 3, "{command:?}");
        }
        for moment in Moment::ALL {
            let effects = (1..500).take_while(|effect| {
                let blow = Blow::Power {
                    effect: *effect,
                    moment,
                    lost: Lost::Everything,
                };
                die_and_recover(command, blow).is_some()
            });
            assert!(effects.count() > 8, "{command:?}");
        }
    }
}
