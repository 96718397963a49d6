//! Values that stand for something the script cannot look into: outputs that are not known yet, and secrets.
//!
//! Rhai answers `false` when it compares values of a type it does not know, and prints the type's name when it
//! interpolates one. Neither may happen here: a [`Lazy`] can be passed on and put into text, and refuses everything else.

use std::{
    any::TypeId,
    sync::{Arc, Mutex, PoisonError},
};

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Module, NativeCallContext};

use crate::model::{Reference, Secret, TemplatePart, Value, diagnostic::codes};

use super::{
    fault::{self, Outcome},
    host::Host,
    rewrite::{DECIDED, INTERPOLATE, TO_DEBUG, TO_STRING, TYPE_OF},
};

/// The name of [`Lazy`] in Rhai's messages.
pub(super) const LAZY_TYPE: &str = "unknown value";
/// What a value that is not known yet prints as.
pub(super) const KNOWN_AFTER_APPLY: &str = "(known after apply)";

/// An output that is not known yet, or text with such outputs in it.
#[derive(Debug, Clone)]
pub(super) struct Lazy(pub(super) Value);

impl Lazy {
    pub(super) fn new(reference: Reference) -> Self {
        Self(Value::Ref(reference))
    }

    /// The first reference in it: what an error names.
    pub(super) fn reference(&self) -> Option<Reference> {
        let mut first = None;
        self.0.visit_references(&mut |reference| {
            first.get_or_insert_with(|| reference.clone());
        });
        first
    }

    /// Text for people.
    pub(super) fn shown(&self) -> String {
        let parts = self.parts().into_iter().map(|part| match part {
            TemplatePart::Text(text) => text,
            TemplatePart::Ref(_) => KNOWN_AFTER_APPLY.to_owned(),
        });
        parts.collect()
    }

    fn parts(&self) -> Vec<TemplatePart> {
        match &self.0 {
            Value::Ref(reference) => vec![TemplatePart::Ref(reference.clone())],
            Value::Template(parts) => parts.clone(),
            _ => Vec::new(),
        }
    }

    /// Text in front of or behind it, or another one.
    fn join(first: Vec<TemplatePart>, second: Vec<TemplatePart>) -> Self {
        let mut parts: Vec<TemplatePart> = Vec::new();
        for part in first.into_iter().chain(second) {
            match (parts.last_mut(), part) {
                (_, TemplatePart::Text(text)) if text.is_empty() => {}
                (Some(TemplatePart::Text(before)), TemplatePart::Text(text)) => {
                    before.push_str(&text);
                }
                (_, part) => parts.push(part),
            }
        }
        Self(Value::Template(parts))
    }

    /// What lies below it: an attribute of the attribute.
    fn below(&self, key: &str) -> Option<Self> {
        match &self.0 {
            Value::Ref(reference) => {
                let mut reference = reference.clone();
                reference.path.push(key.to_owned());
                Some(Self::new(reference))
            }
            _ => None,
        }
    }
}

/// A secret in the hands of the script.
#[derive(Debug, Clone)]
pub(super) struct SecretValue(pub(super) Secret);

impl SecretValue {
    fn text(&self) -> Outcome<&str> {
        match &self.0 {
            Secret::Plain(text) => Ok(text.as_str()),
            Secret::Sealed(_) => Err(fault::fail_with_help(
                codes::FORCED_UNKNOWN,
                "this secret cannot be opened here",
                "pass it on as it is",
            )),
        }
    }
}

