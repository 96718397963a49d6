//! Names: apps, stages, scopes, resource ids and the fully qualified name that joins them.
//!
//! A [`Fqn`] is `app/stage/scope/../id`: unique and stable, the key of every record in state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ids that would collide with folders of the state layout.
pub const RESERVED_IDS: [&str; 4] = ["resources", "backups", "deployments", "logs"];

/// The longest name that is accepted; file systems allow 255 bytes per component, and suffixes need room.
pub const MAX_NAME_LENGTH: usize = 200;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is the empty string or only white space.
    #[error("{what} is empty")]
    Empty {
        /// Which sort of name it is.
        what: &'static str,
    },
    /// The name holds a character that paths or FQNs use.
    #[error(
        "{what} `{name}` holds {character:?}, which is not allowed (`/`, `\\`, `:`, `*` and control characters are refused)"
    )]
    Character {
        /// Which sort of name it is.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// The name is one that the state layout uses.
    #[error(
        "{what} `{name}` is reserved (reserved: `resources`, `backups`, `deployments`, `logs`, `.` and `..`)"
    )]
    Reserved {
        /// Which sort of name it is.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// The name is longer than [`MAX_NAME_LENGTH`] bytes.
    #[error("{what} is {length} bytes long; at most {MAX_NAME_LENGTH} are allowed")]
    TooLong {
        /// Which sort of name it is.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// Text that should be an FQN has too few parts.
    #[error("`{text}` is not a fully qualified name; expected `app/stage/../id`")]
    NotFqn {
        /// The text as given.
        text: String,
    },
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Empty { what });
    }
    if let Some(character) = name
        .chars()
        .find(|c| matches!(c, '/' | '\\' | ':' | '*') || c.is_control())
    {
        return Err(NameError::Character {
            what,
            name: name.to_owned(),
            character,
        });
    }
    if RESERVED_IDS.contains(&name) || name == "." || name == ".." {
        return Err(NameError::Reserved {
            what,
            name: name.to_owned(),
        });
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(NameError::TooLong {
            what,
            length: name.len(),
        });
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`NameError`] when it is empty, reserved, too long or holds a forbidden character.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check($what, &name)?;
                Ok(Self(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of an application: the first part of every FQN.
    AppName,
    "application name"
);
name_type!(
    /// The name of a stage, such as `dev`, `prod` or `pr-123`.
    StageName,
    "stage name"
);
name_type!(
    /// What the script calls a resource or a nested scope.
    ResourceId,
    "id"
);

/// What the name of a test's stage begins with. A stage that a person names cannot hold the `:`.
const TEST: &str = "test:";

impl StageName {
    /// The stage of test `id` of stage `of`: `test:<id>:<of>`. Nobody can write this name, so tests meet no stage and no
    /// other stage's tests. `None` when `of` is a test itself.
    #[must_use]
    pub fn test(id: &ResourceId, of: &Self) -> Option<Self> {
        match of.test_parts() {
            Some(_) => None,
            None => Some(Self(format!("{TEST}{id}:{of}"))),
        }
    }

    /// The test's id and the stage that it belongs to, when this is the stage of a test.
    #[must_use]
    pub fn test_parts(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(TEST)?.split_once(':')
    }

    /// The name as it may stand in the names of objects: `test-<id>-<stage>` for a test.
    #[must_use]
    pub fn plain(&self) -> String {
        self.0.replace(':', "-")
    }

    /// Reads the name of any stage, a test's too, as state and FQNs hold it.
    fn read(name: &str) -> Result<(), NameError> {
        const WHAT: &str = "stage name";
        match name
            .strip_prefix(TEST)
            .and_then(|rest| rest.split_once(':'))
        {
            Some((id, of)) => check(WHAT, id).and_then(|()| check(WHAT, of)),
            None => check(WHAT, name),
        }
    }
}

impl TryFrom<String> for StageName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::read(&name)?;
        Ok(Self(name))
    }
}

impl TryFrom<String> for AppName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for ResourceId {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

/// One stage of one application: what a run locks and what a state folder holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StagePath {
    /// The application.
    pub app: AppName,
    /// Its stage.
    pub stage: StageName,
}

impl StagePath {
    /// Joins an application and a stage.
    #[must_use]
    pub fn new(app: AppName, stage: StageName) -> Self {
        Self { app, stage }
    }
}

impl fmt::Display for StagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.stage)
    }
}

/// The nested scopes below a stage, outermost first; empty for the stage itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScopePath(Vec<ResourceId>);

impl ScopePath {
    /// The stage itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The scope `id` inside this one.
    #[must_use]
    pub fn child(&self, id: ResourceId) -> Self {
        let mut parts = self.0.clone();
        parts.push(id);
        Self(parts)
    }

