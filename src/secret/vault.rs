//! The vault of one stage: key derivation, sealing and opening of secrets, keyed hashes.
//!
//! One key per stage and run. A password goes through argon2id with the stage's salt; a key file holds 32 random bytes and
//! needs no stretching. Name of the stage and salt are mixed in, so equal passwords give unequal keys. From that root key
//! come three more: for encryption, for keyed hashes, and for the check value that tells a wrong password from a right
//! one. Each secret is sealed with its place as associated data: moved elsewhere, it does not open.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use zeroize::Zeroizing;

use crate::{
    model::{Fqn, Map, Secret, SecretMac, StagePath, Value, value::SealedSecret},
    state::{KeyCheck, record::KeySource},
    util::{fs, ids::Ids},
};

/// Memory of argon2id in KiB, passes and lanes: OWASP's first choice.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);

const SALT_LENGTH: usize = 16;
const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;

/// What the check value is a keyed hash of.
const CHECK_TEXT: &[u8] = b"alch stage key check";

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
    /// The stage was written with the key file, and a password was given. Going on without it would leave the person in the
    /// belief that the password protects the stage.
    #[error(
        "stage {stage} was written with the key file (key {key_id}), not with a password; run it without one"
    )]
    UnexpectedPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The state's own description of its key makes no sense, or the key cannot be derived.
    #[error("the key of stage {stage} cannot be derived: {problem}")]
    Derivation {
        /// The stage.
        stage: StagePath,
        /// What is wrong.
        problem: String,
    },
    /// The key file cannot be read or made.
    #[error("key file `{path}`: {problem}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A value could not be sealed.
    #[error("the secret at `{context}` cannot be sealed")]
    Seal {
        /// Where it stands.
        context: String,
    },
    /// A sealed value does not open: it was changed or moved.
    #[error("the secret at `{context}` does not open: it was changed or moved")]
    Tampered {
        /// Where it says that it stands.
        context: String,
    },
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

/// A key, wiped when dropped.
type Key = Zeroizing<[u8; KEY_LENGTH]>;

fn key_file_error(path: &Path, problem: impl Into<String>) -> VaultError {
    VaultError::KeyFile {
        path: path.display().to_string(),
        problem: problem.into(),
    }
}

fn read_key(path: &Path) -> Result<Option<Key>, VaultError> {
    let bytes = fs::read_if_present(path)
        .map_err(|error| key_file_error(path, format!("cannot be read: {}", error.source)))?;
    let Some(bytes) = bytes.map(Zeroizing::new) else {
        return Ok(None);
    };
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    hex::decode_to_slice(bytes.trim_ascii(), key.as_mut()).map_err(|_| {
        key_file_error(
            path,
            "it does not hold 64 hexadecimal digits; restore it from a backup",
        )
    })?;
    Ok(Some(key))
}

fn random_key(ids: &dyn Ids) -> Key {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    ids.fill(key.as_mut());
    key
}

fn make_key(path: &Path, ids: &dyn Ids) -> Result<Key, VaultError> {
    let key = random_key(ids);
    match write_key(path, &key) {
        Ok(()) => Ok(key),
        // Another process was quicker: its key counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path)?
            .ok_or_else(|| key_file_error(path, "it was removed while it was being made")),
        Err(error) => Err(key_file_error(path, format!("cannot be made: {error}"))),
    }
}

/// Writes a new key file, whole or not at all, and never over another one.
fn write_key(path: &Path, key: &Key) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| error.source)?;
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let text = Zeroizing::new(format!("{}\n", hex::encode(key.as_slice())));
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    fs::sync_dir(folder).map_err(|error| error.source)
}

/// An unlocked vault.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    mac_key: Key,
    check: KeyCheck,
    check_hash: blake3::Hash,
    ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.check.key_id)
    }
}

impl Vault {
    fn new(root: &Key, source: KeySource, salt: &[u8], ids: Arc<dyn Ids>) -> Self {
        let derive = |purpose: &str| Zeroizing::new(blake3::derive_key(purpose, root.as_slice()));
        let encryption_key = derive("alch state 2026 secret encryption");
        let mac_key = derive("alch state 2026 secret change hash");
        let check_key = derive("alch state 2026 key check");
        let check_hash = blake3::keyed_hash(&check_key, CHECK_TEXT);
        Self {
            cipher: XChaCha20Poly1305::new((&*encryption_key).into()),
            mac_key,
            check: KeyCheck {
                source,
                key_id: blake3::hash(check_key.as_slice()).to_hex()[..8].to_owned(),
                salt: hex::encode(salt),
                check: check_hash.to_hex().to_string(),
            },
            check_hash,
            ids,
        }
    }

