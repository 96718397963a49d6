//! `alch scan`: what the account holds and no state of the project knows, as a draft script that would adopt it.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Context,
        args::ScanArgs,
        draft::{self, Place, id_for},
        error::CliError,
        exit::Exit,
        inventory,
        select::Project,
        settings::Settings,
        signals::Signals,
        wiring::Host,
    },
    model::{AppName, Diagnostic, ScopePath, StagePath, diagnostic::codes},
    provider::Observation,
    script::functions_of,
    util::text::plural,
};

/// The application of a draft, where there is none yet.
const DRAFT_APP: &str = "my-app";

pub(in crate::cli) fn run(context: &Context, args: &ScanArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let settings = Settings::resolve(&context.environment, &args.flags, Some(&project.folder))?;
    let target = settings.target(None)?;
    let apps = project.runtime.block_on(project.store.apps())?;
    let app = match (&args.app, apps.as_slice()) {
        (Some(name), _) => AppName::new(name.as_str())?,
        (None, [app]) => app.clone(),
        (None, _) => AppName::new(DRAFT_APP)?,
    };
    let stage = StagePath::new(app, settings.stage(None)?);
    let host = Host::new(context, &settings, &project.folder, Vec::new());
    host.use_target(&settings, target)?;
    let records = inventory::records(&project, target.as_str())?;
    let known = inventory::known(&records, &host.registry);
    let signals = Signals::watch(&project.runtime, &host.cancel, &context.ui)?;
    let operation = host.operation(context)?;

    let mut refused = 0;
    let mut listed = 0;
    let mut groups = Vec::new();
    for kind in host.registry.kinds() {
        let Some(provider) = host.registry.get(&kind) else {
            continue;
        };
        let list = inventory::list(provider.as_ref(), &operation);
        let objects = match project.runtime.block_on(list) {
            Ok(Some(objects)) => objects,
            Ok(None) => continue,
            Err(error) => {
                if let Some(exit) = signals.exit() {
                    return Ok(exit);
                }
                refused += 1;
                let mut warning = Diagnostic::warning(
                    codes::PROVIDER,
                    format!("`{kind}` is left out: {}", error.message),
                );
                warning
                    .notes
                    .extend(error.call.map(|call| format!("the call was {call}")));
                warning.help.extend(error.help);
                context.ui.diagnostic(warning);
                continue;
            }
        };
        listed += objects.len();
        let unknown: Vec<Observation> = objects
            .into_iter()
            .filter(|seen| !known.contains_key(&(kind.clone(), seen.id.clone())))
            .filter(|seen| inventory::holder(&records, &host.registry, &kind, seen).is_none())
            .filter_map(|mut seen| {
                inventory::leave_unknown(&records, provider.as_ref(), &mut seen).then_some(seen)
            })
            .collect();
        if !unknown.is_empty() {
            groups.push((kind, provider, unknown));
        }
    }

    let count: usize = groups.iter().map(|(_, _, objects)| objects.len()).sum();
    let mut text = format!(
        "// {} on target {} that no state here knows. `alch run` with these lines adopts them.\n",
        plural(count, "object"),
        target.as_str()
    );
    let app_name = draft::literal(&stage.app.as_str().into());
    text.push_str(&format!("alchemy({app_name});\n"));
    let mut taken = BTreeSet::new();
    let mut shown = Vec::new();
    for (kind, provider, objects) in &groups {
        text.push_str(&format!("\n// {kind}: {}\n", objects.len()));
        let function = functions_of(kind)
            .first()
            .map_or("Object", |(name, _)| name);
        for seen in objects {
            if provider.has_content() {
                let plain = kind.rsplit("::").next().unwrap_or(kind);
                text.push_str(&format!(
                    "// alch import {plain} {} --target {}\n",
                    seen.physical_name,
                    target.as_str()
                ));
                shown.push(json!({ "kind": kind, "id": seen.id, "name": seen.physical_name }));
                continue;
            }
            let id = id_for(
                &seen.physical_name,
                function,
                stage.stage.as_str(),
                &mut taken,
            );
            let place = Place {
                stage: &stage,
                scope: &ScopePath::root(),
                id: &id,
                folder: &project.folder,
            };
            let mut declared = seen.clone();
            if provider.name_prop().is_none() {
                id.as_str().clone_into(&mut declared.physical_name);
            }
            // What a draft lacks is asked for by the plan of it, not here.
            match draft::line(provider.as_ref(), &place, &declared, true, &|_| None) {
                Ok(line) => {
                    for hidden in draft::hidden(provider.as_ref(), seen, &id) {
                        text.push_str(&draft::comment(&format!(
                            "no call shows `{}`: put it into `{}` of the environment",
                            hidden.path.join("."),
                            hidden.variable
                        )));
                    }
                    text.push_str(&format!("{};\n", line.call));
                }
                Err(errors) => {
                    let mut props = provider.declarable(seen);
                    if let Some(name) = provider.name_prop() {
                        props.insert(name.to_owned(), seen.physical_name.as_str().into());
                    }
                    let call = draft::call(function, &id, &props, true);
                    let problems: Vec<&str> =
                        errors.iter().map(|error| error.message.as_str()).collect();
                    let comment = draft::comment(&format!("{call}; // {}", problems.join("; ")));
                    text.push_str(&comment);
                }
            }
            shown.push(json!({ "kind": kind, "id": seen.id, "name": seen.physical_name }));
        }
    }
    let calls = usize::try_from(operation.meter.total()).unwrap_or(usize::MAX);
    let fields: Vec<Json> = shown;
    if count == 0 {
        context.ui.result(
            "scan",
            json!({ "target": target.as_str(), "listed": listed, "unknown": fields, "script": Json::Null }),
            format!("// state knows all of the {} on target {}", plural(listed, "object"), target.as_str()),
        );
    } else {
        context.ui.result(
            "scan",
            json!({ "target": target.as_str(), "listed": listed, "unknown": fields, "script": text }),
            text.trim_end(),
        );
    }
    for (kind, _, objects) in &groups {
        context.ui.note(format!("{:>5}  {kind}", objects.len()));
    }
    context.ui.note(format!(
        "{count} of {} unknown to state ({})",
        plural(listed, "object"),
        plural(calls, "API call")
    ));
    Ok(match (signals.exit(), refused) {
        (Some(exit), _) => exit,
        (None, 0) => Exit::Success,
        (None, _) => Exit::Partial,
    })
}
