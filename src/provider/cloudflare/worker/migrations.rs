//! Durable Object classes of a Worker: what an upload must tell Cloudflare so that the deployed classes become the bound ones.
//!
//! A class is remembered by the id of the declaration that is bound, so that another class name under the same id renames it
//! and keeps its objects. The ids stand in tags of the script (`alchemy:do:<id>:<binding>`, the form that Alchemy uses), which
//! are read back before each upload: state may be lost, and another client may have deployed meanwhile.
//!
//! A class lives on without a binding: another client may take the binding away, or never have made one. Such a class is found
//! in the account's list of namespaces, which is asked where the bindings leave open what there is.
//!
//! Deleted are only classes that the outputs in state name: those were shown to the user, who consented.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{
    super::{durable_object_namespace, error::CallError, props},
    modules::{JAVASCRIPT, Module},
};
use crate::{
    model::{Map, Value},
    provider::{FailureKind, ProviderError, text_prop},
    util::{javascript::exports_without, text},
};

const TAG: &str = "alchemy:do:";
const MIGRATION_TAG: &str = "alchemy:migration-tag:";
/// Whether a tag of a script is for classes, and no tag of the user's.
pub(super) fn is_mark(tag: &str) -> bool {
    tag.starts_with(TAG) || tag.starts_with(MIGRATION_TAG)
}

/// The output that names the classes.
pub(super) const OUTPUT: &str = "durableObjects";

/// A class that the Worker is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    id: String,
    binding: String,
    class: String,
    sqlite: bool,
}

/// A class that the Worker has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Under which ids it is remembered.
    ids: BTreeSet<String>,
    class: String,
    /// Whether it has SQL, where that is known.
    sqlite: Option<bool>,
}

/// What is deployed.
#[derive(Debug, Default)]
pub(super) struct Deployed {
    pub(super) classes: Vec<Known>,
    /// The tag of the last migration.
    pub(super) tag: Option<String>,
}

/// The difference between classes that are there and classes that are to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    /// Class, and whether it has SQL.
    new: Vec<(String, bool)>,
    /// From and to.
    renamed: Vec<(String, String)>,
    deleted: Vec<String>,
}

/// The classes that the Worker `name` is to have: what is bound and is not another Worker's.
pub(super) fn wanted(name: Option<&str>, props: &Map) -> Result<Vec<Wanted>, ProviderError> {
    let mut out: Vec<Wanted> = Vec::new();
    for (binding, value) in props::map_prop(props, "bindings").into_iter().flatten() {
        let Value::Resource(view) = value else {
            continue;
        };
        let script = text_prop(&view.outputs, "scriptName");
        if &*view.kind != durable_object_namespace::KIND
            || script.is_some_and(|script| name.is_none_or(|name| name != script))
        {
            continue;
        }
        let Some(class) = text_prop(&view.outputs, "className") else {
            continue;
        };
        let wanted = Wanted {
            id: plain(text_prop(&view.outputs, "id").unwrap_or(&view.physical_name)),
            binding: binding.clone(),
            class: class.to_owned(),
            sqlite: view.outputs.get("sqlite").and_then(Value::as_bool) != Some(false),
        };
        if let Some(other) = out
            .iter()
            .find(|other| (other.id == wanted.id) != (other.class == wanted.class))
        {
            let what = if other.id == wanted.id {
                format!("`{}` is the id of two classes", wanted.id)
            } else {
                format!("the class `{class}` is declared under two ids")
            };
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!("bindings `{}` and `{binding}`: {what}", other.binding),
            )
            .with_help("declare each class of Durable Objects once, under an id of its own"));
        }
        out.push(wanted);
    }
    Ok(out)
}

/// An id as a tag can hold it.
fn plain(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.len() <= 100 && id.chars().all(fits) {
        return id.to_owned();
    }
    format!("hash-{}", &blake3::hash(id.as_bytes()).to_hex()[..32])
}