const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// Stand-ins for lazy values in text: Rhai gives interpolation plain text only, so each value leaves a private mark there
/// that [`Tokens::resolve`] turns back.
pub(super) struct Tokens {
    nonce: String,
    values: Mutex<Vec<Value>>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            // Text of the user that happens to look like a mark is not one of this run.
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            values: Mutex::default(),
        }
    }

    fn mark(&self, value: &Value) -> String {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let index = values.len();
        values.push(value.clone());
        format!("{OPEN}{}:{index}{CLOSE}", self.nonce)
    }

    /// Cuts text into what stands between marks and the values of the marks.
    fn split(&self, text: &str) -> Vec<Result<String, Value>> {
        let mut out = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(OPEN) {
            plain.push_str(&rest[..start]);
            let inner = &rest[start + OPEN.len_utf8()..];
            let value = inner.find(CLOSE).and_then(|end| {
                let (nonce, index) = inner[..end].split_once(':')?;
                let index: usize = index.parse().ok().filter(|_| nonce == self.nonce)?;
                let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
                Some((values.get(index)?.clone(), end))
            });
            match value {
                Some((value, end)) => {
                    if !plain.is_empty() {
                        out.push(Ok(std::mem::take(&mut plain)));
                    }
                    out.push(Err(value));
                    rest = &inner[end + CLOSE.len_utf8()..];
                }
                None => {
                    plain.push(OPEN);
                    rest = inner;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            out.push(Ok(plain));
        }
        out
    }

    /// The value that text with marks stands for; `None` for text without.
    pub(super) fn resolve(&self, text: &str) -> Option<Outcome<Value>> {
        if !text.contains(OPEN) {
            return None;
        }
        let pieces = self.split(text);
        if pieces.iter().all(Result::is_ok) {
            return None;
        }
        let secret = pieces
            .iter()
            .any(|piece| matches!(piece, Err(Value::Secret(_))));
        Some(if secret {
            Self::join_secret(&pieces)
        } else {
            let parts = pieces.into_iter().map(|piece| match piece {
                Ok(text) => vec![TemplatePart::Text(text)],
                Err(value) => Lazy(value).parts(),
            });
            let joined = parts.fold(Vec::new(), |all, part| Lazy::join(all, part).parts());
            // `${db.id}` alone is text as well, whatever the type of the attribute.
            Ok(Value::Template(joined))
        })
    }

    fn join_secret(pieces: &[Result<String, Value>]) -> Outcome<Value> {
        let mut text = zeroize::Zeroizing::new(String::new());
        for piece in pieces {
            match piece {
                Ok(plain) => text.push_str(plain),
                Err(Value::Secret(secret)) => text.push_str(SecretValue(secret.clone()).text()?),
                Err(_) => {
                    return Err(fault::fail_with_help(
                        codes::FORCED_UNKNOWN,
                        "text cannot hold both a secret and an output that is not known yet",
                        "pass the two as separate props or bindings",
                    ));
                }
            }
        }
        Ok(Value::Secret(Secret::Plain(Arc::new(text))))
    }

    /// Text for people: what is not known says so, secrets are not shown.
    pub(super) fn display(&self, text: &str) -> String {
        if !text.contains(OPEN) {
            return text.to_owned();
        }
        self.split(text)
            .into_iter()
            .map(|piece| match piece {
                Ok(text) => text,
                Err(Value::Secret(_)) => "<secret>".to_owned(),
                Err(value) => Lazy(value).shown(),
            })
            .collect()
    }
}

/// Text as Rhai sees it: a string, or the lazy or secret value that its marks stand for.
fn unmark(host: &Host, text: ImmutableString) -> Outcome<Dynamic> {
    match host.tokens.resolve(&text) {
        None => Ok(text.into()),
        Some(value) => Ok(match value? {
            Value::Secret(secret) => {
                host.keep_secret(&secret);
                Dynamic::from(SecretValue(secret))
            }
            value => Dynamic::from(Lazy(value)),
        }),
    }
}

const OPERATORS: [&str; 17] = [
    "==", "!=", "<", ">", "<=", ">=", "-", "*", "/", "%", "**", "&", "|", "^", "<<", ">>", "..",
];

/// Makes both types known, and poisonous where looking into them would lie.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<Lazy>(LAZY_TYPE)
        .register_type_with_name::<SecretValue>("secret");
    register_text(engine, host);
    register_operators(engine, host);
    register_access(engine, host);
    register_secret(engine, host);
}

