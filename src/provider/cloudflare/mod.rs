//! The Cloudflare provider: one client of the v4 REST API and one file a resource kind.
//!
//! The same code serves the public API, any other server of that API, and the embedded local cloud: they differ in the
//! transport and the token only. Nothing here knows the engine, a script or a terminal.

pub mod account;
#[cfg(test)]
mod against_local;
mod ai_gateway;
pub mod budget;
mod by_id;
pub mod client;
pub mod custom_domain;
mod d1;
pub mod d1_database;
pub mod dns_records;
pub mod durable_object_namespace;
pub mod envelope;
pub mod error;
mod hyperdrive;
pub mod kv_namespace;
pub mod multipart;
mod names;
mod object;
pub mod pages;
mod permission;
mod props;
pub mod queue;
pub mod queue_consumer;
pub mod r2_bucket;
pub mod r2_object;
mod route;
mod secrets_store;
pub mod tail;
#[cfg(test)]
pub(in crate::provider) mod testing;
pub mod transfer;
pub mod transport;
mod tunnel;
mod vectorize_index;
pub mod worker;
pub mod workflow;
mod zone;
mod zones;

use std::{sync::Arc, time::Duration};

use self::object::Object;
use super::Registry;
use crate::bundle::Bundler;

pub use client::{Client, PUBLIC_BASE_URL, is_loopback};
pub use transport::{HttpTransport, RouterTransport, Transport, TransportError};

/// How long a list of Cloudflare's is taken to lack what was just made, to be cautious: a recovery that begins within
/// a minute after a crash waits for the rest of that minute before it takes an object that it does not find for one never made.
pub const LAG: Duration = Duration::from_secs(60);

/// Adds every kind of Cloudflare to `registry`, all over one client. Workers are bundled by `bundler`.
pub fn register(registry: &Registry, client: &Arc<Client>, bundler: &Arc<dyn Bundler>) {
    registry.add(Arc::new(d1_database::D1Database::new(Arc::clone(client))));
    registry.add(Arc::new(kv_namespace::KvNamespace::new(Arc::clone(client))));
    registry.add(Arc::new(r2_bucket::R2Bucket::new(Arc::clone(client))));
    registry.add(Arc::new(r2_object::R2Object::new(Arc::clone(client))));
    registry.add(Arc::new(queue::Queue::new(Arc::clone(client))));
    registry.add(Arc::new(workflow::Workflow::new(Arc::clone(client))));
    registry.add(Arc::new(
        durable_object_namespace::DurableObjectNamespace::default(),
    ));
    registry.add(Arc::new(queue_consumer::QueueConsumer::new(Arc::clone(
        client,
    ))));
    registry.add(Arc::new(worker::Worker::new(
        Arc::clone(client),
        Arc::clone(bundler),
    )));
    registry.add(Arc::new(custom_domain::CustomDomain::new(Arc::clone(
        client,
    ))));
    registry.add(Arc::new(dns_records::DnsRecords::new(Arc::clone(client))));
    registry.add(Arc::new(Object::new(
        Arc::clone(client),
        ai_gateway::AiGateway,
    )));
    registry.add(Arc::new(Object::new(Arc::clone(client), tunnel::Tunnel)));
    registry.add(Arc::new(Object::new(
        Arc::clone(client),
        hyperdrive::Hyperdrive,
    )));
    registry.add(Arc::new(Object::new(Arc::clone(client), route::Route)));
    registry.add(Arc::new(Object::new(
        Arc::clone(client),
        secrets_store::Secret,
    )));
    registry.add(Arc::new(Object::new(
        Arc::clone(client),
        secrets_store::SecretsStore,
    )));
    registry.add(Arc::new(Object::new(
        Arc::clone(client),
        vectorize_index::VectorizeIndex,
    )));
    registry.add(Arc::new(Object::new(Arc::clone(client), zone::Zone)));
}
