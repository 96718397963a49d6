//! What the engine does with declarations, without crashes.

use std::sync::Arc;

use alch::{
    engine::{Action, FailureCause, Outcome, Plan, RunError},
    state::Status,
};

use super::{
    harness::{Ended, Simulation, planned},
    scenario::{Command, Deletes, Program, Step, Thing, thing},
};

fn step(things: &[Thing]) -> Step {
    Step::up(Program::of(things))
}

fn up(simulation: &mut Simulation, things: &[Thing]) -> Ended {
    simulation.live(&step(things))
}

fn plan_of(simulation: &mut Simulation, things: &[Thing]) -> Plan {
    let planning = Step {
        command: Command::Plan,
        ..step(things)
    };
    simulation.live(&planning).plan
}

#[test]
fn a_second_run_calls_nothing() {
    let mut simulation = Simulation::new(1);
    let things = [thing("a", 1), thing("b", 2).uses(&["a"])];
    assert_eq!(
        up(&mut simulation, &things).summary().count(Action::Create),
        2
    );
    let serial = simulation.state().serial;
    let again = up(&mut simulation, &things);
    assert_eq!(again.calls, 0);
    assert_eq!(again.summary().count(Action::Unchanged), 2);
    assert_eq!(simulation.state().serial, serial, "a no-op writes nothing");
    simulation.assert_settled(&things, "after two runs");
}

#[test]
fn one_changed_prop_is_one_update_and_does_not_cascade() {
    let mut simulation = Simulation::new(2);
    up(
        &mut simulation,
        &[thing("a", 1), thing("b", 2).uses(&["a", "a"])],
    );
    let things = [thing("a", 5), thing("b", 2).uses(&["a", "a"])];
    let ended = up(&mut simulation, &things);
    assert_eq!(ended.summary().count(Action::Update), 1);
    assert_eq!(ended.summary().count(Action::Unchanged), 1);
    simulation.assert_settled(&things, "after the update");
}

#[test]
fn a_replacement_reaches_those_that_refer_to_it() {
    let mut simulation = Simulation::new(3);
    up(
        &mut simulation,
        &[thing("a", 1), thing("b", 2).uses(&["a", "a"])],
    );
    let things = [thing("a", 1).at("there"), thing("b", 2).uses(&["a", "a"])];
    let ended = up(&mut simulation, &things);
    assert_eq!(ended.summary().count(Action::Replace), 1);
    assert_eq!(ended.summary().count(Action::Update), 1);
    simulation.assert_settled(&things, "after the replacement");
    let order = ended.lines();
    let place = |line: &str| order.iter().position(|other| other == line).unwrap();
    let created = place("replaced app/dev/a");
    let deleted = place("deleted app/dev/a");
    assert!(
        created < deleted,
        "the new object stands before the old one goes"
    );
}

#[test]
fn what_is_no_longer_declared_goes_in_reverse_order() {
    for deletes in [Deletes::Sequential, Deletes::Parallel, Deletes::Batched] {
        let mut simulation = Simulation::new(4);
        let chain = [
            thing("a", 1),
            thing("b", 2).uses(&["a"]),
            thing("c", 3).uses(&["b"]),
        ];
        up(&mut simulation, &chain);
        let ended = simulation.live(&Step {
            deletes,
            ..Step::default()
        });
        let mut deleted = ended.lines();
        deleted.retain(|line| line.starts_with("deleted"));
        assert_eq!(
            deleted,
            [
                "deleted app/dev/c",
                "deleted app/dev/b",
                "deleted app/dev/a"
            ]
        );
        simulation.assert_settled(&[], "after all went");
    }
}

#[test]
fn independent_things_run_side_by_side_and_a_chain_does_not() {
    let mut simulation = Simulation::new(5);
    let wide: Vec<Thing> = (0..40)
        .map(|index| thing(&format!("t{index}"), index))
        .collect();
    let ended = simulation.live(&Step {
        concurrency: 40,
        ..step(&wide)
    });
    ended.summary();
    assert_eq!(*simulation.cloud.most_in_flight.lock().unwrap(), 40);

    let mut simulation = Simulation::new(6);
    let chain = [
        thing("a", 1),
        thing("b", 2).uses(&["a"]),
        thing("c", 3).uses(&["b"]),
    ];
    up(&mut simulation, &chain);
    assert_eq!(*simulation.cloud.most_in_flight.lock().unwrap(), 1);
}

