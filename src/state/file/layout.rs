//! Where the file store keeps what: DESIGN section 6, as paths.
//!
//! Names may hold almost any character, so a name that would meet a file of the layout is escaped by a leading `%`; so is
//! one that begins with `%`, which keeps the mapping one to one.

use std::path::{Path, PathBuf};

use crate::model::{AppName, Fqn, StagePath};

/// File name of every record, stage and application.
pub(crate) const STATE: &str = "state.json";
/// File name of the journal.
pub(crate) const JOURNAL: &str = "journal.wal";
/// What the name of a file ends in while it is written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Names within the root folder that are not applications.
const ROOT_NAMES: [&str; 4] = ["locks", "local", "pending", "stores"];
/// Within an application's folder, and within that of its locks: where its tests are.
pub(crate) const TESTS: &str = "test";
/// File name of the note that a repair is going on, or was cut short.
pub(crate) const REPAIR: &str = "repair.json";
/// File name of what is left of a stage that was removed.
pub(crate) const REMOVED: &str = "removed.json";
/// Folder of resources within a scope, and the folders of a stage that are no scopes.
pub(crate) const RESOURCES: &str = "resources";
pub(crate) const BACKUPS: &str = "backups";
pub(crate) const DEPLOYMENTS: &str = "deployments";
pub(crate) const LOGS: &str = "logs";
/// Names within an application's or stage's folder that are the layout's own.
const OWN_NAMES: [&str; 12] = [
    STATE,
    JOURNAL,
    REPAIR,
    REMOVED,
    "state.json.tmp",
    "journal.wal.tmp",
    "repair.json.tmp",
    "removed.json.tmp",
    RESOURCES,
    BACKUPS,
    DEPLOYMENTS,
    LOGS,
];

fn escape(name: &str, taken: &[&str]) -> String {
    if name.starts_with('%') || taken.contains(&name) {
        format!("%{name}")
    } else {
        name.to_owned()
    }
}

/// Gives back the name that a folder stands for.
pub(crate) fn unescape(folder: &str) -> &str {
    folder.strip_prefix('%').unwrap_or(folder)
}

/// The folder of an application.
pub(crate) fn app_folder(root: &Path, app: &AppName) -> PathBuf {
    root.join(escape(app.as_str(), &ROOT_NAMES))
}

/// The folder of an application's locks.
pub(crate) fn locks_folder(root: &Path, app: &AppName) -> PathBuf {
    root.join("locks").join(escape(app.as_str(), &ROOT_NAMES))
}

/// Whether a folder of the root may be an application.
pub(crate) fn may_be_app(folder: &str) -> bool {
    !ROOT_NAMES.contains(&folder)
}

/// `path` while it is being written.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY);
    path.with_file_name(name)
}

/// The paths of one stage.
#[derive(Debug, Clone)]
pub(crate) struct StageLayout {
    /// `.alchemy`
    pub(crate) root: PathBuf,
    /// `<app>`
    pub(crate) app_folder: PathBuf,
    /// The folders between that and `folder`; only those of tests are so deep.
    pub(crate) between: Vec<PathBuf>,
    /// `<app>/<stage>`, or `<app>/test/<test id>/<stage>`
    pub(crate) folder: PathBuf,
    /// `locks/<app>`, or `locks/<app>/test/<test id>`
    pub(crate) locks_folder: PathBuf,
    /// `locks/<app>/<stage>.lock`
    pub(crate) lock: PathBuf,
    /// `locks/<app>/<stage>.guard`: held for moments only, around every look at or change of the lock.
    pub(crate) guard: PathBuf,
}

impl StageLayout {
    pub(crate) fn new(root: &Path, stage: &StagePath) -> Self {
        let app_folder = app_folder(root, &stage.app);
        let mut locks_folder = locks_folder(root, &stage.app);
        let mut between = Vec::new();
        let mut parent = app_folder.clone();
        let name = match stage.stage.test_parts() {
            Some((id, of)) => {
                for part in [TESTS, &escape(id, &OWN_NAMES)] {
                    parent.push(part);
                    between.push(parent.clone());
                    locks_folder.push(part);
                }
                escape(of, &OWN_NAMES)
            }
            None if stage.stage.as_str() == TESTS => format!("%{TESTS}"),
            None => escape(stage.stage.as_str(), &OWN_NAMES),
        };
        Self {
            root: root.to_owned(),
            folder: parent.join(&name),
            between,
            lock: locks_folder.join(format!("{name}.lock")),
            guard: locks_folder.join(format!("{name}.guard")),
            app_folder,
            locks_folder,
        }
    }

    /// The folder that holds [`StageLayout::folder`].
    pub(crate) fn parent(&self) -> &Path {
        self.between.last().unwrap_or(&self.app_folder)
    }

