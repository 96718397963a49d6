//! Plans as text: one sign per resource, the properties that change, the reason, and one line of totals.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::{
    engine::{
        Action,
        plan::{PlannedAction, PropertyChange},
    },
    ui::style::{self, paint},
};

/// Values are cut to this many characters unless the whole plan is asked for.
const SHORT_VALUE: usize = 100;

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// One line a resource.
    Brief,
    /// Changed properties, long values cut, unchanged resources left out.
    #[default]
    Normal,
    /// Everything.
    Full,
}

/// Renders a plan, with ANSI styles. Ends without a line break.
#[must_use]
pub fn render(actions: &[impl AsRef<PlannedAction>], detail: Detail) -> String {
    let mut out = String::new();
    for action in actions {
        let action = action.as_ref();
        if action.action == Action::Unchanged && detail != Detail::Full {
            continue;
        }
        resource(&mut out, action, detail);
    }
    out.push_str(&totals(actions));
    out
}

fn resource(out: &mut String, planned: &PlannedAction, detail: Detail) {
    let style = style::of_action(planned.action);
    let sign = paint(style, format!("{:>3}", planned.action.sign()));
    push(
        out,
        format_args!(
            "{sign} {} {}",
            paint(style::STRONG, planned.fqn.within_stage()),
            paint(style::FAINT, format!("({})", planned.kind)),
        ),
    );
    if !planned.physical_name.is_empty() {
        push(out, format_args!("  {}", planned.physical_name));
    }
    if !planned.reason.is_empty() && planned.action != Action::Unchanged {
        push(
            out,
            format_args!("  {}", paint(style::FAINT, format!("# {}", planned.reason))),
        );
    }
    out.push('\n');
    if planned.conditional {
        let note = "depends on a value known after apply: may come otherwise";
        push(
            out,
            format_args!("      {}\n", paint(style::FAINT, format!("# {note}"))),
        );
    }
    if detail == Detail::Brief {
        return;
    }
    for change in &planned.changes {
        property(out, change, detail);
    }
}

fn property(out: &mut String, change: &PropertyChange, detail: Detail) {
    let (sign, style) = match (&change.before, &change.after, change.unknown) {
        (None, ..) => ("+", style::GOOD),
        (Some(_), None, false) => ("-", style::BAD),
        _ => ("~", style::CHANGE),
    };
    let content = is_content(change);
    let path = match change.path.split_last() {
        // `hash` is a word of ours beside what the user wrote.
        Some((_, above)) if content && !above.is_empty() => path_text(above),
        _ => path_text(&change.path),
    };
    let words = if content {
        let what = match (&change.before, &change.after) {
            (Some(_), Some(_)) => "(content changed)",
            _ => "(content)",
        };
        what.to_owned()
    } else if change.secret {
        let what = match (&change.before, &change.after) {
            (None, _) => "(secret)",
            (Some(_), None) => "(secret, removed)",
            _ => "(secret, changed)",
        };
        what.to_owned()
    } else {
        let after = if change.unknown {
            Some("(known after apply)".to_owned())
        } else {
            change.after.as_ref().map(|value| show(value, detail))
        };
        let before = change.before.as_ref().map(|value| show(value, detail));
        match (before, after) {
            (Some(before), Some(after)) => format!("{before} -> {after}"),
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => String::new(),
        }
    };
    let reason = if change.replaces {
        paint(style::BAD, "  # forces replacement")
    } else {
        String::new()
    };
    push(
        out,
        format_args!("      {} {path}: {words}{reason}\n", paint(style, sign)),
    );
}

