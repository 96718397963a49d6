//! References: what they point at in this run, the hashes of their values, and props with the values put in.

use std::collections::BTreeMap;

use crate::{
    model::{
        Fqn, Map, Reference, ResourceView, Secret, SecretMac, TemplatePart, Value,
        value::Fingerprint,
    },
    secret::{Keyring, VaultError, map_has_secret},
};

use super::{
    declaration::NodeId,
    node::{Graph, Node, NodeState},
};

/// A secret hash for values without secrets.
struct NoSecrets;

impl SecretMac for NoSecrets {
    fn mac(&self, _plaintext: &str) -> String {
        String::new()
    }
}

/// Whether a plain secret stands anywhere in the value.
pub(super) fn has_plain_secret(value: &Value) -> bool {
    match value {
        Value::Secret(Secret::Plain(_)) => true,
        Value::Array(items) => items.iter().any(has_plain_secret),
        Value::Map(map) => map.values().any(has_plain_secret),
        _ => false,
    }
}

/// A hash of `value`, deriving the stage's key only when a plain secret is met.
pub(super) fn fingerprint(
    keyring: &Keyring,
    value: &Value,
    resolve: &dyn Fn(&Reference) -> Fingerprint,
) -> Result<Fingerprint, VaultError> {
    if has_plain_secret(value) {
        Ok(value.fingerprint(keyring.vault()?, resolve))
    } else {
        Ok(value.fingerprint(&NoSecrets, resolve))
    }
}

/// The value that a reference has now.
pub(super) enum Resolved {
    /// This.
    Value(Value),
    /// Only the provider will tell (plans).
    Unknown,
    /// The object lacks the attribute.
    Missing,
}

/// What `reference` stands for in this run. The node it points at must be settled.
pub(super) fn reference_value(graph: &Graph, reference: &Reference) -> Resolved {
    let Some(id) = graph.by_fqn.get(&reference.fqn) else {
        return Resolved::Missing;
    };
    let node = graph.node(*id);
    let Some((first, rest)) = reference.path.split_first() else {
        return match view(node) {
            Some(view) => Resolved::Value(Value::Resource(std::sync::Arc::new(view))),
            None => Resolved::Unknown,
        };
    };
    match builtin(node, first).or_else(|| node.output(first).cloned()) {
        Some(value) => match value.at(rest) {
            Some(value) => Resolved::Value(value.clone()),
            None => Resolved::Missing,
        },
        None => match &node.state {
            NodeState::Done(_) => Resolved::Missing,
            _ => Resolved::Unknown,
        },
    }
}

/// Attributes that every resource has.
pub(super) fn builtin(node: &Node, name: &str) -> Option<Value> {
    match name {
        "fqn" => Some(Value::string(node.fqn.as_str())),
        "kind" => Some(Value::string(node.kind.as_ref())),
        "stage" => Some(Value::string(node.fqn.stage().stage.plain())),
        "name" => Some(
            node.output("name")
                .cloned()
                .unwrap_or_else(|| Value::string(node.checked.physical_name.clone())),
        ),
        _ => None,
    }
}

/// The whole resource for a dependent; `None` when an attribute that names it is not known (plans).
fn view(node: &Node) -> Option<ResourceView> {
    let outputs = match &node.state {
        NodeState::Done(record) => record.outputs.clone(),
        NodeState::Planned { known } => {
            let schema = node.schema();
            let complete = !schema.open_attributes
                && schema
                    .attributes
                    .iter()
                    .filter(|attribute| attribute.identity)
                    .all(|attribute| known.contains_key(attribute.name));
            if !complete {
                return None;
            }
            known.clone()
        }
        _ => return None,
    };
    Some(ResourceView {
        fqn: node.fqn.clone(),
        kind: node.kind.clone(),
        physical_name: node.checked.physical_name.clone(),
        outputs,
    })
}

