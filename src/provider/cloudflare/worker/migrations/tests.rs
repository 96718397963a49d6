//! What uploads say of classes, from what is there and what is to be.

use std::sync::Arc;

use super::*;
use crate::{
    model::{Fqn, ResourceView},
    provider::cloudflare::testing::map,
};

/// A Worker's props that bind these: binding, outputs of the namespace.
fn bound(bindings: Json) -> Map {
    let Json::Object(bindings) = bindings else {
        panic!("a map was expected");
    };
    let bindings = bindings.into_iter().map(|(binding, outputs)| {
        let view = ResourceView {
            fqn: Fqn::parse("app/dev/objects").unwrap(),
            kind: durable_object_namespace::KIND.into(),
            physical_name: "objects".to_owned(),
            outputs: map(outputs),
        };
        (binding, Value::Resource(Arc::new(view)))
    });
    Map::from([("bindings".to_owned(), Value::Map(bindings.collect()))])
}

/// What the script's settings say that was deployed with `metadata`.
fn settings(metadata: &Json) -> Json {
    json!({ "tags": metadata["tags"], "bindings": metadata["bindings"] })
}

/// Goes on from `before`, the metadata and outputs of the last upload.
fn upload(before: Option<&(Json, Map)>, bindings: Json, seen: bool) -> (Json, Map) {
    let list: Vec<Json> = bindings
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, outputs)| {
            json!({ "name": name, "type": "durable_object_namespace", "class_name": outputs["className"] })
        })
        .collect();
    let none = Map::new();
    let deployed = before.map_or_else(Deployed::default, |(metadata, _)| {
        Deployed::read("api", &settings(metadata), None)
    });
    let outputs = before
        .filter(|_| seen)
        .map_or(&none, |(_, outputs)| outputs);
    let wanted = wanted(Some("api"), &bound(bindings)).unwrap();
    let migration = Migration::new(wanted, deployed, outputs).unwrap();
    let mut metadata = json!({ "tags": ["mine"], "bindings": list });
    migration.write(&mut metadata);
    let mut outputs = map(json!({ "name": "api" }));
    outputs.extend(migration.output().map(|value| (OUTPUT.to_owned(), value)));
    (metadata, outputs)
}

#[test]
fn classes_are_made_renamed_and_deleted_under_rising_tags() {
    let first = upload(
        None,
        json!({
            "A": { "id": "a", "className": "Room" },
            "B": { "id": "b", "className": "Old", "sqlite": false },
            "C": { "id": "a", "className": "Room" },
            "D": { "id": "d", "className": "Theirs", "scriptName": "other" },
            "E": { "id": "e", "className": "Mine", "scriptName": "api" },
        }),
        true,
    );
    assert_eq!(
        first.0["migrations"],
        json!({ "new_tag": "v1", "new_sqlite_classes": ["Room", "Mine"], "new_classes": ["Old"] })
    );
    assert_eq!(
        first.0["tags"],
        json!([
            "mine",
            "alchemy:do:a:A",
            "alchemy:do:b:B",
            "alchemy:do:a:C",
            "alchemy:do:e:E",
            "alchemy:migration-tag:v1"
        ])
    );
    // The same objects under another class name, with another binding; one that is gone; one that is new.
    let next = json!({
        "X": { "id": "b", "className": "New", "sqlite": false },
        "Y": { "id": "y", "className": "Mine" },
        "Z": { "id": "z", "className": "Z" },
    });
    let losses = losses(&first.1, Some(&bound(next.clone())));
    assert_eq!(losses, ["the Durable Object class `Room` with its data"]);
    let second = upload(Some(&first), next.clone(), true);
    assert_eq!(
        second.0["migrations"],
        json!({
            "old_tag": "v1", "new_tag": "v2", "new_sqlite_classes": ["Z"],
            "renamed_classes": [{ "from": "Old", "to": "New" }], "deleted_classes": ["Room"],
        })
    );
    // Without state the ids come from the tags, and nothing is deleted that nobody was asked about.
    let blind = upload(Some(&first), next.clone(), false);
    let mut expected = second.0["migrations"].clone();
    expected.as_object_mut().unwrap().remove("deleted_classes");
    assert_eq!(blind.0["migrations"], expected);
    let third = upload(Some(&second), next, true);
    assert_eq!(third.0.get("migrations"), None);
    assert_eq!(third.0["tags"][4], json!("alchemy:migration-tag:v2"));
    assert_eq!(super::losses(&third.1, None).len(), 3);
}

