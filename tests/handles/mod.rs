//! Handles and attributes through the built binary, in the phases `up`, `plan` and `read`.

mod plan;
mod plan_state;
mod read;
mod up;
