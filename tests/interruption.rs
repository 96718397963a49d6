//! Signals, closed streams and terminals that go away, in each phase of a run: documented exits, readable state, nothing left.
//!
//! The phases are held by a request that gets no answer, by a script that sleeps, by a bundler that never ends, by a lock. Those
//! in which a bucket with the state gives no answer are in `team::stops`.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process, test_kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::tcgetattr,
};

use crate::{
    kill::in_the_cloud,
    kills::proxy::{Moment, Proxy},
    support::{Output, Project, binary, cloud::ServedCloud},
};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Six namespaces, one after the other.
const CHAIN: &str = r#"
let app = alchemy("shop");
let last = "none";
for i in 0..6 { last = KV(`kv-${i}`, #{ title: `after-${last.len()}-${i}` }).id; }
app.finalize();
"#;

/// How many namespaces [`CHAIN`] makes.
const COUNT: usize = 6;

/// A signal, the exit after the first one, and that after the second one.
const SIGNALS: [(Signal, i32, i32); 3] = [
    (Signal::INT, 8, 130),
    (Signal::TERM, 8, 143),
    (Signal::HUP, 8, 129),
];

/// A project that deploys to a cloud of its own, whose requests can be held.
struct Setting {
    project: Project,
    cloud: ServedCloud,
    proxy: Proxy,
}

impl Setting {
    fn new(script: &str) -> Self {
        let cloud = ServedCloud::quick();
        let proxy = Proxy::start(&cloud.base_url());
        let mut project = Project::with_script(script);
        cloud.serve_to(&mut project);
        project.env("CLOUDFLARE_API_BASE_URL", &proxy.base_url());
        Self {
            project,
            cloud,
            proxy,
        }
    }

    fn run(&self) -> Output {
        self.proxy.set(None);
        self.project.alch(["run", "--target", "cloudflare"])
    }

    /// How many namespaces the cloud has.
    fn namespaces(&self) -> usize {
        let listed = self.cloud.ask("GET", "storage/kv/namespaces", "");
        listed.as_array().unwrap().len()
    }

    /// Starts a command and waits until its n-th request is held.
    #[track_caller]
    fn held(&self, arguments: &[&str], nth: usize) -> Child {
        self.proxy.set(Some((nth, Moment::After)));
        let child = self.project.start(arguments);
        assert!(
            self.proxy.caught(PATIENCE),
            "{arguments:?}: no {nth}th request"
        );
        child
    }

    /// Ends the test unless state can be read, a clean run succeeds, and the next calls nothing.
    #[track_caller]
    fn resumes(&self, case: &str) {
        let listed = self.project.alch(["state", "ls"]);
        assert!(
            matches!(listed.code, Some(0 | 6)),
            "{case}: {}",
            listed.stderr
        );
        let again = self.run();
        assert_eq!(again.code, Some(0), "{case}: {}", again.stderr);
        assert_eq!(self.namespaces(), COUNT, "{case}");
        let next = self.run().success();
        assert!(
            next.last_line().ends_with(" 0 API calls)"),
            "{case}: {}",
            next.stderr
        );
        assert_eq!(self.proxy.count(), 0, "{case}");
    }
}

/// Sends a signal to a process.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// How a process at a terminal ended; kills it and ends the test when it does not.
#[track_caller]
fn left(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end: are interrupts ignored where the tests run?");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a process; kills it and ends the test when it does not come.
#[track_caller]
pub(crate) fn ended(project: &Project, mut child: Child, case: &str) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            let output = project.output(child.wait_with_output().unwrap());
            panic!("{case}: it does not end: {}", output.stderr);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = project.output(child.wait_with_output().unwrap());
    assert!(
        !output.stderr.contains("panicked"),
        "{case}: {}",
        output.stderr
    );
    output
}

/// Waits until a process has said something on stderr.
#[track_caller]
pub(crate) fn until_said(child: &mut Child, what: &str) -> String {
    let mut told = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut byte = [0];
    while !String::from_utf8_lossy(&told).contains(what) {
        let count = stderr.read(&mut byte).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&told));
        told.extend(byte);
    }
    child.stderr = Some(stderr);
    String::from_utf8(told).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_first_signal_lets_the_calls_in_flight_end_and_starts_no_other() {
    for (signal, first, _) in SIGNALS {
        for nth in [1, 3, 6] {
            let case = format!("{signal:?} at request {nth}");
            let setting = Setting::new(CHAIN);
            let mut child = setting.held(&["run", "--target", "cloudflare"], nth);
            send(&child, signal);
            until_said(&mut child, "stopping: nothing new starts");
            let before = setting.proxy.count();
            setting.proxy.release();
            let output = ended(&setting.project, child, &case);
            assert_eq!(output.code, Some(first), "{case}: {}", output.stderr);
            // What was in flight is one resource, which is made by a question and an answer at most.
            let more = setting.proxy.count() - before;
            assert!(more <= 1, "{case}: {more} more requests");
            // What was made is known: nothing that the cloud has is missing from state.
            let listed = setting.project.alch(["state", "ls", "--json"]);
            let recorded = match listed.code {
                Some(0) => listed.messages()[1]["resources"].as_array().unwrap().len(),
                _ => 0,
            };
            assert_eq!(recorded, setting.namespaces(), "{case}");
            setting.resumes(&case);
        }
    }
}

#[test]
fn the_second_signal_ends_at_once_and_the_next_run_goes_on() {
    for (signal, _, second) in SIGNALS {
        for nth in [1, 3, 6] {
            let case = format!("{signal:?} twice at request {nth}");
            let setting = Setting::new(CHAIN);
            let mut child = setting.held(&["run", "--target", "cloudflare"], nth);
            send(&child, signal);
            until_said(&mut child, "stopping: nothing new starts");
            send(&child, signal);
            // The request is held all the time.
            let output = ended(&setting.project, child, &case);
            assert_eq!(output.code, Some(second), "{case}: {}", output.stderr);
            setting.proxy.release();
            assert!(setting.proxy.settle());
            setting.resumes(&case);
        }
    }
}

#[test]
fn a_destroy_is_interrupted_and_taken_up() {
    for (signal, first, second) in SIGNALS {
        for twice in [false, true] {
            let case = format!("{signal:?}, twice: {twice}");
            let setting = Setting::new(CHAIN);
            setting.run().success();
            let mut child = setting.held(&["destroy", "--yes"], 2);
            send(&child, signal);
            until_said(&mut child, "stopping: nothing new starts");
            if twice {
                send(&child, signal);
            } else {
                setting.proxy.release();
            }
            let output = ended(&setting.project, child, &case);
            let expected = if twice { second } else { first };
            assert_eq!(output.code, Some(expected), "{case}: {}", output.stderr);
            setting.proxy.set(None);
            assert!(setting.proxy.settle());
            let left = setting.namespaces();
            assert!(left > 0 && left < COUNT, "{case}: {left} are left");
            setting.project.alch(["state", "ls"]).success();
            setting.project.alch(["destroy", "--yes"]).success();
            assert_eq!(setting.namespaces(), 0, "{case}");
        }
    }
}

#[test]
fn a_signal_with_the_last_answer_leaves_a_whole_checkpoint() {
    let sound = Setting::new(CHAIN);
    sound.run().success();
    let requests = sound.proxy.count();
    for (signal, first, _) in SIGNALS {
        let setting = Setting::new(CHAIN);
        let child = setting.held(&["run", "--target", "cloudflare"], requests);
        setting.proxy.release();
        send(&child, signal);
        let output = ended(&setting.project, child, &format!("{signal:?}"));
        // Too late for the one or just in time for the other; a signal after the end of the watch ends the process.
        assert!(
            output.code.is_none_or(|code| code == 0 || code == first),
            "{}",
            output.stderr
        );
        setting.resumes(&format!("{signal:?} at the end"));
    }
}

#[test]
fn a_script_that_thinks_is_stopped_in_runs_and_plans() {
    let script = "let app = alchemy(\"shop\"); KV(\"k\"); write_file(\"ready\", \"\"); sleep(600);";
    for (signal, first, _) in SIGNALS {
        for command in ["run", "plan"] {
            let project = Project::with_script(script);
            let child = project.start([command]);
            until("the script runs", || {
                project.path("ready").exists() || command == "plan"
            });
            if command == "plan" {
                // A plan writes no files, but it has a process that has begun to look for signals.
                until("it watches for signals", || watches(&child, signal));
            }
            send(&child, signal);
            let case = format!("{command} {signal:?}");
            let output = ended(&project, child, &case);
            assert_eq!(output.code, Some(first), "{case}: {}", output.stderr);
            let listed = project.alch(["state", "ls"]);
            assert!(
                matches!(listed.code, Some(0 | 6)),
                "{case}: {}",
                listed.stderr
            );
        }
    }
}

/// Whether a process has a handler for a signal.
fn watches(child: &Child, signal: Signal) -> bool {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[test]
fn waiting_for_a_lock_is_stopped_and_disturbs_nobody() {
    for (signal, first, _) in SIGNALS {
        let setting = Setting::new(CHAIN);
        let holder = setting.held(&["run", "--target", "cloudflare"], 4);
        let mut waiting =
            setting
                .project
                .start(["run", "--target", "cloudflare", "--lock-timeout", "600000"]);
        until_said(&mut waiting, "waiting");
        send(&waiting, signal);
        let output = ended(&setting.project, waiting, "the one that waits");
        assert_eq!(output.code, Some(first), "{signal:?}: {}", output.stderr);
        setting.proxy.release();
        ended(&setting.project, holder, "the holder").success();
        setting.resumes("after both");
    }
}

/// A bundler that says who it is and never ends.
fn endless_bundler(project: &mut Project) {
    project.file(
        "esbuild",
        "#!/bin/sh\necho $$ > esbuild.pid.new; mv esbuild.pid.new esbuild.pid; exec sleep 600\n",
    );
    let path = project.path("esbuild");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    project.env("ALCH_ESBUILD_PATH", &path.display().to_string());
}

#[test]
fn a_bundler_that_hangs_is_ended_by_the_second_signal_and_not_left_behind() {
    for (signal, _, second) in SIGNALS {
        let mut project = Project::with_script(
            "let app = alchemy(\"shop\"); Worker(\"api\", #{ entrypoint: \"api.ts\" });",
        );
        project.file("api.ts", "export default {};");
        endless_bundler(&mut project);
        let mut child = project.start(["run"]);
        until("the bundler runs", || project.path("esbuild.pid").exists());
        let id: i32 = project.read("esbuild.pid").trim().parse().unwrap();
        send(&child, signal);
        until_said(&mut child, "stopping: nothing new starts");
        send(&child, signal);
        let output = ended(&project, child, &format!("{signal:?}"));
        assert_eq!(output.code, Some(second), "{signal:?}: {}", output.stderr);
        let id = Pid::from_raw(id).unwrap();
        until("the bundler ends", || test_kill_process(id).is_err());
        let listed = project.alch(["state", "ls"]);
        assert!(matches!(listed.code, Some(0 | 6)), "{}", listed.stderr);
        let touched = project.path(".alchemy/local/control.sqlite").exists();
        assert!(!touched || in_the_cloud(&project).is_empty());
    }
}

#[test]
fn a_process_that_shall_outlive_its_terminal_does() {
    let setting = Setting::new(CHAIN);
    setting.proxy.set(Some((4, Moment::After)));
    let mut command = setting.project.command(["run", "--target", "cloudflare"]);
    let mut nohup = Command::new("nohup");
    nohup
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(setting.project.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The command itself was only read from.
    command.stdin(Stdio::null());
    let child = nohup.spawn().unwrap();
    assert!(setting.proxy.caught(PATIENCE));
    send(&child, Signal::HUP);
    setting.proxy.release();
    ended(&setting.project, child, "nohup").success();
    assert_eq!(setting.namespaces(), COUNT);
}

/// Runs a line of the shell in which `alch` is the program.
fn shell(setting: &Setting, line: &str) -> Output {
    setting.proxy.set(None);
    let like = setting.project.command(["--version"]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(
            "alch() {{ \"{}\" \"$@\"; }}; {line}",
            binary().display()
        ))
        .env_clear()
        .envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(setting.project.folder())
        .stdin(Stdio::null());
    setting.project.output_of(&mut command)
}

#[test]
fn streams_that_are_closed_end_no_run() {
    let talkative =
        format!("{CHAIN}\nfor i in 0..20000 {{ print(`line ${{i}} of what nobody reads`); }}");
    for line in [
        // The reader goes away after a line, and long before the end.
        "alch run --target cloudflare | head -n 1",
        "alch run --target cloudflare --json | head -n 1",
        "alch run --target cloudflare 2>&1 | head -n 1",
        "alch run --target cloudflare >&-",
        "alch run --target cloudflare 2>&-",
        "alch run --target cloudflare <&-",
        "alch run --target cloudflare <&- >&- 2>&-",
    ] {
        let setting = Setting::new(&talkative);
        let output = shell(&setting, line);
        assert!(
            !output.stderr.contains("panicked"),
            "{line}: {}",
            output.stderr
        );
        assert_eq!(output.code, Some(0), "{line}: {}", output.stderr);
        assert_eq!(setting.namespaces(), COUNT, "{line}");
        setting.resumes(line);
    }
}

#[test]
fn a_destroy_that_nobody_can_consent_to_does_nothing() {
    let setting = Setting::new(CHAIN);
    setting.run().success();
    for line in [
        "alch destroy <&-",
        "alch destroy </dev/null",
        "echo shop/dev | alch destroy",
    ] {
        let output = shell(&setting, line);
        assert!(!matches!(output.code, Some(0)), "{line}: {}", output.stderr);
        assert!(output.stderr.contains("--yes"), "{line}: {}", output.stderr);
        assert_eq!(setting.proxy.count(), 0, "{line}");
    }
    setting.resumes("after refusals");
}

/// A terminal: the side of the person, and the side of the program.
fn terminal() -> (File, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let path = std::path::PathBuf::from(name.to_str().unwrap());
    let program = File::options().read(true).write(true).open(path).unwrap();
    (File::from(person), program.into())
}

/// Starts a command at a terminal that is its own, so that Ctrl-C is typed and not sent.
fn at(terminal: &OwnedFd, project: &Project, arguments: &[&str]) -> Child {
    at_terminal(terminal, project, arguments).spawn().unwrap()
}

fn at_terminal(terminal: &OwnedFd, project: &Project, arguments: &[&str]) -> Command {
    let like = project.command(arguments);
    let mut command = Command::new("setsid");
    let side = || Stdio::from(terminal.try_clone().unwrap());
    command
        .args(["--ctty", "--wait"])
        .arg(like.get_program())
        .args(like.get_args())
        .env_clear()
        .envs(
            like.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "xterm")
        .current_dir(project.folder())
        .stdin(side())
        .stdout(side())
        .stderr(side());
    command
}

/// Reads what a terminal shows until it shows `what`.
#[track_caller]
fn until_shown(person: &mut File, what: &str) {
    let mut shown = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&shown).contains(what) {
        let count = person.read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&shown).into_owned();
        assert!(count > 0, "`{what}` is never shown: {text}");
        shown.extend(&buffer[..count]);
    }
}

#[test]
fn ctrl_c_at_a_question_changes_nothing_and_gives_the_terminal_back() {
    let setting = Setting::new(CHAIN);
    setting.run().success();
    let (mut person, program) = terminal();
    let before = format!("{:?}", tcgetattr(program.as_fd()).unwrap());
    let state = setting.project.state_files();
    setting.proxy.set(None);
    let mut child = at(&program, &setting.project, &["destroy"]);
    until_shown(&mut person, "to go on:");
    person.write_all(b"\x03").unwrap();
    let status = left(&mut child);
    // No run had begun: the signal itself ended it.
    assert!(
        status.signal() == Some(2) || status.code() == Some(130),
        "{status}"
    );
    assert_eq!(format!("{:?}", tcgetattr(program.as_fd()).unwrap()), before);
    assert!(setting.project.state_files() == state, "state changed");
    assert_eq!(setting.proxy.count(), 0);
    setting.resumes("after the question");
}

#[test]
fn ctrl_c_typed_during_a_run_stops_it_in_two_steps_and_gives_the_terminal_back() {
    for twice in [false, true] {
        let setting = Setting::new(CHAIN);
        let (mut person, program) = terminal();
        let before = format!("{:?}", tcgetattr(program.as_fd()).unwrap());
        setting.proxy.set(Some((4, Moment::After)));
        let mut child = at(
            &program,
            &setting.project,
            &["run", "--target", "cloudflare"],
        );
        assert!(setting.proxy.caught(PATIENCE));
        person.write_all(b"\x03").unwrap();
        until_shown(&mut person, "stopping: nothing new starts");
        if twice {
            person.write_all(b"\x03").unwrap();
        } else {
            setting.proxy.release();
        }
        let code = left(&mut child).code();
        assert_eq!(code, Some(if twice { 130 } else { 8 }));
        assert_eq!(format!("{:?}", tcgetattr(program.as_fd()).unwrap()), before);
        setting.proxy.release();
        assert!(setting.proxy.settle());
        setting.resumes("after Ctrl-C");
    }
}

#[test]
fn a_terminal_that_goes_away_stops_the_run_in_good_order() {
    let setting = Setting::new(CHAIN);
    let (person, program) = terminal();
    setting.proxy.set(Some((4, Moment::After)));
    let mut child = at(
        &program,
        &setting.project,
        &["run", "--target", "cloudflare"],
    );
    assert!(setting.proxy.caught(PATIENCE));
    drop(program);
    drop(person);
    setting.proxy.release();
    let code = left(&mut child).code();
    assert_eq!(code, Some(8));
    setting.resumes("after the terminal went");
}

#[test]
fn a_plan_that_is_stopped_does_not_say_that_anything_was_done() {
    let project = Project::with_script(
        r#"
alchemy("shop");
KV("cache");
print("ready");
while glob("go").is_empty() { sleep(0.02); }
"#,
    );
    let mut child = project.start(["plan"]);
    // Read byte by byte, so that the rest stays for the end.
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        line.push(byte[0]);
    }
    send(&child, Signal::INT);
    let output = ended(&project, child, "a stopped plan");
    assert!(
        output.stderr.contains("stopped; nothing was changed"),
        "{}",
        output.stderr
    );
    assert!(
        !output.stderr.contains("what was done"),
        "{}",
        output.stderr
    );
    assert!(!project.path(".alchemy/shop").exists());
}
