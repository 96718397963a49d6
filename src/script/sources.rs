//! The scripts and modules of a program: their text, their parsed form and the way from a place in Rhai's view to the user's.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rhai::AST;

use crate::model::{Label, Position, SourceFile};

use super::rewrite::SourceMap;

/// One parsed script or module.
pub(super) struct Loaded {
    /// Its text under the name that the user sees.
    pub(super) file: Arc<SourceFile>,
    /// Where it lies; `None` for text that never was a file (standard modules, tests).
    pub(super) path: Option<PathBuf>,
    /// The way from columns of `ast` to columns of the file.
    pub(super) map: SourceMap,
    /// The parsed form, rewritten.
    pub(super) ast: AST,
}

impl Loaded {
    /// A place as the user sees it; `None` when Rhai does not know it.
    pub(super) fn place(&self, position: rhai::Position) -> Option<(u32, u32)> {
        let line = u32::try_from(position.line()?).ok()?;
        let column = u32::try_from(position.position().unwrap_or(1).max(1)).ok()?;
        Some((line, self.map.column(line, column)))
    }

    /// A label at a place.
    pub(super) fn label(
        &self,
        position: rhai::Position,
        text: impl Into<String>,
        primary: bool,
    ) -> Option<Label> {
        let (line, column) = self.place(position)?;
        let column = column + u32::from(self.is_property(line, column));
        Some(Label {
            source: Arc::clone(&self.file),
            line,
            column,
            length: 0,
            text: text.into(),
            primary,
        })
    }

    /// Whether the `.` in front of a property stands at a place: Rhai puts errors of properties there.
    fn is_property(&self, line: u32, column: u32) -> bool {
        let text = self.file.text.lines().nth(line as usize - 1);
        let mut behind = text.unwrap_or_default().chars().skip(column as usize - 1);
        behind.next() == Some('.')
            && behind
                .next()
                .is_some_and(|next| next.is_alphabetic() || next == '_')
    }
}

/// Everything that is loaded, by the name that the user sees.
#[derive(Default)]
pub(super) struct Sources(RwLock<BTreeMap<String, Arc<Loaded>>>);

impl Sources {
    pub(super) fn add(&self, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(loaded.file.name.clone(), Arc::clone(&loaded));
        loaded
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Loaded>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Loaded>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().cloned().collect()
    }

    /// A place in the form that crosses modules.
    pub(super) fn position(
        &self,
        source: Option<&str>,
        position: rhai::Position,
    ) -> Option<Position> {
        let loaded = self.get(source?)?;
        let (line, column) = loaded.place(position)?;
        Some(Position {
            file: loaded.file.name.as_str().into(),
            line,
            column,
        })
    }
}
