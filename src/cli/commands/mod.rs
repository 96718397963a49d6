//! The commands, one file each.

pub(super) mod backups;
pub(super) mod check;
pub(super) mod cleanup;
pub(super) mod completions;
pub(super) mod destroy;
pub(super) mod drift;
pub(super) mod explain;
mod history;
pub(super) mod import;
pub(super) mod local;
pub(super) mod login;
pub(super) mod logs;
pub(super) mod plan;
mod put;
pub(super) mod read;
mod rebuild;
pub(super) mod run;
pub(super) mod scan;
pub(super) mod scope;
pub(super) mod secrets;
pub(super) mod stages;
pub(super) mod state;
pub(super) mod transfer;
pub(super) mod trust;
