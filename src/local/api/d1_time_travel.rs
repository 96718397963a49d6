//! Bookmarks of D1 databases.
//!
//! The local cloud keeps no history. A bookmark names the present content, and going back works only to it; every other
//! wish is refused with the code for a history that is not there.

use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    call::Call,
    d1::{self, INVALID},
    envelope::{ApiResult, ok},
    error::ApiError,
};
use crate::local::{Cloud, layout};

const NO_HISTORY: u32 = 7500;

/// The present state of a database.
struct Present {
    bookmark: String,
    /// When it was written last; none before the first write.
    since: Option<SystemTime>,
}

/// The bookmark of the present content. It differs after every write, and a later one sorts after an earlier one.
pub(super) fn bookmark(cloud: &Cloud, database: &str) -> String {
    present(cloud, database).bookmark
}

fn present(cloud: &Cloud, database: &str) -> Present {
    let file = layout::d1_file(&cloud.folder, database);
    let mut log = file.clone().into_os_string();
    log.push("-wal");
    let mut hash = Sha256::new();
    hash.update(database);
    let mut since = None;
    for path in [file.as_os_str(), &log] {
        let Ok(metadata) = std::path::Path::new(path).metadata() else {
            continue;
        };
        // An empty log says nothing: it is made by looking, too.
        if metadata.len() == 0 {
            continue;
        }
        let modified = metadata.modified().ok();
        hash.update(metadata.len().to_be_bytes());
        if let Some(modified) = modified {
            let since_epoch = modified.duration_since(SystemTime::UNIX_EPOCH);
            hash.update(since_epoch.unwrap_or_default().as_nanos().to_be_bytes());
        }
        since = since.max(modified);
    }
    let age = since
        .and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok())
        .unwrap_or_default();
    let digest = hex::encode(hash.finalize());
    Present {
        bookmark: format!(
            "{:08x}-{:08x}-{}-{}",
            age.as_secs(),
            age.subsec_nanos(),
            &digest[..8],
            &digest[8..40]
        ),
        since,
    }
}

/// `GET …/time_travel/bookmark`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let database = d1::find(cloud, call)?;
    let present = present(cloud, &database.uuid);
    if let Some(moment) = moment(call)? {
        present.held_at(moment)?;
    }
    ok(&json!({"bookmark": present.bookmark}))
}

/// `POST …/time_travel/restore`.
pub(super) fn restore(cloud: &Cloud, call: &Call) -> ApiResult {
    let database = d1::find(cloud, call)?;
    let present = present(cloud, &database.uuid);
    match (call.query("bookmark"), moment(call)?) {
        (Some(wanted), None) if wanted == present.bookmark => {}
        (Some(_), None) => return Err(no_history()),
        (None, Some(moment)) => present.held_at(moment)?,
        _ => {
            return Err(ApiError::bad_request(
                INVALID,
                "invalid property: either bookmark or timestamp is required",
            ));
        }
    }
    ok(&json!({
        "bookmark": present.bookmark,
        "previous_bookmark": present.bookmark,
        "message": "the database is at this bookmark already; nothing was changed",
    }))
}

impl Present {
    /// Refuses a moment at which the content may have been another.
    fn held_at(&self, moment: Timestamp) -> Result<(), ApiError> {
        let moment = SystemTime::from(moment);
        match self.since {
            Some(since) if moment < since => Err(no_history()),
            _ => Ok(()),
        }
    }
}

fn no_history() -> ApiError {
    ApiError::bad_request(
        NO_HISTORY,
        "no history is available: the local cloud keeps the present content of a database only",
    )
}

/// The moment that the query names.
fn moment(call: &Call) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = call.query("timestamp") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(
            INVALID,
            format!("invalid property: timestamp must be a moment such as 2026-01-15T10:30:00Z, not `{text}`"),
        )
    })
}
