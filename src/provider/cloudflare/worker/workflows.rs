//! The workflows that run in a Worker: made, or pointed at its classes, after each upload.

use serde_json::json;

use super::{
    super::{client::Call, error::ApiError, props, workflow},
    Worker, handover,
};
use crate::{
    model::{Map, ResourceView, Value},
    provider::{Claim, Declared, FailureKind, OperationContext, ProviderError, text_prop},
};

/// The output that names them.
pub(super) const OUTPUT: &str = "workflows";

/// The workflows among the bindings that are the Worker's own, each once.
pub(super) fn own<'a>(name: &str, props: &'a Map) -> Vec<&'a ResourceView> {
    let mut found: Vec<&ResourceView> = Vec::new();
    for value in props::map_prop(props, "bindings")
        .into_iter()
        .flat_map(Map::values)
    {
        if let Value::Resource(view) = value
            && &*view.kind == workflow::KIND
            && text_prop(&view.outputs, "scriptName").is_none_or(|script| script == name)
            && !found
                .iter()
                .any(|other| other.physical_name == view.physical_name)
        {
            found.push(view);
        }
    }
    found
}

/// The workflows that are its own, because their declarations name no other Worker.
pub(super) fn claims<'a>(props: &Map, declared: &Declared<'a>) -> Vec<Claim> {
    let bindings = props::map_prop(props, "bindings").into_iter();
    let mut found: Vec<Claim> = Vec::new();
    for value in bindings.flat_map(Map::values) {
        let Value::Ref(reference) = value else {
            continue;
        };
        if let Some((workflow::KIND, checked)) = declared(&reference.fqn)
            && checked
                .props
                .get("scriptName")
                .is_none_or(|script| *script == Value::Null)
        {
            let name = &checked.physical_name;
            found.push(Claim {
                what: format!("the workflow `{name}` to run"),
                help: format!(
                    "it runs in one Worker; to call it from the other one, bind another `Workflow` there, with \
                     `workflowName: \"{name}\"` and the first Worker as `scriptName`"
                ),
            });
        }
    }
    found
}

impl Worker {
    /// Makes the Worker's workflows, and names them in `outputs`. `before` are the outputs of the Worker that was there.
    pub(super) async fn workflows(
        &self,
        context: &OperationContext,
        name: &str,
        props: &Map,
        before: &Map,
        outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        let known = before
            .get(OUTPUT)
            .and_then(Value::as_array)
            .unwrap_or_default();
        let mut names = Vec::new();
        for view in own(name, props) {
            let workflow = props::known_output(&view.outputs, "name", view.fqn.as_str())?;
            if !known.iter().any(|known| known.as_str() == Some(workflow)) {
                self.refuse_foreign(context, name, workflow).await?;
            }
            let class = props::known_output(&view.outputs, "className", view.fqn.as_str())?;
            let mut body = json!({ "script_name": name, "class_name": class });
            if let Some(limits) = props::json_prop(&view.outputs, "limits")? {
                body["limits"] = limits;
            }
            let call = Call::put(workflow::path(workflow))
                .json(&body)
                .settling(ApiError::is_not_found);
            self.client.call(context, &call).await?;
            names.push(Value::from(workflow));
        }
        if !names.is_empty() {
            outputs.insert(OUTPUT.to_owned(), Value::Array(names));
        }
        Ok(())
    }

    /// A workflow runs in one Worker: the second one that binds it must say so.
    async fn refuse_foreign(
        &self,
        context: &OperationContext,
        name: &str,
        workflow: &str,
    ) -> Result<(), ProviderError> {
        let call = Call::get(workflow::path(workflow));
        let answer = self.client.look(context, &call).await?;
        let script = answer
            .as_ref()
            .and_then(|answer| props::text(&answer.result, "script_name"));
        match script {
            Some(script)
                if script != name
                    && !handover::may_take(&self.client, context, Some(script)).await? =>
            {
                let mut error = ProviderError::new(
                    FailureKind::Refused,
                    format!("the workflow `{workflow}` runs in the Worker `{script}`, not in `{name}`"),
                )
                .with_help(format!(
                    "to call it from here, bind another `Workflow` with `workflowName: \"{workflow}\"` and `scriptName: \"{script}\"`"
                ));
                error.call = Some(call.describe());
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
