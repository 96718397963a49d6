//! `cloudflare::DurableObjectNamespace`: a class of Durable Objects, for the bindings of Workers.
//!
//! The kind makes no call. Cloudflare makes, renames and deletes the objects of a class with the upload of the Worker that has
//! the class, so that Worker does it when this is bound to it (`worker::migrations`). What is declared here is remembered by
//! its id: a class that gets another name under the same id keeps its objects.

use async_trait::async_trait;

use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, Found, OperationContext, PropError, Provider,
        ProviderError,
    },
};

use super::{names::naming_prop, props};

pub(super) const KIND: &str = "cloudflare::DurableObjectNamespace";

/// The outputs that are props: what a binding says.
const FIELDS: [&str; 5] = [
    "className",
    "scriptName",
    "environment",
    "namespaceId",
    "sqlite",
];

/// The kind.
#[derive(Debug)]
pub struct DurableObjectNamespace {
    schema: KindSchema,
}

impl Default for DurableObjectNamespace {
    fn default() -> Self {
        Self { schema: schema() }
    }
}

fn schema() -> KindSchema {
    KindSchema {
        kind: KIND.into(),
        doc: "A class of Durable Objects.".to_owned(),
        props: vec![
            Prop::new(
                "className",
                PropType::String,
                "the class, as the Worker's code exports it",
            )
            .required(),
            Prop::new(
                "scriptName",
                super::worker::named(),
                "the Worker that has the class, its handle or its name; the one it is bound to when it is not given",
            ),
            Prop {
                default: Some(Value::Bool(true)),
                ..Prop::new(
                    "sqlite",
                    PropType::Bool,
                    "whether the objects have a SQL database; fixed for the life of the class",
                )
            },
            Prop::new(
                "environment",
                PropType::String,
                "the environment of the Worker that has the class",
            ),
            Prop::new(
                "namespaceId",
                PropType::String,
                "the id of the objects of another Worker's class",
            ),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "what the class is remembered by"),
            Attribute::identity("className", "the class"),
            Attribute::identity(
                "scriptName",
                "the Worker that has the class, where one is named",
            ),
            Attribute::identity("environment", "the environment of that Worker"),
            Attribute::identity("namespaceId", "the id of the objects, where it is given"),
            Attribute::identity("sqlite", "whether the objects have a SQL database"),
            Attribute::new("type", "`durable_object_namespace`"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        // Nothing is deleted with the declaration: the Worker asks for consent when it drops the class.
        delete: DeletePolicy::Disposable,
        name_limit: 255,
    }
}

/// The outputs that are known of `props`; those that hold references are not.
fn outputs(id: &str, props: &Map) -> Map {
    let mut out = Map::from([
        ("id".to_owned(), Value::from(id)),
        ("type".to_owned(), Value::from("durable_object_namespace")),
    ]);
    for field in FIELDS {
        let value = match props.get(field) {
            Some(Value::Resource(view)) => view.outputs.get("name"),
            given => given,
        };
        let value = value.unwrap_or(&Value::Null);
        if matches!(value, Value::String(_) | Value::Bool(_) | Value::Null) {
            out.insert(field.to_owned(), value.clone());
        }
    }
    out
}

/// Whether code can export a class of this name.
pub(super) fn is_class_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[async_trait]
impl Provider for DurableObjectNamespace {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        props.remove("naming");
        props
            .entry("sqlite".to_owned())
            .or_insert(Value::Bool(true));
        if let Some(Value::String(class)) = props.get("className")
            && !is_class_name(class)
        {
            let message = format!("`{class}` is no name of a class");
            let help = "write it as the code does in `export class Name`".to_owned();
            return Err(vec![props::mistake(&["className"], message, help)]);
        }
        // A renamed declaration goes on under the id by which its Worker remembers the class.
        let id = context.kept_name.as_deref().unwrap_or(&context.id);
        Ok(Checked {
            known: outputs(id, &props),
            physical_name: id.to_owned(),
            explicit_name: false,
            identity: None,
            props,
        })
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        Ok(outputs(&context.physical_name, props))
    }

    async fn update(
        &self,
        _context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        Ok(outputs(&existing.physical_name, props))
    }

    async fn delete(
        &self,
        _context: &OperationContext,
        _existing: &Existing,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    fn not_imported(&self) -> Option<[&'static str; 2]> {
        Some([
            "a Durable Object class comes with the Worker that has it",
            "bind it in that Worker as `DurableObjectNamespace(.., #{ className: .. })` with `adopt: true`, and `alch run` takes both over",
        ])
    }

    async fn find(
        &self,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}
