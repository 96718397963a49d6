//! The props and attributes of a Worker, and the defaults that are filled in.

use super::{
    super::{names::naming_prop, props::mistake},
    assets, bundling, consumers, domains, routes,
};
use crate::{
    model::{Attribute, DeletePolicy, KindSchema, Map, Prop, PropType, ReplaceOrder, Value},
    provider::{PropError, text_prop},
    util::cron::Schedule,
};

/// The runtime's behaviour of this day is used when a script names none. Fixed, so that a Worker does not change by
/// itself; moved on with releases.
const COMPATIBILITY_DATE: &str = "2026-07-01";
/// Types of bindings that can be kept.
const KEPT: &[&str] = &[
    "ai",
    "analytics_engine",
    "assets",
    "browser",
    "d1",
    "durable_object_namespace",
    "hyperdrive",
    "json",
    "kv_namespace",
    "plain_text",
    "queue",
    "r2_bucket",
    "ratelimit",
    "secret_key",
    "secret_text",
    "secrets_store_secret",
    "service",
    "vectorize",
    "version_metadata",
    "workflow",
];
/// What `compatibility: "node"` stands for: flags, and the date from which the runtime does as they say by itself.
const NODE: &[(&str, &str)] = &[
    ("nodejs_compat", "9999-12-31"),
    ("nodejs_compat_v2", "2024-09-23"),
    ("nodejs_compat_populate_process_env", "2025-04-01"),
];
/// Tags that a script may give: the API takes eight, and one is the mark.
const TAGS: usize = 7;

pub(super) fn schema(name_limit: usize) -> KindSchema {
    let texts = || PropType::List(Box::new(PropType::String));
    let bindings = || PropType::MapOf(Box::new(PropType::Binding));
    let share = || PropType::Between { min: 0.0, max: 1.0 };
    let rate = |doc| Prop::new("headSamplingRate", share(), doc);
    let channel = || {
        vec![
            Prop::new("enabled", PropType::Bool, "whether they are kept"),
            Prop::new(
                "invocationLogs",
                PropType::Bool,
                "whether every request is logged by itself",
            ),
            Prop::new("persist", PropType::Bool, "whether Cloudflare stores them"),
            Prop::new("destinations", texts(), "where else they go"),
            rate("the part of requests that is kept, 0 to 1"),
        ]
    };
    let observability = vec![
        Prop::new("enabled", PropType::Bool, "whether logs are kept"),
        rate("the part of requests that is kept, 0 to 1"),
        Prop::new("logs", PropType::Object(channel()), "logs"),
        Prop::new("traces", PropType::Object(channel()), "traces"),
    ];
    let placement = vec![
        Prop::new(
            "mode",
            PropType::OneOf(&["smart", "targeted"]),
            "`smart` runs the Worker near what it calls",
        ),
        Prop::new("region", PropType::String, "the region to run near"),
        Prop::new("host", PropType::String, "the TCP host to run near"),
        Prop::new("hostname", PropType::String, "the HTTP host to run near"),
    ];
    let most = PropType::Integer {
        min: 1,
        max: 10_000_000,
    };
    let limits = vec![
        Prop::new("cpuMs", most.clone(), "milliseconds of CPU a request"),
        Prop::new("subrequests", most, "requests that one request may make"),
    ];
    KindSchema {
        kind: super::KIND.into(),
        doc: "A Worker.".to_owned(),
        props: vec![
            Prop::new(
                "script",
                PropType::String,
                "the code itself, one JavaScript module",
            ),
            Prop::new(
                "entrypoint",
                PropType::String,
                "path of the main module in TypeScript, JSX or JavaScript; what it imports goes along",
            ),
            bundling::prop(),
            assets::prop(),
            Prop::new(
                "noBundle",
                PropType::Bool,
                "whether modules are uploaded as they are, as `bundle: false` says too",
            ),
            Prop {
                default: Some(Value::Bool(true)),
                ..Prop::new(
                    "sourceMap",
                    PropType::Bool,
                    "whether a source map goes along with a bundle",
                )
            },
            Prop::new(
                "format",
                PropType::OneOf(&["esm", "cjs"]),
                "`esm` for modules, `cjs` for one script that registers event listeners",
            ),
            Prop::new(
                "name",
                PropType::String,
                "the name, used exactly as written",
            )
            .replaces(),
            Prop::new(
                "bindings",
                bindings(),
                "what the code finds in `env`: text, secrets, data, and handles of resources",
            )
            .secret(),
            Prop::new("env", bindings(), "more bindings, for plain values").secret(),
            Prop {
                default: Some(Value::from(COMPATIBILITY_DATE)),
                ..Prop::new(
                    "compatibilityDate",
                    PropType::String,
                    "the day, `YYYY-MM-DD`, whose runtime behaviour is used",
                )
            },
            Prop::new(
                "compatibilityFlags",
                texts(),
                "single behaviours of the runtime to switch on or off",
            ),
            Prop::new(
                "compatibility",
                PropType::OneOf(&["node"]),
                "`node` offers the modules of Node.js",
            ),
            Prop::new("crons", texts(), "times at which `scheduled` is called"),
            consumers::prop(),
            Prop::new(
                "placement",
                PropType::Object(placement),
                "where the code runs",
            ),
            Prop::new(
                "observability",
                PropType::Object(observability),
                "what is logged; logs are kept by default",
            ),
            Prop {
                default: Some(Value::Bool(true)),
                ..Prop::new(
                    "url",
                    PropType::Bool,
                    "whether the Worker has an address on the account's subdomain",
                )
            },
            Prop::new(
                "previewSubdomains",
                PropType::Bool,
                "whether each version has an address of its own for previews; not with Durable Objects",
            ),
            Prop::new("limits", PropType::Object(limits), "limits of one request"),
            routes::prop(),
            domains::prop(),
            Prop::new("tags", texts(), "tags to find the Worker by"),
            Prop::new("logpush", PropType::Bool, "whether Logpush takes its logs"),
            Prop::new(
                "tailConsumers",
                PropType::List(Box::new(PropType::Either(vec![
                    PropType::Resource(&[super::KIND]),
                    PropType::String,
                ]))),
                "Workers whose `tail` gets the logs of this one: handles of those that the script declares, which are made first, or \
                 names of others",
            ),
            Prop::new(
                "keepBindings",
                PropType::List(Box::new(PropType::OneOf(KEPT))),
                "types of bindings that stay although they are not given, as `secret_text` for secrets that were set elsewhere; \
                 all others go",
            ),
            Prop::new(
                "cache",
                PropType::Object(vec![
                    Prop::new(
                        "enabled",
                        PropType::Bool,
                        "whether answers are cached in front of the code",
                    ),
                    Prop::new(
                        "crossVersionCache",
                        PropType::Bool,
                        "whether versions share the cache",
                    ),
                ]),
                "caching of the Worker's answers",
            ),
            naming_prop(),
        ],
        open_props: false,
        attributes: vec![
            Attribute::identity("id", "the name of the script"),
            Attribute::identity("name", "the name"),
            Attribute::new("type", "`worker`"),
            Attribute::new("url", "the address, where it has one"),
            Attribute::new("versionId", "the version that runs"),
            Attribute::new("eventSources", "the ids of the queues it gets messages of"),
            Attribute::new("createdAt", "when it was made"),
            Attribute::new("updatedAt", "when it was last changed"),
            Attribute::new("etag", "the hash that Cloudflare gives the uploaded code"),
            Attribute::new(super::workflows::OUTPUT, "the names of its own workflows"),
            Attribute::new(
                super::migrations::OUTPUT,
                "its own classes of Durable Objects: a list of maps with `id`, `className` and `sqlite`",
            ),
        ],
        open_attributes: false,
        // The new one has another name, and what calls the old one can be moved over before it goes.
        replace: ReplaceOrder::CreateFirst,
        delete: DeletePolicy::Disposable,
        name_limit,
    }
}

