//! Signals while the bucket with the state gives no answer, in each phase of a run: the second one ends it at once, what was done
//! is kept, and the next run saves it.

use rustix::process::Signal;
use snapbox::str;

use super::{
    address, folder,
    hang::{Hang, Trap},
    project_at, told,
};
use crate::{
    interruption::{ended, send, until_said},
    kill::in_the_cloud,
    support::{
        Project,
        s3::{self, S3Server},
    },
};

/// Two resources, one after the other.
const TWO: &str = "alchemy(\"shop\"); wait(KV(\"a\")); wait(KV(\"b\"));";

/// The same with time for heartbeats.
const SLOW: &str = "alchemy(\"shop\"); wait(KV(\"a\")); sleep(600); wait(KV(\"b\"));";

const STOPPING: &str = "stopping: nothing new starts";

/// A request of a run of [`TWO`] at which its bucket stops answering.
struct Phase {
    name: &'static str,
    method: &'static str,
    part: &'static str,
    nth: usize,
    /// How many objects there are then.
    made: usize,
}

const PHASES: [Phase; 9] = [
    phase("the first read", "GET", "/locks/", 1, 0),
    phase("taking the lock", "PUT", "/locks/", 1, 0),
    phase("the first checkpoint", "PUT", "/states/", 1, 0),
    phase("an intent", "PUT", "/journal/", 1, 0),
    phase("a result", "PUT", "/journal/", 2, 1),
    phase("the last result", "PUT", "/journal/", 4, 2),
    phase("the last checkpoint", "PUT", "/states/", 2, 2),
    phase("the record of the run", "PUT", "/deployments/", 1, 2),
    phase("giving the lock back", "PUT", "/locks/", 2, 2),
];

const fn phase(
    name: &'static str,
    method: &'static str,
    part: &'static str,
    nth: usize,
    made: usize,
) -> Phase {
    Phase {
        name,
        method,
        part,
        nth,
        made,
    }
}

/// A project whose state is behind a server that can stop answering.
struct Setting {
    project: Project,
    hang: Hang,
    folder: String,
}

impl Setting {
    fn new(server: &S3Server, script: &str) -> Self {
        let (hang, folder) = (Hang::before(&server.endpoint), folder());
        let project = project_at(script, &address(&hang.endpoint(), &folder));
        Self {
            project,
            hang,
            folder,
        }
    }

