//! The key file: 32 random bytes as hexadecimal text, made once and never replaced.

use std::{
    io::{self, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::{
    error::VaultError,
    keyring::{KEY_LENGTH, Key},
};
use crate::util::{fs, ids::Ids};

fn key_file_error(path: &Path, problem: impl Into<String>) -> VaultError {
    VaultError::KeyFile {
        path: path.display().to_string(),
        problem: problem.into(),
    }
}

pub(super) fn read_key(path: &Path) -> Result<Option<Key>, VaultError> {
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

pub(super) fn random_key(ids: &dyn Ids) -> Key {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    ids.fill(key.as_mut());
    key
}

pub(super) fn make_key(path: &Path, ids: &dyn Ids) -> Result<Key, VaultError> {
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
