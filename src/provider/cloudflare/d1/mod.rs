//! What `d1_database` needs: migration files, baselines, imports, and a look at SQL text.

pub(super) mod baseline;
mod ending;
pub(super) mod imports;
pub(super) mod migrations;
mod sql;
