//! Props that are written as literals: keys that the kind does not have, and values of a type that a prop can never have.

use rhai::{Expr, FnCallExpr};

use super::{
    super::{
        convert,
        natives::resources::{self, COMMON_OPTIONS},
    },
    Checker,
};
use crate::{
    model::{Diagnostic, Prop, PropType, diagnostic::codes, schema::find_prop, schema::snake_case},
    util::text,
};

impl Checker<'_> {
    /// Keys of literal props that the kind does not have.
    pub(super) fn literal_props(&mut self, call: &FnCallExpr) {
        let Some(Expr::Map(map, _)) = call.args.last() else {
            return;
        };
        let (kind, keys) = match resources::function(&call.name) {
            Some(function) => (function.kind, map),
            None => return,
        };
        let Some(provider) = self.host.options.registry.get(kind) else {
            return;
        };
        let schema = provider.schema();
        if schema.open_props {
            return;
        }
        self.object(&call.name, &schema.props, &keys.0, true);
    }

    fn object(&mut self, owner: &str, props: &[Prop], keys: &[(rhai::Ident, Expr)], top: bool) {
        for (key, value) in keys {
            let name = key.name.as_str();
            if let Some(prop) = find_prop(props, name) {
                self.nested(owner, prop.name, &prop.ty, value);
                continue;
            }
            if top && COMMON_OPTIONS.contains(&name) {
                continue;
            }
            let common = COMMON_OPTIONS.into_iter().filter(|_| top);
            let known: Vec<&str> = props.iter().map(|prop| prop.name).chain(common).collect();
            let help = match text::suggestions(name, known.iter().copied(), 1).first() {
                Some(near) if name.contains('_') => format!("did you mean `{}`?", snake_case(near)),
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                    format!("it takes {}", list.join(", "))
                }
            };
            self.problem(
                Diagnostic::error(
                    codes::UNKNOWN_PROP,
                    format!("unknown prop `{name}` of `{owner}`"),
                )
                .with_help(help),
                key.pos,
            );
        }
    }

    fn nested(&mut self, owner: &str, name: &str, ty: &PropType, value: &Expr) {
        match (ty, value) {
            (PropType::Object(props), Expr::Map(map, _)) => {
                self.object(&format!("{owner}.{name}"), props, &map.0, false);
            }
            (PropType::List(item), Expr::Array(items, _)) => {
                for (index, value) in items.iter().enumerate() {
                    self.nested(owner, &format!("{name}.{index}"), item, value);
                }
            }
            (PropType::MapOf(item), Expr::Map(map, _)) => {
                for (key, value) in &map.0 {
                    self.nested(&format!("{owner}.{name}"), &key.name, item, value);
                }
            }
            (ty, value) => self.literal_type(owner, name, ty, value),
        }
    }

    /// A literal of a type that the prop can never have.
    fn literal_type(&mut self, owner: &str, name: &str, ty: &PropType, value: &Expr) {
        let (found, position) = match value {
            Expr::BoolConstant(_, position) => ("bool", position),
            Expr::IntegerConstant(_, position) => ("integer", position),
            Expr::FloatConstant(_, position) => ("number", position),
            Expr::StringConstant(_, position) => ("string", position),
            Expr::Map(_, position) => ("map", position),
            Expr::Array(_, position) => ("array", position),
            _ => return,
        };
        let fits = match ty {
            PropType::String | PropType::OneOf(_) => found == "string",
            PropType::Bool => found == "bool",
            PropType::Integer { .. } => found == "integer",
            PropType::Number | PropType::Between { .. } => matches!(found, "integer" | "number"),
            PropType::List(_) => found == "array",
            PropType::MapOf(_) | PropType::Object(_) => found == "map",
            PropType::Any | PropType::Binding | PropType::Either(_) | PropType::Resource(_) => true,
        };
        if !fits {
            let expected = crate::provider::validate::describe(ty);
            let message = format!(
                "`{name}` of `{owner}`: expected {expected}, found {}",
                convert::type_words(found)
            );
            let mut diagnostic = Diagnostic::error(codes::WRONG_TYPE, message);
            diagnostic
                .help
                .extend(crate::provider::validate::type_help(ty).map(str::to_owned));
            self.problem(diagnostic, *position);
        }
    }
}
