//! `cloudflare::Workflow`: a class of a Worker whose instances run step by step.
//!
//! A workflow can only be made once the Worker with its class is there, and that Worker binds it; so the Worker it is bound to
//! makes it, right after its upload (`worker::workflows`). This kind sees to it that the name is free, and deletes the workflow
//! with its declaration. With `scriptName` it stands for the workflow of another Worker, and neither makes nor deletes it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    client::{Call, Client, encode},
    durable_object_namespace::is_class_name,
    names::{NameRule, Naming, naming_prop},
    props,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, Observation, OperationContext,
        PropError, Provider, ProviderError, text_prop,
    },
};

pub(super) const KIND: &str = "cloudflare::Workflow";

/// Workflows on one page of the list.
const PER_PAGE: usize = 100;

const NAMES: NameRule = NameRule {
    naming: Naming::Stage,
    least: 1,
    limit: 64,
    underscores: true,
    free: false,
    words: "have 1 to 64 characters of `a-z`, `0-9`, `_` and `-`, and neither begin nor end with `-`",
};

/// The outputs that a Worker needs of it, beside its name.
const FIELDS: [&str; 3] = ["className", "scriptName", "limits"];

/// The kind.
#[derive(Debug)]
pub struct Workflow {
    client: Arc<Client>,
    schema: KindSchema,
}

impl Workflow {
    /// The kind over `client`.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            schema: schema(),
        }
    }
}

/// The path of a workflow.
pub(super) fn path(name: &str) -> String {
    format!("workflows/{}", encode(name))
}

fn schema() -> KindSchema {
    let limits = vec![Prop::new(
        "steps",
        PropType::Integer {
            min: 1,
            max: 1_000_000,
        },
        "steps that an instance may take",
    )];
    KindSchema {
        kind: KIND.into(),
        doc: "A workflow: a class whose instances run step by step.".to_owned(),
        props: vec![
            Prop::new(
                "workflowName",
                PropType::String,
                "the name, used exactly as written",
            )
            .replaces(),
            Prop::new(
                "className",
                PropType::String,
                "the class, as the Worker's code exports it",
            )
            .required(),
            Prop::new(
                "scriptName",
                super::worker::named(),
                "the other Worker whose workflow it is, its handle or its name; without it, it is made for the Worker it is bound to",
            ),
            Prop::new("limits", PropType::Object(limits), "limits of one instance"),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("name", "the name"),
            Attribute::identity("workflowName", "the name"),
            Attribute::identity("className", "the class"),
            Attribute::identity("scriptName", "the other Worker whose workflow it is"),
            Attribute::identity("limits", "limits of one instance"),
            Attribute::new("type", "`workflow`"),
        ],
        open_attributes: false,
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit: NAMES.limit,
    }
}

/// The outputs that are known of `props`; those that hold references are not.
fn outputs(name: &str, props: &Map) -> Map {
    let mut out = Map::from([
        ("name".to_owned(), Value::from(name)),
        ("workflowName".to_owned(), Value::from(name)),
        ("type".to_owned(), Value::from("workflow")),
    ]);
    for field in FIELDS {
        let value = match props.get(field) {
            Some(Value::Resource(view)) => view.outputs.get("name"),
            given => given,
        };
        let value = value.unwrap_or(&Value::Null);
        let mut known = !matches!(value, Value::Ref(_) | Value::Template(_));
        value.visit_references(&mut |_| known = false);
        if known {
            out.insert(field.to_owned(), value.clone());
        }
    }
    out
}

#[async_trait]
impl Provider for Workflow {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let name = NAMES
            .resolve(context, &mut props, "workflowName")
            .map_err(|error| vec![error])?;
        if let Some(Value::String(class)) = props.get("className")
            && !is_class_name(class)
        {
            let message = format!("`{class}` is no name of a class");
            let help = "write it as the code does in `export class Name`".to_owned();
            return Err(vec![props::mistake(&["className"], message, help)]);
        }
        // Any number of declarations may stand for the workflow of another Worker.
        let own = matches!(props.get("scriptName"), None | Some(Value::Null));
        Ok(Checked {
            known: outputs(&name.physical, &props),
            props,
            identity: own.then(|| format!("{KIND}:{}", name.physical)),
            physical_name: name.physical,
            explicit_name: name.explicit,
        })
    }

    async fn read(
        &self,
        _context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        // It is there when its Worker is.
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let name = context.physical_name.as_str();
        let outputs = outputs(name, props);
        if text_prop(&outputs, "scriptName").is_some() {
            return Ok(outputs);
        }
        // Its Worker overwrites without a word, so that somebody else's must be noticed before.
        let call = Call::get(path(name));
        if self.client.look(context, &call).await?.is_none() {
            return Ok(outputs);
        }
        let mut error = ProviderError::new(
            FailureKind::Conflict,
            format!("a workflow named `{name}` is there already"),
        )
        .with_help(
            "take it over with `adopt: true` (or `--adopt`), choose another `workflowName`, or name its Worker as `scriptName`",
        );
        error.call = Some(call.describe());
        Err(error)
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
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        if text_prop(&existing.outputs, "scriptName").is_some() {
            return Ok(());
        }
        let call = Call::delete(path(&existing.physical_name));
        self.client.look(context, &call).await.map(drop)
    }

    fn name_prop(&self) -> Option<&'static str> {
        Some("workflowName")
    }

    /// Every workflow, as that of the Worker which it runs in. Those that state knows are looked at with their Workers.
    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        if !known.is_empty() {
            return Ok(None);
        }
        let call = Call::get("workflows");
        let items = self.client.all_in_pages(context, &call, PER_PAGE).await?;
        let seen = items.iter().map(|item| {
            let name = props::needed_text(item, "name", &call.describe())?;
            let mut props = Map::new();
            let fields = [("class_name", "className"), ("script_name", "scriptName")];
            props::copy(&mut props, item, &fields);
            Ok(Observation {
                id: name.clone(),
                outputs: outputs(&name, &props),
                physical_name: name,
                props,
            })
        });
        seen.collect::<Result<Vec<_>, _>>().map(Some)
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let outputs = outputs(&context.physical_name, props);
        if text_prop(&outputs, "scriptName").is_some() {
            return Ok(None);
        }
        let call = Call::get(path(&context.physical_name));
        let answer = self.client.look(context, &call).await?;
        Ok(answer.map(|answer| Found {
            outputs,
            created_at: props::moment(&answer.result, "created_on"),
            ours: None,
        }))
    }
}
