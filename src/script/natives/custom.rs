//! Kinds that the script defines: `resource("my::Kind", #{ create: |ctx, id, props| .., .. })`.
//!
//! What scripts write is here: `resource(..)` and `declare(..)`. How the engine reaches the closures is in `closures`.

mod closures;

use std::sync::Arc;

use rhai::{Dynamic, Engine, FnPtr, ImmutableString, Map as ScriptMap, NativeCallContext};

use crate::{
    model::{
        Attribute, DeletePolicy, Diagnostic, KindSchema, Prop, PropType, ReplaceOrder,
        diagnostic::codes,
    },
    util::text,
};

use super::{
    super::{
        convert,
        fault::{self, Fault, Outcome},
        host::Host,
        options::Options,
        scope::ScopeRef,
    },
    resources::{self, Place},
};
use closures::{Closures, ScriptKind};

/// What `resource(..)` returns: `Kind.declare("id", #{ .. })` declares a resource of the kind.
#[derive(Debug, Clone)]
struct Kind(Arc<str>);

/// `resource(kind, definition)`.
fn define(
    host: &Arc<Host>,
    context: &NativeCallContext,
    kind: &str,
    definition: ScriptMap,
) -> Outcome<Kind> {
    let refuse = |message: String, help: &str| {
        Fault::new(Diagnostic::error(codes::CUSTOM_KIND, message).with_help(help)).raise()
    };
    if !kind.contains("::") || kind.split("::").any(|part| part.trim().is_empty()) {
        return Err(refuse(
            format!("`{kind}` is no name for a kind"),
            "write it with a namespace of your own: `my::Kind`",
        ));
    }
    let mut options = Options::new(
        "resource",
        definition,
        &[
            "create",
            "update",
            "delete",
            "read",
            "schema",
            "replaceOn",
            "outputs",
        ],
    )?;
    let mut closure = |name: &'static str| -> Outcome<Option<FnPtr>> {
        match options.take(name) {
            None => Ok(None),
            Some(value) => match value.clone().try_cast::<FnPtr>() {
                Some(function) => Ok(Some(function)),
                None => Err(refuse(
                    format!(
                        "`{name}` of `{kind}` must be a closure, found {}",
                        convert::type_words(value.type_name())
                    ),
                    "write it as `|ctx, id, props| #{ .. }`",
                )),
            },
        }
    };
    let (create, update) = (closure("create")?, closure("update")?);
    let (delete, read) = (closure("delete")?, closure("read")?);
    let Some(create) = create else {
        return Err(refuse(
            format!("`{kind}` has no `create`"),
            "add `create: |ctx, id, props| #{ .. }`, which answers the outputs",
        ));
    };
    let names = |options: &mut Options<'_>, name: &'static str| -> Outcome<Option<Vec<String>>> {
        let Some(value) = options.take(name) else {
            return Ok(None);
        };
        let list = value.into_typed_array::<ImmutableString>();
        match list {
            Ok(list) => Ok(Some(list.iter().map(ToString::to_string).collect())),
            Err(_) => Err(refuse(
                format!("`{name}` of `{kind}` must be a list of names"),
                "write it as `[\"id\", \"url\"]`",
            )),
        }
    };
    let replace_on = names(&mut options, "replaceOn")?.unwrap_or_default();
    let outputs = names(&mut options, "outputs")?;
    let props = match options.take("schema") {
        None => None,
        Some(value) => Some(schema_props(&value).ok_or_else(|| {
            refuse(
                format!("`schema` of `{kind}` must be a map of prop names to types"),
                "write it as `#{ size: \"int\", label: \"string?\" }`; the types are any, string, int, number, bool, array, map",
            )
        })?),
    };
    #[expect(
        deprecated,
        reason = "Rhai marks this as volatile; Cargo.toml pins the version"
    )]
    let written = context.store_data();
    let kind: Arc<str> = kind.into();
    let provider = ScriptKind {
        schema: KindSchema {
            kind: Arc::clone(&kind),
            doc: "Defined by the script.".to_owned(),
            open_props: props.is_none(),
            props: props.unwrap_or_default(),
            open_attributes: outputs.is_none(),
            attributes: outputs
                .unwrap_or_default()
                .into_iter()
                .map(|name| Attribute::new(leak(name), "Defined by the script."))
                .collect(),
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: 200,
        },
        replace_on,
        closures: Arc::new(Closures {
            create,
            update,
            delete,
            read,
            written,
        }),
        jobs: host.jobs(),
        host: Arc::downgrade(host),
    };
    if !host.options.registry.add(Arc::new(provider)) {
        return Err(refuse(
            format!("the kind `{kind}` exists already"),
            "choose another name",
        ));
    }
    Ok(Kind(kind))
}