    /// `<app>/state.json`
    pub(crate) fn app_record(&self) -> PathBuf {
        self.app_folder.join(STATE)
    }

    /// `<app>/<stage>/state.json`
    pub(crate) fn stage_record(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// `<app>/<stage>/journal.wal`
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join(JOURNAL)
    }

    /// `<app>/<stage>/repair.json`
    pub(crate) fn repair_note(&self) -> PathBuf {
        self.folder.join(REPAIR)
    }

    /// `<app>/<stage>/removed.json`
    pub(crate) fn removal(&self) -> PathBuf {
        self.folder.join(REMOVED)
    }

    /// `<app>/<stage>/backups`
    pub(crate) fn backups(&self) -> PathBuf {
        self.folder.join(BACKUPS)
    }

    /// `<app>/<stage>/deployments`
    pub(crate) fn deployments(&self) -> PathBuf {
        self.folder.join(DEPLOYMENTS)
    }

    /// `<app>/<stage>/logs`
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join(LOGS)
    }

    /// `<app>/<stage>/logs/<deployment id>.ndjson`
    pub(crate) fn log(&self, deployment: &str) -> PathBuf {
        self.logs().join(format!("{deployment}.ndjson"))
    }

    /// `<app>/<stage>/<scope>/..`: where the resources and nested scopes of a resource's scope are.
    pub(crate) fn scope_folder(&self, fqn: &Fqn) -> PathBuf {
        let mut folder = self.folder.clone();
        let within = fqn.within_stage();
        if let Some((scopes, _)) = within.rsplit_once('/') {
            for scope in scopes.split('/') {
                folder.push(escape(scope, &OWN_NAMES));
            }
        }
        folder
    }

    /// `<scope>/resources/<id>`
    pub(crate) fn resource_folder(&self, fqn: &Fqn) -> PathBuf {
        let mut folder = self.scope_folder(fqn);
        folder.push(RESOURCES);
        folder.push(fqn.id());
        folder
    }

    /// `<scope>/resources/<id>/state.json`
    pub(crate) fn resource_record(&self, fqn: &Fqn) -> PathBuf {
        self.resource_folder(fqn).join(STATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StageName;

    fn layout(app: &str, stage: &str) -> StageLayout {
        let stage = StagePath::new(AppName::new(app).unwrap(), StageName::new(stage).unwrap());
        StageLayout::new(Path::new(".alchemy"), &stage)
    }

    #[test]
    fn paths_are_those_of_the_design() {
        let layout = layout("my-app", "prod");
        let path = |path: PathBuf| path.display().to_string().replace('\\', "/");
        assert_eq!(path(layout.app_record()), ".alchemy/my-app/state.json");
        assert_eq!(path(layout.journal()), ".alchemy/my-app/prod/journal.wal");
        assert_eq!(
            path(layout.resource_record(&Fqn::parse("my-app/prod/database/main-db").unwrap())),
            ".alchemy/my-app/prod/database/resources/main-db/state.json"
        );
        assert_eq!(
            path(layout.resource_record(&Fqn::parse("my-app/prod/x").unwrap())),
            ".alchemy/my-app/prod/resources/x/state.json"
        );
        assert_eq!(path(layout.lock), ".alchemy/locks/my-app/prod.lock");
    }

    #[test]
    fn tests_have_folders_and_locks_that_no_stage_has() {
        let id = crate::model::ResourceId::new("smoke").unwrap();
        let test = StageName::test(&id, &StageName::new("dev").unwrap()).unwrap();
        let stage = StagePath::new(AppName::new("my-app").unwrap(), test);
        let test = StageLayout::new(Path::new(".alchemy"), &stage);
        assert!(test.folder.ends_with(".alchemy/my-app/test/smoke/dev"));
        assert!(test.lock.ends_with("locks/my-app/test/smoke/dev.lock"));
        let stage = layout("my-app", "test");
        assert!(stage.folder.ends_with("my-app/%test"));
        assert!(stage.lock.ends_with("locks/my-app/%test.lock"));
        assert_eq!(unescape("%test"), "test");
    }

    #[test]
    fn names_never_meet_files_of_the_layout() {
        assert!(layout("locks", "dev").folder.ends_with("%locks/dev"));
        assert!(layout("a", "state.json").folder.ends_with("a/%state.json"));
        assert!(
            layout("a", "%state.json")
                .folder
                .ends_with("a/%%state.json")
        );
        assert_eq!(unescape("%%state.json"), "%state.json");
        let fqn = Fqn::parse("a/dev/journal.wal/state.json").unwrap();
        assert!(
            layout("a", "dev")
                .resource_record(&fqn)
                .ends_with("dev/%journal.wal/resources/state.json/state.json")
        );
    }
}
