//! Secrets among values: the plain text, wiped when dropped, or its sealed form. Sealing itself is done in `crate::secret`.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

/// A value that no output may show. `Debug` and `Display` print `<secret>`.
#[derive(Clone)]
pub enum Secret {
    /// The value itself, wiped from memory when dropped.
    Plain(Arc<Zeroizing<String>>),
    /// The value as it stands in state.
    Sealed(Arc<SealedSecret>),
}

/// An encrypted secret: XChaCha20-Poly1305 with `context` as associated data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Keyed hash of the plain text in hexadecimal: tells whether it changed without decrypting it.
    pub mac: String,
    /// 24 bytes.
    pub nonce: Vec<u8>,
    /// Cipher text and tag.
    pub ciphertext: Vec<u8>,
    /// FQN and path of the place it stands in: a cipher text moved elsewhere does not open.
    pub context: String,
}

impl Secret {
    /// Wraps a plain text.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Plain(Arc::new(Zeroizing::new(text.into())))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a == b,
            (Self::Sealed(a), Self::Sealed(b)) => a.mac == b.mac,
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Computes the keyed hash of a secret's plain text, in hexadecimal.
pub trait SecretMac {
    /// The keyed hash of `plaintext`.
    fn mac(&self, plaintext: &str) -> String;
}
