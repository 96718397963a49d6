//! The key of one stage: from a password or a key file to an unlocked vault, once per run and only when a secret is met.
//!
//! A password goes through argon2id with the stage's salt; a key file holds 32 random bytes and needs no stretching. Name of
//! the stage and salt are mixed in, so equal passwords give unequal keys. What is done with the key is in `vault`.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{
    error::VaultError,
    key_file::{make_key, random_key, read_key},
    vault::Vault,
};
use crate::{
    model::{Map, StagePath, Value},
    state::{KeyCheck, record::KeySource},
    util::ids::Ids,
};

/// Memory of argon2id in KiB, passes and lanes: OWASP's first choice.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);

const SALT_LENGTH: usize = 16;
pub(super) const KEY_LENGTH: usize = 32;

/// A key, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; KEY_LENGTH]>;

/// What the key of a stage is derived from.
#[derive(Clone)]
pub enum KeyMaterial {
    /// A password, from `alchemy(.., #{ password })` or `$ALCHEMY_PASSWORD`.
    Password(Zeroizing<String>),
    /// The key file at this path (`~/.alchemy/state.key`), made on first use.
    File(PathBuf),
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

/// The vault of one stage, not yet unlocked: the key is derived when the first secret is met, once per run.
pub struct Keyring {
    stage: StagePath,
    check: Option<KeyCheck>,
    material: KeyMaterial,
    ids: Arc<dyn Ids>,
    /// Whether a key file that is not there yet is made.
    makes_file: bool,
    vault: OnceLock<Result<Vault, VaultError>>,
}

impl Keyring {
    /// A keyring for a stage. `check` is what its state holds.
    #[must_use]
    pub fn new(
        stage: StagePath,
        check: Option<KeyCheck>,
        material: KeyMaterial,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Self {
            stage,
            check,
            material,
            ids,
            makes_file: true,
            vault: OnceLock::new(),
        }
    }

    /// The same for runs that write nothing: instead of a key file that is not there yet, a key of this moment is used.
    #[must_use]
    pub fn without_writing(mut self) -> Self {
        self.makes_file = false;
        self
    }

    /// The vault; derives the key on the first call. CPU-bound (about 25 ms with a password).
    ///
    /// # Errors
    /// [`VaultError`]; the same one at every call.
    pub fn vault(&self) -> Result<&Vault, VaultError> {
        self.vault
            .get_or_init(|| self.unlock())
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Opens the secrets of a map; the key is needed only where there are any.
    ///
    /// # Errors
    /// As [`Keyring::vault`], and when a secret does not open.
    pub fn open_map(&self, map: &Map) -> Result<Map, VaultError> {
        if map_has_secret(map) {
            self.vault()?.open_map(map)
        } else {
            Ok(map.clone())
        }
    }

    /// The check value for the stage header: that of state, or that of the unlocked vault.
    #[must_use]
    pub fn key_check(&self) -> Option<KeyCheck> {
        match (&self.check, self.vault.get()) {
            (Some(check), _) => Some(check.clone()),
            (None, Some(Ok(vault))) => Some(vault.check.clone()),
            (None, _) => None,
        }
    }

    fn unlock(&self) -> Result<Vault, VaultError> {
        match &self.check {
            Some(check) => self.unlock_known(check),
            None => {
                let mut salt = [0; SALT_LENGTH];
                self.ids.fill(&mut salt);
                let (root, source) = match &self.material {
                    KeyMaterial::Password(password) => {
                        (self.root_of_password(password, &salt)?, KeySource::Password)
                    }
                    KeyMaterial::File(path) => {
                        let key = match read_key(path)? {
                            Some(key) => key,
                            None if self.makes_file => make_key(path, self.ids.as_ref())?,
                            None => random_key(self.ids.as_ref()),
                        };
                        (self.root_of_file(&key, &salt), KeySource::File)
                    }
                };
                Ok(Vault::new(&root, source, &salt, Arc::clone(&self.ids)))
            }
        }
    }

    fn unlock_known(&self, check: &KeyCheck) -> Result<Vault, VaultError> {
        let salt = hex::decode(&check.salt)
            .ok()
            .filter(|salt| salt.len() == SALT_LENGTH)
            .ok_or_else(|| self.derivation("its salt in state is not 16 bytes in hexadecimal"))?;
        let expected = blake3::Hash::from_hex(&check.check)
            .map_err(|_| self.derivation("its check value in state is not a hash"))?;
        let stage = self.stage.clone();
        let key_id = check.key_id.clone();
        let (root, wrong) = match (&self.material, check.source) {
            (KeyMaterial::Password(password), KeySource::Password) => (
                self.root_of_password(password, &salt)?,
                VaultError::WrongPassword { stage, key_id },
            ),
            (KeyMaterial::File(path), KeySource::File) => {
                let key = read_key(path)?.ok_or_else(|| VaultError::KeyFile {
                    path: path.display().to_string(),
                    problem: format!(
                        "it is missing, and stage {stage} was written with it (key {key_id}); restore it from a backup"
                    ),
                })?;
                let path = path.display().to_string();
                (
                    self.root_of_file(&key, &salt),
                    VaultError::WrongKeyFile {
                        stage,
                        key_id,
                        path,
                    },
                )
            }
            (KeyMaterial::File(_), KeySource::Password) => {
                return Err(VaultError::MissingPassword { stage, key_id });
            }
            (KeyMaterial::Password(_), KeySource::File) => {
                return Err(VaultError::UnexpectedPassword { stage, key_id });
            }
        };
        let vault = Vault::new(&root, check.source, &salt, Arc::clone(&self.ids));
        // Hashes of blake3 compare in constant time.
        if vault.check_hash == expected {
            Ok(vault)
        } else {
            Err(wrong)
        }
    }

    fn derivation(&self, problem: &str) -> VaultError {
        VaultError::Derivation {
            stage: self.stage.clone(),
            problem: problem.to_owned(),
        }
    }

    fn root_of_password(&self, password: &str, salt: &[u8]) -> Result<Key, VaultError> {
        let (memory, passes, lanes) = ARGON2;
        let params = Params::new(memory, passes, lanes, Some(KEY_LENGTH))
            .map_err(|error| self.derivation(&error.to_string()))?;
        let mut stretched = Zeroizing::new([0; KEY_LENGTH]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), salt, stretched.as_mut())
            .map_err(|error| self.derivation(&error.to_string()))?;
        Ok(self.root("alch state 2026 root key from password", &stretched, salt))
    }

    fn root_of_file(&self, key: &Key, salt: &[u8]) -> Key {
        self.root("alch state 2026 root key from key file", key, salt)
    }

    fn root(&self, purpose: &str, key: &Key, salt: &[u8]) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(key.as_slice());
        hasher.update(salt);
        hasher.update(self.stage.to_string().as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

/// Whether any secret, sealed or plain, stands in the map.
pub fn map_has_secret(map: &Map) -> bool {
    fn walk(value: &Value) -> bool {
        match value {
            Value::Secret(_) => true,
            Value::Array(items) => items.iter().any(walk),
            Value::Map(map) => map.values().any(walk),
            Value::Resource(view) => view.outputs.values().any(walk),
            _ => false,
        }
    }
    map.values().any(walk)
}
