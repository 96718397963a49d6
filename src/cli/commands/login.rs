//! `alch login`, `logout`, `configure` and `profile list`: who alch is at Cloudflare.

use std::{
    io::{self, BufRead as _, Read as _},
    path::Path,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    cli::{
        Context,
        args::{ConfigureArgs, LoginArgs, LogoutArgs},
        error::CliError,
        exit::Exit,
        inventory,
        settings::{
            DEFAULT_PROFILE, Target,
            profile::{Profile, read_profile},
            profiles::{self, ListedProfile, ProfileChange},
        },
        wiring,
    },
    model::diagnostic::codes,
    provider::{
        FailureKind, Meter, ProviderError,
        cloudflare::{
            Client, PUBLIC_BASE_URL,
            account::{self, Account},
            is_loopback,
        },
    },
    ui::{prompt, table},
};

/// Longest token that is read.
const TOKEN_LIMIT: u64 = 4096;

pub(in crate::cli) fn login(context: &Context, args: &LoginArgs) -> Result<Exit, CliError> {
    let name = profile_name(context, args.profile.as_deref());
    profiles::check_name(&name)?;
    let folder = context.environment.user_folder();
    let known = read_profile(&folder, &name, false)?;
    let base_url = base_url(context, args.base_url.as_deref(), &known)?;
    let token = token(context, args)?;
    context.redactor.add(&token);
    let wanted = args
        .account
        .as_deref()
        .or_else(|| context.environment.get("CLOUDFLARE_ACCOUNT_ID"));
    let account = {
        let runtime = wiring::runtime()?;
        let server = base_url.as_deref().unwrap_or(PUBLIC_BASE_URL);
        runtime.block_on(identify(context, server, &token, wanted))?
    };
    let account = match account {
        Identified::One(account) => account,
        Identified::Several(accounts) => choose(context, accounts)?,
    };
    let credentials = profiles::save_token(&folder, &name, &token, &account.id)?;
    profiles::save(
        &folder,
        &name,
        &ProfileChange {
            target: Some(Target::Cloudflare),
            account: Some(account.id.clone()),
            account_name: Some(account.name.clone()),
            base_url: Some(base_url.clone().unwrap_or_default()),
        },
    )?;
    let mut text = format!(
        "profile `{name}`: account {} ({})",
        account.name, account.id
    );
    if let Some(server) = &base_url {
        text.push_str(&format!(" at {server}"));
    }
    context.ui.result(
        "login",
        json!({
            "profile": name,
            "account": { "id": account.id, "name": account.name },
            "base_url": base_url,
            "credentials": credentials.display().to_string(),
        }),
        text,
    );
    let flag = match name.as_str() {
        DEFAULT_PROFILE => String::new(),
        other => format!(" --profile {other}"),
    };
    context.ui.note(format!(
        "the token is kept in `{}`, readable for you alone; `alch run{flag}` deploys to this account, `--target local` stays here",
        credentials.display()
    ));
    Ok(Exit::Success)
}

pub(in crate::cli) fn logout(context: &Context, args: &LogoutArgs) -> Result<Exit, CliError> {
    let name = profile_name(context, args.profile.as_deref());
    let folder = context.environment.user_folder();
    let removed = profiles::remove_credentials(&folder, &name)?;
    let text = match removed {
        true => format!("removed the credentials of profile `{name}`"),
        false => format!("profile `{name}` has no credentials"),
    };
    context.ui.result(
        "logout",
        json!({ "profile": name, "removed": removed }),
        text,
    );
    if context.environment.get("CLOUDFLARE_API_TOKEN").is_some() {
        context
            .ui
            .note("`CLOUDFLARE_API_TOKEN` is still set, and is used without a profile");
    }
    Ok(Exit::Success)
}

pub(in crate::cli) fn configure(context: &Context, args: &ConfigureArgs) -> Result<Exit, CliError> {
    let name = profile_name(context, args.profile.as_deref());
    let folder = context.environment.user_folder();
    if let Some(url) = args.base_url.as_deref().filter(|url| !url.is_empty()) {
        check_url(url)?;
    }
    let change = ProfileChange {
        target: args.target,
        account: args.account.clone(),
        // The name of another account would be wrong.
        account_name: args.account.as_ref().map(|_| String::new()),
        base_url: args.base_url.clone(),
    };
    if args.target.is_some() || args.account.is_some() || args.base_url.is_some() {
        profiles::save(&folder, &name, &change)?;
    }
    let all = profiles::list(&folder)?;
    let Some(profile) = all.iter().find(|profile| profile.name == name) else {
        return Err(CliError::usage(format!("there is no profile `{name}`"))
            .with_help("`alch login` makes one, and so does `alch configure --target ..`"));
    };
    let fields = fields(profile, true);
    context
        .ui
        .result("profile", fields, table_of(&[profile], &name));
    Ok(Exit::Success)
}

