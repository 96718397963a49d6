//! Handles and attributes through the built binary, in the phases `up`, `plan` and `read`.

mod plan;
mod read;
mod up;
