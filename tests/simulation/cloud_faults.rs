//! The faults of an API, as the engine meets them behind the real client.
//!
//! What is HTTP alone stays in the client, which `tests/faults/` and its own tests hold to its word: it waits and tries again
//! after 429 and, where nothing can be done twice, after 5xx, timeouts and broken connections; what it cannot mend it answers
//! as a `ProviderError` of some kind. This is what each fault comes to at the seam between engine and provider:
//!
//! | | the fault | what the engine meets |
//! | --- | --- | --- |
//! | F1 | 429 with `Retry-After` in seconds | a slow call |
//! | F2 | 429 with `Retry-After` as a date | a slow call |
//! | F3 | 429 without, code 971: blocked for five minutes | `Refused` after all tries |
//! | F4 | 500 | `Ambiguous`, nothing done |
//! | F5 | 502 with a body of HTML | `Ambiguous`, done or not |
//! | F6 | 503 with `Retry-After` | a slow call |
//! | F7 | 504 after the commit | `Ambiguous`, done |
//! | F8 | timeout before the commit | a minute, then `Ambiguous`, nothing done |
//! | F9 | timeout after the commit | a minute, then `Ambiguous`, done; or no answer within the operation's time limit |
//! | F10 | reset before the whole request was there | `Ambiguous`, nothing done |
//! | F11 | reset after the commit | `Ambiguous`, done |
//! | F12 | truncated JSON | `Ambiguous`, done |
//! | F13 | 200 with `success: false` | `Refused` |
//! | F14 | 409, 10014: somebody else made an object of that name | `Conflict` |
//! | F15 | 404 to an update: deleted outside | `NotFound` |
//! | F16 | 412, 409: changed at the same moment | `Refused` |
//! | F17 | one byte a second | a slow call, or no answer within the time limit though it was done |
//! | F18 | 401, 403 from the middle of the run on | `Authentication`, for every call from there on |
//! | F19 | fields and values that nobody knows | outputs with more in them |
//! | F20 | lists that lose a page or repeat one | objects missing from a list, or there twice |
//!
//! A read whose answer is lost fails with `Timeout`: nothing is uncertain then.

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    generate::{self, measured},
    report::{IS_WHOLE, Tally, is_custom, seeds},
    scenario::{Blow, Case, CloudFault, Command, Meddling, Step},
};

const KINDS: [(&str, &[CloudFault]); 20] = [
    ("F1", &[CloudFault::Slow(30)]),
    ("F2", &[CloudFault::Slow(55)]),
    ("F3", &[CloudFault::Refuse]),
    ("F4", &[CloudFault::LostBefore]),
    ("F5", &[CloudFault::LostBefore, CloudFault::LostAfter]),
    ("F6", &[CloudFault::Slow(60)]),
    ("F7", &[CloudFault::LostAfter]),
    ("F8", &[CloudFault::LostBefore]),
    ("F9", &[CloudFault::LostAfter, CloudFault::TooSlowAfter]),
    ("F10", &[CloudFault::LostBefore]),
    ("F11", &[CloudFault::LostAfter]),
    ("F12", &[CloudFault::LostAfter]),
    ("F13", &[CloudFault::Refuse]),
    ("F14", &[CloudFault::Taken]),
    ("F15", &[CloudFault::Vanished]),
    ("F16", &[CloudFault::Contended]),
    ("F17", &[CloudFault::Slow(500), CloudFault::TooSlowAfter]),
    ("F18", &[CloudFault::Expired]),
    ("F19", &[CloudFault::Strange]),
    ("F20", &[CloudFault::PageMissing, CloudFault::PageTwice]),
];

/// A scenario with one or two such faults.
fn case(kind: usize, seed: u64) -> Case {
    let mut rng = generate::rng(2 + kind as u64, seed);
    let faults = KINDS[kind].1;
    let measured = measured().choose(&mut rng).unwrap();
    let scenario = &measured.scenario;
    let mut steps = scenario.before.clone();
    let mut step = scenario.step.clone();
    // Lists are asked for by those who look.
    let looks = faults[0] == CloudFault::PageMissing;
    if looks {
        let deployed = Step {
            command: Command::Up,
            ..step.clone()
        };
        steps.push(deployed);
        step.command = *[Command::Refresh, Command::Repair]
            .choose(&mut rng)
            .unwrap();
        step.meddling.clear();
    }
    for _ in 0..rng.random_range(1..=2) {
        let request = rng.random_range(0..if looks { 3 } else { measured.requests.max(1) });
        let fault = *faults.choose(&mut rng).unwrap();
        step.blows.push(Blow::Cloud { request, fault });
    }
    let taken = faults[0] == CloudFault::Taken;
    steps.push(step.clone());
    if taken {
        // Whoever took the name gives it back.
        step.blows.clear();
        step.meddling = vec![Meddling::GiveBack];
        steps.push(step);
    }
    Case { seed, steps }
}

#[test]
fn every_fault_of_an_api_is_made_good_by_the_next_run() {
    let mut tally = Tally::new("faults of the API");
    let all = (0..KINDS.len()).flat_map(|kind| seeds(500).map(move |seed| (kind, seed)));
    tally.each(all, |(kind, seed), tally| {
        let name = KINDS[kind].0;
        let done = tally.run(&case(kind, seed));
        tally.count(format!("{name}: cases"));
        if done.struck > 0 {
            tally.count(format!("{name}: cases with a run that failed"));
        }
    });
    tally.tell();
    if IS_WHOLE && !is_custom() {
        for (name, faults) in KINDS {
            let counted = tally.of(&format!("{name}: cases with a run that failed"));
            let mended = matches!(
                faults[0],
                CloudFault::Slow(_) | CloudFault::Strange | CloudFault::PageMissing
            );
            assert!(mended || counted > 10, "{name} was never met");
        }
    }
}