impl Deployed {
    /// What the settings of the script `name` and its tag say.
    pub(super) fn read(name: &str, settings: &Json, tag: Option<&str>) -> Self {
        let tags: Vec<&str> = settings
            .get("tags")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let mut classes: Vec<Known> = Vec::new();
        let bindings = settings.get("bindings").and_then(Json::as_array);
        for binding in bindings.into_iter().flatten() {
            let own = props::text(binding, "script_name").is_none_or(|script| script == name);
            if props::text(binding, "type") != Some("durable_object_namespace") || !own {
                continue;
            }
            let (Some(class), Some(binding)) = (
                props::text(binding, "class_name"),
                props::text(binding, "name"),
            ) else {
                continue;
            };
            let position = classes.iter().position(|known| known.class == class);
            let position = position.unwrap_or_else(|| {
                classes.push(Known {
                    class: class.to_owned(),
                    ..Known::default()
                });
                classes.len() - 1
            });
            let ids = tags
                .iter()
                .filter_map(|tag| tag.strip_prefix(TAG)?.rsplit_once(':'))
                .filter(|(_, bound)| *bound == binding)
                .map(|(id, _)| id.to_owned());
            classes[position].ids.extend(ids);
        }
        let remembered = tags.iter().find_map(|tag| tag.strip_prefix(MIGRATION_TAG));
        Self {
            classes,
            tag: tag.or(remembered).map(str::to_owned),
        }
    }

    /// Whether a class may be there that no binding shows: one of `recorded`, or one that is `wanted` and else would be new.
    pub(super) fn is_open(&self, wanted: &[Wanted], recorded: &[Known]) -> bool {
        let is_bound = |class: &str| self.classes.iter().any(|known| known.class == class);
        recorded.iter().any(|known| !is_bound(&known.class))
            || !steps(wanted, &self.classes).new.is_empty()
    }

    /// Adds the classes of the script `name` that no binding shows, out of the account's `namespaces`. Their ids are those of
    /// `recorded`: the tags name bindings.
    pub(super) fn add_unbound(&mut self, name: &str, namespaces: &[Json], recorded: &[Known]) {
        for namespace in namespaces {
            let Some(class) = props::text(namespace, "class") else {
                continue;
            };
            if props::text(namespace, "script") != Some(name)
                || self.classes.iter().any(|known| known.class == class)
            {
                continue;
            }
            let recorded = recorded.iter().find(|known| known.class == class);
            let known = Known {
                ids: recorded.map(|known| known.ids.clone()).unwrap_or_default(),
                class: class.to_owned(),
                sqlite: namespace.get("use_sqlite").and_then(Json::as_bool),
            };
            // What state knows goes before a class that somebody else bound in its place.
            self.classes.insert(0, known);
        }
    }

    /// Takes over what state knows of the same classes and the API does not tell.
    fn completed(mut self, recorded: &[Known]) -> Self {
        for known in &mut self.classes {
            if let Some(recorded) = recorded.iter().find(|other| other.class == known.class) {
                known.sqlite = known.sqlite.or(recorded.sqlite);
            }
        }
        self
    }

    /// The classes as an output names them.
    pub(super) fn output(&self) -> Option<Value> {
        let item = |known: &Known| {
            let mut map = Map::from([("className".to_owned(), Value::from(known.class.as_str()))]);
            if let Some(id) = known.ids.first() {
                map.insert("id".to_owned(), Value::from(id.as_str()));
            }
            if let Some(sqlite) = known.sqlite {
                map.insert("sqlite".to_owned(), Value::Bool(sqlite));
            }
            Value::Map(map)
        };
        let items: Vec<Value> = self.classes.iter().map(item).collect();
        (!items.is_empty()).then_some(Value::Array(items))
    }
}

/// The classes that the outputs in state name.
pub(super) fn recorded(outputs: &Map) -> Vec<Known> {
    let items = outputs.get(OUTPUT).and_then(Value::as_array);
    items
        .unwrap_or_default()
        .iter()
        .filter_map(|item| {
            let item = item.as_map()?;
            Some(Known {
                ids: text_prop(item, "id")
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                class: text_prop(item, "className")?.to_owned(),
                sqlite: item.get("sqlite").and_then(Value::as_bool),
            })
        })
        .collect()
}

