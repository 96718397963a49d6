//! Tests of the built binary: one program, one file a subject.

mod architecture;
mod cli;
mod run;
mod simulation;
mod state;
mod support;
