//! What `d1_database` needs: migration files, imports, and a look at SQL text.

mod ending;
pub(super) mod imports;
pub(super) mod migrations;
mod sql;
