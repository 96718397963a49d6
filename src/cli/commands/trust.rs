//! `alch trust`: makes the permissions in a project's `alch.toml` count.

use serde_json::json;

use crate::{
    cli::{Context, args::TrustArgs, error::CliError, exit::Exit, grants},
    model::diagnostic::codes,
    provider::Allow,
};

pub(in crate::cli) fn run(context: &Context, args: &TrustArgs) -> Result<Exit, CliError> {
    let user_folder = context.environment.user_folder();
    let folder = context.environment.folder.join(&args.folder);
    let shown = args.folder.join("alch.toml");
    let shown = shown
        .strip_prefix(".")
        .unwrap_or(&shown)
        .display()
        .to_string();
    if args.revoke {
        let revoked = grants::revoke(&user_folder, &folder)?;
        let text = if revoked {
            format!("`{shown}` is trusted no more")
        } else {
            format!("`{shown}` was not trusted")
        };
        context.ui.result(
            "revoked",
            json!({ "file": shown, "revoked": revoked }),
            text,
        );
        return Ok(Exit::Success);
    }
    let Some(grants) = grants::read(&folder)? else {
        return Err(
            CliError::new(codes::USAGE, format!("there is no `{shown}` to trust"))
                .with_help("`alch help trust` shows what stands in such a file"),
        );
    };
    grants::trust(&user_folder, &grants)?;
    let permissions = &grants.permissions;
    let mut text = format!("trusted `{shown}` until it changes; it allows\n");
    let mut fields = serde_json::Map::new();
    for (name, allow) in [
        ("exec", &permissions.exec),
        ("net", &permissions.net),
        ("read", &permissions.read),
        ("write", &permissions.write),
    ] {
        let (words, items) = match allow {
            Allow::None => ("nothing".to_owned(), Vec::new()),
            Allow::Only(items) => (items.join(", "), items.clone()),
            Allow::All => ("everything".to_owned(), vec!["*".to_owned()]),
        };
        text.push_str(&format!("  {name:<5} {words}\n"));
        fields.insert(name.to_owned(), items.into());
    }
    context.ui.result(
        "trusted",
        json!({ "file": shown, "permissions": fields }),
        text.trim_end(),
    );
    Ok(Exit::Success)
}
