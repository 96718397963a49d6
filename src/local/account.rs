//! The id of the one account of a local cloud, a small file in its folder: clients name it in the path of each request, and
//! requests for another account are refused.

use std::path::{Path, PathBuf};

use super::{CloudError, runtime};
use crate::util::fs::{self, FsResult};

/// The account of a local cloud that nobody gave another one.
pub const DEFAULT_ACCOUNT: &str = "local";
/// The longest id; Cloudflare's own have this length.
const LONGEST: usize = 32;

fn path(folder: &Path) -> PathBuf {
    folder.join("account")
}

/// Whether `id` can be the id of an account: it stands in paths.
#[must_use]
pub fn is_account(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST).contains(&id.len()) && id.bytes().all(fits)
}

/// The account of the local cloud in `folder`, which need not be there yet.
///
/// # Errors
/// [`crate::util::fs::FsError`] when the file cannot be read.
pub fn account(folder: &Path) -> FsResult<String> {
    let bytes = fs::read_if_present(&path(folder))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(match is_account(&text) {
        true => text,
        false => DEFAULT_ACCOUNT.to_owned(),
    })
}

/// Gives the local cloud in `folder` an account, for all that is in it.
///
/// # Errors
/// [`CloudError::Served`] while another process serves the folder under the present one, and what writing meets.
pub fn set_account(folder: &Path, id: &str) -> Result<(), CloudError> {
    if account(folder)? == id {
        return Ok(());
    }
    let _lock = runtime::lock(folder)?;
    Ok(fs::write_atomic(&path(folder), id.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_kept_and_what_is_none_is_the_usual_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(account(folder.path()).unwrap(), DEFAULT_ACCOUNT);
        set_account(folder.path(), "mine").unwrap();
        assert_eq!(account(folder.path()).unwrap(), "mine");
        for torn in ["", "a/b", "a b"] {
            fs::write_atomic(&path(folder.path()), torn.as_bytes()).unwrap();
            assert_eq!(account(folder.path()).unwrap(), DEFAULT_ACCOUNT);
        }
    }

    #[test]
    fn ids_are_short_and_stand_in_paths_as_they_are() {
        let hex = "0123456789abcdef0123456789abcdef";
        for id in ["local", "a-b_C9", hex] {
            assert!(is_account(id), "{id}");
        }
        for id in ["", "a/b", "a%20b", "é", &format!("{hex}0")] {
            assert!(!is_account(id), "{id}");
        }
    }
}
