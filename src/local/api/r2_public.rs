//! Buckets that everybody can read, at their development address or under custom domains: each gets a Worker of this
//! program's own, which the runtime runs beside those of the user.
//!
//! The development address `pub-<id>.r2.dev` is `pub-<id>.localhost` on the port of the Workers.

use std::sync::Arc;

use rusqlite::Connection;
use serde_json::json;

use super::{
    error::ApiError,
    r2_domains as domains,
    workers::{DeployedModule, DeployedWorker},
    zones::HostRule,
};

/// The code of these Workers.
const CODE: &str = include_str!("../runtime/bucket.js");
const MODULE: &str = "alch-bucket.js";
const DATE: &str = "2024-09-23";

/// A bucket that somebody can read without asking.
pub(super) struct Open {
    id: String,
    bucket: String,
    jurisdiction: String,
    created_at: String,
    /// Whether the development address is open.
    managed: bool,
    domains: Vec<String>,
}

impl Open {
    /// The name of its Worker, which is the first part of the development address where that is open.
    fn worker_name(&self) -> String {
        let prefix = if self.managed { "pub" } else { "bucket" };
        format!("{prefix}-{}", self.id)
    }

    /// Which hosts lead to it.
    pub(super) fn host_rules(&self) -> impl Iterator<Item = HostRule> {
        self.domains.iter().map(|host| HostRule {
            host: host.clone(),
            path: "/*".to_owned(),
            worker: Some(self.worker_name()),
        })
    }

    /// Its Worker.
    pub(super) fn worker(&self, hosts: &Arc<[HostRule]>) -> DeployedWorker {
        DeployedWorker {
            name: self.worker_name(),
            version: self.id.clone(),
            created_at: self.created_at.clone(),
            entry: MODULE.to_owned(),
            service_syntax: false,
            modules: vec![DeployedModule {
                name: MODULE.to_owned(),
                content_type: "application/javascript+module".to_owned(),
                hash: String::new(),
                text: Some(CODE),
            }],
            bindings: vec![json!({
                "name": "BUCKET",
                "type": "r2_bucket",
                "bucket_name": self.bucket,
                "jurisdiction": self.jurisdiction,
            })],
            compatibility_date: Some(DATE.to_owned()),
            compatibility_flags: Vec::new(),
            assets: None,
            incarnations: vec![self.id.clone()],
            namespaces: Vec::new(),
            workflows: Vec::new(),
            tail_consumers: Vec::new(),
            hosts: Arc::clone(hosts),
            share: 100.0,
            others: Vec::new(),
        }
    }
}

/// All open buckets, by id.
pub(super) fn all(connection: &Connection) -> Result<Vec<Open>, ApiError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, jurisdiction, created_at, public FROM r2_buckets ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Open {
            id: row.get(0)?,
            bucket: row.get(1)?,
            jurisdiction: row.get(2)?,
            created_at: row.get(3)?,
            managed: row.get(4)?,
            domains: Vec::new(),
        })
    })?;
    let mut out = Vec::new();
    for open in rows {
        let mut open = open?;
        open.domains = domains::enabled(connection, &open.id)?;
        if open.managed || !open.domains.is_empty() {
            out.push(open);
        }
    }
    Ok(out)
}
