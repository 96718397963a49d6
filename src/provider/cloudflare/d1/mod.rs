//! What `d1_database` needs: migration files and a look at SQL text.

pub(super) mod migrations;
mod sql;
