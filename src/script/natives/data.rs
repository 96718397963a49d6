//! Data in and out of text: JSON, YAML, TOML, hashes, base64, identifiers.

use std::{fmt::Display, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngExt as _;
use rhai::{Blob, Dynamic, Engine, ImmutableString, Module, NativeCallContext};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::model::{Value, diagnostic::codes};

use super::super::{
    convert,
    fault::{self, Outcome},
    host::Host,
};

/// A text format.
#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Yaml,
    Toml,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
        }
    }

    fn parse(self, text: &str) -> Outcome<Json> {
        let fail = |error: &dyn Display| {
            fault::fail(
                codes::RUNTIME,
                format!(
                    "the text is not valid {}: {error}",
                    self.name().to_uppercase()
                ),
            )
        };
        match self {
            Self::Json => serde_json::from_str(text).map_err(|error| fail(&error)),
            Self::Yaml => serde_saphyr::from_str(text).map_err(|error| fail(&error)),
            Self::Toml => text
                .parse::<toml::Table>()
                .map(|table| from_toml(toml::Value::Table(table)))
                .map_err(|error| fail(&error.message())),
        }
    }

    fn write(self, json: &Json) -> Outcome<String> {
        let fail = |error: &dyn Display| {
            fault::fail(
                codes::RUNTIME,
                format!(
                    "the value cannot be written as {}: {error}",
                    self.name().to_uppercase()
                ),
            )
        };
        match self {
            Self::Json => serde_json::to_string(json).map_err(|error| fail(&error)),
            Self::Yaml => serde_saphyr::to_string(json).map_err(|error| fail(&error)),
            Self::Toml => toml::to_string(json).map_err(|error| fail(&error)),
        }
    }
}

/// TOML's dates become text, which is what scripts can work with.
fn from_toml(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => Json::from(number),
        toml::Value::Float(number) => Json::from(number),
        toml::Value::Boolean(value) => Json::Bool(value),
        toml::Value::Datetime(date) => Json::String(date.to_string()),
        toml::Value::Array(items) => Json::Array(items.into_iter().map(from_toml).collect()),
        toml::Value::Table(table) => Json::Object(
            table
                .into_iter()
                .map(|(key, item)| (key, from_toml(item)))
                .collect(),
        ),
    }
}

/// A value of the script as plain JSON. What is not plain is refused: text could not be led back to it.
fn plain(host: &Host, context: &NativeCallContext, value: &Dynamic) -> Outcome<Json> {
    let converted = convert::to_value(host, value).map_err(|error| {
        fault::fail(
            codes::WRONG_ARGUMENTS,
            format!("at `{}`: {}", error.path.join("."), error.message),
        )
    })?;
    if contains_secret(&converted) {
        return Err(fault::fail_with_help(
            codes::WRONG_ARGUMENTS,
            "a secret cannot be written into text",
            "bind it to a Worker, or pass it as a prop that takes secrets",
        ));
    }
    if let Some(error) = host.force_value(&converted, context) {
        return Err(error);
    }
    converted.to_plain_json().map_err(|error| {
        fault::fail_with_help(
            codes::WRONG_ARGUMENTS,
            format!("at `{}`: {}", error.path, error.problem),
            "encode bytes with `base64(..)`",
        )
    })
}

fn contains_secret(value: &Value) -> bool {
    match value {
        Value::Secret(_) => true,
        Value::Array(items) => items.iter().any(contains_secret),
        Value::Map(map) => map.values().any(contains_secret),
        _ => false,
    }
}

fn formats(engine: &mut Engine, host: &Arc<Host>) {
    for format in [Format::Json, Format::Yaml, Format::Toml] {
        let mut module = Module::new();
        let on = Arc::clone(host);
        let parse = move |context: NativeCallContext, text: ImmutableString| -> Outcome<Dynamic> {
            let json = fault::at(&context, format.parse(&text))?;
            Ok(convert::from_value(&on, Value::from_plain_json(json)))
        };
        module.set_native_fn("parse", parse.clone());
        let on = Arc::clone(host);
        module.set_native_fn(
            "stringify",
            move |context: NativeCallContext, value: Dynamic| -> Outcome<String> {
                let json = fault::at(&context, plain(&on, &context, &value))?;
                fault::at(&context, format.write(&json))
            },
        );
        engine.register_static_module(format.name(), module.into());
        engine.register_fn(format.name(), parse);
    }
    let on = Arc::clone(host);
    engine.register_fn(
        "to_json",
        move |context: NativeCallContext, map: &mut rhai::Map| -> Outcome<String> {
            Format::Json.write(&plain(&on, &context, &Dynamic::from_map(map.clone()))?)
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "to_json",
        move |context: NativeCallContext, list: &mut rhai::Array| -> Outcome<String> {
            Format::Json.write(&plain(&on, &context, &Dynamic::from_array(list.clone()))?)
        },
    );
}

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    formats(engine, host);
    engine
        .register_fn("sha256", |text: ImmutableString| {
            hex::encode(Sha256::digest(text.as_bytes()))
        })
        .register_fn("sha256", |bytes: Blob| hex::encode(Sha256::digest(&bytes)))
        .register_fn("base64", |text: ImmutableString| {
            STANDARD.encode(text.as_bytes())
        })
        .register_fn("base64", |bytes: Blob| STANDARD.encode(&bytes))
        .register_fn(
            "base64_decode",
            |text: ImmutableString| -> Outcome<Dynamic> {
                let bytes = STANDARD.decode(text.trim()).map_err(|error| {
                    fault::fail(codes::RUNTIME, format!("the text is not base64: {error}"))
                })?;
                Ok(match String::from_utf8(bytes) {
                    Ok(text) => text.into(),
                    Err(error) => Dynamic::from_blob(error.into_bytes()),
                })
            },
        )
        .register_fn("uuid", || uuid::Uuid::new_v4().to_string())
        .register_fn("random", || rand::rng().random::<f64>())
        .register_fn("random", |from: i64, to: i64| -> Outcome<i64> {
            if from > to {
                return Err(fault::fail(
                    codes::WRONG_ARGUMENTS,
                    format!("there is no number from {from} to {to}"),
                ));
            }
            Ok(rand::rng().random_range(from..=to))
        });
}
