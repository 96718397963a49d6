//! `cloudflare::Hyperdrive`: how Workers reach a database elsewhere.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    client::{Call, Client},
    names::{NameRule, Naming, naming_prop},
    object::{Listing, Shape},
    props,
};
use crate::{
    model::{
        Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value,
        schema::snake_case,
    },
    provider::{
        CheckContext, Checked, Existing, FailureKind, Observation, OperationContext, PropError,
        ProviderError,
    },
};

pub(super) const KIND: &str = "cloudflare::Hyperdrive";
const PATH: &str = "hyperdrive/configs";

const NAMES: NameRule = NameRule {
    naming: Naming::App,
    least: 1,
    limit: 63,
    underscores: true,
    free: true,
    words: "have 1 to 63 characters and no control characters",
};

/// What is special about Hyperdrive configurations.
#[derive(Debug)]
pub(super) struct Hyperdrive;

fn origin_props() -> Vec<Prop> {
    vec![
        Prop::new(
            "scheme",
            PropType::OneOf(&["postgres", "postgresql", "mysql"]),
            "the kind of database; `postgres` when it is not given",
        ),
        Prop::new("host", PropType::String, "the host").required(),
        Prop::new(
            "port",
            PropType::Integer {
                min: 1,
                max: 65_535,
            },
            "the port; that of the kind of database when it is not given",
        ),
        Prop::new("database", PropType::String, "the database").required(),
        Prop::new("user", PropType::String, "the user").required(),
        Prop::new("password", PropType::String, "the password")
            .required()
            .secret(),
        Prop::new(
            "accessClientId",
            PropType::String,
            "the id of an Access token, for an origin behind a tunnel",
        ),
        Prop::new(
            "accessClientSecret",
            PropType::String,
            "the secret of the Access token",
        )
        .secret(),
    ]
}

fn wrong(reason: &str) -> ProviderError {
    ProviderError::new(FailureKind::Refused, format!("prop `origin`: {reason}")).with_help(
        "write it as `postgres://user:password@host:5432/database`, or as a map of these parts",
    )
}

/// Undoes percent-encoding; none where it is broken.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The parts of a connection string.
fn of_url(text: &str) -> Result<Json, ProviderError> {
    let url = reqwest::Url::parse(text).map_err(|_| wrong("it is no address"))?;
    let decoded = |part: &str| {
        decode(part).ok_or_else(|| wrong("its user, password or database is wrongly encoded"))
    };
    let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
    Ok(json!({
        "scheme": url.scheme(),
        "host": host,
        "port": url.port(),
        "database": decoded(url.path().trim_start_matches('/'))?,
        "user": decoded(url.username())?,
        "password": decoded(url.password().unwrap_or_default())?,
    }))
}

fn origin(props: &Map) -> Result<Json, ProviderError> {
    let mut origin = match props::json_prop(props, "origin")? {
        Some(Json::String(url)) => of_url(&url)?,
        Some(Json::Object(parts)) => parts
            .into_iter()
            .map(|(name, value)| (snake_case(&name), value))
            .collect(),
        _ => return Err(wrong("it is missing")),
    };
    if origin["scheme"].is_null() {
        origin["scheme"] = json!("postgres");
    }
    let scheme = props::text(&origin, "scheme").unwrap_or_default();
    let port = match scheme {
        "postgres" | "postgresql" => 5432,
        "mysql" => 3306,
        _ => return Err(wrong("the scheme must be postgres, postgresql or mysql")),
    };
    // Behind a tunnel there is no port to name.
    let tunnel = origin.get("access_client_id").is_some();
    match origin.as_object_mut() {
        Some(parts) if tunnel => {
            parts.remove("port");
        }
        Some(parts) if parts.get("port").is_none_or(Json::is_null) => {
            parts.insert("port".to_owned(), json!(port));
        }
        _ => {}
    }
    for part in ["database", "user", "password"] {
        if props::text(&origin, part).is_none_or(str::is_empty) {
            return Err(wrong(&format!("it names no {part}")));
        }
    }
    Ok(origin)
}

