//! Tests of the built binary: one program, one file a subject.

#![allow(
    clippy::disallowed_methods,
    reason = "tests look at the very bytes that the program left"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by its panic"
)]

mod addresses;
mod adopt;
mod adoption_plans;
mod architecture;
mod assets;
mod bad_input;
mod baseline;
mod bundling;
mod canary;
mod cli;
mod clients;
mod contract;
mod damage;
mod damage_walk;
mod destroy;
mod drift;
mod drift_buckets;
mod drift_kinds;
mod drift_values;
mod drift_workers;
mod durable;
mod durable_unbound;
mod economy;
mod endings;
mod errors;
mod faults;
mod formats;
mod gaps;
mod gone;
mod guards;
mod handles;
mod handover;
mod help_widths;
mod import_kinds;
mod import_objects;
mod import_settings;
mod import_workers;
mod interruption;
mod json_output;
mod kill;
mod kills;
mod leases;
mod local_account;
mod local_bindings;
mod local_buckets;
mod local_contents;
mod local_crons;
mod local_events;
mod local_hints;
mod local_hosts;
mod local_places;
mod local_restarts;
mod local_runtime;
mod local_safety;
mod local_settled;
mod local_sharing;
mod local_tails;
mod local_versions;
mod locks;
mod logs_remote;
mod moves;
mod names;
mod noop;
mod parallel;
mod permissions;
mod profiles;
mod r2_objects;
mod races;
mod refused_uploads;
mod repairs;
mod rotation;
mod run;
mod saved_plan;
mod scan_objects;
mod scan_workers;
mod secrets;
mod showcase;
mod stakes;
mod state;
mod support;
mod team;
mod test_scopes;
mod worker_props;
mod workflows;