pub(in crate::cli) fn list(context: &Context) -> Result<Exit, CliError> {
    let used = profile_name(context, None);
    let all = profiles::list(&context.environment.user_folder())?;
    let listed: Vec<&ListedProfile> = all.iter().collect();
    let objects: Vec<_> = all
        .iter()
        .map(|profile| fields(profile, profile.name == used))
        .collect();
    let text = if listed.is_empty() {
        "there are no profiles; `alch login` makes one".to_owned()
    } else {
        table_of(&listed, &used)
    };
    context
        .ui
        .result("profiles", json!({ "profiles": objects }), text);
    for name in ["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"] {
        if context.environment.get(name).is_some() {
            context.ui.note(format!(
                "`{name}` is set: it counts more than a profile that `--profile` does not name"
            ));
        }
    }
    Ok(Exit::Success)
}

fn table_of(profiles: &[&ListedProfile], used: &str) -> String {
    let rows: Vec<[String; 5]> = profiles
        .iter()
        .map(|listed| {
            let Profile {
                target,
                account,
                account_name,
                base_url,
            } = &listed.profile;
            let account = match (account_name, account) {
                (Some(name), Some(id)) => format!("{name} ({id})"),
                (_, Some(id)) => id.clone(),
                _ => String::new(),
            };
            let mark = if listed.name == used { " *" } else { "" };
            [
                format!("{}{mark}", listed.name),
                target.unwrap_or(Target::Local).as_str().to_owned(),
                account,
                base_url.clone().unwrap_or_default(),
                if listed.token { "kept" } else { "none" }.to_owned(),
            ]
        })
        .collect();
    table::render(["PROFILE", "TARGET", "ACCOUNT", "SERVER", "TOKEN"], &rows)
}

fn fields(listed: &ListedProfile, used: bool) -> serde_json::Value {
    let profile = &listed.profile;
    json!({
        "profile": listed.name,
        "target": profile.target.unwrap_or(Target::Local).as_str(),
        "account": profile.account,
        "account_name": profile.account_name,
        "base_url": profile.base_url,
        "token": listed.token,
        "in_use": used,
    })
}

fn profile_name(context: &Context, flag: Option<&str>) -> String {
    flag.or_else(|| context.environment.get("ALCHEMY_PROFILE"))
        .unwrap_or(DEFAULT_PROFILE)
        .to_owned()
}

/// The token: from stdin, from the environment, or typed in.
fn token(context: &Context, args: &LoginArgs) -> Result<Zeroizing<String>, CliError> {
    let unreadable =
        |error: io::Error| CliError::usage("no token was read").with_note(error.to_string());
    let token = if args.token_stdin {
        let mut line = Zeroizing::new(String::new());
        let stdin = io::stdin().lock();
        io::BufReader::new(stdin.take(TOKEN_LIMIT))
            .read_line(&mut line)
            .map_err(unreadable)?;
        line
    } else if let Some(token) = context.environment.get("CLOUDFLARE_API_TOKEN") {
        Zeroizing::new(token.to_owned())
    } else if prompt::interactive() {
        prompt::hidden(
            &context.ui,
            "API token (https://dash.cloudflare.com/profile/api-tokens; it is not shown as you type):",
        )
        .map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => CliError::new(codes::CANCELLED, "stopped")
                .with_note("nothing was changed"),
            _ => unreadable(error),
        })?
    } else {
        return Err(
            CliError::usage("there is no terminal to ask for the token on").with_help(
                "pipe it in: `alch login --token-stdin < file`, or set `CLOUDFLARE_API_TOKEN`",
            ),
        );
    };
    let trimmed = Zeroizing::new(token.trim().to_owned());
    if trimmed.is_empty() || !trimmed.chars().all(|c| c.is_ascii_graphic()) {
        return Err(CliError::usage("that is no API token").with_help(
            "a token is one word of letters, digits, `-` and `_`; make one at https://dash.cloudflare.com/profile/api-tokens",
        ));
    }
    Ok(trimmed)
}

/// Another server of the API: the flag over the environment over the profile.
fn base_url(
    context: &Context,
    flag: Option<&str>,
    known: &Profile,
) -> Result<Option<String>, CliError> {
    let environment = &context.environment;
    let url = flag
        .or_else(|| environment.get("CLOUDFLARE_BASE_URL"))
        .or_else(|| environment.get("CLOUDFLARE_API_BASE_URL"))
        .or(known.base_url.as_deref())
        .map(|url| url.trim_end_matches('/'))
        .filter(|url| !url.is_empty() && *url != PUBLIC_BASE_URL);
    if let Some(url) = url {
        check_url(url)?;
    }
    Ok(url.map(str::to_owned))
}

