//! The value that a resource function returns.
//!
//! Passing it on waits for nothing; reading an attribute gives what is known at once, waits for this one resource in phase
//! `up`, and gives a [`Lazy`] in a plan.

use std::sync::Arc;

use rhai::{Dynamic, Engine, ImmutableString, NativeCallContext};

use crate::{
    engine::{AttributeState, NodeId, Phase, Run},
    model::{Diagnostic, Fqn, Reference, diagnostic::codes},
    util::text,
};

use super::{
    convert,
    fault::{Fault, Outcome},
    host::Host,
    lazy::Lazy,
};

/// Attributes that every resource has.
pub(super) const COMMON_ATTRIBUTES: [&str; 5] = ["name", "fqn", "kind", "stage", "id"];

/// A declared resource.
#[derive(Clone)]
pub(super) struct Resource {
    pub(super) run: Arc<Run>,
    pub(super) node: NodeId,
    pub(super) fqn: Fqn,
    pub(super) kind: Arc<str>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}, {})", self.fqn.as_str(), self.kind)
    }
}

impl Resource {
    fn unknown_attribute(&self, name: &str) -> Fault {
        let schema = self.run.schema(self.node);
        let mut names: Vec<&str> = schema
            .attributes
            .iter()
            .map(|attribute| attribute.name)
            .collect();
        for name in COMMON_ATTRIBUTES {
            if name != "id" && !names.contains(&name) {
                names.push(name);
            }
        }
        let near = text::suggestions(name, names.iter().copied(), 1);
        let help = match near.first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("it has {}", list.join(", "))
            }
        };
        Fault::new(
            Diagnostic::error(
                codes::UNKNOWN_ATTRIBUTE,
                format!("{} has no attribute `{name}`", self.kind),
            )
            .with_help(help),
        )
    }

    fn read(&self, host: &Host, engine: &Engine, name: &str) -> Outcome<Dynamic> {
        // Twice at most: a settled resource is never pending in phase `up`.
        for _ in 0..2 {
            match self.run.attribute(self.node, name) {
                AttributeState::Known(value) => {
                    if !matches!(name, "fqn" | "kind" | "stage" | "name") {
                        self.run.note_read(self.node);
                    }
                    return Ok(convert::from_value(host, value));
                }
                AttributeState::Pending => host.settle(engine, &self.run, self.node)?,
                AttributeState::Unknown => {
                    let lazy = self.lazy(name);
                    host.note_unknown(lazy.reference());
                    return Ok(Dynamic::from(lazy));
                }
                AttributeState::NoSuchAttribute => {
                    return Err(self.unknown_attribute(name).raise());
                }
            }
        }
        Ok(Dynamic::UNIT)
    }

    fn lazy(&self, name: &str) -> Lazy {
        let schema = self.run.schema(self.node);
        let name = schema
            .attribute(name)
            .map_or(name, |attribute| attribute.name);
        Lazy::new(Reference {
            fqn: self.fqn.clone(),
            path: vec![name.to_owned()],
        })
    }

    /// `db.ref("id")`: the attribute as a reference, in every phase, without waiting.
    fn reference(&self, host: &Host, name: &str) -> Outcome<Dynamic> {
        match self.run.attribute(self.node, name) {
            AttributeState::NoSuchAttribute => Err(self.unknown_attribute(name).raise()),
            AttributeState::Known(value) if matches!(name, "fqn" | "kind" | "stage") => {
                Ok(convert::from_value(host, value))
            }
            _ => Ok(Dynamic::from(self.lazy(name))),
        }
    }
}

/// Makes handles known to the script.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine.register_type_with_name::<Resource>("resource");
    let on = Arc::clone(host);
    engine.register_indexer_get(
        move |context: NativeCallContext,
              resource: &mut Resource,
              name: ImmutableString|
              -> Outcome<Dynamic> { resource.read(&on, context.engine(), &name) },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "ref",
        move |resource: &mut Resource, name: ImmutableString| -> Outcome<Dynamic> {
            resource.reference(&on, &name)
        },
    );
    let on = Arc::clone(host);
    let wait = move |context: NativeCallContext, resource: &mut Resource| -> Outcome<Resource> {
        if resource.run.options().phase == Phase::Up {
            on.settle(context.engine(), &resource.run, resource.node)?;
        }
        Ok(resource.clone())
    };
    engine.register_fn("wait", wait);
    let on = Arc::clone(host);
    engine.register_fn(
        "wait",
        move |context: NativeCallContext, resources: &mut rhai::Array| -> Outcome<()> {
            for item in resources.iter() {
                let Some(resource) = item.read_lock::<Resource>().map(|r| r.clone()) else {
                    continue;
                };
                if resource.run.options().phase == Phase::Up {
                    on.settle(context.engine(), &resource.run, resource.node)?;
                }
            }
            Ok(())
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "outputs",
        move |context: NativeCallContext, resource: &mut Resource| -> Outcome<Dynamic> {
            if resource.run.options().phase == Phase::Up {
                on.settle(context.engine(), &resource.run, resource.node)?;
            }
            Ok(match resource.run.outputs(resource.node) {
                Some(outputs) => Dynamic::from_map(convert::from_map(&on, outputs)),
                None => Dynamic::from(Lazy::new(Reference {
                    fqn: resource.fqn.clone(),
                    path: Vec::new(),
                })),
            })
        },
    );
    engine
        .register_fn("==", |a: Resource, b: Resource| a.fqn == b.fqn)
        .register_fn("!=", |a: Resource, b: Resource| a.fqn != b.fqn)
        .register_fn("to_string", |resource: &mut Resource| {
            resource.fqn.as_str().to_owned()
        })
        .register_fn("to_debug", |resource: &mut Resource| {
            format!("{} ({})", resource.fqn.as_str(), resource.kind)
        });
}