    /// What is kept on this machine.
    fn kept(&self) -> usize {
        let folder = self.project.path(".alchemy/pending/shop/dev");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// Ends the test unless a clean run succeeds, nothing is there twice, and the next run calls nothing.
    #[track_caller]
    fn resumes(&self, case: &str) {
        self.project.file("alchemy.run.rhai", TWO);
        let again = self.project.alch(["run"]);
        assert_eq!(again.code, Some(0), "{case}: {}", again.stderr);
        assert_eq!(in_the_cloud(&self.project).len(), 2, "{case}");
        assert_eq!(self.kept(), 0, "{case}");
        let next = self.project.alch(["run"]);
        assert!(
            next.last_line().ends_with(" 0 API calls)"),
            "{case}: {}",
            next.stderr
        );
        self.project.alch(["scope", "validate"]).success();
    }
}

#[test]
fn the_second_signal_ends_a_run_whose_bucket_hangs_and_the_next_one_goes_on() {
    let Some(server) = s3::server() else { return };
    let signals = [
        (Signal::INT, 130, &[false, true][..]),
        (Signal::TERM, 143, &[false]),
    ];
    for (signal, code, ways) in signals {
        for phase in &PHASES {
            for &done in ways {
                let case = format!("{signal:?} twice at {}, done: {done}", phase.name);
                let setting = Setting::new(server, TWO);
                setting.hang.set(Trap {
                    method: phase.method,
                    part: phase.part,
                    nth: phase.nth,
                    done,
                });
                let mut child = setting.project.start(["run"]);
                assert!(setting.hang.caught(), "{case}: it does not come to that");
                send(&child, signal);
                let before = until_said(&mut child, STOPPING);
                send(&child, signal);
                let output = ended(&setting.project, child, &case);
                assert_eq!(output.code, Some(code), "{case}: {}", output.stderr);
                // Not because its patience was at an end.
                assert!(
                    !output.stderr.contains("no answer within")
                        && !output.stderr.contains("timed out"),
                    "{case}: {}",
                    output.stderr
                );
                assert!(!before.contains("error["), "{case}: {before}");
                if phase.method != "GET" {
                    assert!(
                        output.stderr.contains("ends by itself within"),
                        "{case}: {}",
                        output.stderr
                    );
                }
                let made = match setting
                    .project
                    .path(".alchemy/local/control.sqlite")
                    .exists()
                {
                    true => in_the_cloud(&setting.project).len(),
                    false => 0,
                };
                assert_eq!(made, phase.made, "{case}: {}", output.stderr);
                let lost_result = phase.part == "/journal/" && phase.nth % 2 == 0;
                assert_eq!(setting.kept(), usize::from(lost_result), "{case}");
                // What was on its way arrives late.
                setting.hang.mend();
                setting.resumes(&case);
            }
        }
    }
}

#[test]
fn after_the_first_signal_a_run_waits_for_its_bucket_and_saves_what_was_done() {
    let Some(server) = s3::server() else { return };
    for (signal, phases) in [(Signal::INT, &PHASES[..]), (Signal::TERM, &PHASES[4..5])] {
        for phase in phases {
            let case = format!("{signal:?} at {}", phase.name);
            let setting = Setting::new(server, TWO);
            setting.hang.set(Trap {
                method: phase.method,
                part: phase.part,
                nth: phase.nth,
                done: false,
            });
            let mut child = setting.project.start(["run"]);
            assert!(setting.hang.caught(), "{case}");
            send(&child, signal);
            until_said(&mut child, STOPPING);
            setting.hang.go_on();
            let output = ended(&setting.project, child, &case);
            // Too late for the one that was all but done.
            let is_whole = phase.made == 2 && phase.part != "/journal/";
            assert!(
                output.code == Some(8) || is_whole && output.code == Some(0),
                "{case}: {}",
                output.stderr
            );
            assert_eq!(setting.kept(), 0, "{case}");
            let locks = setting.project.alch(["scope", "locks"]).success();
            assert!(
                !locks.stdout.contains("shop/dev"),
                "{case}: {}",
                locks.stdout
            );
            setting.resumes(&case);
        }
    }
}

#[test]
fn a_run_whose_heartbeats_get_no_answer_is_stopped() {
    let Some(server) = s3::server() else { return };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let case = format!("{signal:?}");
        let mut setting = Setting::new(server, SLOW);
        setting.project.env("ALCHEMY_LOCK_TTL", "12000");
        setting.hang.set(Trap {
            method: "PUT",
            part: "/locks/",
            nth: 2,
            done: false,
        });
        let mut child = setting.project.start(["run"]);
        assert!(setting.hang.caught(), "{case}");
        send(&child, signal);
        until_said(&mut child, STOPPING);
        send(&child, signal);
        let output = ended(&setting.project, child, &case);
        assert_eq!(output.code, Some(code), "{case}: {}", output.stderr);
        assert!(
            output.stderr.contains("ends by itself within 12.0 s"),
            "{case}: {}",
            output.stderr
        );
        setting.hang.mend();
        setting.resumes(&case);
    }
}

