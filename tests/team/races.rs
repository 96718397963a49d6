//! Many processes that want one stage in a bucket at the same moment: as `tests/races.rs`, whose rounds these are.

use super::{address, folder, with_keys};
use crate::{
    races::{number, race},
    support::{Project, s3},
};

/// Rounds where no variable says otherwise.
const ROUNDS: usize = 10;

#[test]
fn of_many_processes_one_gets_the_stage_in_a_bucket_and_the_others_exit_75() {
    let Some(server) = s3::server() else { return };
    let mut project = Project::new();
    with_keys(&mut project);
    project.env("ALCHEMY_STATE_STORE", &address(&server.endpoint, &folder()));
    let counts = race(&project, number("ALCH_TEAM_RACE_ROUNDS", ROUNDS));
    println!("state in a bucket: {counts}");
}