/// Fills in the defaults and brings shorthands to one form.
pub(super) fn normalise(props: &mut Map, errors: &mut Vec<PropError>) {
    let date = props
        .entry("compatibilityDate".to_owned())
        .or_insert_with(|| Value::from(COMPATIBILITY_DATE));
    if let Value::String(date) = date
        && date.parse::<jiff::civil::Date>().is_err()
    {
        errors.push(mistake(
            &["compatibilityDate"],
            format!("`{date}` is no date"),
            format!("write it as `{COMPATIBILITY_DATE}`"),
        ));
    }
    let mut flags = match props.remove("compatibilityFlags") {
        Some(Value::Array(flags)) => flags,
        _ => Vec::new(),
    };
    if props.remove("compatibility").is_some() {
        let date = text_prop(props, "compatibilityDate").unwrap_or_default();
        for (flag, until) in NODE {
            let flag = Value::from(*flag);
            if date < *until && !flags.contains(&flag) {
                flags.push(flag);
            }
        }
    }
    props.insert("compatibilityFlags".to_owned(), Value::Array(flags));
    props.entry("url".to_owned()).or_insert(Value::Bool(true));
    let observability = props
        .entry("observability".to_owned())
        .or_insert_with(|| Value::Map(Map::new()));
    if let Value::Map(map) = observability {
        let enabled = map
            .entry("enabled".to_owned())
            .or_insert(Value::Bool(true))
            .clone();
        // The API wants both said wherever logs are spoken of.
        if let Some(Value::Map(logs)) = map.get_mut("logs") {
            logs.entry("enabled".to_owned()).or_insert(enabled);
            logs.entry("invocationLogs".to_owned())
                .or_insert(Value::Bool(true));
        }
    }
    let crons = props
        .entry("crons".to_owned())
        .or_insert_with(|| Value::Array(Vec::new()));
    for (index, cron) in crons.as_array().unwrap_or_default().iter().enumerate() {
        let known = match cron {
            Value::String(cron) => match Schedule::parse(cron) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
            _ => "a schedule must be known before the run".to_owned(),
        };
        errors.push(mistake(
            &["crons", &index.to_string()],
            known,
            "give five fields in UTC: minute, hour, day, month, day of the week (1 or SUN to 7 or SAT), as in `0 2 * * *`"
                .to_owned(),
        ));
    }
    let tags = props.get("tags").and_then(Value::as_array);
    if tags.is_some_and(|tags| tags.len() > TAGS) {
        errors.push(mistake(
            &["tags"],
            format!("a Worker has at most {TAGS} tags"),
            None,
        ));
    }
    for (index, tag) in tags.unwrap_or_default().iter().enumerate() {
        let tag = tag.as_str().unwrap_or_default();
        if tag.contains([',', '&']) {
            errors.push(mistake(
                &["tags", &index.to_string()],
                format!("a tag holds neither `,` nor `&`, by which lists of Workers are filtered: `{tag}`"),
                "write two tags, or another sign".to_owned(),
            ));
        }
    }
}
