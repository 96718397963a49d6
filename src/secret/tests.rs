//! What is sealed opens again with the same key, in its place, and nowhere else; key files are made once.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::{
    model::{
        AppName, Fqn, Map, Secret, SecretMac as _, StageName, StagePath, Value, value::SealedSecret,
    },
    state::KeyCheck,
    util::{fs, ids::SystemIds},
};

fn stage(name: &str) -> StagePath {
    StagePath::new(AppName::new("app").unwrap(), StageName::new(name).unwrap())
}

fn password(text: &str) -> KeyMaterial {
    KeyMaterial::Password(Zeroizing::new(text.to_owned()))
}

fn keyring(check: Option<KeyCheck>, material: KeyMaterial) -> Keyring {
    Keyring::new(stage("dev"), check, material, Arc::new(SystemIds))
}

fn fqn(text: &str) -> Fqn {
    Fqn::parse(text).unwrap()
}

fn secrets() -> Map {
    Map::from([
        ("plain".to_owned(), Value::string("visible")),
        (
            "list".to_owned(),
            Value::Array(vec![Value::Secret(Secret::plain("s3cret"))]),
        ),
    ])
}

#[test]
fn what_is_sealed_opens_again_and_shows_nothing() {
    let keyring = keyring(None, password("pw"));
    assert!(keyring.key_check().is_none());
    let vault = keyring.vault().unwrap();
    let sealed = vault
        .seal_map(&fqn("app/dev/x"), "props", &secrets())
        .unwrap();
    let json = Value::Map(sealed.clone()).to_json().to_string();
    assert!(!json.contains("s3cret"));
    assert!(json.contains("app/dev/x#props.list.0"));
    assert_eq!(vault.open_map(&sealed).unwrap(), secrets());
}

#[test]
fn a_sealed_secret_is_kept_in_its_place_and_sealed_anew_elsewhere() {
    let keyring = keyring(None, password("pw"));
    let vault = keyring.vault().unwrap();
    let first = vault
        .seal_map(&fqn("app/dev/x"), "props", &secrets())
        .unwrap();
    let json = |map: &Map| Value::Map(map.clone()).to_json().to_string();
    let again = vault.seal_map(&fqn("app/dev/x"), "props", &first).unwrap();
    assert_eq!(json(&first), json(&again));
    let moved = vault.seal_map(&fqn("app/dev/y"), "props", &first).unwrap();
    assert!(json(&moved).contains("app/dev/y#props.list.0"));
    assert_eq!(vault.open_map(&moved).unwrap(), secrets());
}

#[test]
fn any_change_to_a_sealed_secret_is_noticed() {
    let keyring = keyring(None, password("pw"));
    let vault = keyring.vault().unwrap();
    let good = vault.seal("s3cret", "a/b/c#props.x".to_owned()).unwrap();
    let opens = |sealed: SealedSecret| vault.open(&Secret::Sealed(Arc::new(sealed))).is_ok();
    assert!(opens(good.clone()));
    for index in 0..good.ciphertext.len() {
        let mut bad = good.clone();
        bad.ciphertext[index] ^= 1;
        assert!(!opens(bad));
    }
    let mut bad = good.clone();
    bad.nonce.pop();
    assert!(!opens(bad));
    let mut bad = good.clone();
    bad.context.push('y');
    assert!(!opens(bad));
    let mut bad = good;
    bad.mac.replace_range(0..1, "g");
    assert!(!opens(bad));
}

#[test]
fn a_wrong_password_is_told_with_stage_and_key() {
    let first = keyring(None, password("right"));
    first.vault().unwrap();
    let check = first.key_check().unwrap();
    let good = keyring(Some(check.clone()), password("right"));
    assert_eq!(
        good.vault().unwrap().mac("x"),
        first.vault().unwrap().mac("x")
    );
    let bad = keyring(Some(check.clone()), password("wrong"));
    let error = bad.vault().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("wrong password for stage app/dev (key {})", check.key_id)
    );
    let folder = tempfile::tempdir().unwrap();
    let missing = keyring(
        Some(check.clone()),
        KeyMaterial::File(folder.path().join("state.key")),
    );
    assert!(matches!(
        missing.vault(),
        Err(VaultError::MissingPassword { .. })
    ));
    let other = Keyring::new(
        stage("prod"),
        Some(check),
        password("right"),
        Arc::new(SystemIds),
    );
    assert!(
        matches!(other.vault(), Err(VaultError::WrongPassword { .. })),
        "the stage is part of the key"
    );
}

#[test]
fn a_key_file_is_made_once_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/state.key");
    let material = KeyMaterial::File(path.clone());
    let first = keyring(None, material.clone());
    let mac = first.vault().unwrap().mac("x");
    let check = first.key_check().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = keyring(Some(check.clone()), material.clone());
    assert_eq!(again.vault().unwrap().mac("x"), mac);
    let with_password = keyring(Some(check.clone()), password("pw"));
    assert!(matches!(
        with_password.vault(),
        Err(VaultError::UnexpectedPassword { .. })
    ));

    fs::write_private(&path, "00".repeat(32).as_bytes()).unwrap();
    let replaced = keyring(Some(check.clone()), material.clone());
    assert!(matches!(
        replaced.vault(),
        Err(VaultError::WrongKeyFile { .. })
    ));
    fs::write_private(&path, b"").unwrap();
    let empty = keyring(None, material.clone());
    assert!(matches!(empty.vault(), Err(VaultError::KeyFile { .. })));
    fs::remove_file(&path).unwrap();
    let missing = keyring(Some(check), material);
    assert!(matches!(missing.vault(), Err(VaultError::KeyFile { .. })));
    assert!(!path.exists(), "a lost key file is not replaced in silence");
}