fn body(name: &str, props: &Map) -> Result<Json, ProviderError> {
    let mut body = json!({ "name": name, "origin": origin(props)? });
    for prop in ["caching", "mtls", "originConnectionLimit"] {
        if let Some(value) = props::json_prop(props, prop)? {
            body[snake_case(prop)] = match value {
                Json::Object(map) => map
                    .into_iter()
                    .map(|(name, value)| match name.as_str() {
                        // The one name that the API does not split.
                        "sslMode" => ("sslmode".to_owned(), value),
                        name => (snake_case(name), value),
                    })
                    .collect(),
                other => other,
            };
        }
    }
    Ok(body)
}

/// Props of the cache, their fields, and what a configuration has by itself.
type Own = fn() -> Json;
const CACHING: [(&str, &str, Own); 3] = [
    ("disabled", "disabled", || json!(false)),
    ("maxAge", "max_age", || json!(60)),
    ("staleWhileRevalidate", "stale_while_revalidate", || {
        json!(15)
    }),
];

/// The props that an answer shows: all but the secrets.
fn settings(item: &Json) -> Map {
    const ORIGIN: [(&str, &str); 6] = [
        ("scheme", "scheme"),
        ("host", "host"),
        ("port", "port"),
        ("database", "database"),
        ("user", "user"),
        ("access_client_id", "accessClientId"),
    ];
    const MTLS: [(&str, &str); 3] = [
        ("ca_certificate_id", "caCertificateId"),
        ("mtls_certificate_id", "mtlsCertificateId"),
        ("sslmode", "sslMode"),
    ];
    let caching = CACHING.map(|(prop, field, _)| (field, prop));
    let mut shown = Map::new();
    for (prop, fields) in [
        ("origin", &ORIGIN[..]),
        ("caching", &caching[..]),
        ("mtls", &MTLS[..]),
    ] {
        if let Some(part) = item.get(prop) {
            let mut map = Map::new();
            props::copy(&mut map, part, fields);
            shown.insert(prop.to_owned(), Value::Map(map));
        }
    }
    let limit = ("origin_connection_limit", "originConnectionLimit");
    props::copy(&mut shown, item, &[limit]);
    shown
}

#[async_trait]
impl Shape for Hyperdrive {
    const PATH: &'static str = PATH;

    fn schema() -> KindSchema {
        let seconds = || PropType::Integer { min: 0, max: 3600 };
        let caching = vec![
            Prop::new("disabled", PropType::Bool, "whether nothing is cached"),
            Prop::new("maxAge", seconds(), "seconds that an answer is kept"),
            Prop::new(
                "staleWhileRevalidate",
                seconds(),
                "seconds that an old answer is given while a new one is fetched",
            ),
        ];
        let mtls = vec![
            Prop::new(
                "caCertificateId",
                PropType::String,
                "the id of the certificate that signs the origin's",
            ),
            Prop::new(
                "mtlsCertificateId",
                PropType::String,
                "the id of the certificate that Hyperdrive shows",
            ),
            Prop::new(
                "sslMode",
                PropType::String,
                "`require`, `verify-ca` or `verify-full`",
            ),
        ];
        KindSchema {
            kind: KIND.into(),
            doc: "Connections of Workers to a database elsewhere, pooled and cached.".to_owned(),
            props: vec![
                Prop::new(
                    "name",
                    PropType::String,
                    "the name, used exactly as written; a change renames it",
                ),
                Prop::new(
                    "origin",
                    PropType::Either(vec![PropType::Object(origin_props()), PropType::String]),
                    "the database: a connection string, or its parts",
                )
                .required()
                .secret(),
                Prop::new("caching", PropType::Object(caching), "what is cached"),
                Prop::new("mtls", PropType::Object(mtls), "certificates"),
                Prop::new(
                    "originConnectionLimit",
                    PropType::Integer { min: 5, max: 100 },
                    "most connections to the database",
                ),
                naming_prop(),
            ],
            open_props: false,
            attributes: vec![
                Attribute::identity("id", "the id of the configuration"),
                Attribute::new("name", "the name"),
                Attribute::new("type", "`hyperdrive`"),
                Attribute::new("createdAt", "when it was made"),
            ],
            open_attributes: false,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: NAMES.limit,
        }
    }

