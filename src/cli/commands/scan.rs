//! `alch scan`: what the account holds and no state of the project knows, as a draft script that would adopt it.

use std::{collections::BTreeSet, sync::Arc};

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
        settings::{Settings, Target},
        signals::Signals,
        wiring::Host,
    },
    model::{AppName, Diagnostic, ScopePath, StagePath, diagnostic::codes},
    provider::{Observation, Provider, ProviderError},
    script::functions_of,
    state::Record,
    util::text::plural,
};

/// The application of a draft, where there is none yet.
const DRAFT_APP: &str = "my-app";

/// An object that no state knows, and why it cannot be imported although others of its kind can.
type Unknown = (Observation, Option<ProviderError>);
/// The objects of a kind.
type Group = (Arc<str>, Arc<dyn Provider>, Vec<Unknown>);
/// An object for which the draft has an `alch import`, with its kind.
type Imported<'a> = (&'a str, &'a dyn Provider, &'a Observation);

pub(in crate::cli) fn run(context: &Context, args: &ScanArgs) -> Result<Exit, CliError> {
    let project = Project::find(context)?;
    let settings = Settings::resolve(&context.environment, &args.flags, Some(&project.folder))?;
    let target = settings.target(None)?;
    let apps = project.runtime.block_on(project.store.apps())?;
    let host = Host::new(context, &settings, &project.folder, Vec::new());
    let app = match (&args.app, host.application(), apps.as_slice()) {
        (Some(name), _, _) => AppName::new(name.as_str())?,
        (None, Some(app), _) => app,
        (None, None, [app]) => app.clone(),
        (None, None, _) => AppName::new(DRAFT_APP)?,
    };
    let stage = StagePath::new(app, settings.stage(None)?);
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
        let look = async {
            let Some(objects) = inventory::list(provider.as_ref(), &operation).await? else {
                return Ok(None);
            };
            let count = objects.len();
            let unknown: Vec<Observation> = objects
                .into_iter()
                .filter(|seen| !known.contains_key(&(kind.clone(), seen.id.clone())))
                .filter(|seen| inventory::holder(&records, &host.registry, &kind, seen).is_none())
                .filter_map(|mut seen| {
                    inventory::leave_unknown(&records, provider.as_ref(), &mut seen).then_some(seen)
                })
                .collect();
            let obstacles = match unknown.is_empty() {
                true => Vec::new(),
                false => provider.obstacles(&operation, &unknown).await?,
            };
            Ok::<_, ProviderError>(Some((count, unknown, obstacles)))
        };
        let (count, unknown, obstacles) = match project.runtime.block_on(look) {
            Ok(Some(looked)) => looked,
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
        listed += count;
        if !unknown.is_empty() {
            let objects: Vec<Unknown> = unknown.into_iter().zip(obstacles).collect();
            groups.push((kind, provider, objects));
        }
    }

    let count: usize = groups.iter().map(|(_, _, objects)| objects.len()).sum();
    let imported = imported(&groups);
    let wherefrom = wherefrom(args, &stage, target);
    let mut text = format!(
        "// {} on target {} that no state here knows. `alch run` with these lines adopts them.\n",
        plural(count, "object"),
        target.as_str()
    );
    let app_name = draft::literal(&stage.app.as_str().into());
    text.push_str(&format!("alchemy({app_name});\n"));
    let mut taken = declared(&records, &stage);
    let mut shown = Vec::new();
    for (kind, provider, objects) in &groups {
        text.push_str(&format!("\n// {kind}: {}\n", objects.len()));
        let function = functions_of(kind)
            .first()
            .map_or("Object", |(name, _)| name);
        for (seen, obstacle) in objects {
            if let Some(obstacle) = obstacle {
                text.push_str(&refused_import(seen, obstacle));
                shown.push(json!({ "kind": kind, "id": seen.id, "name": seen.physical_name }));
                continue;
            }
            if provider.has_content() {
                let name = named(seen, function, &stage, &mut taken);
                text.push_str(&draft::comment(&format!(
                    "alch import {} {}{name} {wherefrom}",
                    plain(kind),
                    draft::argument(&seen.physical_name),
                )));
                shown.push(json!({ "kind": kind, "id": seen.id, "name": seen.physical_name }));
                continue;
            }
            // Declared here as well, it would be declared twice.
            let brings =
                |(_, provider, object): &&Imported<'_>| provider.brings(object, kind, seen);
            if let Some((by, _, object)) = imported.iter().find(brings) {
                text.push_str(&draft::comment(&format!(
                    "`{}` comes with the import of the {} `{}`",
                    seen.physical_name,
                    plain(by),
                    object.physical_name
                )));
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

/// The objects that are to be imported, because no line of a draft can say what they are made of.
fn imported(groups: &[Group]) -> Vec<Imported<'_>> {
    let with_content = groups
        .iter()
        .filter(|(_, provider, _)| provider.has_content());
    with_content
        .flat_map(|(kind, provider, objects)| {
            let free = objects.iter().filter(|(_, obstacle)| obstacle.is_none());
            free.map(|(seen, _)| (kind.as_ref(), provider.as_ref(), seen))
        })
        .collect()
}

/// The ids that the stage has outside of scopes, as they are compared.
fn declared(records: &[Arc<Record>], stage: &StagePath) -> BTreeSet<String> {
    let own = records.iter().map(|record| &record.fqn);
    own.filter(|fqn| fqn.stage() == *stage && fqn.scope() == ScopePath::root())
        .map(|fqn| fqn.id().to_lowercase())
        .collect()
}

/// The name that an import is to give the resource, where the one that it gives by itself is taken.
fn named(
    seen: &Observation,
    function: &str,
    stage: &StagePath,
    taken: &mut BTreeSet<String>,
) -> String {
    let id = |taken: &mut BTreeSet<String>| {
        let name = seen.physical_name.as_str();
        id_for(name, function, stage.stage.as_str(), taken)
    };
    let (free, own) = (id(taken), id(&mut BTreeSet::new()));
    match free == own {
        true => String::new(),
        false => format!(" {}", draft::argument(free.as_str())),
    }
}

/// The arguments with which an import goes where the draft goes.
fn wherefrom(args: &ScanArgs, stage: &StagePath, target: Target) -> String {
    let mut out = format!(
        "--app {} --target {}",
        draft::argument(stage.app.as_str()),
        target.as_str()
    );
    if args.flags.stage.is_some() {
        out.push_str(&format!(
            " --stage {}",
            draft::argument(stage.stage.as_str())
        ));
    }
    out
}

fn refused_import(seen: &Observation, obstacle: &ProviderError) -> String {
    let mut out = draft::comment(&format!(
        "`{}` cannot be imported: {}",
        seen.physical_name, obstacle.message
    ));
    if let Some(help) = &obstacle.help {
        out.push_str(&draft::comment(&format!("  {help}")));
    }
    out
}

/// A kind without its provider.
fn plain(kind: &str) -> &str {
    kind.rsplit("::").next().unwrap_or(kind)
}