/// What a dependent's hash takes of a reference: the value, and of a whole resource only what names it, so that cosmetic
/// changes do not cascade.
fn hashable(graph: &Graph, reference: &Reference) -> Option<Value> {
    match reference_value(graph, reference) {
        Resolved::Value(Value::Resource(view)) => {
            let node = graph.node(*graph.by_fqn.get(&reference.fqn)?);
            let schema = node.schema();
            let identity: Map = view
                .outputs
                .iter()
                .filter(|(name, _)| {
                    schema.open_attributes
                        || schema
                            .attributes
                            .iter()
                            .any(|a| a.identity && a.name == name.as_str())
                })
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            // The name counts only where nothing else tells which object it is: for some kinds it is cosmetic.
            let named = if identity.is_empty() {
                Value::string(view.physical_name.clone())
            } else {
                Value::Map(identity)
            };
            Some(Value::Array(vec![Value::string(view.kind.as_ref()), named]))
        }
        Resolved::Value(value) => Some(value),
        Resolved::Missing => Some(Value::Null),
        Resolved::Unknown => None,
    }
}

/// Hashes of a declaration.
pub(super) struct PropsHash {
    /// Hash of all props with the values of their references; `None` while one is unknown (plans).
    pub(super) whole: Option<String>,
    /// Hash of each reference's value by its text form; unknown ones are missing.
    pub(super) references: BTreeMap<String, String>,
}