#[test]
fn classes_change_names_among_each_other() {
    let with = |a: &str, b: &str| json!({ "A": { "id": "a", "className": a }, "B": { "id": "b", "className": b } });
    let first = upload(None, with("One", "Two"), true);
    assert!(losses(&first.1, Some(&bound(with("Two", "One")))).is_empty());
    let second = upload(Some(&first), with("Two", "One"), true);
    assert_eq!(
        second.0["migrations"]["renamed_classes"],
        json!([{ "from": "One", "to": "Two" }, { "from": "Two", "to": "One" }])
    );
}

#[test]
fn declarations_that_contradict_each_other_are_refused() {
    let told = |bindings: Json| wanted(Some("api"), &bound(bindings)).unwrap_err().message;
    assert_eq!(
        told(
            json!({ "A": { "id": "a", "className": "One" }, "B": { "id": "a", "className": "Two" } })
        ),
        "bindings `A` and `B`: `a` is the id of two classes"
    );
    assert_eq!(
        told(
            json!({ "A": { "id": "a", "className": "One" }, "B": { "id": "b", "className": "One" } })
        ),
        "bindings `A` and `B`: the class `One` is declared under two ids"
    );
    let first = upload(
        None,
        json!({ "A": { "id": "a", "className": "One" } }),
        true,
    );
    let changed = bound(json!({ "A": { "id": "a", "className": "Two", "sqlite": false } }));
    let deployed = Deployed::read("api", &settings(&first.0), Some("v1"));
    let refused = Migration::new(wanted(Some("api"), &changed).unwrap(), deployed, &first.1);
    assert_eq!(
        refused.unwrap_err().message,
        "binding `A`: `sqlite` of the Durable Object class `One` cannot change: a class keeps its storage for life"
    );
}

#[test]
fn ids_that_a_tag_cannot_hold_are_hashed() {
    assert_eq!(plain("my-room.1"), "my-room.1");
    assert!(plain("räume").starts_with("hash-"));
    assert_ne!(plain("räume"), plain("räuma"));
}

#[test]
fn classes_that_no_binding_shows_are_what_state_says_they_are() {
    let first = upload(
        None,
        json!({ "A": { "id": "a", "className": "Room" } }),
        true,
    );
    let known = recorded(&first.1);
    // Somebody bound another class in its place.
    let mut settings = settings(&first.0);
    settings["bindings"][0]["class_name"] = json!("Theirs");
    let namespace = |script: &str, class: &str, sqlite: bool| json!({ "script": script, "class": class, "use_sqlite": sqlite });
    let there = [
        namespace("api", "Theirs", true),
        namespace("api", "Room", true),
        namespace("web", "Hall", true),
    ];
    let migrations = |bindings: Json| {
        let wanted = wanted(Some("api"), &bound(bindings)).unwrap();
        let mut deployed = Deployed::read("api", &settings, Some("v1"));
        assert!(deployed.is_open(&wanted, &known));
        deployed.add_unbound("api", &there, &known);
        assert!(!deployed.is_open(&wanted, &known) || wanted[0].class == "New");
        let mut metadata = json!({ "tags": [] });
        let migration = Migration::new(wanted, deployed, &first.1)?;
        migration.write(&mut metadata);
        Ok::<_, ProviderError>(metadata["migrations"].take())
    };
    let told = |bindings: Json| migrations(bindings).map_err(|error| error.message);
    let one = |id: &str, class: &str| json!({ "A": { "id": id, "className": class } });
    assert_eq!(told(one("a", "Room")), Ok(Json::Null));
    assert_eq!(
        told(one("a", "Hall")),
        Ok(
            json!({ "old_tag": "v1", "new_tag": "v2", "renamed_classes": [{ "from": "Room", "to": "Hall" }] })
        )
    );
    // The other class is nobody's loss: nobody was asked about it.
    assert_eq!(
        told(one("new", "New")),
        Ok(
            json!({ "old_tag": "v1", "new_tag": "v2", "new_sqlite_classes": ["New"], "deleted_classes": ["Room"] })
        )
    );
    assert_eq!(
        told(json!({ "A": { "id": "a", "className": "Room", "sqlite": false } })),
        Err("binding `A`: `sqlite` of the Durable Object class `Room` cannot change: a class keeps its storage for life".to_owned())
    );
}