#[test]
fn a_failure_spares_what_does_not_depend_on_it() {
    let mut simulation = Simulation::new(7);
    // Somebody else's object stands in the way of `a`.
    up(&mut simulation, &[thing("a", 9)]);
    simulation.disk.forget();
    let things = [thing("a", 1), thing("b", 2).uses(&["a"]), thing("c", 3)];
    let ended = up(&mut simulation, &things);
    let summary = ended.summary();
    assert_eq!(summary.outcome, Outcome::Partial);
    assert_eq!(summary.failed.len(), 1);
    assert_eq!(summary.skipped.len(), 1);
    assert_eq!(summary.count(Action::Create), 1);
    let state = simulation.state();
    assert_eq!(state.records.len(), 1, "a conflict leaves no record behind");
}

#[test]
fn adoption_takes_an_object_over_and_destroy_keeps_it() {
    let mut simulation = Simulation::new(8);
    up(&mut simulation, &[thing("a", 9)]);
    simulation.disk.forget();
    let things = [thing("a", 1).adopting()];
    let ended = up(&mut simulation, &things);
    assert_eq!(ended.summary().count(Action::Adopt), 1);
    simulation.assert_settled(&things, "after adoption");
    let ended = simulation.live(&Step::destroy());
    assert_eq!(ended.summary().count(Action::Forget), 1);
    assert_eq!(simulation.cloud.stock.lock().unwrap().all().count(), 1);
}

#[test]
fn a_protected_thing_is_neither_replaced_nor_deleted() {
    let mut simulation = Simulation::new(9);
    up(&mut simulation, &[thing("a", 1).protected()]);
    let ended = up(&mut simulation, &[thing("a", 1).at("there").protected()]);
    assert!(matches!(
        ended.summary().failed[0].cause,
        FailureCause::Protected
    ));
    let ended = up(&mut simulation, &[]);
    assert_eq!(ended.summary().outcome, Outcome::Partial);
    assert_eq!(ended.summary().left.len(), 1);
    simulation.assert_settled(&[thing("a", 1).protected()], "after two refusals");
}

#[test]
fn a_failed_delete_is_listed_and_tried_again() {
    let mut simulation = Simulation::new(10);
    up(&mut simulation, &[thing("a", 1), thing("b", 2)]);
    simulation
        .cloud
        .undeletable
        .lock()
        .unwrap()
        .insert("a-here".to_owned());
    let ended = simulation.live(&Step::destroy());
    assert_eq!(ended.summary().outcome, Outcome::Partial);
    assert_eq!(ended.summary().left.len(), 1);
    assert_eq!(
        simulation.state().records.values().next().unwrap().status,
        Status::Deleting
    );
    simulation.cloud.undeletable.lock().unwrap().clear();
    let ended = simulation.live(&Step::destroy());
    assert_eq!(ended.summary().outcome, Outcome::Succeeded);
    assert_eq!(simulation.cloud.stock.lock().unwrap().all().count(), 0);
}

#[test]
fn destroying_a_stage_that_has_no_state_says_so() {
    let mut simulation = Simulation::new(11);
    let ended = simulation.live(&Step::destroy());
    assert!(matches!(
        ended.result,
        Some(Err(RunError::NoSuchStage { .. }))
    ));
}

#[test]
fn a_plan_says_what_a_run_does_and_writes_nothing() {
    let mut simulation = Simulation::new(12);
    up(
        &mut simulation,
        &[
            thing("a", 1),
            thing("b", 2).uses(&["a", "a", "a"]),
            thing("c", 3),
        ],
    );
    let before = simulation.state();
    let things = [
        thing("a", 1).at("there"),
        thing("b", 2).uses(&["a", "a", "a"]),
        thing("d", 4),
    ];
    let plan = plan_of(&mut simulation, &things);
    assert_eq!(simulation.state().serial, before.serial);
    for (action, count) in [
        (Action::Create, 1),
        (Action::Replace, 1),
        (Action::Update, 1),
        (Action::Delete, 1),
        (Action::Unchanged, 0),
    ] {
        assert_eq!(planned(&plan, action), count, "{action:?}");
    }
    let ended = up(&mut simulation, &things);
    assert_eq!(
        ended.summary().count(Action::Delete),
        1,
        "the orphan; what was replaced is part of its replacement"
    );
    let plan = plan_of(&mut simulation, &things);
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn a_saved_plan_is_kept_to_and_refused_once_state_moved_on() {
    let mut simulation = Simulation::new(13);
    let things = [thing("a", 1)];
    let plan = Arc::new(plan_of(&mut simulation, &things));
    let mut apply = |things: &[Thing]| simulation.live_with(&step(things), Some(Arc::clone(&plan)));
    let ended = apply(&[thing("a", 1), thing("b", 1)]);
    assert!(matches!(
        ended.summary().failed[0].cause,
        FailureCause::StalePlan(_)
    ));
    let ended = apply(&things);
    assert!(matches!(
        ended.result,
        Some(Err(RunError::StalePlan { .. }))
    ));
}
