//! The real engine and the real store code over a simulated cloud, disk, clock and id source, in one deterministic thread.
//!
//! `scenario` is the language of cases, `cases` runs one, `check` holds the invariants of DESIGN section 9 against what it left.
//! The other modules say which cases are run. `scripts/simulate` runs more of them, for as long as one likes.

#![allow(
    clippy::disallowed_methods,
    reason = "the key file of a test process lies beside the simulated disk"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by its panic"
)]

mod cases;
mod chains;
mod check;
mod cloud;
mod cloud_faults;
mod disk;
mod disk_faults;
mod drift;
mod fixtures;
mod generate;
mod graphs;
mod harness;
mod kill_points;
mod lifecycle;
mod mutations;
mod places;
mod protocol;
mod races;
mod regressions;
mod report;
mod scenario;
mod shrink;
mod stale;
mod world;
