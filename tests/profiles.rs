//! `alch login`, `logout`, `configure` and `profile list`, against a served cloud.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud};

/// Runs a command with this on stdin.
fn with_stdin(project: &Project, arguments: &[&str], input: &str) -> Output {
    let mut command = project.command(arguments);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    project.output(output)
}

fn login(project: &Project, cloud: &ServedCloud, more: &[&str]) -> Output {
    let url = cloud.base_url();
    let arguments = [&["login", "--token-stdin", "--base-url", &url], more].concat();
    with_stdin(project, &arguments, &format!("{}\n", cloud.token)).replacing(&url, "[URL]")
}

#[test]
fn a_login_keeps_the_token_for_later_runs() {
    let cloud = ServedCloud::quick();
    let project = Project::with_script(r#"alchemy("shop"); KV("cache");"#);
    login(&project, &cloud, &[]).check(str![[r#"
exit 0
-- stdout
profile `default`: account Local cloud (local) at [URL]
-- stderr
the token is kept in `[ROOT]/home/.alchemy/credentials/default/cloudflare.json`, readable for you alone; `alch run` deploys to this account, `--target local` stays here

"#]]);
    assert_eq!(
        cloud.take_calls(),
        [
            "GET /client/v4/user/tokens/verify",
            "GET /client/v4/accounts"
        ]
    );
    let kept = project
        .home()
        .join(".alchemy/credentials/default/cloudflare.json");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let config = std::fs::read_to_string(project.home().join(".alchemy/config.json")).unwrap();
    assert!(!config.contains(&cloud.token));
    // The profile's target, account and server count: nothing else names them.
    let run = project.alch(["run"]).success();
    assert!(
        run.stderr
            .starts_with("alch: app shop, stage dev, phase up, target cloudflare")
    );
    assert!(
        cloud
            .take_calls()
            .contains(&"POST storage/kv/namespaces".to_owned())
    );

    let list = project.alch(["profile", "list"]);
    list.replacing(&cloud.base_url(), "[URL]").check(str![[r#"
exit 0
-- stdout
PROFILE    TARGET      ACCOUNT              SERVER                            TOKEN
default *  cloudflare  Local cloud (local)  [URL]  kept

"#]]);
    let json = project.alch(["profile", "list", "--json"]).success();
    assert_eq!(json.messages()[1]["profiles"][0]["token"], true);
    assert!(!json.stdout.contains(&cloud.token));
    project.alch(["logout"]).check(str![[r#"
exit 0
-- stdout
removed the credentials of profile `default`

"#]]);
    assert!(!kept.exists());
    assert!(
        project.files_with(&cloud.token).is_empty(),
        "the token is nowhere else"
    );
    project.alch(["drift"]).check(str![[r#"
exit 3
-- stderr
error[E0303]: no Cloudflare credentials for profile `default`
 = help: `alch login` keeps a token, or set `CLOUDFLARE_API_TOKEN`
 = help: or deploy to the embedded local cloud with `--target local`

"#]]);
    project.alch(["logout"]).success();
}

#[test]
fn a_profile_that_is_named_counts_more_than_the_environment() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(r#"alchemy("shop"); KV("cache");"#);
    login(&project, &cloud, &["--profile", "work"]).success();
    cloud.take_calls();
    project
        .env("CLOUDFLARE_API_TOKEN", "wrong")
        .env("CLOUDFLARE_API_BASE_URL", &cloud.base_url())
        .env("CLOUDFLARE_ACCOUNT_ID", "local");
    project.alch(["run", "--profile", "work"]).success();
    // A profile of the environment does not: its token would be another one's.
    project.env("ALCHEMY_PROFILE", "work");
    let list = project.alch(["profile", "list"]).success();
    assert!(list.stdout.contains("work *"), "{}", list.stdout);
    project.alch(["drift"]).code(3);
    project.alch(["drift", "--profile", "work"]).success();
    project.alch(["plan", "--profile", "none"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: no profile `none`
 = help: profiles are work

"#]]);
}

#[test]
fn tokens_that_are_not_good_are_not_kept() {
    let cloud = ServedCloud::quick();
    let project = Project::new();
    let url = cloud.base_url();
    let arguments = ["login", "--token-stdin", "--base-url", &url];
    with_stdin(&project, &arguments, "wrong\n")
        .replacing(&url, "[URL]")
        .check(str![[r#"
exit 3
-- stderr
error[E0303]: [URL]: Invalid API Token
 = note: nothing was changed
 = note: the call was GET /user/tokens/verify, answered with HTTP 401
 = help: check that the whole token was given and that it is neither expired nor disabled; a token that an account owns needs `--account ID`

"#]]);
    with_stdin(&project, &arguments, "two words\n").check(str![[r#"
exit 2
-- stderr
error[E0501]: that is no API token
 = help: a token is one word of letters, digits, `-` and `_`; make one at https://dash.cloudflare.com/profile/api-tokens

"#]]);
    project.alch(["login"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: there is no terminal to ask for the token on
 = help: pipe it in: `alch login --token-stdin < file`, or set `CLOUDFLARE_API_TOKEN`

"#]]);
    project
        .alch(["login", "--base-url", "http://example.com/client/v4"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: `http://example.com/client/v4` is no address for a token to be sent to
 = help: use `https://..`, or `http://` for a server on this machine: `http://127.0.0.1:8788/client/v4`

"#]]);
    login(&project, &cloud, &["--account", "other"]).check(str![[r#"
exit 3
-- stderr
error[E0303]: the token is not for an account `other`
 = note: it is for Local cloud (local)
 = note: nothing was changed
 = help: choose one of these with `--account ID`, or use another token

"#]]);
    login(&project, &cloud, &["--profile", "../x"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: `../x` is no name for a profile
 = help: use letters, digits, `-`, `_` and `.`, such as `--profile work`

"#]]);
    assert!(!project.home().join(".alchemy").exists());
    // A name does as well as an id.
    login(&project, &cloud, &["--account", "Local cloud"]).success();
}

#[test]
fn profiles_are_configured_and_what_others_wrote_stays() {
    let project = Project::new();
    let home = project.home().join(".alchemy");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(
        home.join("config.json"),
        r#"{"version":1,"theme":"dark","profiles":{"default":{"cloudflare":{"method":"oauth"}}}}"#,
    )
    .unwrap();
    project
        .alch(["configure", "--target", "cloudflare", "--account", "acc1"])
        .check(str![[r#"
exit 0
-- stdout
PROFILE    TARGET      ACCOUNT  SERVER  TOKEN
default *  cloudflare  acc1             none

"#]]);
    let config = std::fs::read_to_string(home.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["theme"], "dark");
    assert_eq!(
        config["profiles"]["default"]["cloudflare"]["method"],
        "oauth"
    );
    assert_eq!(
        config["profiles"]["default"]["cloudflare"]["accountId"],
        "acc1"
    );
    project
        .alch(["configure", "--profile", "new"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: there is no profile `new`
 = help: `alch login` makes one, and so does `alch configure --target ..`

"#]]);
    std::fs::write(home.join("config.json"), "[").unwrap();
    project.alch(["configure", "--target", "local"]).code(2);
    assert_eq!(
        std::fs::read_to_string(home.join("config.json")).unwrap(),
        "["
    );
}

#[test]
fn a_typed_token_is_not_shown() {
    let cloud = ServedCloud::quick();
    let project = Project::new();
    let binary = super::support::binary();
    let url = cloud.base_url();
    let command = format!("{} login --base-url {url}", binary.display());
    // `script` gives the command a terminal and copies all that appears on it.
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env_clear()
        .env("HOME", project.home())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("TERM", "dumb")
        .current_dir(project.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut child) = terminal.spawn() else {
        // Not on this machine.
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    // The terminal is silent by the time of the question; what is typed before would be shown.
    while !seen.contains("as you type") {
        let read = std::io::BufRead::read_line(&mut stdout, &mut seen).unwrap();
        assert!(read > 0, "no question: {seen}");
    }
    stdin
        .write_all(format!("{}x\x7f\r", cloud.token).as_bytes())
        .unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut seen).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(seen.contains("Local cloud"), "{seen}");
    assert!(!seen.contains(&cloud.token), "{seen}");
}

/// A cloud whose token is for two accounts.
fn two_accounts() -> ServedCloud {
    let cloud = ServedCloud::quick();
    let accounts = serde_json::json!([
        { "id": "10ca1c10ad0000000000000000000000", "name": "Work" },
        { "id": "20ca1c10ad0000000000000000000000", "name": "Home" },
    ]);
    cloud.pretend("/client/v4/accounts", accounts);
    cloud
}

#[test]
fn a_token_for_several_accounts_needs_one_named() {
    let cloud = two_accounts();
    let project = Project::new();
    login(&project, &cloud, &[]).check(str![[r#"
exit 2
-- stderr
error[E0303]: the token is for several accounts: Work (10ca1c10ad0000000000000000000000), Home (20ca1c10ad0000000000000000000000)
 = note: nothing was changed
 = help: name one: `alch login --account ID`

"#]]);
    assert!(!project.home().join(".alchemy").exists());
    login(&project, &cloud, &["--account", "Home"]).check(str![[r#"
exit 0
-- stdout
profile `default`: account Home (20ca1c10ad0000000000000000000000) at [URL]
-- stderr
the token is kept in `[ROOT]/home/.alchemy/credentials/default/cloudflare.json`, readable for you alone; `alch run` deploys to this account, `--target local` stays here

"#]]);
    login(
        &project,
        &cloud,
        &["--account", "10ca1c10ad0000000000000000000000"],
    )
    .check(str![[r#"
exit 0
-- stdout
profile `default`: account Work (10ca1c10ad0000000000000000000000) at [URL]
-- stderr
the token is kept in `[ROOT]/home/.alchemy/credentials/default/cloudflare.json`, readable for you alone; `alch run` deploys to this account, `--target local` stays here

"#]]);
}

/// Logs in on a terminal, which `script` makes, and types `answer` there.
fn on_a_terminal(project: &Project, cloud: &ServedCloud, answer: &str) -> (bool, String) {
    let alch = project.command(["login", "--base-url", &cloud.base_url()]);
    let words: Vec<String> = std::iter::once(alch.get_program())
        .chain(alch.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut command = std::process::Command::new("script");
    command
        .args(["-qec", &words.join(" "), "/dev/null"])
        .current_dir(alch.get_current_dir().unwrap())
        .env_clear()
        .envs(
            alch.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh")
        .env("CLOUDFLARE_API_TOKEN", &cloud.token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), shown)
}

#[test]
fn on_a_terminal_the_account_is_chosen_by_its_number() {
    let cloud = two_accounts();
    let project = Project::new();
    let (done, shown) = on_a_terminal(&project, &cloud, "3");
    assert!(!done && shown.contains("`3` is none of these"), "{shown}");
    assert!(!project.home().join(".alchemy").exists());
    let (done, shown) = on_a_terminal(&project, &cloud, "2");
    assert!(done, "{shown}");
    assert!(
        shown.contains("2  Home (20ca1c10ad0000000000000000000000)"),
        "{shown}"
    );
    assert!(!shown.contains(&cloud.token));
    let config = std::fs::read_to_string(project.home().join(".alchemy/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        config["profiles"]["default"]["cloudflare"]["accountId"],
        "20ca1c10ad0000000000000000000000"
    );
}
