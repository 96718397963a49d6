//! Secrets: one key per stage and run, sealing of single values, and redaction of all output.

pub mod redact;
pub mod vault;

pub use redact::Redactor;
pub use vault::{KeyMaterial, Keyring, Vault, VaultError};