/// A token must not travel where others can read it.
fn check_url(url: &str) -> Result<(), CliError> {
    let safe = url.starts_with("https://") || (url.starts_with("http://") && is_loopback(url));
    if safe {
        return Ok(());
    }
    Err(
        CliError::usage(format!("`{url}` is no address for a token to be sent to")).with_help(
            "use `https://..`, or `http://` for a server on this machine: `http://127.0.0.1:8788/client/v4`",
        ),
    )
}

enum Identified {
    One(Account),
    Several(Vec<Account>),
}

/// Checks the token and finds the account that it is for.
async fn identify(
    context: &Context,
    server: &str,
    token: &Zeroizing<String>,
    wanted: Option<&str>,
) -> Result<Identified, CliError> {
    let client = Client::over_http(server, wanted.unwrap_or_default(), Some(token.clone()));
    let cancel = CancellationToken::new();
    let operation = inventory::operation(context, Path::new("."), Meter::default(), cancel)?;
    account::verify(&client, &operation, wanted.is_some())
        .await
        .map_err(|error| refused(server, &error))?;
    let accounts = match account::all(&client, &operation).await {
        Ok(accounts) => accounts,
        // A token may be for one account and not see the list.
        Err(error) => match wanted {
            Some(id) => {
                return Ok(Identified::One(Account {
                    id: id.to_owned(),
                    name: id.to_owned(),
                }));
            }
            None => {
                return Err(refused(server, &error)
                    .with_help("name the account: `alch login --account ID`"));
            }
        },
    };
    let Some(wanted) = wanted else {
        return match <[Account; 1]>::try_from(accounts) {
            Ok([account]) => Ok(Identified::One(account)),
            Err(accounts) => Ok(Identified::Several(accounts)),
        };
    };
    let found = accounts
        .iter()
        .find(|account| account.id == wanted)
        .or_else(|| accounts.iter().find(|account| account.name == wanted));
    match found {
        Some(account) => Ok(Identified::One(account.clone())),
        None => Err(CliError::new(
            codes::AUTHENTICATION,
            format!("the token is not for an account `{wanted}`"),
        )
        .with_note(format!("it is for {}", names(&accounts)))
        .with_note("nothing was changed")
        .with_help("choose one of these with `--account ID`, or use another token")),
    }
}

fn refused(server: &str, error: &ProviderError) -> CliError {
    let mut out = CliError::new(
        match error.kind {
            FailureKind::Authentication => codes::AUTHENTICATION,
            _ => codes::PROVIDER,
        },
        format!("{server}: {}", error.message),
    )
    .with_note("nothing was changed");
    if let Some(call) = &error.call {
        out = out.with_note(format!("the call was {call}"));
    }
    match &error.help {
        Some(help) => out.with_help(help.clone()),
        None => out,
    }
}

fn choose(context: &Context, accounts: Vec<Account>) -> Result<Account, CliError> {
    let none = accounts.is_empty();
    if none || !prompt::interactive() {
        let error = CliError::new(
            codes::AUTHENTICATION,
            match none {
                true => "the token is for no account".to_owned(),
                false => format!("the token is for several accounts: {}", names(&accounts)),
            },
        )
        .with_note("nothing was changed")
        .with_exit(if none {
            Exit::Authentication
        } else {
            Exit::Usage
        });
        return Err(error.with_help("name one: `alch login --account ID`"));
    }
    let mut question = "The token is for several accounts:".to_owned();
    for (index, account) in accounts.iter().enumerate() {
        question.push_str(&format!(
            "\n  {}  {} ({})",
            index + 1,
            account.name,
            account.id
        ));
    }
    question.push_str("\ntype the number of one:");
    let answer = prompt::line(&context.ui, &question)
        .map_err(|error| CliError::usage(format!("no answer: {error}")))?;
    let chosen = answer
        .trim()
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|index| accounts.into_iter().nth(index));
    chosen.ok_or_else(|| {
        CliError::usage(format!("`{}` is none of these", answer.trim()))
            .with_note("nothing was changed")
            .with_help("name one: `alch login --account ID`")
    })
}

fn names(accounts: &[Account]) -> String {
    let names: Vec<String> = accounts
        .iter()
        .map(|account| format!("{} ({})", account.name, account.id))
        .collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}