    /// Seals every plain secret of a record's map. `section` is `props` or `outputs`: it becomes part of the context. A secret
    /// sealed elsewhere (its context differs) is opened and sealed anew.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn seal_map(&self, fqn: &Fqn, section: &str, map: &Map) -> Result<Map, VaultError> {
        map_leaves(map, &mut |path, leaf| {
            let Value::Secret(secret) = leaf else {
                return Ok(leaf.clone());
            };
            let context = context(fqn, section, path);
            if let Secret::Sealed(sealed) = secret
                && sealed.context == context
            {
                return Ok(leaf.clone());
            }
            let sealed = self.seal(&self.open(secret)?, context)?;
            Ok(Value::Secret(Secret::Sealed(Arc::new(sealed))))
        })
    }

    /// Opens every sealed secret of a map.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn open_map(&self, map: &Map) -> Result<Map, VaultError> {
        map_leaves(map, &mut |_, leaf| match leaf {
            Value::Secret(secret) => Ok(Value::Secret(Secret::Plain(self.open(secret)?))),
            other => Ok(other.clone()),
        })
    }

    /// The plain text of one secret.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn open(&self, secret: &Secret) -> Result<Arc<Zeroizing<String>>, VaultError> {
        let sealed = match secret {
            Secret::Plain(text) => return Ok(Arc::clone(text)),
            Secret::Sealed(sealed) => sealed,
        };
        let tampered = || VaultError::Tampered {
            context: sealed.context.clone(),
        };
        let nonce: [u8; NONCE_LENGTH] =
            sealed.nonce.as_slice().try_into().map_err(|_| tampered())?;
        let payload = Payload {
            msg: &sealed.ciphertext,
            aad: sealed.context.as_bytes(),
        };
        let plain = self
            .cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| tampered())?;
        let text = String::from_utf8(plain)
            .map(Zeroizing::new)
            .map_err(|_| tampered())?;
        // The hash decides whether a secret changed, so a wrong one must not go unnoticed either.
        if self.mac(&text) != sealed.mac {
            return Err(tampered());
        }
        Ok(Arc::new(text))
    }

    fn seal(&self, text: &str, context: String) -> Result<SealedSecret, VaultError> {
        let mut nonce = [0; NONCE_LENGTH];
        self.ids.fill(&mut nonce);
        let payload = Payload {
            msg: text.as_bytes(),
            aad: context.as_bytes(),
        };
        match self.cipher.encrypt(&XNonce::from(nonce), payload) {
            Ok(ciphertext) => Ok(SealedSecret {
                mac: self.mac(text),
                nonce: nonce.to_vec(),
                ciphertext,
                context,
            }),
            Err(_) => Err(VaultError::Seal { context }),
        }
    }
}

impl SecretMac for Vault {
    fn mac(&self, plaintext: &str) -> String {
        blake3::keyed_hash(&self.mac_key, plaintext.as_bytes())
            .to_hex()
            .to_string()
    }
}

/// The place of a secret, as `app/stage/id#props.a.b`; dots within keys are escaped, so that no two places share a text.
fn context(fqn: &Fqn, section: &str, path: &[String]) -> String {
    let mut out = format!("{fqn}#{section}");
    for part in path {
        out.push('.');
        out.push_str(&part.replace('\\', "\\\\").replace('.', "\\."));
    }
    out
}

