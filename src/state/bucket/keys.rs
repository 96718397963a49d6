//! Names of the objects in a bucket; see the module's own page for what they hold.

use object_store::path::Path;

use crate::model::{AppName, StagePath};

/// Writes a name so that it stands in a key as it is: letters, digits, `-`, `_` and inner dots; every other byte as `=XX`.
pub(super) fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            b'.' if index > 0 => out.push('.'),
            other => out.push_str(&format!("={other:02x}")),
        }
    }
    out
}

/// Gives back the name; `None` for what [`escape`] never wrote.
pub(super) fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'=' {
            let (hex, after) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (escape(&name) == part).then_some(name)
}

/// The keys below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Path,
}

impl Keys {
    pub(super) fn new(prefix: Path) -> Self {
        Self { prefix }
    }

    /// The folder of all applications.
    pub(super) fn root(&self) -> &Path {
        &self.prefix
    }

    /// Says that alch keeps state here, and that conditional writes were tried.
    pub(super) fn store(&self) -> Path {
        self.prefix.clone().join("store.json")
    }

    fn app(&self, app: &AppName) -> Path {
        self.prefix.clone().join(escape(app.as_str()))
    }

    fn folder(&self, app: &AppName, folder: &str) -> Path {
        self.app(app).join(folder)
    }

    pub(super) fn app_record(&self, app: &AppName) -> Path {
        self.app(app).join("app.json")
    }

    pub(super) fn locks(&self, app: &AppName) -> Path {
        self.folder(app, "locks")
    }

    pub(super) fn states(&self, app: &AppName) -> Path {
        self.folder(app, "states")
    }

    /// The journals of all stages.
    pub(super) fn journals(&self, app: &AppName) -> Path {
        self.folder(app, "journal")
    }

    /// The backups of all stages.
    pub(super) fn all_backups(&self, app: &AppName) -> Path {
        self.folder(app, "backups")
    }

    pub(super) fn lock(&self, stage: &StagePath) -> Path {
        self.locks(&stage.app)
            .join(format!("{}.json", escape(stage.stage.as_str())))
    }

    pub(super) fn state(&self, stage: &StagePath) -> Path {
        self.states(&stage.app)
            .join(format!("{}.json", escape(stage.stage.as_str())))
    }

    /// All segments of a stage.
    pub(super) fn journal(&self, stage: &StagePath) -> Path {
        self.journals(&stage.app).join(escape(stage.stage.as_str()))
    }

    /// The segments that go on from one checkpoint.
    pub(super) fn generation(&self, stage: &StagePath, generation: u64) -> Path {
        self.journal(stage).join(format!("{generation:012}"))
    }

    pub(super) fn segment(&self, stage: &StagePath, generation: u64, sequence: u64) -> Path {
        self.generation(stage, generation)
            .join(format!("{sequence:08}.json"))
    }

    pub(super) fn backups(&self, stage: &StagePath) -> Path {
        self.all_backups(&stage.app)
            .join(escape(stage.stage.as_str()))
    }

    pub(super) fn deployments(&self, stage: &StagePath) -> Path {
        self.folder(&stage.app, "deployments")
            .join(escape(stage.stage.as_str()))
    }
}

/// The name that an object has in its folder, without `.json`.
pub(super) fn stem(key: &Path) -> Option<&str> {
    key.filename()?.strip_suffix(".json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests_support::stage;

    #[test]
    fn every_name_comes_back() {
        for name in [
            "prod",
            "pr-123",
            "test:smoke:dev",
            "ü x",
            ".hidden",
            "a.b",
            "=41",
            "%",
            "..",
        ] {
            let escaped = escape(name);
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
            assert_eq!(
                Path::parse(&escaped).unwrap().as_ref(),
                escaped,
                "taken as it is"
            );
        }
        for foreign in ["a b", "=zz", "=4", "=61"] {
            assert_eq!(unescape(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn keys_are_below_the_prefix() {
        let keys = Keys::new(Path::parse("team/one").unwrap());
        assert_eq!(
            keys.lock(&stage("app/dev")).as_ref(),
            "team/one/app/locks/dev.json"
        );
        assert_eq!(
            keys.segment(&stage("app/dev"), 3, 7).as_ref(),
            "team/one/app/journal/dev/000000000003/00000007.json"
        );
        assert_eq!(stem(&keys.state(&stage("app/dev"))), Some("dev"));
    }
}
