//! What every module may use: files with paths in their errors, clock and id seams, hashing, text, pinned packages.

pub mod clock;
pub mod cron;
pub mod fs;
pub mod ids;
pub mod javascript;
pub mod npm;
pub mod text;
