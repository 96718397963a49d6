//! Links that let whoever holds them transfer one file for an hour: the way by which D1 takes dumps in and hands them out.
//!
//! A link says what may be done (its method), with which file, and until when, under a code that only this cloud can make;
//! so clients use it without a token, as they use Cloudflare's links to its storage. Errors carry the codes of R2.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    routing::get,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use serde_json::Value;
use sha2::Sha256;

use super::{
    call::{Call, run},
    client_origin,
    envelope::{self, ApiResult},
    error::ApiError,
};
use crate::{
    local::{Cloud, control::seal_key, layout},
    util::fs,
};

/// What all links begin with. They are authenticated here and not by the token.
pub(super) const PREFIX: &str = "/transfers/";
/// How long a link is good, and a file kept.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

const EXPIRED: u32 = 10018;
const BAD_DIGEST: u32 = 10014;
const BAD_SIGNATURE: u32 = 10035;
const NO_FILE: u32 = 10007;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let path = format!("{PREFIX}{{file}}");
    Router::new().route(&path, get(run(download)).put(run(upload)))
}

/// The name under which a dump of a database is transferred: it tells which bytes are meant.
pub(super) fn file_name(database: &str, md5: &str) -> String {
    format!("{database}.{md5}.sql")
}

/// Where a file lies between its transfer and its use.
pub(super) fn path(cloud: &Cloud, file: &str) -> PathBuf {
    layout::transfers_folder(&cloud.folder).join(file)
}

/// A link for one use of a file.
pub(super) fn link(
    cloud: &Cloud,
    call: &Call,
    method: &str,
    file: &str,
) -> Result<String, ApiError> {
    let expires = (SystemTime::now() + LIFETIME)
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(ApiError::internal)?
        .as_secs();
    let code = hex::encode(mac(cloud, method, file, expires)?.finalize().into_bytes());
    let origin = client_origin(call);
    Ok(format!(
        "{origin}{PREFIX}{file}?expires={expires}&signature={code}"
    ))
}

/// Removes the files whose links are good no more.
pub(super) fn sweep(cloud: &Cloud) -> Result<(), ApiError> {
    let folder = layout::transfers_folder(&cloud.folder);
    if !folder.is_dir() {
        return Ok(());
    }
    for file in fs::list(&folder)? {
        if is_old(&file) {
            fs::remove_file(&file)?;
        }
    }
    Ok(())
}

/// Whether a file is there and too old; one that has just gone is not.
fn is_old(file: &Path) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified
        .ok()
        .and_then(|modified| modified.elapsed().ok())
        .is_some_and(|age| age > LIFETIME)
}

fn mac(cloud: &Cloud, method: &str, file: &str, expires: u64) -> Result<Hmac<Sha256>, ApiError> {
    let key = cloud.control.run(seal_key)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(ApiError::internal)?;
    mac.update(format!("transfer\n{method}\n{file}\n{expires}").as_bytes());
    Ok(mac)
}

/// The file that a good link names.
fn allowed(cloud: &Cloud, call: &Call, method: &str) -> Result<PathBuf, ApiError> {
    let file = call.parameter("file");
    let refused = || {
        ApiError::new(
            StatusCode::FORBIDDEN,
            BAD_SIGNATURE,
            "SignatureDoesNotMatch",
        )
    };
    let expires: u64 = call
        .query("expires")
        .and_then(|text| text.parse().ok())
        .ok_or_else(refused)?;
    let code = call
        .query("signature")
        .and_then(|text| hex::decode(text).ok());
    mac(cloud, method, file, expires)?
        .verify_slice(&code.ok_or_else(refused)?)
        .map_err(|_| refused())?;
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires));
    if until.is_none_or(|until| until < SystemTime::now()) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            EXPIRED,
            "ExpiredRequest",
        ));
    }
    // The name is one that this cloud signed: no path leads out of the folder.
    Ok(path(cloud, file))
}

/// `PUT`: takes the very bytes that the name tells.
fn upload(cloud: &Cloud, call: &Call) -> ApiResult {
    let path = allowed(cloud, call, "PUT")?;
    let md5 = hex::encode(Md5::digest(&call.body));
    let expected = call
        .parameter("file")
        .rsplit('.')
        .nth(1)
        .unwrap_or_default();
    if !expected.eq_ignore_ascii_case(&md5) {
        return Err(ApiError::bad_request(
            BAD_DIGEST,
            format!("BadDigest: the file has the MD5 {md5}, and {expected} was announced"),
        ));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write_private(&path, &call.body)?;
    let mut response = envelope::json_response(StatusCode::OK, &Value::Null);
    let etag = HeaderValue::from_str(&format!("\"{md5}\"")).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}

/// `GET`: hands the bytes out.
fn download(cloud: &Cloud, call: &Call) -> ApiResult {
    let path = allowed(cloud, call, "GET")?;
    match fs::read_if_present(&path)? {
        Some(content) => Ok(envelope::bytes("application/octet-stream", content)),
        None => Err(ApiError::not_found(
            NO_FILE,
            "NoSuchKey: the file is gone; ask for it again",
        )),
    }
}
