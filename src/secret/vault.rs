//! The vault of one stage: key derivation, sealing and opening of secrets, keyed hashes.

use crate::{
    model::{Fqn, Map, Secret, SecretMac, StagePath},
    state::KeyCheck,
    util::ids::Ids,
};

/// What the key of a stage is derived from.
#[derive(Clone)]
pub enum KeyMaterial {
    /// A password, from `alchemy(.., #{ password })` or `$ALCHEMY_PASSWORD`.
    Password(zeroize::Zeroizing<String>),
    /// The key file at this path (`~/.alchemy/state.key`), made on first use.
    File(std::path::PathBuf),
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

/// Why secrets cannot be opened or sealed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The check value does not match.
    #[error("wrong password for stage {stage} (key {key_id})")]
    WrongPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The stage was written with a password and there is none.
    #[error("stage {stage} was written with a password (key {key_id}), and none was given")]
    MissingPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The stage was written with a key file that is not the one at hand.
    #[error("the key file `{path}` does not open stage {stage} (key {key_id})")]
    WrongKeyFile {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
        /// The file.
        path: String,
    },
    /// The key file cannot be read or made.
    #[error("key file `{path}`: {problem}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A sealed value does not open: it was changed or moved.
    #[error("the secret at `{context}` does not open: it was changed or moved")]
    Tampered {
        /// Where it says that it stands.
        context: String,
    },
}

/// The vault of one stage, not yet unlocked: the key is derived when the first secret is met, once per run.
pub struct Keyring {}

impl Keyring {
    /// A keyring for a stage. `check` is what its state holds.
    pub fn new(
        stage: StagePath,
        check: Option<KeyCheck>,
        material: KeyMaterial,
        ids: std::sync::Arc<dyn Ids>,
    ) -> Self {
        unimplemented!()
    }

    /// The vault; derives the key on the first call. CPU-bound (about 25 ms with a password).
    ///
    /// # Errors
    /// [`VaultError`]; the same one at every call.
    pub fn vault(&self) -> Result<&Vault, VaultError> {
        unimplemented!()
    }

    /// The check value for the stage header: that of state, or that of the unlocked vault.
    pub fn key_check(&self) -> Option<KeyCheck> {
        unimplemented!()
    }
}

/// An unlocked vault.
pub struct Vault {}

impl Vault {
    /// Seals every plain secret of a record's map. `section` is `props` or `outputs`: it becomes part of the context. A secret
    /// sealed elsewhere (its context differs) is opened and sealed anew.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn seal_map(&self, fqn: &Fqn, section: &str, map: &Map) -> Result<Map, VaultError> {
        unimplemented!()
    }

    /// Opens every sealed secret of a map.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn open_map(&self, map: &Map) -> Result<Map, VaultError> {
        unimplemented!()
    }

    /// The plain text of one secret.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn open(
        &self,
        secret: &Secret,
    ) -> Result<std::sync::Arc<zeroize::Zeroizing<String>>, VaultError> {
        unimplemented!()
    }
}

impl SecretMac for Vault {
    fn mac(&self, plaintext: &str) -> String {
        unimplemented!()
    }
}
