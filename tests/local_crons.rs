//! Crons by the clock: the real scheduler and the real runtime, at a time that the test says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alch::{
    local::runtime::{self, Event, RuntimeOptions, packages::Places},
    util::{clock::Clock, npm::Shelf},
};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use snapbox::str;
use tokio::sync::watch;

use crate::support::{
    Project,
    served::{Served, request, runtime_paths, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("crons");
let seen = KV("seen");
Worker("api", #{
    script: `export default {
        async fetch(request, { SEEN }) {
            const { keys } = await SEEN.list();
            return Response.json(keys.map(({ name }) => name.split("|").slice(0, 2)));
        },
        async scheduled({ cron, scheduledTime }, { SEEN }) {
            const time = new Date(scheduledTime).toISOString();
            await SEEN.put([time, cron, crypto.randomUUID()].join("|"), "");
        },
    }`,
    bindings: #{ SEEN: seen },
    crons: ["*/5 * * * *", "30 12 * * *"],
});
app.finalize();
"#;

/// A clock that stands until it is set.
struct Hand(watch::Sender<Timestamp>);

impl Hand {
    fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(watch::channel(text.parse().unwrap()).0))
    }

    fn set(&self, text: &str) {
        self.0.send_replace(text.parse().unwrap());
    }

    /// Moves on within the minute. A sleep that began when the hand had moved already ends that much later.
    fn tick(&self) {
        self.0.send_if_modified(|now| {
            let next = *now + Duration::from_millis(200);
            let same_minute = next.as_second() / 60 == now.as_second() / 60;
            if same_minute {
                *now = next;
            }
            same_minute
        });
    }
}

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn monotonic(&self) -> Duration {
        let since = self.now().duration_since(Timestamp::UNIX_EPOCH);
        Duration::try_from(since).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now() + duration;
        let mut hand = self.0.subscribe();
        hand.wait_for(|now| *now >= end).await.unwrap();
    }
}

#[test]
fn workers_are_called_in_the_minute_of_their_cron_once() {
    let (Some(project), Some([workerd, simulators])) =
        (with_runtime(Project::new()), runtime_paths())
    else {
        return;
    };
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run"]).success();
    let options = RuntimeOptions {
        folder: project.path(".alchemy/local").canonicalize().unwrap(),
        project: None,
        port: 0,
        places: Places {
            workerd: Some(workerd),
            simulators: Some(simulators),
            shelf: Shelf {
                project: project.folder(),
                cache: project.home().join("cache"),
            },
        },
    };
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let hand = Hand::at("2026-07-30T12:24:00Z");
    let clock = Arc::clone(&hand) as Arc<dyn Clock>;
    let listen = |event: Event| assert!(!matches!(event, Event::Failed(_)), "{event:?}");
    let running = tokio
        .block_on(async { runtime::start_by(options, clock, listen) })
        .unwrap();
    let port = running.address.port();
    let host = format!("api-dev.localhost:{port}");
    let until = |wanted: Value| {
        let begun = Instant::now();
        loop {
            let (status, text) = request(port, "GET", "/", &[("host", &host)], "");
            if status == 200 && serde_json::from_str::<Value>(&text).unwrap() == wanted {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{wanted} is not {text}"
            );
            hand.tick();
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(json!([]));
    hand.set("2026-07-30T12:25:00Z");
    let first = json!(["2026-07-30T12:25:00.000Z", "*/5 * * * *"]);
    until(json!([first]));
    // The same minute again, and minutes that are nobody's.
    for time in ["12:25:30", "12:26:00", "12:27:10", "12:29:59"] {
        hand.set(&format!("2026-07-30T{time}Z"));
    }
    hand.set("2026-07-30T12:30:02Z");
    let begun = Instant::now();
    let all = loop {
        let (_, text) = request(port, "GET", "/", &[("host", &host)], "");
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        if all.len() >= 3 {
            break all;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
        hand.tick();
        std::thread::sleep(Duration::from_millis(20));
    };
    let at = |cron: &str| json!(["2026-07-30T12:30:00.000Z", cron]);
    assert_eq!(all[0], first);
    assert_eq!(all.len(), 3, "{all:?}");
    for cron in ["*/5 * * * *", "30 12 * * *"] {
        assert!(all.contains(&at(cron)), "{all:?}");
    }
    tokio.block_on(running.shutdown());
}

#[test]
fn a_worker_with_one_cron_is_triggered_without_saying_which() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run"]).success();
    project.alch(["local", "trigger", "api"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: the Worker `api-dev` has several schedules: `*/5 * * * *`, `30 12 * * *`
 = help: choose one: `--cron "*/5 * * * *"`

"#]]);
    project.alch(["local", "trigger", "none"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: the Worker `none` has no schedule in the local cloud
 = help: say which one it is told: `--cron "0 2 * * *"`

"#]]);
    project.file("alchemy.run.rhai", SCRIPT.replace(", \"30 12 * * *\"", ""));
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    project.alch(["local", "trigger", "api"]).check(str![[r#"
exit 0
-- stdout
`scheduled` of the Worker `api-dev` is done

"#]]);
    let seen = served.get("api-dev", "/");
    assert_eq!(seen[0][1], "*/5 * * * *");
    project
        .alch(["local", "trigger", "api", "--json"])
        .success();
}
