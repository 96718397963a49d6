//! The tokens of upload sessions: signed, so that a client carries them and can make none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::now_millis;

/// How long tokens are good for, in seconds.
pub(super) const LIFETIME: i64 = 3600;

/// What a token lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Upload the files of the session.
    Upload,
    /// Give the files of the session to a version.
    Complete,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Complete => "complete",
        }
    }
}

/// A token of a session, in the form of a JSON web token, as clients look into it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) step: Step,
    pub(super) session: String,
    /// When it ends, in seconds since 1970.
    pub(super) expires: i64,
}

impl Token {
    pub(super) fn new(step: Step, session: &str) -> Self {
        Self {
            step,
            session: session.to_owned(),
            expires: now_millis() / 1000 + LIFETIME,
        }
    }

    pub(super) fn sign(&self, key: &[u8]) -> String {
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let claims = json!({
            "step": self.step.as_str(), "session": self.session, "exp": self.expires,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&head), encode(&claims));
        let signature = mac(key, &text).finalize().into_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(super) fn read(token: &str, key: &[u8]) -> Option<Self> {
        let (text, signature) = token.trim().rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        mac(key, text).verify_slice(&signature).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(text.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let step = [Step::Upload, Step::Complete]
            .into_iter()
            .find(|step| claims["step"] == step.as_str())?;
        let expires = claims["exp"].as_i64()?;
        (expires > now_millis() / 1000).then_some(Self {
            step,
            session: claims["session"].as_str()?.to_owned(),
            expires,
        })
    }
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    // A key of its own, as the cloud's key seals secrets.
    let key = blake3::derive_key("alch local cloud 2026 asset upload tokens", key);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac
}
