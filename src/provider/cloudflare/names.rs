//! Physical names: made from id and stage, or given by the script and held to the kind's rule.

use crate::{
    model::{Map, Prop, PropType, Value},
    provider::{CheckContext, Checked, PropError},
    util::text,
};

use super::props;

/// How the name of an object is made when the script gives none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `<app>-<scopes>-<id>-<stage>`.
    App,
    /// `<id>-<stage>`.
    Stage,
}

/// What a kind's names look like.
#[derive(Debug)]
pub(super) struct NameRule {
    /// How a name is made by default.
    pub(super) naming: Naming,
    /// Fewest characters.
    pub(super) least: usize,
    /// Most characters.
    pub(super) limit: usize,
    /// Whether `_` may stand inside.
    pub(super) underscores: bool,
    /// Whether any other text is fine as well.
    pub(super) free: bool,
    /// The rule in words: "it must ..".
    pub(super) words: &'static str,
}

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// The name.
    pub(super) physical: String,
    /// Whether the script gave it.
    pub(super) explicit: bool,
}

/// The prop that tells how names are made.
pub(super) fn naming_prop() -> Prop {
    Prop::new(
        "naming",
        PropType::OneOf(&["app", "stage"]),
        "how the name is made when none is given: `stage` gives `<id>-<stage>`, `app` gives `<app>-<scopes>-<id>-<stage>`",
    )
}

impl Name {
    /// What a check of `props` answers about an object that its name tells from others of its kind: the outputs `keys` are the
    /// name, and `type` is `short`.
    pub(super) fn checked(self, kind: &str, short: &str, keys: &[&str], props: Map) -> Checked {
        let mut known = Map::from([("type".to_owned(), Value::from(short))]);
        for key in keys {
            known.insert((*key).to_owned(), Value::from(self.physical.as_str()));
        }
        Checked {
            props,
            known,
            identity: Some(format!("{kind}:{}", self.physical)),
            physical_name: self.physical,
            explicit_name: self.explicit,
        }
    }
}

impl NameRule {
    /// Makes the name of an object. Takes `naming` out of `props`, so that it is never a reason for an update, and
    /// the explicit name under `key` when it is the one that would be made anyhow.
    pub(super) fn resolve(
        &self,
        context: &CheckContext,
        props: &mut Map,
        key: &str,
    ) -> Result<Name, PropError> {
        let naming = match props.remove("naming").as_ref().and_then(Value::as_str) {
            Some("app") => Naming::App,
            Some("stage") => Naming::Stage,
            _ => self.naming,
        };
        let made = match &context.kept_name {
            Some(name) => name.clone(),
            None => self.make(naming, context),
        };
        let Some(given) = props::known_text(props, key)? else {
            return Ok(Name {
                physical: made,
                explicit: false,
            });
        };
        if !self.allows(given) {
            return Err(PropError {
                path: vec![key.to_owned()],
                message: format!("`{given}` is no valid name: it must {}", self.words),
                help: Some(format!(
                    "leave `{key}` out and the name is `{made}`, or correct it"
                )),
                at_key: false,
            });
        }
        let name = Name {
            physical: given.to_owned(),
            explicit: true,
        };
        if name.physical == made {
            props.remove(key);
        }
        Ok(name)
    }

    fn make(&self, naming: Naming, context: &CheckContext) -> String {
        let stage = context.stage.stage.plain();
        let mut parts: Vec<&str> = Vec::new();
        if naming == Naming::App {
            parts.push(context.stage.app.as_str());
            parts.extend(context.scope.parts().iter().map(|part| part.as_str()));
        }
        parts.push(&context.id);
        parts.push(&stage);
        let whole = parts.join("-");
        let limits = self.least..=self.limit;
        text::made_name(&whole, limits, self.underscores, context.fqn.as_str())
    }

    fn allows(&self, name: &str) -> bool {
        let length = name.chars().count();
        if length < self.least || length > self.limit {
            return false;
        }
        if self.free {
            return !name.chars().any(char::is_control);
        }
        let inside = |c: char| {
            c.is_ascii_lowercase()
                || c.is_ascii_digit()
                || c == '-'
                || (c == '_' && self.underscores)
        };
        let ends =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        name.chars().all(inside) && ends(name.chars().next()) && ends(name.chars().last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cloudflare::testing::check_context;

    const RULE: NameRule = NameRule {
        naming: Naming::Stage,
        least: 3,
        limit: 63,
        underscores: false,
        free: false,
        words: "be short",
    };

    fn name(id: &str, props: &[(&str, &str)]) -> Result<Name, String> {
        let context = check_context("my-app/pr-123/data", id);
        let mut map = props
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect();
        RULE.resolve(&context, &mut map, "name")
            .map_err(|error| error.message)
    }

    fn made(id: &str, props: &[(&str, &str)]) -> String {
        let name = name(id, props).unwrap();
        assert!(RULE.allows(&name.physical), "{name:?}");
        name.physical
    }

    #[test]
    fn names_carry_the_stage_and_for_raw_kinds_the_path() {
        assert_eq!(made("my-app-db", &[]), "my-app-db-pr-123");
        assert_eq!(made("db", &[("naming", "app")]), "my-app-data-db-pr-123");
        assert_eq!(made("My_DB", &[]), "my-db-pr-123");
        let long = made(&"x".repeat(90), &[]);
        assert_eq!(long.len(), 63);
        assert_ne!(long, made(&format!("{}y", "x".repeat(89)), &[]));
    }

    #[test]
    fn ids_without_ascii_letters_stay_apart() {
        let first = made("数据库数据库", &[]);
        let second = made("存储桶存储桶", &[]);
        assert_ne!(first, second);
    }

    #[test]
    fn an_explicit_name_is_used_as_written_or_refused() {
        assert_eq!(
            name("db", &[("name", "shared-db")]),
            Ok(Name {
                physical: "shared-db".to_owned(),
                explicit: true
            })
        );
        assert_eq!(
            name("db", &[("name", "Shared DB")]),
            Err("`Shared DB` is no valid name: it must be short".to_owned())
        );
        assert!(name("db", &[("name", "x-")]).is_err());
    }
}
