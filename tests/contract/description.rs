//! Cloudflare's description of its API, and what an exchange has to do with it.
//!
//! A request is held against its operation more strictly than the description asks: a query parameter or a field of the
//! body that the description does not know is a mistake too, because Cloudflare would pass over it in silence. Answers
//! may say more than is described.

mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

use crate::support::exchange::{Exchange, Sent, decode, parts};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// The names under which the schemas are known: closed ones for requests, open ones for answers.
const REQUESTS: &str = "urn:requests";
const ANSWERS: &str = "urn:answers";

/// Where an exchange and the description differ.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The operation, as in `GET /user`; what was called when there is no such operation.
    pub(crate) operation: String,
    /// Which part of the exchange, as in `request query page` or `answer 200 /result/id`.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) message: String,
}

/// A schema of the description, compiled at its first use.
struct Schema {
    reference: String,
    validator: OnceLock<Validator>,
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    kind: String,
    schema: Schema,
}

enum Body {
    None,
    Json(Schema),
    /// The parts, and the names of those that must be there.
    Parts(BTreeMap<String, Schema>, Vec<String>),
}

struct Operation {
    name: String,
    parameters: Vec<Parameter>,
    body: Body,
    success: Schema,
    failure: Schema,
}

/// The description, ready to check exchanges.
pub(crate) struct Description {
    operations: Vec<Operation>,
    routes: HashMap<String, matchit::Router<usize>>,
    registry: Registry<'static>,
}

/// The schemas of the description in the order in which they were met.
#[derive(Default)]
struct Targets {
    requests: Vec<Value>,
    answers: Vec<Value>,
}

fn add(targets: &mut Vec<Value>, of: &str, schema: Value) -> Schema {
    targets.push(schema);
    Schema {
        reference: format!("{of}#/targets/{}", targets.len() - 1),
        validator: OnceLock::new(),
    }
}

impl Description {
    /// Reads a description.
    pub(crate) fn parse(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).expect("the description is JSON");
        let mut targets = Targets::default();
        let mut operations = Vec::new();
        let mut routes: HashMap<String, matchit::Router<usize>> = HashMap::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in METHODS {
                let Some(described) = item.get(method) else {
                    continue;
                };
                routes
                    .entry(method.to_uppercase())
                    .or_default()
                    .insert(by_position(path), operations.len())
                    .expect("paths that differ");
                operations.push(Operation::of(method, path, described, &mut targets));
            }
        }
        let components = &document["components"];
        let mut closed = json!({"targets": targets.requests, "components": components});
        close(&mut closed);
        let open = json!({"targets": targets.answers, "components": components});
        let registry = Registry::new()
            .add(REQUESTS, closed)
            .and_then(|registry| registry.add(ANSWERS, open))
            .and_then(|registry| registry.prepare())
            .expect("schemas without dangling references");
        Self {
            operations,
            routes,
            registry,
        }
    }

    /// The names of all operations, as in `GET /user`.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &str> {
        self.operations
            .iter()
            .map(|operation| operation.name.as_str())
    }

    /// The operation that an exchange called, if it is described, and the parameters in its path by position.
    fn operation(&self, exchange: &Exchange) -> Option<(&Operation, Vec<String>)> {
        let matched = self
            .routes
            .get(&exchange.method)?
            .at(exchange.path())
            .ok()?;
        let given = matched
            .params
            .iter()
            .map(|(_, value)| decode(value))
            .collect();
        Some((&self.operations[*matched.value], given))
    }

    /// The name of the operation that an exchange called.
    pub(crate) fn name(&self, exchange: &Exchange) -> Option<&str> {
        Some(&self.operation(exchange)?.0.name)
    }

    /// Everything in which an exchange differs from the description. `of_request` is false where a bad request was sent
    /// on purpose.
    pub(crate) fn problems(&self, exchange: &Exchange, of_request: bool) -> Vec<Problem> {
        let Some((operation, given)) = self.operation(exchange) else {
            return vec![Problem {
                operation: format!("{} {}", exchange.method, exchange.path()),
                place: "request path".to_owned(),
                message: "there is no such operation".to_owned(),
            }];
        };
        let mut found = Found {
            description: self,
            operation,
            problems: Vec::new(),
        };
        if of_request {
            found.parameters(exchange, given);
            found.request_body(exchange);
        }
        found.answer(exchange);
        found.problems
    }
}

