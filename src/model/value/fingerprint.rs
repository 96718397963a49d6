//! The hash of a value's canonical form: tells whether it changed.

use std::fmt;

use super::{Reference, Secret, SecretMac, TemplatePart, Value};

/// A 32-byte BLAKE3 hash of a canonical value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Hexadecimal text, 64 characters.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", &self.to_hex()[..12])
    }
}

impl Value {
    /// Hashes the canonical form. A reference is hashed as its place and the hash that `resolve` gives for the value
    /// it has; a secret as its keyed hash.
    #[must_use]
    pub fn fingerprint(
        &self,
        macs: &dyn SecretMac,
        resolve: &dyn Fn(&Reference) -> Fingerprint,
    ) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        self.hash_into(&mut hasher, macs, resolve);
        Fingerprint(*hasher.finalize().as_bytes())
    }

    fn hash_into(
        &self,
        hasher: &mut blake3::Hasher,
        macs: &dyn SecretMac,
        resolve: &dyn Fn(&Reference) -> Fingerprint,
    ) {
        fn tagged(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        fn reference(
            hasher: &mut blake3::Hasher,
            reference: &Reference,
            resolve: &dyn Fn(&Reference) -> Fingerprint,
        ) {
            tagged(hasher, b'r', reference.fqn.as_str().as_bytes());
            tagged(hasher, b'p', reference.path.join("\u{0}").as_bytes());
            hasher.update(&resolve(reference).0);
        }
        match self {
            Self::Null => tagged(hasher, b'n', &[]),
            Self::Bool(value) => tagged(hasher, b'b', &[u8::from(*value)]),
            Self::Int(value) => tagged(hasher, b'i', &value.to_le_bytes()),
            Self::Float(value) => tagged(hasher, b'f', &value.to_le_bytes()),
            Self::String(text) => tagged(hasher, b's', text.as_bytes()),
            Self::Bytes(bytes) => tagged(hasher, b'y', bytes),
            Self::Array(items) => {
                tagged(hasher, b'a', &(items.len() as u64).to_le_bytes());
                for item in items {
                    item.hash_into(hasher, macs, resolve);
                }
            }
            Self::Map(map) => {
                tagged(hasher, b'm', &(map.len() as u64).to_le_bytes());
                for (key, item) in map {
                    tagged(hasher, b'k', key.as_bytes());
                    item.hash_into(hasher, macs, resolve);
                }
            }
            Self::Secret(Secret::Plain(text)) => {
                tagged(hasher, b'x', macs.mac(text).as_bytes());
            }
            Self::Secret(Secret::Sealed(sealed)) => tagged(hasher, b'x', sealed.mac.as_bytes()),
            Self::Ref(target) => reference(hasher, target, resolve),
            Self::Template(parts) => {
                tagged(hasher, b't', &(parts.len() as u64).to_le_bytes());
                for part in parts {
                    match part {
                        TemplatePart::Text(text) => tagged(hasher, b's', text.as_bytes()),
                        TemplatePart::Ref(target) => reference(hasher, target, resolve),
                    }
                }
            }
            Self::Resource(view) => {
                tagged(hasher, b'h', view.fqn.as_str().as_bytes());
                Self::Map(view.outputs.clone()).hash_into(hasher, macs, resolve);
            }
        }
    }
}
