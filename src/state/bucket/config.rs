//! Where a bucket is, and how to get in.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
    path::Path,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long one request may take, at most; half a lease where that is shorter.
const LONGEST_REQUEST: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which bucket. Holds no secret, so that it can be remembered in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// The bucket.
    pub bucket: String,
    /// The folder in it; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The server, such as `https://<account>.r2.cloudflarestorage.com`; Amazon's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region; `us-east-1` when absent, `auto` for R2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// What opens a bucket.
#[derive(Clone)]
pub struct BucketKeys {
    /// `AWS_ACCESS_KEY_ID`
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_access_key: Zeroizing<String>,
    /// `AWS_SESSION_TOKEN`
    pub session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for BucketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketKeys").finish_non_exhaustive()
    }
}

/// Why a bucket's address is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not of the form `s3://bucket/prefix?endpoint=..&region=..`.
    #[error("`{url}` is no address of a bucket: {problem}")]
    Address {
        /// As it was written.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The client could not be made.
    #[error("cannot use bucket `{bucket}`: {problem}")]
    Client {
        /// The bucket.
        bucket: String,
        /// Why.
        problem: String,
    },
}

impl BucketConfig {
    /// Reads `s3://bucket/prefix?endpoint=URL&region=NAME`.
    ///
    /// # Errors
    /// [`ConfigError::Address`].
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: &str| ConfigError::Address {
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        let rest = url
            .strip_prefix("s3://")
            .or_else(|| url.strip_prefix("r2://"))
            .ok_or_else(|| wrong("it begins with `s3://` or `r2://`"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let mut config = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            ..Self::default()
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong("after `?` come `endpoint=..` and `region=..`"))?;
            match name {
                "endpoint" => config.endpoint = Some(value.to_owned()),
                "region" => config.region = Some(value.to_owned()),
                other => {
                    return Err(wrong(&format!(
                        "it knows no `{other}`, only `endpoint` and `region`"
                    )));
                }
            }
        }
        if url.starts_with("r2://") {
            config.region.get_or_insert_with(|| "auto".to_owned());
        }
        config.check().map_err(|problem| wrong(&problem))?;
        Ok(config)
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if self.bucket.is_empty() || !self.bucket.bytes().all(is_name) {
            return Err(format!("`{}` is no name of a bucket", self.bucket));
        }
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("https://") || endpoint.starts_with("http://"))
        {
            return Err(format!(
                "endpoint `{endpoint}` does not begin with `https://` or `http://`"
            ));
        }
        match Path::parse(&self.prefix) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("prefix `{}`: {error}", self.prefix)),
        }
    }

    /// As it is written: the way back from [`Self::parse`].
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = format!("s3://{}", self.bucket);
        if !self.prefix.is_empty() {
            url.push('/');
            url.push_str(&self.prefix);
        }
        let mut sign = '?';
        for (name, value) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if let Some(value) = value {
                url.push(sign);
                url.push_str(&format!("{name}={value}"));
                sign = '&';
            }
        }
        url
    }

    /// The bucket as messages name it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("s3://{}", self.bucket)
    }

    /// The folder in it.
    ///
    /// # Errors
    /// [`ConfigError::Client`] when the prefix is none.
    pub fn prefix(&self) -> Result<Path, ConfigError> {
        Path::parse(&self.prefix).map_err(|error| self.unfit(error.to_string()))
    }

    fn unfit(&self, problem: String) -> ConfigError {
        ConfigError::Client {
            bucket: self.bucket.clone(),
            problem,
        }
    }

    /// A client for a store whose locks last for `lease`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ConfigError::Client`].
    pub fn client(
        &self,
        keys: &BucketKeys,
        lease: Duration,
    ) -> Result<Arc<dyn ObjectStore>, ConfigError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another part of the program may have been faster; any will do.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let options = ClientOptions::new()
            .with_timeout(request_timeout(lease))
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(true);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(self.region.as_deref().unwrap_or("us-east-1"))
            .with_access_key_id(&keys.access_key_id)
            .with_secret_access_key(keys.secret_access_key.as_str())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(options)
            // Tries are counted and bounded by the store, which knows the lease.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            });
        if let Some(token) = &keys.session_token {
            builder = builder.with_token(token.as_str());
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        match builder.build() {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(self.unfit(error.to_string())),
        }
    }
}

fn request_timeout(lease: Duration) -> Duration {
    LONGEST_REQUEST.min(lease / 2)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_request_lasts_for_half_a_lease_at_most() {
        let seconds = |lease| request_timeout(Duration::from_secs(lease)).as_secs();
        assert_eq!([10, 40, 60].map(seconds), [5, 20, 20]);
    }

    #[test]
    fn addresses_are_read_and_written() {
        for (text, back) in [
            ("s3://team", "s3://team"),
            ("s3://team/a/b/", "s3://team/a/b"),
            (
                "r2://team?endpoint=https://x.example",
                "s3://team?endpoint=https://x.example&region=auto",
            ),
            (
                "s3://t?region=eu-west-1&endpoint=http://127.0.0.1:1",
                "s3://t?endpoint=http://127.0.0.1:1&region=eu-west-1",
            ),
        ] {
            let config = BucketConfig::parse(text).unwrap();
            assert_eq!(config.url(), back);
            assert_eq!(BucketConfig::parse(back).unwrap(), config);
        }
        for text in [
            "team",
            "s3://",
            "s3://a b",
            "s3://a?b=c",
            "s3://a?endpoint=x",
            "s3://a?x",
            "s3://a/b//c",
        ] {
            assert!(BucketConfig::parse(text).is_err(), "{text}");
        }
    }
}