#[test]
fn what_a_run_says_that_was_stopped_before_its_result_was_saved() {
    let Some(server) = s3::server() else { return };
    let setting = Setting::new(server, TWO);
    setting.hang.set(Trap {
        method: "PUT",
        part: "/journal/",
        nth: 2,
        done: false,
    });
    let mut child = setting.project.start(["run"]);
    assert!(setting.hang.caught());
    send(&child, Signal::INT);
    until_said(&mut child, "once more stops at once\n");
    send(&child, Signal::INT);
    let output = ended(&setting.project, child, "a result");
    told(output, server, &setting.folder).check(str![[r#"
exit 130
-- stderr
  failed    a  cannot write `s3://team/FOLDER/shop/journal/dev/000000000001/00000002.json`: stopped before the bucket answered; what was done is kept in `[ROOT]/project/.alchemy/pending/shop/dev`, and the next run here saves it
warning[E0420]: the lock of shop/dev is left as it is, and ends by itself within [TIME]
error[E0305]: the run was stopped
 --> alchemy.run.rhai:1:18
  |
1 | alchemy("shop"); wait(KV("a")); wait(KV("b"));
  |                  ^^^^

"#]]);
    setting.hang.mend();
    let next = setting.project.alch(["run"]);
    told(next, server, &setting.folder).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
warning[E0423]: saved what a run that could not reach the bucket had kept on this machine
+ creating  b (cloudflare::KVNamespace)
  created   b  b-dev  [TIME]
1 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn a_bucket_that_works_gets_its_lock_back_after_the_second_signal() {
    let Some(server) = s3::server() else { return };
    let setting = Setting::new(server, SLOW);
    let mut child = setting.project.start(["run"]);
    until_said(&mut child, "created");
    send(&child, Signal::INT);
    until_said(&mut child, STOPPING);
    send(&child, Signal::INT);
    let output = ended(&setting.project, child, "a bucket that works");
    assert!(matches!(output.code, Some(8 | 130)), "{}", output.stderr);
    assert!(
        !output.stderr.contains("ends by itself"),
        "{}",
        output.stderr
    );
    let locks = setting.project.alch(["scope", "locks"]).success();
    assert!(!locks.stdout.contains("shop/dev"), "{}", locks.stdout);
    setting.resumes("a bucket that works");
}

#[test]
fn a_destroy_and_a_repair_whose_bucket_hangs_end_with_the_second_signal() {
    let Some(server) = s3::server() else { return };
    let commands: [(&[&str], &str); 3] = [
        (&["destroy", "--yes"], "/journal/"),
        (&["destroy", "--yes"], "/states/"),
        (&["drift", "--repair"], "/locks/"),
    ];
    for (command, part) in commands {
        let case = format!("{command:?} at {part}");
        let setting = Setting::new(server, TWO);
        setting.project.alch(["run"]).success();
        setting.hang.set(Trap {
            method: "PUT",
            part,
            nth: 1,
            done: false,
        });
        let mut child = setting.project.start(command);
        assert!(setting.hang.caught(), "{case}");
        send(&child, Signal::INT);
        until_said(&mut child, STOPPING);
        send(&child, Signal::INT);
        let output = ended(&setting.project, child, &case);
        assert_eq!(output.code, Some(130), "{case}: {}", output.stderr);
        assert!(
            output.stderr.contains("stopped before"),
            "{case}: {}",
            output.stderr
        );
        setting.hang.mend();
        setting.resumes(&case);
    }
}

#[test]
fn what_only_reads_ends_with_the_first_signal() {
    let Some(server) = s3::server() else { return };
    let setting = Setting::new(server, TWO);
    setting.project.alch(["run"]).success();
    // Those that watch for signals end with their code, the others by the signal, as they do where the state is in the folder.
    let commands: [(&[&str], Option<i32>); 7] = [
        (&["plan"], Some(8)),
        (&["run", "--read"], Some(8)),
        (&["read"], Some(8)),
        (&["stages"], None),
        (&["state", "ls"], None),
        (&["scope", "list"], None),
        (&["scope", "inspect"], None),
    ];
    for signal in [Signal::INT, Signal::TERM] {
        for (command, code) in commands {
            let case = format!("{signal:?} in {command:?}");
            setting.hang.set(Trap {
                method: "GET",
                part: "/",
                nth: 1,
                done: false,
            });
            let child = setting.project.start(command);
            assert!(setting.hang.caught(), "{case}");
            send(&child, signal);
            let output = ended(&setting.project, child, &case);
            assert_eq!(output.code, code, "{case}: {}", output.stderr);
            assert!(
                !output.stderr.contains("no answer"),
                "{case}: {}",
                output.stderr
            );
            setting.hang.mend();
        }
    }
    setting.resumes("after reads");
}