/// Hashes the props of a node whose dependencies are settled.
pub(super) fn props_hash(
    graph: &Graph,
    keyring: &Keyring,
    node: &Node,
) -> Result<PropsHash, VaultError> {
    let mut references = BTreeMap::new();
    let mut values = std::collections::HashMap::new();
    let mut unknown = false;
    let mut failed = None;
    for value in node.checked.props.values() {
        value.visit_references(&mut |reference| {
            if values.contains_key(reference) || failed.is_some() {
                return;
            }
            match hashable(graph, reference) {
                Some(value) => match fingerprint(keyring, &value, &|_| Fingerprint([0; 32])) {
                    Ok(hash) => {
                        references.insert(reference_key(reference), hash.to_hex());
                        values.insert(reference.clone(), hash);
                    }
                    Err(error) => failed = Some(error),
                },
                None => unknown = true,
            }
        });
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if unknown {
        return Ok(PropsHash {
            whole: None,
            references,
        });
    }
    let whole = hash_props(
        keyring,
        &node.kind,
        &node.checked.physical_name,
        &node.checked.props,
        &|reference| {
            values
                .get(reference)
                .copied()
                .unwrap_or(Fingerprint([0; 32]))
        },
    )?;
    Ok(PropsHash {
        whole: Some(whole),
        references,
    })
}

/// The text form that reference hashes are stored under.
pub(super) fn reference_key(reference: &Reference) -> String {
    let mut key = reference.fqn.as_str().to_owned();
    for part in &reference.path {
        key.push('.');
        key.push_str(part);
    }
    key
}

/// The hash that a record stores: kind, physical name and props.
pub(super) fn hash_props(
    keyring: &Keyring,
    kind: &str,
    physical_name: &str,
    props: &Map,
    resolve: &dyn Fn(&Reference) -> Fingerprint,
) -> Result<String, VaultError> {
    let mut hasher = blake3::Hasher::new();
    for text in [kind, physical_name] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for (key, value) in props {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key.as_bytes());
        hasher.update(&fingerprint(keyring, value, resolve)?.0);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Why props could not be resolved.
pub(super) enum ResolveError {
    /// This reference has no value.
    Missing(String),
    /// A secret does not open.
    Vault(VaultError),
}

/// The props of a node with every reference replaced by its value and every secret opened.
pub(super) fn resolve_props(
    graph: &Graph,
    keyring: &Keyring,
    props: &Map,
) -> Result<Map, ResolveError> {
    let mut out = Map::new();
    for (key, value) in props {
        let value = value.try_map_leaves(&mut vec![key.clone()], &mut |_, leaf| match leaf {
            Value::Ref(reference) => lookup(graph, reference),
            Value::Template(parts) => {
                let mut text = String::new();
                let mut secret = false;
                for part in parts {
                    let reference = match part {
                        TemplatePart::Text(piece) => {
                            text.push_str(piece);
                            continue;
                        }
                        TemplatePart::Ref(reference) => reference,
                    };
                    match lookup(graph, reference)? {
                        Value::Secret(part) => {
                            let vault = keyring.vault().map_err(ResolveError::Vault)?;
                            text.push_str(&vault.open(&part).map_err(ResolveError::Vault)?);
                            secret = true;
                        }
                        value => match text_form(&value) {
                            Some(piece) => text.push_str(&piece),
                            None => {
                                return Err(ResolveError::Missing(format!(
                                    "{reference} (a {} cannot be put into text)",
                                    value.type_name()
                                )));
                            }
                        },
                    }
                }
                if secret {
                    return Ok(Value::Secret(Secret::plain(text)));
                }
                Ok(Value::String(text))
            }
            other => Ok(other.clone()),
        })?;
        out.insert(key.clone(), value);
    }
    if map_has_secret(&out) {
        let vault = keyring.vault().map_err(ResolveError::Vault)?;
        return open_all(vault, &out).map_err(ResolveError::Vault);
    }
    Ok(out)
}

/// Opens the secrets of props and of the resources in them.
fn open_all(vault: &crate::secret::Vault, props: &Map) -> Result<Map, VaultError> {
    let opened = vault.open_map(props)?;
    let value = Value::Map(opened).try_map_leaves(&mut Vec::new(), &mut |_, leaf| match leaf {
        Value::Resource(view) => Ok(Value::Resource(std::sync::Arc::new(ResourceView {
            outputs: vault.open_map(&view.outputs)?,
            ..view.as_ref().clone()
        }))),
        other => Ok(other.clone()),
    })?;
    match value {
        Value::Map(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The props of a node with the values of its references as far as they are known: a resource that is yet to be made stands
/// there with what is known of it, anything else that is unknown stays a reference.
pub(super) fn known_props(graph: &Graph, props: &Map) -> Map {
    let known = |leaf: &Value| match leaf {
        Value::Ref(reference) if reference.path.is_empty() => {
            let node = graph.node(*graph.by_fqn.get(&reference.fqn)?);
            let outputs = match &node.state {
                NodeState::Done(record) => record.outputs.clone(),
                NodeState::Planned { known } => known.clone(),
                NodeState::Failed(_) => return None,
                NodeState::Waiting | NodeState::Ready(_) | NodeState::Running => {
                    node.checked.known.clone()
                }
            };
            Some(Value::Resource(std::sync::Arc::new(ResourceView {
                fqn: node.fqn.clone(),
                kind: node.kind.clone(),
                physical_name: node.checked.physical_name.clone(),
                outputs,
            })))
        }
        Value::Ref(reference) => match reference_value(graph, reference) {
            Resolved::Value(value) => Some(value),
            Resolved::Unknown | Resolved::Missing => None,
        },
        _ => None,
    };
    let map = Value::Map(props.clone())
        .try_map_leaves::<std::convert::Infallible>(&mut Vec::new(), &mut |_, leaf| {
            Ok(known(leaf).unwrap_or_else(|| leaf.clone()))
        });
    match map {
        Ok(Value::Map(map)) => map,
        _ => props.clone(),
    }
}

fn lookup(graph: &Graph, reference: &Reference) -> Result<Value, ResolveError> {
    match reference_value(graph, reference) {
        Resolved::Value(value) => Ok(value),
        Resolved::Unknown | Resolved::Missing => Err(ResolveError::Missing(reference.to_string())),
    }
}

fn text_form(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

/// What props refer to, each once.
pub(super) fn references(props: &Map) -> Vec<Reference> {
    let mut out: Vec<Reference> = Vec::new();
    for value in props.values() {
        value.visit_references(&mut |reference| {
            if !out.contains(reference) {
                out.push(reference.clone());
            }
        });
    }
    out
}

/// The nodes that props refer to, each once, in order of first mention. Unknown names are answered as errors.
pub(super) fn dependencies(graph: &Graph, props: &Map) -> Result<Vec<NodeId>, Fqn> {
    let mut out: Vec<NodeId> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut unknown = None;
    for value in props.values() {
        value.visit_references(&mut |reference| match graph.by_fqn.get(&reference.fqn) {
            Some(id) => {
                if seen.insert(*id) {
                    out.push(*id);
                }
            }
            None => unknown = Some(reference.fqn.clone()),
        });
    }
    match unknown {
        Some(fqn) => Err(fqn),
        None => Ok(out),
    }
}
