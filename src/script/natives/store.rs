//! Where state is kept, as scripts declare it: `alchemy("app", #{ stateStore: s3(#{ bucket: ".." }) })`.

use std::sync::Arc;

use rhai::{Engine, Map};
use zeroize::Zeroizing;

use super::super::{
    fault::Outcome,
    host::Host,
    options::{Options, required},
};

/// A bucket for state, as a script declares it. What is absent was not written.
#[derive(Debug, Clone, Default)]
pub struct StoreDeclaration {
    /// Whether it was declared by `r2(..)`.
    pub r2: bool,
    /// `bucket`.
    pub bucket: String,
    /// `prefix`: the folder in the bucket.
    pub prefix: Option<String>,
    /// `endpoint`: the server.
    pub endpoint: Option<String>,
    /// `region`.
    pub region: Option<String>,
    /// `accountId`: the account of Cloudflare, which makes up R2's endpoint.
    pub account_id: Option<String>,
    /// `accessKeyId`.
    pub access_key_id: Option<Zeroizing<String>>,
    /// `secretAccessKey`.
    pub secret_access_key: Option<Zeroizing<String>>,
}

fn declare(host: &Host, function: &'static str, map: Map) -> Outcome<StoreDeclaration> {
    let known: &[&str] = match function {
        "r2" => &[
            "bucket",
            "prefix",
            "accountId",
            "endpoint",
            "accessKeyId",
            "secretAccessKey",
        ],
        _ => &[
            "bucket",
            "prefix",
            "region",
            "endpoint",
            "accessKeyId",
            "secretAccessKey",
        ],
    };
    let r2 = function == "r2";
    let mut options = Options::new(function, map, known)?;
    let declaration = StoreDeclaration {
        r2,
        bucket: required(function, "bucket", options.string("bucket")?)?,
        prefix: options.string("prefix")?,
        endpoint: options.string("endpoint")?,
        region: if r2 { None } else { options.string("region")? },
        account_id: if r2 {
            options.string("accountId")?
        } else {
            None
        },
        access_key_id: options.secret("accessKeyId")?,
        secret_access_key: options.secret("secretAccessKey")?,
    };
    if let Some(secret) = &declaration.secret_access_key {
        host.options.redactor.add(secret);
    }
    Ok(declaration)
}

pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    for function in ["s3", "r2"] {
        let on = Arc::clone(host);
        engine.register_fn(function, move |options: Map| -> Outcome<StoreDeclaration> {
            declare(&on, function, options)
        });
    }
}
