//! The form of every checked JSON file: `{"checksum":"blake3:<hex>","record":<json>}`, the checksum over the bytes of the record
//! as they stand.

use std::{fmt, path::Path};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::state::StateError;

const BEFORE_CHECKSUM: &[u8] = b"{\"checksum\":\"blake3:";
const BEFORE_RECORD: &[u8] = b"\",\"record\":";
const AFTER_RECORD: &[u8] = b"}\n";
const HEX: usize = 64;

/// The BLAKE3 hash of a record's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checksum(blake3::Hash);

impl Checksum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    fn from_hex(hex: impl AsRef<[u8]>) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(Self)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_hex(hex.as_bytes())
            .ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// The form in which a person may have saved the file again: same members, other white space.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loose<'a> {
    checksum: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// Wraps a record.
///
/// # Errors
/// When it does not serialise.
pub(crate) fn seal(record: &impl Serialize) -> Result<(Vec<u8>, Checksum), serde_json::Error> {
    let begin = BEFORE_CHECKSUM.len() + HEX + BEFORE_RECORD.len();
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(BEFORE_CHECKSUM);
    out.extend_from_slice(&[b'0'; HEX]);
    out.extend_from_slice(BEFORE_RECORD);
    serde_json::to_writer(&mut out, record)?;
    let checksum = Checksum::of(&out[begin..]);
    out[BEFORE_CHECKSUM.len()..BEFORE_CHECKSUM.len() + HEX]
        .copy_from_slice(checksum.0.to_hex().as_bytes());
    out.extend_from_slice(AFTER_RECORD);
    Ok((out, checksum))
}

/// The bytes of the record within a file, and their checksum, which was compared.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn unseal(bytes: &[u8]) -> Result<(&[u8], Checksum), String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (stated, record) = match unseal_exact(bytes) {
        Some(parts) => parts,
        None => unseal_loose(bytes)?,
    };
    let checksum = Checksum::of(record);
    if checksum == stated {
        Ok((record, checksum))
    } else {
        Err("its checksum does not match: it was changed or written only in part".to_owned())
    }
}

fn unseal_exact(bytes: &[u8]) -> Option<(Checksum, &[u8])> {
    let rest = bytes.strip_prefix(BEFORE_CHECKSUM)?;
    let (hex, rest) = rest.split_at_checked(HEX)?;
    let record = rest
        .strip_prefix(BEFORE_RECORD)?
        .strip_suffix(AFTER_RECORD)?;
    Some((Checksum::from_hex(hex)?, record))
}

fn unseal_loose(bytes: &[u8]) -> Result<(Checksum, &[u8]), String> {
    let loose: Loose<'_> = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not a record as alch writes it: {error}"))?;
    let stated = loose
        .checksum
        .strip_prefix("blake3:")
        .and_then(Checksum::from_hex)
        .ok_or("its checksum is not of the form `blake3:<hex>`")?;
    Ok((stated, loose.record.get().as_bytes()))
}

/// A [`StateError::Corrupt`].
pub(crate) fn corrupt(
    stage: impl fmt::Display,
    place: &Path,
    problem: impl Into<String>,
) -> StateError {
    StateError::Corrupt {
        stage: stage.to_string(),
        place: place.display().to_string(),
        problem: problem.into(),
    }
}

/// A [`StateError::Io`].
pub(crate) fn io_error(
    operation: &'static str,
    place: &Path,
    source: impl Into<std::io::Error>,
) -> StateError {
    StateError::Io {
        operation,
        place: place.display().to_string(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Record, record::from_json, tests_support::record};

    #[test]
    fn what_is_sealed_is_read_again() {
        let record = record("app/dev/x", 1);
        let (bytes, checksum) = seal(&record).unwrap();
        let (json, read) = unseal(&bytes).unwrap();
        assert_eq!(read, checksum);
        assert_eq!(from_json::<Record>(json).unwrap(), record);
        assert!(
            std::str::from_utf8(&bytes)
                .unwrap()
                .starts_with("{\"checksum\":\"blake3:")
        );
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_told_or_harmless() {
        let (bytes, checksum) = seal(&record("app/dev/x", 1)).unwrap();
        let good = unseal(&bytes).unwrap().0.to_owned();
        let check = |bad: &[u8]| {
            if let Ok((json, read)) = unseal(bad) {
                assert_eq!((json, read), (good.as_slice(), checksum));
            }
        };
        for length in 0..bytes.len() - 1 {
            assert!(unseal(&bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut bad = bytes.clone();
                bad[at] = value;
                check(&bad);
            }
        }
    }
}
