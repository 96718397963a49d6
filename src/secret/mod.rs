//! Secrets: one key per stage and run, sealing of single values, and redaction of all output.

mod error;
mod key_file;
mod keyring;
pub mod redact;
mod vault;

pub use error::VaultError;
pub use keyring::{KeyMaterial, Keyring, map_has_secret};
pub use redact::Redactor;
pub use vault::Vault;

#[cfg(test)]
mod tests;