/// Schemas name props by static text. Kinds live as long as the process, and a script defines a handful.
fn leak(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

fn schema_props(value: &Dynamic) -> Option<Vec<Prop>> {
    let map = value.read_lock::<ScriptMap>()?;
    map.iter()
        .map(|(name, ty)| {
            let ty = ty.read_lock::<ImmutableString>()?;
            let (word, optional) = match ty.strip_suffix('?') {
                Some(word) => (word, true),
                None => (ty.as_str(), false),
            };
            let ty = match word {
                "any" => PropType::Any,
                "string" => PropType::String,
                "int" => PropType::Integer {
                    min: i64::MIN,
                    max: i64::MAX,
                },
                "number" => PropType::Number,
                "bool" => PropType::Bool,
                "array" => PropType::List(Box::new(PropType::Any)),
                "map" => PropType::MapOf(Box::new(PropType::Any)),
                _ => return None,
            };
            let prop = Prop::new(leak(name.to_string()), ty, "Defined by the script.").secret();
            Some(if optional { prop } else { prop.required() })
        })
        .collect()
}

/// Registers `resource`, `declare` and the method `declare` of kinds and scopes.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<Kind>("kind")
        .register_fn("to_string", |kind: &mut Kind| kind.0.to_string())
        .register_fn("to_debug", |kind: &mut Kind| kind.0.to_string());
    let on = Arc::clone(host);
    engine.register_fn(
        "resource",
        move |context: NativeCallContext, kind: ImmutableString, definition: ScriptMap| {
            define(&on, &context, &kind, definition)
        },
    );
    let on = Arc::clone(host);
    let declare = move |context: &NativeCallContext,
                        scope: Option<crate::model::ScopePath>,
                        kind: &str,
                        id: &str,
                        props: &ScriptMap|
          -> Outcome<Dynamic> {
        if on.options.registry.get(kind).is_none() {
            let kinds = on.options.registry.kinds();
            let near = text::suggestions(kind, kinds.iter().map(AsRef::as_ref), 1);
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => "define it first with `resource(\"my::Kind\", #{ create: .. })`".to_owned(),
            };
            return Err(fault::fail_with_help(
                codes::UNKNOWN_KIND,
                format!("no resource kind `{kind}`"),
                help,
            ));
        }
        let place = Place {
            scope,
            function: "declare",
            kind,
            block: false,
        };
        resources::declare(&on, context, &place, id, props)
    };
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext, kind: &mut Kind, id: ImmutableString| {
            on(&context, None, &kind.0, &id, &ScriptMap::new())
        },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              kind: &mut Kind,
              id: ImmutableString,
              props: ScriptMap| { on(&context, None, &kind.0, &id, &props) },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext, kind: ImmutableString, id: ImmutableString| {
            on(&context, None, &kind, &id, &ScriptMap::new())
        },
    );
    let on = declare.clone();
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              kind: ImmutableString,
              id: ImmutableString,
              props: ScriptMap| { on(&context, None, &kind, &id, &props) },
    );
    engine.register_fn(
        "declare",
        move |context: NativeCallContext,
              scope: &mut ScopeRef,
              kind: ImmutableString,
              id: ImmutableString,
              props: ScriptMap| {
            declare(&context, scope.path.clone(), &kind, &id, &props)
        },
    );
}
