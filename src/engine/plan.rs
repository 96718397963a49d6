//! Plans: what a run would do, as data with a hash, written to a file and held to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Fqn, Position};

use super::event::Action;

/// How one property would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Path of keys and indices.
    pub path: Vec<String>,
    /// The value in state in its display form; absent when the property is new.
    pub before: Option<serde_json::Value>,
    /// The declared value in its display form; absent when the property goes.
    pub after: Option<serde_json::Value>,
    /// Whether it is a secret: both sides then say `<secret>`.
    pub secret: bool,
    /// Whether the new value is known only after apply.
    pub unknown: bool,
    /// Whether this property is the reason for a replacement.
    pub replaces: bool,
}

/// What would happen to one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedAction {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What would happen.
    pub action: Action,
    /// What the object is or will be called.
    pub physical_name: String,
    /// Why, in words: `not in state`, `no longer declared`, `primaryLocationHint changed` ..
    pub reason: String,
    /// Property by property.
    pub changes: Vec<PropertyChange>,
    /// Whether the script decided on something that only the provider will know before it declared this: it may come otherwise.
    pub conditional: bool,
    /// Where it is declared.
    pub position: Option<Position>,
}