fn register_text(engine: &mut Engine, host: &Arc<Host>) {
    for name in ["to_string", "to_debug"] {
        let on = Arc::clone(host);
        engine.register_fn(name, move |lazy: &mut Lazy| on.tokens.mark(&lazy.0));
        let on = Arc::clone(host);
        engine.register_fn(name, move |secret: &mut SecretValue| {
            on.tokens.mark(&Value::Secret(secret.0.clone()))
        });
    }
    let on = Arc::clone(host);
    engine.register_fn(INTERPOLATE, move |value: Dynamic| -> Outcome<Dynamic> {
        match value.into_immutable_string() {
            Ok(text) => unmark(&on, text),
            Err(_) => Ok(Dynamic::UNIT),
        }
    });
    let on = Arc::clone(host);
    engine.register_fn(
        DECIDED,
        move |context: NativeCallContext, value: Dynamic| -> Outcome<Dynamic> {
            let value = value.flatten();
            if let Some(lazy) = within(&value) {
                return Err(on.force(&lazy, &context));
            }
            if value.is::<SecretValue>() {
                return Err(secret_refused());
            }
            Ok(value)
        },
    );
    for (name, own) in [(TO_STRING, "to_string"), (TO_DEBUG, "to_debug")] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, value: Dynamic| -> Outcome<Dynamic> {
                let printed = context.call_fn::<Dynamic>(own, (value,))?;
                match printed.into_immutable_string() {
                    Ok(text) => unmark(&on, text),
                    Err(_) => Ok(Dynamic::UNIT),
                }
            },
        );
    }
    let on = Arc::clone(host);
    engine.register_fn(
        TYPE_OF,
        move |context: NativeCallContext, value: Dynamic| -> Outcome<String> {
            match value.read_lock::<Lazy>() {
                Some(lazy) => Err(on.force(&lazy, &context)),
                None => Ok(context.engine().map_type_name(value.type_name()).to_owned()),
            }
        },
    );
    // Text and lazy values join to lazy text.
    engine.register_fn("+", |text: ImmutableString, lazy: Lazy| {
        Lazy::join(vec![TemplatePart::Text(text.into())], lazy.parts())
    });
    engine.register_fn("+", |lazy: Lazy, text: ImmutableString| {
        Lazy::join(lazy.parts(), vec![TemplatePart::Text(text.into())])
    });
    engine.register_fn("+", |first: Lazy, second: Lazy| {
        Lazy::join(first.parts(), second.parts())
    });
    // Text joined with a list or a map takes their printed form, which has marks in it.
    joined::<rhai::Array>(engine, host);
    joined::<rhai::Map>(engine, host);
    appended::<rhai::Array>(engine, host);
    appended::<rhai::Map>(engine, host);
    appended::<Lazy>(engine, host);
    engine.register_fn(
        "append",
        |_: &mut ImmutableString, _: SecretValue| -> Outcome<()> {
            Err(fault::fail_with_help(
                codes::WRONG_ARGUMENTS,
                "a secret cannot be appended to text in place",
                "join the two with `+`; the result is a secret as well",
            ))
        },
    );
}

/// The first value in `value` that is not known: itself, or somewhere in a list or map.
pub(super) fn within(value: &Dynamic) -> Option<Lazy> {
    if let Some(lazy) = value.read_lock::<Lazy>() {
        return Some(lazy.clone());
    }
    if let Some(list) = value.read_lock::<rhai::Array>() {
        return list.iter().find_map(within);
    }
    value.read_lock::<rhai::Map>()?.values().find_map(within)
}

/// `text.append(value)` changes a string in place, which cannot become an unknown value.
fn appended<T: Clone + Send + Sync + 'static>(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    engine.register_fn(
        "append",
        move |context: NativeCallContext, text: &mut ImmutableString, value: T| -> Outcome<()> {
            let value = Dynamic::from(value);
            if let Some(lazy) = within(&value) {
                return Err(on.force(&lazy, &context));
            }
            let printed = context.call_native_fn::<ImmutableString>("to_string", (value,))?;
            *text += printed;
            Ok(())
        },
    );
}

fn joined<T: Clone + Send + Sync + 'static>(engine: &mut Engine, host: &Arc<Host>) {
    let on = Arc::clone(host);
    let join = move |context: NativeCallContext, text: ImmutableString, value: T| {
        let printed = context.call_native_fn::<ImmutableString>("to_string", (value,))?;
        unmark(&on, format!("{text}{printed}").into())
    };
    engine.register_fn("+", join);
    let on = Arc::clone(host);
    engine.register_fn(
        "+",
        move |context: NativeCallContext, value: T, text: ImmutableString| -> Outcome<Dynamic> {
            let printed = context.call_native_fn::<ImmutableString>("to_string", (value,))?;
            unmark(&on, format!("{printed}{text}").into())
        },
    );
}

