//! Whole scripts against the real engine over fake kinds: what the user sees of handles, unknowns and errors.

mod errors;
mod fuzz;
mod handles;
mod kinds;
mod limits;
mod plans;