impl Operation {
    fn of(method: &str, path: &str, described: &Value, targets: &mut Targets) -> Self {
        let parameters = described["parameters"].as_array();
        // In the order of the path, so that they can be told by position.
        let mut parameters: Vec<Parameter> = parameters
            .into_iter()
            .flatten()
            .map(|parameter| Parameter::of(parameter, targets))
            .collect();
        parameters.sort_by_key(|parameter| path.find(&format!("{{{}}}", parameter.name)));
        let content = &described["requestBody"]["content"];
        let body = if let Some(multipart) = content.get("multipart/form-data") {
            let schema = &multipart["schema"];
            let parts = schema["properties"].as_object();
            let parts = parts
                .into_iter()
                .flatten()
                .map(|(name, schema)| {
                    let schema = add(&mut targets.requests, REQUESTS, schema.clone());
                    (name.clone(), schema)
                })
                .collect();
            let required = schema["required"].as_array().into_iter().flatten();
            let required = required.filter_map(Value::as_str).map(str::to_owned);
            Body::Parts(parts, required.collect())
        } else if let Some(json) = content.get("application/json") {
            Body::Json(add(&mut targets.requests, REQUESTS, json["schema"].clone()))
        } else {
            Body::None
        };
        let mut answer = |status: &str| {
            let schema = &described["responses"][status]["content"]["application/json"]["schema"];
            add(&mut targets.answers, ANSWERS, schema.clone())
        };
        Self {
            name: format!("{} {path}", method.to_uppercase()),
            parameters,
            body,
            success: answer("200"),
            failure: answer("4XX"),
        }
    }
}

impl Parameter {
    fn of(described: &Value, targets: &mut Targets) -> Self {
        let text = |name: &str| described[name].as_str().unwrap_or_default().to_owned();
        let schema = described["schema"].clone();
        Self {
            name: text("name"),
            place: text("in"),
            required: described["required"] == true,
            kind: schema["type"].as_str().unwrap_or("string").to_owned(),
            schema: add(&mut targets.requests, REQUESTS, schema),
        }
    }

    /// A value as its schema wants to see it; what is no number or truth value stays a text and will not fit.
    fn value(&self, text: &str) -> Value {
        match self.kind.as_str() {
            "number" | "integer" | "boolean" => {
                serde_json::from_str(text).unwrap_or_else(|_| json!(text))
            }
            "array" => text.split(',').collect(),
            _ => json!(text),
        }
    }
}

