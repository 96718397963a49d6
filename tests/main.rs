//! Tests of the built binary: one program, one file a subject.

mod architecture;
mod cli;
mod simulation;
mod run;
mod state;
mod support;