fn steps(wanted: &[Wanted], deployed: &[Known]) -> Steps {
    let mut steps = Steps::default();
    let mut left: Vec<&Known> = deployed.iter().collect();
    let mut classes = BTreeSet::new();
    let distinct: Vec<&Wanted> = wanted
        .iter()
        .filter(|wanted| classes.insert(wanted.class.as_str()))
        .collect();
    let mut unmatched = Vec::new();
    for wanted in distinct {
        let of_id = |known: &&&Known| known.ids.contains(&wanted.id);
        let mut same = left.iter().filter(of_id);
        let same = same.find(|known| known.class == wanted.class);
        let found = same.or_else(|| left.iter().find(of_id)).copied();
        let position = found.and_then(|found| left.iter().position(|known| *known == found));
        match position {
            Some(position) => {
                let known = left.swap_remove(position);
                if known.class != wanted.class {
                    let rename = (known.class.clone(), wanted.class.clone());
                    steps.renamed.push(rename);
                }
            }
            None => unmatched.push(wanted),
        }
    }
    for wanted in unmatched {
        // Under another id, or nobody's so far: the same objects all the same.
        match left.iter().position(|known| known.class == wanted.class) {
            Some(position) => {
                left.swap_remove(position);
            }
            None => steps.new.push((wanted.class.clone(), wanted.sqlite)),
        }
    }
    steps.deleted = left.into_iter().map(|known| known.class.clone()).collect();
    steps.deleted.sort();
    steps
}

/// What goes with a change from the `outputs` in state to `next`.
pub(super) fn losses(outputs: &Map, next: Option<&Map>) -> Vec<String> {
    let recorded = recorded(outputs);
    let deleted = match next {
        None => recorded.iter().map(|known| known.class.clone()).collect(),
        // Its own name is no prop that changes without replacement, so that every named script counts as another's
        // unless it is this one.
        Some(next) => match wanted(text_prop(outputs, "name"), next) {
            Ok(wanted) => steps(&wanted, &recorded).deleted,
            // The upload will say what is wrong.
            Err(_) => Vec::new(),
        },
    };
    deleted
        .into_iter()
        .map(|class| format!("the Durable Object class `{class}` with its data"))
        .collect()
}

/// Whether an upload was refused because its migration does not start from the tag that the Worker has.
pub(super) fn is_refused(error: &CallError) -> bool {
    matches!(error, CallError::Api(error) if error.status == 412)
}

/// What an upload says about classes.
#[derive(Debug)]
pub(super) struct Migration {
    steps: Steps,
    old_tag: Option<String>,
    wanted: Vec<Wanted>,
}

impl Migration {
    /// From what is deployed to what is wanted. `outputs` are those in state.
    pub(super) fn new(
        wanted: Vec<Wanted>,
        deployed: Deployed,
        outputs: &Map,
    ) -> Result<Self, ProviderError> {
        let recorded = recorded(outputs);
        let deployed = deployed.completed(&recorded);
        let mut steps = steps(&wanted, &deployed.classes);
        let was = |class: &str| {
            let from = steps.renamed.iter().find(|(_, to)| to == class);
            from.map_or(class.to_owned(), |(from, _)| from.clone())
        };
        for wanted in &wanted {
            let class = was(&wanted.class);
            let known = deployed.classes.iter().find(|known| known.class == class);
            if known
                .and_then(|known| known.sqlite)
                .is_some_and(|sqlite| sqlite != wanted.sqlite)
            {
                return Err(ProviderError::new(
                    FailureKind::Refused,
                    format!(
                        "binding `{}`: `sqlite` of the Durable Object class `{class}` cannot change: a class keeps its storage for life",
                        wanted.binding
                    ),
                )
                .with_help("set it back, or declare another class under another id"));
            }
        }
        // Another client may have bound other classes since, so that the difference to what is there deletes more.
        let told = self::steps(&wanted, &recorded).deleted;
        steps.deleted.retain(|class| told.contains(class));
        Ok(Self {
            steps,
            old_tag: deployed.tag,
            wanted,
        })
    }

