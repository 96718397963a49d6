//! Baselining: migrations of a database that had its tables before they were declared count as applied.

use super::migrations::{Seen, query};
use crate::{
    model::{Map, Value},
    provider::{
        FailureKind, OperationContext, PropError, ProviderError,
        cloudflare::{client::Client, props::mistake},
        text_prop,
    },
};

/// The prop.
const PROP: &str = "baseline";
/// Most tables that a message names.
const NAMED: usize = 3;

/// Turns the beginning of a file's name into the name. The migrations stand in `props` as files with their hashes.
pub(in super::super) fn normalise(props: &mut Map) -> Result<(), PropError> {
    let Some(given) = props.get(PROP).filter(|given| **given != Value::Null) else {
        return Ok(());
    };
    let Some(files) = props.get("migrations").and_then(Value::as_array) else {
        return Err(PropError {
            at_key: true,
            ..mistake(
                &[PROP],
                "it says which migrations count as applied, and there are no `migrations`",
                "give `migrations`, or take it away".to_owned(),
            )
        });
    };
    let given = match given {
        Value::Bool(_) => return Ok(()),
        Value::String(given) => given,
        _ => {
            return Err(mistake(
                &[PROP],
                "it must be known before the run, and cannot come from an output of another resource",
                "write the name of the file itself".to_owned(),
            ));
        }
    };
    let names: Vec<&str> = files
        .iter()
        .filter_map(|file| text_prop(file.as_map()?, "name"))
        .collect();
    let begins = |name: &&&str| {
        let rest = name.strip_prefix(given.as_str());
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    let exact = names.iter().find(|name| **name == given);
    let mut fitting = names.iter().filter(begins);
    let name = match (exact, fitting.next(), fitting.next()) {
        (Some(name), ..) | (None, Some(name), None) => (*name).to_owned(),
        (None, first, _) => {
            let message = match first {
                Some(_) => format!("more than one migration begins with `{given}`"),
                None => format!("no migration begins with `{given}`"),
            };
            let help = match names.as_slice() {
                [] => "the folder has no migrations: take it away".to_owned(),
                names => {
                    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                    format!("there are {}", names.join(", "))
                }
            };
            return Err(mistake(&[PROP], message, help));
        }
    };
    props.insert(PROP.to_owned(), Value::String(name));
    Ok(())
}

/// For a database that has tables, and none of the `names` on its record: puts those of them on record that count as applied.
/// Without a word from the script about them nothing is applied, because they may have made these very tables.
pub(super) async fn apply(
    client: &Client,
    context: &OperationContext,
    database: &str,
    table: &str,
    seen: &mut Seen,
    names: &[&str],
    props: &Map,
) -> Result<(), ProviderError> {
    if seen.tables.is_empty() || !seen.names.is_empty() {
        return Ok(());
    }
    let counted = match props.get(PROP) {
        Some(Value::Bool(false)) => 0,
        Some(Value::Bool(true)) => names.len(),
        Some(Value::String(last)) => names
            .iter()
            .position(|name| name == last)
            .map_or(0, |at| at + 1),
        _ => return Err(undecided(context, table, seen, names)),
    };
    let counted = &names[..counted];
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else {
        return Ok(());
    };
    let what = match counted.len() {
        1 => format!("migration `{first}` counts as applied"),
        count => format!("{count} migrations count as applied, from `{first}` to `{last}`"),
    };
    (context.progress)(&what);
    // One query is applied whole or not at all.
    let records: Vec<String> = counted
        .iter()
        .map(|name| seen.record(table, name))
        .collect();
    client
        .call(context, &query(database, &records.join("\n")))
        .await?;
    seen.names
        .extend(counted.iter().map(|name| (*name).to_owned()));
    Ok(())
}

fn undecided(
    context: &OperationContext,
    table: &str,
    seen: &Seen,
    names: &[&str],
) -> ProviderError {
    let shown: Vec<String> = seen
        .tables
        .iter()
        .take(NAMED)
        .map(|table| format!("`{table}`"))
        .collect();
    let more = match seen.tables.len() > NAMED {
        true => " and more",
        false => "",
    };
    let last = names.last().copied().unwrap_or_default();
    ProviderError::new(
        FailureKind::Refused,
        format!(
            "the D1 database `{}` has tables already ({}{more}), and its table `{table}` names no applied migration",
            context.physical_name,
            shown.join(", ")
        ),
    )
    .with_help(format!(
        "pass `baseline: \"{last}\"` when the migrations up to that file made them (`baseline: true`: all of them), or `baseline: false` to \
         apply every migration to the database as it is"
    ))
}