/// Whether a change is one of a hash that stands for the content of files, and says nothing to anybody.
fn is_content(change: &PropertyChange) -> bool {
    let is_hash = |value: &Json| {
        let text = value.as_str().unwrap_or_default();
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut values = change.before.iter().chain(&change.after);
    !change.secret
        && !change.unknown
        && change.path.last().is_some_and(|step| step == "hash")
        && values.all(is_hash)
}

fn show(value: &Json, detail: Detail) -> String {
    let text = value.to_string();
    if detail == Detail::Full || text.chars().count() <= SHORT_VALUE {
        return text;
    }
    let mut short: String = text.chars().take(SHORT_VALUE).collect();
    short.push_str(" ..");
    short
}

/// `bindings.DB`, `crons[0]`, `modules["api.js"]`.
fn path_text(path: &[String]) -> String {
    let mut out = String::new();
    for step in path {
        if !out.is_empty() && step.parse::<usize>().is_ok() {
            push(&mut out, format_args!("[{step}]"));
        } else if !out.is_empty()
            && step.contains(|c: char| !c.is_alphanumeric() && !"_-".contains(c))
        {
            push(&mut out, format_args!("[{step:?}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(step);
        }
    }
    out
}

/// `Plan: 3 to create, 1 to update, 0 to delete, 2 unchanged`.
#[must_use]
pub fn totals(actions: &[impl AsRef<PlannedAction>]) -> String {
    let count = |wanted: Action| {
        actions
            .iter()
            .filter(|action| action.as_ref().action == wanted)
            .count()
    };
    let mut out = format!(
        "Plan: {} to create, {} to update, {} to delete, {} unchanged",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete),
        count(Action::Unchanged)
    );
    for (action, words) in [
        (Action::Replace, "to replace"),
        (Action::Adopt, "to adopt"),
        (Action::Forget, "to forget"),
    ] {
        if count(action) > 0 {
            push(&mut out, format_args!(", {} {words}", count(action)));
        }
    }
    let conditional = actions
        .iter()
        .map(AsRef::as_ref)
        .filter(|action| action.conditional && action.action != Action::Unchanged)
        .count();
    if conditional > 0 {
        push(
            &mut out,
            format_args!("; {conditional} of these may come otherwise"),
        );
    }
    out
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments)
        .expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use snapbox::{assert_data_eq, str};

    use super::*;
    use crate::model::Fqn;

    fn planned(fqn: &str, action: Action, changes: Vec<PropertyChange>) -> Arc<PlannedAction> {
        Arc::new(PlannedAction {
            fqn: Fqn::parse(fqn).unwrap(),
            kind: "cloudflare::D1Database".into(),
            action,
            physical_name: "main-db-dev".to_owned(),
            reason: match action {
                Action::Create => "not in state",
                Action::Delete => "no longer declared",
                _ => "props changed",
            }
            .to_owned(),
            changes,
            props_hash: String::new(),
            conditional: false,
            position: None,
        })
    }

    fn change(path: &[&str], before: Option<Json>, after: Option<Json>) -> PropertyChange {
        PropertyChange {
            path: path.iter().map(|step| (*step).to_owned()).collect(),
            before,
            after,
            secret: false,
            unknown: false,
            replaces: false,
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_plan_shows_signs_properties_and_totals() {
        let mut secret = change(
            &["bindings", "KEY"],
            Some(json!("<secret>")),
            Some(json!("<secret>")),
        );
        secret.secret = true;
        let mut unknown = change(&["bindings", "DB"], Some(json!("old")), None);
        unknown.unknown = true;
        let mut replaces = change(&["hint"], Some(json!("weur")), Some(json!("eeur")));
        replaces.replaces = true;
        let plan = [
            planned(
                "a/dev/new",
                Action::Create,
                vec![change(&["crons", "0"], None, Some(json!("0 2 * * *")))],
            ),
            planned("a/dev/api", Action::Update, vec![secret, unknown]),
            planned("a/dev/database/main", Action::Replace, vec![replaces]),
            planned("a/dev/gone", Action::Delete, vec![]),
            planned("a/dev/same", Action::Unchanged, vec![]),
        ];
        assert_data_eq!(
            plain(&render(&plan, Detail::Normal)),
            str![[r#"
  + new (cloudflare::D1Database)  main-db-dev  # not in state
      + crons[0]: "0 2 * * *"
  ~ api (cloudflare::D1Database)  main-db-dev  # props changed
      ~ bindings.KEY: (secret, changed)
      ~ bindings.DB: "old" -> (known after apply)
-/+ database/main (cloudflare::D1Database)  main-db-dev  # props changed
      ~ hint: "weur" -> "eeur"  # forces replacement
  - gone (cloudflare::D1Database)  main-db-dev  # no longer declared
Plan: 1 to create, 1 to update, 1 to delete, 1 unchanged, 1 to replace
"#]]
        );
        assert_data_eq!(
            plain(&render(&plan, Detail::Brief)),
            str![[r#"
  + new (cloudflare::D1Database)  main-db-dev  # not in state
  ~ api (cloudflare::D1Database)  main-db-dev  # props changed
-/+ database/main (cloudflare::D1Database)  main-db-dev  # props changed
  - gone (cloudflare::D1Database)  main-db-dev  # no longer declared
Plan: 1 to create, 1 to update, 1 to delete, 1 unchanged, 1 to replace
"#]]
        );
    }
}
