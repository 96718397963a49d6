//! Each setting comes from the nearest source that names it, and mistakes name the source.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{engine::DeleteStrategy, util::fs};

fn environment(folder: &Path, variables: &[(&str, &str)]) -> Environment {
    let mut map: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    map.insert("HOME".to_owned(), folder.display().to_string());
    Environment {
        variables: Arc::new(map),
        folder: folder.to_owned(),
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write_atomic(&path, text.as_bytes()).unwrap();
}

fn refused(result: Result<Settings, CliError>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.diagnostics[0].message.clone(),
    }
}

#[test]
fn the_stage_comes_from_the_nearest_source() {
    let folder = tempfile::tempdir().unwrap();
    let script = StageName::new("script").unwrap();
    let both = [("ALCHEMY_STAGE", "a"), ("STAGE", "b")];
    let stage = |flag: Option<&str>, script: Option<&StageName>, variables: &[(&str, &str)]| {
        let flags = RunFlags {
            stage: flag.map(str::to_owned),
            ..RunFlags::default()
        };
        Settings::resolve(&environment(folder.path(), variables), &flags, None)
            .unwrap()
            .stage(script)
            .unwrap()
            .to_string()
    };
    assert_eq!(stage(Some("flag"), Some(&script), &both), "flag");
    assert_eq!(stage(None, Some(&script), &both), "script");
    assert_eq!(stage(None, None, &both), "a");
    assert_eq!(stage(None, None, &both[1..]), "b");
    assert_eq!(stage(None, None, &[("STAGE", "")]), "dev");
}

#[test]
fn the_target_comes_from_the_nearest_source() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        ".alchemy/config.json",
        r#"{"version":1,"profiles":{"work":{"target":"cloudflare","cloudflare":{"metadata":{"id":"acc"}}}}}"#,
    );
    write(
        folder.path(),
        ".alchemy/credentials/work/cloudflare.json",
        r#"{"type":"api-token","apiToken":"t"}"#,
    );
    let mut flags = RunFlags::default();
    let resolve = |flags: &RunFlags, variables: &[(&str, &str)]| {
        Settings::resolve(&environment(folder.path(), variables), flags, None)
    };
    assert_eq!(
        resolve(&flags, &[]).unwrap().target(None).unwrap(),
        Target::Local
    );
    let work = resolve(&flags, &[("ALCHEMY_PROFILE", "work")]).unwrap();
    assert_eq!(work.target(None).unwrap(), Target::Cloudflare);
    assert_eq!(work.target(Some("local")).unwrap(), Target::Local);
    assert!(work.target(Some("mars")).is_err());
    let credentials = work.cloudflare().unwrap();
    assert_eq!(credentials.token.as_str(), "t");
    assert_eq!(credentials.account.as_deref(), Some("acc"));
    flags.target = Some(Target::Cloudflare);
    let flagged = resolve(&flags, &[]).unwrap();
    assert_eq!(flagged.target(Some("local")).unwrap(), Target::Cloudflare);
    assert!(flagged.cloudflare().is_err());
    flags.profile = Some("nobody".to_owned());
    assert_eq!(refused(resolve(&flags, &[])), "no profile `nobody`");
}

#[test]
fn the_process_wins_over_env_files_and_later_files_win() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.env", "A=1\nB=1\nC=1\n");
    write(folder.path(), "b.env", "B=2\n");
    let flags = RunFlags {
        env_file: vec!["a.env".into(), "b.env".into()],
        ..RunFlags::default()
    };
    let settings =
        Settings::resolve(&environment(folder.path(), &[("C", "3")]), &flags, None).unwrap();
    let value = |name| {
        settings
            .environment
            .get(name)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!([value("A"), value("B"), value("C")], ["1", "2", "3"]);
    let missing = RunFlags {
        env_file: vec!["none.env".into()],
        ..RunFlags::default()
    };
    let error = Settings::resolve(&environment(folder.path(), &[]), &missing, None);
    assert_eq!(refused(error), "cannot read the env file `none.env`");
}

#[test]
fn variables_set_how_deletes_go_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let resolve = |variables: &[(&str, &str)]| {
        Settings::resolve(
            &environment(folder.path(), variables),
            &RunFlags::default(),
            None,
        )
    };
    let settings = resolve(&[
        ("ALCHEMY_DESTROY_STRATEGY", "batched"),
        ("ALCHEMY_DESTROY_BATCH_SIZE", "3"),
        ("ALCHEMY_DESTROY_MAX_RETRIES", "2"),
        ("ALCHEMY_DESTROY_RETRY_DELAY", "250"),
        ("ALCHEMY_DESTROY_TIMEOUT", "900"),
        ("ALCHEMY_DESTROY_DRY_RUN", "true"),
        ("ALCHEMY_DESTROY_CONTINUE_ON_ERROR", "0"),
        ("ALCHEMY_LOCK_TIMEOUT", "1500"),
    ])
    .unwrap();
    assert_eq!(
        settings.delete,
        DeleteOptions {
            strategy: DeleteStrategy::Batched(3),
            max_retries: 2,
            retry_delay: Duration::from_millis(250),
            timeout: Some(Duration::from_millis(900)),
            dry_run: true,
            continue_on_error: false,
        }
    );
    assert_eq!(settings.lock_wait, Duration::from_millis(1_500));
    assert_eq!(
        refused(resolve(&[("ALCHEMY_LOCK_TIMEOUT", "soon")])),
        "`$ALCHEMY_LOCK_TIMEOUT` is `soon`, expected a whole number"
    );
    let settings = resolve(&[("ALCHEMY_LOCK_TTL", "1000")]).unwrap();
    assert_eq!(settings.lock_ttl, Duration::from_secs(1));
    assert_eq!(
        refused(resolve(&[("ALCHEMY_LOCK_TTL", "999")])),
        "`$ALCHEMY_LOCK_TTL` is `999`, expected at least 1000 milliseconds"
    );
}

#[test]
fn an_empty_password_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |variables: &[(&str, &str)]| {
        Settings::resolve(
            &environment(folder.path(), variables),
            &RunFlags::default(),
            None,
        )
        .unwrap()
    };
    assert!(matches!(settings(&[]).key(Some("")), KeyMaterial::File(_)));
    assert!(matches!(
        settings(&[("ALCHEMY_PASSWORD", "p")]).key(None),
        KeyMaterial::Password(_)
    ));
    assert!(matches!(
        settings(&[]).key(Some("p")),
        KeyMaterial::Password(_)
    ));
}