    /// Refuses a class that the main module surely does not export: without it nothing can be made of the class.
    pub(super) fn refuse_absent(
        &self,
        modules: &[Module],
        props: &Map,
    ) -> Result<(), ProviderError> {
        let Some(main) = modules
            .first()
            .filter(|main| main.content_type == JAVASCRIPT)
        else {
            return Ok(());
        };
        let Ok(code) = std::str::from_utf8(&main.content) else {
            return Ok(());
        };
        for wanted in &self.wanted {
            let class = &wanted.class;
            let Some(exports) = exports_without(code, class) else {
                continue;
            };
            let place = match text_prop(props, "entrypoint") {
                Some(entrypoint) => format!("`{entrypoint}`"),
                None => "the script".to_owned(),
            };
            let list: Vec<String> = exports.iter().map(|name| format!("`{name}`")).collect();
            let found = match list.is_empty() {
                true => "nothing".to_owned(),
                false => list.join(", "),
            };
            let near = text::suggestions(class, exports.iter().map(String::as_str), 1);
            let help = match near.first() {
                Some(near) => format!(
                    "did you mean `{near}`? `className` is the name that the Worker exports"
                ),
                None => format!(
                    "write `export class {class} extends DurableObject {{ .. }}`, or `export {{ {class} }} from` where it is"
                ),
            };
            return Err(ProviderError::new(
                FailureKind::Refused,
                format!(
                    "binding `{}`: {place} does not export the Durable Object class `{class}`; it exports {found}",
                    wanted.binding
                ),
            )
            .with_help(help));
        }
        Ok(())
    }

    fn new_tag(&self) -> Option<String> {
        if self.steps == Steps::default() {
            return None;
        }
        let number = self
            .old_tag
            .as_deref()
            .and_then(|tag| tag.strip_prefix('v')?.parse::<u64>().ok())
            .unwrap_or(0);
        Some(format!("v{}", number.saturating_add(1)))
    }

    /// Puts the migration, and the tags that remember the ids, into the metadata of an upload.
    pub(super) fn write(&self, metadata: &mut Json) {
        let new_tag = self.new_tag();
        if let Some(Json::Array(tags)) = metadata.get_mut("tags") {
            for wanted in &self.wanted {
                tags.push(json!(format!("{TAG}{}:{}", wanted.id, wanted.binding)));
            }
            if let Some(tag) = new_tag.as_ref().or(self.old_tag.as_ref()) {
                tags.push(json!(format!("{MIGRATION_TAG}{tag}")));
            }
        }
        let Some(new_tag) = new_tag else {
            return;
        };
        let mut migrations = json!({ "new_tag": new_tag });
        if let Some(tag) = &self.old_tag {
            migrations["old_tag"] = json!(tag);
        }
        let of = |sqlite: bool| -> Vec<&str> {
            let new = self.steps.new.iter().filter(|(_, with)| *with == sqlite);
            new.map(|(class, _)| class.as_str()).collect()
        };
        let renamed: Vec<Json> = self
            .steps
            .renamed
            .iter()
            .map(|(from, to)| json!({ "from": from, "to": to }))
            .collect();
        for (field, value) in [
            ("new_sqlite_classes", json!(of(true))),
            ("new_classes", json!(of(false))),
            ("renamed_classes", json!(renamed)),
            ("deleted_classes", json!(self.steps.deleted)),
        ] {
            if value != json!([]) {
                migrations[field] = value;
            }
        }
        metadata["migrations"] = migrations;
    }

    /// Whether a Worker is where this migration leads: it has the tag, and the classes that are `wanted`.
    pub(super) fn is_done(
        &self,
        wanted: Vec<Wanted>,
        deployed: Deployed,
    ) -> Result<bool, ProviderError> {
        let tag = self.new_tag();
        let same_tag = tag.is_some() && deployed.tag == tag;
        Ok(same_tag
            && Self::new(wanted, deployed, &Map::new())?
                .new_tag()
                .is_none())
    }

    /// The classes after the upload, as an output names them.
    pub(super) fn output(&self) -> Option<Value> {
        let item = |wanted: &Wanted| {
            Value::Map(Map::from([
                ("id".to_owned(), Value::from(wanted.id.as_str())),
                ("className".to_owned(), Value::from(wanted.class.as_str())),
                ("sqlite".to_owned(), Value::Bool(wanted.sqlite)),
            ]))
        };
        let mut seen = BTreeSet::new();
        let items: Vec<Value> = self
            .wanted
            .iter()
            .filter(|wanted| seen.insert(wanted.class.as_str()))
            .map(item)
            .collect();
        (!items.is_empty()).then_some(Value::Array(items))
    }
}

#[cfg(test)]
mod tests;