fn map_leaves(
    map: &Map,
    change: &mut impl FnMut(&[String], &Value) -> Result<Value, VaultError>,
) -> Result<Map, VaultError> {
    let mut path = Vec::new();
    map.iter()
        .map(|(key, value)| {
            path.push(key.clone());
            let changed = value.try_map_leaves(&mut path, change);
            path.pop();
            Ok((key.clone(), changed?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{AppName, StageName},
        util::ids::SystemIds,
    };

    fn stage(name: &str) -> StagePath {
        StagePath::new(AppName::new("app").unwrap(), StageName::new(name).unwrap())
    }

    fn password(text: &str) -> KeyMaterial {
        KeyMaterial::Password(Zeroizing::new(text.to_owned()))
    }

    fn keyring(check: Option<KeyCheck>, material: KeyMaterial) -> Keyring {
        Keyring::new(stage("dev"), check, material, Arc::new(SystemIds))
    }

    fn fqn(text: &str) -> Fqn {
        Fqn::parse(text).unwrap()
    }

    fn secrets() -> Map {
        Map::from([
            ("plain".to_owned(), Value::string("visible")),
            (
                "list".to_owned(),
                Value::Array(vec![Value::Secret(Secret::plain("s3cret"))]),
            ),
        ])
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let keyring = keyring(None, password("pw"));
        assert!(keyring.key_check().is_none());
        let vault = keyring.vault().unwrap();
        let sealed = vault
            .seal_map(&fqn("app/dev/x"), "props", &secrets())
            .unwrap();
        let json = Value::Map(sealed.clone()).to_json().to_string();
        assert!(!json.contains("s3cret"));
        assert!(json.contains("app/dev/x#props.list.0"));
        assert_eq!(vault.open_map(&sealed).unwrap(), secrets());
    }

    #[test]
    fn a_sealed_secret_is_kept_in_its_place_and_sealed_anew_elsewhere() {
        let keyring = keyring(None, password("pw"));
        let vault = keyring.vault().unwrap();
        let first = vault
            .seal_map(&fqn("app/dev/x"), "props", &secrets())
            .unwrap();
        let json = |map: &Map| Value::Map(map.clone()).to_json().to_string();
        let again = vault.seal_map(&fqn("app/dev/x"), "props", &first).unwrap();
        assert_eq!(json(&first), json(&again));
        let moved = vault.seal_map(&fqn("app/dev/y"), "props", &first).unwrap();
        assert!(json(&moved).contains("app/dev/y#props.list.0"));
        assert_eq!(vault.open_map(&moved).unwrap(), secrets());
    }

    #[test]
    fn any_change_to_a_sealed_secret_is_noticed() {
        let keyring = keyring(None, password("pw"));
        let vault = keyring.vault().unwrap();
        let good = vault.seal("s3cret", "a/b/c#props.x".to_owned()).unwrap();
        let opens = |sealed: SealedSecret| vault.open(&Secret::Sealed(Arc::new(sealed))).is_ok();
        assert!(opens(good.clone()));
        for index in 0..good.ciphertext.len() {
            let mut bad = good.clone();
            bad.ciphertext[index] ^= 1;
            assert!(!opens(bad));
        }
        let mut bad = good.clone();
        bad.nonce.pop();
        assert!(!opens(bad));
        let mut bad = good.clone();
        bad.context.push('y');
        assert!(!opens(bad));
        let mut bad = good;
        bad.mac.replace_range(0..1, "g");
        assert!(!opens(bad));
    }

    #[test]
    fn a_wrong_password_is_told_with_stage_and_key() {
        let first = keyring(None, password("right"));
        first.vault().unwrap();
        let check = first.key_check().unwrap();
        let good = keyring(Some(check.clone()), password("right"));
        assert_eq!(
            good.vault().unwrap().mac("x"),
            first.vault().unwrap().mac("x")
        );
        let bad = keyring(Some(check.clone()), password("wrong"));
        let error = bad.vault().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("wrong password for stage app/dev (key {})", check.key_id)
        );
        let folder = tempfile::tempdir().unwrap();
        let missing = keyring(
            Some(check.clone()),
            KeyMaterial::File(folder.path().join("state.key")),
        );
        assert!(matches!(
            missing.vault(),
            Err(VaultError::MissingPassword { .. })
        ));
        let other = Keyring::new(
            stage("prod"),
            Some(check),
            password("right"),
            Arc::new(SystemIds),
        );
        assert!(
            matches!(other.vault(), Err(VaultError::WrongPassword { .. })),
            "the stage is part of the key"
        );
    }

    #[test]
    fn a_key_file_is_made_once_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.key");
        let material = KeyMaterial::File(path.clone());
        let first = keyring(None, material.clone());
        let mac = first.vault().unwrap().mac("x");
        let check = first.key_check().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = keyring(Some(check.clone()), material.clone());
        assert_eq!(again.vault().unwrap().mac("x"), mac);
        let with_password = keyring(Some(check.clone()), password("pw"));
        assert!(matches!(
            with_password.vault(),
            Err(VaultError::UnexpectedPassword { .. })
        ));

        fs::write_private(&path, "00".repeat(32).as_bytes()).unwrap();
        let replaced = keyring(Some(check.clone()), material.clone());
        assert!(matches!(
            replaced.vault(),
            Err(VaultError::WrongKeyFile { .. })
        ));
        fs::write_private(&path, b"").unwrap();
        let empty = keyring(None, material.clone());
        assert!(matches!(empty.vault(), Err(VaultError::KeyFile { .. })));
        fs::remove_file(&path).unwrap();
        let missing = keyring(Some(check), material);
        assert!(matches!(missing.vault(), Err(VaultError::KeyFile { .. })));
        assert!(!path.exists(), "a lost key file is not replaced in silence");
    }
}