    fn check(&self, context: &CheckContext, mut props: Map) -> Result<Checked, Vec<PropError>> {
        let name = NAMES
            .resolve(context, &mut props, "name")
            .map_err(|error| vec![error])?;
        Ok(name.checked(KIND, "hyperdrive", &["name"], props))
    }

    fn body(
        &self,
        _client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError> {
        body(&context.physical_name, props)
    }

    fn change(
        &self,
        context: &OperationContext,
        item: String,
        props: &Map,
        _existing: &Existing,
    ) -> Result<Option<Call>, ProviderError> {
        let name = props.get("name").and_then(Value::as_str);
        let name = name.unwrap_or(&context.physical_name);
        Ok(Some(Call::put(item).json(&body(name, props)?)))
    }

    fn outputs(&self, result: &Json, _collection: &str, call: &str) -> Result<Map, ProviderError> {
        let mut outputs = Map::from([
            (
                "id".to_owned(),
                Value::from(props::needed_text(result, "id", call)?),
            ),
            (
                "name".to_owned(),
                Value::from(props::needed_text(result, "name", call)?),
            ),
            ("type".to_owned(), Value::from("hyperdrive")),
        ]);
        props::copy(&mut outputs, result, &[("created_on", "createdAt")]);
        Ok(outputs)
    }

    async fn shown(
        &self,
        _client: &Client,
        _context: &OperationContext,
        item: &Json,
        known: &Existing,
    ) -> Result<Map, ProviderError> {
        let mut shown = settings(item);
        // A connection string says the same in other words.
        if !matches!(known.props.get("origin"), Some(Value::Map(_))) {
            shown.remove("origin");
        }
        Ok(shown)
    }

    fn listed(&self, item: &Json, _outputs: &Map) -> Result<Map, ProviderError> {
        let mut props = settings(item);
        if let Some(Value::Map(caching)) = props.get_mut("caching") {
            caching.retain(|prop, value| {
                let own = CACHING.iter().find(|(name, ..)| name == prop);
                own.is_none_or(|(_, _, own)| Value::from_plain_json(own()) != *value)
            });
        }
        props.retain(|_, value| *value != Value::Map(Map::new()));
        Ok(props)
    }

    fn hidden(&self, seen: &Observation) -> Vec<&'static [&'static str]> {
        let path = ["origin".to_owned(), "accessClientId".to_owned()];
        let behind_access = Value::Map(seen.props.clone()).at(&path).is_some();
        let mut hidden: Vec<&'static [&'static str]> = vec![&["origin", "password"]];
        if behind_access {
            hidden.push(&["origin", "accessClientSecret"]);
        }
        hidden
    }

    fn listing(&self) -> Listing {
        Listing::Whole
    }

    fn is_it(&self, item: &Json, name: &str) -> bool {
        props::text(item, "name") == Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cloudflare::testing::map;

    #[test]
    fn a_connection_string_is_taken_apart() {
        let of = |origin: Json| origin_of(&map(json!({ "origin": origin })));
        fn origin_of(props: &Map) -> Result<Json, String> {
            origin(props).map_err(|error| error.message)
        }
        assert_eq!(
            of(json!("postgres://me:p%40ss@db.example.com/main")).unwrap(),
            json!({ "scheme": "postgres", "host": "db.example.com", "port": 5432, "database": "main", "user": "me", "password": "p@ss" })
        );
        assert_eq!(
            of(json!("mysql://me:p@db.example.com:1/main")).unwrap()["port"],
            1
        );
        for (origin, problem) in [
            (json!("nothing"), "it is no address"),
            (
                json!("ftp://me:p@host/main"),
                "the scheme must be postgres, postgresql or mysql",
            ),
            (json!("postgres://me@host/main"), "it names no password"),
            (json!("postgres://me:p@host"), "it names no database"),
        ] {
            assert_eq!(of(origin), Err(format!("prop `origin`: {problem}")));
        }
        let parts = json!({ "host": "h", "database": "d", "user": "u", "password": "p",
            "accessClientId": "a", "accessClientSecret": "b", "port": 1 });
        assert_eq!(
            of(parts).unwrap(),
            json!({ "scheme": "postgres", "host": "h", "database": "d", "user": "u", "password": "p",
                "access_client_id": "a", "access_client_secret": "b" })
        );
    }
}
