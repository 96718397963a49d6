//! Encryption of Worker secrets at rest.
//!
//! The key is random and lies in the control database beside what it protects: this keeps values out of searches, logs
//! and copies of text, not from somebody who owns the folder. The local cloud has no password to ask for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _},
};

use crate::util::ids::{Ids as _, SystemIds};

/// Length of the key in bytes.
pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// A fresh key.
pub(super) fn new_key() -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    SystemIds.fill(&mut key);
    key
}

/// Encrypts `text` with a fresh nonce; the answer is base64 of nonce and ciphertext.
pub(super) fn seal(key: &[u8; KEY_BYTES], text: &str) -> String {
    let mut bytes = vec![0; NONCE_BYTES];
    SystemIds.fill(&mut bytes);
    let nonce: [u8; NONCE_BYTES] = bytes[..]
        .try_into()
        .expect("the buffer has the nonce's length");
    let sealed = XChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&XNonce::from(nonce), text.as_bytes())
        .expect("a value in memory is far below the cipher's limit");
    bytes.extend(sealed);
    STANDARD.encode(bytes)
}

/// Decrypts what [`seal`] made; none when it was made with another key or has been changed.
pub(super) fn unseal(key: &[u8; KEY_BYTES], sealed: &str) -> Option<String> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let text = XChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&XNonce::from(nonce), sealed)
        .ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_open_with_their_key_only() {
        let key = new_key();
        let sealed = seal(&key, "pässword");
        assert_eq!(unseal(&key, &sealed).as_deref(), Some("pässword"));
        assert_eq!(unseal(&new_key(), &sealed), None);
        assert_eq!(unseal(&key, "AAAA"), None);
        assert_ne!(seal(&key, "x"), seal(&key, "x"));
    }
}
