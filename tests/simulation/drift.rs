//! Objects that go or change behind alch's back: `--refresh` and `drift --repair` bring them back, also through death between
//! every two effects.

use alch::{
    engine::{Action, Outcome, Phase},
    model::Value,
    state::sim_disk::{Fault, Loss},
};

use super::harness::{Kill, Life, Simulation, Thing, planned, thing};

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
    simulation
        .live(&chain(), &Life::default())
        .unwrap()
        .summary();
    {
        let mut objects = simulation.cloud.objects.lock().unwrap();
        objects.remove("a-here").unwrap();
        objects.get_mut("c-here").unwrap().value = Value::Int(99);
    }
    simulation
}

fn life(phase: Phase) -> Life {
    Life {
        phase,
        refresh: true,
        ..Life::default()
    }
}

#[test]
fn a_run_that_does_not_look_calls_nothing_and_sees_nothing() {
    let mut simulation = drifted(1);
    let ended = simulation.live(&chain(), &Life::default()).unwrap();
    assert_eq!(ended.calls, 0);
    assert_eq!(ended.summary().count(Action::Unchanged), 3);
}

#[test]
fn a_refreshed_run_looks_once_and_brings_back_what_the_script_says() {
    let mut simulation = drifted(2);
    let plan = simulation.live(&chain(), &life(Phase::Plan)).unwrap();
    assert_eq!(plan.calls, 1, "one list for three things");
    assert_eq!(planned(&plan.plan, Action::Create), 1);
    // `c` was changed, and `b` refers to an object that will be another one.
    assert_eq!(planned(&plan.plan, Action::Update), 2);
    let ended = simulation.live(&chain(), &life(Phase::Up)).unwrap();
    let summary = ended.summary();
    assert_eq!(summary.count(Action::Create), 1);
    assert_eq!(summary.count(Action::Update), 2);
    simulation.assert_settled(&chain(), "after a refreshed run");
    let again = simulation.live(&chain(), &life(Phase::Up)).unwrap();
    assert_eq!(again.calls, 1);
    assert_eq!(again.summary().count(Action::Unchanged), 3);
}

#[test]
fn a_repair_needs_no_script_and_the_script_then_finds_nothing_to_do() {
    let mut simulation = drifted(3);
    let summary = simulation.live(&[], &life(Phase::Repair)).unwrap();
    assert_eq!(summary.summary().outcome, Outcome::Succeeded);
    assert_eq!(summary.summary().count(Action::Create), 1);
    assert_eq!(summary.summary().count(Action::Update), 2);
    simulation.assert_settled(&chain(), "after a repair");
    let run = simulation.live(&chain(), &Life::default()).unwrap();
    assert_eq!(run.calls, 0);
    assert_eq!(run.summary().count(Action::Unchanged), 3);
    // Dependencies are what they were: a destroy still takes `b` before `a`.
    let ended = simulation.live(&[], &life(Phase::Destroy)).unwrap();
    let place = |line: &str| ended.events.iter().position(|event| event == line);
    assert!(place("deleted app/dev/b") < place("deleted app/dev/a"));
}

#[test]
fn a_repair_that_is_refused_leaves_state_as_it_was() {
    let mut simulation = drifted(4);
    // Somebody else's object has the name now.
    let other = simulation.cloud.objects.lock().unwrap()["c-here"].clone();
    let other = super::world::Object {
        id: "foreign".to_owned(),
        ..other
    };
    simulation
        .cloud
        .objects
        .lock()
        .unwrap()
        .insert("a-here".to_owned(), other.clone());
    let before = simulation.state().records;
    let ended = simulation.live(&[], &life(Phase::Repair)).unwrap();
    assert_eq!(ended.summary().outcome, Outcome::Partial);
    let after = simulation.state().records;
    let a = before.keys().next().unwrap();
    assert_eq!(before[a], after[a], "state still says what it said");
    assert_eq!(simulation.cloud.objects.lock().unwrap()["a-here"], other);
}

/// Dies at each of these, and then does the same once more without dying.
fn die_and_recover(phase: Phase, kill: Kill) -> Option<()> {
    let context = format!("{} killed at {kill:?}", phase.as_str());
    let mut simulation = drifted(5);
    let things = if phase == Phase::Repair {
        Vec::new()
    } else {
        chain()
    };
    let dying = Life {
        kill,
        ..life(phase)
    };
    if simulation.live(&things, &dying).is_some() {
        return None;
    }
    let ended = simulation.live(&things, &life(phase)).unwrap();
    assert_eq!(ended.summary().outcome, Outcome::Succeeded, "{context}");
    simulation.assert_settled(&chain(), &context);
    let again = simulation.live(&chain(), &Life::default()).unwrap();
    assert_eq!(again.calls, 0, "{context}: the next run calls nothing");
    Some(())
}

#[test]
fn death_between_any_two_effects_is_made_good_by_doing_it_again() {
    for phase in [Phase::Up, Phase::Repair] {
        let requests =
            (0..500).take_while(|step| die_and_recover(phase, Kill::Cloud(*step)).is_some());
        assert!(requests.count() > 8, "{}", phase.as_str());
        for fault in [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter] {
            let effects = (1..500).take_while(|effect| {
                let kill = Kill::Disk(*effect, fault, Loss::Everything);
                die_and_recover(phase, kill).is_some()
            });
            assert!(effects.count() > 8, "{}", phase.as_str());
        }
    }
}
