//! A walk through the files of a stage, cut and with flipped bits, with the commands that meet them: told with what repairs, or harmless.
//!
//! Every length and every bit are the matter of `src/state/file/damage_tests.rs`; here are samples, and whole processes.

use std::io::Write as _;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::support::{Output, Project};

/// Samples of each kind for each file.
const SAMPLES: usize = 10;

/// Commands that meet state; the last one only where it was found damaged, as it would do its work otherwise.
const COMMANDS: [&[&str]; 4] = [
    &["plan"],
    &["scope", "validate"],
    &["run"],
    &["destroy", "--yes"],
];

const FILES: [&str; 4] = [
    ".alchemy/shop/state.json",
    ".alchemy/shop/dev/state.json",
    ".alchemy/shop/dev/journal.wal",
    ".alchemy/shop/dev/data/resources/main/state.json",
];

/// Ends the test unless a command told the damage with what repairs it.
#[track_caller]
fn told(output: &Output, case: &str) {
    assert_eq!(output.code, Some(12), "{case}: {}", output.stderr);
    assert!(
        output.stderr.contains("error[E0402]"),
        "{case}: {}",
        output.stderr
    );
    assert!(
        output.stderr.contains("alch scope rebuild"),
        "{case}: {}",
        output.stderr
    );
}

#[test]
fn samples_of_damage_are_told_by_every_command_with_what_repairs_it() {
    let project = Project::with_script(
        "let app = alchemy(\"shop\"); let db = alchemy.run(\"data\", || Database(\"main\")); KV(\"cache\");",
    );
    project.alch(["run"]).success();
    let listed = project.alch(["state", "ls"]).success().stdout;
    let mut random = StdRng::seed_from_u64(7);
    let (mut damaged, mut harmless) = (0, 0);
    for name in FILES {
        let whole = std::fs::read(project.path(name)).unwrap();
        for sample in 0..2 * SAMPLES {
            let mut bad = whole.clone();
            let what = if sample % 2 == 0 {
                let length = random.random_range(0..whole.len());
                bad.truncate(length);
                format!("cut to {length}")
            } else {
                let bit = random.random_range(0..whole.len() * 8);
                bad[bit / 8] ^= 1 << (bit % 8);
                format!("bit {bit} flipped")
            };
            project.file(name, &bad);
            let before = project.state_files();
            let output = project.alch(["state", "ls"]);
            let case = format!("{name} {what}");
            assert!(
                !output.stderr.contains("panicked"),
                "{case}: {}",
                output.stderr
            );
            let command = COMMANDS[random.random_range(0..COMMANDS.len())];
            if output.code == Some(0) {
                harmless += 1;
                assert_eq!(output.stdout, listed, "{case}");
                let output = project.alch(["plan", "--detailed-exitcode"]);
                assert_eq!(output.code, Some(0), "{case}: {}", output.stderr);
            } else {
                damaged += 1;
                told(&output, &case);
                let output = project.alch(command);
                assert!(
                    !output.stderr.contains("panicked"),
                    "{case}: {}",
                    output.stderr
                );
                if command[0] == "scope" {
                    assert_eq!(output.code, Some(12), "{case}: {}", output.stderr);
                } else {
                    told(&output, &format!("{case}, {command:?}"));
                }
            }
            assert!(
                project.state_files() == before,
                "{case}: {command:?} changed state"
            );
        }
        project.file(name, &whole);
    }
    // Past the capture of the harness: the counts are the point.
    writeln!(
        std::io::stderr(),
        "\ndamage met by commands: {damaged} told, {harmless} harmless"
    )
    .unwrap();
    assert!(damaged > 7 * SAMPLES);
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}
