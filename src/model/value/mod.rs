//! The value tree: props, outputs and everything that persists or crosses a module.
//!
//! It is JSON with four more leaves: bytes, secrets, references to an attribute of another resource, and text made of
//! both. Maps are sorted, so key order never matters. The JSON form on disk marks the extra leaves with keys that begin
//! with `$`; a user's key that begins with `$` is escaped by doubling it.
//!
//! This file is the tree itself; its JSON forms are in `json` and [`serial`], its hash in `fingerprint`.

mod fingerprint;
mod json;
mod secret;
pub mod serial;

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::name::Fqn;

pub use fingerprint::Fingerprint;
pub use json::DecodeError;
pub use secret::{SealedSecret, Secret, SecretMac};

/// A map of values, sorted by key.
pub type Map = BTreeMap<String, Value>;

/// JSON with bytes, secrets, references and templates as further leaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing: `()` in a script, `null` in JSON.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// A map.
    Map(Map),
    /// A value that no output may show.
    Secret(Secret),
    /// An attribute of another resource, or the whole resource.
    Ref(Reference),
    /// Text with references in it.
    Template(Vec<TemplatePart>),
    /// What a reference to a whole resource becomes when it is resolved. Never persisted.
    Resource(Arc<ResourceView>),
}

/// A pointer to another resource's output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The resource.
    pub fqn: Fqn,
    /// The path to the attribute below its outputs; empty for the whole resource.
    pub path: Vec<String>,
}

/// One piece of a [`Value::Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it stands.
    Text(String),
    /// The text form of an attribute.
    Ref(Reference),
}

/// What a dependent sees of a resource whose handle it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceView {
    /// Its fully qualified name.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What the provider calls it.
    pub physical_name: String,
    /// Its outputs.
    pub outputs: Map,
}

impl Value {
    /// Text as a value.
    #[must_use]
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number, if this is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The map, if this is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if this is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The value below a path of map keys and list indices; `None` where the path ends early.
    #[must_use]
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| match value {
            Self::Map(map) => map.get(key),
            Self::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        })
    }

    /// What the type is called in messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "()",
            Self::Bool(_) => "bool",
            Self::Int(_) => "integer",
            Self::Float(_) => "number",
            Self::String(_) | Self::Template(_) => "string",
            Self::Bytes(_) => "blob",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Secret(_) => "secret",
            Self::Ref(reference) if reference.path.is_empty() => "resource",
            Self::Ref(_) => "output of a resource",
            Self::Resource(_) => "resource",
        }
    }

    /// Calls `visit` for every reference in the tree, in order.
    pub fn visit_references<'a>(&'a self, visit: &mut impl FnMut(&'a Reference)) {
        match self {
            Self::Ref(reference) => visit(reference),
            Self::Template(parts) => {
                for part in parts {
                    if let TemplatePart::Ref(reference) = part {
                        visit(reference);
                    }
                }
            }
            Self::Array(items) => {
                for item in items {
                    item.visit_references(visit);
                }
            }
            Self::Map(map) => {
                for item in map.values() {
                    item.visit_references(visit);
                }
            }
            _ => {}
        }
    }

    /// Whether a reference or template stands anywhere in the tree.
    #[must_use]
    pub fn has_references(&self) -> bool {
        let mut found = false;
        self.visit_references(&mut |_| found = true);
        found
    }

    /// Rebuilds the tree with every leaf passed through `change`; containers are walked, not passed.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn try_map_leaves<E>(
        &self,
        path: &mut Vec<String>,
        change: &mut impl FnMut(&[String], &Self) -> Result<Self, E>,
    ) -> Result<Self, E> {
        match self {
            Self::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    let changed = item.try_map_leaves(path, change);
                    path.pop();
                    out.push(changed?);
                }
                Ok(Self::Array(out))
            }
            Self::Map(map) => {
                let mut out = Map::new();
                for (key, item) in map {
                    path.push(key.clone());
                    let changed = item.try_map_leaves(path, change);
                    path.pop();
                    out.insert(key.clone(), changed?);
                }
                Ok(Self::Map(out))
            }
            leaf => change(path, leaf),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fqn.within_stage())?;
        for part in &self.path {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

impl FromIterator<Self> for Value {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

#[cfg(test)]
mod tests;
