//! The vault of one stage, unlocked: sealing and opening of secrets, keyed hashes. How the root key is come by is in `keyring`.
//!
//! From the root key come three more: for encryption, for keyed hashes, and for the check value that tells a wrong password
//! from a right one. Each secret is sealed with its place as associated data: moved elsewhere, it does not open.

use std::sync::Arc;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use zeroize::Zeroizing;

use super::{error::VaultError, keyring::Key};
use crate::{
    model::{Fqn, Map, Secret, SecretMac, Value, value::SealedSecret},
    state::{KeyCheck, record::KeySource},
    util::ids::Ids,
};

const NONCE_LENGTH: usize = 24;

/// What the check value is a keyed hash of.
const CHECK_TEXT: &[u8] = b"alch stage key check";

/// An unlocked vault.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    mac_key: Key,
    pub(super) check: KeyCheck,
    pub(super) check_hash: blake3::Hash,
    ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.check.key_id)
    }
}

impl Vault {
    pub(super) fn new(root: &Key, source: KeySource, salt: &[u8], ids: Arc<dyn Ids>) -> Self {
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

    /// Opens every sealed secret of a map with `from` and seals it for the same place with this vault. Counts them.
    ///
    /// # Errors
    /// [`VaultError::Tampered`].
    pub fn reseal_map(&self, from: &Self, map: &Map, count: &mut usize) -> Result<Map, VaultError> {
        map_leaves(map, &mut |_, leaf| match leaf {
            Value::Secret(secret @ Secret::Sealed(sealed)) => {
                *count += 1;
                let sealed = self.seal(&from.open(secret)?, sealed.context.clone())?;
                Ok(Value::Secret(Secret::Sealed(Arc::new(sealed))))
            }
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

    pub(super) fn seal(&self, text: &str, context: String) -> Result<SealedSecret, VaultError> {
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
