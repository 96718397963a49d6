//! The bucket store: the state of a team in an S3-compatible bucket, with conditional writes instead of a file lock.
//!
//! ```text
//! <prefix>/store.json                                conditional writes were tried here
//! <prefix>/<app>/app.json                            lineage
//! <prefix>/<app>/locks/<stage>.json                  the lease: holder, epoch, heartbeat; whether it is held
//! <prefix>/<app>/states/<stage>.json                 the checkpoint: header and all records in one object, or that the stage was removed
//! <prefix>/<app>/journal/<stage>/<generation>/<sequence>.json   one group commit
//! <prefix>/<app>/backups/<stage>/state-<time>.json   earlier checkpoints
//! <prefix>/<app>/deployments/<stage>/<id>.json       history
//! ```
//!
//! Every object is JSON with a checksum and a format version. Lock and checkpoint are never deleted and only ever replaced by
//! `If-Match`; segments are only ever created, by `If-None-Match: *`. A checkpoint's *generation* grows by one with each write
//! of it, and the journal that goes on from it is the segments 1, 2, 3 .. named after that generation.
//!
//! # Who is refused, and by whom
//!
//! The lock keeps two runs from working at the same time; it is not what keeps state safe, as a process that was stopped may
//! wake up and write at any time after its lease. What keeps it safe is that every write names what it must find:
//!
//! * A segment is created at the one place that follows the last one. Two writers cannot both have it.
//! * A run that finds the lock free (given back by a run that left nothing behind) may go on at once: nobody else can write.
//! * A run that takes the lock over from one that did not give it back *seals* the journal first: it creates a segment of its own
//!   at the next place. From then on the earlier run's next segment is refused by the bucket; where that was faster, its
//!   segment counts and the seal goes behind it. Then everything is folded into a new checkpoint, so that a checkpoint of the
//!   earlier run meets another version than it expects, and is refused, too. Seals are kept for ever: they are as many as
//!   take-overs.
//! * The earlier run's heartbeats and its release meet another version of the lock, and are refused.
//!
//! A dead process of this machine is taken over at once, any other after a lease without a heartbeat, watched on the taker's own
//! monotonic clock. No wall clock is ever compared.
//!
//! # What a run costs
//!
//! | run | reads | writes | lists | deletes |
//! |---|---|---|---|---|
//! | nothing changed | 2 (lock, checkpoint) | 2 (take the lock, give it back) | 0 | 0 |
//! | one change | 2 | 7 (and: intent, result, backup, checkpoint, deployment) | 0 | 1 |
//! | n changes at once | 2 | 5 + one for each time that something waited | 0 | 1 |
//! | `plan`, `read` | 2 | 0 | 0 | 0 |
//!
//! Besides, a heartbeat every sixth of a lease (10 s). The first run of a stage asks for a little more, once. While a request is under
//! way, all that is to be appended collects, and goes with the next one.
//!
//! # When the answer is lost
//!
//! Requests are tried again, with back-off, after 5xx, 429 and time-outs, for 30 s or half a lease at most, whichever is shorter.
//! Before each try of a write the holder looks at its own lease, and renews it first where it runs low. A conditional write whose first
//! answer was lost is refused the second time; the object is then read back, and its bytes tell whose it is, as no two writes
//! ever send the same. When the network stays away, the run ends, and what was done by then is kept on this machine
//! (`pending`). So it is where the user does not want to wait: after the second Ctrl-C nothing is tried again, and requests under
//! way have a moment to be answered.

mod config;
mod format;
mod keys;
mod lease;
mod old;
mod pending;
mod read;
mod remote;
mod repair;
mod session;
mod stop;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use config::{BucketConfig, BucketKeys, ConfigError};
pub use remote::Requests;
pub use store::{BucketStore, DEFAULT_TTL};
