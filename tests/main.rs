//! Tests of the built binary: one program, one file a subject.

mod cli;
mod support;