struct Found<'a> {
    description: &'a Description,
    operation: &'a Operation,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn add(&mut self, place: String, message: impl Into<String>) {
        self.problems.push(Problem {
            operation: self.operation.name.clone(),
            place,
            message: message.into(),
        });
    }

    fn validate(&mut self, schema: &Schema, value: &Value, place: &str) {
        let validator = schema.validator.get_or_init(|| {
            jsonschema::options()
                .with_registry(&self.description.registry)
                .should_validate_formats(true)
                .build(&json!({"$ref": schema.reference}))
                .expect("a schema that can be compiled")
        });
        let problems: Vec<(String, String)> = validator
            .iter_errors(value)
            .map(|error| {
                (
                    format!("{place} {}", error.instance_path()),
                    shortened(&error.to_string()),
                )
            })
            .collect();
        for (place, message) in problems {
            self.add(place.trim_end().to_owned(), message);
        }
    }

    fn parameters(&mut self, exchange: &Exchange, given: Vec<String>) {
        let operation = self.operation;
        let of = |place: &str| {
            let parameters = operation.parameters.iter();
            let place = place.to_owned();
            parameters.filter(move |parameter| parameter.place == place)
        };
        for (parameter, value) in of("path").zip(given) {
            let place = format!("request path {}", parameter.name);
            self.validate(&parameter.schema, &parameter.value(&value), &place);
        }
        let query = exchange.query();
        for (name, value) in &query {
            let place = format!("request query {name}");
            match of("query").find(|parameter| parameter.name == *name) {
                Some(parameter) => {
                    self.validate(&parameter.schema, &parameter.value(value), &place);
                }
                None => self.add(
                    place,
                    format!("the operation has no such parameter; it was `{value}`"),
                ),
            }
        }
        for parameter in of("query") {
            if parameter.required && !query.iter().any(|(name, _)| *name == parameter.name) {
                self.add(format!("request query {}", parameter.name), "it is missing");
            }
        }
        for parameter in of("header") {
            let place = format!("request header {}", parameter.name);
            match exchange.request_headers.get(&parameter.name) {
                Some(value) => {
                    let value = value.to_str().expect("a header that is text");
                    self.validate(&parameter.schema, &parameter.value(value), &place);
                }
                None if parameter.required => self.add(place, "it is missing"),
                None => {}
            }
        }
    }

    fn request_body(&mut self, exchange: &Exchange) {
        let operation = self.operation;
        let sent = exchange.sent();
        match (&operation.body, sent) {
            (Body::None, Sent::Nothing) => {}
            (Body::None, _) => self.add("request body".to_owned(), "the operation takes none"),
            (Body::Json(schema), Sent::Json(value)) => {
                self.validate(schema, &value, "request body");
            }
            (Body::Parts(schemas, required), Sent::Parts(given)) => {
                for part in parts(&given.0, &given.1) {
                    // Modules are parts with names of their own and are not described.
                    if let Some(schema) = schemas.get(&part.name) {
                        let place = format!("request part {}", part.name);
                        let text = String::from_utf8_lossy(&part.bytes);
                        let value = if part.name == "value" {
                            json!(text)
                        } else {
                            serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
                        };
                        self.validate(schema, &value, &place);
                    }
                }
                for name in required {
                    if !parts(&given.0, &given.1)
                        .iter()
                        .any(|part| part.name == *name)
                    {
                        self.add(format!("request part {name}"), "it is missing");
                    }
                }
            }
            (_, Sent::Nothing) => self.add("request body".to_owned(), "it is missing"),
            (Body::Json(_), _) => self.add("request body".to_owned(), "it is not JSON"),
            (Body::Parts(..), _) => {
                self.add("request body".to_owned(), "it is not multipart/form-data");
            }
        }
    }

    fn answer(&mut self, exchange: &Exchange) {
        let operation = self.operation;
        let place = format!("answer {}", exchange.status);
        let schema = match exchange.status {
            200 => &operation.success,
            400..=499 => &operation.failure,
            _ => return self.add(place, "the description has no such status"),
        };
        match serde_json::from_slice::<Value>(&exchange.answer) {
            Ok(value) => self.validate(schema, &value, &place),
            Err(error) => self.add(place, format!("the body is not JSON: {error}")),
        }
    }
}

/// Schemas of objects that know no field but those they name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("type").is_some_and(|kind| kind == "object")
                && (map.get("properties"))
                    .is_some_and(|known| known.as_object().is_some_and(|known| !known.is_empty()))
            {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            let fields: &mut Map<String, Value> = map;
            for value in fields.values_mut() {
                close(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A path whose parameters are named by their position: different operations name the same one differently.
fn by_position(path: &str) -> String {
    let segments = path.split('/').enumerate().map(|(position, segment)| {
        if segment.starts_with('{') {
            format!("{{p{position}}}")
        } else {
            segment.to_owned()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Messages quote the whole value, which may be long.
fn shortened(message: &str) -> String {
    let mut chars = message.chars();
    let short: String = chars.by_ref().take(300).collect();
    if chars.next().is_some() {
        format!("{short} …")
    } else {
        short
    }
}
