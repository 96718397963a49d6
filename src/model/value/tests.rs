//! Values survive their forms, tell themselves apart by their hashes, and show no secret.

use super::*;

struct PlainMac;
impl SecretMac for PlainMac {
    fn mac(&self, plaintext: &str) -> String {
        blake3::hash(plaintext.as_bytes()).to_hex().to_string()
    }
}

fn hash(value: &Value) -> Fingerprint {
    value.fingerprint(&PlainMac, &|_| Fingerprint([0; 32]))
}

pub(super) fn sample() -> Value {
    let reference = Reference {
        fqn: Fqn::parse("a/b/c").unwrap(),
        path: vec!["id".to_owned()],
    };
    Value::Map(Map::from([
        ("$odd".to_owned(), Value::Int(1)),
        ("bytes".to_owned(), Value::Bytes(vec![0, 255])),
        (
            "list".to_owned(),
            Value::Array(vec![Value::Null, Value::Float(1.5)]),
        ),
        ("ref".to_owned(), Value::Ref(reference.clone())),
        (
            "text".to_owned(),
            Value::Template(vec![
                TemplatePart::Text("x-".to_owned()),
                TemplatePart::Ref(reference),
            ]),
        ),
    ]))
}

#[test]
fn json_form_round_trips() {
    let value = sample();
    assert_eq!(Value::from_json(value.to_json()).unwrap(), value);
}

#[test]
fn unknown_marks_are_refused_with_their_place() {
    let json = serde_json::json!({ "a": [{ "$what": 1 }] });
    let error = Value::from_json(json).unwrap_err();
    assert_eq!(error.path, "$.a[0]");
}

#[test]
fn fingerprints_tell_values_apart() {
    let int = Value::Int(1);
    let text = Value::string("1");
    assert_ne!(hash(&int), hash(&text));
    assert_ne!(
        hash(&Value::Array(vec![Value::string("ab"), Value::string("c")])),
        hash(&Value::Array(vec![Value::string("a"), Value::string("bc")])),
    );
    assert_eq!(hash(&sample()), hash(&sample()));
}

#[test]
fn no_form_shows_a_plain_secret() {
    let value = Value::Secret(Secret::plain("hunter2"));
    for text in [
        value.to_json().to_string(),
        value.to_display_json().to_string(),
        format!("{value:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