    /// The ids of the scopes, outermost first.
    #[must_use]
    pub fn parts(&self) -> &[ResourceId] {
        &self.0
    }

    /// Whether `other` is this scope or lies inside it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(part.as_str())?;
        }
        Ok(())
    }
}

/// A fully qualified name, `app/stage/scope/../id`.
///
/// Cheap to clone: handles, references, records and events all carry one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fqn(std::sync::Arc<str>);

impl Fqn {
    /// The name of resource `id` in `scope` of `stage`.
    #[must_use]
    pub fn new(stage: &StagePath, scope: &ScopePath, id: &ResourceId) -> Self {
        let mut text = format!("{}/{}", stage.app, stage.stage);
        for part in scope.parts() {
            text.push('/');
            text.push_str(part.as_str());
        }
        text.push('/');
        text.push_str(id.as_str());
        Self(text.into())
    }

    /// Reads an FQN from text.
    ///
    /// # Errors
    /// [`NameError`] when it has fewer than three parts or a part is not a valid name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() < 3 {
            return Err(NameError::NotFqn {
                text: text.to_owned(),
            });
        }
        for (index, part) in parts.into_iter().enumerate() {
            match index {
                1 => StageName::read(part)?,
                _ => check("part of a fully qualified name", part)?,
            }
        }
        Ok(Self(text.into()))
    }

    /// The whole name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part: what the script calls the resource.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Everything after `app/stage/`: how people name a resource within one stage.
    #[must_use]
    pub fn within_stage(&self) -> &str {
        let mut slashes = self.0.match_indices('/').map(|(index, _)| index);
        match slashes.nth(1) {
            Some(index) => &self.0[index + 1..],
            None => &self.0,
        }
    }

    /// The stage that the resource belongs to.
    #[must_use]
    pub fn stage(&self) -> StagePath {
        let mut parts = self.0.split('/');
        let app = AppName(parts.next().unwrap_or_default().to_owned());
        let stage = StageName(parts.next().unwrap_or_default().to_owned());
        StagePath { app, stage }
    }

    /// The scope that the resource stands in.
    #[must_use]
    pub fn scope(&self) -> ScopePath {
        let parts: Vec<&str> = self.0.split('/').collect();
        let end = parts.len().saturating_sub(1).max(2);
        ScopePath(
            parts[2..end]
                .iter()
                .map(|part| ResourceId((*part).to_owned()))
                .collect(),
        )
    }
}

impl TryFrom<String> for Fqn {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Fqn> for String {
    fn from(fqn: Fqn) -> Self {
        fqn.0.as_ref().to_owned()
    }
}

impl fmt::Display for Fqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fqn_splits_into_its_parts() {
        let fqn = Fqn::parse("shop/prod/database/main-db").unwrap();
        assert_eq!(fqn.id(), "main-db");
        assert_eq!(fqn.within_stage(), "database/main-db");
        assert_eq!(fqn.stage().to_string(), "shop/prod");
        assert_eq!(fqn.scope().to_string(), "database");
    }

    #[test]
    fn names_that_paths_cannot_hold_are_refused() {
        for name in [
            "",
            " ",
            "a/b",
            "a\\b",
            "a:b",
            "a*b",
            "a\nb",
            "resources",
            "..",
            ".",
        ] {
            assert!(ResourceId::new(name).is_err(), "{name:?} was accepted");
        }
        assert!(ResourceId::new("x".repeat(MAX_NAME_LENGTH + 1)).is_err());
        assert!(ResourceId::new("main-db").is_ok());
    }

    #[test]
    fn the_stage_of_a_test_is_none_that_a_person_can_name() {
        let (id, dev) = (
            ResourceId::new("smoke").unwrap(),
            StageName::new("dev").unwrap(),
        );
        let test = StageName::test(&id, &dev).unwrap();
        assert_eq!(test.test_parts(), Some(("smoke", "dev")));
        assert_eq!(test.plain(), "test-smoke-dev");
        assert!(StageName::new(test.as_str()).is_err());
        assert_eq!(StageName::try_from(test.to_string()), Ok(test.clone()));
        assert!(StageName::test(&id, &test).is_none());
        let fqn = Fqn::parse("shop/test:smoke:dev/db").unwrap();
        assert_eq!(fqn.stage().stage, test);
        assert!(Fqn::parse("shop/a:b/db").is_err());
    }

    #[test]
    fn an_fqn_needs_three_parts() {
        assert!(Fqn::parse("app/stage").is_err());
        assert!(Fqn::parse("app//x").is_err());
    }
}