fn register_operators(engine: &mut Engine, host: &Arc<Host>) {
    for operator in OPERATORS.into_iter().chain(["+", "contains"]) {
        let on = Arc::clone(host);
        engine.register_fn(
            operator,
            move |context: NativeCallContext, lazy: Lazy, _: Dynamic| -> Outcome<Dynamic> {
                Err(on.force(&lazy, &context))
            },
        );
        let on = Arc::clone(host);
        engine.register_fn(
            operator,
            move |context: NativeCallContext, _: Dynamic, lazy: Lazy| -> Outcome<Dynamic> {
                Err(on.force(&lazy, &context))
            },
        );
    }
    for operator in ["!", "-", "+"] {
        let on = Arc::clone(host);
        engine.register_fn(
            operator,
            move |context: NativeCallContext, lazy: Lazy| -> Outcome<Dynamic> {
                Err(on.force(&lazy, &context))
            },
        );
    }
    let on = Arc::clone(host);
    engine.register_fn(
        "contains",
        move |context: NativeCallContext, _: &mut rhai::Map, lazy: Lazy| -> Outcome<Dynamic> {
            Err(on.force(&lazy, &context))
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "contains",
        move |context: NativeCallContext, list: &mut rhai::Array, lazy: Lazy| -> Outcome<Dynamic> {
            if list.is_empty() {
                return Ok(Dynamic::FALSE);
            }
            Err(on.force(&lazy, &context))
        },
    );
}

fn register_access(engine: &mut Engine, host: &Arc<Host>) {
    let mut loops = Module::new();
    let on = Arc::clone(host);
    loops.set_iter_result(TypeId::of::<Lazy>(), move |value: Dynamic| {
        let error = value.try_cast::<Lazy>().map(|lazy| on.refuse(&lazy, None));
        Box::new(error.into_iter().map(Err))
    });
    engine.register_global_module(loops.into());
    let on = Arc::clone(host);
    engine.register_indexer_get(
        move |context: NativeCallContext,
              lazy: &mut Lazy,
              key: ImmutableString|
              -> Outcome<Dynamic> {
            match lazy.below(&key) {
                Some(below) => Ok(Dynamic::from(below)),
                None => Err(on.force(lazy, &context)),
            }
        },
    );
    let on = Arc::clone(host);
    engine.register_indexer_get(
        move |context: NativeCallContext, lazy: &mut Lazy, index: i64| -> Outcome<Dynamic> {
            match lazy.below(&index.to_string()).filter(|_| index >= 0) {
                Some(below) => Ok(Dynamic::from(below)),
                None => Err(on.force(lazy, &context)),
            }
        },
    );
}

fn register_secret(engine: &mut Engine, host: &Arc<Host>) {
    let compare = |secret: &SecretValue, other: &Dynamic| -> Outcome<bool> {
        if let Some(text) = other.read_lock::<ImmutableString>() {
            return Ok(secret.text()? == text.as_str());
        }
        Ok(other
            .read_lock::<SecretValue>()
            .is_some_and(|other| secret.0 == other.0))
    };
    engine.register_fn("==", move |secret: SecretValue, other: Dynamic| {
        compare(&secret, &other)
    });
    engine.register_fn("==", move |other: Dynamic, secret: SecretValue| {
        compare(&secret, &other)
    });
    engine.register_fn("!=", move |secret: SecretValue, other: Dynamic| {
        compare(&secret, &other).map(|equal| !equal)
    });
    engine.register_fn("!=", move |other: Dynamic, secret: SecretValue| {
        compare(&secret, &other).map(|equal| !equal)
    });
    for operator in ["<", ">", "<=", ">="] {
        engine.register_fn(operator, |_: SecretValue, _: Dynamic| -> Outcome<bool> {
            Err(secret_refused())
        });
        engine.register_fn(operator, |_: Dynamic, _: SecretValue| -> Outcome<bool> {
            Err(secret_refused())
        });
    }
    let on = Arc::clone(host);
    engine.register_fn(
        "+",
        move |text: ImmutableString, secret: SecretValue| -> Outcome<SecretValue> {
            on.secret(&format!("{text}{}", secret.text()?))
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "+",
        move |secret: SecretValue, text: ImmutableString| -> Outcome<SecretValue> {
            on.secret(&format!("{}{text}", secret.text()?))
        },
    );
}

fn secret_refused() -> Box<EvalAltResult> {
    fault::fail_with_help(
        codes::RUNTIME,
        "a secret cannot be looked into",
        "compare it with `==`, or decide on the value before wrapping it in `secret(..)`",
    )
}
