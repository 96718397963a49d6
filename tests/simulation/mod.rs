//! The real engine and the real store code over a simulated cloud, disk, clock and id source, in one deterministic thread.

mod disk;
mod drift;
mod harness;
mod kill_points;
mod lifecycle;
mod world;
